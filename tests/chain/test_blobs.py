"""The blob store on a real disk: what it returns hashes to its root, whoever fills it and whatever befell the files."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from chain.blobs import BLOCK_BYTES, INCOMING_SHARE, BlobStore, BlobStoreFull
from chain.primitives.blob import CHUNK_BYTES, blob_root, verify_chunk

KIB = 1024
SIZE = 2 * BLOCK_BYTES
# Room for three blobs of SIZE that came in, and for nine that the chain names.
ROOM = 3 * SIZE * INCOMING_SHARE


def blob(seed: int, size: int = SIZE) -> bytes:
    return bytes([seed]) * size


def only_file(path: Path, root: bytes) -> Path:
    (file,) = path.glob(f"*/{root.hex()}")
    return file


def test_a_blob_is_found_under_its_root_also_after_a_restart(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, ROOM)
    root = store.put(blob(1))
    assert root == blob_root(blob(1))
    for again in (store, BlobStore(tmp_path, ROOM)):
        assert again.get(root) == blob(1)
        assert again.has(root)
        assert again.bytes_used == SIZE
    assert store.get(blob_root(b"other")) is None
    assert not store.has(blob_root(b"other"))


def test_the_same_blob_is_stored_once(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, ROOM)
    assert store.put(blob(1)) == store.put(blob(1))
    assert store.bytes_used == SIZE


def test_what_was_used_longest_ago_makes_room(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, ROOM)
    first, second, third = (store.put(blob(i)) for i in (1, 2, 3))
    assert store.get(first) is not None
    fourth = store.put(blob(4))
    assert [store.has(root) for root in (first, second, third, fourth)] == [True, False, True, True]
    assert store.bytes_used == 3 * SIZE


def test_strangers_push_out_each_other_and_never_what_the_chain_names(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, ROOM)
    genesis, early = blob_root(blob(1)), store.put(blob(2))
    late = blob_root(blob(3))
    store.keep("genesis", {genesis: SIZE})
    store.keep("chain", {early: SIZE, late: SIZE})
    for data in (blob(1), blob(3), *(blob(seed) for seed in range(10, 30))):
        store.put(data)
    assert [store.get(root) for root in (genesis, early, late)] == [blob(1), blob(2), blob(3)]
    assert store.bytes_used == 6 * SIZE
    again = BlobStore(tmp_path, ROOM)
    for seed in range(30, 40):
        again.put(blob(seed))
    assert [again.has(root) for root in (genesis, early, late)] == [True, True, True]


def test_what_the_chain_named_once_goes_when_newer_ones_need_its_room(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, ROOM)
    roots = [blob_root(blob(seed)) for seed in range(12)]
    for seed, root in enumerate(roots):
        store.keep("chain", {roots[0]: SIZE, root: SIZE})
        store.put(blob(seed))
    assert [store.has(root) for root in roots] == [True, False, False, False, *[True] * 8]


def test_more_than_the_chain_s_room_is_kept_in_the_strangers_room_and_then_refused(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, ROOM)
    blobs = [blob(seed) for seed in range(13)]
    store.keep("chain", {blob_root(data): SIZE for data in blobs})
    for data in blobs[:12]:
        store.put(data)
    with pytest.raises(BlobStoreFull, match="beside what the chain names"):
        store.put(blobs[12])
    assert [store.has(blob_root(data)) for data in blobs] == [*[True] * 12, False]


def test_a_blob_that_is_longer_than_the_chain_says_is_a_stranger_s(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, ROOM)
    root = blob_root(blob(1))
    store.keep("chain", {root: SIZE - 1})
    store.put(blob(1))
    assert (store.length(root), store.length_max(root)) == (SIZE, SIZE - 1)
    for seed in range(10, 14):
        store.put(blob(seed))
    assert not store.has(root)


def test_a_claim_that_is_too_small_takes_nothing_from_one_that_is_right(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, ROOM)
    root = store.put(blob(1))
    # It was uploaded for a task that is not there yet; somebody else names it first, and falsely.
    store.keep("false", {root: SIZE - 1})
    store.drop(10)
    store.keep("true", {root: SIZE})
    for seed in range(10, 14):
        store.put(blob(seed))
    assert store.drop(10) == 0
    assert store.get(root) == blob(1)
    store.keep("true", {})
    assert store.drop(10) == 0
    assert not store.has(root)


def test_what_is_kept_is_dropped_when_it_is_named_shorter(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, ROOM)
    root, other = blob_root(blob(1)), blob_root(blob(2))
    store.keep("chain", {root: SIZE, other: SIZE})
    for seed in (1, 2):
        store.put(blob(seed))
    store.keep("chain", {root: SIZE - 1, other: SIZE})
    assert store.drop(10) == 0
    assert (store.has(root), store.has(other)) == (False, True)


def test_what_is_wanted_no_more_is_dropped_a_few_at_a_time_also_after_a_restart(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, ROOM)
    roots = [blob_root(blob(seed)) for seed in range(8)]
    store.keep("chain", dict.fromkeys(roots, SIZE))
    for seed in range(8):
        store.put(blob(seed))
    stranger = store.put(blob(20))
    store.keep("chain", dict.fromkeys(roots[4:], SIZE))
    assert store.drop(3) == 1
    assert (store.drop(3), store.drop(3)) == (0, 0)
    assert [store.has(root) for root in roots] == [*[False] * 4, *[True] * 4]
    again = BlobStore(tmp_path, ROOM)
    again.keep("chain", dict.fromkeys(roots[6:], SIZE))
    assert again.drop(3) == 1
    assert again.drop(3) == 0
    assert [again.has(root) for root in (*roots[4:], stranger)] == [False, False, True, True, True]


def test_a_blob_that_one_owner_wants_outlives_the_others_wish(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, ROOM)
    root = blob_root(blob(1))
    store.keep("running", {root: SIZE})
    store.put(blob(1))
    store.keep("finished", {root: SIZE})
    store.keep("running", {})
    assert (store.drop(9), store.has(root)) == (0, True)
    store.keep("finished", {})
    assert (store.drop(9), store.has(root)) == (0, False)


def test_a_blob_that_cannot_fit_is_refused_and_evicts_nothing(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, ROOM)
    other = store.put(blob(2))
    with pytest.raises(BlobStoreFull, match="does not fit"):
        store.put(blob(3, 3 * SIZE + 1))
    assert store.has(other)
    assert store.bytes_used == SIZE


def test_tiny_blobs_are_charged_a_block_so_that_their_number_is_bounded(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, ROOM)
    for number in range(20):
        store.put(bytes([number]))
    assert store.bytes_used == 6 * BLOCK_BYTES
    assert len(list(tmp_path.glob("*/*"))) == 6


def test_an_upload_that_is_too_slow_loses_its_room_to_newer_ones(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, ROOM)
    with store.receive() as slow:
        slow.write(blob(1))
        slow_part = slow.path
        for seed in range(2, 6):
            store.put(blob(seed))
        assert slow_part.stat().st_size == 0
        with pytest.raises(BlobStoreFull, match="newer uploads took the room"):
            slow.write(b"more")
        with pytest.raises(BlobStoreFull, match="newer uploads took the room"):
            slow.keep()
    assert not slow_part.exists()
    assert store.bytes_used == 3 * SIZE


def test_an_upload_that_ends_early_leaves_nothing(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, ROOM)
    with store.receive() as upload:
        upload.write(blob(1))
        assert upload.root() == blob_root(blob(1))
        assert store.bytes_used == SIZE
    assert store.bytes_used == 0
    assert not list(tmp_path.glob("*/*"))


def test_two_uploads_of_one_blob_become_one(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, ROOM)
    with store.receive() as one, store.receive() as other:
        for upload in (one, other):
            upload.write(blob(1))
        assert one.keep() == other.keep()
    assert store.bytes_used == SIZE
    assert store.get(blob_root(blob(1))) == blob(1)


def test_nobody_waits_while_the_disk_flushes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = BlobStore(tmp_path, 100 * CHUNK_BYTES)
    here = store.put(blob(1))
    flushing, flushed = threading.Event(), threading.Event()
    real: Callable[[int], None] = os.fsync

    def slow(file: int) -> None:
        flushing.set()
        assert flushed.wait(60)
        real(file)

    monkeypatch.setattr(os, "fsync", slow)
    writer = threading.Thread(target=store.put, args=(blob(2),))
    writer.start()
    try:
        assert flushing.wait(60)
        answers: list[object] = []
        reader = threading.Thread(
            target=lambda: answers.extend([store.has(here), store.get(here), store.chunks(here, 0, 1) is not None])
        )
        reader.start()
        reader.join(60)
        assert answers == [True, blob(1), True]
    finally:
        flushed.set()
        writer.join(60)


@pytest.mark.parametrize("wanted", [False, True])
def test_every_name_that_leads_to_a_blob_is_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    flushed: list[Path] = []
    real: Callable[[int], None] = os.fsync

    def fsync(file: int) -> None:
        flushed.append(Path(os.readlink(f"/proc/self/fd/{file}")))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    folder = tmp_path / "node" / "blobs"
    store = BlobStore(folder, 1024 * BLOCK_BYTES)
    assert set(flushed) == {tmp_path, tmp_path / "node", folder}
    data = b"a blob"
    store.keep("chain", {blob_root(data): len(data)} if wanted else {})
    for _ in range(2):  # The second time another upload was first, and may not have flushed yet.
        flushed.clear()
        root = store.put(data)
        part, *names = flushed
        assert part.suffix == ".part"
        assert names == [folder / (root.hex()[:2] if wanted else "incoming"), folder]


def test_a_damaged_file_counts_as_missing_and_can_be_stored_anew(tmp_path: Path) -> None:
    for look in (BlobStore.get, BlobStore.open, lambda store, root: store.chunks(root, 0, 1)):
        root = BlobStore(tmp_path, ROOM).put(blob(1))
        only_file(tmp_path, root).write_bytes(blob(2))
        store = BlobStore(tmp_path, ROOM)
        assert look(store, root) is None
        assert not store.has(root)
        assert store.bytes_used == 0
        store.put(blob(1))
        assert store.get(root) == blob(1)
        only_file(tmp_path, root).unlink()
        assert look(store, root) is None


def test_a_chunk_that_was_damaged_after_it_was_checked_is_not_served(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, ROOM)
    root = store.put(blob(1))
    assert store.chunks(root, 0, 1) is not None
    only_file(tmp_path, root).write_bytes(blob(2))
    assert store.chunks(root, 0, 1) is None
    assert not store.has(root)


def test_an_open_blob_can_be_read_to_its_end_though_it_is_evicted(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, ROOM)
    opened = store.open(store.put(blob(1)))
    assert opened is not None
    for seed in range(2, 6):
        store.put(blob(seed))
    assert (opened.length, b"".join(opened.pieces()), opened.read(SIZE - 1, 100)) == (SIZE, blob(1), b"\1")
    opened.close()


def test_what_a_crash_left_half_written_is_removed(tmp_path: Path) -> None:
    BlobStore(tmp_path, ROOM).put(blob(1))
    part = tmp_path / "incoming" / "1.part"
    part.write_bytes(b"half")
    store = BlobStore(tmp_path, ROOM)
    assert not part.exists()
    assert store.bytes_used == SIZE


def test_files_of_others_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "no").mkdir()
    foreign = tmp_path / "no" / "blob"
    foreign.write_text("keep me")
    assert BlobStore(tmp_path, KIB).bytes_used == 0
    assert foreign.exists()


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 5 * CHUNK_BYTES])
def test_every_chunk_comes_with_its_proof(tmp_path: Path, size: int) -> None:
    store = BlobStore(tmp_path, 10 * CHUNK_BYTES * INCOMING_SHARE)
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    root = store.put(data)
    for start in (0, 2):
        found = store.chunks(root, start, 3)
        assert found is not None
        assert found.total_length == size
        for index, (chunk, proof) in enumerate(found.chunks, start):
            assert verify_chunk(root, size, index, chunk, proof)
    whole = store.chunks(root, 0, 16)
    assert whole is not None
    assert b"".join(chunk for chunk, _ in whole.chunks) == data
    assert store.chunks(blob_root(b"other"), 0, 1) is None


def test_threads_that_put_get_and_keep_at_once_agree_on_what_is_there(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, ROOM)
    faults: list[object] = []

    def work(seed: int) -> None:
        rng = Random(seed)
        try:
            for _ in range(60):
                data = blob(rng.randrange(8))
                match rng.randrange(4):
                    case 0:
                        with suppress(BlobStoreFull):  # Where three have room, the fourth pushes out the first.
                            store.put(data)
                    case 1:
                        assert store.get(blob_root(data)) in (None, data)
                    case 2:
                        store.keep(str(seed), {blob_root(data): SIZE})
                    case _:
                        found = store.chunks(blob_root(data), 0, 1)
                        assert found is None or found.chunks[0][0] == data
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert faults == []
    here = [seed for seed in range(8) if store.has(blob_root(blob(seed)))]
    assert store.bytes_used == len(here) * SIZE
    assert len(list(tmp_path.glob("*/*"))) == len(here)
