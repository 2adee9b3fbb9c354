"""Sr25519 (Schnorr over Ristretto) in Substrate's signing context; signatures are randomised, verification is not."""

from __future__ import annotations

import sr25519

PUBLIC_BYTES = 32
SEED_BYTES = 32
SECRET_BYTES = 64
SIGNATURE_BYTES = 64

Pair = tuple[bytes, bytes]  # the public key (32 bytes) and the secret (64 bytes)


def pair_from_seed(seed: bytes) -> Pair:
    """The key pair of a 32-byte mini-secret."""
    if len(seed) != SEED_BYTES:
        raise ValueError(f"an sr25519 seed has {SEED_BYTES} bytes, got {len(seed)}")
    public, secret = sr25519.pair_from_seed(seed)
    return bytes(public), bytes(secret)


def sign(pair: Pair, message: bytes) -> bytes:
    """A 64-byte signature of `message`."""
    return bytes(sr25519.sign(pair, message))


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the signature holds; False for anything malformed, never an exception."""
    if len(public) != PUBLIC_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        return bool(sr25519.verify(signature, message, public))
    except (ValueError, TypeError):
        return False


def hard_derive(pair: Pair, chain_code: bytes) -> Pair:
    """The child pair behind a hard junction."""
    _, public, secret = sr25519.hard_derive_keypair((chain_code, *pair), b"")
    return bytes(public), bytes(secret)


def soft_derive(pair: Pair, chain_code: bytes) -> Pair:
    """The child pair behind a soft junction, whose public key follows from the parent's. Its nonce is random."""
    _, public, secret = sr25519.derive_keypair((chain_code, *pair), b"")
    return bytes(public), bytes(secret)


def pair_from_secret(secret: bytes) -> Pair:
    """The key pair of a 64-byte secret; ValueError if it is none."""
    return bytes(sr25519.public_from_secret_key(secret)), secret


def to_ed25519_notation(secret: bytes) -> bytes:
    """A 64-byte secret with its scalar multiplied by the cofactor, as wallets keep it."""
    return bytes(sr25519.convert_secret_key_to_ed25519(secret))


def from_ed25519_notation(secret: bytes) -> bytes:
    """The 64-byte secret of what `to_ed25519_notation` makes; ValueError if it is none."""
    return bytes(sr25519.pair_from_ed25519_secret_key(secret)[1])
