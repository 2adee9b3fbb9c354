"""The exact mean of a round's updates, each with its weight.

Rule: the sum is taken over integers, in units of the smallest step that matters in a block, so that neither the order
of the updates nor the size of a chunk nor the machine changes a bit of the result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import assert_never

import numpy as np

from trainer.arrays import Float32s, Float64s, Int32s, Int64s
from trainer.codecs.blocks import BLOCK, blocks_of
from trainer.codecs.updates import DenseUpdate, SparseUpdate, Update
from trainer.spill import Summand

UPDATES_MAX = 1 << 16
# 64 silos of 2^24 samples.
WEIGHT_MAX = 1 << 30
# What float64 holds exactly, and how many bits of it are at least kept for the weights of all updates.
BITS_MAX = 53
WEIGHT_BITS_MIN = 16
# 256 blocks of float64 are 512 KiB: two such buffers stay in a core's second-level cache.
CHUNK_BLOCKS = 256
# The exponent of a block of which an update says nothing: below every other.
NOTHING = -1000


def mean(
    updates: Sequence[Summand], weights: Sequence[int] | None = None, *, chunk_blocks: int = CHUNK_BLOCKS
) -> Float32s:
    """The mean of the updates as f32[P]: integer sum, then one division in float64, then one rounding to float32.

    With weights, positive integers that come to 2^30 at most, each update counts so many times; all alike without.
    """
    length = checked_length(updates)
    result = np.empty(length, dtype=np.float32)
    counts = [1] * len(updates) if weights is None else _checked_weights(weights, len(updates))
    for begin, end in spans(length, chunk_blocks):
        parts = [update.slice(begin, end) for update in updates]
        units = _units(parts, blocks_of(end - begin), sum(counts))
        total = np.zeros(end - begin, dtype=np.float64)
        for part, count in zip(parts, counts, strict=True):
            _add(total, part, count, units)
        scale = np.repeat(np.ldexp(1.0, units), BLOCK)[: end - begin]
        result[begin:end] = (total * scale) / np.float64(sum(counts))
    return result


def spans(length: int, chunk_blocks: int) -> Iterator[tuple[int, int]]:
    """The slices of a vector of so many blocks each, from the first to the last."""
    size = chunk_blocks * BLOCK
    for begin in range(0, length, size):
        yield begin, min(begin + size, length)


def checked_length(updates: Sequence[Summand]) -> int:
    """How many values each of the updates has; ValueError where there are none, too many or unequal ones."""
    if not 0 < len(updates) < UPDATES_MAX:
        raise ValueError(f"expected 1 to {UPDATES_MAX - 1} updates, got {len(updates)}")
    length = updates[0].length
    if any(update.length != length or update.kind is not updates[0].kind for update in updates):
        raise ValueError(f"expected every update to be of one kind and to have {length} values")
    return length


def spread_max(updates: Sequence[Update], weight: int) -> int:
    """How far below a block's coarsest step its integers still count, in powers of two: what is below is floored away.

    Spread, the bits of a value and those of all weights together (16 at least) make 53: every partial sum is an integer
    that float64 holds exactly, which is far faster than int64 in numpy. 30 for int8 and top-k, 22 for int16, as long as
    there are fewer than 65,536 updates, or samples; 15 and 7 where there are 2^30.
    """
    value_bits = max(8 * update.values.itemsize for update in updates) - 1
    return BITS_MAX - max(WEIGHT_BITS_MIN, weight.bit_length()) - value_bits


def _checked_weights(weights: Sequence[int], count: int) -> list[int]:
    if len(weights) != count or min(weights) < 1 or sum(weights) > WEIGHT_MAX:
        raise ValueError(f"expected {count} weights of 1 or more that come to at most {WEIGHT_MAX:,}, got {weights}")
    return list(weights)


def _units(updates: Sequence[Update], blocks: int, weight: int) -> Int32s:
    """The exponent of each block's unit: its finest step, but no finer than the spread below the coarsest."""
    finest, coarsest = np.full(blocks, -NOTHING, np.int32), np.full(blocks, NOTHING, np.int32)
    for update in updates:
        match update:
            case DenseUpdate(_, exponents):
                np.minimum(finest, exponents, out=finest)
                np.maximum(coarsest, exponents, out=coarsest)
            case SparseUpdate(_, indices):
                if not indices.size:
                    continue
                steps = update.steps()
                places, starts = np.unique(indices // BLOCK, return_index=True)
                finest[places] = np.minimum(finest[places], np.minimum.reduceat(steps, starts))
                coarsest[places] = np.maximum(coarsest[places], np.maximum.reduceat(steps, starts))
            case _:
                assert_never(update)
    units = np.maximum(finest, coarsest - spread_max(updates, weight))
    units[coarsest == NOTHING] = 0
    return units


def _add(total: Float64s, update: Update, count: int, units: Int32s) -> None:
    """Add an update's parameters so many times, in units of their blocks."""
    # Exact products of integers and powers of two; floor only bites where the spread is cut.
    places: slice | Int64s
    match update:
        case DenseUpdate(values, exponents):
            shifts = np.ldexp(1.0, exponents.astype(np.int32) - units)
            said, places = values * np.repeat(shifts, BLOCK)[: values.size], slice(None)
        case SparseUpdate(_, indices, values):
            said, places = values * np.ldexp(1.0, update.steps() - units[indices // BLOCK]), indices
        case _:
            assert_never(update)
    np.floor(said, out=said)
    if count > 1:
        said *= count
    total[places] += said
