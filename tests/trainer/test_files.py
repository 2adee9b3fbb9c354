"""What a worker must not forget between commitment and reveal, and must not mistake for something else."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from chain.primitives.blob import blob_root
from trainer.codecs.memory import Memory
from trainer.files import UNUSED_SECONDS, BlobFiles, Files, Pending, PendingFiles

SOURCE, OTHER = b"\1" * 32, b"\2" * 32
UPDATE = b"an update"
PENDING = Pending(b"s" * 32, blob_root(UPDATE), UPDATE)


def test_what_is_put_is_there_after_a_restart(tmp_path: Path) -> None:
    PendingFiles(tmp_path).put((0, 1, 2, 3), SOURCE, PENDING)
    again = PendingFiles(tmp_path)
    assert again.get((0, 1, 2, 3), SOURCE) == PENDING
    for place in ((1, 1, 2, 3), (0, 2, 2, 3), (0, 1, 3, 3), (0, 1, 2, 4)):
        assert again.get(place, SOURCE) is None


def test_what_another_chain_left_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    files = PendingFiles(tmp_path)
    files.put((0, 0, 0, 0), OTHER, PENDING)
    assert files.get((0, 0, 0, 0), SOURCE) is None


def test_a_file_that_is_torn_is_as_good_as_none(tmp_path: Path) -> None:
    files = PendingFiles(tmp_path)
    files.put((0, 0, 0, 0), SOURCE, PENDING)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert files.get((0, 0, 0, 0), SOURCE) is None


def test_what_a_kill_left_half_written_is_removed_at_the_next_start(tmp_path: Path) -> None:
    PendingFiles(tmp_path).put((0, 0, 0, 0), SOURCE, PENDING)
    (tmp_path / "0-0-0-1.pending.00.partial").write_bytes(b"half")
    assert PendingFiles(tmp_path).get((0, 0, 0, 0), SOURCE) == PENDING
    assert [path.suffix for path in tmp_path.iterdir()] == [".pending"]


def test_what_is_over_is_forgotten_and_nothing_else(tmp_path: Path) -> None:
    files = PendingFiles(tmp_path)
    places = [(task, round_, attempt, 0) for task in range(2) for round_ in range(3) for attempt in range(2)]
    for place in places:
        files.put(place, SOURCE, PENDING)
    (tmp_path / "0-7-1.pending").write_bytes(b"of an older version")
    files.forget_before(0, 1, 1)
    left = {place for place in places if files.get(place, SOURCE) is not None}
    assert left == {place for place in places if place[0] == 1 or place[1:3] >= (1, 1)}
    assert len(list(tmp_path.iterdir())) == len(left)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_blob_goes_with_the_last_task_that_asked_for_it(tmp_path: Path) -> None:
    files = BlobFiles(tmp_path)
    shared, own = b"a data set", b"a program"
    for data in (shared, own):
        assert files.get(7, blob_root(data), 100) is None
        files.put(blob_root(data), data)
    assert files.get(8, blob_root(shared), 100) == shared
    files.forget(7)
    assert names_in(tmp_path) == {blob_root(shared).hex()}
    assert files.get(8, blob_root(shared), 100) == shared
    files.forget(8)
    assert names_in(tmp_path) == set()


def test_nothing_is_left_of_a_task_that_is_over(tmp_path: Path) -> None:
    files = Files.open(tmp_path)
    for task in (1, 11):
        files.pending.put((task, 2, 0, 3), SOURCE, PENDING)
        files.memories.put((task, 2, 0, 3), OTHER, Memory(np.ones(4, np.float32), None))
        files.blobs.get(task, blob_root(b"%d" % task), 100)
        files.blobs.put(blob_root(b"%d" % task), b"%d" % task)
    files.forget(1)
    left = [path.name.partition("-")[0] for folder in ("pending", "memories") for path in (tmp_path / folder).iterdir()]
    assert left == ["11", "11"]
    assert names_in(tmp_path / "blobs") == {blob_root(b"11").hex()}


def test_what_was_left_of_tasks_that_are_long_over_is_removed_at_a_start(tmp_path: Path) -> None:
    files = BlobFiles(tmp_path)
    for data, days in ((b"old", 31), (b"used", 31), (b"new", 29)):
        files.put(blob_root(data), data)
        at = time.time() - days * UNUSED_SECONDS / 30
        os.utime(tmp_path / blob_root(data).hex(), (at, at))
    assert files.get(0, blob_root(b"used"), 100) == b"used"
    BlobFiles(tmp_path)
    assert names_in(tmp_path) == {blob_root(b"used").hex(), blob_root(b"new").hex()}
