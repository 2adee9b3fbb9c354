"""Which rows of the data set a slot of a round trains on.

Rule: the rows follow from (seed, round, attempt, slot) alone, through a counter-based generator's raw stream, so that
nobody chooses their data, every version of numpy draws the same, and nobody is paid for an update that was revealed in
an attempt that failed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from chain.primitives.hashing import Hash, blake2_256

# A permutation of 16 million rows takes a second; larger sets are sharded into tasks.
ROWS_MAX = 1 << 24
PHILOX_WORDS = 4  # of 64 bits, that Philox 4x64 makes of each number that its counter counts to

Rows = npt.NDArray[np.int64]


def permutation(seed: Hash, count: int) -> Rows:
    """The permutation of `count` rows that a 32-byte seed names: the stable order of Philox's raw 64-bit stream."""
    return _epochs(seed, count, 0, 1)


def attempt_seed(seed: Hash, round_index: int, attempt: int) -> Hash:
    """The seed of one attempt at one round of the task with this seed."""
    numbers = round_index.to_bytes(4, "little") + attempt.to_bytes(4, "little")
    return blake2_256(b"potchain round permutation" + seed + numbers)


def slot_rows(seed: Hash, round_index: int, attempt: int, slot: int, size: int, count: int) -> Rows:
    """The `size` rows of a slot, which follow those of the slot before.

    A round takes all `count` rows once before any twice, and each time in another order: no slot repeats another.
    """
    begin, end = slot * size, (slot + 1) * size
    first, last = begin // count, (end - 1) // count
    order = _epochs(attempt_seed(seed, round_index, attempt), count, first, last - first + 1)
    return order[begin - first * count : end - first * count]


def _epochs(seed: Hash, count: int, first: int, epochs: int) -> Rows:
    """The permutations of so many epochs, one after another: i64[epochs * count].

    Epoch 0 has the stream's first `count` words, epoch 1 those that follow, and so on.
    """
    if not 0 < count <= ROWS_MAX:
        raise ValueError(f"expected 1 to {ROWS_MAX:,} rows, got {count:,}")
    key = np.frombuffer(seed[:16], dtype="<u8").astype(np.uint64)
    block, within = divmod(first * count, PHILOX_WORDS)
    stream = np.random.Philox(key=key, counter=block).random_raw(within + epochs * count)[within:]
    return np.argsort(stream.reshape(epochs, count), axis=1, kind="stable").reshape(-1).astype(np.int64, copy=False)
