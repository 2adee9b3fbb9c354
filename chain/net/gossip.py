"""Which peer knows which transaction: a bounded seen-cache, push to some, word to the rest, pull repair. No I/O.

The rule: a transaction is handed over once, whoever and however many send it, and only published ones are passed on.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from chain.net.messages import HASHES_COUNT_MAX, TRANSACTION_BYTES_MAX, TRANSACTIONS_COUNT_MAX
from chain.primitives.hashing import Hash, blake2_256

# Two minutes of 500 transactions a second; each entry is a hash and the set of peers that know it.
ENTRIES_MAX = 65_536
# Bodies kept to answer pull repair; older ones are dropped first and only their hashes stay.
BODIES_BYTES_MAX = 16 * 1024 * 1024
# A transaction that was refused may be right later (its chain was behind), and one in a block needs no repair.
ENTRY_S = 120.0
# With so few peers everyone is given what our clients sent, and told of what peers sent: most of them are each other's
# peers, too, and have it. With more, the square root is given either, and repair closes the gaps.
PUSH_ALL_PEERS = 8
# A node that was asked and said nothing for this long is passed over for the next one that has it.
WANTED_S = 2.0
# Transactions that one peer told us of and that are not here yet: what none answers for in time, from who has 800 a
# second. More are not remembered, so that who tells of what nobody has takes no room of the others.
WANTED_PER_PEER_MAX = 2048


@dataclass(slots=True)
class _Entry:
    at: float
    body: bytes | None = None
    known_by: set[int] = field(default_factory=set)  # Connections, each by a number of its own.


@dataclass(slots=True)
class _Wanted:
    by: bytes  # Whose word we remember it by.
    asked_at: float
    holders: list[bytes]


@dataclass(frozen=True, slots=True)
class Passing:
    """What is passed on at one time, by peer."""

    given: dict[bytes, list[bytes]] = field(default_factory=dict)  # whole transactions
    told: dict[bytes, list[Hash]] = field(default_factory=dict)  # of which it asks for those that it has not


class Gossip:
    """The cache and its decisions; the caller sends what they return. Times are seconds of one monotonic clock."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._entries: OrderedDict[Hash, _Entry] = OrderedDict()
        self._bodies: OrderedDict[Hash, int] = OrderedDict()
        self._bodies_bytes = 0
        self._wanted: OrderedDict[Hash, _Wanted] = OrderedDict()  # by when they were asked for
        self._wanted_by: dict[bytes, dict[Hash, None]] = {}
        self._number_of: dict[bytes, int] = {}
        self._peer_of: dict[int, bytes] = {}
        self._repaired: dict[int, Hash] = {}  # The newest transaction when a peer knew, or was told of, all of them.
        self._connections = 0

    def __len__(self) -> int:
        return len(self._entries)

    def received(self, peer: bytes, transactions: Sequence[bytes], now: float) -> list[bytes]:
        """What the peer sent that nobody sent before."""
        fresh: list[bytes] = []
        number = self._number(peer)
        for transaction in transactions:
            key = blake2_256(transaction)
            self._unwant(key)
            if key not in self._entries:
                fresh.append(transaction)
            self._entry(key, now).known_by.add(number)
        return fresh

    def publish(self, transactions: Sequence[bytes], peers: Sequence[bytes], now: float) -> Passing:
        """Remember the transactions for repair; whom to give which of them, and whom to tell of which."""
        passing = Passing()
        numbers = [(peer, self._number(peer)) for peer in peers]
        for transaction in transactions:
            key = blake2_256(transaction)
            entry = self._entry(key, now)
            self._keep(key, entry, transaction)
            targets = [peer for peer, number in numbers if number not in entry.known_by]
            if len(peers) > PUSH_ALL_PEERS:
                targets = self._rng.sample(targets, min(len(targets), math.isqrt(len(peers) - 1) + 1))
            elif entry.known_by:
                for peer in targets:
                    passing.told.setdefault(peer, []).append(key)
                continue
            for peer in targets:
                passing.given.setdefault(peer, []).append(transaction)
        return passing

    def knows(self, peer: bytes, hashes: Sequence[Hash]) -> None:
        """The peer was told of these."""
        number = self._number(peer)
        for key in hashes:
            entry = self._entries.get(key)
            if entry is not None:
                entry.known_by.add(number)

    def gave(self, peer: bytes, transactions: Sequence[bytes]) -> None:
        """The peer was sent these."""
        self.knows(peer, [blake2_256(transaction) for transaction in transactions])

    def unknown_to(self, peer: bytes) -> list[Hash]:
        """Newest published transactions that the peer was neither given nor told of; for `repaired`."""
        found: list[Hash] = []
        number = self._number(peer)
        repaired = self._repaired.get(number)
        for key in reversed(self._bodies):
            if key == repaired:
                break
            if number not in self._entries[key].known_by:
                found.append(key)
                if len(found) == HASHES_COUNT_MAX:
                    break
        return found

    def repaired(self, peer: bytes, hashes: Sequence[Hash]) -> None:
        """The peer was told of all that were unknown to it."""
        self.knows(peer, hashes)
        if self._bodies and len(hashes) < HASHES_COUNT_MAX:
            self._repaired[self._number(peer)] = next(reversed(self._bodies))

    def announced(self, peer: bytes, hashes: Sequence[Hash], now: float) -> list[Hash]:
        """Of what the peer says that it has, what to ask it for."""
        ask: list[Hash] = []
        number = self._number(peer)
        for key in hashes:
            entry = self._entries.get(key)
            if entry is not None:
                entry.known_by.add(number)
                continue
            wanted = self._wanted.get(key)
            if wanted is not None:
                if peer not in wanted.holders and len(wanted.holders) < PUSH_ALL_PEERS:
                    wanted.holders.append(peer)
            elif self._want(key, _Wanted(peer, now, [])):
                ask.append(key)
        return ask

    def postpone(self, transactions: Sequence[bytes], now: float) -> None:
        """We had no room for these: ask who has them again after a while."""
        for transaction in transactions:
            key = blake2_256(transaction)
            entry = self._entries.get(key)
            if entry is not None and entry.body is None:
                del self._entries[key]
                holders = [self._peer_of[number] for number in sorted(entry.known_by) if number in self._peer_of]
                if holders:
                    self._want(key, _Wanted(holders[0], now, holders[:PUSH_ALL_PEERS]))

    def overdue(self, now: float) -> dict[bytes, list[Hash]]:
        """Forget what is old; what was asked for and did not come, by the next peer to ask for it."""
        while self._entries and now - next(iter(self._entries.values())).at > ENTRY_S:
            self._forget_oldest()
        again: dict[bytes, list[Hash]] = {}
        while self._wanted:
            key, wanted = next(iter(self._wanted.items()))
            if now - wanted.asked_at < WANTED_S:
                break
            if (holder := self._next_holder(wanted)) is None:
                self._unwant(key)
                continue
            again.setdefault(holder, []).append(key)
            wanted.asked_at = now
            self._wanted.move_to_end(key)
        return again

    def give(self, hashes: Sequence[Hash]) -> list[bytes]:
        """The bodies of these that are still kept, each once."""
        entries = [self._entries.get(key) for key in dict.fromkeys(hashes)]
        return [entry.body for entry in entries if entry is not None and entry.body is not None]

    def lacks(self, peer: bytes, transactions: Sequence[bytes]) -> None:
        """The peer asked for these and there was no room to give them: it is told of them again."""
        number = self._number(peer)
        for transaction in transactions:
            if (entry := self._entries.get(blake2_256(transaction))) is not None:
                entry.known_by.discard(number)
                self._repaired.pop(number, None)

    def forget_peer(self, peer: bytes) -> None:
        """The peer is gone: when it comes back it may have lost everything, so that it gets another number.

        What it told of and did not give is asked for at once of the next that has it.
        """
        number = self._number_of.pop(peer, 0)
        self._peer_of.pop(number, None)
        self._repaired.pop(number, None)
        for key in tuple(self._wanted_by.get(peer, ())):
            wanted = self._wanted[key]
            self._unwant(key)
            holder = self._next_holder(wanted)
            if holder is not None and self._want(key, _Wanted(holder, -math.inf, [holder, *wanted.holders])):
                self._wanted.move_to_end(key, last=False)

    def _want(self, key: Hash, wanted: _Wanted) -> bool:
        """Remember what we have not, unless there is too much of it by the same peer."""
        theirs = self._wanted_by.setdefault(wanted.by, {})
        if len(theirs) >= WANTED_PER_PEER_MAX:
            return False
        theirs[key] = None
        self._wanted[key] = wanted
        return True

    def _unwant(self, key: Hash) -> None:
        wanted = self._wanted.pop(key, None)
        if wanted is None:
            return
        theirs = self._wanted_by[wanted.by]
        del theirs[key]
        if not theirs:
            del self._wanted_by[wanted.by]

    def _next_holder(self, wanted: _Wanted) -> bytes | None:
        """Take who is to be asked next of those that are still there."""
        while wanted.holders:
            holder = wanted.holders.pop(0)
            if holder in self._number_of:
                return holder
        return None

    def _number(self, peer: bytes) -> int:
        number = self._number_of.get(peer)
        if number is None:
            self._connections += 1
            number = self._number_of[peer] = self._connections
            self._peer_of[number] = peer
        return number

    def _entry(self, key: Hash, now: float) -> _Entry:
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(now)
            if len(self._entries) > ENTRIES_MAX:
                self._forget_oldest()
        return entry

    def _forget_oldest(self) -> None:
        key, _ = self._entries.popitem(last=False)
        self._bodies_bytes -= self._bodies.pop(key, 0)

    def _keep(self, key: Hash, entry: _Entry, transaction: bytes) -> None:
        if entry.body is not None:
            return
        entry.body = transaction
        self._bodies[key] = len(transaction)
        self._bodies_bytes += len(transaction)
        while self._bodies_bytes > BODIES_BYTES_MAX:
            old, size = self._bodies.popitem(last=False)
            self._bodies_bytes -= size
            self._entries[old].body = None


def batches(transactions: Sequence[bytes]) -> list[tuple[bytes, ...]]:
    """The transactions cut so that each part fits into one message."""
    parts: list[tuple[bytes, ...]] = []
    part: list[bytes] = []
    size = 0
    for transaction in transactions:
        if part and (len(part) == TRANSACTIONS_COUNT_MAX or size + len(transaction) > TRANSACTION_BYTES_MAX):
            parts.append(tuple(part))
            part, size = [], 0
        part.append(transaction)
        size += len(transaction)
    if part:
        parts.append(tuple(part))
    return parts
