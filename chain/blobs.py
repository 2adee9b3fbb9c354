"""The blob store: content-addressed files on disk, written atomically, bounded by evicting what was used longest ago.

The rule: `get` returns the bytes that hash to the root or nothing; a file that the disk damaged counts as missing.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from chain.primitives.blob import CHUNK_BYTES, blob_root, chunk_count, chunk_proof
from chain.primitives.hashing import Hash

# The last blob that was served stays in memory with its proofs, since a peer asks for it chunk by chunk.
SERVED_BYTES_MAX = 64 * 1024 * 1024


class BlobStoreFull(Exception):
    """The blob does not fit, even with everything evicted that is not pinned."""


@dataclass(frozen=True, slots=True)
class BlobChunks:
    """Consecutive chunks of one blob, each with the Merkle path that proves it."""

    total_length: int
    chunks: tuple[tuple[bytes, tuple[Hash, ...]], ...]


class BlobStore:
    """All methods are synchronous and thread-safe: call them in threads. Pins last as long as this object."""

    def __init__(self, path: Path, bytes_max: int) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._sizes: OrderedDict[Hash, int] = OrderedDict()
        self._bytes = 0
        self._pinned: set[Hash] = set()
        self._served: tuple[Hash, bytes] | None = None
        path.mkdir(parents=True, exist_ok=True)
        self._scan()

    @property
    def bytes_used(self) -> int:
        """Bytes of all blobs on disk."""
        return self._bytes

    def put(self, data: bytes) -> Hash:
        """Store a blob durably and return its root; `BlobStoreFull` when there is no room for it."""
        root = blob_root(data)
        with self._lock:
            if root in self._sizes:
                self._touch(root)
                return root
            self._make_room(len(data))
            self._write(root, data)
            self._sizes[root] = len(data)
            self._bytes += len(data)
        return root

    def get(self, root: Hash) -> bytes | None:
        """The blob, None when it is not here (or was damaged, and is now forgotten)."""
        with self._lock:
            if root not in self._sizes:
                return None
            self._touch(root)
            try:
                data = self._file(root).read_bytes()
            except FileNotFoundError:
                self._forget(root)
                return None
        if blob_root(data) == root:
            return data
        with self._lock:
            self._forget(root)
        return None

    def has(self, root: Hash) -> bool:
        """Whether the blob is here."""
        with self._lock:
            return root in self._sizes

    def pin(self, root: Hash) -> None:
        """Never evict this blob, whether it is here yet or not."""
        with self._lock:
            self._pinned.add(root)

    def unpin(self, root: Hash) -> None:
        """Let this blob be evicted again."""
        with self._lock:
            self._pinned.discard(root)

    def chunks(self, root: Hash, index: int, count: int) -> BlobChunks | None:
        """Up to `count` chunks from `index` on with their proofs; None when the blob is not here."""
        served = self._served
        if served is not None and served[0] == root:
            data = served[1]
        else:
            found = self.get(root)
            if found is None:
                return None
            data = found
            if CHUNK_BYTES < len(data) <= SERVED_BYTES_MAX:
                self._served = (root, data)
        stop = min(index + count, chunk_count(len(data)))
        return BlobChunks(
            len(data),
            tuple(
                (data[i * CHUNK_BYTES : (i + 1) * CHUNK_BYTES], tuple(chunk_proof(data, i))) for i in range(index, stop)
            ),
        )

    def _file(self, root: Hash) -> Path:
        name = root.hex()
        return self._path / name[:2] / name

    def _scan(self) -> None:
        """Learn what is on disk, oldest use first; remove what a crash left half written."""
        found: list[tuple[float, Hash, int]] = []
        for file in self._path.glob("??/*"):
            if file.suffix == ".part":
                file.unlink()
                continue
            with contextlib.suppress(ValueError):
                root = bytes.fromhex(file.name)
                if len(root) == 32 and self._file(root) == file:
                    stat = file.stat()
                    found.append((stat.st_mtime, root, stat.st_size))
        for _, root, size in sorted(found):
            self._sizes[root] = size
            self._bytes += size

    def _touch(self, root: Hash) -> None:
        self._sizes.move_to_end(root)
        with contextlib.suppress(FileNotFoundError):
            os.utime(self._file(root))

    def _make_room(self, size: int) -> None:
        pinned = sum(self._sizes[root] for root in self._pinned if root in self._sizes)
        if pinned + size > self._bytes_max:
            raise BlobStoreFull(
                f"a blob of {size} bytes does not fit: {pinned} of {self._bytes_max} bytes are pinned; allow more"
            )
        for root in [root for root in self._sizes if root not in self._pinned]:
            if self._bytes + size <= self._bytes_max:
                return
            self._forget(root)

    def _forget(self, root: Hash) -> None:
        self._bytes -= self._sizes.pop(root, 0)
        self._file(root).unlink(missing_ok=True)

    def _write(self, root: Hash, data: bytes) -> None:
        """The whole file appears under its name or nothing does: written aside, flushed, renamed, folder flushed."""
        file = self._file(root)
        file.parent.mkdir(exist_ok=True)
        part = file.with_suffix(".part")
        try:
            with part.open("wb") as out:
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
            part.replace(file)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
