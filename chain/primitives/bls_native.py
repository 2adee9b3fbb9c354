"""The fast BLS backend, over arkworks: every point is decoded canonically and checked to lie in its subgroup.

arkworks reads some encodings leniently (any bytes whose infinity flag is set become infinity), so a point counts only
if it encodes back to the bytes that it was read from.
"""

import secrets
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from py_arkworks_bls12381 import GT, G1Point, G2Point, Scalar

_SIGNATURE_TAG: Final = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_"
_POSSESSION_TAG: Final = b"BLS_POP_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_"
_MINUS_GENERATOR: Final = -G1Point()
_INFINITY: Final = G1Point.identity()
# What forged claims would have to guess to cancel out.
_POWER_BITS: Final = 128

# Decoding a key costs 0.1 ms (square root and subgroup check) and validators vote with the same ones every block; 4096
# keys of under 1 kB are many times the largest validator set, so strangers' keys do not push the set's out.
_PARSED_KEYS_MAX: Final = 4096
# Hashing to the curve is a quarter of a verification. Whoever votes also verifies what others signed over the same
# bytes: the two phases of a height, the seal of the last one, and some views' worth of either, at 1 kB each.
_HASHED_MAX: Final = 64


def _scalar(secret_key: bytes) -> Scalar:
    if len(secret_key) != 32:
        raise ValueError(f"expected a secret key of 32 bytes, got {len(secret_key)}")
    try:
        scalar = Scalar.from_be_bytes(bytes(secret_key))
    except ValueError:
        raise ValueError("expected a secret key below the group order r, got a larger number") from None
    if scalar.is_zero():
        raise ValueError("expected a secret key above zero, got zero")
    return scalar


@lru_cache(maxsize=_PARSED_KEYS_MAX)
def _key_point(public_key: bytes) -> G1Point:
    point = G1Point.from_compressed_bytes(public_key)
    if point == _INFINITY or bytes(point.to_compressed_bytes()) != public_key:
        raise ValueError("expected the canonical encoding of a key other than infinity")
    return point


@lru_cache(maxsize=_HASHED_MAX)
def _hashed(message: bytes, tag: bytes) -> G2Point:
    return G2Point.hash_to_curve(message, tag)


def _signature_point(signature: bytes) -> G2Point:
    if len(signature) != 96:
        raise ValueError(f"expected a signature of 96 bytes, got {len(signature)}")
    try:
        point = G2Point.from_compressed_bytes(bytes(signature))
    except ValueError:
        raise ValueError(f"expected a signature in the G2 subgroup, got {signature.hex()}") from None
    if bytes(point.to_compressed_bytes()) != signature:
        raise ValueError(f"expected a canonically encoded signature, got {signature.hex()}")
    return point


def _sign(secret_key: bytes, message: bytes, tag: bytes) -> bytes:
    scalar = _scalar(secret_key)
    return bytes((_hashed(bytes(message), tag) * scalar).to_compressed_bytes())


def _verify(key: G1Point, message: bytes, signature: bytes, tag: bytes) -> bool:
    point = _signature_point(signature)
    return GT.pairing_check([key, _MINUS_GENERATOR], [_hashed(bytes(message), tag), point])


def public_key(secret_key: bytes) -> bytes:
    return bytes((G1Point() * _scalar(secret_key)).to_compressed_bytes())


def sign(secret_key: bytes, message: bytes) -> bytes:
    return _sign(secret_key, message, _SIGNATURE_TAG)


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        return _verify(_key_point(bytes(public_key)), message, signature, _SIGNATURE_TAG)
    except ValueError:
        return False


def aggregate(signatures: Sequence[bytes]) -> bytes:
    if not signatures:
        raise ValueError("expected at least one signature to aggregate, got none")
    total = _signature_point(signatures[0])
    for signature in signatures[1:]:
        total = total + _signature_point(signature)
    return bytes(total.to_compressed_bytes())


def fast_aggregate_verify(public_keys: Sequence[bytes], message: bytes, signature: bytes) -> bool:
    try:
        return _verify(_sum_of_keys(public_keys), message, signature, _SIGNATURE_TAG)
    except ValueError:
        return False


def verify_all(claims: Sequence[tuple[tuple[bytes, ...], bytes, bytes]]) -> bool:
    """One product of pairings for all, each claim to a random power: a false one shows, whatever the others are.

    Claims of the same keys share a pairing, and those of the same message the hash of it to the curve.
    (M. Bellare, J. Garay and T. Rabin, *Fast batch verification*, 1998.)
    """
    groups: dict[tuple[bytes, ...], tuple[list[G2Point], list[Scalar]]] = {}
    hashed: dict[bytes, G2Point] = {}
    signatures: list[G2Point] = []
    powers: list[Scalar] = []
    try:
        for keys, message, signature in claims:
            # Never zero, which would leave the claim out.
            power = Scalar.from_be_bytes((secrets.randbits(_POWER_BITS) | 1 << _POWER_BITS).to_bytes(32, "big"))
            points, its_powers = groups.setdefault(keys, ([], []))
            if message not in hashed:
                hashed[message] = G2Point.hash_to_curve(message, _SIGNATURE_TAG)
            points.append(hashed[message])
            its_powers.append(power)
            signatures.append(_signature_point(signature))
            powers.append(power)
        if not signatures:
            return True
        left = [_sum_of_keys(keys) for keys in groups]
        right = [G2Point.multiexp_unchecked(points, its_powers) for points, its_powers in groups.values()]
    except ValueError:
        return False
    total = G2Point.multiexp_unchecked(signatures, powers)
    return GT.pairing_check([*left, _MINUS_GENERATOR], [*right, total])


def _sum_of_keys(public_keys: Sequence[bytes]) -> G1Point:
    """ValueError where there is none that could have signed: keys that cancel out would sign anything with infinity."""
    if not public_keys:
        raise ValueError("expected at least one key, got none")
    total = _key_point(bytes(public_keys[0]))
    for key in public_keys[1:]:
        total = total + _key_point(bytes(key))
    if total == _INFINITY:
        raise ValueError("expected keys that do not cancel out")
    return total


def prove_possession(secret_key: bytes, account: bytes) -> bytes:
    return _sign(secret_key, public_key(secret_key) + account, _POSSESSION_TAG)


def verify_possession(public_key: bytes, account: bytes, proof: bytes) -> bool:
    try:
        return _verify(_key_point(bytes(public_key)), bytes(public_key) + account, proof, _POSSESSION_TAG)
    except ValueError:
        return False
