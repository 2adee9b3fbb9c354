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

Rows = npt.NDArray[np.int64]


def permutation(seed: Hash, count: int) -> Rows:
    """The permutation of `count` rows that a 32-byte seed names: the stable order of Philox's raw 64-bit stream."""
    if not 0 < count <= ROWS_MAX:
        raise ValueError(f"expected 1 to {ROWS_MAX:,} rows, got {count:,}")
    key = np.frombuffer(seed[:16], dtype="<u8").astype(np.uint64)
    stream = np.random.Philox(key=key).random_raw(count)
    return np.argsort(stream, kind="stable").astype(np.int64)


def attempt_seed(seed: Hash, round_index: int, attempt: int) -> Hash:
    """The seed of one attempt at one round of the task with this seed."""
    numbers = round_index.to_bytes(4, "little") + attempt.to_bytes(4, "little")
    return blake2_256(b"potchain round permutation" + seed + numbers)


def slot_rows(seed: Hash, round_index: int, attempt: int, slot: int, batch: int, count: int) -> Rows:
    """The `batch` rows of a slot, consecutive in the attempt's permutation: slots overlap only when rows run out."""
    order = permutation(attempt_seed(seed, round_index, attempt), count)
    return order[(slot * batch + np.arange(batch, dtype=np.int64)) % count]
