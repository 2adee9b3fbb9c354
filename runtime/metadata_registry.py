"""scale-info's portable registry: every type of the runtime once, described by its codec.

A codec describes itself completely; what only a composed runtime knows (its outer enums) is described in metadata.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from chain.primitives import scale
from chain.primitives.scale import U8, Codec
from chain.primitives.types import EraCodec
from runtime.metadata_types import (
    CompactOf,
    Composite,
    Definition,
    Field,
    FixedArray,
    PortableType,
    Primitive,
    PrimitiveKind,
    Sequence,
    TupleOf,
    Type,
    TypeParameter,
    VariantField,
    Variants,
)
from runtime.storage import pascal_case


class Registry:
    """Every type once, under the id of its first mention."""

    def __init__(self) -> None:
        self._ids: dict[object, int] = {}
        self._types: list[Type | None] = []

    def types(self) -> tuple[PortableType, ...]:
        """Everything that was mentioned."""
        return tuple(PortableType(number, entry) for number, entry in enumerate(self._types) if entry is not None)

    def add(self, key: object, describe: Callable[[], Type]) -> int:
        """The id of what `key` identifies; described on the first mention, after its id is known (types may recur)."""
        found = self._ids.get(key)
        if found is None:
            found = self._ids[key] = len(self._types)
            self._types.append(None)
            self._types[found] = describe()
        return found

    def id(self, codec: Codec[Any]) -> int:
        """The id of a codec's type."""
        return self.add(_key(codec), lambda: self._describe(codec))

    def field(self, name: str | None, codec: Codec[Any]) -> Field:
        """A field; an underscore that keeps a name out of Python's keywords is not part of it."""
        return Field(name.rstrip("_") if name else None, self.id(codec), type_name(codec))

    def fields(self, fields: Iterable[tuple[str, Codec[Any]]], *, unnamed: bool = False) -> tuple[Field, ...]:
        """Several fields, without their names for tuple structs."""
        return tuple(self.field(None if unnamed else name, codec) for name, codec in fields)

    def params(self, params: Iterable[tuple[str, Codec[Any] | None]]) -> tuple[TypeParameter, ...]:
        """Type parameters."""
        return tuple(TypeParameter(name, None if codec is None else self.id(codec)) for name, codec in params)

    def _describe(self, codec: Codec[Any]) -> Type:
        # Parameters after the definition: ids then grow in the order in which fields mention their types.
        definition = self.definition(codec)
        return Type(codec.path, self.params(codec.params), definition, codec.docs)

    def definition(self, codec: Codec[Any]) -> Definition:
        """What a codec's type is made of; TypeError for a kind of codec that has no description."""
        match codec:
            case scale.Int() | scale.Bool() | scale.Str():
                return Primitive(PrimitiveKind[codec.name])
            case scale.Bytes():
                return Sequence(self.id(U8))
            case scale.FixedBytes() if codec.path:
                array = scale.FixedBytes(codec.size)
                return Composite((self.field(None, array),))
            case scale.FixedBytes():
                return FixedArray(codec.size, self.id(U8))
            case scale.Compact():
                return CompactOf(self.id(codec.inner))
            case scale.Vec():
                return Sequence(self.id(codec.inner))
            case scale.Array():
                return FixedArray(codec.count, self.id(codec.inner))
            case scale.Tuple():
                return TupleOf(tuple(map(self.id, codec.inner)))
            case scale.Option():
                some = VariantField("Some", (self.field(None, codec.inner),), 1)
                return Variants((VariantField("None", (), 0), some))
            case scale.Newtype():
                return Composite((self.field(None, codec.inner),))
            case scale.Struct():
                return Composite(self.fields(codec.fields, unnamed=codec.unnamed))
            case scale.Enum():
                return Variants(
                    tuple(
                        VariantField(
                            scale.variant_of(item.cls)[1],
                            self.fields(item.fields, unnamed=item.unnamed),
                            index,
                            item.docs,
                        )
                        for index, item in sorted(codec.variants.items())
                    )
                )
            case scale.FieldlessEnum():
                return Variants(
                    tuple(
                        VariantField(pascal_case(member.name.lower()), (), member.value) for member in sorted(codec.cls)
                    )
                )
            case EraCodec():
                mortal = (
                    VariantField(f"Mortal{first}", (Field(None, self.id(U8), None),), first) for first in range(1, 256)
                )
                return Variants((VariantField("Immortal", (), 0), *mortal))
            case _:
                raise TypeError(f"metadata cannot describe {type(codec).__name__}")


def type_name(codec: Codec[Any]) -> str | None:
    """How Rust would write a type, for clients to show."""
    match codec:
        case scale.Int() | scale.Bool() | scale.Str():
            return codec.name
        case scale.Bytes():
            return "Vec<u8>"
        case scale.Option() | scale.Vec() | scale.Compact():
            inner = type_name(codec.inner)
            return inner and f"{type(codec).__name__}<{inner}>"
        case scale.FixedBytes() if not codec.path:
            return f"[u8; {codec.size}]"
        case scale.Array():
            inner = type_name(codec.inner)
            return inner and f"[{inner}; {codec.count}]"
        case scale.Tuple():
            names = [type_name(item) or "_" for item in codec.inner]
            return f"({', '.join(names)})"
        case _:
            return codec.path[-1] if codec.path else None


def _key(codec: Codec[Any]) -> object:
    """What makes two codecs the same type: structure for anonymous ones, the class or path for named ones."""
    match codec:
        case scale.Int() | scale.Bool() | scale.Str():
            return codec.name
        case scale.Bytes():
            return "vec", "u8"
        case scale.FixedBytes():
            return "bytes", codec.size, codec.path
        case scale.Compact() | scale.Option() | scale.Array() | scale.Newtype():
            return type(codec).__name__, codec.path, getattr(codec, "count", 0), _key(codec.inner)
        case scale.Vec():
            return "vec", _key(codec.inner)
        case scale.Tuple():
            return "tuple", *map(_key, codec.inner)
        case scale.Struct() | scale.FieldlessEnum():
            return codec.cls
        case scale.Enum():
            return codec.path, *(item.cls for item in codec.variants.values())
        case _:
            return codec
