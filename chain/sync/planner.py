"""What to ask which peer next: ranges of blocks, several in flight, so that what is imported next is seldom waited for.

The rule: whoever has not delivered yet is asked for little, alone, and soon given up; what has come and waits for its
turn is bounded in bytes. Time and peers are arguments; nothing here waits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from chain.net.errors import PeerUnavailable
from chain.net.messages import BLOCKS_BYTES_MAX
from chain.net.peer import PeerInfo

# A range that a peer can answer in one message at typical block sizes, and that is imported in about a second.
RANGE_BLOCKS: Final = 64
# Who has not delivered yet is asked for little, and soon given up: it may be one of many who only claim to have blocks.
NEWCOMER_BLOCKS: Final = 8
NEWCOMER_S: Final = 2.0
# As long as a peer may take for two mebibytes and a slow line.
PROVEN_S: Final = 8.0
# A peer that failed is asked again only after so long, unless it says that it has a new block.
FAILED_PEER_S: Final = 5.0
# One answer is being sent while the next is read from the peer's disk.
FLIGHTS_A_PEER: Final = 2
# With ranges of a second each, more in flight would wait for the importer, whoever brings them.
FLIGHTS_MAX: Final = 8
# All that has come or may be on its way: eight of the largest answers. The range that is imported next may exceed it.
HELD_BYTES_MAX: Final = FLIGHTS_MAX * BLOCKS_BYTES_MAX
# Ranges of small blocks: more of them ahead of the importer only wait for it.
AHEAD_BLOCKS_MAX: Final = 1024
# What a stalled answer, one of a peer that never delivered and a false one cost of the 100 points that ban.
STALLED_POINTS: Final = 25.0
NEVER_DELIVERED_POINTS: Final = 50.0
FALSE_POINTS: Final = 100.0


class FalseAnswer(Exception):
    """The peer sent what no honest node sends."""


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """A range to ask a peer for. One on trial has it checked and thrown away: others fetch these blocks, too."""

    peer: bytes
    start: int
    count: int
    deadline_s: float
    since: float
    trial: bool = False

    @property
    def end(self) -> int:
        return self.start + self.count


class Standing:
    """Who has delivered, and who failed a moment ago."""

    def __init__(self) -> None:
        self.delivered: set[bytes] = set()
        self._failed_until: dict[bytes, float] = {}

    def usable(self, peers: Sequence[PeerInfo], now: float) -> list[PeerInfo]:
        """Those that did not fail us lately."""
        self.delivered &= {peer.id for peer in peers}
        self._failed_until = {peer: until for peer, until in self._failed_until.items() if until > now}
        return [peer for peer in peers if peer.id not in self._failed_until]

    def forgive(self, peer: bytes) -> None:
        """Ask a peer that failed again: it has news."""
        self._failed_until.pop(peer, None)

    def leave_alone(self, peer: bytes, now: float) -> None:
        self._failed_until[peer] = now + FAILED_PEER_S

    def failed(self, peer: bytes, error: PeerUnavailable | FalseAnswer, now: float) -> float:
        """Leave a peer alone that did not deliver, or lied; the points that this costs it."""
        self.leave_alone(peer, now)
        had_delivered = peer in self.delivered
        self.delivered.discard(peer)
        if isinstance(error, FalseAnswer):
            return FALSE_POINTS
        return STALLED_POINTS if had_delivered else NEVER_DELIVERED_POINTS


class Planner:
    """Keeps what is in flight and what has come; `next_ask` says what else to ask for."""

    def __init__(self, standing: Standing, rng: Random) -> None:
        self._standing = standing
        self._rng = rng
        self._flights: dict[Ask, None] = {}  # In the order of asking.
        self._held: dict[int, tuple[int, int]] = {}  # By first height: how many blocks, in how many bytes.

    @property
    def flights(self) -> Sequence[Ask]:
        """What is being waited for, the lowest range first."""
        return sorted(self._flights, key=lambda ask: (ask.start, ask.since))

    @property
    def held_bytes(self) -> int:
        """The size of what has come and waits for its turn."""
        return sum(size for _, size in self._held.values())

    def is_newcomer(self, peer: bytes) -> bool:
        return peer not in self._standing.delivered

    def next_ask(self, now: float, height: int, peers: Sequence[PeerInfo]) -> Ask | None:
        """The next range to ask for above our head at `height`, in flight from now on; None while all is under way."""
        usable = self._standing.usable(peers, now)
        ask = self._next_range(now, height, usable) or self._next_trial(now, height, usable)
        if ask is not None:
            self._flights[ask] = None
        return ask

    def ended(self, ask: Ask) -> None:
        """A range is waited for no more: it came, or it will not come."""
        self._flights.pop(ask, None)

    def came(self, start: int, count: int, size: int) -> None:
        """So many blocks from a height on wait for their turn."""
        self._held[start] = (count, size)

    def released(self, start: int) -> None:
        """What waited from a height on was imported, or dropped."""
        self._held.pop(start, None)

    def _next_range(self, now: float, height: int, usable: Sequence[PeerInfo]) -> Ask | None:
        flights = [ask for ask in self._flights if not ask.trial]
        if len(flights) >= FLIGHTS_MAX:
            return None
        start, end = self._gap(height)
        has_room = self.held_bytes + (len(flights) + 1) * BLOCKS_BYTES_MAX <= HELD_BYTES_MAX
        if start > height + 1 and not has_room:
            return None
        able = [peer for peer in usable if peer.lowest_height <= start <= peer.best_height]
        proven = [peer for peer in able if not self.is_newcomer(peer.id)]
        if proven:
            busy = {peer.id: sum(ask.peer == peer.id for ask in flights) for peer in proven}
            least = min(busy.values())
            if least >= FLIGHTS_A_PEER:
                return None
            peer = self._rng.choice([peer for peer in proven if busy[peer.id] == least])
            count = min(RANGE_BLOCKS, end - start, peer.best_height - start + 1)
            return Ask(peer.id, start, count, PROVEN_S, now) if count > 0 else None
        if flights or start > height + 1 or not able:
            return None
        # Whom we dialled, else whoever dialled us: liars shall waste little of our time.
        peer = self._rng.choice([peer for peer in able if peer.dialled] or able)
        return Ask(peer.id, start, min(NEWCOMER_BLOCKS, end - start, peer.best_height - height), NEWCOMER_S, now)

    def _next_trial(self, now: float, height: int, usable: Sequence[PeerInfo]) -> Ask | None:
        """A few blocks from somebody who has not delivered yet, beside what others fetch: so that more can help, and
        none of them holds up the rest. One at a time, and only while there is much to fetch."""
        proven_best = max((peer.best_height for peer in usable if not self.is_newcomer(peer.id)), default=0)
        if proven_best - height <= AHEAD_BLOCKS_MAX or any(ask.trial for ask in self._flights):
            return None
        new = [
            peer
            for peer in usable
            if self.is_newcomer(peer.id) and peer.lowest_height <= height + 1 < peer.best_height - NEWCOMER_BLOCKS
        ]
        new = [peer for peer in new if peer.dialled] or new
        if not new:
            return None
        return Ask(self._rng.choice(new).id, height + 1, NEWCOMER_BLOCKS, NEWCOMER_S, now, trial=True)

    def _gap(self, height: int) -> tuple[int, int]:
        """The first heights above ours that nobody was asked for and that did not come: from, and up to but without."""
        start = height + 1
        for covered_from, covered_to in sorted(self._covered()):
            if covered_from > start:
                return start, covered_from
            start = max(start, covered_to)
        return start, height + 1 + AHEAD_BLOCKS_MAX

    def _covered(self) -> Iterator[tuple[int, int]]:
        yield from ((ask.start, ask.end) for ask in self._flights if not ask.trial)
        yield from ((start, start + count) for start, (count, _) in self._held.items())
