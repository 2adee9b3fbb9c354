"""A validator's three keys, all derived from one secret: for transactions, for votes and for connections."""

from __future__ import annotations

from dataclasses import dataclass, field

from chain.primitives import bls
from chain.primitives.hashing import blake2_256
from chain.primitives.keys import Keypair, Scheme, Secret


@dataclass(frozen=True, slots=True)
class ValidatorKeys:
    """`account` signs attestations, `bls_secret` votes, `node` proves who a peer is."""

    account: Keypair
    bls_secret: bytes = field(repr=False)
    node: Keypair

    @classmethod
    def of(cls, secret: Secret) -> ValidatorKeys:
        """Those of a secret; KeyUriError where it has no ed25519 account."""
        return cls.from_uri(secret.uri)

    @classmethod
    def from_uri(cls, uri: str) -> ValidatorKeys:
        """From a secret phrase, a hex seed or a derivation path such as //Alice."""
        account = Keypair.from_uri(uri, Scheme.ED25519)
        return cls(
            account=account,
            bls_secret=bls.keygen(blake2_256(b"potchain validator bls" + account.secret_seed)),
            node=Keypair.from_seed(blake2_256(b"potchain validator node" + account.secret_seed), Scheme.ED25519),
        )
