"""The database: whole blocks or none, whatever dies when; readers that see one moment; folders refused untouched."""

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb
import pytest

from chain.primitives.hashing import blake2_256
from chain.primitives.merkle import MemoryTree, Root, iterate, update
from chain.store import (
    Batch,
    DataFolderError,
    DataFolderLocked,
    GenesisMismatch,
    Head,
    Snapshot,
    StorageFailed,
    Store,
)

GENESIS = blake2_256(b"genesis")
KEPT = 3


def block_hash(height: int) -> bytes:
    return GENESIS if height == 0 else blake2_256(height.to_bytes(4, "little"))


def changes_at(height: int) -> dict[bytes, bytes | None]:
    """Return what block `height` does to the state: sets some keys, replaces some, removes some."""
    changes: dict[bytes, bytes | None] = {
        blake2_256(b"%d" % (height * 7 + i))[: 1 + i]: b"%d" % height for i in range(20)
    }
    changes[b"always"] = b"%d" % height
    changes[b"sometimes"] = None if height % 2 else b"here"
    return changes


def state_at(height: int) -> dict[bytes, bytes]:
    state: dict[bytes, bytes] = {}
    for each in range(height + 1):
        for key, value in changes_at(each).items():
            state.pop(key, None)
            if value is not None:
                state[key] = value
    return state


def write_block(batch: Batch, height: int, after_step: Callable[[int], None] = lambda _: None, size: int = 100) -> None:
    """Write a block as the ledger does, and tell `after_step` after each of the five steps."""
    place = batch.head() if height else Head(-1, b"", 0, 0)
    root = batch.root_at(height - 1) if height else None
    change = update(batch, root, changes_at(height), place.next_node)
    batch.put_block(height, block_hash(height), b"header", b"b" * size, b"seal" if height else None)
    after_step(0)
    batch.put_state(changes_at(height))
    after_step(1)
    batch.put_tree(height, change.root, change.new_nodes, change.stale)
    after_step(2)
    oldest = max(place.oldest_state, height - KEPT + 1)
    for old in range(place.oldest_state, oldest):
        batch.forget_state(old)
    after_step(3)
    batch.put_head(Head(height, block_hash(height), place.next_node + len(change.new_nodes), oldest))
    after_step(4)


@contextmanager
def open_store(path: Path, map_bytes: int = 1 << 20) -> Iterator[Store]:
    store = Store.open(path, GENESIS, "test", lambda batch: write_block(batch, 0), map_bytes=map_bytes)
    try:
        yield store
    finally:
        store.close()


def reachable(snapshot: Snapshot, root: Root | None) -> set[int]:
    """Return the ids of a tree's nodes, the slow way: by the trees that every key's proof walks through."""
    ids: set[int] = set()

    class Recorder:
        def node(self, node_id: int) -> bytes:
            ids.add(node_id)
            return snapshot.node(node_id)

    for _ in iterate(Recorder(), root):
        pass
    return ids


def check_whole(store: Store, height: int) -> None:
    """Check that the database is exactly what blocks 0 to `height` make."""
    with store.read() as snapshot:
        place = snapshot.head()
        assert (place.height, place.hash) == (height, block_hash(height))
        for each in range(height + 1):
            assert snapshot.hash_at(each) == block_hash(each)
            assert snapshot.header(block_hash(each)) == b"header"
            assert snapshot.body(block_hash(each)) is not None
            assert snapshot.seal(block_hash(each)) == (b"seal" if each else None)
        assert snapshot.hash_at(height + 1) is None
        assert snapshot.header(block_hash(height + 1)) is None
        expected = state_at(height)
        assert {key: snapshot.value(key) for key in snapshot.keys(b"")} == expected
        nodes: set[int] = set()
        for each in range(place.oldest_state, height + 1):
            root = snapshot.root_at(each)
            assert root is not None
            assert root.hash == MemoryTree(state_at(each)).root_hash
            nodes |= reachable(snapshot, root)
        assert place.oldest_state == max(0, height - KEPT + 1)
        if place.oldest_state:
            with pytest.raises(KeyError):
                snapshot.root_at(place.oldest_state - 1)
        with snapshot._txn.cursor(snapshot._tables.nodes) as cursor:
            stored = {int.from_bytes(key, "big") for key in cursor.iternext(values=False)}
        assert stored == nodes, "pruning left a node that no kept state uses, or took one that is used"


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def in_child(function: Callable[[Path, int], None], path: Path, argument: int) -> "subprocess.Popen[bytes]":
    """Start a function of this file in a process of its own."""
    code = f"import sys; from pathlib import Path; from {__name__} import {function.__name__} as run; "
    code += "run(Path(sys.argv[1]), int(sys.argv[2]))"
    return subprocess.Popen([sys.executable, "-c", code, str(path), str(argument)], stdout=subprocess.PIPE)


