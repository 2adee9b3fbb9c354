"""The data folder of a node that stands still: damage is found, what is carried is checked, and nothing is lost."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import lmdb
import pytest

from chain import cli
from chain.cli_db import bar
from chain.folder_lock import lock_folder, sign_lock
from chain.ledger import BODY
from chain.store import COMPACTING
from chain.upkeep.chain_file import ChainFileError, Rejected, import_file
from chain.upkeep.check import FINDINGS_MAX
from chain.upkeep.folder import NodeFolder
from consensus.records import Began
from consensus.wal import Wal
from genesis.spec import load
from runtime.testing import genesis_config
from tests.chain.test_store import contents
from tests.chain.test_warp import LENGTH, SHORT, extend, opened
from tests.light.kit import write_genesis

HISTORY = 12

Tables = dict[bytes, dict[bytes, bytes]]
Change = Callable[["lmdb.Transaction[bytes]", Callable[[bytes], "lmdb._Database"]], None]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base folder with a genesis file and one node, whose chain has three validator sets."""
    base = tmp_path_factory.mktemp("base")
    write_genesis(base / "genesis.json", genesis_config(sessions=SHORT))
    with opened(base / "alice" / "chain", LENGTH, HISTORY):
        pass
    return base


@pytest.fixture
def base(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "base")


@pytest.fixture
def folder(base: Path) -> NodeFolder:
    return NodeFolder(load(base / "genesis.json"), base / "alice")


def db(base: Path, *words: str | Path, name: str = "alice") -> int:
    """Run `potchain db …` about a node in this process; its exit code."""
    flags = ("--genesis", base / "genesis.json", "--base-path", base, "--name", name, "db")
    with pytest.raises(SystemExit) as ended:
        cli.main([str(word) for word in (*flags, *words)])
    code = ended.value.code
    return code if isinstance(code, int) else 0


def tables(chain: Path) -> Tables:
    """Everything that a database holds."""
    found: Tables = {}
    with (
        lmdb.open(str(chain), max_dbs=16, readonly=True, lock=False) as environment,
        environment.begin() as txn,
        txn.cursor() as names,
    ):
        for name in names.iternext(values=False):
            with txn.cursor(environment.open_db(name, txn=txn, create=False)) as cursor:
                found[name] = dict(cursor)
    return found


def damage(chain: Path, change: Change) -> None:
    known = list(tables(chain))
    with lmdb.open(str(chain), max_dbs=16) as environment:
        names = {name: environment.open_db(name) for name in known}
        with environment.begin(write=True) as txn:
            change(txn, lambda name: names[name])


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def u32(number: int) -> bytes:
    return number.to_bytes(4, "big")


def spoil(table: bytes, height: int, at: int = -1) -> Change:
    """Flip a bit of what a table has of a block."""

    def change(txn: lmdb.Transaction[bytes], of: Callable[[bytes], lmdb._Database]) -> None:
        key = txn.get(u32(height), db=of(b"heights"))
        assert key is not None
        value = txn.get(key, db=of(table))
        assert value is not None
        txn.put(key, flipped(value, at % len(value)), db=of(table))

    return change


def other_body(height: int) -> Change:
    def change(txn: lmdb.Transaction[bytes], of: Callable[[bytes], lmdb._Database]) -> None:
        key = txn.get(u32(height), db=of(b"heights"))
        assert key is not None
        txn.put(key, BODY.encode([]), db=of(b"bodies"))

    return change


def without(table: bytes, height: int) -> Change:
    def change(txn: lmdb.Transaction[bytes], of: Callable[[bytes], lmdb._Database]) -> None:
        key = txn.get(u32(height), db=of(b"heights"))
        assert key is not None
        txn.delete(u32(height) if table in (b"heights", b"roots") else key, db=of(table))

    return change


def last_value(table: bytes, at: int) -> Change:
    """Flip a bit of a table's last row."""

    def change(txn: lmdb.Transaction[bytes], of: Callable[[bytes], lmdb._Database]) -> None:
        with txn.cursor(of(table)) as cursor:
            assert cursor.last()
            key, value = cursor.item()
        txn.put(key, flipped(value, at % len(value)), db=of(table))

    return change


