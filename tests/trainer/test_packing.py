"""Msgpack as blobs have it: one encoding of a value, and never more memory than items that a format can have."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from trainer import packing
from trainer.codecs import INT8
from trainer.codecs.blocks import CodecError
from trainer.packing import DEPTH_MAX, ITEMS_MAX, PackingError

MIB = 1 << 20


@pytest.mark.parametrize("value", [{}, [], "é", b"", 2**64 - 1, -(2**63), 1.5, None, True, {"a": [[1], {"b": b"c"}]}])
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    assert packing.unpack(packing.pack(value)) == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xcc\x07",
        b"\xdc\x00\x01\x07",
        b"\xdd\x00\x00\x00\x01\x07",
        b"\xde\x00\x01\xa1a\x07",
        b"\xc5\x00\x01a",
        b"\xd9\x01a",
        b"\xca\x00\x00\x00\x00",
        b"\x82\xa1a\x01\xa1a\x02",
        b"\x81\x01\x02",
        b"\x81\xc4\x01a\x02",
        b"\x81\x90\x02",
        b"\x93\x01\x02",
        b"\x01\x02",
        b"\xa1\xff",
        b"\xc1",
        b"\xd4\x01\x00",
        b"\xd6\xff\x00\x00\x00\x00",
    ],
    ids=bytes.hex,
)
def test_what_pack_does_not_write_is_refused(data: bytes) -> None:
    with pytest.raises(PackingError):
        packing.unpack(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x91" * DEPTH_MAX + b"\x90",
        b"\x81\xa0" * DEPTH_MAX + b"\x80",
        b"\xdd" + (4 * MIB).to_bytes(4, "big") + b"\x90" * (4 * MIB),
        b"\xdc\x00\x40" + (b"\xdc\xff\xff" + b"\x90" * 65535) * 64,
        (b"\xdd" + ITEMS_MAX.to_bytes(4, "big")) * 1000,
        (b"\xdd" + MIB.to_bytes(4, "big")) * 7 + b"\xc0" * MIB,
    ],
    ids=["nested lists", "nested maps", "a long list", "long lists in a list", "heads of lists", "seven long lists"],
)
def test_a_blob_of_many_small_items_is_refused_before_they_take_its_memory_many_times(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(PackingError, match="items in 8 levels"):
            packing.unpack(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * len(data) + 100 * ITEMS_MAX


def test_an_update_of_millions_of_lists_is_malformed_and_no_more() -> None:
    length = 4 * MIB
    data = b"\xdd" + length.to_bytes(4, "big") + b"\x90" * length
    with pytest.raises(CodecError, match="at most 262,144 items"):
        INT8.decode(data, length, 0)
