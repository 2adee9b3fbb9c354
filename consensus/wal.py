"""The write-ahead log of one validator's votes: append-only, and durable when `append` returns.

[P4] Nothing is signed before its record is here. A tail that a crash tore is cut; anything else that is damaged is
refused, since a log with a hole in it could let a contradicting vote be cast. What is read is made durable again.
"""

import struct
import zlib
from errno import EIO
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from chain.primitives.scale import ScaleError
from consensus.disk import OS_DISK, Disk
from consensus.messages import FRAME_BYTES_MAX
from consensus.records import RECORD, Record

_MAGIC: Final = b"PCWAL\x00\x00\x02"  # The last byte is the version of the format.
_FRAME: Final = struct.Struct("<III")  # Length of the body, CRC-32 of those four bytes, CRC-32 of the body.
_IDENTITY_BYTES: Final = 32
_HEAD_BYTES: Final = len(_MAGIC) + _IDENTITY_BYTES + 4  # Magic, identity, CRC-32 of both.
# A record holds at most one payload and one new-view proof, which fit one frame together.
_BODY_BYTES_MAX: Final = FRAME_BYTES_MAX
# The unit that disks write whole. Each record has sectors of its own, and neither its first nor its last is ever all
# zeros: so whichever of them a crash left unwritten, it shows.
_SECTOR_BYTES: Final = 512
_END: Final = b"\xff"


class WalCorrupt(Exception):
    """The log is damaged in a way that no crash explains."""


class WalForeign(Exception):
    """The log belongs to another validator or chain."""


class WalFailed(Exception):
    """The disk did not take a record, or give one back. No vote is cast without one; the node has to stop."""


class Wal:
    """The records of the highest height that this validator voted at; earlier heights are sealed and forgotten."""

    def __init__(self, path: Path, identity: bytes, disk: Disk, records: list[Record]) -> None:
        self._path = path
        self._identity = identity
        self._disk = disk
        self._file: int | None = None
        self._failed = False
        self.records = records

    @classmethod
    def open(cls, path: Path, identity: bytes, disk: Disk = OS_DISK) -> Self:
        """Read the log at `path`, or begin an empty one with the first record.

        `identity` is 32 bytes that name the chain and the validator. Raises WalCorrupt, WalForeign, or WalFailed
        when the disk fails.
        """
        if len(identity) != _IDENTITY_BYTES:
            raise ValueError(f"expected an identity of {_IDENTITY_BYTES} bytes, got {len(identity)}")
        try:
            disk.remove(path.with_suffix(".new"))
            data = disk.read(path)
        except FileNotFoundError:
            return cls(path, identity, disk, [])
        except OSError as error:
            if error.errno != EIO:
                raise
            raise _failed(path, "read", error) from error
        records, end = _read(path, data, identity)
        wal = cls(path, identity, disk, records)
        try:
            # A process that was killed between a write and its flush leaves a record that only the system's cache has,
            # and so does a flush that failed; flushing again writes neither. What [P5] goes by is written anew.
            wal._begin(data[:end])
        except OSError as error:
            raise _failed(path, "written", error) from error
        return wal

    @property
    def height(self) -> int:
        """The height that the records are of; 0 when there are none. No vote below it may ever be cast again."""
        return self.records[0].height if self.records else 0

    def append(self, record: Record) -> None:
        """Write a record and wait for the disk. The first of a new height takes the place of the old height's.

        Raises WalFailed when the disk fails, then and ever after.
        """
        if self._failed:
            raise WalFailed(f"an earlier write to {self._path} failed: restart the node to read what is on the disk")
        if record.height < self.height:
            raise ValueError(f"expected a record of height {self.height} or above, got one of {record.height}")
        body = RECORD.encode(record)
        if len(body) > _BODY_BYTES_MAX:
            raise ValueError(f"expected a record of at most {_BODY_BYTES_MAX} bytes, got {len(body)}")
        record_bytes = framed(body)
        self._failed = True  # Until the disk has said otherwise.
        try:
            if self._file is None or record.height > self.height:
                self._begin(padded(head_of(self._identity) + record_bytes))
                self.records = [record]
            else:
                self._write(self._file, padded(record_bytes))
                self._disk.sync(self._file)
                self.records.append(record)
        except OSError as error:
            raise _failed(self._path, "written", error) from error
        self._failed = False

    def close(self) -> None:
        if self._file is not None:
            self._disk.close(self._file)
            self._file = None
        self._failed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self, content: bytes) -> None:
        """Put a new file in the place of the old one: whole, or not at all."""
        new = self._path.with_suffix(".new")
        file = self._disk.open(new, fresh=True)
        try:
            self._write(file, content)
            self._disk.sync(file)
            self._disk.replace(new, self._path)
            self._disk.sync_folder(self._path.parent)
        except BaseException:
            self._disk.close(file)
            raise
        if self._file is not None:
            self._disk.close(self._file)
        self._file = file

    def _write(self, file: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._disk.write(file, view) :]


