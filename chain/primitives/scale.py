"""SCALE: codecs derived from type annotations.

The decoder rejects every input that the encoder would not itself produce, so that bytes and values are one to one.
Layouts are those of parity-scale-codec. A codec also carries what metadata needs to describe it (path, parameters,
fields, documentation).
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Annotated, Any, Generic, TypeVar, overload

T = TypeVar("T")
C = TypeVar("C", bound=type)

# Elements that take no bytes are bounded by nothing in the input: more of them than this is an attack.
ZERO_SIZED_ITEMS_MAX = 1024
# parity-scale-codec's widest compact: four bytes and six bits of extra length.
COMPACT_BYTES_MAX = 67


class ScaleError(ValueError):
    """The bytes, or the value, do not fit the type."""


def compact_encode(value: int) -> bytes:
    """Encode a natural number as SCALE's compact integer."""
    if value < 0:
        raise ScaleError(f"a compact integer is not negative, got {value}")
    if value < 1 << 6:
        return bytes((value << 2,))
    if value < 1 << 14:
        return (value << 2 | 1).to_bytes(2, "little")
    if value < 1 << 30:
        return (value << 2 | 2).to_bytes(4, "little")
    size = (value.bit_length() + 7) >> 3
    if size > COMPACT_BYTES_MAX:
        raise ScaleError(f"a compact integer has at most {COMPACT_BYTES_MAX} bytes, got {size}")
    return bytes(((size - 4) << 2 | 3,)) + value.to_bytes(size, "little")


def compact_decode(data: bytes, offset: int) -> tuple[int, int]:
    """Decode a compact integer at `offset`; refuse any but the shortest form."""
    if offset >= len(data):
        raise _short(offset, 1, data)
    first = data[offset]
    mode = first & 3
    if mode == 0:
        return first >> 2, offset + 1
    if mode == 3:
        end = offset + 5 + (first >> 2)
        if end > len(data):
            raise _short(offset, end - offset, data)
        value = int.from_bytes(data[offset + 1 : end], "little")
        if data[end - 1] == 0 or value < 1 << 30:
            raise ScaleError(f"compact integer {value} at byte {offset} is not in its shortest form")
        return value, end
    end = offset + (2 if mode == 1 else 4)
    if end > len(data):
        raise _short(offset, end - offset, data)
    value = int.from_bytes(data[offset:end], "little") >> 2
    if value < (1 << 6 if mode == 1 else 1 << 14):
        raise ScaleError(f"compact integer {value} at byte {offset} is not in its shortest form")
    return value, end


def _short(offset: int, need: int, data: bytes) -> ScaleError:
    return ScaleError(f"expected {need} bytes at byte {offset}, got {max(0, len(data) - offset)}")


class Codec(Generic[T]):
    """Encodes and decodes one type; `path`, `params` and `docs` are its scale-info description."""

    path: tuple[str, ...] = ()
    params: tuple[tuple[str, Codec[Any] | None], ...] = ()
    docs: tuple[str, ...] = ()
    size_min: int = 0  # the fewest bytes that a value takes: bounds a vector's length by the bytes that remain

    def encode(self, value: T) -> bytes:
        """The canonical bytes of `value`; ScaleError if it is not of this type."""
        raise NotImplementedError

    def decode_at(self, data: bytes, offset: int) -> tuple[T, int]:
        """The value at `offset` and the offset behind it."""
        raise NotImplementedError

    def decode(self, data: bytes) -> T:
        """The value that is the whole of `data`; bytes left over are an error."""
        value, end = self.decode_at(data, 0)
        if end != len(data):
            raise ScaleError(f"expected the value to end at byte {end}, got {len(data) - end} bytes more")
        return value


