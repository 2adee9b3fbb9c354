"""What is to outlast a power cut: flushed in the right order, or not there at all."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from chain.primitives.durable import make_folder, replace_file


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is flushed, as it is."""
    names: list[str] = []
    real: Callable[[int], None] = os.fsync

    def fsync(file: int) -> None:
        names.append(Path(os.readlink(f"/proc/self/fd/{file}")).name)
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    return names


def test_bytes_are_flushed_before_they_take_their_name_and_the_name_after(tmp_path: Path, flushed: list[str]) -> None:
    replace_file(tmp_path / "file", b"old")
    replace_file(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
    assert [name.endswith(".partial") for name in flushed] == [True, False, True, False]
    assert flushed[1::2] == [tmp_path.name] * 2


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_what_the_disk_does_not_take_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(file: int) -> None:
        raise OSError(code, os.strerror(code))

    replace_file(tmp_path / "file", b"old")
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match=os.strerror(code)):
        replace_file(tmp_path / "file", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"old"}


def test_each_folder_that_is_made_is_flushed_into_the_one_above(tmp_path: Path, flushed: list[str]) -> None:
    make_folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    assert sorted(flushed) == sorted([tmp_path.name, "a", "b"])
    flushed.clear()
    make_folder(tmp_path / "a" / "b")
    assert flushed == []
