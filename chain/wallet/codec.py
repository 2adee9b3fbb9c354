"""Values of a chain's types, told by its metadata: bytes to what JSON has words for, and people's words to bytes.

What `decode` gives, `encode` takes back. Rule: types are a stranger's, so that how deep and how much is read is
bounded, and the decoder rejects every input that the encoder would not itself produce.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from chain.primitives.scale import (
    BOOL,
    BYTES,
    I8,
    I16,
    I32,
    I64,
    I128,
    I256,
    STR,
    U8,
    U16,
    U32,
    U64,
    U128,
    U256,
    Int,
    ScaleError,
    compact_decode,
    compact_encode,
)
from chain.primitives.scale_codecs import short
from chain.wallet.metadata import Metadata, MetadataError, UnknownName, named
from runtime.metadata_types import (
    CompactOf,
    Composite,
    Field,
    FixedArray,
    Primitive,
    PrimitiveKind,
    Sequence,
    TupleOf,
    Type,
    VariantField,
    Variants,
)

# Calls nest 32 deep, with four types between one and the next.
DEPTH_MAX: Final = 192
# A block's events and the longest list that a node answers with have some ten thousand values each.
VALUES_MAX: Final = 1 << 20
# What a person got wrong is shown up to here.
SHOWN_MAX: Final = 80

_INTS: Final[dict[PrimitiveKind, Int]] = {
    PrimitiveKind[codec.name]: codec for codec in (U8, U16, U32, U64, U128, U256, I8, I16, I32, I64, I128, I256)
}
_ACCOUNT: Final = "AccountId32"
_ADDRESS: Final = "MultiAddress"
_CHARACTER_MAX: Final = 0x10FFFF

# None, bool, int, str, list and dict, of each other.
Value = Any


class WordError(ValueError):
    """What was written is no value of the type; the message says what was expected."""


def _no_amount(text: str) -> NoReturn:
    raise WordError(f"expected a whole number, got {text[:SHOWN_MAX]!r}")


def _as_it_is(kind: PrimitiveKind, number: int) -> int:
    del kind
    return number


@dataclass(frozen=True, slots=True)
class Words:
    """How a chain's people write what SCALE has no words for; what reads raises ValueError for what is none.

    `account` reads an address, `address` writes one; `amount` reads one with its unit, such as 1.5POT, and `number`
    says what an integer of a kind decodes to: amounts are u128.
    """

    account: Callable[[str], bytes]
    address: Callable[[bytes], str]
    amount: Callable[[str], int] = _no_amount
    number: Callable[[PrimitiveKind, int], int | str] = _as_it_is


@dataclass(frozen=True, slots=True)
class Codec:
    """Encodes and decodes by the types of one chain's metadata."""

    metadata: Metadata
    words: Words

    def decode(self, number: int, data: bytes) -> Value:
        """The value that is the whole of `data`: ScaleError otherwise, MetadataError where the type is none."""
        value, end = self.decode_at(number, data, 0)
        if end != len(data):
            raise ScaleError(f"expected the value to end at byte {end}, got {len(data) - end} bytes more")
        return value

    def decode_at(self, number: int, data: bytes, offset: int) -> tuple[Value, int]:
        """The value at `offset` and the offset behind it."""
        return _Decoder(self, data).at(number, offset, 0)

    def encode(self, number: int, value: Value) -> bytes:
        """The bytes of a value in JSON's terms and people's words; WordError says what was expected."""
        return self._encode(number, value, 0)

    # --- encoding

    def _encode(self, number: int, value: Value, depth: int) -> bytes:
        if depth > DEPTH_MAX:
            raise WordError(f"expected values nested at most {DEPTH_MAX} deep")
        if number == self.metadata.call_type:
            return self._encode_call(value, depth)
        if number == self.metadata.event_type:
            name, inside = one_of(value, '{"Balances.Burned": {…}}')
            module, _, event = name.partition(".")
            value = {module: event if inside is None else {event: inside}}
        type = self.metadata.type(number)
        depth += 1
        match type.definition:
            case Primitive(kind):
                return self._encode_primitive(kind, value)
            case CompactOf(inner):
                kind = self.compact_kind(inner)
                encoded = self._encode_primitive(kind, value)
                return compact_encode(int.from_bytes(encoded, "little"))
            case Sequence(inner) if self.is_u8(inner):
                return BYTES.encode(read_bytes(value))
            case FixedArray(length, inner) if self.is_u8(inner):
                raw = read_hex(value, f"0x and {2 * length} hex digits")
                if len(raw) != length:
                    raise WordError(f"expected 0x and {2 * length} hex digits, got {2 * len(raw)} of them")
                return raw
            case Sequence(inner):
                items = self._items(value, inner, None, depth)
                return compact_encode(len(items)) + b"".join(items)
            case FixedArray(length, inner):
                return b"".join(self._items(value, inner, length, depth))
            case TupleOf(types):
                if not types and value is None:
                    return b""
                if not isinstance(value, list) or len(value) != len(types):
                    raise WordError(f"expected a list of {len(types)} values, got {shown(value)}")
                return b"".join(
                    self._within(f"[{place}]", inner, item, depth)
                    for place, (inner, item) in enumerate(zip(types, value, strict=True))
                )
            case Composite(fields):
                if self.is_account(type):
                    return self._account(value)
                return self._encode_fields(fields, value, depth)
            case Variants(variants):
                return self._encode_variant(type, variants, value, depth)

    def _within(self, where: str, number: int, value: Value, depth: int) -> bytes:
        """A part's bytes; an error says where in the whole it is."""
        try:
            return self._encode(number, value, depth)
        except WordError as error:
            text = str(error)
            raise WordError(f"{where}{'' if text.startswith(('[', '.')) else ': '}{text}") from None

    def _items(self, value: Value, inner: int, count: int | None, depth: int) -> list[bytes]:
        if not isinstance(value, list) or (count is not None and len(value) != count):
            many = "" if count is None else f" of {count} values"
            raise WordError(f"expected a list{many}, as JSON, got {shown(value)}")
        return [self._within(f"[{place}]", inner, item, depth) for place, item in enumerate(value)]

    def _account(self, value: Value) -> bytes:
        if not isinstance(value, str):
            raise WordError(f"expected an address, got {shown(value)}")
        try:
            return self.words.account(value)
        except ValueError as error:
            raise WordError(str(error)) from None

    def _encode_primitive(self, kind: PrimitiveKind, value: Value) -> bytes:
        match kind:
            case PrimitiveKind.bool:
                if isinstance(value, str):
                    value = {"true": True, "false": False}.get(value.lower(), value)
                if not isinstance(value, bool):
                    raise WordError(f"expected true or false, got {shown(value)}")
                return BOOL.encode(value)
            case PrimitiveKind.str:
                if not isinstance(value, str):
                    raise WordError(f"expected text, got {shown(value)}")
                return _scale(STR.encode, value)
            case PrimitiveKind.char:
                if not isinstance(value, str) or len(value) != 1:
                    raise WordError(f"expected one character, got {shown(value)}")
                return U32.encode(ord(value))
        codec = _INTS[kind]
        number = self._number(codec, value)
        if not codec.minimum <= number <= codec.maximum:
            raise WordError(f"expected a number from {codec.minimum} to {codec.maximum} ({codec.name}), got {number}")
        return codec.encode(number)

    def _number(self, codec: Int, value: Value) -> int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if not isinstance(value, str):
            raise WordError(f"expected a number ({codec.name}), got {shown(value)}")
        if is_whole(value):
            return int(value)
        if codec is not U128:
            raise WordError(f"expected a whole number ({codec.name}), got {shown(value)}")
        try:
            return self.words.amount(value)
        except ValueError as error:
            raise WordError(str(error)) from None

    def _encode_fields(self, fields: tuple[Field, ...], value: Value, depth: int) -> bytes:
        if not fields:
            if value not in (None, {}, []):
                raise WordError(f"expected nothing, got {shown(value)}")
            return b""
        if any(each.name is None for each in fields):
            if len(fields) == 1:
                return self._encode(fields[0].type, value, depth)
            if not isinstance(value, list) or len(value) != len(fields):
                raise WordError(f"expected a list of {len(fields)} values, got {shown(value)}")
            return b"".join(
                self._within(f"[{place}]", each.type, item, depth)
                for place, (each, item) in enumerate(zip(fields, value, strict=True))
            )
        names = [str(each.name) for each in fields]
        if not isinstance(value, dict):
            raise WordError(f"expected JSON with {', '.join(names)}, got {shown(value)}")
        unknown = [name for name in value if name not in names]
        if unknown:
            raise WordError(f"there is no {unknown[0][:SHOWN_MAX]!r} among {', '.join(names)}")
        missing = [name for name in names if name not in value]
        if missing:
            raise WordError(f"{', '.join(missing)} missing: expected {', '.join(names)}")
        return b"".join(
            self._within(f".{name}", each.type, value[name], depth) for name, each in zip(names, fields, strict=True)
        )

    def _encode_variant(self, type: Type, variants: tuple[VariantField, ...], value: Value, depth: int) -> bytes:
        if type.path == ("Option",) and len(variants) == 2:
            if value is None:
                return b"\0"
            some = variants[1].fields[0].type if variants[1].fields else -1
            if self.may_be_none(some):
                if not isinstance(value, dict) or list(value) != ["Some"]:
                    raise WordError(f'expected null or {{"Some": …}}, got {shown(value)}')
                value = value["Some"]
            return b"\1" + self._encode(some, value, depth)
        if isinstance(value, str):
            name, colon, rest = value.partition(":")
            if type.path[-1:] == (_ADDRESS,) and not colon:
                name, colon, rest = "Id", ":", value
            inside: Value = rest if colon else None
        elif isinstance(value, dict) and len(value) == 1:
            ((name, inside),) = value.items()
        else:
            raise WordError(f"expected one of {_names(variants)}, got {shown(value)}")
        try:
            found = named("variant", name, variants)
        except UnknownName:
            raise WordError(f"expected one of {_names(variants)}, got {shown(value)}") from None
        if found.fields and inside is None and isinstance(value, str):
            raise WordError(f'{found.name} holds a value: expected {found.name}:VALUE, or JSON {{"{found.name}": …}}')
        if isinstance(value, str) and len(found.fields) == 1 and found.fields[0].name is not None:
            inside = {found.fields[0].name: inside}
        try:
            return bytes((found.index,)) + self._encode_fields(found.fields, inside, depth)
        except WordError as error:
            text = str(error)
            raise WordError(text if len(found.fields) == 1 else f"{found.name}: {text}") from None

    def _encode_call(self, value: Value, depth: int) -> bytes:
        path, arguments = as_call(value)
        try:
            found = self.metadata.call(path)
        except UnknownName as error:
            raise WordError(str(error)) from None
        try:
            return found.prefix + self._encode_fields(found.fields, arguments, depth + 1)
        except WordError as error:
            raise WordError(f"{found.path}: {str(error).removeprefix('.')}") from None

    # --- what a type is

    def is_u8(self, number: int) -> bool:
        """Whether a type is u8: several of them are bytes."""
        definition = self.metadata.type(number).definition
        return isinstance(definition, Primitive) and definition.kind is PrimitiveKind.u8

    def is_account(self, type: Type) -> bool:
        """Whether a type is an account: 32 bytes by the name that clients know it by."""
        if type.path[-1:] != (_ACCOUNT,) or not isinstance(type.definition, Composite):
            return False
        fields = type.definition.fields
        inner = self.metadata.type(fields[0].type).definition if len(fields) == 1 else None
        return isinstance(inner, FixedArray) and inner.length == 32 and self.is_u8(inner.type)

    def is_address(self, number: int) -> bool:
        """Whether an address alone is a value of a type."""
        type = self.metadata.type(number)
        return type.path[-1:] == (_ADDRESS,) or self.is_account(type)

    def compact_kind(self, number: int) -> PrimitiveKind:
        """The unsigned integer that a compact one holds, through whatever wraps it."""
        for _ in range(DEPTH_MAX):
            definition = self.metadata.type(number).definition
            if isinstance(definition, Primitive) and definition.kind in _INTS and not _INTS[definition.kind].signed:
                return definition.kind
            if not isinstance(definition, Composite) or len(definition.fields) != 1:
                break
            number = definition.fields[0].type
        raise MetadataError(f"type {number} is compact, and no unsigned integer")

    def may_be_none(self, number: int) -> bool:
        """Whether a type has a value that JSON writes as null, as an option has: None and Some(None) differ."""
        for _ in range(DEPTH_MAX):
            type = self.metadata.type(number)
            match type.definition:
                case TupleOf(types):
                    return not types
                case Variants():
                    return type.path == ("Option",)
                case Composite(fields):
                    if not fields:
                        return True
                    if len(fields) != 1 or fields[0].name is not None or self.is_account(type):
                        return False
                    number = fields[0].type
                case _:
                    return False
        return False


