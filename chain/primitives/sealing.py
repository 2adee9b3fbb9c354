"""A secret under a password: Argon2id makes the key, XChaCha20-Poly1305 seals, and a header is sealed in with it.

Deriving a key takes a good part of a second and much memory, on purpose: nothing that others wait for may do it.
"""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from typing import Final

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id

SALT_BYTES: Final = 16
NONCE_BYTES: Final = 24
TAG_BYTES: Final = 16
_KEY_BYTES: Final = 32

MEMORY_BYTES_MIN: Final = 8 * 1024  # libsodium's own
# The dearest that a file may ask for: 10 s of one core, and memory that a machine which trains models has.
MEMORY_BYTES_MAX: Final = 1 << 30
PASSES_MAX: Final = 10


class SealError(ValueError):
    """The seal does not open: another password, or bytes that were changed."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one guess at a password costs: how often Argon2id passes over how much memory."""

    passes: int
    memory_bytes: int

    def __post_init__(self) -> None:
        if not 1 <= self.passes <= PASSES_MAX:
            raise ValueError(f"expected 1 to {PASSES_MAX} passes, got {self.passes}")
        if not MEMORY_BYTES_MIN <= self.memory_bytes <= MEMORY_BYTES_MAX:
            raise ValueError(
                f"expected {MEMORY_BYTES_MIN:,} to {MEMORY_BYTES_MAX:,} bytes of memory, got {self.memory_bytes:,}"
            )


# libsodium's "moderate": half a second of one core, once a start of a process, and 256 MiB that a guessing machine
# needs for each guess at a time. Its "sensitive" takes 1 GiB, which a node on a small machine would not survive.
MODERATE: Final = Cost(3, 256 << 20)


@dataclass(frozen=True, slots=True)
class Lock:
    """How the key is made of a password, and the nonce that it was used with."""

    cost: Cost
    salt: bytes
    nonce: bytes

    @classmethod
    def fresh(cls, cost: Cost) -> Lock:
        """A lock that was never used."""
        return cls(cost, os.urandom(SALT_BYTES), os.urandom(NONCE_BYTES))


def seal(lock: Lock, password: str, header: bytes, secret: bytes) -> bytes:
    """`secret` encrypted and bound to `header`; `lock` must be fresh."""
    return bytes(crypto_aead_xchacha20poly1305_ietf_encrypt(secret, header, lock.nonce, _key(lock, password)))


def unseal(lock: Lock, password: str, header: bytes, sealed: bytes) -> bytes:
    """What was sealed; SealError for another password or where a byte of it, or of the header, is another."""
    try:
        return bytes(crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, header, lock.nonce, _key(lock, password)))
    except CryptoError:
        raise SealError("wrong password") from None


def _key(lock: Lock, password: str) -> bytes:
    # One spelling of each letter, whatever keyboard or system it was typed with.
    words = unicodedata.normalize("NFC", password).encode()
    try:
        return argon2id.kdf(_KEY_BYTES, words, lock.salt, lock.cost.passes, lock.cost.memory_bytes)
    except CryptoError:
        raise MemoryError(f"no {lock.cost.memory_bytes >> 20} MiB of memory for Argon2id") from None
