"""Signatures that cost a microsecond and bind as BLS does, for simulations that ask for no real ones.

A signature is a keyed hash of exactly the bytes that were signed, and an aggregate their sum: whatever is left out of
the signed bytes can be swapped here as it could be there. Whoever knows a public key can sign for it, so the liars of a
simulation sign with their own keys only, as they would have to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Final

from chain.primitives import bls, seal

_MODULUS: Final = 1 << 8 * bls.SIGNATURE_BYTES
_NAMES: Final = (
    *("public_key", "sign", "verify", "aggregate", "fast_aggregate_verify", "verify_all"),
    *("prove_possession", "verify_possession"),
)


def public_key(secret_key: bytes) -> bytes:
    return blake2b(secret_key, digest_size=bls.PUBLIC_KEY_BYTES, person=b"stub key").digest()


def sign(secret_key: bytes, message: bytes) -> bytes:
    return _signature(public_key(secret_key), message)


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    return signature == _signature(public_key, message)


def aggregate(signatures: Sequence[bytes]) -> bytes:
    if not signatures or any(len(signature) != bls.SIGNATURE_BYTES for signature in signatures):
        raise ValueError("expected at least one signature, each of 96 bytes")
    return _sum(signatures)


def fast_aggregate_verify(public_keys: Sequence[bytes], message: bytes, signature: bytes) -> bool:
    return bool(public_keys) and signature == _sum([_signature(key, message) for key in public_keys])


def verify_all(claims: Sequence[bls.Claim]) -> bool:
    return all(fast_aggregate_verify(*claim) for claim in claims)


def prove_possession(secret_key: bytes, account: bytes) -> bytes:
    return sign(secret_key, b"possession by " + account)


def verify_possession(public_key: bytes, account: bytes, proof: bytes) -> bool:
    return verify(public_key, b"possession by " + account, proof)


def _signature(public_key: bytes, message: bytes) -> bytes:
    return blake2b(message, key=public_key, person=b"stub signature").digest().ljust(bls.SIGNATURE_BYTES, b"\0")


def _sum(signatures: Sequence[bytes]) -> bytes:
    total = sum(int.from_bytes(signature) for signature in signatures) % _MODULUS
    return total.to_bytes(bls.SIGNATURE_BYTES)


@contextmanager
def stub_signatures() -> Iterator[None]:
    """Have everything in this process sign and verify so. For simulations: no node runs beside one."""
    real = {name: getattr(bls, name) for name in _NAMES}
    for name in _NAMES:
        setattr(bls, name, globals()[name])
    seal.verify_seal.cache_clear()
    try:
        yield
    finally:
        for name, function in real.items():
            setattr(bls, name, function)
        seal.verify_seal.cache_clear()
