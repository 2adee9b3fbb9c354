"""The exact mean of a round's updates.

Rule: the sum is taken over integers, in units of the smallest step that matters in a block, so that neither the order
of the updates nor the size of a chunk nor the machine changes a bit of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

import numpy as np

from trainer.arrays import Float32s, Float64s, Int32s
from trainer.codecs.blocks import BLOCK, blocks_of
from trainer.codecs.updates import DenseUpdate, SparseUpdate, Update

UPDATES_MAX = 1 << 16
# What float64 holds exactly, less the 16 bits of the count.
BITS_MAX = 53 - 16
# 256 blocks of float64 are 512 KiB: two such buffers stay in a core's second-level cache.
CHUNK_BLOCKS = 256
# The exponent of a block of which an update says nothing: below every other.
NOTHING = -1000


def mean(updates: Sequence[Update], *, chunk_blocks: int = CHUNK_BLOCKS) -> Float32s:
    """The mean of the updates as f32[P]: integer sum, then one division in float64, then one rounding to float32."""
    length = checked_length(updates)
    result = np.empty(length, dtype=np.float32)
    units = _units(updates, blocks_of(length))
    for first in range(0, blocks_of(length), chunk_blocks):
        last = min(first + chunk_blocks, blocks_of(length))
        begin, end = first * BLOCK, min(last * BLOCK, length)
        total = np.zeros(end - begin, dtype=np.float64)
        for update in updates:
            _add(total, update, units, begin, end)
        scale = np.repeat(np.ldexp(1.0, units[first:last]), BLOCK)[: end - begin]
        result[begin:end] = (total * scale) / np.float64(len(updates))
    return result


def checked_length(updates: Sequence[Update]) -> int:
    """How many values each of the updates has; ValueError where there are none, too many or unequal ones."""
    if not 0 < len(updates) < UPDATES_MAX:
        raise ValueError(f"expected 1 to {UPDATES_MAX - 1} updates, got {len(updates)}")
    length = updates[0].length
    if any(update.length != length or type(update) is not type(updates[0]) for update in updates):
        raise ValueError(f"expected every update to be of one kind and to have {length} values")
    return length


def spread_max(updates: Sequence[Update]) -> int:
    """How far below a block's coarsest step its integers still count, in powers of two: what is below is floored away.

    Spread, the bits of a value and 16 of count make 53: every partial sum is an integer that float64 holds exactly,
    which is far faster than int64 in numpy. 30 for int8 and top-k, 22 for int16.
    """
    return BITS_MAX - (max(8 * update.values.itemsize for update in updates) - 1)


def _units(updates: Sequence[Update], blocks: int) -> Int32s:
    """The exponent of each block's unit: its finest step, but no finer than the spread below the coarsest."""
    finest, coarsest = np.full(blocks, -NOTHING, np.int32), np.full(blocks, NOTHING, np.int32)
    for update in updates:
        match update:
            case DenseUpdate(_, exponents):
                np.minimum(finest, exponents, out=finest)
                np.maximum(coarsest, exponents, out=coarsest)
            case SparseUpdate(_, indices, _, _):
                steps = update.exponents_from(0, indices.size)
                places, starts = np.unique(indices // BLOCK, return_index=True)
                finest[places] = np.minimum(finest[places], np.minimum.reduceat(steps, starts))
                coarsest[places] = np.maximum(coarsest[places], np.maximum.reduceat(steps, starts))
            case _:
                assert_never(update)
    units = np.maximum(finest, coarsest - spread_max(updates))
    units[coarsest == NOTHING] = 0
    return units


def _add(total: Float64s, update: Update, units: Int32s, begin: int, end: int) -> None:
    """Add the parameters from `begin` to `end`, in units of their blocks."""
    # An exact product of an integer and a power of two; floor only bites where the spread is cut.
    match update:
        case DenseUpdate(values, exponents):
            blocks = slice(begin // BLOCK, blocks_of(end))
            shifts = np.ldexp(1.0, exponents[blocks].astype(np.int32) - units[blocks])
            total += np.floor(values[begin:end] * np.repeat(shifts, BLOCK)[: end - begin])
        case SparseUpdate(_, indices, values, _):
            first, last = np.searchsorted(indices, (begin, end))
            places = indices[first:last]
            shifts = np.ldexp(1.0, update.exponents_from(first, last) - units[places // BLOCK])
            total[places - begin] += np.floor(values[first:last] * shifts)
        case _:
            assert_never(update)