class Int(Codec[int]):
    """A fixed-width little-endian integer; `name` is u8 … u256 or i8 … i256."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.signed = name[0] == "i"
        self.size = self.size_min = int(name[1:]) // 8
        self.minimum = -(1 << (8 * self.size - 1)) if self.signed else 0
        self.maximum = (1 << (8 * self.size - self.signed)) - 1

    def encode(self, value: int) -> bytes:
        try:
            return value.to_bytes(self.size, "little", signed=self.signed)
        except (OverflowError, AttributeError):
            raise ScaleError(f"expected a {self.name}, got {value!r}") from None

    def decode_at(self, data: bytes, offset: int) -> tuple[int, int]:
        end = offset + self.size
        if end > len(data):
            raise _short(offset, self.size, data)
        return int.from_bytes(data[offset:end], "little", signed=self.signed), end


class Bool(Codec[bool]):
    """One byte, 0 or 1."""

    name = "bool"
    size_min = 1

    def encode(self, value: bool) -> bytes:
        if value is True:
            return b"\x01"
        if value is False:
            return b"\x00"
        raise ScaleError(f"expected a bool, got {value!r}")

    def decode_at(self, data: bytes, offset: int) -> tuple[bool, int]:
        if offset >= len(data):
            raise _short(offset, 1, data)
        if data[offset] > 1:
            raise ScaleError(f"expected a bool (0 or 1) at byte {offset}, got {data[offset]}")
        return data[offset] == 1, offset + 1


class Bytes(Codec[bytes]):
    """Bytes with a compact length, as `Vec<u8>`."""

    size_min = 1

    def encode(self, value: bytes) -> bytes:
        if not isinstance(value, bytes):
            raise ScaleError(f"expected bytes, got {value!r}")
        return compact_encode(len(value)) + value

    def decode_at(self, data: bytes, offset: int) -> tuple[bytes, int]:
        size, start = compact_decode(data, offset)
        end = start + size
        if end > len(data):
            raise _short(start, size, data)
        return data[start:end], end


class Str(Codec[str]):
    """UTF-8 text with a compact length."""

    name = "str"
    size_min = 1

    def encode(self, value: str) -> bytes:
        try:
            raw = value.encode()
        except (AttributeError, UnicodeEncodeError):
            raise ScaleError(f"expected text, got {value!r}") from None
        return compact_encode(len(raw)) + raw

    def decode_at(self, data: bytes, offset: int) -> tuple[str, int]:
        raw, end = BYTES.decode_at(data, offset)
        try:
            return raw.decode(), end
        except UnicodeDecodeError:
            raise ScaleError(f"text at byte {offset} is not UTF-8") from None


U8, U16, U32, U64, U128, U256 = (Int(f"u{8 << i}") for i in range(6))
I8, I16, I32, I64, I128, I256 = (Int(f"i{8 << i}") for i in range(6))
BOOL = Bool()
STR = Str()
BYTES = Bytes()


class Compact(Codec[int]):
    """An unsigned integer of `inner`'s range in compact form."""

    size_min = 1

    def __init__(self, inner: Int) -> None:
        if inner.signed:
            raise TypeError(f"a compact integer is unsigned, got {inner.name}")
        self.inner = inner
        self.maximum = inner.maximum

    def encode(self, value: int) -> bytes:
        if not isinstance(value, int) or not 0 <= value <= self.maximum:
            raise ScaleError(f"expected a compact {self.inner.name}, got {value!r}")
        return compact_encode(value)

    def decode_at(self, data: bytes, offset: int) -> tuple[int, int]:
        value, end = compact_decode(data, offset)
        if value > self.maximum:
            raise ScaleError(f"compact integer {value} at byte {offset} does not fit a {self.inner.name}")
        return value, end


class FixedBytes(Codec[bytes]):
    """Exactly `size` bytes, as `[u8; size]`; with a path, a newtype around them."""

    def __init__(self, size: int, path: str = "") -> None:
        self.size = self.size_min = size
        self.path = split_path(path)

    def encode(self, value: bytes) -> bytes:
        if not isinstance(value, bytes) or len(value) != self.size:
            raise ScaleError(f"expected {self.size} bytes, got {_measure(value)}")
        return value

    def decode_at(self, data: bytes, offset: int) -> tuple[bytes, int]:
        end = offset + self.size
        if end > len(data):
            raise _short(offset, self.size, data)
        return data[offset:end], end


class Vec(Codec[Any]):
    """Items with a compact count; decodes to a list, or to a tuple where the annotation is `tuple[T, ...]`."""

    size_min = 1

    def __init__(self, inner: Codec[Any], container: type[list[Any]] | type[tuple[Any, ...]] = list) -> None:
        self.inner = inner
        self.container = container

    def encode(self, value: Sequence[Any]) -> bytes:
        if not isinstance(value, list | tuple):
            raise ScaleError(f"expected a list, got {value!r}")
        return compact_encode(len(value)) + b"".join(map(self.inner.encode, value))

    def decode_at(self, data: bytes, offset: int) -> tuple[Any, int]:
        count, end = compact_decode(data, offset)
        size_min = self.inner.size_min
        if count * size_min > len(data) - end or (size_min == 0 and count > ZERO_SIZED_ITEMS_MAX):
            raise ScaleError(f"the vector at byte {offset} claims {count} items in {len(data) - end} bytes")
        decode_at = self.inner.decode_at
        items = []
        for _ in range(count):
            item, end = decode_at(data, end)
            items.append(item)
        return (items if self.container is list else self.container(items)), end


