"""Decoded values as JSON that people and pages read: the codecs that decode a value say how it is shown.

Accounts are SS58 addresses, u128 (which are amounts, in planck) decimal strings, bytes 0x-hex, variants objects with
their name as the field. Rule: what is shown of one extrinsic or event is bounded, whatever it carries.
"""

from __future__ import annotations

from typing import Any, Final

from chain.primitives import ss58
from chain.primitives.scale import (
    ACCOUNT_ID,
    U128,
    Array,
    Bytes,
    Codec,
    Compact,
    Enum,
    FieldlessEnum,
    FixedBytes,
    Newtype,
    Option,
    Struct,
    Tuple,
    Vec,
    variant_of,
)
from chain.primitives.types import EraCodec, Id, Mortal
from runtime.calls import Call, CallCodec
from runtime.storage import camel_case

# A blob in a call may have a megabyte: its beginning and its length say which it is.
BYTES_SHOWN_MAX: Final = 256
# A batch may carry thousands of calls, and a list thousands of items: a page shows a screen of them.
VALUES_SHOWN_MAX: Final = 1000


class Reader:
    """Shows the values of one extrinsic or event, and notes whose accounts they name."""

    def __init__(self, prefix: int) -> None:
        self._prefix = prefix
        self._left = VALUES_SHOWN_MAX
        self.accounts: set[bytes] = set()

    def account(self, public: bytes) -> str:
        """An account's address."""
        self.accounts.add(public)
        return ss58.encode(public, self._prefix)

    def call(self, call: Call) -> dict[str, Any]:
        """A call by its path, with its arguments."""
        return {"call": call.path, "args": self.fields(call.info.arguments, call.args)}

    def fields(self, codecs: tuple[tuple[str, Codec[Any]], ...], values: tuple[Any, ...]) -> dict[str, Any]:
        """Named values."""
        return {camel_case(name): self.value(codec, value) for (name, codec), value in zip(codecs, values, strict=True)}

    def value(self, codec: Codec[Any], value: Any) -> Any:
        """A value that this codec decodes."""
        self._left -= 1
        match codec:
            case Option():
                return None if value is None else self.value(codec.inner, value)
            case Vec() | Array():
                return self._items([(codec.inner, item) for item in value[: self._left + 1]], len(value))
            case Tuple():
                return self._items(list(zip(codec.inner, value, strict=True)), len(value))
            case Struct():
                return self._struct(codec, value)
            case Enum():
                if isinstance(value, Id):
                    return self.account(value.account)
                return self._variant(codec, value)
            case FieldlessEnum():
                return camel_case(value.name.lower())
            case CallCodec():
                return self.call(value)
            case EraCodec():
                return None if value is None else self._era(value)
            case Compact():
                return self.value(codec.inner, value)
            case FixedBytes() if codec is ACCOUNT_ID:
                return self.account(value)
            case FixedBytes() | Bytes():
                return shown_bytes(value)
            case Newtype():
                return self.value(codec.inner, value)
            case _ if codec is U128:
                return str(value)
            case _ if isinstance(value, int | str):
                return value if isinstance(value, int) else value[:BYTES_SHOWN_MAX]
            case _:
                return shown_bytes(codec.encode(value))

    def _items(self, items: list[tuple[Codec[Any], Any]], count: int) -> list[Any]:
        shown: list[Any] = []
        for codec, item in items:
            if self._left <= 0:
                shown.append(f"… {count - len(shown):,} more")
                break
            shown.append(self.value(codec, item))
        return shown

    def _struct(self, codec: Struct[Any], value: Any) -> Any:
        values = tuple(getattr(value, name) for name, _ in codec.fields)
        if codec.unnamed and len(values) == 1:
            return self.value(codec.fields[0][1], values[0])
        return self.fields(codec.fields, values)

    def _variant(self, codec: Enum, value: Any) -> Any:
        index, name = variant_of(type(value))
        struct = codec.variants[index]
        return {name: self._struct(struct, value)} if struct.fields else name

    def _era(self, era: Mortal) -> dict[str, int]:
        return {"period": era.period, "phase": era.phase}


def shown_bytes(value: bytes) -> str:
    """Bytes in hex; of many, the first and how many there are."""
    if len(value) <= BYTES_SHOWN_MAX:
        return "0x" + value.hex()
    return f"0x{value[:32].hex()}… ({len(value):,} bytes)"
