"""Account keys: both signature schemes behind one type, with Substrate's secret URIs.

Every node verifies both schemes: validity never depends on what is installed. Secrets stay out of reprs and errors.
"""

from __future__ import annotations

import enum
import re
import unicodedata
from contextlib import suppress
from dataclasses import dataclass, field
from typing import assert_never

import bip39

from chain.primitives import ed25519, sr25519
from chain.primitives.hashing import blake2_256
from chain.primitives.scale import STR, U64

# The phrase that Substrate's development accounts (//Alice to //Ferdie) are derived from.
DEV_PHRASE = "bottom drive obey lake curtain smoke basket hold race lonely fit walk"
PHRASE_WORDS = (12, 15, 18, 21, 24)
SEED_BYTES = 32

_URI = re.compile(r"(?P<root>[^/]*)(?P<path>(//?[^/]+)*)(///(?P<password>.*))?", re.DOTALL)
_JUNCTION = re.compile(r"(//?)([^/]+)")
# subkey and polkadot-js make different keys of these: the one reads text where the other reads a number or bytes.
_DISPUTED = re.compile(r"\+?[0-9]{20,}|\+[0-9]+|0x[0-9a-fA-F]*")


class KeyUriError(ValueError):
    """A secret URI that names no key."""


class Scheme(enum.IntEnum):
    """A signature scheme, by its index in `MultiSignature`."""

    ED25519 = 0
    SR25519 = 1


@dataclass(frozen=True, slots=True)
class Keypair:
    """A key that can sign. `_secret` is the 32-byte seed (ed25519) or the 64-byte secret (sr25519)."""

    scheme: Scheme
    public: bytes
    _secret: bytes = field(repr=False, compare=False)

    @staticmethod
    def from_seed(seed: bytes, scheme: Scheme = Scheme.ED25519) -> Keypair:
        """The key of a 32-byte seed."""
        if len(seed) != SEED_BYTES:
            raise KeyUriError(f"a seed has {SEED_BYTES} bytes (0x and {2 * SEED_BYTES} digits), got {len(seed)} bytes")
        match scheme:
            case Scheme.ED25519:
                return Keypair(scheme, ed25519.public_key(seed), seed)
            case Scheme.SR25519:
                return Keypair(scheme, *sr25519.pair_from_seed(seed))
        assert_never(scheme)

    @staticmethod
    def from_uri(uri: str, scheme: Scheme = Scheme.ED25519) -> Keypair:
        """The key of a secret URI: `[phrase or 0x secret][//hard or /soft junction]…[///password]`.

        Without a phrase it is the development phrase: `//Alice` is Substrate's Alice. A 0x secret is a seed of 32
        bytes, or the 64 bytes that an sr25519 key without a seed signs with. KeyUriError if it names no key.
        """
        try:
            uri.encode()  # A command line may hold what is no text.
        except UnicodeEncodeError as error:
            raise KeyUriError(f"a secret URI is UTF-8 text; character {error.start + 1} of this one is not") from None
        match = _URI.fullmatch(unicodedata.normalize("NFC", uri))  # As polkadot-js: one spelling of each letter.
        if match is None:
            raise KeyUriError("a secret URI is [phrase or 0x secret][//junction]…[///password]; this one is not")
        keypair = _root(match["root"], match["password"], scheme)
        for slashes, junction in _JUNCTION.findall(match["path"]):
            keypair = keypair._derive(_chain_code(junction), is_hard=slashes == "//")
        return keypair

    def _derive(self, chain_code: bytes, *, is_hard: bool) -> Keypair:
        match self.scheme:
            case Scheme.ED25519:
                if not is_hard:
                    raise KeyUriError("an ed25519 key has hard junctions (//) only; /soft ones are for sr25519")
                return Keypair.from_seed(ed25519.hard_derive(self._secret, chain_code), self.scheme)
            case Scheme.SR25519:
                derive = sr25519.hard_derive if is_hard else sr25519.soft_derive
                return Keypair(self.scheme, *derive((self.public, self._secret), chain_code))
        assert_never(self.scheme)

    @property
    def secret_seed(self) -> bytes:
        """The 32-byte seed of an ed25519 key; a derived sr25519 key has none (ValueError)."""
        if self.scheme is not Scheme.ED25519:
            raise ValueError("only an ed25519 key keeps its seed; this one is sr25519")
        return self._secret

    @property
    def wallet_secret(self) -> bytes:
        """The 64 bytes by which polkadot-js keeps the key: seed and public key, or sr25519's in ed25519's notation."""
        match self.scheme:
            case Scheme.ED25519:
                return self._secret + self.public
            case Scheme.SR25519:
                return sr25519.to_ed25519_notation(self._secret)
        assert_never(self.scheme)

    def sign(self, message: bytes) -> bytes:
        """A 64-byte signature of `message`."""
        match self.scheme:
            case Scheme.ED25519:
                return ed25519.sign(self._secret, message)
            case Scheme.SR25519:
                return sr25519.sign((self.public, self._secret), message)
        assert_never(self.scheme)


