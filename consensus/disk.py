"""What the vote log asks of a file system: few calls, as `os` has them, so that simulations can bring worse disks."""

import os
from pathlib import Path
from typing import Final, Protocol

from chain.primitives.durable import sync_folder


class Disk(Protocol):
    """Files by path. What is written lasts once its file is synced; a name, once its folder is. All raise OSError."""

    def read(self, path: Path) -> bytes:
        """Return a file's bytes; FileNotFoundError if there is none."""

    def remove(self, path: Path) -> None:
        """Remove a file, if there is one."""

    def open(self, path: Path, *, fresh: bool) -> int:
        """Open a file to append to; if `fresh`, make it or empty it first."""

    def write(self, file: int, data: bytes | memoryview) -> int:
        """Append some of the data; return how many bytes."""

    def sync(self, file: int) -> None:
        """Wait until what was written lasts."""

    def replace(self, new: Path, old: Path) -> None:
        """Put a file in the place of another, at once."""

    def sync_folder(self, folder: Path) -> None:
        """Wait until the names in a folder last."""

    def close(self, file: int) -> None:
        """Close a file."""


class OsDisk:
    """This machine's."""

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def open(self, path: Path, *, fresh: bool) -> int:
        return os.open(path, os.O_WRONLY | os.O_APPEND | (os.O_CREAT | os.O_TRUNC if fresh else 0), 0o600)

    def write(self, file: int, data: bytes | memoryview) -> int:
        return os.write(file, data)

    def sync(self, file: int) -> None:
        os.fsync(file)

    def replace(self, new: Path, old: Path) -> None:
        os.replace(new, old)

    def sync_folder(self, folder: Path) -> None:
        sync_folder(folder)

    def close(self, file: int) -> None:
        os.close(file)


OS_DISK: Final = OsDisk()
