"""The node's database: LMDB tables for blocks, the current state and the tree of recent ones; one writer, many readers.

Everything that a block changes is written in one transaction, so whatever kills the process leaves either the block
before or the block after. A folder that is not this chain's, or is damaged, is refused before a byte of it changes.
"""

from __future__ import annotations

import os
import shutil
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, TypeVar

import lmdb

from chain.folder_lock import LOCK_FILE, FolderLocked, lock_folder, sign_lock
from chain.gate import Gate
from chain.migrations import LOWEST_KEY, RELEASE_KEY, SCHEMA, SCHEMA_KEY, first_marks, migrate, newer
from chain.primitives.durable import PARTIAL, make_folder, sync_folder
from chain.primitives.hashing import Hash
from chain.primitives.merkle import Root
from runtime.state import StateFailed

# The map is address space, not disk: the file grows only as it fills. A gibibyte holds days of blocks, and doubling it
# keeps the pauses for growing rare.
MAP_BYTES_FIRST: Final = 1 << 30
# One reader slot a state that is open at a moment: far above the RPC's worker threads, at 64 bytes a slot.
READERS_MAX: Final = 1024
# Readers last milliseconds; one that is still open after this long when the map has to grow is a fault of ours, and a
# node that waited for it would hang without a word.
GROW_WAIT_SECONDS: Final = 30.0
# A closing node gives the readers in its threads this long; past it the system closes the file when the process ends.
CLOSE_WAIT_SECONDS: Final = 3.0
# LMDB refuses longer keys. No key of the state comes near, so longer ones are simply absent.
_KEY_BYTES_MAX: Final = 511

_TABLES: Final = (
    *(b"meta", b"headers", b"bodies", b"seals", b"heights", b"roots", b"state", b"nodes", b"stale"),
    *(b"handovers", b"staged"),
)
DATABASE_FILE: Final = "data.mdb"
# Where a smaller copy of the database grows until it takes the file's place; what a kill leaves of it is of no use.
COMPACTING: Final = "compact" + PARTIAL
_HEAD: Final = struct.Struct("<I32sQI")

T = TypeVar("T")


class DataFolderError(Exception):
    """The operator's fault or the disk's: the data folder cannot be used. The message says what to do."""


class DataFolderLocked(DataFolderError):
    """Another process uses the data folder."""

    def __init__(self, path: Path, locked: FolderLocked) -> None:
        super().__init__(
            f"the data folder {locked}: stop that node, or give this one a folder of its own with --base-path"
        )
        self.path = path


class GenesisMismatch(DataFolderError):
    """The data folder belongs to another chain."""

    def __init__(self, path: Path, expected: Hash, expected_name: str, found: Hash, found_name: str) -> None:
        super().__init__(
            f"the genesis file makes chain {expected_name!r} with genesis hash 0x{expected.hex()}, but the data folder "
            f"{path} holds chain {found_name!r} with genesis hash 0x{found.hex()}: start with the genesis file, and "
            "the spec_version of its runtime, that the folder was made with, or choose another folder with --base-path"
        )
        self.expected = expected
        self.found = found


class StorageFailed(Exception):
    """The disk did not take a write, or give back what was written. No more is written; the node has to stop."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where the chain stands: the last block, the first unused tree node, the lowest height with a readable state."""

    height: int
    hash: Hash
    next_node: int
    oldest_state: int

    def encode(self) -> bytes:
        return _HEAD.pack(self.height, self.hash, self.next_node, self.oldest_state)


@dataclass(frozen=True, slots=True)
class Tables:
    """LMDB's handles. Heights and node ids are keyed highest byte first, so that they sort as numbers do."""

    meta: lmdb._Database
    headers: lmdb._Database
    bodies: lmdb._Database
    seals: lmdb._Database
    heights: lmdb._Database
    roots: lmdb._Database
    state: lmdb._Database
    nodes: lmdb._Database
    stale: lmdb._Database
    handovers: lmdb._Database
    staged: lmdb._Database


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the database's file is, how much of it has something in it, and what it may grow into."""

    file_bytes: int
    live_bytes: int
    map_bytes: int


