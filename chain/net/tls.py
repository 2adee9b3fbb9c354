"""TLS 1.3 in which both sides prove the ed25519 key that is their node's identity.

The standard library verifies certificates against an authority only. So there is one authority whose private key is
public, derived from a constant: it vouches for nothing. What counts is that TLS 1.3 makes each side sign the handshake
with the key in its certificate, and that key is the identity. The rule: a private key is never on disk in the clear.
"""

from __future__ import annotations

import datetime
import hashlib
import secrets
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import NameOID

from chain.net.errors import PeerError

_AUTHORITY_KEY = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"potchain public authority v1").digest())
_AUTHORITY_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "potchain public authority")])
# Certificates carry no trust, so they need no expiry either; clocks of nodes may be wrong by decades.
_NOT_BEFORE = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
_NOT_AFTER = datetime.datetime(2200, 1, 1, tzinfo=datetime.UTC)


def _authority_certificate() -> x509.Certificate:
    return (
        x509.CertificateBuilder()
        .subject_name(_AUTHORITY_NAME)
        .issuer_name(_AUTHORITY_NAME)
        .public_key(_AUTHORITY_KEY.public_key())
        .serial_number(1)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(_AUTHORITY_KEY.public_key()), critical=False)
        .sign(_AUTHORITY_KEY, None)
    )


def _leaf_certificate(key: Ed25519PrivateKey) -> x509.Certificate:
    public = key.public_key()
    identity = public.public_bytes_raw()
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity.hex())]))
        .issuer_name(_AUTHORITY_NAME)
        .public_key(public)
        .serial_number(int.from_bytes(hashlib.blake2b(identity, digest_size=16).digest(), "big") | 1)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(_AUTHORITY_KEY.public_key()),
            critical=False,
        )
        .sign(_AUTHORITY_KEY, None)
    )


def _load_identity(context: ssl.SSLContext, seed: bytes) -> None:
    """Give the context our certificate. OpenSSL reads keys from files only, so what it reads is encrypted with a
    password that never leaves this function, in a folder of mode 0700 that is gone when it returns."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    password = secrets.token_hex(32).encode()
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password),
    ) + _leaf_certificate(key).public_bytes(serialization.Encoding.PEM)
    with tempfile.TemporaryDirectory(prefix="potchain-") as folder:
        path = Path(folder) / "identity.pem"
        path.touch(mode=0o600)
        path.write_bytes(pem)
        context.load_cert_chain(path, password=password)


def make_context(seed: bytes, *, server_side: bool) -> ssl.SSLContext:
    """The context of one side; `seed` is the 32-byte secret seed of the node's ed25519 key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(
        cadata=_authority_certificate().public_bytes(serialization.Encoding.PEM).decode("ascii")
    )
    _load_identity(context, seed)
    if server_side:
        # A resumed session would not prove the key again.
        context.num_tickets = 0
    return context


def identity_of(certificate: bytes | None) -> bytes:
    """The ed25519 public key of the peer's certificate (DER); `PeerError` when it has another kind of key."""
    if certificate is None:
        raise PeerError("the peer showed no certificate")
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise PeerError("the peer's certificate cannot be read") from error
    if not isinstance(key, Ed25519PublicKey):
        raise PeerError("the peer's certificate does not hold an ed25519 key")
    return key.public_bytes_raw()
