"""What a worker must not forget between commitment and reveal, and must not mistake for something else."""

from __future__ import annotations

from pathlib import Path

from chain.primitives.blob import blob_root
from trainer.files import Pending, PendingFiles

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