class Array(Codec[Any]):
    """Exactly `count` items."""

    def __init__(self, count: int, inner: Codec[Any]) -> None:
        self.count = count
        self.inner = inner
        self.size_min = count * inner.size_min

    def encode(self, value: Sequence[Any]) -> bytes:
        if not isinstance(value, list | tuple) or len(value) != self.count:
            raise ScaleError(f"expected {self.count} items, got {_measure(value)}")
        return b"".join(map(self.inner.encode, value))

    def decode_at(self, data: bytes, offset: int) -> tuple[Any, int]:
        decode_at = self.inner.decode_at
        items = []
        for _ in range(self.count):
            item, offset = decode_at(data, offset)
            items.append(item)
        return items, offset


class Tuple(Codec[Any]):
    """Items of different types one after another."""

    def __init__(self, *inner: Codec[Any]) -> None:
        self.inner = inner
        self.size_min = sum(codec.size_min for codec in inner)

    def encode(self, value: Sequence[Any]) -> bytes:
        if not isinstance(value, tuple | list) or len(value) != len(self.inner):
            raise ScaleError(f"expected {len(self.inner)} items, got {_measure(value)}")
        return b"".join([codec.encode(item) for codec, item in zip(self.inner, value, strict=True)])

    def decode_at(self, data: bytes, offset: int) -> tuple[Any, int]:
        items = []
        for codec in self.inner:
            item, offset = codec.decode_at(data, offset)
            items.append(item)
        return tuple(items), offset


UNIT = Tuple()


class Option(Codec[Any]):
    """A value that may be None."""

    path = ("Option",)
    size_min = 1

    def __init__(self, inner: Codec[Any]) -> None:
        if isinstance(inner, Option):
            raise TypeError("an option of an option cannot tell its two Nones apart")
        self.inner = inner
        self.params = (("T", inner),)

    def encode(self, value: Any) -> bytes:
        return b"\x00" if value is None else b"\x01" + self.inner.encode(value)

    def decode_at(self, data: bytes, offset: int) -> tuple[Any, int]:
        if offset >= len(data):
            raise _short(offset, 1, data)
        tag = data[offset]
        if tag > 1:
            raise ScaleError(f"expected an option (0 or 1) at byte {offset}, got {tag}")
        return (None, offset + 1) if tag == 0 else self.inner.decode_at(data, offset + 1)


class Newtype(Codec[T]):
    """A named wrapper: encodes as `inner`, described as a struct with one unnamed field."""

    def __init__(
        self, path: str, inner: Codec[T], params: tuple[tuple[str, Codec[Any] | None], ...] = (), docs: str = ""
    ) -> None:
        self.inner = inner
        self.path = split_path(path)
        self.params = params
        self.docs = split_docs(docs)
        self.size_min = inner.size_min
        self.encode = inner.encode  # type: ignore[method-assign]  # one call less on the hot path
        self.decode_at = inner.decode_at  # type: ignore[method-assign]


class Opaque(Newtype[bytes]):
    """Length-prefixed bytes that stand for a type whose inside this level does not read."""

    def __init__(self, path: str, params: tuple[tuple[str, Codec[Any] | None], ...] = (), docs: str = "") -> None:
        super().__init__(path, BYTES, params, docs)


class Struct(Codec[T]):
    """A frozen dataclass: its fields one after another. A decoded value is an instance of the class."""

    def __init__(self, cls: type[T]) -> None:
        if not (dataclasses.is_dataclass(cls) and isinstance(cls, type)):
            raise TypeError(f"expected a dataclass, got {cls!r}")
        self.cls = cls
        self.path = path_of(cls)
        self.docs = docs_of(cls)
        self.unnamed = bool(getattr(cls, "__scale_unnamed__", False))
        self.fields = field_codecs(cls)
        self.params = tuple(
            (name, codec_of(annotation)) for name, annotation in getattr(cls, "__scale_params__", {}).items()
        )
        self.size_min = sum(codec.size_min for _, codec in self.fields)
        self._encoders = tuple((name, codec.encode) for name, codec in self.fields)
        self._decoders = tuple(codec.decode_at for _, codec in self.fields)

    def encode(self, value: T) -> bytes:
        if value.__class__ is not self.cls:
            raise ScaleError(f"expected a {self.cls.__name__}, got {value!r}")
        return b"".join([encode(getattr(value, name)) for name, encode in self._encoders])

    def decode_at(self, data: bytes, offset: int) -> tuple[T, int]:
        values = []
        for decode_at in self._decoders:
            value, offset = decode_at(data, offset)
            values.append(value)
        try:
            return self.cls(*values), offset
        except ValueError as error:  # the class's own __post_init__ refused
            raise ScaleError(str(error)) from error


