"""Reading a module's genesis config: every field is named by its path, typed, bounded, and known.

A field that is unknown is refused as firmly as one that is missing: a misspelt policy must not become a default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from chain.primitives import ss58
from runtime.types import GenesisError

_REQUIRED: Final = object()

U128_MAX: Final = (1 << 128) - 1


class Section:
    """A JSON object of the genesis file. Read each field, then `finish()` refuses what was not read."""

    def __init__(self, path: str, value: object) -> None:
        if not isinstance(value, Mapping):
            raise GenesisError(f"{path or 'the file'}: expected an object, got {show(value)}")
        self.path = path
        self._fields: Mapping[str, object] = value
        self._known: dict[str, bool] = {}  # the fields that were asked for, and whether they were read

    def __contains__(self, name: str) -> bool:
        self._known.setdefault(name, False)
        return name in self._fields

    @property
    def names(self) -> list[str]:
        """The fields that are there, in alphabetical order."""
        return sorted(self._fields)

    def at(self, name: str) -> str:
        """The path of a field; at the top of the file that is its name."""
        return f"{self.path}.{name}" if self.path else name

    def value(self, name: str, default: object = _REQUIRED) -> object:
        """A field as it is; GenesisError if it is missing and has no default."""
        self._known[name] = True
        if name not in self._fields:
            if default is _REQUIRED:
                raise GenesisError(f"{self.at(name)}: missing")
            return default
        return self._fields[name]

    def integer(self, name: str, minimum: int = 0, maximum: int = U128_MAX) -> int:
        """A whole number within bounds."""
        return integer(self.at(name), self.value(name), minimum, maximum)

    def text(self, name: str, bytes_max: int) -> str:
        """A string of at most `bytes_max` bytes of UTF-8."""
        value = self.value(name)
        if not isinstance(value, str) or len(value.encode()) > bytes_max:
            raise GenesisError(f"{self.at(name)}: expected text of at most {bytes_max} bytes, got {show(value)}")
        return value

    def account(self, name: str) -> bytes:
        """An account by its SS58 address."""
        return account(self.at(name), self.value(name))

    def octets(self, name: str, size: int) -> bytes:
        """Exactly `size` bytes in hex with 0x."""
        return octets(self.at(name), self.value(name), size)

    def section(self, name: str) -> Section:
        """An object."""
        return Section(self.at(name), self.value(name))

    def items(self, name: str) -> Iterator[tuple[str, object]]:
        """The entries of a list (none if the field is absent), each with its path."""
        value = self.value(name, [])
        if not isinstance(value, list | tuple):
            raise GenesisError(f"{self.at(name)}: expected a list, got {show(value)}")
        for index, item in enumerate(value):
            yield f"{self.at(name)}[{index}]", item

    def finish(self) -> None:
        """Refuse the first field that was not read."""
        for name in self.names:
            if not self._known.get(name, False):
                known = ", ".join(sorted(self._known)) or "no fields"
                raise GenesisError(f"{self.at(name)}: unknown field; expected {known}")


def integer(path: str, value: object, minimum: int = 0, maximum: int = U128_MAX) -> int:
    """A whole number within bounds, else GenesisError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise GenesisError(f"{path}: expected a whole number, got {show(value)}")
    if not minimum <= value <= maximum:
        # Nobody reads what a u128 holds at most: who exceeds it has typed it wrong.
        bounds = (
            f"{minimum} to {maximum}" if maximum < U128_MAX else f"a whole number of {minimum} or more, below 2^128"
        )
        raise GenesisError(f"{path}: expected {bounds}, got {show(value)}")
    return value


def account(path: str, value: object) -> bytes:
    """An account by its SS58 address, else GenesisError."""
    if not isinstance(value, str):
        raise GenesisError(f"{path}: expected an SS58 address, got {show(value)}")
    try:
        return ss58.decode(value)
    except ss58.Ss58Error as error:
        raise GenesisError(f"{path}: expected an SS58 address, got {show(value)} ({error})") from None


def octets(path: str, value: object, size: int) -> bytes:
    """Exactly `size` bytes in hex with 0x, else GenesisError."""
    if isinstance(value, str) and value.startswith("0x"):
        try:
            raw = bytes.fromhex(value[2:])
        except ValueError:
            raw = b""
        if len(raw) == size and value[2:] == raw.hex():
            return raw
    raise GenesisError(f"{path}: expected 0x and {2 * size} lower-case hex digits, got {show(value)}")


def show(value: object) -> str:
    """A value short enough for one line of an error."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
