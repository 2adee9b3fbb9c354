"""Typed storage items: declared in a module's class, bound to a state when the module is instantiated.

Keys are Substrate's: `twox128(module) ++ twox128(item) ++ hasher(key)…`, so that any Substrate client reads them.
Iteration is by ascending storage key, which for hashed keys is not the order of the keys themselves.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar, overload

from chain.primitives.hashing import blake2_128_concat, storage_prefix, twox_64_concat
from chain.primitives.scale import Codec, codec_of
from runtime.state import State

if TYPE_CHECKING:
    from runtime.composition import Runtime
    from runtime.framework import Module

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


class Hasher(IntEnum):
    """How a map's key becomes part of a storage key, by metadata's indexes. All of these can be read back.

    Blake2_128Concat for keys that someone can choose; Twox64Concat (faster) where the chain numbers them;
    Identity for keys that are hashes already.
    """

    BLAKE2_128_CONCAT = 2
    TWOX_64_CONCAT = 5
    IDENTITY = 6


def _identity(key: bytes) -> bytes:
    return key


_HASH: Final[dict[Hasher, tuple[Callable[[bytes], bytes], int]]] = {
    Hasher.BLAKE2_128_CONCAT: (blake2_128_concat, 16),
    Hasher.TWOX_64_CONCAT: (twox_64_concat, 8),
    Hasher.IDENTITY: (_identity, 0),
}

_MISSING: Final = object()


@dataclasses.dataclass(frozen=True, eq=False)
class StorageInfo:
    """A storage item of one runtime: what accessors and metadata are made from."""

    name: str  # PascalCase, as clients see it
    attribute: str
    prefix: bytes
    keys: tuple[Codec[Any], ...]  # none for a value
    hashers: tuple[Hasher, ...]
    value: Codec[Any]
    default: Any  # of a value that is absent, if `optional` is False
    fresh_default: bool  # whether each caller needs a default of its own, lest it spoils the next one's
    optional: bool
    docs: tuple[str, ...]

    @property
    def default_bytes(self) -> bytes:
        """The default as metadata carries it: one zero byte stands for None."""
        return b"\0" if self.optional else self.value.encode(self.default)


class StorageItem:
    """The declaration of a storage item. `codec` is for the one type that only a whole runtime knows (events)."""

    def __init__(
        self, default: Any = _MISSING, *, doc: str = "", codec: Callable[[Runtime[Any]], Codec[Any]] | None = None
    ) -> None:
        self.attribute = ""
        self.default = default
        self.doc = doc
        self._codec = codec

    def __set_name__(self, owner: type, name: str) -> None:
        self.attribute = name
        if not hasattr(self, "__orig_class__"):
            raise TypeError(f"{owner.__name__}.{name}: name its types, as in {type(self).__name__}[u32](default=0)")

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The types in brackets."""
        return typing.get_args(self.__orig_class__)  # type: ignore[attr-defined]

    def info(self, module: str, runtime: Runtime[Any]) -> StorageInfo:
        """This item in a runtime."""
        name = pascal_case(self.attribute)
        keys, hashers = self.key_codecs()
        return StorageInfo(
            name=name,
            attribute=self.attribute,
            prefix=storage_prefix(module, name),
            keys=keys,
            hashers=hashers,
            value=self._codec(runtime) if self._codec else codec_of(self.arguments[-1]),
            default=None if self.default is _MISSING else self.default,
            fresh_default=not _is_immutable(self.default),
            optional=self.default is _MISSING,
            docs=tuple(line.strip() for line in self.doc.strip().splitlines()),
        )

    def key_codecs(self) -> tuple[tuple[Codec[Any], ...], tuple[Hasher, ...]]:
        """The codecs and hashers of the keys, outermost first."""
        return (), ()


