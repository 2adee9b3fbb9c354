"""The exact mean of a round's updates.

Rule: the sum is taken over integers, in units of the smallest step that matters in a block, so that neither the order
of the updates nor the size of a chunk nor the machine changes a bit of the result.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainer.codec import BLOCK, Float32s, Update, blocks_of

# Within a block, what lies 2^30 below the coarsest step is floored away. 30 bits of spread, 7 of value and 16 of
# count make 53: every partial sum is an integer that float64 holds exactly, which is far faster than int64 in numpy.
SPREAD_MAX = 30
UPDATES_MAX = 1 << 16
# 256 blocks of float64 are 512 KiB: two such buffers stay in a core's second-level cache.
CHUNK_BLOCKS = 256


def mean(updates: Sequence[Update], *, chunk_blocks: int = CHUNK_BLOCKS) -> Float32s:
    """The mean of the updates as f32[P]: integer sum, then one division in float64, then one rounding to float32."""
    count = len(updates)
    if not 0 < count < UPDATES_MAX:
        raise ValueError(f"expected 1 to {UPDATES_MAX - 1} updates, got {count}")
    length = updates[0].length
    if any(update.length != length for update in updates):
        raise ValueError(f"expected every update to have {length} values")
    result = np.empty(length, dtype=np.float32)
    exponents = np.stack([update.exponents for update in updates]).astype(np.int32)
    # A block's unit: the finest step in it, but no finer than SPREAD_MAX below the coarsest.
    units = np.maximum(exponents.min(axis=0), exponents.max(axis=0) - SPREAD_MAX)
    for first in range(0, blocks_of(length), chunk_blocks):
        last = min(first + chunk_blocks, blocks_of(length))
        begin, end = first * BLOCK, min(last * BLOCK, length)
        total = np.zeros((last - first) * BLOCK, dtype=np.float64)
        for update, steps in zip(updates, exponents, strict=True):
            shifts = np.repeat(np.ldexp(1.0, steps[first:last] - units[first:last]), BLOCK)
            # Exact product of an integer and a power of two; floor only bites where the spread is cut.
            total[: end - begin] += np.floor(update.values[begin:end] * shifts[: end - begin])
        scale = np.repeat(np.ldexp(1.0, units[first:last]), BLOCK)
        result[begin:end] = ((total * scale) / np.float64(count))[: end - begin]
    return result
