"""Updates have one encoding, lose at most half a step, and nothing else decodes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trainer import codecs, packing
from trainer.arrays import Float32s
from trainer.codecs import INT8, INT16, Codec, rice
from trainer.codecs.blocks import BLOCK, EXPONENT_MIN, GRADIENT_MAX, PICO, CodecError, blocks_of, bounded
from trainer.codecs.dense import Dense
from trainer.codecs.memory import EMPTY
from trainer.codecs.rice import RiceError
from trainer.codecs.topk import TopK

FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)
GRADIENTS = hnp.arrays(np.float32, st.integers(1, 600), elements=FLOATS)
# Few different magnitudes: most selections then have ties.
TIED = hnp.arrays(np.float32, st.integers(1, 600), elements=st.sampled_from([-2.0, -1.0, -0.0, 0.0, 1.0, 2.0, 3.0]))
CODECS: list[Codec] = [INT8, INT16, TopK(1), TopK(10_000), TopK(100_000), TopK(1_000_000)]
NAMES = ["int8", "int16", "one value", "1 %", "10 %", "all"]
each_codec = pytest.mark.parametrize("codec", CODECS, ids=NAMES)


@each_codec
@given(GRADIENTS)
@settings(max_examples=30, deadline=None)
def test_an_update_survives_its_encoding(codec: Codec, gradient: Float32s) -> None:
    update = codec.quantise(gradient, 0)
    data = update.encode()
    assert len(data) <= codec.bytes_max(gradient.size, 0)
    decoded = codec.decode(data, gradient.size, 0)
    assert decoded.encode() == data
    assert decoded.scaled().tobytes() == update.scaled().tobytes()


@pytest.mark.parametrize("codec", [INT8, INT16], ids=["int8", "int16"])
@given(GRADIENTS)
@settings(max_examples=40, deadline=None)
def test_quantising_agrees_with_the_plainest_arithmetic(codec: Dense, gradient: Float32s) -> None:
    update = codec.quantise(gradient, 0)
    meant = [float(value) for value in bounded(gradient)]
    for block in range(blocks_of(len(meant))):
        values = meant[block * BLOCK : (block + 1) * BLOCK]
        exponent, integers = plain_block(values, codec.bits)
        assert update.exponents[block] == exponent
        assert update.values[block * BLOCK : (block + 1) * BLOCK].tolist() == integers


def plain_block(values: list[float], bits: int) -> tuple[int, list[int]]:
    """The least step in which the peak is no more than 127 (32,767), and the integers in it."""
    exponent = EXPONENT_MIN
    while max(abs(value) for value in values) / 2.0**exponent >= 2 ** (bits - 1) - 0.5:
        exponent += 1
    return exponent, [round(value / 2.0**exponent) for value in values]


@pytest.mark.parametrize("share", [1, 10_000, 100_000])
@given(st.one_of(TIED, GRADIENTS))
@settings(max_examples=40, deadline=None)
def test_top_k_agrees_with_a_stable_sort(share: int, gradient: Float32s) -> None:
    codec = TopK(share)
    update = codec.quantise(gradient, 0)
    meant = [float(value) for value in bounded(gradient)]
    by_size = sorted(range(len(meant)), key=lambda index: (-abs(meant[index]), index))
    indices = sorted(by_size[: max(1, len(meant) * share // 1_000_000)])
    assert update.indices.tolist() == indices
    for block in range(blocks_of(len(indices))):
        chosen = indices[block * BLOCK : (block + 1) * BLOCK]
        exponent, integers = plain_block([meant[index] for index in chosen], 8)
        assert update.exponents[block] == exponent
        assert update.values[block * BLOCK : (block + 1) * BLOCK].tolist() == integers


@given(st.integers(1, 4000), st.floats(0.0005, 1), st.integers(0, 2**32))
@settings(max_examples=80, deadline=None)
def test_indices_survive_their_encoding_and_take_what_is_said(length: int, share: float, seed: int) -> None:
    count = max(1, int(length * share))
    indices = np.sort(np.random.default_rng(seed).choice(length, count, replace=False)).astype(np.int64)
    data = rice.encode(indices, length)
    assert plain_rice(indices.tolist(), rice.parameter_of(count, length)) == data
    assert len(data) <= rice.bytes_max(count, length)
    assert rice.decode(data, count, length).tolist() == indices.tolist()


def plain_rice(indices: list[int], r: int) -> bytes:
    """The same code as text of zeros and ones."""
    gaps = [index - before - 1 for before, index in zip([-1, *indices], indices, strict=False)]
    unary = "".join("0" * (gap >> r) + "1" for gap in gaps)
    remainders = "".join(format(gap & ((1 << r) - 1), f"0{r}b") for gap in gaps) if r else ""
    parts = [part + "0" * (-len(part) % 8) for part in (unary, remainders)]
    return b"".join(int(part, 2).to_bytes(len(part) // 8) for part in parts if part)


@pytest.mark.parametrize("per_mille", [1, 2, 5, 10, 20, 50, 100, 200, 333])
def test_indices_take_within_a_tenth_of_a_bit_of_their_entropy(per_mille: int) -> None:
    length = 1_000_000
    count = length * per_mille // 1000
    indices = np.sort(np.random.default_rng(per_mille).choice(length, count, replace=False)).astype(np.int64)
    share = per_mille / 1000
    entropy = -math.log2(share) - (1 - share) / share * math.log2(1 - share)
    assert entropy < 8 * len(rice.encode(indices, length)) / count < entropy + 0.1


@pytest.mark.parametrize("indices", [[0], [255], [0, 1, 2, 3], [252, 253, 254, 255], list(range(256))])
def test_indices_at_the_ends_fit_the_bound(indices: list[int]) -> None:
    data = rice.encode(np.array(indices, np.int64), 256)
    assert len(data) <= rice.bytes_max(len(indices), 256)
    assert rice.decode(data, len(indices), 256).tolist() == indices


@pytest.mark.parametrize("data", [b"", b"\0", b"\xff" * 3, bytes(40), b"\x80" + bytes(2), b"\xff\xff"], ids=bytes.hex)
def test_bytes_that_are_no_indices_are_refused(data: bytes) -> None:
    with pytest.raises(RiceError):
        rice.decode(data, 2, 256)


@given(st.binary(max_size=12), st.integers(1, 5))
@settings(max_examples=200, deadline=None)
def test_bytes_that_decode_to_indices_are_their_encoding(data: bytes, count: int) -> None:
    try:
        indices = rice.decode(data, count, 64)
    except RiceError:
        return
    assert np.all(np.diff(indices) > 0)
    assert rice.encode(indices, 64) == data


@each_codec
def test_nan_is_zero_and_infinity_saturates(codec: Codec) -> None:
    update = codec.quantise(np.array([np.nan, np.inf, -np.inf, 1.0], np.float32), 0)
    kept = [0.0, GRADIENT_MAX, -GRADIENT_MAX, 0.0]
    if isinstance(codec, TopK) and codec.count(4, 0) == 1:
        kept[2] = 0.0
    assert update.scaled().tolist() == kept


@pytest.mark.parametrize("momentum", [0, 9 * PICO // 10])
@given(st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_what_is_sent_and_what_is_remembered_are_all_that_there_was(momentum: int, seed: int) -> None:
    """Error feedback, a parameter and an operation at a time."""
    rng = np.random.default_rng(seed)
    codec, length = TopK(100_000, momentum=momentum), 40
    memory = EMPTY
    unsent, velocity = [np.float32(0)] * length, [np.float32(0)] * length
    for round_index in range(6):
        gradient = (rng.standard_normal(length) * 10.0 ** rng.integers(-6, 6)).astype(np.float32)
        taken = codec.take(memory, gradient)
        update = codec.quantise(taken.meant, round_index)
        memory = codec.give(taken, update)
        sent = update.scaled()
        for index in range(length):
            velocity[index] = np.float32(
                np.float32(velocity[index] * np.float32(momentum / PICO)) + np.float32(gradient[index])
            )
            meant = np.float32(unsent[index] + velocity[index])
            assert taken.meant[index] == meant
            unsent[index] = np.float32(meant - np.float32(sent[index]))
            if index in update.indices:
                velocity[index] = np.float32(0)
        assert memory.meant.tolist() == unsent
        if momentum:
            assert memory.velocity is not None
            assert memory.velocity.tolist() == velocity


def test_dense_codecs_remember_nothing() -> None:
    for codec in (INT8, INT16):
        taken = codec.take(EMPTY, np.ones(3, np.float32))
        assert codec.give(taken, codec.quantise(taken.meant, 0)) is EMPTY


def test_the_share_falls_by_halves_in_a_warm_up() -> None:
    codec = TopK(1_000, warmup_rounds=14)
    counts = [codec.count(1_000_000, round_index) for round_index in range(16)]
    assert counts[::2] == [128_000, 64_000, 32_000, 16_000, 8_000, 4_000, 2_000, 1_000]
    assert counts == sorted(counts, reverse=True)
    assert TopK(500_000, warmup_rounds=9).count(1_000, 0) == 500
    assert TopK(1).count(10, 0) == 1


@each_codec
def test_codecs_with_sense_are_taken(codec: Codec) -> None:
    assert codecs.checked(codec) is codec


@pytest.mark.parametrize(
    "wrong", [Dense(7), TopK(0), TopK(1_000_001), TopK(1, PICO), TopK(1, -1), TopK(1, 0, -1), TopK(1, 0, 10**6 + 1)]
)
def test_codecs_without_sense_are_refused(wrong: Codec) -> None:
    with pytest.raises(CodecError, match="expected"):
        codecs.checked(wrong)


def dense_blob(bits: int, **changes: object) -> bytes:
    values = (1 << (bits - 2)).to_bytes(bits // 8, "little") * 300
    return packing.pack({"version": 1, "length": 300, "exponents": bytes([0, 0]), "values": values, **changes})


def sparse_blob(**changes: object) -> bytes:
    gaps = rice.encode(np.array([3, 40, 299], np.int64), 300)
    update = {"version": 1, "length": 300, "gaps": gaps, "exponents": b"\0", "values": bytes([64, 1, 255])}
    return packing.pack({**update, **changes})


INT16_VALUE = (16384).to_bytes(2, "little")
MALFORMED: dict[str, tuple[Codec, bytes]] = {
    "an empty blob": (INT8, b""),
    "no msgpack": (INT8, b"\xc1"),
    "bytes after the end": (INT8, dense_blob(8) + b"\0"),
    "another version": (INT8, dense_blob(8, version=2)),
    "another length": (INT8, dense_blob(8, length=299)),
    "too few values": (INT8, dense_blob(8, values=bytes([64]) * 299)),
    "too many values": (INT8, dense_blob(8, values=bytes([64]) * 301)),
    "too few exponents": (INT8, dense_blob(8, exponents=b"\0")),
    "a value of -128": (INT8, dense_blob(8, values=bytes([128]) + bytes([64]) * 299)),
    "a value of -32768": (INT16, dense_blob(16, values=b"\0\x80" + INT16_VALUE * 299)),
    "an exponent above the largest": (INT8, dense_blob(8, exponents=bytes([51, 0]))),
    "an exponent above the largest of 16 bits": (INT16, dense_blob(16, exponents=bytes([43, 0]))),
    "an exponent below the least": (INT8, dense_blob(8, exponents=bytes([256 - 101, 0]))),
    "a step that is too coarse": (INT8, dense_blob(8, values=bytes([63]) * 300)),
    "a step that is too coarse for 16 bits": (INT16, dense_blob(16, values=b"\xff\x3f" * 300)),
    "8 bits for 16": (INT16, dense_blob(8)),
    "16 bits for 8": (INT8, dense_blob(16)),
    "a sparse one for a dense one": (INT8, sparse_blob()),
    "a dense one for a sparse one": (TopK(10_000), dense_blob(8)),
    "a field too many": (INT8, dense_blob(8, more=1)),
    "a boolean for a number": (INT8, dense_blob(8, version=True)),
    "fields in another order": (INT8, packing.pack(dict(reversed(packing.unpack(dense_blob(8)).items())))),
    "a number in more bytes": (INT8, dense_blob(8).replace(b"\xa7version\x01", b"\xa7version\xcc\x01")),
    "a list": (INT8, packing.pack([1, 2])),
    "too few chosen": (TopK(10_000), sparse_blob(gaps=rice.encode(np.array([3, 40], np.int64), 300))),
    "too many chosen": (TopK(10_000), sparse_blob(gaps=rice.encode(np.array([3, 4, 5, 6], np.int64), 300))),
    "an index beyond the end": (TopK(10_000), sparse_blob(gaps=rice.encode(np.array([3, 40, 300], np.int64), 300))),
    "an index of each parameter": (TopK(10_000), sparse_blob(gaps=bytes(1000))),
    "too few values of those chosen": (TopK(10_000), sparse_blob(values=bytes([64, 1]))),
    "too small values of those chosen": (TopK(10_000), sparse_blob(values=bytes([63, 1, 0]))),
    "as many as in a warm-up": (TopK(10_000, warmup_rounds=10), sparse_blob()),
}


def test_the_blobs_that_the_malformed_ones_are_made_from_decode() -> None:
    assert INT8.decode(dense_blob(8), 300, 0).length == 300
    assert INT16.decode(dense_blob(16), 300, 0).length == 300
    assert TopK(10_000).decode(sparse_blob(), 300, 0).scaled().nonzero()[0].tolist() == [3, 40, 299]


@pytest.mark.parametrize(("codec", "data"), MALFORMED.values(), ids=MALFORMED.keys())
def test_anything_else_is_refused(codec: Codec, data: bytes) -> None:
    with pytest.raises(CodecError):
        codec.decode(data, 300, 0)


@each_codec
@given(st.binary(max_size=400))
@settings(max_examples=40, deadline=None)
def test_garbage_is_refused(codec: Codec, data: bytes) -> None:
    with pytest.raises(CodecError):
        codec.decode(data, 300, 0)


BLOBS: list[tuple[Codec, bytes]] = [(INT8, dense_blob(8)), (INT16, dense_blob(16)), (TopK(10_000), sparse_blob())]


@pytest.mark.parametrize(("codec", "blob"), BLOBS, ids=["int8", "int16", "1 %"])
@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_flipped_byte_is_refused_or_is_another_update(codec: Codec, blob: bytes, data: st.DataObject) -> None:
    changed = bytearray(blob)
    changed[data.draw(st.integers(0, len(blob) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        update = codec.decode(bytes(changed), 300, 0)
    except CodecError:
        return
    assert update.encode() == changed
