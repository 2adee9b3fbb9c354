"""Key files: whole and lasting, or not there."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from chain.cli_common import EXIT_FAILED, fault_of
from chain.keystore import KeyFileError, read_secret, write_private


def test_a_new_key_is_flushed_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = []
    real: Callable[[int], None] = os.fsync

    def fsync(file: int) -> None:
        flushed.append(Path(os.readlink(f"/proc/self/fd/{file}")))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    write_private(tmp_path / "key", b"//Alice\n")
    assert [path.name.split(".")[0] for path in flushed] == ["key", tmp_path.name]
    assert read_secret(tmp_path / "key").uri == "//Alice"
    with pytest.raises(KeyFileError, match="exists already and is left as it is"):
        write_private(tmp_path / "key", b"//Bob\n")
    assert read_secret(tmp_path / "key").uri == "//Alice"


def test_a_disk_without_room_keeps_no_half_of_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", refuse)
        with pytest.raises(KeyFileError, match="No space left on device; nothing of it is left") as caught:
            write_private(tmp_path / "key", b"//Alice\n")
    fault = fault_of(caught.value)
    assert fault is not None
    assert fault.exit_code == EXIT_FAILED
    write_private(tmp_path / "key", b"//Alice\n")
    assert read_secret(tmp_path / "key").uri == "//Alice"


def test_a_key_file_has_its_name_when_it_is_whole_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends the process leaves no file with half a secret."""
    path, real = tmp_path / "key", Path.hardlink_to
    seen = []

    def link(name: Path, target: Path) -> None:
        seen.append((path.exists(), target.read_text(), target.stat().st_mode & 0o777))
        real(name, target)

    monkeypatch.setattr(Path, "hardlink_to", link)
    write_private(path, b"//Alice\n")
    assert seen == [(False, "//Alice\n", 0o600)]
    assert list(tmp_path.iterdir()) == [path]
