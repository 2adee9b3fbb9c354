"""A disk in memory that loses what was not synced, tears what was being written, runs full, fails and is slow.

The rule: after a power cut there is on it exactly what was synced, and of what was not, whatever a real disk may have.
When a process alone ends, the system's cache stays, and the next one reads what was never synced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from errno import EIO, ENOSPC
from pathlib import Path
from random import Random
from typing import Final

from chain.store import StorageFailed

# What a disk writes whole, or not at all.
SECTOR_BYTES: Final = 512


class Killed(Exception):
    """The process ends here, and all that it has written can be read."""


class PowerCut(Killed):
    """The machine stops here, and what its disk holds is all that is left."""


@dataclass(slots=True)
class _File:
    content: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    # What a failed sync has left in the cache alone: the system takes it for written, and no later sync writes it.
    forgotten: list[tuple[int, int]] = field(default_factory=list)

    def sync(self) -> None:
        on_disk = bytearray(self.content)
        for start, end in self.forgotten:
            on_disk[start:end] = bytes(end - start)
        self.synced = bytes(on_disk)

    def forget(self) -> None:
        self.forgotten.append((len(self.synced), len(self.content)))


class SimulatedDisk:
    """Implements `consensus.disk.Disk`. `hazard` is called before and after each step: it may raise Killed."""

    def __init__(self, rng: Random, hazard: Callable[[], None]) -> None:
        self.full = False
        self.errors = 0.0  # How likely a step fails with EIO.
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
        self._maybe_fail()
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
        self._maybe_fail()
        self._open[file].content += data
        self._hazard()
        return len(data)

    def sync(self, file: int) -> None:
        self._hazard()
        try:
            self._maybe_fail()
        except OSError:
            self._open[file].forget()
            raise
        self._open[file].sync()
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

    def expect_health(self) -> None:
        """What a database finds when it commits to this disk: maybe StorageFailed, and then nothing is written."""
        try:
            if self.full:
                raise OSError(ENOSPC, "No space left on device")
            self._maybe_fail()
        except OSError as error:
            raise StorageFailed(f"the database could not be written: {error.strerror}") from error

    def durable(self, path: Path) -> bytes:
        """What a power cut would certainly leave of a file."""
        file = self._synced_names.get(path)
        return b"" if file is None else file.synced

    def end_process(self) -> None:
        """Close what was open. All else stays in the cache."""
        self._open.clear()
        self.waited_ms = 0

    def cut_power(self) -> None:
        """Lose what may be lost. Whether names that were not synced last is one toss, as with a journal."""
        self.end_process()
        self._names = dict(self._names if self._rng.random() < 0.5 else self._synced_names)
        self._synced_names = dict(self._names)
        for file in self._names.values():
            file.content = bytearray(self._torn(file))
            file.synced, file.forgotten = bytes(file.content), []

    def wipe(self) -> None:
        """Forget everything: another disk is put in."""
        self._names, self._synced_names = {}, {}

    def _maybe_fail(self) -> None:
        if self.errors and self._rng.random() < self.errors:
            raise OSError(EIO, "Input/output error")

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
