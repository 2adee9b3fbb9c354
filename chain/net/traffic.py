"""What the network counts, in plain numbers: frames and bytes by kind, connections, refusals and bans.

Rule: everything is counted under names of this protocol, so that no peer makes the tables grow.
"""

from __future__ import annotations

from collections import Counter

from chain.net.frames import HEADER_BYTES
from chain.net.messages import KIND_NAMES


class Traffic:
    """Counts for one node; belongs to the event loop."""

    def __init__(self) -> None:
        self.frames: Counter[tuple[str, str]] = Counter()  # by direction and kind
        self.bytes: Counter[tuple[str, str]] = Counter()
        self.connections: Counter[str] = Counter({"in": 0, "out": 0})
        self.refused: Counter[tuple[str, str]] = Counter()  # by who refused, and why
        self.handshakes_failed = 0
        self.disconnections = 0
        self.slow_peers = 0
        self.gossip_deferred = 0
        self.bans = 0

    def received(self, payload: bytes) -> None:
        """A message has come."""
        self._count("in", payload[1], len(payload))

    def sent(self, frame: bytes) -> None:
        """A frame is on its way: the payload with its length before it."""
        self._count("out", frame[HEADER_BYTES + 1], len(frame))

    def _count(self, direction: str, number: int, size: int) -> None:
        key = direction, KIND_NAMES[number]
        self.frames[key] += 1
        self.bytes[key] += size
