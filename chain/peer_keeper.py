"""Keeps the book of addresses over a restart, in a file that is read with distrust: bootnodes may be gone then."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Final

import trio

from chain.checked_file import CheckedFile, UnusableFile
from chain.log import Log
from chain.net.book import FILE_BYTES_MAX, MAGIC, AddressBook
from chain.primitives.hashing import Hash

log = Log("net")

# What a node that is killed forgets at most: whom it has met within this time.
WRITE_SECONDS: Final = 60.0


class PeerKeeper:
    """`restore` what the file holds, then `run`."""

    def __init__(self, path: Path, genesis_hash: Hash, book: AddressBook) -> None:
        self._file = CheckedFile(path, MAGIC, genesis_hash, FILE_BYTES_MAX)
        self._book = book
        self._written = b""

    def restore(self) -> None:
        """Take in what the file holds. Reads it: for a thread. Raises nothing."""
        try:
            content = self._file.read()
            if content is not None:
                self._book.restore(content, int(time.time()))
        except UnusableFile as error:
            log.warning(f"the addresses of peers that were known before this start are forgotten: {error}")

    async def run(self) -> None:
        """Write the file whenever the book has changed, and once more at the end."""
        try:
            while True:
                await trio.sleep(WRITE_SECONDS)
                await self.write()
        finally:
            with trio.CancelScope(shield=True):
                await self.write()

    async def write(self) -> None:
        """Write the file if the book has changed. Raises nothing."""
        data = self._file.encode(self._book.encode())
        if data == self._written:
            return
        try:
            await trio.to_thread.run_sync(partial(self._file.write, data))
            self._written = data
        except OSError as error:
            log.warning(f"the addresses of peers cannot be kept for the next start: {error}")
