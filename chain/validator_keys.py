"""A validator's three keys, all derived from one secret: for transactions, for votes and for connections."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from chain.primitives import bls
from chain.primitives.hashing import blake2_256
from chain.primitives.keys import Keypair, Scheme, Secret

# The key of the current set, that of the next one and the newest, and one more for who changes it in a hurry.
PAST_KEYS: Final = 4


@dataclass(frozen=True, slots=True)
class ValidatorKeys:
    """`account` signs attestations, `bls_secret` votes, `node` proves who a peer is.

    `bls_past` are the keys that voted before, the last one first: a set may name one until the next is elected. `first`
    is the public key of the very first, by which a vote log knows the validator for good.
    """

    account: Keypair
    bls_secret: bytes = field(repr=False)
    node: Keypair
    bls_past: tuple[bytes, ...] = field(repr=False)
    first: bytes

    @property
    def bls_secrets(self) -> tuple[bytes, ...]:
        """All keys that a set may name, the newest first."""
        return (self.bls_secret, *self.bls_past)

    @classmethod
    def of(cls, secret: Secret) -> ValidatorKeys:
        """Those of a secret; KeyUriError where it has no ed25519 account."""
        return cls.from_uri(secret.uri, secret.session)

    @classmethod
    def from_uri(cls, uri: str, session: int = 0) -> ValidatorKeys:
        """From a secret phrase, a hex seed or a derivation path such as //Alice.

        `session` says how often the key that votes was changed: whoever has the phrase and that number has them all.
        """
        account = Keypair.from_uri(uri, Scheme.ED25519)
        secrets = [_bls_secret(account, number) for number in range(session, max(-1, session - PAST_KEYS), -1)]
        return cls(
            account=account,
            bls_secret=secrets[0],
            bls_past=tuple(secrets[1:]),
            first=bls.public_key(_bls_secret(account, 0)),
            node=Keypair.from_seed(blake2_256(b"potchain validator node" + account.secret_seed), Scheme.ED25519),
        )


def _bls_secret(account: Keypair, session: int) -> bytes:
    number = b"" if session == 0 else session.to_bytes(4, "little")
    return bls.keygen(blake2_256(b"potchain validator bls" + account.secret_seed + number))