class _Decoder:
    """One reading of one value, with what it may still read."""

    __slots__ = ("_codec", "_data", "_left", "_metadata")

    def __init__(self, codec: Codec, data: bytes) -> None:
        self._codec = codec
        self._metadata = codec.metadata
        self._data = data
        self._left = VALUES_MAX

    def at(self, number: int, offset: int, depth: int) -> tuple[Value, int]:
        if depth > DEPTH_MAX:
            raise ScaleError(f"expected values nested at most {DEPTH_MAX} deep, got more at byte {offset}")
        self._left -= 1
        if self._left < 0:
            raise ScaleError(f"expected at most {VALUES_MAX} values, got more at byte {offset}")
        if number == self._metadata.call_type:
            return self._call(offset, depth)
        data, type = self._data, self._metadata.type(number)
        depth += 1
        match type.definition:
            case Primitive(kind):
                return self._primitive(kind, offset)
            case CompactOf(inner):
                value, end = compact_decode(data, offset)
                kind = self._codec.compact_kind(inner)
                codec = _INTS[kind]
                if value > codec.maximum:
                    raise ScaleError(f"compact integer {value} at byte {offset} does not fit a {codec.name}")
                return self._codec.words.number(kind, value), end
            case Sequence(inner) if self._codec.is_u8(inner):
                raw, end = BYTES.decode_at(data, offset)
                return f"0x{raw.hex()}", end
            case FixedArray(length, inner) if self._codec.is_u8(inner):
                raw, end = self._bytes(offset, length)
                return f"0x{raw.hex()}", end
            case Sequence(inner):
                count, offset = compact_decode(data, offset)
                return self._several(inner, count, offset, depth)
            case FixedArray(length, inner):
                return self._several(inner, length, offset, depth)
            case TupleOf(types):
                items = []
                for inner in types:
                    item, offset = self.at(inner, offset, depth)
                    items.append(item)
                return items or None, offset
            case Composite(fields):
                if self._codec.is_account(type):
                    raw, end = self._bytes(offset, 32)
                    return self._codec.words.address(raw), end
                return self._fields(fields, offset, depth)
            case Variants(variants):
                return self._variant(type, number, variants, offset, depth)

    def _bytes(self, offset: int, size: int) -> tuple[bytes, int]:
        end = offset + size
        if end > len(self._data):
            raise short(offset, size, self._data)
        return self._data[offset:end], end

    def _several(self, inner: int, count: int, offset: int, depth: int) -> tuple[Value, int]:
        items = []
        for _ in range(count):  # Ends with the bytes, or with the values that may still be read.
            item, offset = self.at(inner, offset, depth)
            items.append(item)
        return items, offset

    def _primitive(self, kind: PrimitiveKind, offset: int) -> tuple[Value, int]:
        match kind:
            case PrimitiveKind.bool:
                return BOOL.decode_at(self._data, offset)
            case PrimitiveKind.str:
                return STR.decode_at(self._data, offset)
            case PrimitiveKind.char:
                number, end = U32.decode_at(self._data, offset)
                if number > _CHARACTER_MAX or 0xD800 <= number < 0xE000:
                    raise ScaleError(f"expected a character at byte {offset}, got {number}")
                return chr(number), end
        value, end = _INTS[kind].decode_at(self._data, offset)
        return self._codec.words.number(kind, value), end

    def _fields(self, fields: tuple[Field, ...], offset: int, depth: int) -> tuple[Value, int]:
        values = []
        for each in fields:
            value, offset = self.at(each.type, offset, depth)
            values.append(value)
        if not fields:
            return None, offset
        if any(each.name is None for each in fields):
            return values[0] if len(values) == 1 else values, offset
        return {str(each.name): value for each, value in zip(fields, values, strict=True)}, offset

    def _variant(
        self, type: Type, number: int, variants: tuple[VariantField, ...], offset: int, depth: int
    ) -> tuple[Value, int]:
        raw, start = self._bytes(offset, 1)
        found = next((each for each in variants if each.index == raw[0]), None)
        if found is None:
            raise ScaleError(f"{'::'.join(type.path) or f'type {number}'} has no variant {raw[0]} (byte {offset})")
        if number == self._metadata.event_type:
            return self._event(found.name, found.fields, start, depth)
        inside, end = self._fields(found.fields, start, depth)
        if type.path[-1:] == (_ADDRESS,) and found.name == "Id" and isinstance(inside, str):
            return inside, end  # As everybody writes it.
        if type.path == ("Option",) and len(variants) == 2:
            if raw[0] == 0:
                return None, end
            return {"Some": inside} if self._codec.may_be_none(found.fields[0].type) else inside, end
        return {found.name: inside} if found.fields else found.name, end

    def _event(self, module: str, fields: tuple[Field, ...], offset: int, depth: int) -> tuple[Value, int]:
        """`{"Balances.Transfer": {…}}`, from a module's variant around the event's own."""
        if len(fields) != 1:
            raise MetadataError(f"expected one enum of events in {module}, got {len(fields)} fields")
        inner, end = self.at(fields[0].type, offset, depth)
        name, inside = (inner, None) if isinstance(inner, str) else next(iter(inner.items()))
        return {f"{module}.{name}": inside}, end

    def _call(self, offset: int, depth: int) -> tuple[Value, int]:
        prefix, start = self._bytes(offset, 2)
        found = self._metadata.calls.get(prefix)
        if found is None:
            raise ScaleError(f"the chain has no call 0x{prefix.hex()} (module, call) at byte {offset}")
        arguments, end = self._fields(found.fields, start, depth + 1)
        return {found.path: arguments}, end


