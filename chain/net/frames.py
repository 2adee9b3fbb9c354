"""Frames on a byte stream: u32 length, then a msgpack array whose second byte is the message's kind.

The rule: a frame that is too long for its kind is refused from its first six bytes, before anything of it is kept.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from chain.net.errors import PeerError

_LENGTH = struct.Struct(">I")
HEADER_BYTES = _LENGTH.size
# A msgpack array of at most 15 items (one byte) and a kind below 128 (one byte) open every payload.
PREFIX_BYTES = 2


def frame(payload: bytes) -> bytes:
    """The payload with its length before it."""
    return _LENGTH.pack(len(payload)) + payload


class FrameReader:
    """Cuts received bytes into payloads; `bytes_max(kind)` is the bound of each kind, None for an unknown one."""

    __slots__ = ("_buffer", "_bytes_max")

    def __init__(self, bytes_max: Callable[[int], int | None]) -> None:
        self._buffer = bytearray()
        self._bytes_max = bytes_max

    @property
    def buffered(self) -> int:
        """Bytes held that are not a whole payload yet."""
        return len(self._buffer)

    def feed(self, data: bytes | bytearray) -> None:
        """Append what the stream gave."""
        self._buffer += data

    def widened(self, bytes_max: Callable[[int], int | None]) -> FrameReader:
        """A reader with other bounds that goes on with the same bytes."""
        reader = FrameReader(bytes_max)
        reader.feed(self._buffer)
        return reader

    def next(self) -> bytes | None:
        """The next whole payload, None when more bytes are needed; `PeerError` when the frame may not be."""
        buffer = self._buffer
        if len(buffer) < HEADER_BYTES + PREFIX_BYTES:
            return None
        (length,) = _LENGTH.unpack_from(buffer)
        kind = buffer[HEADER_BYTES + 1]
        bound = self._bytes_max(kind)
        if bound is None:
            raise PeerError(f"frame of unknown kind {kind}")
        if not PREFIX_BYTES <= length <= bound:
            raise PeerError(f"frame of kind {kind} has {length} bytes, allowed are {PREFIX_BYTES} to {bound}", 100)
        end = HEADER_BYTES + length
        if len(buffer) < end:
            return None
        payload = bytes(memoryview(buffer)[HEADER_BYTES:end])
        del buffer[:end]
        return payload
