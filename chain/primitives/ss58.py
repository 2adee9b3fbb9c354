"""SS58 addresses: base58 of a network prefix, an account and a checksum. An address has exactly one spelling."""

from __future__ import annotations

from hashlib import blake2b

ACCOUNT_BYTES = 32
PREFIX_MAX = (1 << 14) - 1
CHECKSUM_BYTES = 2
# A two-byte prefix, an account and a checksum are 36 bytes: 50 base58 digits. Longer input is not even read.
TEXT_LENGTH_MAX = 50

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGITS = {character: digit for digit, character in enumerate(_ALPHABET)}
_RESERVED_PREFIXES = (46, 47)


class Ss58Error(ValueError):
    """The text is no address, or one of another network."""


def encode(account: bytes, prefix: int = 42) -> str:
    """The address of a 32-byte account on the network `prefix`."""
    if len(account) != ACCOUNT_BYTES:
        raise Ss58Error(f"an account has {ACCOUNT_BYTES} bytes, got {len(account)}")
    body = _prefix_bytes(prefix) + account
    return _base58_encode(body + _checksum(body))


def decode(text: str, prefix: int | None = 42) -> bytes:
    """The account of an address; `prefix` None accepts every network. Ss58Error says what is wrong."""
    if len(text) > TEXT_LENGTH_MAX:
        raise Ss58Error(f"an address has at most {TEXT_LENGTH_MAX} characters, got {len(text)}")
    for position, character in enumerate(text):
        if character not in _DIGITS:
            raise Ss58Error(f"{text}: character {position + 1}, {character!r}, is not one of base58's")
    data = _base58_decode(text)
    prefix_size = 1 if data[:1] < b"\x40" else 2
    if len(data) != prefix_size + ACCOUNT_BYTES + CHECKSUM_BYTES:
        raise Ss58Error(
            f"expected an address such as 5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY, got {text!r}: "
            f"{len(data)} bytes where {prefix_size + ACCOUNT_BYTES + CHECKSUM_BYTES} are needed"
        )
    body, checksum = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
    if _checksum(body) != checksum:
        raise Ss58Error(f"{text}: the checksum does not match; a character is mistyped")
    found = prefix_of(text)
    if _prefix_bytes(found) != data[:prefix_size]:
        raise Ss58Error(f"{text}: network prefix {found} is not in its shortest form")
    if prefix is not None and found != prefix:
        raise Ss58Error(f"{text}: the address is for network {found}, expected {prefix}")
    return body[prefix_size:]


def prefix_of(text: str) -> int:
    """The network prefix of an address that `decode` takes."""
    data = _base58_decode(text)
    return data[0] if data[0] < 0x40 else (data[0] & 0x3F) << 2 | data[1] >> 6 | (data[1] & 0x3F) << 8


def _prefix_bytes(prefix: int) -> bytes:
    if not 0 <= prefix <= PREFIX_MAX or prefix in _RESERVED_PREFIXES:
        raise Ss58Error(f"a network prefix is 0 to {PREFIX_MAX}, but not 46 or 47; got {prefix}")
    if prefix < 64:
        return bytes((prefix,))
    return bytes(((prefix & 0xFC) >> 2 | 0x40, prefix >> 8 | (prefix & 3) << 6))


def _checksum(body: bytes) -> bytes:
    return blake2b(b"SS58PRE" + body).digest()[:CHECKSUM_BYTES]


def _base58_encode(data: bytes) -> str:
    number, digits = int.from_bytes(data, "big"), []
    while number:
        number, digit = divmod(number, 58)
        digits.append(_ALPHABET[digit])
    zeros = len(data) - len(data.lstrip(b"\x00"))
    return "1" * zeros + "".join(reversed(digits))


def _base58_decode(text: str) -> bytes:
    number = 0
    for character in text:
        number = number * 58 + _DIGITS[character]
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