class StorageValue(StorageItem, Generic[T]):
    """One value: `issuance = StorageValue[Balance](default=0)`, then `self.issuance.get()` and `.put(…)`."""

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: Module, owner: type) -> Value[T]: ...
    def __get__(self, instance: Module | None, owner: type) -> Self | Value[T]:
        if instance is None:
            return self
        accessor: Value[T] = Value(instance.info.storage[self.attribute], instance.state)
        instance.__dict__[self.attribute] = accessor  # found before this descriptor from now on
        return accessor


class StorageMap(StorageItem, Generic[K, V]):
    """Values by key: `owed = StorageMap[AccountId, Balance](default=0)`, then `self.owed[worker]`.

    A key `tuple[A, B]` makes a map of several keys, each hashed for itself, that can be iterated by its first ones.
    Without a default, reading an absent key is a KeyError: a bug unless the caller checked; `.get` returns None.
    """

    def __init__(
        self,
        default: Any = _MISSING,
        *,
        hasher: Hasher | tuple[Hasher, ...] = Hasher.BLAKE2_128_CONCAT,
        doc: str = "",
    ) -> None:
        super().__init__(default, doc=doc)
        self._hasher = hasher

    def key_codecs(self) -> tuple[tuple[Codec[Any], ...], tuple[Hasher, ...]]:
        key = self.arguments[0]
        several = typing.get_origin(key) is tuple
        codecs = tuple(map(codec_of, typing.get_args(key) if several else (key,)))
        hashers = self._hasher if isinstance(self._hasher, tuple) else (self._hasher,) * len(codecs)
        if len(hashers) != len(codecs):
            raise TypeError(f"{self.attribute}: expected {len(codecs)} hashers, one a key, got {len(hashers)}")
        return codecs, hashers

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: Module, owner: type) -> Map[K, V]: ...
    def __get__(self, instance: Module | None, owner: type) -> Self | Map[K, V]:
        if instance is None:
            return self
        info = instance.info.storage[self.attribute]
        accessor: Map[K, V] = (Map if len(info.keys) == 1 else TupleMap)(info, instance.state)
        instance.__dict__[self.attribute] = accessor  # found before this descriptor from now on
        return accessor


class _Access:
    """What both kinds of accessor share: the state, and a default that a caller cannot spoil for the next one."""

    __slots__ = ("_decode", "_default", "_encode", "_prefix", "_state", "info")

    def __init__(self, info: StorageInfo, state: State) -> None:
        self.info = info
        self._state = state
        self._prefix = info.prefix
        self._decode: Callable[[bytes], Any] = info.value.decode
        self._encode: Callable[[Any], bytes] = info.value.encode
        self._default: Any = _MISSING if info.optional else info.default

    def _absent(self, key: object) -> Any:
        if self._default is _MISSING:
            raise KeyError(f"{self.info.name} has no value{'' if key is None else f' for {key!r}'}")
        return self._decode(self.info.default_bytes) if self.info.fresh_default else self._default


class Value(_Access, Generic[T]):
    """A storage value in a state."""

    __slots__ = ()

    @property
    def key(self) -> bytes:
        """The storage key."""
        return self._prefix

    def get(self) -> T:
        """The value, or its default; KeyError if it has none."""
        raw = self._state.get(self._prefix)
        value: T = self._absent(None) if raw is None else self._decode(raw)
        return value

    def put(self, value: T) -> None:
        """Set the value."""
        self._state.put(self._prefix, self._encode(value))

    def kill(self) -> None:
        """Forget the value."""
        self._state.remove(self._prefix)

    def exists(self) -> bool:
        """Whether a value is stored."""
        return self._state.get(self._prefix) is not None


