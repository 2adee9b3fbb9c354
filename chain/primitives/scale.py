"""SCALE derived from type annotations: dataclasses, tagged unions and enums, and the aliases that modules write.

Every name of scale_codecs.py that others use is here too: `chain.primitives.scale` is where SCALE is imported from.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Iterable
from functools import cache
from typing import Annotated, Any, TypeVar, overload

from chain.primitives.scale_codecs import (
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
    UNIT,
    Array,
    Bool,
    Bytes,
    Codec,
    Compact,
    FixedBytes,
    Int,
    Newtype,
    Opaque,
    Option,
    ScaleError,
    Str,
    Tuple,
    Vec,
    compact_decode,
    compact_encode,
    short,
    split_docs,
    split_path,
)

__all__ = [
    "ACCOUNT_ID",
    "BOOL",
    "BYTES",
    "H256",
    "HASH256",
    "I8",
    "I16",
    "I32",
    "I64",
    "I128",
    "I256",
    "STR",
    "U8",
    "U16",
    "U32",
    "U64",
    "U128",
    "U256",
    "UNIT",
    "AccountId",
    "Array",
    "Balance",
    "Bool",
    "Bytes",
    "Codec",
    "Compact",
    "Enum",
    "FieldlessEnum",
    "FixedBytes",
    "Int",
    "Newtype",
    "Opaque",
    "Option",
    "ScaleError",
    "Str",
    "Struct",
    "Tuple",
    "Vec",
    "codec_of",
    "codecs_of",
    "compact32",
    "compact64",
    "compact128",
    "compact_decode",
    "compact_encode",
    "decode",
    "docs_of",
    "encode",
    "field_codecs",
    "i8",
    "i16",
    "i32",
    "i64",
    "i128",
    "path_of",
    "scale_path",
    "split_docs",
    "split_path",
    "u8",
    "u16",
    "u32",
    "u64",
    "u128",
    "u256",
    "variant",
    "variant_of",
]

T = TypeVar("T")
C = TypeVar("C", bound=type)


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
            raise short(offset, 1, data)
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
            raise short(offset, 1, data)
        member = self._members.get(data[offset])
        if member is None:
            raise ScaleError(f"{self.cls.__name__} has no variant {data[offset]} (byte {offset})")
        return member, offset + 1


# --- description ---------------------------------------------------------------------------------------------------


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
