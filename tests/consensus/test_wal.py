"""The vote log: durable, cut where a crash tore it, refused where anything else damaged it."""

import os
from collections.abc import Callable
from itertools import product
from pathlib import Path
from random import Random

import pytest

from chain.simulation.disk import Killed, SimulatedDisk
from consensus.messages import Certificate, NewView, Support
from consensus.records import RECORD, Accepted, Changing, Locked, Record
from consensus.wal import Wal, WalCorrupt, WalFailed, WalForeign

PATH = Path("/votes.wal")
ALICE, BOB = b"a" * 32, b"b" * 32
CERTIFICATE = Certificate(7, 0, b"\x11" * 32, b"\x07", b"\x22" * 96)
PROOF = NewView((Support(2, None, b"\x33" * 96),), CERTIFICATE)
RECORDS: list[Record] = [
    Accepted(7, 0, b"\x11" * 32, b"payload" * 20, None),
    Locked(7, CERTIFICATE),
    Changing(7, 1),
    Accepted(7, 1, b"\x11" * 32, None, PROOF),
]


def write(path: Path, records: list[Record] = RECORDS) -> list[int]:
    """Write a log; return its size after each record."""
    sizes = []
    with Wal.open(path, ALICE) as wal:
        for record in records:
            wal.append(record)
            sizes.append(path.stat().st_size)
    return sizes


def read(path: Path) -> list[Record]:
    with Wal.open(path, ALICE) as wal:
        return wal.records


def test_what_was_appended_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "wal"
    assert read(path) == []
    assert not path.exists()
    write(path)
    assert read(path) == RECORDS
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_new_height_takes_the_place_of_the_old(tmp_path: Path) -> None:
    path = tmp_path / "wal"
    write(path)
    size = write(path, [Changing(8, 1), Changing(8, 2)])[-1]
    assert size == 2 * 512
    assert read(path) == [Changing(8, 1), Changing(8, 2)]
    with Wal.open(path, ALICE) as wal:
        assert wal.height == 8
        with pytest.raises(ValueError, match="height 8 or above, got one of 7"):
            wal.append(Changing(7, 9))
    assert list(tmp_path.iterdir()) == [path]


def test_a_log_that_was_torn_at_any_byte_keeps_every_whole_record_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "wal"
    sizes = write(path)
    data = path.read_bytes()
    for length in range(sizes[0], len(data)):
        path.write_bytes(data[:length])
        whole = [record for record, size in zip(RECORDS, sizes, strict=True) if size <= length]
        assert read(path) == whole
        write(path, [Changing(7, 5)])
        assert read(path) == [*whole, Changing(7, 5)]


def test_a_tail_that_got_its_length_but_not_its_bytes_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "wal"
    long = Accepted(7, 2, b"\x44" * 32, b"\x55" * 3000, None)
    sizes = write(path, [*RECORDS, long])
    data = path.read_bytes()
    for zeros in (slice(sizes[-2], None), slice(len(data) - 700, None), slice(2560, 3072)):
        torn = bytearray(data)
        torn[zeros] = bytes(len(torn[zeros]))
        path.write_bytes(torn)
        assert read(path) == RECORDS