def height_of(path: Path, disk: Disk = OS_DISK) -> int:
    """The height that a log's records are of, whosever it is; raises as `Wal.open`, and writes nothing."""
    try:
        data = disk.read(path)
    except OSError as error:
        raise _failed(path, "read", error) from error
    records, _ = _read(path, data, data[len(_MAGIC) : len(_MAGIC) + _IDENTITY_BYTES])
    return records[0].height


def _read(path: Path, data: bytes, identity: bytes) -> tuple[list[Record], int]:
    """Return the records and the length of the sound part."""
    head = data[: _HEAD_BYTES - 4]
    if len(data) < _HEAD_BYTES or zlib.crc32(head).to_bytes(4, "little") != data[_HEAD_BYTES - 4 : _HEAD_BYTES]:
        raise _corrupt(path, 0)
    if not head.startswith(_MAGIC):
        raise WalForeign(f"{path}: expected a vote log of format {_MAGIC.hex()}, got {head[: len(_MAGIC)].hex()}")
    if head[len(_MAGIC) :] != identity:
        raise WalForeign(
            f"{path}: this vote log is of validator and chain {head[len(_MAGIC) :].hex()}, expected {identity.hex()}: "
            "use the data folder that belongs to this key, or another --base-path"
        )
    records: list[Record] = []
    offset = _HEAD_BYTES
    while offset < len(data):
        if len(data) - offset < _FRAME.size:
            break  # Torn within the frame's head.
        if not _is_head(data, offset):
            # Where a record ends whose first sector was not written, nothing tells; but it was the last.
            later = range(offset + _SECTOR_BYTES, len(data), _SECTOR_BYTES)
            if _unwritten(data, offset, offset + 1) and not any(_is_head(data, sector) for sector in later):
                break
            raise _corrupt(path, offset)
        length, _, body_check = _FRAME.unpack_from(data, offset)
        start = offset + _FRAME.size
        end = start + length + len(_END)
        end += _padding(end)
        if end > len(data):
            break  # Torn after the head.
        body, rest = data[start : start + length], data[start + length : end]
        if zlib.crc32(body) != body_check or rest != _END.ljust(len(rest), b"\0"):
            if end == len(data) and _unwritten(data, offset, end):
                break  # Only the last record can be torn.
            raise _corrupt(path, offset)
        try:
            record: Record = RECORD.decode(body)
        except ScaleError as error:
            raise _corrupt(path, offset) from error
        if records and record.height != records[0].height:
            raise _corrupt(path, offset)
        records.append(record)
        offset = end
    if not records:
        raise _corrupt(path, _HEAD_BYTES)  # A log is born with its first record.
    return records, offset


def _is_head(data: bytes, offset: int) -> bool:
    """Say whether a frame begins here."""
    length, check, _ = _FRAME.unpack(data[offset : offset + _FRAME.size].ljust(_FRAME.size, b"\0"))
    return bool(zlib.crc32(data[offset : offset + 4]) == check and length <= _BODY_BYTES_MAX)


def head_of(identity: bytes) -> bytes:
    """How a log of this identity begins."""
    head = _MAGIC + identity
    return head + zlib.crc32(head).to_bytes(4, "little")


def framed(body: bytes) -> bytes:
    """A record's body as the log holds it."""
    length = len(body).to_bytes(4, "little")
    return _FRAME.pack(len(body), zlib.crc32(length), zlib.crc32(body)) + body + _END


def padded(written: bytes) -> bytes:
    """What is written at once, filled up to a sector."""
    return written + bytes(_padding(len(written)))


def _padding(size: int) -> int:
    """How many bytes are missing to whole sectors."""
    return -size % _SECTOR_BYTES


def _unwritten(data: bytes, start: int, end: int) -> bool:
    """Say whether a sector of [start, end) got its place in the file but was never written: it is all zeros."""
    first = start - start % _SECTOR_BYTES
    return any(not any(data[sector : sector + _SECTOR_BYTES]) for sector in range(first, end, _SECTOR_BYTES))


def _failed(path: Path, what: str, error: OSError) -> WalFailed:
    return WalFailed(
        f"the vote log {path} could not be {what} ({error.strerror}), and no vote is cast without it; "
        "make room on its disk, or replace it if it is faulty, then start the node again"
    )


def _corrupt(path: Path, offset: int) -> WalCorrupt:
    return WalCorrupt(
        f"{path}: damaged at byte {offset}, and not by a crash. Voting on could contradict a vote that was sent. "
        "Run the node without its key until it has followed the others to a later height, then delete the file"
    )
