"""Data sets as blobs: a manifest that names four arrays, and the rows that a slot or an evaluation reads from them.

Rule: shapes and types come from the program, sizes are checked against them, and bytes stay bytes: only the engine
makes tensors of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from chain.primitives.hashing import Hash
from trainer.artifact import Program
from trainer.artifact import Rows as RowShape
from trainer.batches import ROWS_MAX, Rows
from trainer.packing import PackingError, fields, integer, pack, unpack

VERSION = 1
MANIFEST_BYTES_MAX = 4_096
# One array is held in memory whole.
ARRAY_BYTES_MAX = 2 << 30

Fetch = Callable[[Hash, int], Awaitable[bytes]]


class DatasetError(ValueError):
    """A manifest or an array is not what the program needs."""


@dataclass(frozen=True, slots=True)
class Split:
    """The blobs of a split's inputs and targets, and how many rows both have. Without rows there are no blobs."""

    x: Hash
    y: Hash
    count: int


NO_ROWS = Split(bytes(32), bytes(32), 0)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A data set: what is trained on, and what accuracy is measured on; of a federated task the latter alone."""

    train: Split
    held_out: Split


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set in memory; arrays are u8[count, row bytes]."""

    train_x: npt.NDArray[np.uint8]
    train_y: npt.NDArray[np.uint8]
    held_out_x: bytes
    held_out_y: bytes
    train_count: int
    held_out_count: int

    def batch(self, rows: Rows) -> tuple[bytes, bytes]:
        """The bytes of these training rows, inputs and targets."""
        return self.train_x[rows].tobytes(), self.train_y[rows].tobytes()


def encode(manifest: Manifest) -> bytes:
    """The manifest's blob."""
    return pack({"version": VERSION, "train": _packed(manifest.train), "held_out": _packed(manifest.held_out)})


def parse(data: bytes) -> Manifest:
    """The manifest in a blob; DatasetError says which field is not as expected."""
    try:
        shape = {"version": int, "train": dict, "held_out": dict}
        value = fields(unpack(data, bytes_max=MANIFEST_BYTES_MAX), shape, "dataset")
        integer(value["version"], VERSION, VERSION, "dataset.version")
        train = _split(value["train"], "dataset.train", 0)
        if train.count == 0 and train != NO_ROWS:
            raise PackingError("dataset.train: expected zeros in place of the blobs of no rows")
        return Manifest(train, _split(value["held_out"], "dataset.held_out", 1))
    except PackingError as error:
        raise DatasetError(str(error)) from None


async def load(root: Hash, program: Program, fetch: Fetch) -> Dataset:
    """Fetch a data set's blobs and check them against the program's shapes."""
    manifest = parse(await fetch(root, MANIFEST_BYTES_MAX))
    if manifest.held_out.count % program.evaluate_batch:
        raise DatasetError(
            f"expected held-out rows in whole evaluation batches of {program.evaluate_batch}, "
            f"got {manifest.held_out.count}"
        )
    train_x = await _array(manifest.train.x, manifest.train.count, program.inputs, fetch)
    train_y = await _array(manifest.train.y, manifest.train.count, program.targets, fetch)
    return Dataset(
        train_x=rows_of(train_x, program.inputs),
        train_y=rows_of(train_y, program.targets),
        held_out_x=await _array(manifest.held_out.x, manifest.held_out.count, program.inputs, fetch),
        held_out_y=await _array(manifest.held_out.y, manifest.held_out.count, program.targets, fetch),
        train_count=manifest.train.count,
        held_out_count=manifest.held_out.count,
    )


def rows_of(data: bytes, shape: RowShape) -> npt.NDArray[np.uint8]:
    """The rows of an array's bytes, u8[count, row bytes]."""
    return np.frombuffer(data, dtype=np.uint8).reshape(-1, shape.row_bytes)


async def _array(root: Hash, count: int, shape: RowShape, fetch: Fetch) -> bytes:
    if not count:
        return b""
    size = count * shape.row_bytes
    if size > ARRAY_BYTES_MAX:
        raise DatasetError(f"expected arrays of at most {ARRAY_BYTES_MAX:,} bytes, got one of {size:,}")
    data = await fetch(root, size)
    if len(data) != size:
        raise DatasetError(f"expected {count} rows of {shape.row_bytes} bytes in 0x{root.hex()}, got {len(data)} bytes")
    return data


def _packed(split: Split) -> dict[str, object]:
    return {"x": split.x, "y": split.y, "count": split.count}


def _split(value: Any, what: str, count_min: int) -> Split:
    parsed = fields(value, {"x": bytes, "y": bytes, "count": int}, what)
    for name in ("x", "y"):
        if len(parsed[name]) != 32:
            raise PackingError(f"{what}.{name}: expected 32 bytes, got {len(parsed[name])}")
    return Split(parsed["x"], parsed["y"], integer(parsed["count"], count_min, ROWS_MAX, f"{what}.count"))
