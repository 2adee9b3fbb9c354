"""SCALE's codecs: integers, bytes, text, vectors, arrays, tuples, options.

The decoder rejects every input that the encoder would not itself produce, so that bytes and values are one to one.
Layouts are those of parity-scale-codec. A codec also carries what metadata needs to describe it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

T = TypeVar("T")

# Elements that take no bytes are bounded by nothing in the input: more of them than this is an attack.
ZERO_SIZED_ITEMS_MAX = 1024
# What parity-scale-codec counts to; the bytes that there are bound a vector long before.
COUNT_MAX = 2**32 - 1
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
        raise short(offset, 1, data)
    first = data[offset]
    mode = first & 3
    if mode == 0:
        return first >> 2, offset + 1
    if mode == 3:
        end = offset + 5 + (first >> 2)
        if end > len(data):
            raise short(offset, end - offset, data)
        value = int.from_bytes(data[offset + 1 : end], "little")
        if data[end - 1] == 0 or value < 1 << 30:
            raise ScaleError(f"compact integer {value} at byte {offset} is not in its shortest form")
        return value, end
    end = offset + (2 if mode == 1 else 4)
    if end > len(data):
        raise short(offset, end - offset, data)
    value = int.from_bytes(data[offset:end], "little") >> 2
    if value < (1 << 6 if mode == 1 else 1 << 14):
        raise ScaleError(f"compact integer {value} at byte {offset} is not in its shortest form")
    return value, end


def short(offset: int, need: int, data: bytes) -> ScaleError:
    """The error for input that ends too early."""
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
            raise short(offset, self.size, data)
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
            raise short(offset, 1, data)
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
            raise short(start, size, data)
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
            raise ScaleError(f"expected {self.size} bytes, got {measure(value)}")
        return value

    def decode_at(self, data: bytes, offset: int) -> tuple[bytes, int]:
        end = offset + self.size
        if end > len(data):
            raise short(offset, self.size, data)
        return data[offset:end], end


class Vec(Codec[Any]):
    """Items with a compact count; decodes to a list, or to a tuple where the annotation is `tuple[T, ...]`.

    `count_max` bounds the count where strangers choose it: an object takes up to eighty times its bytes.
    """

    size_min = 1

    def __init__(
        self,
        inner: Codec[Any],
        container: type[list[Any]] | type[tuple[Any, ...]] = list,
        count_max: int = COUNT_MAX,
    ) -> None:
        self.inner = inner
        self.container = container
        self.count_max = count_max

    def encode(self, value: Sequence[Any]) -> bytes:
        if not isinstance(value, list | tuple):
            raise ScaleError(f"expected a list, got {value!r}")
        if len(value) > self.count_max:
            raise ScaleError(f"expected at most {self.count_max} items, got {len(value)}")
        return compact_encode(len(value)) + b"".join(map(self.inner.encode, value))

    def count_at(self, data: bytes, offset: int) -> tuple[int, int]:
        """How many items the vector at `offset` may hold, and where they begin."""
        count, end = compact_decode(data, offset)
        size_min = self.inner.size_min
        if count * size_min > len(data) - end or (size_min == 0 and count > ZERO_SIZED_ITEMS_MAX):
            raise ScaleError(f"the vector at byte {offset} claims {count} items in {len(data) - end} bytes")
        if count > self.count_max:
            raise ScaleError(f"expected at most {self.count_max} items at byte {offset}, got {count}")
        return count, end

    def decode_at(self, data: bytes, offset: int) -> tuple[Any, int]:
        count, end = self.count_at(data, offset)
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
            raise ScaleError(f"expected {self.count} items, got {measure(value)}")
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
            raise ScaleError(f"expected {len(self.inner)} items, got {measure(value)}")
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
            raise short(offset, 1, data)
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


def measure(value: object) -> str:
    """A value's length where a length is wrong, else the value, for an error message."""
    return str(len(value)) if isinstance(value, bytes | list | tuple) else repr(value)


def split_path(path: str) -> tuple[str, ...]:
    """A Rust path as scale-info's segments."""
    return tuple(path.split("::")) if path else ()


def split_docs(docs: str | None) -> tuple[str, ...]:
    """A docstring as scale-info's lines."""
    return tuple(line.strip() for line in docs.strip().splitlines()) if docs else ()
