"""Ed25519 by PyNaCl alone: other libraries accept keys and signatures that it refuses, which would fork the chain."""

from __future__ import annotations

from hashlib import blake2b

from nacl.bindings import crypto_sign, crypto_sign_BYTES, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import CryptoError

PUBLIC_BYTES = 32
SEED_BYTES = 32
SIGNATURE_BYTES: int = crypto_sign_BYTES


def public_key(seed: bytes) -> bytes:
    """The public key of a 32-byte seed."""
    if len(seed) != SEED_BYTES:
        raise ValueError(f"an ed25519 seed has {SEED_BYTES} bytes, got {len(seed)}")
    public, _ = crypto_sign_seed_keypair(seed)
    return bytes(public)


def sign(seed: bytes, message: bytes) -> bytes:
    """The 64-byte signature of `message`."""
    _, secret = crypto_sign_seed_keypair(seed)
    return bytes(crypto_sign(message, secret)[:SIGNATURE_BYTES])


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the signature holds; False for anything malformed, never an exception."""
    if len(public) != PUBLIC_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        crypto_sign_open(signature + message, public)
    except (CryptoError, ValueError, TypeError):
        return False
    return True


def hard_derive(seed: bytes, chain_code: bytes) -> bytes:
    """The child seed behind a hard junction (`sp_core::ed25519`'s Ed25519HDKD)."""
    return blake2b(b"\x2cEd25519HDKD" + seed + chain_code, digest_size=32).digest()
