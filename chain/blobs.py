"""The blob store: content-addressed files on disk, written whole or not at all, bounded by evicting the longest unused.

The rule: a root names the bytes that hash to it, or nothing. What anybody may send has a share of its own and pushes
out only its like; what the chain names stays, unless it is longer than the chain says. No lock is held while bytes flow
or the disk is flushed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from chain.primitives.blob import CHUNK_BYTES, BlobHasher, BlobTree, blob_root, chunk_count
from chain.primitives.durable import make_folder, sync_folder
from chain.primitives.hashing import Hash

# A quarter of the store is for what the chain does not name (yet): uploads on their way to it, and strangers' whims.
INCOMING_SHARE = 4
# Every blob is charged whole blocks of a disk, so that tiny ones exhaust neither its inodes nor this index.
BLOCK_BYTES = 4096
# The chunks of all trees that are kept for serving chunks: ten megabytes, and a thousand updates of a small model.
TREE_CHUNKS_MAX = 65_536
READ_BYTES = 1024 * 1024
_INCOMING = "incoming"


class BlobStoreFull(Exception):
    """There is no room for the blob; the message says why."""


@dataclass(frozen=True, slots=True)
class BlobChunks:
    """Consecutive chunks of one blob, each with the Merkle path that proves it."""

    total_length: int
    chunks: tuple[tuple[bytes, tuple[Hash, ...]], ...]


class StoredBlob:
    """An open blob: it can be read to its end even if it is evicted meanwhile."""

    def __init__(self, file: int) -> None:
        self._file = file
        self.length = os.fstat(file).st_size

    def read(self, start: int, size: int) -> bytes:
        """The bytes from `start` on, at most `size` of them."""
        return os.pread(self._file, size, start)

    def pieces(self) -> Iterator[bytes]:
        """All of it, piece by piece."""
        start = 0
        while piece := self.read(start, READ_BYTES):
            yield piece
            start += len(piece)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


class Upload:
    """A blob on its way into the store: `write` its pieces, look at the `root`, `keep` it or `close` without."""

    def __init__(self, store: BlobStore, path: Path) -> None:
        self._store = store
        self._hasher = BlobHasher()
        self._tree: BlobTree | None = None
        self._file = path.open("xb", buffering=0)
        self.path = path
        self.dropped = False  # Newer uploads needed the room.

    def write(self, piece: bytes | bytearray) -> None:
        """Take the next bytes; `BlobStoreFull` when there is no room for them."""
        self._store._claim(self, len(piece))
        view = memoryview(piece)
        while view:
            view = view[self._file.write(view) :]
        self._hasher.update(piece)

    def root(self) -> Hash:
        """The root of what was written."""
        self._tree = self._hasher.tree()
        return self._tree.root

    def keep(self) -> Hash:
        """Make it durable and part of the store; returns its root."""
        root = self.root()
        assert self._tree is not None
        os.fsync(self._file.fileno())
        self._store._take(self, self._tree)
        return root

    def close(self) -> None:
        """Forget what was not kept."""
        self._file.close()
        self._store._give_up(self)


class _Area:
    """What one part of the store holds, the longest unused first."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes = 0
        self.sizes: OrderedDict[Hash | Upload, int] = OrderedDict()

    def grow(self, key: Hash | Upload, size: int) -> None:
        self.sizes[key] = self.sizes.get(key, 0) + size
        self.bytes += size

    def remove(self, key: Hash | Upload) -> None:
        self.bytes -= self.sizes.pop(key, 0)