def test_whichever_sectors_of_the_last_record_were_not_written_the_log_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "wal"
    for size in (*range(256, 276), *range(440, 470), 780):
        last = Accepted(7, 2, b"\x44" * 32, b"\x55" * size, None)
        path.unlink(missing_ok=True)
        before, after = write(path, [*RECORDS, last])[-2:]
        data = path.read_bytes()
        sectors = range(before // 512 * 512, after, 512)
        for written in product((False, True), repeat=len(sectors)):
            torn = bytearray(data)
            for sector, is_written in zip(sectors, written, strict=True):
                new = slice(max(sector, before), min(sector + 512, after))
                if not is_written:
                    torn[new] = bytes(len(torn[new]))
            path.write_bytes(torn)
            assert read(path) == ([*RECORDS, last] if all(written) else RECORDS)


def test_a_sector_of_zeros_before_the_last_record_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wal"
    sizes = write(path)
    data = path.read_bytes()
    for lost in range(0, sizes[-2], 512):
        path.write_bytes(data[:lost] + bytes(512) + data[lost + 512 :])
        with pytest.raises(WalCorrupt):
            Wal.open(path, ALICE)


def test_a_log_shorter_than_its_first_record_is_refused_since_it_was_born_whole(tmp_path: Path) -> None:
    path = tmp_path / "wal"
    first = write(path)[0]
    data = path.read_bytes()
    for length in range(first):
        path.write_bytes(data[:length])
        with pytest.raises(WalCorrupt, match="damaged at byte"):
            Wal.open(path, ALICE)


def test_a_flipped_bit_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wal"
    write(path)
    data = path.read_bytes()
    for position in range(len(data)):
        path.write_bytes(data[:position] + bytes((data[position] ^ 1 << position % 8,)) + data[position + 1 :])
        with pytest.raises((WalCorrupt, WalForeign)):
            Wal.open(path, ALICE)


def test_the_log_of_another_validator_or_chain_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wal"
    write(path)
    with pytest.raises(WalForeign, match="belongs to this key"):
        Wal.open(path, BOB)
    assert read(path) == RECORDS


def test_each_record_is_flushed_and_a_new_file_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = []
    real: Callable[[int], None] = os.fsync

    def fsync(file: int) -> None:
        flushed.append(Path(os.readlink(f"/proc/self/fd/{file}")).name)
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    write(tmp_path / "votes.wal", RECORDS[:2])
    assert flushed == ["votes.new", tmp_path.name, "votes.wal"]


def test_after_a_failed_write_nothing_more_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "votes.wal"
    with Wal.open(path, ALICE) as wal:
        wal.append(RECORDS[0])
        (tmp_path / "votes.new").mkdir()
        with pytest.raises(WalFailed, match=r"could not be written \(Is a directory\).*make room"):
            wal.append(Changing(8, 1))
        (tmp_path / "votes.new").rmdir()
        with pytest.raises(WalFailed, match="restart the node"):
            wal.append(RECORDS[1])
    assert read(path) == RECORDS[:1]


def test_a_file_left_behind_by_a_crash_before_the_rename_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "votes.wal"
    write(path)
    (tmp_path / "votes.new").write_bytes(b"half a fi")
    assert read(path) == RECORDS
    assert list(tmp_path.iterdir()) == [path]


def test_p5_what_a_process_that_was_killed_had_not_flushed_survives_a_power_cut_once_it_was_read() -> None:
    """A replica casts again what its log holds, without recording it again: so it has to be durable by then."""
    killed = False

    def hazard() -> None:
        if killed and len(disk.read(PATH)) > len(disk.durable(PATH)):
            raise Killed

    disk = SimulatedDisk(Random(0), hazard)
    wal = Wal.open(PATH, ALICE, disk)
    wal.append(RECORDS[0])
    killed = True
    with pytest.raises(Killed):
        wal.append(RECORDS[1])
    killed = False
    disk.end_process()
    with Wal.open(PATH, ALICE, disk) as wal:
        assert wal.records == RECORDS[:2]
        assert disk.durable(PATH) == disk.read(PATH)


def _append_until_it_fails(wal: Wal, record: Record) -> None:
    for _ in range(100):
        wal.append(record)


def test_p5_what_a_flush_that_failed_left_in_the_cache_survives_a_power_cut_once_it_was_read() -> None:
    """The system does not write again what it failed to write: flushing the same file once more is not enough."""
    for seed in range(20):
        disk = SimulatedDisk(Random(seed), lambda: None)
        wal = Wal.open(PATH, ALICE, disk)
        wal.append(RECORDS[0])
        disk.errors = 0.5
        with pytest.raises(WalFailed, match=r"could not be written \(Input/output error\).*replace it if it is faulty"):
            _append_until_it_fails(wal, RECORDS[1])
        disk.errors = 0.0
        disk.end_process()
        with Wal.open(PATH, ALICE, disk) as wal:
            records = list(wal.records)
            wal.append(RECORDS[2])
        disk.cut_power()
        with Wal.open(PATH, ALICE, disk) as wal:
            assert wal.records == [*records, RECORDS[2]]


def test_a_log_that_the_disk_does_not_give_back_stops_the_node() -> None:
    disk = SimulatedDisk(Random(0), lambda: None)
    with Wal.open(PATH, ALICE, disk) as wal:
        wal.append(RECORDS[0])
    disk.errors = 1.0
    with pytest.raises(WalFailed, match=r"could not be read \(Input/output error\)"):
        Wal.open(PATH, ALICE, disk)


@pytest.mark.parametrize("record", RECORDS)
def test_records_have_one_encoding(record: Record) -> None:
    assert RECORD.decode(RECORD.encode(record)) == record
