"""Which rows of the data set a slot of a round trains on.

Rule: the rows follow from (seed, round, slot) alone, through a counter-based generator's raw stream, so that nobody
chooses their data and every version of numpy draws the same.
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


def round_seed(seed: Hash, round_index: int) -> Hash:
    """The seed of one round of the task with this seed."""
    return blake2_256(b"potchain round permutation" + seed + round_index.to_bytes(4, "little"))


def slot_rows(seed: Hash, round_index: int, slot: int, batch: int, count: int) -> Rows:
    """The `batch` rows of a slot, consecutive in the round's permutation: slots overlap only when rows run out."""
    order = permutation(round_seed(seed, round_index), count)
    return order[(slot * batch + np.arange(batch, dtype=np.int64)) % count]
