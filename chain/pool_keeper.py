"""Keeps the pool's transactions over a restart, in a file that is read with distrust (`chain/checked_file.py`).

The content is a SCALE Vec of the transactions, in order of arrival. What cannot be read is forgotten with a line in the
log: peers have what was passed on, and clients send again what is in no block.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Final

import trio

from chain.checked_file import CheckedFile, UnusableFile
from chain.log import Log
from chain.pool import Pool, PoolTransaction
from chain.primitives.hashing import Hash
from chain.primitives.scale import ScaleError, codec_of
from chain.primitives.types import WireExtrinsic

log = Log("pool")

# What a node that is killed forgets at most. A full pool is 20 MiB, which no disk minds at this pace.
WRITE_SECONDS: Final = 10.0
# Somewhat more than the largest pool that an operator can ask for: more is no file of ours.
FILE_BYTES_MAX: Final = 64 * 1024 * 1024

_MAGIC: Final = b"potpool1"
_TRANSACTIONS: Final = codec_of(list[Annotated[bytes, WireExtrinsic()]])


class PoolKeeper:
    """`restore` what the file holds, then `run`. `take_in` gets it, as if clients had just sent it."""

    def __init__(
        self, path: Path, genesis_hash: Hash, pool: Pool, take_in: Callable[[Sequence[bytes]], Awaitable[int]]
    ) -> None:
        """`take_in(transactions)` checks them and pools the valid, and returns how many these are."""
        self._file = pool_file(path, genesis_hash)
        self._pool = pool
        self._take_in = take_in
        self._written: bytes | None = None  # the checksum of what the file holds
        self._told = False

    async def restore(self) -> None:
        """Pool what the file holds and is still valid. Raises nothing."""
        try:
            transactions = await trio.to_thread.run_sync(read_pool, self._file)
        except UnusableFile as error:
            log.warning(f"the transactions that waited before this start are forgotten: {error}")
            return
        if transactions:
            kept = await self._take_in(transactions)
            log.info(f"{kept} of {len(transactions)} transactions that waited before this start still do", kept=kept)

    async def run(self) -> None:
        """Write the file whenever the pool has changed, and once more at the end."""
        try:
            while True:
                await trio.sleep(WRITE_SECONDS)
                await self.write()
        finally:
            with trio.CancelScope(shield=True):
                await self.write()

    async def write(self) -> None:
        """Write the file if the pool has changed. Raises nothing."""
        waiting = self._pool.everything()
        try:
            self._written = await trio.to_thread.run_sync(self._write_changed, waiting, self._written)
            self._told = False
        except OSError as error:
            if not self._told:
                self._told = True
                log.warning(f"the waiting transactions cannot be kept for the next start: {error}")

    def _write_changed(self, waiting: list[PoolTransaction], written: bytes | None) -> bytes:
        waiting.sort(key=lambda transaction: transaction.arrival)
        data = encode_pool([transaction.raw for transaction in waiting], self._file)
        checksum = data[-32:]
        if checksum != written:
            self._file.write(data)
        return checksum


def pool_file(path: Path, genesis_hash: Hash) -> CheckedFile:
    """Where a chain's waiting transactions are kept."""
    return CheckedFile(path, _MAGIC, genesis_hash, FILE_BYTES_MAX)


def encode_pool(transactions: list[bytes], file: CheckedFile) -> bytes:
    """The file's bytes."""
    return file.encode(_TRANSACTIONS.encode(transactions))


def read_pool(file: CheckedFile) -> list[bytes]:
    """The transactions in a file, none where there is no file; raises UnusableFile."""
    content = file.read()
    if content is None:
        return []
    try:
        transactions: list[bytes] = _TRANSACTIONS.decode(content)
    except ScaleError as error:
        raise UnusableFile(f"{file.path}: {error}") from None
    return transactions