def stray(table: bytes) -> Change:
    def change(txn: lmdb.Transaction[bytes], of: Callable[[bytes], lmdb._Database]) -> None:
        txn.put(b"\xff" * (8 if table == b"nodes" else 32), b"stray", db=of(table))

    return change


NEW, OLD = LENGTH - 2, 5  # a block whose parent's state is kept, and one whose is not


@pytest.mark.parametrize(
    ("change", "message", "mend"),
    [
        (spoil(b"headers", NEW), f"the header of block {NEW} is not what its hash says", "db revert 3"),
        (spoil(b"headers", OLD), f"the header of block {OLD} is not what its hash says", "db purge"),
        (without(b"headers", NEW), f"the header of block {NEW} is not what its hash says", "db revert 3"),
        (spoil(b"bodies", NEW), f"the extrinsics of block {NEW} are not those of its header", "db revert 3"),
        (other_body(NEW), f"the extrinsics of block {NEW} are not those of its header", "db revert 3"),
        (without(b"bodies", OLD), f"the extrinsics of block {OLD} are not those of its header", "db purge"),
        (spoil(b"seals", NEW), f"the seal of block {NEW} does not prove it", "db revert 3"),
        (spoil(b"seals", NEW, 20), f"the seal of block {NEW} is missing, or of another block", "db revert 3"),
        (without(b"seals", OLD), f"the seal of block {OLD} is missing, or of another block", "db purge"),
        (without(b"heights", NEW), f"block {NEW} is missing", "db revert 3"),
        (without(b"heights", LENGTH), f"the head is block {LENGTH}, but the last block is", "db purge"),
        (without(b"roots", NEW), f"the state after block {NEW} is missing", "db purge"),
        (last_value(b"roots", 9), f"the state after block {LENGTH} is not the one that its header names", "db purge"),
        (last_value(b"nodes", 5), f"of the state after block {LENGTH} is damaged, or missing", "db purge"),
        (last_value(b"nodes", -1), "is damaged, or missing", "db purge"),
        (last_value(b"state", 0), "the keys of the head's state do not make its root", "db purge"),
        (last_value(b"handovers", -1), "does not prove who came after set", "db purge"),
        (stray(b"headers"), "the table headers has 46 rows, expected 45", "db purge"),
        (stray(b"seals"), "the table seals has 45 rows, expected 44", "db purge"),
        (stray(b"nodes"), "1 nodes of the tree are of no kept state", "db purge"),
    ],
)
def test_whatever_is_damaged_is_named_with_the_command_that_mends_it(
    base: Path, folder: NodeFolder, capsys: pytest.CaptureFixture[str], change: Change, message: str, mend: str
) -> None:
    damage(folder.chain, change)
    assert db(base, "check") == 1
    told = capsys.readouterr().out
    assert message in told
    assert mend in told
    assert "nothing is wrong" not in told


def test_a_whole_folder_has_nothing_wrong(base: Path, folder: NodeFolder, capsys: pytest.CaptureFixture[str]) -> None:
    with Wal.open(folder.vote_log, bytes(32)) as log:
        log.append(Began(LENGTH + 1))
    before = tables(folder.chain)
    assert db(base, "check") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"blocks    {LENGTH + 1} up to {LENGTH}; {LENGTH} seals verified"
    assert lines[1].startswith(f"states    {HISTORY} kept, of ")
    assert lines[2:] == [f"vote log  whole, at block {LENGTH + 1}", "ok        nothing is wrong"]
    assert tables(folder.chain) == before
    assert db(base, "check", "--fast") == 0
    assert capsys.readouterr().out.splitlines()[0] == f"blocks    1 up to {LENGTH}; 1 seals verified"


@pytest.mark.parametrize(
    "change", [spoil(b"headers", LENGTH), spoil(b"seals", LENGTH), last_value(b"roots", 9), last_value(b"nodes", 5)]
)
def test_a_fast_check_sees_what_is_wrong_with_the_head(
    base: Path, folder: NodeFolder, capsys: pytest.CaptureFixture[str], change: Change
) -> None:
    damage(folder.chain, change)
    assert db(base, "check", "--fast") == 1
    assert f" {LENGTH} " in capsys.readouterr().out