class Enum(Codec[Any]):
    """A tagged union of dataclasses that `@variant` gave an index."""

    size_min = 1

    def __init__(self, path: str, *variants: type, params: tuple[tuple[str, Any], ...] = (), docs: str = "") -> None:
        self.path = split_path(path)
        self.docs = split_docs(docs)
        self.variants: dict[int, Struct[Any]] = {}
        self._indexes: dict[type, tuple[bytes, Callable[[Any], bytes]]] = {}
        for cls in variants:
            index, _ = variant_of(cls)
            if index in self.variants:
                raise TypeError(f"{path}: {cls.__name__} and {self.variants[index].cls.__name__} share index {index}")
            struct: Struct[Any] = Struct(cls)
            self.variants[index] = struct
            self._indexes[cls] = (bytes((index,)), struct.encode)
        self._decoders = {index: codec.decode_at for index, codec in self.variants.items()}
        self.params = tuple((name, None if item is None else codec_of(item)) for name, item in params)

    def encode(self, value: Any) -> bytes:
        found = self._indexes.get(value.__class__)
        if found is None:
            raise ScaleError(f"expected a variant of {'::'.join(self.path)}, got {value!r}")
        return found[0] + found[1](value)

    def decode_at(self, data: bytes, offset: int) -> tuple[Any, int]:
        if offset >= len(data):
            raise _short(offset, 1, data)
        decode_at = self._decoders.get(data[offset])
        if decode_at is None:
            raise ScaleError(f"{'::'.join(self.path)} has no variant {data[offset]} (byte {offset})")
        return decode_at(data, offset + 1)


class FieldlessEnum(Codec[Any]):
    """An `enum.IntEnum` in one byte, its value being the variant's index."""

    size_min = 1

    def __init__(self, cls: type[enum.IntEnum]) -> None:
        for member in cls:
            if not 0 <= member.value <= 255:
                raise TypeError(f"{cls.__name__}.{member.name} must be 0 to 255, got {member.value}")
        self.cls = cls
        self.path = path_of(cls)
        self.docs = docs_of(cls)
        self._members = {member.value: member for member in cls}

    def encode(self, value: Any) -> bytes:
        if value.__class__ is not self.cls:
            raise ScaleError(f"expected a {self.cls.__name__}, got {value!r}")
        return bytes((value.value,))

    def decode_at(self, data: bytes, offset: int) -> tuple[Any, int]:
        if offset >= len(data):
            raise _short(offset, 1, data)
        member = self._members.get(data[offset])
        if member is None:
            raise ScaleError(f"{self.cls.__name__} has no variant {data[offset]} (byte {offset})")
        return member, offset + 1


def _measure(value: object) -> str:
    return str(len(value)) if isinstance(value, bytes | list | tuple) else repr(value)


# --- description ---------------------------------------------------------------------------------------------------


def split_path(path: str) -> tuple[str, ...]:
    """A Rust path as scale-info's segments."""
    return tuple(path.split("::")) if path else ()


def split_docs(docs: str | None) -> tuple[str, ...]:
    """A docstring as scale-info's lines."""
    return tuple(line.strip() for line in docs.strip().splitlines()) if docs else ()


def docs_of(cls: type) -> tuple[str, ...]:
    """A class's docstring, without those that Python writes itself."""
    docs = cls.__dict__.get("__doc__")
    generated = docs is None or docs.startswith(f"{cls.__name__}(") or docs == "An enumeration."
    return () if generated else split_docs(docs)


def path_of(cls: type) -> tuple[str, ...]:
    """The type path that `@scale_path` gave, else one of the class and its file."""
    path: tuple[str, ...] | None = cls.__dict__.get("__scale_path__")
    return path if path is not None else ("potchain", cls.__module__.rpartition(".")[2], cls.__name__)


