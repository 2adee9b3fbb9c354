"""The lock on a folder that one process alone may use: the system gives it back however that process ends."""

from __future__ import annotations

import fcntl
import os
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
    lock_fd = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock_fd, 32, 0).decode("ascii", "replace").strip()
        os.close(lock_fd)
        raise FolderLocked(path, holder) from None
    return lock_fd


def sign_lock(lock_fd: int) -> None:
    """Write into the lock which process holds it."""
    os.ftruncate(lock_fd, 0)
    os.pwrite(lock_fd, f"{os.getpid()}\n".encode(), 0)