def test_blocks_state_and_tree_are_there_after_a_restart(tmp_path: Path) -> None:
    with open_store(tmp_path / "db") as store:
        check_whole(store, 0)
        for height in range(1, 8):
            store.write(lambda batch, height=height: write_block(batch, height))  # type: ignore[misc]
        check_whole(store, 7)
    with open_store(tmp_path / "db") as store:
        check_whole(store, 7)


def die_after_step(path: Path, step: int) -> None:
    def kill_at(reached: int) -> None:
        if reached == step:
            os.kill(os.getpid(), signal.SIGKILL)

    with open_store(path) as store, store.read() as snapshot:
        height = snapshot.head().height + 1
        store.write(lambda batch: write_block(batch, height, kill_at))
        kill_at(5)


def test_a_kill_between_any_two_writes_of_a_block_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with open_store(path) as store:
        for height in range(1, 5):
            store.write(lambda batch, height=height: write_block(batch, height))  # type: ignore[misc]
    for step in range(6):
        with in_child(die_after_step, path, step) as child:
            assert child.wait(60) == -signal.SIGKILL
        with open_store(path) as store:
            check_whole(store, 4 if step < 5 else 5)


def write_for_ever(path: Path, _: int) -> None:
    with open_store(path) as store:
        with store.read() as snapshot:
            height = snapshot.head().height
        while True:
            height += 1
            store.write(lambda batch, height=height: write_block(batch, height))  # type: ignore[misc]
            print(height, flush=True)


def test_every_block_whose_commit_returned_survives_a_kill_at_any_moment(tmp_path: Path) -> None:
    path = tmp_path / "db"
    for blocks in (1, 2, 5):
        with in_child(write_for_ever, path, 0) as child:
            assert child.stdout is not None
            returned = [int(child.stdout.readline()) for _ in range(blocks)]
            child.kill()
            returned += [int(line) for line in child.stdout.read().split(b"\n")[:-1]]
        with open_store(path) as store:
            with store.read() as snapshot:
                height = snapshot.head().height
            assert height >= returned[-1]
            check_whole(store, height)


def fill_the_disk(path: Path, room: int) -> None:
    with open_store(path) as store:
        resource.setrlimit(resource.RLIMIT_FSIZE, (store.size_bytes + room, resource.RLIM_INFINITY))
        with store.read() as snapshot:
            height = snapshot.head().height
        try:
            while True:
                store.write(lambda batch, height=height: write_block(batch, height + 1, size=40_000))  # type: ignore[misc]
                height += 1
        except StorageFailed as error:
            print(height, error, flush=True)
        try:
            store.write(Batch.head)
        except StorageFailed as error:
            print(error, flush=True)


