"""RPC parameters: JSON values to bytes and integers at the edge, by the handler's own annotations.

A wrong parameter is named with its position, what was expected and what came.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from chain.primitives import ss58
from chain.primitives.merkle import KEY_BYTES_MAX
from chain.rpc.errors import Code, RpcError

HEX_NUMBER = re.compile(r"0x[0-9a-fA-F]{1,8}\Z")
# How many characters of an unusable value an error message quotes.
QUOTED_MAX = 80
HEIGHT_MAX = 2**32 - 1
# Names of functions and peers, log directives, ids: all are far shorter.
TEXT_CHARS_MAX = 1024


class WrongParameter(ValueError):
    """What was expected; the binder adds the position and what came."""


Decoder = Callable[[object], Any]


@dataclass(frozen=True, slots=True)
class Hex:
    """Hex of any even length, or of `size` bytes. Substrate does without the 0x in front, and so do some libraries."""

    size: int | None = None

    def __call__(self, value: object) -> bytes:
        digits = value.removeprefix("0x") if isinstance(value, str) else None
        if digits is not None and self.size in (None, len(digits) / 2):
            # Not a pattern: matching megabytes holds the interpreter for a quarter of a second.
            with suppress(ValueError):
                found = bytes.fromhex(digits)
                if 2 * len(found) == len(digits):  # The library skips blanks between the digits.
                    return found
        raise WrongParameter("0x and hex digits" if self.size is None else f"0x and {2 * self.size} hex digits")


@dataclass(frozen=True, slots=True)
class Whole:
    """An integer between two bounds."""

    least: int
    most: int

    def __call__(self, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not self.least <= value <= self.most:
            raise WrongParameter(f"an integer from {self.least} to {self.most}")
        return value


def decode_text(value: object) -> str:
    """A short text."""
    if not isinstance(value, str) or len(value) > TEXT_CHARS_MAX:
        raise WrongParameter(f"a string of at most {TEXT_CHARS_MAX} characters")
    return value


def decode_key(value: object) -> bytes:
    """A storage key in hex."""
    key = Hex()(value)
    if len(key) > KEY_BYTES_MAX:
        raise WrongParameter(f"storage keys of at most {KEY_BYTES_MAX} bytes")
    return key


def decode_height(value: object) -> int:
    """A height as a number or as hex, as Substrate's NumberOrHex."""
    if isinstance(value, str) and HEX_NUMBER.match(value):
        return int(value, 16)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= HEIGHT_MAX:
        return value
    raise WrongParameter("a height as a number or 0x-hex")


def decode_heights(value: object) -> int | list[int]:
    """One height, or a list of at most 1,000."""
    if isinstance(value, list):
        if len(value) > 1000:
            raise WrongParameter("at most 1000 heights")
        return [decode_height(entry) for entry in value]
    return decode_height(value)


def decode_account(value: object) -> bytes:
    """An account as an SS58 address of any prefix, or as 0x-hex of its public key."""
    if isinstance(value, str):
        if value.startswith("0x"):
            return Hex(32)(value)
        try:
            return ss58.decode(value, None)
        except ss58.Ss58Error as error:
            raise WrongParameter(f"an SS58 address ({error})") from None
    raise WrongParameter("an SS58 address or 0x and 64 hex digits")


@dataclass(frozen=True, slots=True)
class Keys:
    """A list of at most `most` storage keys."""

    most: int

    def __call__(self, value: object) -> list[bytes]:
        if not isinstance(value, list) or len(value) > self.most:
            raise WrongParameter(f"a list of at most {self.most} storage keys in 0x-hex")
        return [decode_key(entry) for entry in value]


@dataclass(frozen=True, slots=True)
class OneOrMore:
    """A block hash, or a list of at most `most`."""

    most: int

    def __call__(self, value: object) -> list[bytes]:
        if not isinstance(value, list):
            return [Hex(32)(value)]
        if len(value) > self.most:
            raise WrongParameter(f"at most {self.most} block hashes")
        return [Hex(32)(entry) for entry in value]


