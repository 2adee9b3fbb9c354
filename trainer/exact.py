"""Sums of floats that come out the same on every machine, whatever its vector width, threads or libraries.

Rule: a sum is taken along a tree that is fixed by the values' indices, 256 at a time, and what the trees leave is
summed exactly and rounded once; numpy's own reductions, whose order is nobody's promise, are not used.
"""

from __future__ import annotations

import math

import numpy as np

from trainer.arrays import Float32s, Float64s
from trainer.codecs.blocks import BLOCK, blocks_of

# 1,024 blocks of float64 are 2 MiB, which bounds what a sum over any vector takes.
CHUNK_BLOCKS = 1024


def block_sums(values: Float64s) -> Float64s:
    """The sum of each block of 256: halves added to halves, eight times."""
    padded = np.zeros(blocks_of(values.size) * BLOCK, np.float64)
    padded[: values.size] = values
    tree = padded.reshape(-1, BLOCK)
    width = BLOCK
    while width > 1:
        width //= 2
        tree = tree[:, :width] + tree[:, width:]
    return tree.ravel()


def sum_of_squares(values: Float32s, *, chunk_blocks: int = CHUNK_BLOCKS) -> float:
    """The sum of the squares of f32[P] as float64."""
    size = chunk_blocks * BLOCK
    sums: list[float] = []
    for begin in range(0, values.size, size):
        # Squares of float32 are exact in float64.
        part = values[begin : begin + size].astype(np.float64)
        sums.extend(block_sums(part * part).tolist())
    # fsum rounds the exact sum once: the order of the blocks does not matter.
    return math.fsum(sums)