def test_a_write_that_the_disk_refuses_stops_all_writing_and_harms_nothing(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with in_child(fill_the_disk, path, 300_000) as child:
        output, _ = child.communicate(timeout=60)
    first, again = output.decode().splitlines()
    height, _, message = first.partition(" ")
    assert int(height) > 0
    assert "could not be written" in message
    assert "start the node again" in message
    assert again == message
    with open_store(path) as store:
        check_whole(store, int(height))


def open_without_room(path: Path, room: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    with pytest.raises(DataFolderError) as caught, open_store(path):
        pass
    assert isinstance(caught.value.__cause__, OSError)
    print(caught.value.__cause__.errno, caught.value, flush=True)


def test_a_database_that_the_system_refuses_to_make_is_told_with_the_systems_reason(tmp_path: Path) -> None:
    with in_child(open_without_room, tmp_path / "db", 4096) as child:
        output, _ = child.communicate(timeout=60)
    code, _, message = output.decode().partition(" ")
    assert int(code) == errno.EFBIG
    assert message.startswith(f"the data folder {tmp_path / 'db'} cannot be used: File too large; give --base-path")


def test_a_failed_change_leaves_nothing_behind(tmp_path: Path) -> None:
    with open_store(tmp_path / "db") as store:

        def fail(step: int) -> None:
            if step == 4:
                raise RuntimeError("on purpose")

        with pytest.raises(RuntimeError, match="on purpose"):
            store.write(lambda batch: write_block(batch, 1, fail))
        check_whole(store, 0)
        store.write(lambda batch: write_block(batch, 1))
        check_whole(store, 1)


def test_a_full_map_grows_while_others_read(tmp_path: Path) -> None:
    """Every reader sees one moment: the head that it reads is the block whose value it reads."""
    seen: list[list[int]] = [[], [], []]

    def read_a_thousand_times(store: Store, heights: list[int]) -> None:
        for _ in range(1000):
            with store.read() as snapshot:
                height = snapshot.head().height
                assert snapshot.value(b"always") == b"%d" % height
                with store.read() as inner:  # A reader in a reader never waits for a writer that waits for it.
                    assert inner.head().height >= height
            heights.append(height)

    with open_store(tmp_path / "db", map_bytes=1 << 18) as store:
        readers = [threading.Thread(target=read_a_thousand_times, args=(store, heights)) for heights in seen]
        for reader in readers:
            reader.start()
        for height in range(1, 21):
            store.write(lambda batch, height=height: write_block(batch, height, size=100_000))  # type: ignore[misc]
        for reader in readers:
            reader.join()
        assert store.map_bytes >= 1 << 21
        assert [(len(heights), heights) for heights in seen] == [(1000, sorted(heights)) for heights in seen]
        check_whole(store, 20)


def test_a_snapshot_keeps_its_moment_and_holds_up_only_growing(tmp_path: Path) -> None:
    with open_store(tmp_path / "db", map_bytes=1 << 18) as store:
        with store.read() as snapshot:
            store_it = threading.Thread(target=lambda: store.write(lambda batch: write_block(batch, 1)))
            store_it.start()
            store_it.join(60)
            assert snapshot.head().height == 0
            assert dict.fromkeys(snapshot.keys(b"al")) == {b"always": None}
            assert snapshot.value(b"always") == b"0"
            grow_it = threading.Thread(target=lambda: store.write(lambda batch: write_block(batch, 2, size=1 << 20)))
            grow_it.start()
            assert snapshot.value(b"always") == b"0"
            assert grow_it.is_alive(), "the map grew under a reader"
        grow_it.join(60)
        check_whole(store, 2)


def test_a_closing_store_lets_a_reader_end_and_then_refuses(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "db", GENESIS, "test", lambda batch: write_block(batch, 0))
    with store.read() as snapshot:
        closing = threading.Thread(target=store.close)
        closing.start()
        assert snapshot.value(b"always") == b"0"
        assert closing.is_alive(), "the file was unmapped under a reader"
    closing.join(60)
    with pytest.raises(StorageFailed, match="is closed"), store.read():
        pass
    with pytest.raises(StorageFailed, match="is closed"):
        store.write(Batch.head)
    with open_store(tmp_path / "db") as store:
        check_whole(store, 0)


def test_keys_are_read_in_order_by_prefix_and_position(tmp_path: Path) -> None:
    with open_store(tmp_path / "db") as store, store.read() as snapshot:
        everything = sorted(state_at(0))
        assert list(snapshot.keys(b"")) == everything
        assert list(snapshot.keys(b"a")) == [key for key in everything if key.startswith(b"a")]
        for after in (b"", *everything, b"\xff" * 600):
            assert list(snapshot.keys(b"", after)) == [key for key in everything if key > after]
        assert list(snapshot.keys(b"always", b"a")) == [b"always"]
        assert list(snapshot.keys(b"x" * 600)) == []
        assert [snapshot.value(key) for key in (b"", b"x" * 600)] == [None, None]


def test_a_second_opener_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    with open_store(tmp_path / "db"), pytest.raises(DataFolderLocked) as caught:
        Store.open(tmp_path / "db", GENESIS, "test", lambda batch: write_block(batch, 0))
    assert f"process {os.getpid()}" in str(caught.value)
    assert str(tmp_path / "db" / "LOCK") in str(caught.value)
    assert "--base-path" in str(caught.value)
    with open_store(tmp_path / "db") as store:
        check_whole(store, 0)


def test_another_chains_folder_is_refused_with_both_hashes_and_left_as_it_was(tmp_path: Path) -> None:
    with open_store(tmp_path / "db"):
        pass
    before = contents(tmp_path / "db")
    with pytest.raises(GenesisMismatch) as caught:
        Store.open(tmp_path / "db", bytes(32), "other", lambda batch: write_block(batch, 0))
    for part in (GENESIS.hex(), bytes(32).hex(), "'test'", "'other'", "--base-path"):
        assert part in str(caught.value)
    assert contents(tmp_path / "db") == before


@pytest.mark.parametrize("kept", [4000, 8192, 12288])
def test_a_torn_file_is_refused_and_left_as_it_was(tmp_path: Path, kept: int) -> None:
    with open_store(tmp_path / "db"):
        pass
    file = tmp_path / "db" / "data.mdb"
    file.write_bytes(file.read_bytes()[:kept])
    before = contents(tmp_path / "db")
    with pytest.raises(DataFolderError, match="is damaged"):
        Store.open(tmp_path / "db", GENESIS, "test", lambda batch: write_block(batch, 0))
    assert contents(tmp_path / "db") == before


def test_a_file_that_is_no_database_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"my thesis" * 1000)
    with pytest.raises(DataFolderError, match="choose another folder"):
        Store.open(tmp_path, GENESIS, "test", lambda batch: write_block(batch, 0))
    assert contents(tmp_path) == {"data.mdb": b"my thesis" * 1000}


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path)) as foreign, foreign.begin(write=True) as txn:
        txn.put(b"key", b"value")
    before = contents(tmp_path)
    with pytest.raises(DataFolderError, match="not potchain's"):
        Store.open(tmp_path, GENESIS, "test", lambda batch: write_block(batch, 0))
    assert contents(tmp_path) == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataFolderError, match="cannot be used: Not a directory"):
        Store.open(tmp_path / "file" / "db", GENESIS, "test", lambda batch: write_block(batch, 0))


