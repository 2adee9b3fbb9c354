"""Hashes and storage prefixes, byte for byte as Substrate makes them.

BLAKE2b is for everything that must resist an attacker; xxHash only for names and keys that nobody can choose.
"""

from __future__ import annotations

from functools import cache
from hashlib import blake2b

import xxhash

Hash = bytes  # 32 bytes


def blake2_256(data: bytes) -> Hash:
    """BLAKE2b with 32 bytes: block hashes, roots, commitments."""
    return blake2b(data, digest_size=32).digest()


def blake2_128(data: bytes) -> bytes:
    """BLAKE2b with 16 bytes."""
    return blake2b(data, digest_size=16).digest()


def blake2_128_concat(data: bytes) -> bytes:
    """16 bytes of BLAKE2b, then the key itself, so that a map can be iterated."""
    return blake2b(data, digest_size=16).digest() + data


def twox_64(data: bytes) -> bytes:
    """xxHash64 with seed 0, little-endian."""
    return xxhash.xxh64_intdigest(data, 0).to_bytes(8, "little")


def twox_128(data: bytes) -> bytes:
    """xxHash64 with seeds 0 and 1, little-endian."""
    return twox_64(data) + xxhash.xxh64_intdigest(data, 1).to_bytes(8, "little")


def twox_64_concat(data: bytes) -> bytes:
    """8 bytes of xxHash, then the key itself."""
    return twox_64(data) + data


@cache  # one entry for each storage item that the runtime declares
def storage_prefix(module: str, item: str) -> bytes:
    """The 32 bytes that every key of a storage item begins with."""
    return twox_128(module.encode()) + twox_128(item.encode())
