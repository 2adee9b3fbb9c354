"""A disk in memory that loses what was not synced, tears what was being written, runs full and is slow.

The rule: after a power cut there is on it exactly what was synced, and of what was not, whatever a real disk may have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from errno import ENOSPC
from pathlib import Path
from random import Random
from typing import Final

# What a disk writes whole, or not at all.
SECTOR_BYTES: Final = 512


class PowerCut(Exception):
    """The machine stops here, and what its disk holds is all that is left."""


@dataclass(slots=True)
class _File:
    content: bytearray = field(default_factory=bytearray)
    synced: bytes = b""


class SimulatedDisk:
    """Implements `consensus.disk.Disk`. `hazard` is called before and after each step: it may raise PowerCut."""

    def __init__(self, rng: Random, hazard: Callable[[], None]) -> None:
        self.full = False
        self.sync_ms = 0  # What a sync takes.
        self.waited_ms = 0  # What the syncs took that nobody has waited for yet.
        self._rng = rng
        self._hazard = hazard
        self._names: dict[Path, _File] = {}
        self._synced_names: dict[Path, _File] = {}
        self._open: dict[int, _File] = {}
        self._opened = 0

    def read(self, path: Path) -> bytes:
        if path not in self._names:
            raise FileNotFoundError(path)
        return bytes(self._names[path].content)

    def remove(self, path: Path) -> None:
        self._names.pop(path, None)

    def open(self, path: Path, *, fresh: bool) -> int:
        if fresh:
            self._names[path] = _File()
        self._opened += 1
        self._open[self._opened] = self._names[path]
        return self._opened

    def write(self, file: int, data: bytes | memoryview) -> int:
        self._hazard()
        if self.full:
            raise OSError(ENOSPC, "No space left on device")
        self._open[file].content += data
        self._hazard()
        return len(data)

    def truncate(self, file: int, size: int) -> None:
        del self._open[file].content[size:]

    def sync(self, file: int) -> None:
        self._hazard()
        self._open[file].synced = bytes(self._open[file].content)
        self.waited_ms += self.sync_ms
        self._hazard()

    def replace(self, new: Path, old: Path) -> None:
        self._hazard()
        self._names[old] = self._names.pop(new)
        self._hazard()

    def sync_folder(self, folder: Path) -> None:
        self._synced_names = dict(self._names)
        self.waited_ms += self.sync_ms
        self._hazard()

    def close(self, file: int) -> None:
        del self._open[file]

    def durable(self, path: Path) -> bytes:
        """What a power cut would certainly leave of a file."""
        file = self._synced_names.get(path)
        return b"" if file is None else file.synced

    def cut_power(self) -> None:
        """Lose what may be lost. Whether names that were not synced last is one toss, as with a journal."""
        self._open.clear()
        self.waited_ms = 0
        self._names = dict(self._names if self._rng.random() < 0.5 else self._synced_names)
        self._synced_names = dict(self._names)
        for file in self._names.values():
            file.content = bytearray(self._torn(file))
            file.synced = bytes(file.content)

    def wipe(self) -> None:
        """Forget everything: another disk is put in."""
        self._names, self._synced_names = {}, {}

    def _torn(self, file: _File) -> bytes:
        """What is left of a file: all, what was synced, a part, or all of its length with some sectors as they were."""
        before, after = file.synced, bytes(file.content)
        kind = self._rng.randrange(4)
        if kind == 0 or before == after or not after.startswith(before):
            return after if kind == 1 else before
        if kind == 1:
            return after
        if kind == 2:
            return after[: self._rng.randint(len(before), len(after))]
        torn = bytearray(after)
        for sector in range(len(before) // SECTOR_BYTES * SECTOR_BYTES, len(after), SECTOR_BYTES):
            start, end = max(sector, len(before)), min(sector + SECTOR_BYTES, len(after))
            if self._rng.random() < 0.5:
                torn[start:end] = bytes(end - start)
        return bytes(torn)
