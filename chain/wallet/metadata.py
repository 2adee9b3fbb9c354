"""A chain's metadata, V14 or V15, as its node gave it: what can be called and read there, found by name.

Rule: nothing of it is taken from the runtime that is installed here, and all of it is a stranger's: it is read
strictly, within bounds, before anything of it is believed.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol, TypeVar

from chain.primitives.scale import ScaleError, Struct
from runtime.metadata_types import (
    MAGIC,
    Field,
    Map,
    MetadataV14,
    MetadataV15,
    PalletConstant,
    PalletV14,
    PalletV15,
    StorageEntry,
    TupleOf,
    Type,
    VariantField,
    Variants,
)

# Ours has 70 kB, the largest of public chains under 1 MB; an object takes up to eighty times its bytes.
METADATA_BYTES_MAX: Final = 2 * 1024 * 1024
# So many of the names that there are say enough of what there is.
NAMES_SHOWN_MAX: Final = 40


class MetadataError(ValueError):
    """The metadata is none, or contradicts itself: the node's fault."""


class UnknownName(ValueError):
    """There is no such module, call, item or constant; the message says what there is."""


class Named(Protocol):
    """What is found by its name."""

    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=Named)


@dataclass(frozen=True, slots=True)
class Call:
    """A call: what a transaction has a module do. `prefix` is its module's index and its own."""

    module: str
    name: str
    prefix: bytes
    fields: tuple[Field, ...]
    docs: tuple[str, ...]

    @property
    def path(self) -> str:
        """As people write it: `balances.transfer_keep_alive`."""
        return f"{snake_case(self.module)}.{self.name}"


@dataclass(frozen=True, slots=True)
class Item:
    """A storage item; `keys` are the types of a map's keys, none for a single value."""

    module: str
    prefix: str
    entry: StorageEntry
    keys: tuple[int, ...]
    value: int

    @property
    def name(self) -> str:
        return self.entry.name


@dataclass(frozen=True, slots=True)
class Module:
    """What a module of the chain offers."""

    name: str
    index: int
    calls: tuple[Call, ...]
    items: tuple[Item, ...]
    constants: tuple[PalletConstant, ...]
    events: tuple[VariantField, ...]
    errors: tuple[VariantField, ...]
    docs: tuple[str, ...]


@dataclass(frozen=True)
class Metadata:
    """Everything that a wallet reads of it. `raw` are its bytes, which a prepared transaction carries along."""

    raw: bytes
    types: dict[int, Type]
    modules: tuple[Module, ...]
    call_type: int
    event_type: int
    extrinsic_version: int
    extensions: tuple[str, ...]

    @classmethod
    def parse(cls, raw: bytes) -> Metadata:
        """From the bytes that begin with `meta`; MetadataError says what is wrong with them."""
        if len(raw) > METADATA_BYTES_MAX:
            raise MetadataError(f"expected metadata of at most {METADATA_BYTES_MAX} bytes, got {len(raw)}")
        versions: dict[bytes, type[MetadataV14 | MetadataV15]] = {
            MAGIC + b"\x0e": MetadataV14,
            MAGIC + b"\x0f": MetadataV15,
        }
        found = versions.get(raw[:5])
        if found is None:
            raise MetadataError(f"expected metadata of version 14 or 15, got bytes that begin with 0x{raw[:5].hex()}")
        try:
            parts: MetadataV14 | MetadataV15 = Struct[Any](found).decode(raw[5:])
        except ScaleError as error:
            raise MetadataError(f"the metadata does not decode: {error}") from None
        types = {entry.number: entry.type for entry in parts.types}
        if isinstance(parts, MetadataV15):
            call_type, event_type = parts.outer_enums.call_type, parts.outer_enums.event_type
        else:
            call_type = _parameter(_type(types, parts.extrinsic.type), "Call")
            event_type = next((key for key, type in types.items() if type.path[-1:] == ("RuntimeEvent",)), -1)
        return cls(
            raw=raw,
            types=types,
            modules=tuple(_module(types, pallet) for pallet in parts.pallets),
            call_type=call_type,
            event_type=event_type,
            extrinsic_version=parts.extrinsic.version,
            extensions=tuple(extension.identifier for extension in parts.extrinsic.signed_extensions),
        )

    def type(self, number: int) -> Type:
        """A type of the registry; MetadataError where it has none of this number."""
        return _type(self.types, number)

    def module(self, name: str) -> Module:
        """A module by its name, however that is written; UnknownName says which there are."""
        return named("module", name, self.modules)

    def call(self, path: str) -> Call:
        """A call by `module.name`; UnknownName says what there is instead."""
        module, dot, name = path.partition(".")
        if not dot:
            raise UnknownName(f"expected a call such as balances.transfer_keep_alive, got {path[:80]!r}")
        found = named("module", module, [each for each in self.modules if each.calls], snake_case)
        return named(f"call of {snake_case(found.name)}", name, found.calls)

    def item(self, module: str, name: str) -> tuple[Module, Item | PalletConstant]:
        """What a module stores or holds constant under a name; UnknownName says what there is instead."""
        found = self.module(module)
        there: list[Item | PalletConstant] = [*found.items, *found.constants]
        return found, named(f"item of {found.name}", name, there)

    @cached_property
    def at_index(self) -> dict[int, Module]:
        """The modules by their indexes."""
        return {module.index: module for module in self.modules}

    @cached_property
    def calls(self) -> dict[bytes, Call]:
        """The calls by the two bytes that they begin with."""
        return {call.prefix: call for module in self.modules for call in module.calls}

    @cached_property
    def dispatch_error(self) -> int:
        """The type of why a call failed, by the event that says so."""
        for module in self.modules:
            for event in module.events:
                if module.name == "System" and event.name == "ExtrinsicFailed" and event.fields:
                    return event.fields[0].type
        raise MetadataError("the metadata has no event System.ExtrinsicFailed")


