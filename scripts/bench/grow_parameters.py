"""What a round's updates cost as a model has more parameters: to say, to hash, to read, to sum, to check, to apply.

Each is what a worker, an aggregator or an auditor calls, on int8 updates, in one process. What a node takes of a blob
ends the curve before memory does: beyond the last size that it names nobody could send what is measured here.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from curves import Column, Curve, Form, Growth, Rows
from figures import Figures

from chain.primitives.blob import CHUNK_BYTES, blob_root, blob_tree, decode_chunks, encode_chunks
from chain.rpc.protocol import Limits
from trainer import optimizers, robust
from trainer.arrays import PARAMETERS_MAX, Float32s
from trainer.audit import Tolerance, compare
from trainer.codecs import INT8
from trainer.optimizers import PICO, Adam, OptimizerState
from trainer.robust import Mean

SHORT = Form((10_000, 100_000), 2)
USUAL = Form((10_000, 100_000, 1_000_000, 10_000_000, 100_000_000), 3)
UPDATES = 4
# A slice of four chunks of parameters, as tasks have it whose sums are checked slice by slice.
SLICE = 65_536
RULE = Adam(PICO // 100, 9 * PICO // 10, 99 * PICO // 100, PICO // 10**8)
TOLERANCE = Tolerance(510_000, 20)

SAY = Column("round and encode an update", "ms", Growth.LINEAR)
HASH = Column("hash it", "ms", Growth.LINEAR)
READ = Column("decode and check it", "ms", Growth.LINEAR)
AUDIT = Column("compare it with an auditor's own", "ms", Growth.LINEAR)
SUM = Column("mean of 4 updates", "ms", Growth.LINEAR)
STEP = Column("step of Adam", "ms", Growth.LINEAR)
CHUNK = Column("prove and check a chunk", "ms", Growth.LOGARITHMIC)
PART = Column(f"sum a slice of {SLICE:,} parameters", "ms", Growth.FLAT)
UPDATE = Column("update", "MB", Growth.LINEAR)
PEAK = Column("memory to encode it", "MB", Growth.LINEAR)
TIMES = (SAY, HASH, READ, AUDIT, SUM, STEP, CHUNK, PART)
CURVE = Curve("parameters", "A model, in parameters", "parameters", (*TIMES, UPDATE, PEAK))

T = TypeVar("T")


def measure(form: Form) -> None:
    """Measure updates of each size, and say which bounds end the curve."""
    rows = Rows(CURVE)
    for size in form.sizes:
        rows.add(size, _measure(size, form.samples))
    rows.end()
    blob = Limits().blob_bytes_max
    print(f"  a node takes blobs of {blob:,} bytes: Adam's state of {_most(blob, 8):,} parameters, models of")
    print(f"  {_most(blob, 4):,}, updates of {_most(blob, 1 + 1 / 256):,}; a task may claim {PARAMETERS_MAX:,}")


def _most(blob: int, each: float) -> int:
    """How many parameters of so many bytes a blob holds, beside its few fields."""
    return int((blob - 128) / each)


def _measure(size: int, samples: int) -> dict[str, Sequence[float]]:
    """`samples` of each time; a model that is smaller than a slice has none."""
    figures, rng = Figures(), np.random.default_rng(1)
    own = rng.standard_normal(size, np.float32)
    data, peak = _peaking(own)
    updates = [INT8.decode(data, size, 0)] * UPDATES
    state = OptimizerState(1, (own, np.abs(own)))

    def timed(column: Column, work: Callable[[], T]) -> T:
        for _ in range(samples):
            with figures.sample(column.name):
                made = work()
        return made

    assert timed(SAY, lambda: INT8.quantise(own, 0).encode()) == data
    root = timed(HASH, lambda: blob_root(data))
    timed(READ, lambda: INT8.decode(data, size, 0))
    assert timed(AUDIT, lambda: compare(updates[0], own, TOLERANCE)).right
    mean = timed(SUM, lambda: robust.combine(Mean(), updates))
    timed(STEP, lambda: optimizers.step(RULE, state, own, mean))
    if size >= SLICE:
        tree = blob_tree(data)

        def chunk() -> bytes:
            return decode_chunks(root, 0, 1, encode_chunks(len(data), [(data[:CHUNK_BYTES], tree.proof(0))]))[1]

        assert timed(CHUNK, chunk) == data[:CHUNK_BYTES]
        parts = [update.slice(0, SLICE) for update in updates]
        timed(PART, lambda: robust.combine(Mean(), parts))
    return {
        **{column.name: [1000 * each for each in figures[column.name].cpu] for column in TIMES},
        UPDATE.name: [len(data) / 1e6],
        PEAK.name: [peak / 1e6],
    }


def _peaking(values: Float32s) -> tuple[bytes, int]:
    """An update's blob, and the most bytes that making it takes, the blob included."""
    tracemalloc.start()
    try:
        return INT8.quantise(values, 0).encode(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
