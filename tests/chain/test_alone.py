"""A network's folder and a validator's key are one process's at a time; whoever comes second names who has them."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chain.folder_lock import FolderLocked, hold_folder, lock_folder
from chain.key_hold import KeyInUse, hold_key
from chain.light.checkpoint import Checkpoint
from chain.primitives import ss58
from chain.validator_keys import ValidatorKeys
from genesis.spec import load
from tests.chain.test_cli import ROOT, TESTNET, refusal
from tests.ports import free_port

SEED = "0x" + "5a" * 32
KEYS = ValidatorKeys.from_uri(SEED)
CHAIN = bytes(32)


@contextmanager
def process(program: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has done what the program says, and then waits."""
    command = [sys.executable, "-c", f"{program}\nprint(flush=True)\ninput()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "\n"
            yield child
        finally:
            child.kill()


def test_a_folder_is_given_back_by_a_process_that_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    program = f"from chain.folder_lock import *\nheld = hold_folder(Path({str(folder)!r}))\nheld.__enter__()"
    with process(program) as holder:
        with pytest.raises(FolderLocked, match=f"{folder} is in use by process {holder.pid}, which holds"):
            lock_folder(folder)
        holder.kill()
        holder.wait()
        with hold_folder(folder), pytest.raises(FolderLocked, match=f"in use by process {os.getpid()}"):
            lock_folder(folder)
    os.close(lock_folder(folder))


def test_a_folder_that_turns_out_to_be_somebody_elses_is_left_without_a_lock(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), hold_folder(tmp_path):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_what_fails_in_a_folder_that_was_removed_meanwhile_is_what_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "folder"

    def fail() -> None:
        shutil.rmtree(folder)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), hold_folder(folder):
        fail()
    assert not folder.exists()


def test_a_lock_whose_file_was_taken_away_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes open the file, and the first takes it away before the second locks it."""
    flock = fcntl.flock

    def late(file: int, operation: int) -> None:
        monkeypatch.undo()
        (tmp_path / "LOCK").unlink()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    lock = lock_folder(tmp_path)
    with pytest.raises(FolderLocked):
        lock_folder(tmp_path)
    os.close(lock)


def test_a_second_network_in_a_folder_is_refused_before_it_touches_anything(tmp_path: Path) -> None:
    ports = f"--rpc-port={free_port()}", f"--port={free_port()}", "--no-prometheus"
    with hold_folder(tmp_path):
        message = refusal("--genesis", TESTNET, "--base-path", tmp_path, *ports)
    assert message == (
        f"error: the folder {tmp_path} is in use by process {os.getpid()}, which holds the lock {tmp_path / 'LOCK'}: "
        "stop that network first (Ctrl-C in its terminal, or kill), or give this one another folder with --base-path, "
        "and other ports with --rpc-port, --port and --prometheus-port\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["LOCK"]


def test_a_validators_key_votes_in_one_process_of_a_machine(tmp_path: Path) -> None:
    program = "from tests.chain.test_alone import *\nheld = hold_key(CHAIN, KEYS)\nheld.__enter__()"
    with process(program) as holder:
        for _ in range(2):  # Whoever asks leaves nothing behind that would keep the next one from being told.
            with pytest.raises(KeyInUse, match=f"^process {holder.pid} of this machine votes"), hold_key(CHAIN, KEYS):
                pass
        holder.kill()
        holder.wait()
        with hold_key(CHAIN, KEYS), hold_key(bytes([1]) * 32, KEYS), hold_key(CHAIN, ValidatorKeys.from_uri("//Bob")):
            pass


def test_a_second_node_with_a_validators_key_is_refused_whatever_its_folder(tmp_path: Path) -> None:
    key = tmp_path / "validator.key"
    key.touch(mode=0o600)
    key.write_text(SEED)
    words = "--genesis", TESTNET, "--validator", key, "--base-path", tmp_path / "data"
    with hold_key(Checkpoint.of(load(TESTNET)).genesis_hash, KEYS):
        message = refusal(*words)
    assert message == (
        f"error: process {os.getpid()} of this machine votes on this chain with the key of validator "
        f"{ss58.encode(KEYS.account.public)} already, and two nodes with one key contradict each other, which costs a "
        "part of the stake: stop that one first, or run a --full-node here\n"
    )
    assert list(tmp_path.iterdir()) == [key]
