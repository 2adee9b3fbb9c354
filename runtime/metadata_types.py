"""The layouts of metadata V14 and V15 and of scale-info's type registry, as SCALE dataclasses.

They are frame_metadata's and scale-info's, field by field; numbers called `type` or ending in `_type` are registry ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from chain.primitives.scale import Enum, compact32, u8, u32, variant
from runtime.storage import Hasher

TypeId = compact32
MAGIC = b"meta"


# --- scale-info ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Field:
    name: str | None
    type: TypeId
    type_name: str | None
    docs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VariantField:
    name: str
    fields: tuple[Field, ...]
    index: u8
    docs: tuple[str, ...] = ()


@variant(0, unnamed=True)
@dataclass(frozen=True, slots=True)
class Composite:
    fields: tuple[Field, ...]


@variant(1, "Variant", unnamed=True)
@dataclass(frozen=True, slots=True)
class Variants:
    variants: tuple[VariantField, ...]


@variant(2, unnamed=True)
@dataclass(frozen=True, slots=True)
class Sequence:
    type: TypeId


@variant(3)
@dataclass(frozen=True, slots=True)
class FixedArray:
    length: u32
    type: TypeId


@variant(4, unnamed=True)
@dataclass(frozen=True, slots=True)
class TupleOf:
    types: tuple[TypeId, ...]


class PrimitiveKind(IntEnum):
    """Members are named as the codecs are."""

    bool = 0
    char = 1
    str = 2
    u8 = 3
    u16 = 4
    u32 = 5
    u64 = 6
    u128 = 7
    u256 = 8
    i8 = 9
    i16 = 10
    i32 = 11
    i64 = 12
    i128 = 13
    i256 = 14


@variant(5, unnamed=True)
@dataclass(frozen=True, slots=True)
class Primitive:
    kind: PrimitiveKind


@variant(6, unnamed=True)
@dataclass(frozen=True, slots=True)
class CompactOf:
    type: TypeId


Definition = Annotated[
    Composite | Variants | Sequence | FixedArray | TupleOf | Primitive | CompactOf,
    Enum("scale_info::ty::TypeDef", Composite, Variants, Sequence, FixedArray, TupleOf, Primitive, CompactOf),
]


@dataclass(frozen=True, slots=True)
class TypeParameter:
    name: str
    type: TypeId | None


@dataclass(frozen=True, slots=True)
class Type:
    path: tuple[str, ...]
    params: tuple[TypeParameter, ...]
    definition: Definition
    docs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PortableType:
    number: TypeId
    type: Type


# --- frame_metadata ------------------------------------------------------------------------------------------------


class Modifier(IntEnum):
    """What an absent storage value reads as."""

    OPTIONAL = 0
    DEFAULT = 1


@variant(0, unnamed=True)
@dataclass(frozen=True, slots=True)
class Plain:
    value_type: TypeId


@variant(1)
@dataclass(frozen=True, slots=True)
class Map:
    hashers: tuple[Hasher, ...]
    key_type: TypeId
    value_type: TypeId


@dataclass(frozen=True, slots=True)
class StorageEntry:
    name: str
    modifier: Modifier
    type: Annotated[Plain | Map, Enum("frame_metadata::v14::StorageEntryType", Plain, Map)]
    default: bytes
    docs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PalletStorage:
    prefix: str
    entries: tuple[StorageEntry, ...]


@dataclass(frozen=True, slots=True)
class PalletConstant:
    name: str
    type: TypeId
    value: bytes
    docs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PalletV14:
    name: str
    storage: PalletStorage | None
    call_type: TypeId | None
    event_type: TypeId | None
    constants: tuple[PalletConstant, ...]
    error_type: TypeId | None
    index: u8


@dataclass(frozen=True, slots=True)
class PalletV15:
    name: str
    storage: PalletStorage | None
    call_type: TypeId | None
    event_type: TypeId | None
    constants: tuple[PalletConstant, ...]
    error_type: TypeId | None
    index: u8
    docs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SignedExtension:
    """`type` is what the extrinsic carries, `additional_type` what is signed besides."""

    identifier: str
    type: TypeId
    additional_type: TypeId


@dataclass(frozen=True, slots=True)
class ExtrinsicV14:
    type: TypeId
    version: u8
    signed_extensions: tuple[SignedExtension, ...]


@dataclass(frozen=True, slots=True)
class ExtrinsicV15:
    version: u8
    address_type: TypeId
    call_type: TypeId
    signature_type: TypeId
    extra_type: TypeId
    signed_extensions: tuple[SignedExtension, ...]


@dataclass(frozen=True, slots=True)
class MetadataV14:
    types: tuple[PortableType, ...]
    pallets: tuple[PalletV14, ...]
    extrinsic: ExtrinsicV14
    runtime_type: TypeId


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    type: TypeId


@dataclass(frozen=True, slots=True)
class RuntimeApiMethod:
    name: str
    inputs: tuple[Parameter, ...]
    output_type: TypeId
    docs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RuntimeApi:
    name: str
    methods: tuple[RuntimeApiMethod, ...]
    docs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OuterEnums:
    call_type: TypeId
    event_type: TypeId
    error_type: TypeId


@dataclass(frozen=True, slots=True)
class CustomValue:
    name: str
    type: TypeId
    value: bytes


@dataclass(frozen=True, slots=True)
class MetadataV15:
    types: tuple[PortableType, ...]
    pallets: tuple[PalletV15, ...]
    extrinsic: ExtrinsicV15
    runtime_type: TypeId
    apis: tuple[RuntimeApi, ...]
    outer_enums: OuterEnums
    custom: tuple[CustomValue, ...]