# --- words ---------------------------------------------------------------------------------------------------------


def as_call(value: Value) -> tuple[str, Value]:
    """The path and the arguments of a call in JSON's terms; WordError for what is none."""
    if isinstance(value, str) and "." in value:
        return value, None
    return one_of(value, 'a call such as {"balances.burn": {"value": "1POT", …}}')


def one_of(value: Value, expected: str) -> tuple[str, Value]:
    """The name and the value of JSON that has one."""
    if not isinstance(value, dict) or len(value) != 1:
        raise WordError(f"expected {expected}, got {shown(value)}")
    ((name, inside),) = value.items()
    return name, inside


def is_whole(text: str) -> bool:
    """Whether a text is a whole number and nothing else, in as many digits as any integer here has."""
    digits = text.removeprefix("-")
    return text.isascii() and digits.isdigit() and len(digits) <= 80


def read_hex(value: Value, expected: str) -> bytes:
    """The bytes of 0x and hex digits."""
    if isinstance(value, str) and value.startswith("0x"):
        try:
            if not any(character.isspace() for character in value):
                return bytes.fromhex(value[2:])
        except ValueError:
            pass
    raise WordError(f"expected {expected}, got {shown(value)}")


def read_bytes(value: Value) -> bytes:
    """Bytes as 0x and hex digits, or as text."""
    expected = "text, or 0x and hex digits"
    if isinstance(value, str) and not value.startswith("0x"):
        return bytes(_scale(str.encode, value))
    return read_hex(value, expected)


def _scale(encode: Callable[[str], bytes], value: str) -> bytes:
    try:
        return encode(value)
    except (ScaleError, UnicodeEncodeError):
        raise WordError(f"expected text that is UTF-8, got {shown(value)}") from None


def _names(variants: tuple[VariantField, ...]) -> str:
    names = [each.name for each in variants]
    return ", ".join(names[:16]) + (", …" if len(names) > 16 else "")


def shown(value: Value) -> str:
    """A value in an error message, in as much of it as says what was wrong."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"
