"""What waits to be sent to one peer: three lanes, bounded by count and bytes, consensus first.

The rule: nobody ever waits for a slow peer. A frame that does not fit is refused here, and the caller decides.
"""

from __future__ import annotations

import enum
from collections import deque

# A validator sends a handful of frames a second: thousands waiting means that the peer does not read.
FRAMES_MAX = 4096
# Two of the largest frames (8 MiB of blocks and a proposal), so that a healthy peer never hits it.
BYTES_MAX = 20 * 1024 * 1024
# Frames written at once: large enough for few system calls, small enough that a vote does not wait behind them.
BATCH_BYTES = 64 * 1024


class Lane(enum.IntEnum):
    """Lower goes first."""

    CONSENSUS = 0
    CONTROL = 1
    BULK = 2


class Outbox:
    """Frames in the order to be sent. Not thread-safe: the event loop's alone."""

    __slots__ = ("_bytes", "_frames", "_lanes")

    def __init__(self) -> None:
        self._lanes: tuple[deque[bytes], ...] = tuple(deque() for _ in Lane)
        self._frames = 0
        self._bytes = 0

    @property
    def bytes_waiting(self) -> int:
        """Bytes of all frames that were not taken yet."""
        return self._bytes

    def has_room(self, frame_bytes: int, *, share: float = 1.0) -> bool:
        """Whether a frame of this size fits into this share of the outbox."""
        return self._frames < FRAMES_MAX * share and self._bytes + frame_bytes <= BYTES_MAX * share

    def offer(self, lane: Lane, frame: bytes) -> bool:
        """Keep the frame for sending; False (and nothing kept) when the outbox is full."""
        if not self.has_room(len(frame)):
            return False
        self._lanes[lane].append(frame)
        self._frames += 1
        self._bytes += len(frame)
        return True

    def take(self) -> bytes:
        """The next frames to write, joined up to `BATCH_BYTES` (one frame at least); empty when none waits."""
        batch: list[bytes] = []
        size = 0
        for lane in self._lanes:
            while lane and (not batch or size + len(lane[0]) <= BATCH_BYTES):
                frame = lane.popleft()
                batch.append(frame)
                size += len(frame)
            if lane:
                break
        self._frames -= len(batch)
        self._bytes -= size
        return batch[0] if len(batch) == 1 else b"".join(batch)
