"""Updates have one encoding, lose at most half a step, and nothing else decodes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trainer import codec, packing
from trainer.codec import CodecError

FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)
GRADIENTS = hnp.arrays(np.float32, st.integers(1, 600), elements=FLOATS)


@given(GRADIENTS)
@settings(max_examples=60, deadline=None)
def test_an_update_survives_its_encoding(gradient: codec.Float32s) -> None:
    update = codec.quantise(gradient)
    decoded = codec.decode(codec.encode(update), gradient.size)
    assert decoded.values.tolist() == update.values.tolist()
    assert decoded.exponents.tolist() == update.exponents.tolist()


@given(GRADIENTS)
@settings(max_examples=60, deadline=None)
def test_no_value_is_farther_than_half_a_step(gradient: codec.Float32s) -> None:
    update = codec.quantise(gradient)
    meant = codec.bounded(gradient).astype(np.float64)
    steps = np.repeat(np.ldexp(1.0, update.exponents.astype(np.int32)), codec.BLOCK)[: gradient.size]
    assert bool(np.all(np.abs(update.values * steps - meant) <= steps / 2))


@given(GRADIENTS)
@settings(max_examples=60, deadline=None)
def test_quantising_agrees_with_the_plainest_arithmetic(gradient: codec.Float32s) -> None:
    update = codec.quantise(gradient)
    meant = [float(value) for value in codec.bounded(gradient)]
    for block in range(codec.blocks_of(len(meant))):
        values = meant[block * codec.BLOCK : (block + 1) * codec.BLOCK]
        peak = max(abs(value) for value in values)
        exponent = codec.EXPONENT_MIN
        while peak / 2.0**exponent >= 127.5:
            exponent += 1
        assert update.exponents[block] == exponent
        expected = [round(value / 2.0**exponent) for value in values]
        assert update.values[block * codec.BLOCK : (block + 1) * codec.BLOCK].tolist() == expected


def test_nan_is_zero_and_infinity_saturates() -> None:
    update = codec.quantise(np.array([np.nan, np.inf, -np.inf, 1.0], np.float32))
    step = 2.0 ** int(update.exponents[0])
    assert (update.values * step).tolist() == [0.0, codec.GRADIENT_MAX, -codec.GRADIENT_MAX, 0.0]


def blob(**changes: object) -> bytes:
    update = {"version": 1, "length": 300, "exponents": bytes([0, 0]), "values": bytes([64]) * 300}
    return packing.pack({**update, **changes})


MALFORMED = {
    "an empty blob": b"",
    "no msgpack": b"\xc1",
    "bytes after the end": blob() + b"\0",
    "another version": blob(version=2),
    "another length": blob(length=299),
    "too few values": blob(values=bytes([64]) * 299),
    "too many values": blob(values=bytes([64]) * 301),
    "too few exponents": blob(exponents=b"\0"),
    "a value of -128": blob(values=bytes([128]) + bytes([64]) * 299),
    "an exponent above the largest": blob(exponents=bytes([51, 0])),
    "an exponent below the least": blob(exponents=bytes([256 - 101, 0])),
    "a step that is too coarse": blob(values=bytes([63]) * 300),
    "a field too many": blob(more=1),
    "a boolean for a number": blob(version=True),
    "fields in another order": packing.pack(dict(reversed(packing.unpack(blob()).items()))),
    "a number in more bytes than it needs": blob().replace(b"\xa7version\x01", b"\xa7version\xcc\x01"),
    "a list": packing.pack([1, 2]),
}


def test_the_blob_that_the_malformed_ones_are_made_from_decodes() -> None:
    assert codec.decode(blob(), 300).length == 300


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        codec.decode(data, 300)


@given(st.binary(max_size=400))
@settings(max_examples=100, deadline=None)
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        codec.decode(data, 300)


@given(st.integers(0, len(blob()) - 1), st.integers(1, 255))
@settings(max_examples=100, deadline=None)
def test_a_flipped_byte_is_refused_or_is_another_update(position: int, flip: int) -> None:
    data = bytearray(blob())
    data[position] ^= flip
    try:
        update = codec.decode(bytes(data), 300)
    except CodecError:
        return
    assert codec.encode(update) == data
