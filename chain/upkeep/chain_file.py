"""A file of sealed blocks in a row: what one node exports, any other of the chain imports, checking all of it.

    head    magic ++ genesis hash ++ first height (u32) ++ count (u32) ++ CRC-32 of these (u32)
    block   length (u32) ++ CRC-32 of the bytes (u32) ++ header, extrinsics and seal in SCALE

Integers are little-endian. The sums find damage; forgery is found by the seals, which are verified as those of a peer.
"""

from __future__ import annotations

import os
import secrets
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from chain.author import parent_seal_of
from chain.ledger import Ledger, SealedBlock
from chain.net.messages import BLOCKS_BYTES_MAX
from chain.primitives.durable import PARTIAL, sync_folder
from chain.primitives.seal import ValidatorSet
from chain.sync.planner import FalseAnswer
from chain.sync.proving import prove_blocks, read_block
from runtime.modules.validators import Validators
from runtime.panic import Exhausted
from runtime.types import InvalidBlock

MAGIC: Final = b"PCBLOCK\x01"  # The last byte is the version of the format.
_HEAD: Final = struct.Struct("<8s32sII")
_SUM: Final = struct.Struct("<I")
_FRAME: Final = struct.Struct("<II")
# Read from the database at once: blocks that a peer would get in one answer.
_BLOCKS_AT_ONCE: Final = 256
_BYTES_AT_ONCE: Final = 2 * 1024 * 1024
# Seals that are verified together. A quorum of blocks of 5 MiB still fits into memory.
_PROVEN_AT_ONCE: Final = 32

Tell = Callable[[int, int], None]


class ChainFileError(Exception):
    """The file cannot be written, is no file of blocks, or is damaged; the message says where and what to do."""


class Rejected(Exception):
    """A block of the file is not one of this chain; the message says which. The blocks before it were imported."""


@dataclass(frozen=True, slots=True)
class FileHead:
    """What a file says that it has: `count` blocks from height `first` on."""

    genesis_hash: bytes
    first: int
    count: int

    @property
    def last(self) -> int:
        return self.first + self.count - 1

    def encode(self) -> bytes:
        head = _HEAD.pack(MAGIC, self.genesis_hash, self.first, self.count)
        return head + _SUM.pack(zlib.crc32(head))


def export(ledger: Ledger, path: Path, first: int, last: int, tell: Tell) -> FileHead:
    """Write the blocks of these heights to a new file, whole or not at all; ChainFileError."""
    head = FileHead(ledger.genesis_hash, first, last - first + 1)
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        with partial.open("xb") as file:
            file.write(head.encode())
            height = first
            while height <= last:
                wanted = min(_BLOCKS_AT_ONCE, last - height + 1)
                blocks = ledger.sealed_blocks(height, wanted, _BYTES_AT_ONCE)
                if not blocks:
                    raise ChainFileError(f"block {height} is not in this node's chain: nothing was written")
                for block in blocks:
                    file.write(_FRAME.pack(len(block), zlib.crc32(block)) + block)
                height += len(blocks)
                tell(height - first, head.count)
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(partial)  # Unlike a rename it takes the place of nothing.
        sync_folder(path.parent)
    except FileExistsError:
        raise ChainFileError(f"{path} exists already and is left as it is; choose another name") from None
    except OSError as error:
        raise ChainFileError(f"cannot write {path}: {error.strerror}; nothing of it is left") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return head


class ChainFile:
    """A file of blocks, being read."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        start = self._take(_HEAD.size + _SUM.size, 0)
        magic, genesis_hash, first, count = _HEAD.unpack(start[: _HEAD.size])
        if magic != MAGIC:
            raise ChainFileError(f"{path}: expected a file of blocks ({MAGIC.hex()}), got {magic.hex()}")
        if _SUM.unpack(start[_HEAD.size :]) != (zlib.crc32(start[: _HEAD.size]),) or not first or not count:
            raise self._damaged(0)
        self.head = FileHead(genesis_hash, first, count)

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """Yield every block with its height, in order."""
        for height in range(self.head.first, self.head.last + 1):
            length, check = _FRAME.unpack(self._take(_FRAME.size, height))
            if not 0 < length <= BLOCKS_BYTES_MAX:
                raise self._damaged(height)
            block = self._take(length, height)
            if zlib.crc32(block) != check:
                raise self._damaged(height)
            yield height, block
        if self._file.read(1):
            raise ChainFileError(f"{self._path}: expected its end after block {self.head.last}, got more")

    def _take(self, size: int, height: int) -> bytes:
        data = self._file.read(size)
        if len(data) != size:
            where = f"in block {height}" if height else "in its head"
            raise ChainFileError(f"{self._path} ends {where}: it was cut; copy it again")
        return data

    def _damaged(self, height: int) -> ChainFileError:
        where = f"at block {height}" if height else "in its head"
        return ChainFileError(f"{self._path} is damaged {where}: copy it again, or export it anew")


def import_file(ledger: Ledger, path: Path, tell: Tell) -> int:
    """Add the blocks of a file that the chain does not have yet, and return how many those were.

    Each is proven by its seal and executed, as blocks of peers are; those before one that is wrong stay. Raises
    ChainFileError, Rejected and StorageFailed.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise ChainFileError(f"cannot read {path}: {error.strerror}") from None
    with file:
        chain_file = ChainFile(path, file)
        head = chain_file.head
        if head.genesis_hash != ledger.genesis_hash:
            raise ChainFileError(
                f"{path} has blocks of the chain with genesis hash 0x{head.genesis_hash.hex()}, but this folder's has "
                f"0x{ledger.genesis_hash.hex()}"
            )
        start = ledger.head.height
        if head.first > start + 1:
            raise ChainFileError(f"{path} begins at block {head.first}, but the next one here is {start + 1}")
        _import(ledger, chain_file, tell)
        return ledger.head.height - start


def _import(ledger: Ledger, file: ChainFile, tell: Tell) -> None:
    pending: list[SealedBlock] = []
    validators = _decides_next(ledger)
    try:
        for height, data in file.blocks():
            if height <= ledger.head.height:
                known = read_block(data, height).block.hash
                if ledger.hash_at(height) not in (known, None):
                    raise FalseAnswer(f"block {height} is another one in this node's chain")
                continue
            pending.append(read_block(data, height))
            while len(pending) == _PROVEN_AT_ONCE or (pending and height == file.head.last):
                validators = _take_proven(ledger, pending, validators)
                tell(ledger.head.height - file.head.first + 1, file.head.count)
    except (FalseAnswer, InvalidBlock, Exhausted) as error:
        raise Rejected(f"{error}; the chain is at block {ledger.head.height} now") from error


def _take_proven(ledger: Ledger, pending: list[SealedBlock], validators: ValidatorSet) -> ValidatorSet:
    """Commit the first of the blocks, as many as one set has sealed, and return who decides the next."""
    proven = prove_blocks(pending, validators, ledger.genesis_hash, lambda block: parent_seal_of(ledger.runtime, block))
    if not proven:
        seal = pending[0].seal
        raise FalseAnswer(f"block {seal.height} is sealed by set {seal.set_id}, expected set {validators.set_id}")
    del pending[: len(ledger.extend(pending[:proven]))]
    return _decides_next(ledger)


def _decides_next(ledger: Ledger) -> ValidatorSet:
    with ledger.state() as state:
        return ledger.runtime.at(state).module(Validators).validator_set()
