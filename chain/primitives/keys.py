"""Account keys: both signature schemes behind one type, with Substrate's secret URIs.

Every node verifies both schemes: validity never depends on what is installed. Secrets stay out of reprs.
"""

from __future__ import annotations

import enum
import re
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
        """The key of a secret URI: `[phrase or 0x seed][//hard junction]…[///password]`.

        Without a phrase it is the development phrase: `//Alice` is Substrate's Alice. KeyUriError if it names no key.
        """
        try:
            uri.encode()  # A command line may hold what is no text.
        except UnicodeEncodeError as error:
            raise KeyUriError(f"a secret URI is UTF-8 text; character {error.start + 1} of this one is not") from None
        match = _URI.fullmatch(uri)
        if match is None:
            raise KeyUriError("a secret URI is [phrase or 0x seed][//junction]…[///password]; this one is not")
        keypair = Keypair.from_seed(_root_seed(match["root"], match["password"]), scheme)
        for slashes, junction in _JUNCTION.findall(match["path"]):
            if slashes == "/":
                raise KeyUriError(f"soft junction /{junction} is not supported; use a hard one: //{junction}")
            keypair = keypair._hard_derive(_chain_code(junction))
        return keypair

    def _hard_derive(self, chain_code: bytes) -> Keypair:
        match self.scheme:
            case Scheme.ED25519:
                return Keypair.from_seed(ed25519.hard_derive(self._secret, chain_code), self.scheme)
            case Scheme.SR25519:
                return Keypair(self.scheme, *sr25519.hard_derive((self.public, self._secret), chain_code))
        assert_never(self.scheme)

    @property
    def secret_seed(self) -> bytes:
        """The 32-byte seed of an ed25519 key; a derived sr25519 key has none (ValueError)."""
        if self.scheme is not Scheme.ED25519:
            raise ValueError("only an ed25519 key keeps its seed; this one is sr25519")
        return self._secret

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


def _root_seed(root: str, password: str | None) -> bytes:
    if root.startswith("0x"):
        if password is not None:
            raise KeyUriError("a 0x seed takes no password")
        try:
            return bytes.fromhex(root[2:])  # from_seed checks the length
        except ValueError:
            raise KeyUriError("the seed behind 0x is not hexadecimal") from None
    phrase = root.strip() or DEV_PHRASE
    if not bip39.bip39_validate(phrase):
        raise KeyUriError(
            f"{len(phrase.split())} words that are no BIP-39 phrase; expected {', '.join(map(str, PHRASE_WORDS))} "
            "English words with a valid checksum, a 0x seed of 64 digits, or //Name for a development key"
        )
    return bytes(bip39.bip39_to_mini_secret(phrase, password or ""))


def _chain_code(junction: str) -> bytes:
    """A junction's 32 bytes: a number as u64, any other text as SCALE text, hashed where it is longer."""
    if junction.isascii() and junction.isdigit() and len(junction) <= 20 and int(junction) < 1 << 64:
        code = U64.encode(int(junction))
    else:
        code = STR.encode(junction)
    return blake2_256(code) if len(code) > 32 else code.ljust(32, b"\x00")
