"""Updates in a file, read slice by slice: who sums a round holds a few slices of its updates, however many there are.

Rule: what is read is what was written, and the file has no name, so that nothing of it is left however a process ends.
"""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar, assert_never

import numpy as np
import numpy.typing as npt

from trainer.arrays import Int8s, Int64s
from trainer.codecs.blocks import BLOCK, blocks_of
from trainer.codecs.updates import DenseUpdate, SparseUpdate, Update

# For each so many parameters it is remembered how many values of a sparse update come before: a slice of the mean.
STRIDE = 1 << 16

S = TypeVar("S", bound=np.generic)


class Spill:
    """A file that takes updates. It is closed when neither it nor any of them is needed any more."""

    def __init__(self, folder: Path) -> None:
        file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        self._file = file.fileno()
        self._end = 0
        self._lock = threading.Lock()
        weakref.finalize(self, file.close)

    def add(self, update: Update) -> StoredUpdate:
        """Write an update; may be called in several threads at once."""
        match update:
            case DenseUpdate(values, exponents):
                return StoredDense(self._write(values), exponents.copy(), values.size)
            case SparseUpdate(length, indices, values, exponents):
                before = np.searchsorted(indices, np.arange(0, length + STRIDE, STRIDE))
                return StoredSparse(length, self._write(indices), self._write(values), exponents.copy(), before)
            case _:
                assert_never(update)

    def read(self, start: int, size: int) -> bytearray:
        """These bytes of the file."""
        found = bytearray(size)
        view = memoryview(found)
        while view:
            got = os.preadv(self._file, [view], start + size - len(view))
            if not got:
                raise OSError(f"expected {size} bytes of a round's updates at {start}, got {size - len(view)}")
            view = view[got:]
        return found

    def _write(self, values: npt.NDArray[S]) -> _Array[S]:
        data = np.ascontiguousarray(values).view(np.uint8).data
        with self._lock:
            start = self._end
            self._end += len(data)
        done = 0
        while done < len(data):
            done += os.pwrite(self._file, data[done:], start + done)
        return _Array(self, start, values.dtype)


@dataclass(frozen=True, slots=True)
class _Array(Generic[S]):
    """A vector in a file."""

    spill: Spill
    start: int
    dtype: np.dtype[Any]

    def __getitem__(self, places: slice) -> npt.NDArray[S]:
        size = self.dtype.itemsize
        data = self.spill.read(self.start + places.start * size, (places.stop - places.start) * size)
        return np.frombuffer(data, dtype=self.dtype)


@dataclass(frozen=True, slots=True)
class StoredDense:
    """A dense update whose values are in a file; a 256th of them, the exponents, is in memory."""

    values: _Array[Any]
    exponents: Int8s
    length: int

    @property
    def kind(self) -> type[Update]:
        """What its slices are."""
        return DenseUpdate

    def slice(self, begin: int, end: int) -> DenseUpdate:
        """What it says of the parameters from `begin`, which begins a block, to `end`."""
        return DenseUpdate(self.values[begin:end], self.exponents[begin // BLOCK : blocks_of(end)])


@dataclass(frozen=True, slots=True)
class StoredSparse:
    """A sparse update whose indices and values are in a file; `before` counts those before each STRIDE."""

    length: int
    indices: _Array[np.int64]
    values: _Array[np.int8]
    exponents: Int8s
    before: Int64s

    @property
    def kind(self) -> type[Update]:
        """What its slices are."""
        return SparseUpdate

    def slice(self, begin: int, end: int) -> SparseUpdate:
        """What it says of the parameters from `begin` to `end`."""
        first, last = int(self.before[begin // STRIDE]), int(self.before[-(-end // STRIDE)])
        around = SparseUpdate(
            length=self.length,
            indices=self.indices[first:last],
            values=self.values[first:last],
            exponents=self.exponents[first // BLOCK : blocks_of(last)],
            skipped=first % BLOCK,
        )
        return around.slice(begin, end)


StoredUpdate: TypeAlias = StoredDense | StoredSparse
# Whatever can be summed.
Summand: TypeAlias = Update | StoredUpdate


def load(stored: StoredUpdate) -> Update:
    """All of an update, in memory."""
    return stored.slice(0, stored.length)
