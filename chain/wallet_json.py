"""The file in which polkadot-js wallets keep and export one account: version 3, scrypt and XSalsa20-Poly1305.

Read by the same bounds as @polkadot/keyring has: a cost that is none of its own is refused before anything is computed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from nacl.bindings import crypto_secretbox, crypto_secretbox_open
from nacl.exceptions import CryptoError

from chain.keystore import KeyFileError, WrongPassword
from chain.primitives import ss58
from chain.primitives.keys import SEED_BYTES, Keypair, KeyUriError, Scheme, Secret, wallet_uri

EXPORT_BYTES_MAX: Final = 16 * 1024  # one account has under 1,000; what a wallet notes beside it is anybody's
VERSION: Final = "3"
SEALED: Final = ["scrypt", "xsalsa20-poly1305"]

# What a private key and a public key have before, between and behind them, in the wallets' notion of PKCS #8.
_HEAD: Final = bytes.fromhex("3053020101300506032b657004220420")
_DIVIDER: Final = bytes.fromhex("a123032100")
_SECRET_BYTES: Final = 64
_PUBLIC_BYTES: Final = 32
_SALT_BYTES: Final = 32
_NONCE_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class _Scrypt:
    """What scrypt costs: n blocks of 128 r bytes, p times."""

    n: int
    p: int
    r: int

    def key(self, password: str, salt: bytes) -> bytes:
        memory_bytes = 128 * self.n * self.r + 128 * self.r * self.p + (1 << 20)
        # The wallets take the first half of 64 bytes, which is what scrypt makes of 32.
        return hashlib.scrypt(password.encode(), salt=salt, n=self.n, r=self.r, p=self.p, maxmem=memory_bytes, dklen=32)


# The costs that @polkadot/util-crypto takes; it writes the last one, of 128 MiB and a third of a second.
_COSTS: Final = (
    _Scrypt(1 << 13, 10, 8),
    _Scrypt(1 << 14, 5, 8),
    _Scrypt(1 << 15, 3, 8),
    _Scrypt(1 << 15, 1, 8),
    _Scrypt(1 << 16, 2, 8),
    _Scrypt(1 << 17, 1, 8),
)


@dataclass(frozen=True, slots=True)
class WalletExport:
    """One account of a wallet, sealed or not."""

    scheme: Scheme
    public: bytes
    is_sealed: bool
    encoded: bytes

    @classmethod
    def decode(cls, data: bytes) -> WalletExport:
        """What a file says; KeyFileError for anything but one account in version 3."""
        try:
            fields = json.loads(data)
            if isinstance(fields, dict) and "accounts" in fields:
                raise KeyFileError("it has several accounts; export each from the wallet by itself")
            encoding = fields["encoding"]
            content, version, sealing = encoding["content"], encoding["version"], encoding["type"]
            if version != VERSION or content[0] != "pkcs8":
                raise KeyFileError(f"expected version {VERSION}; export the account again, from a wallet of today")
            if content[1] not in ("ed25519", "sr25519"):
                raise KeyFileError("expected an ed25519 or sr25519 account; this chain has no others")
            if sealing not in (SEALED, ["none"]):
                raise KeyFileError("it is sealed in a way that polkadot-js has not; export the account again")
            return cls(
                scheme=Scheme[content[1].upper()],
                public=ss58.decode(fields["address"], None),
                is_sealed=sealing == SEALED,
                encoded=base64.b64decode(fields["encoded"], validate=True),
            )
        except KeyFileError:
            raise
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
            raise KeyFileError("it is no account that a polkadot-js wallet has exported") from None

    def open(self, password: str | None) -> Secret:
        """The account's secret; WrongPassword, or KeyFileError where it is not the secret of its address."""
        plain = self.encoded
        if self.is_sealed:
            assert password is not None
            plain = _unseal(plain, password)
        head, rest = plain[: len(_HEAD)], plain[len(_HEAD) :]
        # Generation 3 has 64 bytes of secret; older wallets had the seed, of which the rest follows.
        length = len(rest) - len(_DIVIDER) - _PUBLIC_BYTES
        secret, divider, public = rest[:length], rest[length:-_PUBLIC_BYTES], rest[-_PUBLIC_BYTES:]
        if head != _HEAD or length not in (SEED_BYTES, _SECRET_BYTES) or divider != _DIVIDER:
            raise KeyFileError("what it holds is no key")
        try:
            found = Secret(wallet_uri(secret, self.scheme), self.scheme)
            is_own = found.keypair().public == public == self.public
        except (ValueError, KeyUriError):
            is_own = False
        if not is_own:
            raise KeyFileError("its secret is of another account than it says")
        return found


def encode(keypair: Keypair, password: str, name: str, prefix: int, now: datetime) -> bytes:
    """An account as a wallet imports it."""
    plain = _HEAD + keypair.wallet_secret + _DIVIDER + keypair.public
    cost, salt, nonce = _COSTS[-1], os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
    sealed = bytes(crypto_secretbox(plain, nonce, cost.key(password, salt)))
    numbers = b"".join(number.to_bytes(4, "little") for number in (cost.n, cost.p, cost.r))
    fields: dict[str, Any] = {
        "encoded": base64.b64encode(salt + numbers + nonce + sealed).decode(),
        "encoding": {"content": ["pkcs8", keypair.scheme.name.lower()], "type": SEALED, "version": VERSION},
        "address": ss58.encode(keypair.public, prefix),
        "meta": {"name": name, "whenCreated": int(now.astimezone(UTC).timestamp() * 1000)},
    }
    return (json.dumps(fields) + "\n").encode()


def _unseal(data: bytes, password: str) -> bytes:
    salt, numbers = data[:_SALT_BYTES], data[_SALT_BYTES : _SALT_BYTES + 12]
    nonce, sealed = data[_SALT_BYTES + 12 :][:_NONCE_BYTES], data[_SALT_BYTES + 12 + _NONCE_BYTES :]
    cost = _Scrypt(*(int.from_bytes(numbers[at : at + 4], "little") for at in (0, 4, 8)))
    if cost not in _COSTS:
        raise KeyFileError("its cost of scrypt is none that wallets use; nothing was tried")
    try:
        return bytes(crypto_secretbox_open(sealed, nonce, cost.key(password, salt)))
    except CryptoError:
        raise WrongPassword("wrong password, or the file was changed") from None
    except ValueError:
        raise KeyFileError("it is cut off") from None
