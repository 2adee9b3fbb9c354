"""The reference BLS backend, over py_ecc: slow, plain, and what the native backend is checked against.

It also runs a node where no native wheel exists, so it holds the same rules: canonical points of the right subgroup,
no infinite keys, secrets in [1, r).
"""

import sys
from collections.abc import Sequence
from typing import Any, Final

# Importing py_ecc raises the interpreter's recursion limit to 100,000, at which deeply nested input to any parser of
# the process (json's, say) overflows the C stack: a crash from outside. It works within the usual limit.
_recursion_limit: Final = sys.getrecursionlimit()

from py_ecc.bls import g2_primitives  # noqa: E402
from py_ecc.bls.ciphersuites import G2ProofOfPossession  # noqa: E402
from py_ecc.optimized_bls12_381.optimized_curve import curve_order  # noqa: E402

sys.setrecursionlimit(_recursion_limit)

# py_ecc's newtypes for keys and signatures come from yet another package; bytes are what they are.
_suite: Final[Any] = G2ProofOfPossession
_points: Final[Any] = g2_primitives


def _secret(secret_key: bytes) -> int:
    if len(secret_key) != 32:
        raise ValueError(f"expected a secret key of 32 bytes, got {len(secret_key)}")
    number = int.from_bytes(secret_key, "big")
    if number == 0:
        raise ValueError("expected a secret key above zero, got zero")
    if number >= curve_order:
        raise ValueError("expected a secret key below the group order r, got a larger number")
    return number


def _check_signature(signature: bytes) -> None:
    if len(signature) != 96:
        raise ValueError(f"expected a signature of 96 bytes, got {len(signature)}")
    try:
        in_subgroup = _points.subgroup_check(_points.signature_to_G2(bytes(signature)))
    except ValueError as error:
        raise ValueError(f"expected a canonically encoded signature, got {signature.hex()} ({error})") from None
    if not in_subgroup:
        raise ValueError(f"expected a signature in the G2 subgroup, got {signature.hex()}")


def public_key(secret_key: bytes) -> bytes:
    return bytes(_suite.SkToPk(_secret(secret_key)))


def sign(secret_key: bytes, message: bytes) -> bytes:
    return bytes(_suite.Sign(_secret(secret_key), message))


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    return bool(_suite.Verify(bytes(public_key), message, bytes(signature)))


def aggregate(signatures: Sequence[bytes]) -> bytes:
    if not signatures:
        raise ValueError("expected at least one signature to aggregate, got none")
    for signature in signatures:
        _check_signature(signature)
    return bytes(_suite.Aggregate([bytes(signature) for signature in signatures]))


def fast_aggregate_verify(public_keys: Sequence[bytes], message: bytes, signature: bytes) -> bool:
    if not public_keys:
        return False
    return bool(_suite.FastAggregateVerify([bytes(key) for key in public_keys], message, bytes(signature)))


def verify_all(claims: Sequence[tuple[tuple[bytes, ...], bytes, bytes]]) -> bool:
    return all(fast_aggregate_verify(*claim) for claim in claims)


def prove_possession(secret_key: bytes, account: bytes) -> bytes:
    return bytes(_suite._CoreSign(_secret(secret_key), public_key(secret_key) + account, _suite.POP_TAG))


def verify_possession(public_key: bytes, account: bytes, proof: bytes) -> bool:
    key = bytes(public_key)
    return bool(_suite._CoreVerify(key, key + account, bytes(proof), _suite.POP_TAG))