class Snapshot:
    """The database as it was when the snapshot was taken, whatever is written meanwhile. For one thread at a time."""

    __slots__ = ("_get", "_tables", "_txn")

    def __init__(self, txn: lmdb.Transaction[bytes], tables: Tables) -> None:
        self._txn = txn
        self._get = txn.get
        self._tables = tables

    def head(self) -> Head:
        stored = self._get(b"head", db=self._tables.meta)
        assert stored is not None
        return Head(*_HEAD.unpack(stored))

    def runtime_mark(self) -> bytes | None:
        """Return what was kept of the runtime that last wrote here."""
        return self._get(b"runtime", db=self._tables.meta)

    def header(self, block_hash: Hash) -> bytes | None:
        return self._get(block_hash, db=self._tables.headers) if len(block_hash) == 32 else None

    def body(self, block_hash: Hash) -> bytes | None:
        return self._get(block_hash, db=self._tables.bodies) if len(block_hash) == 32 else None

    def seal(self, block_hash: Hash) -> bytes | None:
        return self._get(block_hash, db=self._tables.seals) if len(block_hash) == 32 else None

    def hash_at(self, height: int) -> Hash | None:
        return self._get(_u32(height), db=self._tables.heights) if 0 <= height < 1 << 32 else None

    def lowest(self) -> int:
        """Return the lowest height from which on every block is here, besides genesis."""
        return int.from_bytes(self._get(LOWEST_KEY, db=self._tables.meta) or b"", "big")

    def staged(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield what has come of another state, by ascending key."""
        with self._txn.cursor(self._tables.staged) as cursor:
            yield from cursor

    def state_keys(self) -> int:
        """Return how many keys the head's state has."""
        return self._entries(self._tables.state)

    def live_bytes(self) -> int:
        """Return how much of the file has something in it: the pages of all tables."""
        stats = [self._txn.stat(getattr(self._tables, field.name)) for field in fields(Tables)]
        pages = sum(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"] for stat in stats)
        return pages * stats[0]["psize"]

    def handover(self, set_id: int) -> bytes | None:
        """Return what was kept of the block at which a validator set ended."""
        return self._get(_u32(set_id), db=self._tables.handovers) if 0 <= set_id < 1 << 32 else None

    def root_at(self, height: int) -> Root | None:
        """Return the tree of the state after a height, None if that state is empty; KeyError if it was pruned."""
        stored = self._get(_u32(height), db=self._tables.roots)
        if stored is None:
            raise KeyError(height)
        return Root(int.from_bytes(stored[:8], "big"), stored[8:]) if stored else None

    def hashes(self) -> Iterator[tuple[int, Hash]]:
        """Yield every height that has a block, or a header alone, with its hash, ascending."""
        with self._txn.cursor(self._tables.heights) as cursor:
            for height, block_hash in cursor:
                yield int.from_bytes(height, "big"), block_hash

    def counts(self) -> dict[str, int]:
        """Return how many entries each table has."""
        return {field.name: self._entries(getattr(self._tables, field.name)) for field in fields(Tables)}

    def _entries(self, table: lmdb._Database) -> int:
        return self._txn.stat(table)["entries"]

    def node_ids(self) -> Iterator[int]:
        """Yield the id of every stored node of the tree, ascending."""
        with self._txn.cursor(self._tables.nodes) as cursor:
            for node_id in cursor.iternext(keys=True, values=False):
                yield int.from_bytes(node_id, "big")

    def entries(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the head's state, by ascending key."""
        with self._txn.cursor(self._tables.state) as cursor:
            yield from cursor

    def handover_sets(self) -> Iterator[int]:
        """Yield the numbers of the validator sets whose last block is known."""
        with self._txn.cursor(self._tables.handovers) as cursor:
            for set_id in cursor.iternext(keys=True, values=False):
                yield int.from_bytes(set_id, "big")

    def node(self, node_id: int) -> bytes:
        try:
            node = self._get(node_id.to_bytes(8, "big"), db=self._tables.nodes)
        except lmdb.Error as error:
            raise StateFailed(str(error)) from error
        if node is None:
            raise KeyError(node_id)
        return node

    def value(self, key: bytes) -> bytes | None:
        """Return a key's value in the state of the head."""
        try:
            return self._get(key, db=self._tables.state) if 0 < len(key) <= _KEY_BYTES_MAX else None
        except lmdb.Error as error:
            raise StateFailed(str(error)) from error

    def keys(self, prefix: bytes, after: bytes | None = None) -> Iterator[bytes]:
        """Yield the keys of the head's state that start with a prefix, ascending, those greater than `after` only."""
        start = prefix
        if after is not None and after >= prefix:
            # The least key above `after`. A key of the state is shorter than the cut, so cutting loses none.
            start = after[: _KEY_BYTES_MAX - 1] + b"\0"
        if len(start) > _KEY_BYTES_MAX:
            return
        try:
            with self._txn.cursor(self._tables.state) as cursor:
                found = cursor.set_range(start) if start else cursor.first()
                while found:
                    key = cursor.key()
                    if not key.startswith(prefix):
                        return
                    yield key
                    found = cursor.next()
        except lmdb.Error as error:
            raise StateFailed(str(error)) from error


class Batch(Snapshot):
    """The one write transaction; what it reads includes what it wrote."""

    __slots__ = ()

    def put_block(self, height: int, block_hash: Hash, header: bytes, body: bytes, seal: bytes | None) -> None:
        tables, put = self._tables, self._txn.put
        put(block_hash, header, db=tables.headers)
        put(block_hash, body, db=tables.bodies)
        if seal is not None:
            put(block_hash, seal, db=tables.seals)
        put(_u32(height), block_hash, db=tables.heights, append=True)

    def put_sealed_header(self, height: int, block_hash: Hash, header: bytes, seal: bytes) -> None:
        """Keep what proves a block, without its body: it hands over from a validator set to the next."""
        tables, put = self._tables, self._txn.put
        put(block_hash, header, db=tables.headers)
        put(block_hash, seal, db=tables.seals)
        put(_u32(height), block_hash, db=tables.heights, append=True)

    def put_staged(self, entries: Sequence[tuple[bytes, bytes]]) -> None:
        """Lay aside a part of another state; keys ascend, over all parts."""
        with self._txn.cursor(self._tables.staged) as cursor:
            cursor.putmulti(entries, append=True)

    def clear_staged(self) -> None:
        """Forget what was laid aside."""
        self._txn.drop(self._tables.staged, delete=False)

    def clear_states(self) -> None:
        """Forget the head's state and all earlier ones, for another to take their place."""
        tables = self._tables
        for table in (tables.state, tables.nodes, tables.roots, tables.stale):
            self._txn.drop(table, delete=False)

    def append_state(self, entries: Sequence[tuple[bytes, bytes]]) -> None:
        """Put keys that come after all that the state has."""
        with self._txn.cursor(self._tables.state) as cursor:
            cursor.putmulti(entries, append=True)

    def put_lowest(self, height: int) -> None:
        self._txn.put(LOWEST_KEY, _u32(height), db=self._tables.meta)

    def put_state(self, changes: dict[bytes, bytes | None]) -> None:
        table, put, delete = self._tables.state, self._txn.put, self._txn.delete
        for key, value in changes.items():
            if value is None:
                delete(key, db=table)
            else:
                put(key, value, db=table)

    def put_tree(self, height: int, root: Root | None, new_nodes: list[tuple[int, bytes]], stale: list[int]) -> None:
        self.put_nodes(new_nodes)
        place = b"" if root is None else root.id.to_bytes(8, "big") + root.hash
        self._txn.put(_u32(height), place, db=self._tables.roots, append=True)
        if stale:
            packed = struct.pack(f">{len(stale)}Q", *sorted(stale))
            self._txn.put(_u32(height), packed, db=self._tables.stale, append=True)

    def put_nodes(self, nodes: Sequence[tuple[int, bytes]]) -> None:
        """Put nodes of the tree, with ascending ids that come after all that there are."""
        with self._txn.cursor(self._tables.nodes) as cursor:
            cursor.putmulti([(node_id.to_bytes(8, "big"), node) for node_id, node in nodes], append=True)

    def forget_state(self, height: int) -> None:
        """Delete the state after a height: its root, and the nodes that only it and older states use."""
        tables, delete = self._tables, self._txn.delete
        delete(_u32(height), db=tables.roots)
        stale = self._txn.pop(_u32(height + 1), db=tables.stale) or b""
        for start in range(0, len(stale), 8):
            delete(stale[start : start + 8], db=tables.nodes)

    def drop_block(self, height: int) -> None:
        """Delete a block, its seal and the tree of its state, but for nodes. The head's state stays as it is."""
        tables, delete = self._tables, self._txn.delete
        block_hash = self._txn.pop(_u32(height), db=tables.heights)
        assert block_hash is not None
        for table in (tables.headers, tables.bodies, tables.seals):
            delete(block_hash, db=table)
        for table in (tables.roots, tables.stale):
            delete(_u32(height), db=table)

    def drop_nodes(self, first_id: int) -> None:
        """Delete the nodes of the tree from an id on."""
        with self._txn.cursor(self._tables.nodes) as cursor:
            found = cursor.set_range(first_id.to_bytes(8, "big"))
            while found:
                found = cursor.delete()

    def drop_handover(self, set_id: int) -> None:
        self._txn.delete(_u32(set_id), db=self._tables.handovers)

    def put_handover(self, set_id: int, handover: bytes) -> None:
        """Keep, for as long as the chain, what shows who came after a validator set."""
        self._txn.put(_u32(set_id), handover, db=self._tables.handovers)

    def put_runtime_mark(self, mark: bytes) -> None:
        self._txn.put(b"runtime", mark, db=self._tables.meta)

    def put_head(self, head: Head) -> None:
        self._txn.put(b"head", head.encode(), db=self._tables.meta)


class Store:
    """An open database. Reading is safe in any thread; writing happens in one at a time."""

    def __init__(self, path: Path, lock_fd: int, environment: lmdb.Environment, tables: Tables) -> None:
        self.path = path
        self._lock_fd = lock_fd
        self._environment = environment
        self._tables = tables
        self._write_lock = threading.Lock()
        self._failed: str | None = None
        self._closed = False
        self._gate = Gate()
        # What was done to a database of an older release when it was opened, for the operator.
        self.migrated: str | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        genesis_hash: Hash,
        genesis_name: str,
        write_genesis: Callable[[Batch], None],
        *,
        map_bytes: int = MAP_BYTES_FIRST,
    ) -> Store:
        """Open a chain's folder, or make it if there is none, with `write_genesis` filling the first transaction.

        Raises DataFolderError, or a subclass of it that says more, having written nothing.
        """
        unmarked = not (path / LOCK_FILE).exists()
        try:
            make_folder(path)
            lock_fd = _lock(path)
        except OSError as error:
            raise _unwritable(path, error) from error
        try:
            try:
                fresh = _inspect(path, genesis_hash, genesis_name)
            except BaseException:
                if unmarked:  # Not a folder of ours: leave it as it was.
                    (path / LOCK_FILE).unlink()
                raise
            sign_lock(lock_fd)
            environment = lmdb.open(
                str(path), map_size=map_bytes, max_dbs=len(_TABLES), max_readers=READERS_MAX, readahead=False
            )
            try:
                tables = Tables(*(environment.open_db(name) for name in _TABLES))
                store = cls(path, lock_fd, environment, tables)
                if fresh:

                    def write_first(batch: Batch) -> None:
                        put = batch._txn.put
                        for mark, value in first_marks().items():
                            put(mark, value, db=tables.meta)
                        put(b"genesis", genesis_hash, db=tables.meta)
                        put(b"genesis name", genesis_name.encode(), db=tables.meta)
                        write_genesis(batch)

                    store.write(write_first)
                else:
                    store.migrated = store.write(_migrate)
                shutil.rmtree(path / COMPACTING, ignore_errors=True)  # What a kill left of it.
                sync_folder(path)  # Also where the process that made it was killed before it had.
            except BaseException:
                environment.close()
                raise
        except lmdb.Error as error:
            os.close(lock_fd)
            if error.code > 0:  # The system's refusal; LMDB's own errors are negative.
                refusal = OSError(error.code, os.strerror(error.code))
                raise _unwritable(path, refusal) from refusal
            raise _unusable(path, error) from error
        except OSError as error:
            os.close(lock_fd)
            raise _unwritable(path, error) from error
        except BaseException:
            os.close(lock_fd)
            raise
        return store

    def close(self) -> None:
        """Let the running write and the readers end, then close the database and give up its lock."""
        with self._write_lock:
            self._failed = f"the database in {self.path} is closed"
            if self._closed:
                return
            try:
                with self._gate.alone(CLOSE_WAIT_SECONDS):
                    self._environment.close()
                    os.close(self._lock_fd)
                    self._closed = True
            except TimeoutError:
                return  # Unmapping the file under a reader would end the process on the spot.

    @contextmanager
    def read(self) -> Iterator[Snapshot]:
        """Open a snapshot. Keep it for one answer, not longer: the file cannot reuse what a snapshot sees.

        Raises StorageFailed when the file turns out to be damaged, or the database is closed.
        """
        with self._gate.reading():
            try:
                with self._environment.begin() as txn:
                    yield Snapshot(txn, self._tables)
            except (lmdb.Error, StateFailed) as error:
                raise self._fail(error, "read") from error

    def write(self, change: Callable[[Batch], T]) -> T:
        """Run `change` in the one write transaction, and return when the disk holds all of it.

        Whatever it raises, the disk then holds none of it. It runs again if the map had to grow. Raises StorageFailed
        when the disk fails, then and ever after.
        """
        with self._write_lock:
            while True:
                if self._failed is not None:
                    raise StorageFailed(self._failed)
                try:
                    return self._write_once(change)
                except lmdb.MapFullError:
                    self._grow()
                except (lmdb.Error, OSError, StateFailed) as error:
                    raise self._fail(error, "written") from error

    def _write_once(self, change: Callable[[Batch], T]) -> T:
        txn = self._environment.begin(write=True)
        try:
            result = change(Batch(txn, self._tables))
            txn.commit()
        except BaseException:
            # Aborting waits in line with snapshots that open meanwhile, and can wait for tens of seconds under a load
            # of them: hold new ones back until it is done. After a commit that failed there is nothing left to abort.
            with self._gate.closed():
                txn.abort()
            raise
        return result

    def copy_compact(self) -> Path:
        """Write all that the database holds to a new file without gaps, durably, and return where that is.

        Raises StorageFailed, and nothing is left of it: the database is as it was.
        """
        folder = self.path / COMPACTING
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            with self._gate.reading():  # Closed meanwhile, the copy would read memory that is not mapped any more.
                self._environment.copy(str(folder), compact=True)
            file = folder / DATABASE_FILE
            with file.open("rb+") as written:
                os.fsync(written.fileno())
        except (lmdb.Error, OSError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            # A copy that fails says nothing of the database itself, unless that could not be read.
            raise StorageFailed(self._describe(error, "copied")) from error
        return file

    @property
    def copied_bytes(self) -> int:
        """How far a copy is that is being made."""
        file = self.path / COMPACTING / DATABASE_FILE
        return file.stat().st_size if file.exists() else 0

    def replace_by(self, file: Path) -> None:
        """Let a copy take the database's place, and close both: whatever kills this, one of them is there, whole."""
        with self._write_lock:
            self._failed = f"the database in {self.path} is closed"
            with self._gate.alone(CLOSE_WAIT_SECONDS):
                self._environment.close()
                self._closed = True
            os.replace(file, self.path / DATABASE_FILE)
            sync_folder(self.path)
            file.parent.rmdir()
            os.close(self._lock_fd)

    @property
    def size_bytes(self) -> int:
        """How much of the disk the database takes; it does not shrink."""
        return (self.path / DATABASE_FILE).stat().st_size

    def sizes(self) -> Sizes:
        """Return how large the database is, for its operator. Reads a page a table; raises StorageFailed."""
        with self.read() as snapshot:
            return Sizes(self.size_bytes, snapshot.live_bytes(), self.map_bytes)

    @property
    def map_bytes(self) -> int:
        return self._environment.info()["map_size"]

    def _grow(self) -> None:
        """Double the map, which LMDB allows only while no transaction of this process is open."""
        try:
            with self._gate.alone(GROW_WAIT_SECONDS):
                self._environment.set_mapsize(self.map_bytes * 2)
        except (lmdb.Error, OSError) as error:  # OSError: TimeoutError, too.
            raise self._fail(error, "written") from error

    def _fail(self, error: Exception, what: str) -> StorageFailed:
        if self._failed is None:
            self._failed = self._describe(error, what)
        return StorageFailed(self._failed)

    def _describe(self, error: Exception, what: str) -> str:
        # LMDB reports a write that was cut short by a full disk as an input/output error, too: say what is free.
        disk = os.statvfs(self.path)
        return (
            f"the database in {self.path} could not be {what} ({error}; {disk.f_bavail * disk.f_frsize >> 20} MiB "
            "are free on its disk); what it held before is whole; make room on the disk, or replace it if it is "
            "faulty, then start the node again"
        )


class _Meta:
    """The `meta` table, as a migration sees it."""

    def __init__(self, batch: Batch) -> None:
        self._txn, self._table = batch._txn, batch._tables.meta

    def get(self, key: bytes) -> bytes | None:
        return self._txn.get(key, db=self._table)

    def put(self, key: bytes, value: bytes) -> None:
        self._txn.put(key, value, db=self._table)


def _migrate(batch: Batch) -> str | None:
    """Bring a database of an older release up to date; what was done, None where it was so already."""
    meta = _Meta(batch)
    found = int.from_bytes(meta.get(SCHEMA_KEY) or b"", "little")
    return None if found == SCHEMA else migrate(meta, found)


def _u32(number: int) -> bytes:
    return number.to_bytes(4, "big")


def _lock(path: Path) -> int:
    """Take the folder's lock."""
    try:
        return lock_folder(path)
    except FolderLocked as error:
        raise DataFolderLocked(path, error) from None


def _inspect(path: Path, genesis_hash: Hash, genesis_name: str) -> bool:
    """Say whether the folder has yet to be filled; raise if it holds anything but this chain's whole database.

    Reads only. The lock is held, so nobody else has the database open.
    """
    file = path / DATABASE_FILE
    size = file.stat().st_size if file.exists() else 0
    if size == 0:
        return True
    with lmdb.open(str(path), readonly=True, lock=False, max_dbs=len(_TABLES)) as environment:
        whole = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        if size < whole:
            raise DataFolderError(
                f"{file} is damaged: expected at least {whole} bytes, got {size}; move it away and start again, and "
                "the node fetches the chain from its peers"
            )
        with environment.begin() as txn:
            if txn.stat(environment.open_db(None, txn=txn))["entries"] == 0:
                return True  # Killed after making the file and before the first transaction.
            try:
                meta = environment.open_db(b"meta", txn=txn, create=False)
            except lmdb.Error:
                raise _foreign(file) from None
            schema, found = txn.get(SCHEMA_KEY, db=meta), txn.get(b"genesis", db=meta)
            name = txn.get(b"genesis name", db=meta) or b""
            if schema is None and found is None and txn.stat(meta)["entries"] == 0:
                return True  # Killed after making the tables.
            if schema is None or found is None:
                raise _foreign(file)
            number = int.from_bytes(schema, "little")
            if number > SCHEMA:
                release = (txn.get(RELEASE_KEY, db=meta) or b"").decode("utf-8", "replace")
                raise DataFolderError(f"{file} {newer(number, release)}")
            if not number:
                raise _foreign(file)
            if found != genesis_hash:
                raise GenesisMismatch(path, genesis_hash, genesis_name, found, name.decode("utf-8", "replace"))
    return False


def _foreign(file: Path) -> DataFolderError:
    return DataFolderError(f"{file} is a database, but not potchain's: choose another folder with --base-path")


def _unwritable(path: Path, error: OSError) -> DataFolderError:
    return DataFolderError(
        f"the data folder {path} cannot be used: {error.strerror}; give --base-path a folder that this user can write "
        "to, on a disk with room"
    )


def _unusable(path: Path, error: lmdb.Error) -> DataFolderError:
    return DataFolderError(
        f"{path / DATABASE_FILE} cannot be opened ({error}): if it is potchain's, it is damaged, so move it away and "
        "the node fetches the chain from its peers; if it is not, choose another folder with --base-path"
    )
