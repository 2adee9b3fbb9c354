"""Removes what a node can fetch again, and nothing else: never a key, and the vote log only when that is asked for.

The database goes first, so that whatever ends this leaves a folder that a node begins anew in.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from chain.folder_lock import FolderLocked, lock_folder
from chain.primitives.durable import sync_folder
from chain.store import DATABASE_FILE, DataFolderLocked
from chain.upkeep.folder import NodeFolder

BLOBS = "blobs"
POOL = "pool.dat"


@dataclass(frozen=True, slots=True)
class Item:
    """Something in the folder that goes."""

    path: Path
    what: str
    size: int


def plan(folder: NodeFolder, *, blobs: bool, vote_log: bool) -> list[Item]:
    """What there is to be removed, in the order in which it goes."""
    wanted = [(folder.chain / DATABASE_FILE, "blocks and states"), (folder.path / POOL, "transactions that wait")]
    if blobs:
        wanted.append((folder.path / BLOBS, "programs, data sets, updates and models"))
    if vote_log:
        wanted.append((folder.vote_log, "the vote log"))
    return [Item(path, what, _size(path)) for path, what in wanted if path.exists()]


def purge(folder: NodeFolder, items: list[Item]) -> None:
    """Remove these; DataFolderLocked where a node uses the folder, and OSError."""
    try:
        lock_fd = lock_folder(folder.chain)
    except FolderLocked as error:
        raise DataFolderLocked(folder.chain, error) from None
    try:
        for item in items:
            if item.path.is_dir():
                shutil.rmtree(item.path)
            else:
                item.path.unlink(missing_ok=True)
            sync_folder(item.path.parent)
    finally:
        os.close(lock_fd)


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