def scale_path(path: str, *, unnamed: bool = False, **params: Any) -> Callable[[C], C]:
    """Describe a class in metadata under a Rust path; `unnamed` fields make it a tuple struct.

    `params` are its type parameters as annotations: `@scale_path("frame_system::AccountInfo", Nonce=u32)`.
    """

    def mark(cls: C) -> C:
        cls.__scale_path__ = split_path(path)  # type: ignore[attr-defined]
        cls.__scale_unnamed__ = unnamed  # type: ignore[attr-defined]
        cls.__scale_params__ = params  # type: ignore[attr-defined]
        return cls

    return mark


def variant(index: int, name: str | None = None, *, unnamed: bool = False) -> Callable[[C], C]:
    """Make a dataclass the variant `index` of a tagged union; `name` where it differs from the class's own."""
    if not 0 <= index <= 255:
        raise TypeError(f"a variant's index is 0 to 255, got {index}")

    def mark(cls: C) -> C:
        cls.__scale_variant__ = (index, name or cls.__name__)  # type: ignore[attr-defined]
        cls.__scale_unnamed__ = unnamed  # type: ignore[attr-defined]
        return cls

    return mark


def variant_of(cls: type) -> tuple[int, str]:
    """The index and name that `@variant` gave."""
    found: tuple[int, str] | None = cls.__dict__.get("__scale_variant__")
    if found is None:
        raise TypeError(f"{cls.__name__} needs @variant(index) to be part of a tagged union")
    return found


def field_codecs(cls: type) -> tuple[tuple[str, Codec[Any]], ...]:
    """A dataclass's fields in order with the codecs of their annotations."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return tuple((field.name, codec_of(hints[field.name])) for field in dataclasses.fields(cls))


# --- annotations ---------------------------------------------------------------------------------------------------

_PLAIN: dict[Any, Codec[Any]] = {bool: BOOL, str: STR, bytes: BYTES, None: UNIT, type(None): UNIT}


@cache
def codec_of(annotation: Any) -> Codec[Any]:
    """The codec of a type annotation (see the module's aliases for integers)."""
    if isinstance(annotation, Codec):
        return annotation
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        found = [item for item in arguments[1:] if isinstance(item, Codec)]
        return found[0] if found else codec_of(arguments[0])
    if origin is list:
        return Vec(codec_of(arguments[0]))
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return Vec(codec_of(arguments[0]), tuple)
        return Tuple(*map(codec_of, arguments))
    if origin in (typing.Union, types.UnionType):
        some = [item for item in arguments if item is not type(None)]
        if len(some) == 1 and len(arguments) == 2:
            return Option(codec_of(some[0]))
        raise TypeError(f"{annotation}: a union other than T | None needs Annotated[A | B, Enum(path, A, B)]")
    if isinstance(annotation, type):
        if issubclass(annotation, enum.IntEnum):
            return FieldlessEnum(annotation)
        if dataclasses.is_dataclass(annotation):
            return Struct(annotation)
    raise TypeError(f"{annotation!r} has no SCALE encoding; integers need a width (u8 … u256, compact32 …)")


def codecs_of(annotations: Iterable[Any]) -> tuple[Codec[Any], ...]:
    """The codecs of several annotations."""
    return tuple(map(codec_of, annotations))


def encode(annotation: Any, value: Any) -> bytes:
    """Encode `value` as `annotation` says."""
    return codec_of(annotation).encode(value)


@overload
def decode(annotation: type[T], data: bytes) -> T: ...
@overload
def decode(annotation: Any, data: bytes) -> Any: ...
def decode(annotation: Any, data: bytes) -> Any:
    """Decode the whole of `data` as `annotation` says."""
    return codec_of(annotation).decode(data)


u8 = Annotated[int, U8]
u16 = Annotated[int, U16]
u32 = Annotated[int, U32]
u64 = Annotated[int, U64]
u128 = Annotated[int, U128]
u256 = Annotated[int, U256]
i8 = Annotated[int, I8]
i16 = Annotated[int, I16]
i32 = Annotated[int, I32]
i64 = Annotated[int, I64]
i128 = Annotated[int, I128]
compact32 = Annotated[int, Compact(U32)]
compact64 = Annotated[int, Compact(U64)]
compact128 = Annotated[int, Compact(U128)]

ACCOUNT_ID = FixedBytes(32, "sp_core::crypto::AccountId32")
HASH256 = FixedBytes(32, "primitive_types::H256")
AccountId = Annotated[bytes, ACCOUNT_ID]
H256 = Annotated[bytes, HASH256]
Balance = u128
