"""Strict msgpack: the one encoding of blobs and of frames between a parent and its engine.

Rule: what was received is bounded before it is decoded, typed after, and for blobs must be the bytes that we would
have written ourselves, so that one value has one root.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgpack

# A model of 128 million parameters with its two Adam moments is 1.5 GiB; nothing larger is a blob.
BLOB_BYTES_MAX = 2 << 30
# No format of ours holds more than a layout of 16,384 named tensors, nor nests deeper than a shape in it. An item takes
# up to eighty bytes of memory and as little as one of a blob: a few megabytes are all that a hostile one gains.
ITEMS_MAX = 262_144
DEPTH_MAX = 8
TEXT_BYTES_MAX = 4_096


class PackingError(ValueError):
    """The bytes are not what this format allows."""


def pack(value: object) -> bytes:
    """The one encoding of `value`: maps in the order given, the shortest form of every number."""
    return cast(bytes, msgpack.packb(value, use_bin_type=True))


def unpack(data: bytes, *, canonical: bool = True, bytes_max: int = BLOB_BYTES_MAX) -> Any:
    """Decode one value and nothing after it; with `canonical`, refuse what `pack` would not have written."""
    if len(data) > bytes_max:
        raise PackingError(f"expected at most {bytes_max:,} bytes, got {len(data):,}")
    try:
        value = _Reader(data).whole()
        if canonical and pack(value) != data:
            raise PackingError("expected canonical msgpack, got an encoding that packs to other bytes")
    except PackingError:
        raise
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise PackingError(f"expected msgpack, got {type(error).__name__}: {str(error)[:200]}") from None
    return value


class _Reader:
    """Builds lists and maps item by item: the library, which makes a list as long as its head claims, only scalars."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._unpacker = msgpack.Unpacker(
            raw=False,
            max_buffer_size=max(1, len(data)),
            max_str_len=TEXT_BYTES_MAX,
            max_array_len=0,
            max_map_len=0,
            max_ext_len=0,
        )
        self._unpacker.feed(data)
        self._left = ITEMS_MAX

    def whole(self) -> Any:
        """The value that is all of the data."""
        value = self._read(DEPTH_MAX)
        end = self._unpacker.tell()
        if end != len(self._data):
            raise PackingError(f"expected one value of {end:,} bytes, got {len(self._data):,} bytes")
        return value

    def _read(self, depth: int) -> Any:
        """The next value, with containers in at most `depth` levels."""
        at = self._unpacker.tell()
        first = self._data[at] if at < len(self._data) else 0
        if first & 0xF0 == 0x90 or first in (0xDC, 0xDD):
            count = self._items(self._unpacker.read_array_header(), depth)
            return [self._read(depth - 1) for _ in range(count)]
        if first & 0xF0 == 0x80 or first in (0xDE, 0xDF):
            count = self._items(self._unpacker.read_map_header(), depth)
            return {self._key(): self._read(depth - 1) for _ in range(count)}
        return self._unpacker.unpack()

    def _items(self, count: int, depth: int) -> int:
        self._left -= count
        if self._left < 0 or depth == 0:
            raise PackingError(f"expected at most {ITEMS_MAX:,} items in {DEPTH_MAX} levels, got more")
        return count

    def _key(self) -> str:
        key = self._unpacker.unpack()
        if not isinstance(key, str):
            raise PackingError(f"expected text as the key of a map, got {type(key).__name__}")
        return key


def fields(value: object, shape: Mapping[str, type], what: str) -> dict[str, Any]:
    """Check that `value` is a map with exactly these keys, in this order, each of this exact type."""
    if not isinstance(value, dict) or list(value) != list(shape):
        got = list(value)[:16] if isinstance(value, dict) else type(value).__name__
        raise PackingError(f"{what}: expected a map with {list(shape)}, got {got}")
    for key, kind in shape.items():
        # bool is an int to isinstance; the exact type keeps it out.
        if type(value[key]) is not kind:
            raise PackingError(f"{what}.{key}: expected {kind.__name__}, got {type(value[key]).__name__}")
    return value


def integer(value: object, low: int, high: int, what: str) -> int:
    """Check that `value` is an integer within [low, high]."""
    if type(value) is not int or not low <= value <= high:
        raise PackingError(f"{what}: expected an integer from {low} to {high}, got {str(value)[:40]}")
    return value
