"""Messages that people sign, and their signatures, as wallets exchange them.

A wallet puts <Bytes> around what it is asked to sign, so that no message can be a transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from chain.primitives.keys import Scheme, verify

_BEFORE: Final = b"<Bytes>"
_BEHIND: Final = b"</Bytes>"
SIGNATURE_BYTES: Final = 64


class SignatureError(ValueError):
    """The text is no signature."""


@dataclass(frozen=True, slots=True)
class Message:
    """What somebody signs."""

    data: bytes

    @property
    def wrapped(self) -> bytes:
        """As wallets sign it; what is wrapped already stays as it is."""
        if self.data.startswith(_BEFORE) and self.data.endswith(_BEHIND):
            return self.data
        return _BEFORE + self.data + _BEHIND


@dataclass(frozen=True, slots=True)
class Signature:
    """64 bytes, and the scheme that they are of, where they say so."""

    data: bytes
    scheme: Scheme | None

    def scheme_of(self, public: bytes, message: Message) -> Scheme | None:
        """The scheme by which `public` signed the message, bare or wrapped; None if it did not."""
        for scheme in Scheme if self.scheme is None else (self.scheme,):
            if any(verify(scheme, public, data, self.data) for data in (message.data, message.wrapped)):
                return scheme
        return None


def read_signature(text: str) -> Signature:
    """A signature in hex, or a `MultiSignature`, whose first byte says the scheme; SignatureError otherwise."""
    try:
        data = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        data = b""
    if len(data) == SIGNATURE_BYTES:
        return Signature(data, None)
    if len(data) == 1 + SIGNATURE_BYTES and data[0] in tuple(Scheme):
        return Signature(data[1:], Scheme(data[0]))
    raise SignatureError(f"expected a signature, 0x and {2 * SIGNATURE_BYTES} hex digits, got {text[:80]!r}")
