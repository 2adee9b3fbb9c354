"""BLS12-381 signatures for votes, seals and the beacon, bytes in and bytes out; both backends agree on every input.

The scheme is `BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_` (IETF draft-irtf-cfrg-bls-signature): public keys are
48 bytes in G1, signatures 96 bytes in G2. Verifying never raises: whatever is not a canonical encoding of a point of
the right subgroup is simply not valid. Aggregating is safe only over keys whose possession was proven.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final, Protocol

SECRET_KEY_BYTES: Final = 32
PUBLIC_KEY_BYTES: Final = 48
SIGNATURE_BYTES: Final = 96
SUBGROUP_ORDER: Final = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001


# Keys, a message, and what may be the aggregate of each key's signature over it.
Claim = tuple[tuple[bytes, ...], bytes, bytes]

# What was found genuine together is asked for one by one soon after: by who executes the blocks that hold it. Three
# signatures for each of the thousand blocks that sync is ahead by, some 400 bytes each.
REMEMBERED_MAX: Final = 4096


class Backend(Protocol):
    """What a BLS implementation provides; `bls_native` and `bls_reference` are the two."""

    def public_key(self, secret_key: bytes) -> bytes:
        """Return the 48-byte public key of a 32-byte big-endian secret in [1, r); ValueError outside it."""

    def sign(self, secret_key: bytes, message: bytes) -> bytes:
        """Return the 96-byte signature, unique for this key and message; ValueError for a secret outside [1, r)."""

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Say whether the signature is the key's over the message."""

    def aggregate(self, signatures: Sequence[bytes]) -> bytes:
        """Return the sum of signatures; ValueError when there are none or one is not a point of the subgroup."""

    def fast_aggregate_verify(self, public_keys: Sequence[bytes], message: bytes, signature: bytes) -> bool:
        """Say whether the signature is the aggregate of every key's over one message. No keys: False."""

    def verify_all(self, claims: Sequence[Claim]) -> bool:
        """Say whether every claim holds as `fast_aggregate_verify` has it, but for one chance in 2^128. None: True."""

    def prove_possession(self, secret_key: bytes, account: bytes) -> bytes:
        """Return the proof that the secret's holder wants its key to be this account's (32 bytes).

        It signs key ‖ account under the ciphersuite's tag for proofs, where the draft's PopProve (section 3.3.2) signs
        the key alone. What the draft wants of a proof still holds: the tag is for nothing else, and the key is in what
        is signed. The account is there because proofs are public, and one over the key alone is everybody's to use.
        """

    def verify_possession(self, public_key: bytes, account: bytes, proof: bytes) -> bool:
        """Say whether the proof shows that the key's holder knows its secret and wants it to be this account's."""


def _choose() -> Backend:
    try:
        from chain.primitives import bls_native
    except ImportError:  # No wheel for this platform: the reference is 150 times slower and just as right.
        from chain.primitives import bls_reference

        return bls_reference
    return bls_native


backend: Final = _choose()
public_key: Final = backend.public_key
sign: Final = backend.sign
aggregate: Final = backend.aggregate
prove_possession: Final = backend.prove_possession
verify_possession: Final = backend.verify_possession


_genuine: dict[Claim, None] = {}  # In the order in which they were found so.


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Say whether the signature is the key's over the message."""
    return ((public_key,), message, signature) in _genuine or backend.verify(public_key, message, signature)


def fast_aggregate_verify(public_keys: Sequence[bytes], message: bytes, signature: bytes) -> bool:
    """Say whether the signature is the aggregate of every key's over one message. No keys: False."""
    claim = (tuple(public_keys), message, signature)
    return claim in _genuine or backend.fast_aggregate_verify(public_keys, message, signature)


def verify_all(claims: Sequence[Claim]) -> bool:
    """Say whether every claim holds, for a third of what they cost one by one; what holds is remembered for a while."""
    if not backend.verify_all(claims):
        return False
    for claim in claims:
        _genuine[claim] = None
    # A claim that another thread takes away meanwhile is one that is as old.
    for claim in list(_genuine)[: max(0, len(_genuine) - REMEMBERED_MAX)]:
        _genuine.pop(claim, None)
    return True


def keygen(key_material: bytes) -> bytes:
    """Derive a 32-byte secret key from at least 32 bytes of secret material (IETF draft 5, section 2.3, KeyGen)."""
    if len(key_material) < 32:
        raise ValueError(f"expected at least 32 bytes of key material, got {len(key_material)}")
    length = 48  # ceil((3 * ceil(log2(r))) / 16): wide enough that reducing modulo r shows no bias.
    salt = b"BLS-SIG-KEYGEN-SALT-"
    while True:
        salt = hashlib.sha256(salt).digest()
        pseudo_random_key = hmac.digest(salt, key_material + b"\x00", "sha256")
        output, block = b"", b""
        counter = 0
        while len(output) < length:
            counter += 1
            block = hmac.digest(
                pseudo_random_key, block + length.to_bytes(2, "big") + counter.to_bytes(1, "big"), "sha256"
            )
            output += block
        secret = int.from_bytes(output[:length], "big") % SUBGROUP_ORDER
        if secret != 0:
            return secret.to_bytes(SECRET_KEY_BYTES, "big")
