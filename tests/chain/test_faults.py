"""Errors that end a process: one line, and an exit code that tells a supervisor whether starting again can help."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from chain.cli_common import EXIT_FAILED, fault_of
from chain.store import DataFolderError, StorageFailed
from chain.supervisor import EXIT_MISCONFIGURED
from consensus.wal import Wal, WalCorrupt, WalFailed

FULL = OSError(errno.ENOSPC, "No space left on device")


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        StorageFailed("the database could not be written"),
        WalFailed("the vote log could not be written"),
        FULL,
        OSError(errno.ENOSPC, "No space left on device", "/some/file"),
        caused(DataFolderError("the data folder cannot be used"), FULL),
        ExceptionGroup("a nursery", [WalFailed("the vote log could not be written"), FULL]),
    ],
)
def test_a_full_disk_is_a_reason_to_start_again(error: Exception) -> None:
    fault = fault_of(error)
    assert fault is not None
    assert fault.exit_code == EXIT_FAILED
    assert "None" not in fault.message
    assert "\n" not in fault.message


def test_a_disk_that_fails_is_named_and_no_bug_of_this_program() -> None:
    fault = fault_of(ExceptionGroup("a nursery", [OSError(errno.EIO, "Input/output error", "/blobs/ab")]))
    assert fault is not None
    assert fault.message == "Input/output error for /blobs/ab: replace the disk if it is faulty, then start again"
    assert fault.exit_code == EXIT_FAILED


def test_a_damaged_vote_log_is_for_the_operator_to_mend(tmp_path: Path) -> None:
    (tmp_path / "votes.wal").write_bytes(b"no log")
    with pytest.raises(WalCorrupt) as caught:
        Wal.open(tmp_path / "votes.wal", bytes(32))
    fault = fault_of(caught.value)
    assert fault is not None
    assert (fault.exit_code, "damaged at byte 0" in fault.message) == (EXIT_MISCONFIGURED, True)


def test_a_bug_stays_loud() -> None:
    assert fault_of(AssertionError("never")) is None
    assert fault_of(ExceptionGroup("a nursery", [FULL, AssertionError("never")])) is None
