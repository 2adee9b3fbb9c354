"""The lock on a folder that one process alone may use: the system gives it back however that process ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

LOCK_FILE: Final = "LOCK"


class FolderLocked(Exception):
    """Another process uses the folder; `holder` says which one."""

    def __init__(self, path: Path, holder: str) -> None:
        self.lock = path / LOCK_FILE
        self.holder = f"process {holder}" if holder else "another process"
        super().__init__(f"{path} is in use by {self.holder}, which holds the lock {self.lock}")


def lock_folder(path: Path) -> int:
    """Take the folder's lock and return what holds it, to be closed; FolderLocked, or OSError if it cannot be tried."""
    while True:
        lock_fd = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock_fd, 32, 0).decode("ascii", "replace").strip()
            os.close(lock_fd)
            raise FolderLocked(path, holder) from None
        if _is_there(lock_fd, path / LOCK_FILE):
            return lock_fd
        os.close(lock_fd)  # Whoever had it has taken the file away: nobody else would find it locked.


@contextmanager
def hold_folder(path: Path) -> Iterator[None]:
    """Make the folder if there is none, and have its lock meanwhile; raises as `lock_folder`.

    Where what is done with it fails, a folder that had no lock has none afterwards: it may not be ours.
    """
    unmarked = not (path / LOCK_FILE).exists()
    path.mkdir(parents=True, exist_ok=True)
    lock_fd = lock_folder(path)
    try:
        sign_lock(lock_fd)
        yield
    except BaseException:
        if unmarked:
            (path / LOCK_FILE).unlink(missing_ok=True)  # Somebody may have removed the folder meanwhile.
        raise
    finally:
        os.close(lock_fd)


def _is_there(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def sign_lock(lock_fd: int) -> None:
    """Write into the lock which process holds it."""
    os.ftruncate(lock_fd, 0)
    os.pwrite(lock_fd, f"{os.getpid()}\n".encode(), 0)