HexBytes = Annotated[bytes, Hex()]
BlockHash = Annotated[bytes, Hex(32)]
StorageKey = Annotated[bytes, Hex()]
# Clients ask for the values of a whole page of keys at once. How many all of them watch is bounded by the context.
StorageKeys = Annotated[list[bytes], Keys(1000)]
Height = Annotated[int, decode_height]
Heights = Annotated[int | list[int], decode_heights]
AccountParam = Annotated[bytes, decode_account]
# Substrate's own bound for a page of keys.
PageSize = Annotated[int, Whole(0, 1000)]
Index32 = Annotated[int, Whole(0, 2**32 - 1)]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a method."""

    name: str
    decode: Decoder
    optional: bool

    @property
    def wire_name(self) -> str:
        """As JSON spells it; Substrate's nodes take it in either spelling."""
        first, *others = self.name.split("_")
        return first + "".join(word.capitalize() for word in others)


def parameters_of(handler: Callable[..., object]) -> tuple[Parameter, ...]:
    """The parameters of a handler after its first, with the decoders that their annotations name."""
    hints = get_type_hints(handler, include_extras=True)
    found = []
    for name, parameter in list(inspect.signature(handler).parameters.items())[1:]:
        optional = parameter.default is not inspect.Parameter.empty or types.NoneType in get_args(hints[name])
        found.append(Parameter(name, _decoder(hints[name]), optional))
    return tuple(found)


def bind(parameters: tuple[Parameter, ...], given: list[object] | dict[str, object]) -> list[object]:
    """The handler's arguments; raises `RpcError` naming the parameter that is wrong. Null means absent."""
    if isinstance(given, dict):
        names = {parameter.name for parameter in parameters} | {parameter.wire_name for parameter in parameters}
        unknown = next((name for name in given if name not in names), None)
        if unknown is not None:
            raise _invalid(f"no parameter is called {quote(unknown)}")
        given = [given.get(parameter.wire_name, given.get(parameter.name)) for parameter in parameters]
    if len(given) > len(parameters):
        raise _invalid(f"expected at most {len(parameters)} parameters, got {len(given)}")
    arguments: list[object] = []
    for position, parameter in enumerate(parameters):
        value = given[position] if position < len(given) else None
        if value is None:
            if not parameter.optional:
                raise _invalid(f"parameter {position + 1} ({parameter.name}) is missing")
            arguments.append(None)
            continue
        try:
            arguments.append(parameter.decode(value))
        except WrongParameter as error:
            where = f"parameter {position + 1} ({parameter.name})"
            raise _invalid(f"{where}: expected {error}, got {quote(value)}") from None
    return arguments


def quote(value: object) -> str:
    """A value for a message: short, on one line, and never written out whole first, since it may have megabytes."""
    match value:
        case list():
            return f"an array of {len(value)}"
        case dict():
            return f"an object of {len(value)}"
        case str() if len(value) > QUOTED_MAX:
            return f"{value[:QUOTED_MAX]!r}…"
        case _:
            text = repr(value)
            return text if len(text) <= 2 * QUOTED_MAX else f"{text[:QUOTED_MAX]}…"


def _invalid(reason: str) -> RpcError:
    return RpcError(Code.INVALID_PARAMS, "Invalid params", reason)


def _decoder(hint: Any) -> Decoder:
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (option for option in get_args(hint) if option is not type(None))
    if get_origin(hint) is Annotated:
        decoder: Decoder = get_args(hint)[1]
        return decoder
    if hint is str:
        return decode_text
    if hint is bool:
        return _flag
    raise TypeError(f"no decoder for the RPC parameter type {hint!r}")


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise WrongParameter("true or false")
    return value


SUBSCRIPTION_ID = Parameter("follow_subscription", decode_text, optional=False)
