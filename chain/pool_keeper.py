"""Keeps the pool's transactions over a restart: in one file, written whole or not at all, and read with distrust.

    "potpool1" ++ genesis hash (32) ++ SCALE Vec of the transactions, in order of arrival ++ blake2b-256 of all that

What cannot be read is forgotten with a line in the log: peers have what was passed on, and clients send again what is
in no block. The disk is not flushed, which would hold up the flushes that votes wait for: a power cut may leave half a
file, which its checksum tells.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Final

import trio

from chain.pool import Pool, PoolTransaction
from chain.primitives.hashing import Hash, blake2_256
from chain.primitives.scale import ScaleError, codec_of
from chain.primitives.types import WireExtrinsic

log = logging.getLogger("potchain")

# What a node that is killed forgets at most. A full pool is 20 MiB, which no disk minds at this pace.
WRITE_SECONDS: Final = 10.0
# Somewhat more than the largest pool that an operator can ask for: more is no file of ours.
FILE_BYTES_MAX: Final = 64 * 1024 * 1024

_MAGIC: Final = b"potpool1"
_TRANSACTIONS: Final = codec_of(list[Annotated[bytes, WireExtrinsic()]])


class UnusablePoolFile(Exception):
    """The file is not one that this node wrote whole; the message says what is wrong."""


class PoolKeeper:
    """`restore` what the file holds, then `run`. `take_in` gets it, as if clients had just sent it."""

    def __init__(
        self, path: Path, genesis_hash: Hash, pool: Pool, take_in: Callable[[Sequence[bytes]], Awaitable[int]]
    ) -> None:
        """`take_in(transactions)` checks them and pools the valid, and returns how many these are."""
        self._path = path
        self._genesis_hash = genesis_hash
        self._pool = pool
        self._take_in = take_in
        self._written: bytes | None = None  # the checksum of what the file holds
        self._told = False

    async def restore(self) -> None:
        """Pool what the file holds and is still valid. Raises nothing."""
        try:
            transactions = await trio.to_thread.run_sync(read_pool, self._path, self._genesis_hash)
        except UnusablePoolFile as error:
            log.warning("the transactions that waited before this start are forgotten: %s", error)
            return
        if transactions:
            kept = await self._take_in(transactions)
            log.info("%d of %d transactions that waited before this start still do", kept, len(transactions))

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
                log.warning("the waiting transactions cannot be kept for the next start: %s", error)

    def _write_changed(self, waiting: list[PoolTransaction], written: bytes | None) -> bytes:
        waiting.sort(key=lambda transaction: transaction.arrival)
        data = encode_pool([transaction.raw for transaction in waiting], self._genesis_hash)
        checksum = data[-32:]
        if checksum != written:
            temporary = self._path.with_name(self._path.name + ".new")
            temporary.write_bytes(data)
            os.replace(temporary, self._path)
        return checksum


def encode_pool(transactions: list[bytes], genesis_hash: Hash) -> bytes:
    """The file's bytes."""
    content = _MAGIC + genesis_hash + _TRANSACTIONS.encode(transactions)
    return content + blake2_256(content)


def read_pool(path: Path, genesis_hash: Hash) -> list[bytes]:
    """The transactions in a file, none where there is no file; raises UnusablePoolFile."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UnusablePoolFile(f"{path}: {error.strerror}") from None
    if len(data) > FILE_BYTES_MAX:
        raise UnusablePoolFile(f"{path}: expected at most {FILE_BYTES_MAX} bytes, got more")
    content, checksum = data[:-32], data[-32:]
    if blake2_256(content) != checksum:
        raise UnusablePoolFile(f"{path}: expected bytes that match their checksum, got {len(data)} that do not")
    if not content.startswith(_MAGIC + genesis_hash):
        raise UnusablePoolFile(f"{path}: expected transactions of this chain, got another's, or another version's")
    try:
        transactions: list[bytes] = _TRANSACTIONS.decode(content[len(_MAGIC) + len(genesis_hash) :])
    except ScaleError as error:
        raise UnusablePoolFile(f"{path}: {error}") from None
    return transactions
