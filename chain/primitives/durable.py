"""Files and folders that outlast a power cut: what is written is flushed, and so is every name that leads to it.

A file is written beside its place and takes it at once, so that whoever reads finds the old one or the new one. All
raise OSError, and what could not be written whole leaves no bytes behind.
"""

import os
import secrets
from pathlib import Path
from typing import Final

# What a process that was killed leaves of a file. Who has a folder for itself may remove them all.
PARTIAL: Final = ".partial"


def sync_folder(path: Path) -> None:
    """Make the names in a folder last."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder, where it is missing, and the folders above it."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_folder(folder.parent)


def replace_file(path: Path, data: bytes) -> None:
    """Put a file in the place of the one that there may be. Of several at once, one stays, whole."""
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