def verify(scheme: Scheme, public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `public` signed `message`; False for anything malformed, never an exception."""
    match scheme:
        case Scheme.ED25519:
            return ed25519.verify(public, message, signature)
        case Scheme.SR25519:
            return sr25519.verify(public, message, signature)
    assert_never(scheme)


def new_phrase(words: int = 12) -> str:
    """A fresh secret phrase from the operating system's randomness."""
    if words not in PHRASE_WORDS:
        raise ValueError(f"a phrase has one of {PHRASE_WORDS} words, got {words}")
    return str(bip39.bip39_generate(words))


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret URI, which of its accounts its owner means, and how often its session keys were changed."""

    uri: str = field(repr=False)
    scheme: Scheme = Scheme.ED25519
    session: int = 0

    def keypair(self, scheme: Scheme | None = None) -> Keypair:
        """The key of the account that is meant, or of that in another scheme; KeyUriError where there is none."""
        return Keypair.from_uri(self.uri, self.scheme if scheme is None else scheme)

    def accounts(self) -> dict[Scheme, Keypair]:
        """The keys that it has, by scheme: of a soft path or a secret without a seed, that of sr25519 alone."""
        found = {}
        for scheme in Scheme:
            with suppress(KeyUriError):
                found[scheme] = self.keypair(scheme)
        if not found:
            self.keypair()  # says what is wrong with it
        return found


def wallet_uri(secret: bytes, scheme: Scheme) -> str:
    """The secret URI of what polkadot-js keeps of a key: `Keypair.wallet_secret`, or a seed of 32 bytes."""
    if len(secret) == SEED_BYTES:
        return "0x" + secret.hex()
    match scheme:
        case Scheme.ED25519:
            return "0x" + secret[:SEED_BYTES].hex()
        case Scheme.SR25519:
            return "0x" + sr25519.from_ed25519_notation(secret).hex()
    assert_never(scheme)


def _root(root: str, password: str | None, scheme: Scheme) -> Keypair:
    if root.startswith("0x"):
        if password is not None:
            raise KeyUriError("a 0x secret takes no password")
        try:
            secret = bytes.fromhex(root[2:])
        except ValueError:
            raise KeyUriError("the secret behind 0x is not hexadecimal") from None
        if len(secret) != sr25519.SECRET_BYTES:
            return Keypair.from_seed(secret, scheme)  # which checks the length
        if scheme is not Scheme.SR25519:
            raise KeyUriError("this secret is of an sr25519 key, which has no ed25519 account")
        try:
            return Keypair(scheme, *sr25519.pair_from_secret(secret))
        except ValueError:
            raise KeyUriError("the 64 bytes behind 0x are no sr25519 secret") from None
    phrase = " ".join(root.split()) or DEV_PHRASE
    if not bip39.bip39_validate(phrase):
        raise KeyUriError(
            f"{len(phrase.split())} words that are no BIP-39 phrase; expected {', '.join(map(str, PHRASE_WORDS))} "
            "English words with a valid checksum, a 0x seed of 64 digits, or //Name for a development key"
        )
    return Keypair.from_seed(bytes(bip39.bip39_to_mini_secret(phrase, password or "")), scheme)


def _chain_code(junction: str) -> bytes:
    """A junction's 32 bytes: a number as u64, any other text as SCALE text, hashed where it is longer."""
    if _DISPUTED.fullmatch(junction):
        raise KeyUriError(
            "a junction that is a number of 20 digits or more, or begins with + or 0x, is one key in polkadot-js and "
            "another in subkey; use words, or smaller numbers"
        )
    if junction.isascii() and junction.isdigit():
        code = U64.encode(int(junction))
    else:
        code = STR.encode(junction)
    return blake2_256(code) if len(code) > 32 else code.ljust(32, b"\x00")