class BlobStore:
    """All methods are synchronous and thread-safe: call them in threads."""

    def __init__(self, path: Path, bytes_max: int) -> None:
        self._path = path
        self.bytes_max = bytes_max
        self._lock = threading.Lock()
        self._kept = _Area(bytes_max - bytes_max // INCOMING_SHARE)
        self._incoming = _Area(bytes_max // INCOMING_SHARE)
        # By who wants them, the most bytes that each may have; replaced and never changed, since threads read it.
        self._wanted_by: Mapping[str, Mapping[Hash, int]] = {}
        # What was wanted, or may have been before a restart: of these `drop` removes what nobody wants any more.
        self._fallow: dict[Hash, None] = {}
        self._uploads = 0
        # Whose bytes this process has hashed, and some of the trees that came of it.
        self._checked: set[Hash] = set()
        self._trees: OrderedDict[Hash, BlobTree] = OrderedDict()
        make_folder(path / _INCOMING)
        self._scan()

    @property
    def bytes_used(self) -> int:
        """Bytes that all blobs are charged with, those on their way in included."""
        return self._kept.bytes + self._incoming.bytes

    def put(self, data: bytes) -> Hash:
        """Store a blob durably and return its root; `BlobStoreFull` when there is no room for it."""
        with self.receive() as upload:
            upload.write(data)
            return upload.keep()

    @contextlib.contextmanager
    def receive(self) -> Iterator[Upload]:
        """A blob that comes piece by piece."""
        upload = self.begin()
        try:
            yield upload
        finally:
            upload.close()

    def begin(self) -> Upload:
        """As `receive`, for who closes the upload."""
        with self._lock:
            self._uploads += 1
            number = self._uploads
        return Upload(self, self._path / _INCOMING / f"{number}.part")

    def get(self, root: Hash) -> bytes | None:
        """The blob, None when it is not here (or was damaged, and is now forgotten)."""
        blob = self._open(root)
        if blob is None:
            return None
        with contextlib.closing(blob):
            data = b"".join(blob.pieces())
        if blob_root(data) == root:
            return data
        self._forget(root)
        return None

    def open(self, root: Hash) -> StoredBlob | None:
        """The blob, to be read in pieces and closed; None when it is not here, or was damaged and is now forgotten."""
        blob = self._open(root)
        if blob is not None and root not in self._checked and self._tree(root, blob) is None:
            blob.close()
            return None
        return blob

    def has(self, root: Hash) -> bool:
        """Whether the blob is here."""
        with self._lock:
            return root in self._kept.sizes or root in self._incoming.sizes

    def keep(self, owner: str, roots: Mapping[Hash, int]) -> None:
        """Never evict these blobs, whether they are here yet or not, until `owner` names others.

        Of each it says how many bytes it has at most: one that is longer is no more than a stranger's. Where several
        name a blob, the largest of their numbers counts, so that nobody takes another's blob by a false word.
        """
        with self._lock:
            before = self._wanted_by.get(owner, {})
            self._wanted_by = {**self._wanted_by, owner: dict(roots)}
            # Also what is named at another length now, by one more or one fewer.
            self._fallow.update(dict.fromkeys(root for root, most in before.items() if roots.get(root) != most))
            for root in roots:
                if root in self._incoming.sizes and self._is_wanted(root):
                    size = self._incoming.sizes[root]
                    with contextlib.suppress(BlobStoreFull, FileNotFoundError):
                        self._make_room(self._kept, size)
                        self._file(root, self._kept).parent.mkdir(exist_ok=True)
                        os.replace(self._file(root, self._incoming), self._file(root, self._kept))
                        self._incoming.remove(root)
                        self._kept.grow(root, size)

    def wants(self, root: Hash) -> bool:
        """Whether the blob is one of those that are never evicted."""
        return any(root in roots for roots in self._wanted_by.values())

    def length_max(self, root: Hash) -> int | None:
        """The most bytes that a wanted blob may have."""
        return max((roots[root] for roots in self._wanted_by.values() if root in roots), default=None)

    def length(self, root: Hash) -> int | None:
        """How many bytes the blob has, if it is here."""
        with self._lock:
            return self._length(root)

    def drop(self, most: int) -> int:
        """Remove what was wanted and is no more: look at up to `most` blobs, and say how many wait.

        After a start everything that was kept waits: say first what is wanted now.
        """
        with self._lock:
            for root in list(itertools.islice(self._fallow, most)):
                del self._fallow[root]
                if root in self._kept.sizes and not self._is_wanted(root):
                    self._evict(root, self._kept)
            return len(self._fallow)

    def chunks(self, root: Hash, index: int, count: int) -> BlobChunks | None:
        """Up to `count` chunks from `index` on with their proofs; None when the blob is not here."""
        blob = self._open(root)
        if blob is None:
            return None
        with contextlib.closing(blob):
            tree = self._tree(root, blob)
            if tree is None:
                return None
            chunks = []
            for number in range(index, min(index + count, chunk_count(tree.length))):
                chunk = blob.read(number * CHUNK_BYTES, CHUNK_BYTES)
                if not tree.holds(number, chunk):  # Damaged since: whom it is sent to would blame us.
                    self._forget(root)
                    return None
                chunks.append((chunk, tuple(tree.proof(number))))
        return BlobChunks(tree.length, tuple(chunks))

    # --- uploads ---

    def _claim(self, upload: Upload, size: int) -> None:
        """Room for more bytes of an upload, at the cost of the oldest of what came in."""
        area = self._incoming
        with self._lock:
            self._check(upload)
            area.grow(upload, size)
            self._make_room(area, 0, but=upload)

    def _take(self, upload: Upload, tree: BlobTree) -> None:
        """A whole blob, flushed to its part file, gets its name."""
        root, size = tree.root, _charged(tree.length)
        with self._lock:
            self._check(upload)
            self._incoming.remove(upload)
            here = next((area for area in (self._kept, self._incoming) if root in area.sizes), None)
            area = here or self._area_for(root, tree.length)
            folder = self._file(root, area).parent
            if here is None:
                folder.mkdir(exist_ok=True)
                os.replace(upload.path, self._file(root, area))
                area.grow(root, size)
                self._checked.add(root)
        # Also where another upload of the same blob was first: it may not have come this far.
        sync_folder(folder)
        sync_folder(self._path)

    def _area_for(self, root: Hash, length: int) -> _Area:
        size, most = _charged(length), self.length_max(root)
        if most is not None and length <= most:
            with contextlib.suppress(BlobStoreFull):
                self._make_room(self._kept, size)
                return self._kept
        self._make_room(self._incoming, size)
        return self._incoming

    def _give_up(self, upload: Upload) -> None:
        with self._lock:
            self._incoming.remove(upload)
        upload.path.unlink(missing_ok=True)

    def _check(self, upload: Upload) -> None:
        if upload.dropped:
            raise BlobStoreFull("newer uploads took the room of this one while it was on its way: send it again")

    # --- the index; the lock is held ---

    def _make_room(self, area: _Area, size: int, but: Upload | None = None) -> None:
        """Evict what was used longest ago and nobody wants until `size` bytes more fit; nothing if they never would."""
        victims: list[Hash | Upload] = []
        room = area.bytes_max - area.bytes
        for key, held in area.sizes.items():
            if room >= size:
                break
            if key is not but and not (isinstance(key, bytes) and self._is_wanted(key)):
                victims.append(key)
                room += held
        if room < size:
            raise BlobStoreFull(
                f"the blob does not fit: {size - room} bytes more would be needed beside what the chain names; "
                f"this part of the store has {area.bytes_max}"
            )
        for victim in victims:
            self._evict(victim, area)

    def _evict(self, key: Hash | Upload, area: _Area) -> None:
        area.remove(key)
        if isinstance(key, Upload):
            key.dropped = True
            # Its writer may be slow to notice: the disk shall have its bytes back now.
            with contextlib.suppress(FileNotFoundError):
                os.truncate(key.path, 0)
            return
        self._checked.discard(key)
        self._trees.pop(key, None)
        self._file(key, area).unlink(missing_ok=True)

    def _forget(self, root: Hash) -> None:
        """The blob's file is gone or damaged."""
        with self._lock:
            self._remove(root)

    def _remove(self, root: Hash) -> None:
        for area in (self._kept, self._incoming):
            if root in area.sizes:
                self._evict(root, area)

    def _length(self, root: Hash) -> int | None:
        for area in (self._kept, self._incoming):
            if root in area.sizes:
                with contextlib.suppress(FileNotFoundError):
                    return self._file(root, area).stat().st_size
        return None

    def _is_wanted(self, root: Hash) -> bool:
        """Whether somebody wants a blob that is here, as long as it is."""
        most = self.length_max(root)
        if most is None:
            return False
        length = self._length(root)
        return length is not None and length <= most

    # --- files ---

    def _file(self, root: Hash, area: _Area) -> Path:
        name = root.hex()
        return self._path / (_INCOMING if area is self._incoming else name[:2]) / name

    def _open(self, root: Hash) -> StoredBlob | None:
        with self._lock:
            area = self._kept if root in self._kept.sizes else self._incoming
            if root not in area.sizes:
                return None
            area.sizes.move_to_end(root)
            file = self._file(root, area)
            try:
                blob = StoredBlob(os.open(file, os.O_RDONLY))
            except FileNotFoundError:
                self._evict(root, area)
                return None
        with contextlib.suppress(FileNotFoundError):
            os.utime(file)  # For the next start, which learns from it what was used when.
        return blob

    def _tree(self, root: Hash, blob: StoredBlob) -> BlobTree | None:
        """The tree of a blob; None, and the blob is forgotten, when it is damaged."""
        with self._lock:
            tree = self._trees.get(root)
            if tree is not None:
                self._trees.move_to_end(root)
                return tree
        hasher = BlobHasher()
        for piece in blob.pieces():
            hasher.update(piece)
        tree = hasher.tree()
        if tree.root != root:
            self._forget(root)
            return None
        with self._lock:
            if root in self._kept.sizes or root in self._incoming.sizes:
                self._checked.add(root)
                self._trees[root] = tree
                kept = sum(chunk_count(each.length) for each in self._trees.values())
                while kept > TREE_CHUNKS_MAX:
                    kept -= chunk_count(self._trees.popitem(last=False)[1].length)
        return tree

    def _scan(self) -> None:
        """Learn what is on disk, oldest use first; remove what a crash left half written."""
        found: list[tuple[float, Hash, int, _Area]] = []
        for file in self._path.glob("*/*"):
            if file.parent.name == _INCOMING and file.suffix == ".part":
                file.unlink()
                continue
            with contextlib.suppress(ValueError):
                root = bytes.fromhex(file.name)
                for area in (self._kept, self._incoming):
                    if len(root) == 32 and self._file(root, area) == file:
                        stat = file.stat()
                        found.append((stat.st_mtime, root, stat.st_size, area))
        for _, root, size, area in sorted(found, key=lambda entry: entry[:2]):
            area.grow(root, _charged(size))
        self._fallow = dict.fromkeys(root for root in self._kept.sizes if isinstance(root, bytes))


def _charged(length: int) -> int:
    return max(1, -(-length // BLOCK_BYTES)) * BLOCK_BYTES