def test_a_damaged_vote_log_is_told_and_nothing_is_said_to_mend_it(
    base: Path, folder: NodeFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    with Wal.open(folder.vote_log, bytes(32)) as log:
        log.append(Began(LENGTH + 1))
    folder.vote_log.write_bytes(flipped(folder.vote_log.read_bytes(), 60))
    assert db(base, "check", "--fast") == 1
    told = capsys.readouterr().out
    assert "consensus.wal: damaged at byte" in told
    assert "potchain --genesis" not in told


def test_many_faults_are_counted_and_not_all_printed(
    base: Path, folder: NodeFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(txn: lmdb.Transaction[bytes], of: Callable[[bytes], lmdb._Database]) -> None:
        for height in range(1, LENGTH):
            spoil(b"bodies", height)(txn, of)

    damage(folder.chain, change)
    assert db(base, "check") == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + FINDINGS_MAX + 1
    assert lines[-1] == f"bad       and {LENGTH - 1 - FINDINGS_MAX} more like these"


@pytest.mark.parametrize("count", [1, 4, HISTORY - 1])
def test_a_chain_whose_last_blocks_are_taken_off_is_what_it_was_before_them_and_goes_on(
    base: Path, folder: NodeFolder, count: int, tmp_path: Path
) -> None:
    whole = tables(folder.chain)
    assert db(base, "revert", str(count)) == 0
    with opened(tmp_path / "shorter", LENGTH - count, 256):
        pass
    found, expected = tables(folder.chain), tables(tmp_path / "shorter")
    for name in (b"state", b"heights", b"headers", b"bodies", b"seals", b"handovers"):
        assert found[name] == expected[name], name
    # Of trees and states those that were pruned before stay so.
    first = u32(LENGTH - HISTORY + 1)
    assert found[b"roots"] == {key: value for key, value in expected[b"roots"].items() if key >= first}
    assert found[b"stale"] == {key: value for key, value in expected[b"stale"].items() if key > first}
    assert found[b"meta"][b"head"][:44] == expected[b"meta"][b"head"][:44]
    assert db(base, "check") == 0
    with opened(folder.chain, LENGTH, HISTORY):
        pass
    assert tables(folder.chain) == whole


def test_no_more_blocks_are_taken_off_than_have_a_state_before_them(
    base: Path, folder: NodeFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tables(folder.chain)
    assert db(base, "revert", str(HISTORY)) == 1
    assert f"at most {HISTORY - 1} blocks can be taken off" in capsys.readouterr().err
    assert tables(folder.chain) == before


def test_a_compacted_database_holds_the_same_in_a_smaller_file(base: Path, folder: NodeFolder) -> None:
    before, size = tables(folder.chain), (folder.chain / "data.mdb").stat().st_size
    assert db(base, "compact") == 0
    assert tables(folder.chain) == before
    assert (folder.chain / "data.mdb").stat().st_size < size
    assert sorted(file.name for file in folder.chain.iterdir()) == ["LOCK", "data.mdb", "lock.mdb"]
    assert db(base, "check") == 0
    assert db(base, "compact") == 0


DIE = """
import os, signal, sys
from chain.store import Store
from tests.chain.test_warp import opened
from pathlib import Path
step, path = sys.argv[1], Path(sys.argv[2])
with opened(path, 0, 12) as ledger:
    store = ledger._store
    if step == "before the copy":
        (path / "compact.partial").mkdir()
        (path / "compact.partial" / "data.mdb").write_bytes(b"half")
    elif step == "before the rename":
        store.copy_compact()
    else:
        file = store.copy_compact()
        Path.rmdir = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        store.replace_by(file)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.parametrize("step", ["before the copy", "before the rename", "after the rename"])
def test_a_compaction_that_is_killed_leaves_one_whole_database_and_no_rest(
    base: Path, folder: NodeFolder, step: str
) -> None:
    before = tables(folder.chain)
    done = subprocess.run([sys.executable, "-c", DIE, step, folder.chain], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done
    assert (folder.chain / COMPACTING).exists()
    assert tables(folder.chain) == before
    assert db(base, "check") == 0
    assert not (folder.chain / COMPACTING).exists()


def test_a_compaction_that_finds_no_room_leaves_the_database_as_it_was(
    base: Path, folder: NodeFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tables(folder.chain)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (32768, hard))
    try:
        assert db(base, "compact") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert "could not be copied" in capsys.readouterr().err
    assert not (folder.chain / COMPACTING).exists()
    assert tables(folder.chain) == before


@pytest.fixture
def exported(base: Path, tmp_path: Path) -> Path:
    """All blocks, in a file."""
    assert db(base, "export", tmp_path / "blocks") == 0
    return tmp_path / "blocks"


def test_blocks_that_were_exported_make_the_same_chain_elsewhere(
    base: Path, folder: NodeFolder, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert db(base, "import", exported, name="bob") == 0
    assert capsys.readouterr().out == f"{LENGTH} blocks imported; the chain is at block {LENGTH}\n"
    found, expected = tables(base / "bob" / "chain"), tables(folder.chain)
    for name in (b"state", b"heights", b"headers", b"bodies", b"seals", b"handovers"):
        assert found[name] == expected[name], name
    assert db(base, "import", exported, name="bob") == 0
    assert capsys.readouterr().out == f"0 blocks imported; the chain is at block {LENGTH}\n"


def test_a_part_is_imported_where_the_chain_has_come_to_its_beginning(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert db(base, "export", tmp_path / "first", "--to", "20") == 0
    assert db(base, "export", tmp_path / "second", "--from", "15", "--to", "30") == 0
    assert db(base, "import", tmp_path / "second", name="bob") == 1
    assert "begins at block 15, but the next one here is 1" in capsys.readouterr().err
    assert db(base, "import", tmp_path / "first", name="bob") == 0
    assert db(base, "import", tmp_path / "second", name="bob") == 0
    assert "10 blocks imported; the chain is at block 30" in capsys.readouterr().out


def test_what_cannot_be_exported_is_refused_and_no_file_is_touched(
    base: Path, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = exported.read_bytes()
    assert db(base, "export", exported) == 1
    assert "exists already and is left as it is" in capsys.readouterr().err
    assert exported.read_bytes() == before
    assert db(base, "export", exported.with_name("more"), "--to", "99") == 2
    assert f"this node has the blocks 1 to {LENGTH}" in capsys.readouterr().err
    assert sorted(exported.parent.glob("*more*")) == sorted(exported.parent.glob("*.partial")) == []


def changed(data: bytes, at: int, replacement: bytes) -> bytes:
    return data[:at] + replacement + data[at + len(replacement) :]


def frames(data: bytes) -> Iterator[tuple[int, int]]:
    """Where each block of a file lies."""
    at = 52
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        yield at, length
        at += 8 + length


def test_a_file_that_is_cut_or_has_any_bit_flipped_is_refused_and_what_came_before_is_whole(
    base: Path, exported: Path, tmp_path: Path
) -> None:
    data = exported.read_bytes()
    (start, length), *_ = list(frames(data))[24:]
    spots = [*range(60), *range(start, start + length + 8, 37), len(data) - 1]
    bad = [flipped(data, spot) for spot in spots] + [data[:spot] for spot in spots] + [data + b"\0"]
    file = tmp_path / "bad"
    with opened(tmp_path / "chain", LENGTH, HISTORY) as ledger:
        head = ledger.head_hash
        for each in bad:
            file.write_bytes(each)
            # The whole chain is there already: all that is wrong with a file shows without a single pairing.
            with pytest.raises((ChainFileError, Rejected)):
                import_file(ledger, file, lambda *_: None)
        assert ledger.head_hash == head


def test_a_forged_block_is_refused_whose_sum_is_right(base: Path, exported: Path, tmp_path: Path) -> None:
    data = exported.read_bytes()
    at, length = list(frames(data))[9]
    forged = flipped(data[at + 8 : at + 8 + length], length - 1)  # a bit of the seal's signature
    data = changed(data, at, struct.pack("<II", length, zlib.crc32(forged)) + forged)
    (tmp_path / "forged").write_bytes(data)
    with opened(tmp_path / "chain", 4, HISTORY) as ledger:
        with pytest.raises(Rejected, match="the seal of block 10 does not prove it; the chain is at block 4 now"):
            import_file(ledger, tmp_path / "forged", lambda *_: None)
        assert ledger.head.height == 4
        extend(ledger, 12)


def test_blocks_of_another_chain_are_refused(base: Path, exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = exported.read_bytes()
    head = changed(data[:48], 8, bytes(32))
    exported.write_bytes(head + struct.pack("<I", zlib.crc32(head)) + data[52:])
    assert db(base, "import", exported, name="bob") == 1
    assert f"has blocks of the chain with genesis hash 0x{bytes(32).hex()}" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["check", "compact", "export x", "import x", "revert 1", "purge --yes"])
def test_a_folder_that_a_node_uses_is_refused_with_its_process_id(
    base: Path, folder: NodeFolder, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    lock_fd = lock_folder(folder.chain)
    sign_lock(lock_fd)
    before = contents(folder.chain)
    try:
        assert db(base, *words.split()) == 2
    finally:
        os.close(lock_fd)
    assert f"is in use by process {os.getpid()}" in capsys.readouterr().err
    assert contents(folder.chain) == before


def test_a_purge_leaves_keys_and_vote_log_and_blobs_unless_it_is_told_so(base: Path, folder: NodeFolder) -> None:
    for name in ("consensus.wal", "node.key", "alice.key", "pool.dat", "keystore/a.json", "blobs/00"):
        file = folder.path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("kept")

    def left() -> set[str]:
        return {str(file.relative_to(folder.path)) for file in folder.path.rglob("*") if file.is_file()}

    database = {"chain/LOCK", "chain/lock.mdb"}
    keys = {"node.key", "alice.key", "keystore/a.json"}
    assert db(base, "purge") == 2, "nobody is there to be asked"
    assert db(base, "purge", "--yes") == 0
    assert left() == {*database, *keys, "consensus.wal", "blobs/00"}
    assert db(base, "purge", "--yes", "--blobs") == 0
    assert left() == {*database, *keys, "consensus.wal"}
    assert db(base, "purge", "--yes", "--unsafe-vote-log") == 0
    assert left() == {*database, *keys}
    with opened(folder.chain, 3, HISTORY):
        pass


def test_a_flag_of_the_node_behind_the_command_is_told_where_it_belongs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["db", "check", "--genesis", "genesis.json"])
    told = capsys.readouterr().err
    assert "no such option: --genesis; it is for the node: give it before the command, potchain --genesis … db" in told


def test_a_node_is_found_by_the_flags_that_run_it(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str | Path) -> tuple[int, str]:
        flags = ("--genesis", base / "genesis.json", "--base-path", base)
        with pytest.raises(SystemExit) as ended:
            cli.main([*map(str, flags), *map(str, words), "db", "check", "--fast"])
        return int(ended.value.code or 0), "".join(capsys.readouterr())

    assert run()[0] == 0, "the only one that there is"
    assert run("--validator", "keys/alice.key")[0] == 0
    assert "no chain in" in run("--full-node")[1]
    shutil.copytree(base / "alice", base / "bob")
    assert "Give --name before the command; there are alice, bob" in run()[1]


def test_who_watches_the_upkeep_of_a_folder_is_told_how_far_it_is_and_how_long_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", terminal)
    now = iter((0.0, 1.0, 1.1, 2.0))
    with bar(lambda: next(now)) as tell:
        tell("blocks", 0, 1500)  # at 1 s
        tell("blocks", 100, 1500)  # too soon after it to be read
        tell("blocks", 500, 1500)
    assert terminal.getvalue() == ("\r\x1b[2Kblocks: 0 of 1,500\r\x1b[2Kblocks: 500 of 1,500, about 2 s left\r\x1b[2K")
