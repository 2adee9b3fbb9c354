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
# No format of ours nests or lists more than a layout of named tensors does.
ITEMS_MAX = 65_536
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
        value = msgpack.unpackb(
            data,
            raw=False,
            use_list=True,
            strict_map_key=True,
            max_str_len=TEXT_BYTES_MAX,
            max_bin_len=len(data),
            max_array_len=ITEMS_MAX,
            max_map_len=ITEMS_MAX,
            max_ext_len=0,
        )
        if canonical and pack(value) != data:
            raise PackingError("expected canonical msgpack, got an encoding that packs to other bytes")
    except PackingError:
        raise
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise PackingError(f"expected msgpack, got {type(error).__name__}: {str(error)[:200]}") from None
    return value


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