@pytest.mark.parametrize("left", ["an empty file", "an empty database"])
def test_a_first_start_that_was_killed_is_begun_again(tmp_path: Path, left: str) -> None:
    if left == "an empty file":
        (tmp_path / "data.mdb").write_bytes(b"")
    else:
        with lmdb.open(str(tmp_path), max_dbs=9) as environment:
            environment.open_db(b"meta")
    with open_store(tmp_path) as store:
        check_whole(store, 0)


def test_what_is_deleted_leaves_the_file_as_long_as_it_was_and_is_seen_to(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        entries = [(number.to_bytes(4, "big"), b"x" * 1000) for number in range(300)]
        store.write(lambda batch: batch.put_staged(entries))
        full = store.sizes()
        store.write(Batch.clear_staged)
        cleared = store.sizes()
        assert 300_000 < full.live_bytes <= full.file_bytes <= full.map_bytes
        assert full.live_bytes - cleared.live_bytes > 300_000
        assert cleared.file_bytes >= full.file_bytes


class Copying:
    """A database whose copy is finished when it is told."""

    def __init__(self, environment: lmdb.Environment) -> None:
        self._environment = environment
        self.begun, self.go = threading.Event(), threading.Event()
        self.order: list[str] = []

    def copy(self, path: str, *, compact: bool) -> None:
        self.begun.set()
        assert self.go.wait(60)
        self._environment.copy(path, compact=compact)
        self.order.append("copied")

    def close(self) -> None:
        self.order.append("closed")
        self._environment.close()


def test_a_database_is_not_closed_under_a_copy_that_is_being_made_of_it(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "db", GENESIS, "test", lambda batch: write_block(batch, 0))
    copying = Copying(store._environment)
    store._environment = copying  # type: ignore[assignment]
    copier, closer = threading.Thread(target=store.copy_compact), threading.Thread(target=store.close)
    copier.start()
    assert copying.begun.wait(60)
    closer.start()
    closer.join(0.05)
    copying.go.set()
    for thread in (copier, closer):
        thread.join(60)
    assert copying.order == ["copied", "closed"]
