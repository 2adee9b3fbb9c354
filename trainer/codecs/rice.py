"""Ascending indices in few bits: Rice's code of their gaps (R. F. Rice 1979), near the entropy of a random choice.

Rule: the parameter follows from how many indices of how many there are, so that a choice has one encoding. First all
quotients in unary, then all remainders in binary, each part padded to a byte: both are read without a loop.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trainer.arrays import Int64s

Bits = npt.NDArray[np.uint8]


class RiceError(ValueError):
    """The bytes are no encoding of so many indices."""


def parameter_of(count: int, length: int) -> int:
    """The bits of a remainder: the least r with 2^r >= 0.481 length/count, which is best for a random choice."""
    # One more bit pays as long as (1 - count/length)^(2^r) exceeds the golden ratio's inverse; 0.481 is its logarithm.
    return max(0, -(-481 * length // (1000 * count)) - 1).bit_length()


def bytes_max(count: int, length: int) -> int:
    """The most bytes that `count` indices below `length` encode to: the quotients add up to (length - count) / 2^r."""
    r = parameter_of(count, length)
    return _bytes(count + ((length - count) >> r)) + _bytes(count * r)


def encode(indices: Int64s, length: int) -> bytes:
    """The bytes of strictly ascending indices below `length`."""
    r = parameter_of(indices.size, length)
    gaps = np.diff(indices, prepend=-1) - 1
    ends = np.cumsum((gaps >> r) + 1)
    unary = np.zeros(int(ends[-1]), np.uint8)
    unary[ends - 1] = 1
    remainders = np.empty((indices.size, r), np.uint8)
    for place in range(r):
        remainders[:, place] = (gaps >> (r - 1 - place)) & 1
    return np.packbits(unary).tobytes() + np.packbits(remainders.ravel()).tobytes()


def decode(data: bytes, count: int, length: int) -> Int64s:
    """The `count` strictly ascending indices below `length`; RiceError on bytes that `encode` would not write."""
    r = parameter_of(count, length)
    tail = _bytes(count * r)
    if not tail < len(data) <= bytes_max(count, length):
        raise RiceError(f"expected {tail + 1:,} to {bytes_max(count, length):,} bytes of gaps, got {len(data):,}")
    ends = np.flatnonzero(_bits(data[: len(data) - tail])) + 1
    if ends.size != count:
        raise RiceError(f"expected {count:,} gaps, got {ends.size:,}")
    gaps = np.diff(ends, prepend=0).astype(np.int64) - 1
    remainders = _bits(data[len(data) - tail :])[: count * r].reshape(count, r)
    for place in range(r):
        gaps = (gaps << 1) | remainders[:, place]
    indices = np.cumsum(gaps + 1) - 1
    if indices[-1] >= length:
        raise RiceError(f"expected indices below {length:,}, got {int(indices[-1]):,}")
    if encode(indices, length) != data:
        raise RiceError("expected zeros in the padding, got others")
    return indices


def _bits(data: bytes) -> Bits:
    return np.unpackbits(np.frombuffer(data, np.uint8))


def _bytes(bits: int) -> int:
    return -(-bits // 8)
