"""Files that survive a kill: blobs that never change, and what a worker must not forget before it reveals.

Rule: a file is written whole, flushed, then renamed, and its folder is flushed; what was half written is never read.
What is kept of a task goes with it.
"""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Self

import numpy as np

from chain.primitives.blob import blob_root
from chain.primitives.durable import PARTIAL, make_folder, replace_file, sync_folder
from chain.primitives.hashing import Hash, blake2_256
from trainer.codecs.memory import Memory
from trainer.packing import PackingError, fields, pack, unpack
from trainer.spill import Spill

Place = tuple[int, int, int, int]  # task, round, attempt, slot
DIGEST_BYTES = 32
SECRET_BYTES = 32
# What is kept of a task that ended while nobody served it. No phase of a round takes as long, and what is needed again
# after it is fetched or computed again.
UNUSED_SECONDS = 30 * 86_400


def kept_secret(path: Path) -> bytes:
    """32 random bytes that only the user of this process can read, the same at every start."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        make_folder(path.parent)
    made = secrets.token_bytes(SECRET_BYTES)
    partial = path.with_name(f"{path.name}{PARTIAL}")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(made)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)
    return made


class BlobFiles:
    """Programs and data sets of the tasks served, so that a restart does not fetch them again. Any thread may ask."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tasks: dict[Hash, set[int]] = {}  # that have asked for a blob
        self._lock = Lock()
        _open(folder)

    def get(self, task: int, root: Hash, bytes_max: int) -> bytes | None:
        """A blob that is here and whole, or None; it stays until the task is forgotten."""
        path = self._folder / root.hex()
        with self._lock:
            self._tasks.setdefault(root, set()).add(task)
        try:
            data = path.read_bytes() if path.stat().st_size <= bytes_max else b""
            os.utime(path)
        except FileNotFoundError:
            return None
        return data if blob_root(data) == root else None

    def put(self, root: Hash, data: bytes) -> None:
        """Keep a blob that a task has asked for."""
        replace_file(self._folder / root.hex(), data)

    def forget(self, task: int) -> None:
        """Remove what no other task has asked for."""
        with self._lock:
            for root in [root for root, tasks in self._tasks.items() if tasks == {task}]:
                del self._tasks[root]
                (self._folder / root.hex()).unlink(missing_ok=True)
            for tasks in self._tasks.values():
                tasks.discard(task)

    def spill(self) -> Spill:
        """A file without a name, on the disk that the blobs are on."""
        return Spill(self._folder)


@dataclass(frozen=True, slots=True)
class Pending:
    """A slot's contribution between commitment and the end of its round; one that is planted has what shows it."""

    salt: bytes
    update_root: Hash
    update: bytes
    plant_proof: bytes = b""


class PendingFiles:
    """What a worker committed to, by its place (task, round, attempt, slot) and what it was computed from.

    The latter because a chain may have begun anew: what an old one left in the folder would be a wrong gradient.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        _open(folder)

    def get(self, place: Place, source: Hash) -> Pending | None:
        """What was put; None if nothing whole is there."""
        try:
            data = self._path(place, source).read_bytes()
            parsed = fields(unpack(data), {"salt": bytes, "update": bytes, "proof": bytes}, "pending")
        except (FileNotFoundError, PackingError):
            return None
        return Pending(parsed["salt"], blob_root(parsed["update"]), parsed["update"], parsed["proof"])

    def put(self, place: Place, source: Hash, pending: Pending) -> None:
        """Durable when it returns: a commitment may be sent."""
        parts = {"salt": pending.salt, "update": pending.update, "proof": pending.plant_proof}
        replace_file(self._path(place, source), pack(parts))

    def forget(self, task: int) -> None:
        """Remove all that is left of a task that is over."""
        for path in self._folder.glob(f"{task}-*.pending"):
            path.unlink(missing_ok=True)

    def forget_before(self, task: int, round_: int, attempt: int) -> None:
        """Remove what earlier attempts and rounds of a task left, and what nothing of ours is named like."""
        for path in self._folder.glob(f"{task}-*.pending"):
            numbers = path.stem.split("-")
            if len(numbers) != 5 or (int(numbers[1]), int(numbers[2])) < (round_, attempt):
                path.unlink(missing_ok=True)

    def _path(self, place: Place, source: Hash) -> Path:
        return self._folder / f"{'-'.join(map(str, place))}-{source.hex()}.pending"


class MemoryFiles:
    """What a slot remembers after a round, by its place and by the update that it follows from.

    A file that is gone or damaged costs the time to compute it again, and nothing else.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        _open(folder)

    def get(self, place: Place, update_root: Hash, length: int) -> Memory | None:
        """What was put for a model of `length` parameters; None if nothing whole is there."""
        try:
            data = self._path(place, update_root).read_bytes()
        except FileNotFoundError:
            return None
        digest, values = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
        if len(values) not in (4 * length, 8 * length) or blake2_256(values) != digest:
            return None
        vectors = np.frombuffer(values, "<f4").astype(np.float32).reshape(-1, length)
        return Memory(*vectors)

    def put(self, place: Place, update_root: Hash, memory: Memory) -> None:
        """Keep a memory in place of those that the task's slot had after earlier rounds and attempts."""
        kept = self._path(place, update_root)
        vectors = [vector for vector in (memory.unsent, memory.velocity) if vector is not None]
        values = b"".join(vector.astype("<f4").tobytes() for vector in vectors)
        replace_file(kept, blake2_256(values) + values)
        task, _, _, slot = place
        for path in self._folder.glob(f"{task}-*-*-{slot}-*.memory"):
            # The round before may still be audited, and what follows it thrown away.
            if int(path.stem.split("-")[1]) < place[1] - 1:
                path.unlink(missing_ok=True)

    def forget(self, task: int) -> None:
        """Remove all memories of a task that is over."""
        for path in self._folder.glob(f"{task}-*.memory"):
            path.unlink(missing_ok=True)

    def _path(self, place: Place, update_root: Hash) -> Path:
        return self._folder / f"{'-'.join(map(str, place))}-{update_root.hex()}.memory"


@dataclass(frozen=True, slots=True)
class Files:
    """All that a worker, auditor or aggregator keeps in its folder."""

    blobs: BlobFiles
    pending: PendingFiles
    memories: MemoryFiles

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Those in a folder, which is made if it is not there."""
        return cls(BlobFiles(folder / "blobs"), PendingFiles(folder / "pending"), MemoryFiles(folder / "memories"))

    def forget(self, task: int) -> None:
        """Remove what is kept of a task that is over; for a thread."""
        self.blobs.forget(task)
        self.pending.forget(task)
        self.memories.forget(task)


def _open(folder: Path) -> None:
    """Make a folder that one process has for itself, without what a kill left half written, or of tasks long over."""
    make_folder(folder)
    unused = time.time() - UNUSED_SECONDS
    for path in folder.iterdir():
        if path.name.endswith(PARTIAL) or path.stat().st_mtime < unused:
            path.unlink()