class Map(_Access, Generic[K, V]):
    """A storage map in a state."""

    __slots__ = ("_encode_key", "_hash")

    def __init__(self, info: StorageInfo, state: State) -> None:
        super().__init__(info, state)
        self._encode_key: Callable[[Any], bytes] = info.keys[0].encode
        self._hash = _HASH[info.hashers[0]][0]

    def key(self, key: K) -> bytes:
        """The storage key of `key`."""
        return self._prefix + self._hash(self._encode_key(key))

    def __getitem__(self, key: K) -> V:
        raw = self._state.get(self.key(key))
        value: V = self._absent(key) if raw is None else self._decode(raw)
        return value

    def __setitem__(self, key: K, value: V) -> None:
        self._state.put(self.key(key), self._encode(value))

    def __contains__(self, key: K) -> bool:
        return self._state.get(self.key(key)) is not None

    def get(self, key: K) -> V | None:
        """The stored value, or None (whatever the default)."""
        raw = self._state.get(self.key(key))
        if raw is None:
            return None
        value: V = self._decode(raw)
        return value

    def remove(self, key: K) -> None:
        """Forget `key`."""
        self._state.remove(self.key(key))

    def items(self, *first: object) -> Iterator[tuple[K, V]]:
        """The stored keys and values by ascending storage key; of a map of several keys, those that begin with `first`.

        What is removed meanwhile is skipped, what is added meanwhile is not seen.
        """
        for raw_key in self._state.keys(self._iteration_prefix(first)):
            raw = self._state.get(raw_key)
            if raw is not None:
                yield self._decode_key(raw_key), self._decode(raw)

    def keys(self, *first: object) -> Iterator[K]:
        """The stored keys, in the order of `items`."""
        for raw_key in self._state.keys(self._iteration_prefix(first)):
            yield self._decode_key(raw_key)

    def values(self, *first: object) -> Iterator[V]:
        """The stored values, in the order of `items`."""
        for _, value in self.items(*first):
            yield value

    def clear(self, *first: object) -> None:
        """Forget every key, or those that begin with `first`."""
        for raw_key in list(self._state.keys(self._iteration_prefix(first))):
            self._state.remove(raw_key)

    def _iteration_prefix(self, first: tuple[object, ...]) -> bytes:
        info = self.info
        if len(first) > len(info.keys):
            raise TypeError(f"{info.name} has {len(info.keys)} keys, got {len(first)}")
        parts = (
            _HASH[hasher][0](codec.encode(item))
            for item, codec, hasher in zip(first, info.keys, info.hashers, strict=False)
        )
        return self._prefix + b"".join(parts)

    def _decode_key(self, raw: bytes) -> K:
        key: K = self.info.keys[0].decode(raw[len(self._prefix) + _HASH[self.info.hashers[0]][1] :])
        return key


class TupleMap(Map[K, V]):
    """A storage map of several keys in a state."""

    __slots__ = ("_parts",)

    def __init__(self, info: StorageInfo, state: State) -> None:
        super().__init__(info, state)
        self._parts = tuple(
            (codec.encode, _HASH[hasher][0]) for codec, hasher in zip(info.keys, info.hashers, strict=True)
        )

    def key(self, key: K) -> bytes:
        items = typing.cast(tuple[Any, ...], key)
        if len(items) != len(self._parts):
            raise TypeError(f"{self.info.name} has {len(self._parts)} keys, got {len(items)}")
        return self._prefix + b"".join(
            [hasher(encode(item)) for item, (encode, hasher) in zip(items, self._parts, strict=True)]
        )

    def _decode_key(self, raw: bytes) -> K:
        offset = len(self._prefix)
        items = []
        for codec, hasher in zip(self.info.keys, self.info.hashers, strict=True):
            item, offset = codec.decode_at(raw, offset + _HASH[hasher][1])
            items.append(item)
        return typing.cast(K, tuple(items))


def pascal_case(name: str) -> str:
    """`total_issuance` as clients see it: `TotalIssuance`."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def camel_case(name: str) -> str:
    """`transaction_payment` as a genesis file writes it: `transactionPayment`."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def snake_case(name: str) -> str:
    """`TotalIssuance` as Python writes it: `total_issuance`."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _is_immutable(value: object) -> bool:
    if isinstance(value, list | dict | set | bytearray):
        return False
    if isinstance(value, tuple):
        return all(map(_is_immutable, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return all(_is_immutable(getattr(value, field.name)) for field in dataclasses.fields(value))
    return True
