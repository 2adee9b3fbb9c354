"""Any storage item of a runtime, by the names that wallets show, with keys and values as text.

Rule: what a person gets wrong is answered with what there is.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from chain.primitives import ss58
from chain.primitives.scale import (
    ACCOUNT_ID,
    Array,
    Bool,
    Bytes,
    Codec,
    Compact,
    Enum,
    FieldlessEnum,
    FixedBytes,
    Int,
    Newtype,
    Option,
    ScaleError,
    Str,
    Struct,
    Tuple,
    Vec,
    variant_of,
)
from runtime.calls import CallCodec
from runtime.composition import EventCodec, Runtime, View
from runtime.framework import ModuleInfo
from runtime.modules.system import SS58_PREFIX
from runtime.storage import StorageInfo, pascal_case

T = TypeVar("T")

_HEX: Final = re.compile(r"0x([0-9a-fA-F]{2})*")


class UnknownItem(ValueError):
    """There is no such storage item, or it is asked for with keys that do not fit; the message lists what there is."""


@dataclass(frozen=True, slots=True)
class Query:
    """One storage value: `key` is what the module's accessor takes, None for an item without keys."""

    module: ModuleInfo
    item: StorageInfo
    key: Any

    @classmethod
    def of(cls, runtime: Runtime[Any], module: str, item: str, keys: Sequence[str]) -> Query:
        """From words: `Balances TotalIssuance`, `system account 5Grw…`; UnknownItem where they name nothing."""
        modules = [info for info in runtime.modules if info.storage]
        of = _named("module", module, modules, lambda info: info.name)
        found = _named(f"item of {of.name}", item, of.storage.values(), lambda info: info.name)
        if len(keys) != len(found.keys):
            raise UnknownItem(f"{of.name} {found.name} takes {_takes(found)}, got {len(keys) or 'none'}")
        parts = tuple(_read(codec, text) for codec, text in zip(found.keys, keys, strict=True))
        if not parts:
            return cls(of, found, None)
        return cls(of, found, parts if len(parts) > 1 else parts[0])

    def look(self, view: View) -> tuple[Any, bool]:
        """The value as JSON would have it, and whether it is stored: else it is the default, or None."""
        module = view.module(self.module.cls)
        accessor = getattr(module, self.item.attribute)
        raw = module.state.get(accessor.key if not self.item.keys else accessor.key(self.key))
        if raw is not None:
            return show(self.item.value, self.item.value.decode(raw)), True
        return None if self.item.optional else show(self.item.value, self.item.default), False


def show(codec: Codec[Any], value: Any) -> Any:
    """A value in JSON's terms: accounts as addresses, other bytes in hex, variants by name."""
    match codec:
        case Option():
            return None if value is None else show(codec.inner, value)
        case Struct():
            return {name.rstrip("_"): show(field, getattr(value, name)) for name, field in codec.fields}
        case Enum():
            index, name = variant_of(type(value))
            inside = show(codec.variants[index], value)
            return {name: inside} if inside else name
        case EventCodec():
            event = codec.info_of(value)
            return {f"{event.module.name}.{event.name}": show(event.codec, value)}
        case CallCodec():
            return {value.path: {name: show(field, value.arguments[name]) for name, field in value.info.arguments}}
        case FieldlessEnum():
            return pascal_case(value.name.lower())
        case Vec() | Array():
            return [show(codec.inner, item) for item in value]
        case Tuple():
            return [show(inner, item) for inner, item in zip(codec.inner, value, strict=True)]
        case Newtype():
            return show(codec.inner, value)
    if codec is ACCOUNT_ID:
        return ss58.encode(value, SS58_PREFIX)
    return f"0x{value.hex()}" if isinstance(value, bytes) else value


def _read(codec: Codec[Any], text: str) -> Any:
    """A key from a word of the command line; UnknownItem says what was expected."""
    try:
        if codec is ACCOUNT_ID and not text.startswith("0x"):
            return ss58.decode(text, SS58_PREFIX)
        if isinstance(codec, Bool):
            return {"true": True, "false": False}[text]
        if isinstance(codec, Int | Compact):
            value: Any = int(text) if text.isascii() and text.removeprefix("-").isdigit() else text
        elif isinstance(codec, FieldlessEnum):
            value = {_plain(member.name): member for member in codec.cls}[_plain(text)]
        elif isinstance(codec, FixedBytes | Bytes):
            value = bytes.fromhex(text[2:]) if _HEX.fullmatch(text) else text.encode()
        elif isinstance(codec, Str):
            value = text
        else:
            return codec.decode(bytes.fromhex(text[2:]) if _HEX.fullmatch(text) else b"")
        codec.encode(value)
    except (ss58.Ss58Error, ScaleError, KeyError) as error:
        raise UnknownItem(f"expected {_kind(codec)}, got {text[:80]!r} ({error})") from None
    return value


def _kind(codec: Codec[Any]) -> str:
    """What a key looks like on the command line."""
    match codec:
        case Int():
            return f"a number ({codec.name})"
        case Compact():
            return "a number"
        case Bool():
            return "true or false"
        case FieldlessEnum():
            return " or ".join(pascal_case(member.name.lower()) for member in codec.cls)
        case FixedBytes():
            return "an address" if codec is ACCOUNT_ID else f"0x and {2 * codec.size} hex digits"
        case Bytes() | Str():
            return "text, or 0x and hex digits"
    return "0x and the hex of its SCALE encoding"


def _takes(item: StorageInfo) -> str:
    if not item.keys:
        return "no keys"
    kinds = ", ".join(map(_kind, item.keys))
    return f"{len(item.keys)} key{'s' if len(item.keys) > 1 else ''} ({kinds})"


def _named(what: str, wanted: str, there: Iterable[T], name_of: Callable[[T], str]) -> T:
    """What bears a name, in whichever way it is written."""
    known = {_plain(name_of(each)): each for each in there}
    found = known.get(_plain(wanted))
    if found is not None:
        return found
    near = difflib.get_close_matches(_plain(wanted), known, 1)
    guess = f" (did you mean {name_of(known[near[0]])}?)" if near else ""
    raise UnknownItem(f"no {what} is called {wanted[:80]!r}{guess}: there is {', '.join(map(name_of, known.values()))}")


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