def _type(types: dict[int, Type], number: int) -> Type:
    found = types.get(number)
    if found is None:
        raise MetadataError(f"the metadata mentions type {number}, and describes none of that number")
    return found


def _parameter(type: Type, name: str) -> int:
    for parameter in type.params:
        if parameter.name == name and parameter.type is not None:
            return parameter.type
    raise MetadataError(f"the metadata's extrinsic names no {name}")


def _variants(types: dict[int, Type], number: int | None) -> tuple[VariantField, ...]:
    if number is None:
        return ()
    definition = _type(types, number).definition
    if not isinstance(definition, Variants):
        raise MetadataError(f"expected type {number} to have variants, got {type(definition).__name__}")
    return definition.variants


def _module(types: dict[int, Type], pallet: PalletV14 | PalletV15) -> Module:
    calls = _variants(types, pallet.call_type)
    storage = pallet.storage
    return Module(
        name=pallet.name,
        index=pallet.index,
        calls=tuple(
            Call(pallet.name, call.name, bytes((pallet.index, call.index)), call.fields, call.docs) for call in calls
        ),
        items=tuple(_item(types, pallet.name, storage.prefix, entry) for entry in storage.entries) if storage else (),
        constants=pallet.constants,
        events=_variants(types, pallet.event_type),
        errors=_variants(types, pallet.error_type),
        docs=pallet.docs if isinstance(pallet, PalletV15) else (),
    )


def _item(types: dict[int, Type], module: str, prefix: str, entry: StorageEntry) -> Item:
    kind = entry.type
    if not isinstance(kind, Map):
        return Item(module, prefix, entry, (), kind.value_type)
    keys: tuple[int, ...] = (kind.key_type,)
    if len(kind.hashers) != 1:
        definition = _type(types, kind.key_type).definition
        keys = definition.types if isinstance(definition, TupleOf) else ()
        if len(keys) != len(kind.hashers) or not keys:
            raise MetadataError(f"{module}.{entry.name}: expected a key for each of {len(kind.hashers)} hashers")
    return Item(module, prefix, entry, keys, kind.value_type)


# --- names ---------------------------------------------------------------------------------------------------------


def named(what: str, wanted: str, there: Iterable[N], spelled: Callable[[str], str] = str) -> N:
    """What bears a name, in whichever way it is written; UnknownName suggests what is meant, or lists what there is."""
    known = {plain(each.name): each for each in there}
    found = known.get(plain(wanted))
    if found is not None:
        return found
    near = difflib.get_close_matches(plain(wanted), known, 3)
    if near:
        guesses = " or ".join(spelled(known[each].name) for each in near)
        raise UnknownName(f"no {what} is called {wanted[:80]!r}: did you mean {guesses}?")
    names = [spelled(each.name) for each in known.values()]
    more = f" and {len(names) - NAMES_SHOWN_MAX} more" if len(names) > NAMES_SHOWN_MAX else ""
    raise UnknownName(
        f"no {what} is called {wanted[:80]!r}: there is {', '.join(names[:NAMES_SHOWN_MAX]) or 'none'}{more}"
    )


def plain(name: str) -> str:
    """A name without what people spell differently: case, hyphens and underscores."""
    return name.replace("_", "").replace("-", "").lower()


_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def snake_case(name: str) -> str:
    """`TransactionPayment` as calls are written: `transaction_payment`."""
    return _HUMP.sub("_", name).lower()
