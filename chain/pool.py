"""The transaction pool: nonce-ordered, bounded, never awaited.

It holds transactions that the runtime has found valid; its answers depend only on what it was given, in which order.
A transaction is ready when every nonce between its sender's account and itself is here too, else it waits as future.
"""

from __future__ import annotations

import enum
import heapq
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace

from chain.net.messages import TRANSACTION_BYTES_MAX
from chain.primitives.hashing import Hash, blake2_256
from chain.primitives.types import sender_and_nonce
from runtime.panic import Panicked
from runtime.types import InvalidTransaction, ValidTransaction

# Whether it is ready, and its rank.
Worth = tuple[bool, int, int]
# Senders of the last blocks whose nonces are remembered: four full blocks', and no verdict is as old as that.
RECENT_SENDERS_MAX = 8192
# How much of the reason for a ban is kept: what was expected and what came.
BAN_REASON_MAX = 160
# How many outdated entries the order of evictions may carry besides two a sender.
STALE_TAILS_MAX = 1024


class PoolError(Exception):
    """The pool refuses a transaction; `code` is the JSON-RPC code that Substrate clients know."""

    code = 1000
    word = "refused"


class TemporarilyBanned(PoolError):
    """The transaction was found invalid a short while ago."""

    code = 1012
    word = "banned"


class AlreadyImported(PoolError):
    """The very same transaction is here."""

    code = 1013
    word = "known"


class TooLowPriority(PoolError):
    """Another transaction with the same sender and nonce is here and pays at least as much.

    `message` is Substrate's, with the priority of the one that is here first.
    """

    code = 1014
    word = "priority_too_low"

    def __init__(self, rival: Hash, nonce: int, old: int, new: int) -> None:
        self.message = f"Priority is too low: ({old} vs {new})"
        self.detail = (
            f"transaction 0x{rival.hex()} has nonce {nonce} and priority {old}, this one has {new}: "
            "a higher tip replaces it"
        )
        super().__init__(f"{self.message}: {self.detail}")


class ImmediatelyDropped(PoolError):
    """A limit is reached, and nothing here is worth less."""

    code = 1016
    word = "no_room"


class Fate(enum.Enum):
    """Why a transaction left the pool."""

    INCLUDED = "included"
    USURPED = "usurped"  # replaced at its nonce by one of higher priority
    DROPPED = "dropped"  # pushed out by better ones
    INVALID = "invalid"  # stale, expired, no longer affordable, or removed by the operator


@dataclass(frozen=True, slots=True)
class Departure:
    """A transaction that left the pool."""

    hash: Hash
    fate: Fate
    usurper: Hash | None = None  # what took its place
    index: int | None = None  # where in its block it is, if it is included


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """What the pool holds at most."""

    count_max: int = 8192  # Substrate's default; about four full blocks of transfers
    bytes_max: int = 20 * 1024 * 1024  # Substrate's default
    transaction_bytes_max: int = TRANSACTION_BYTES_MAX  # peers drop whoever passes on a larger one
    sender_count_max: int = 1024  # an eighth of the pool for one account: many accounts are needed to fill it
    ban_ms: int = 60_000  # long enough for gossip to stop echoing, short enough to try again after a top-up
    panic_ban_ms: int = 30 * 60_000  # Substrate's for everything: no top-up mends a module, and a restart forgets bans
    ban_count_max: int = 16384  # with their reasons some 5 MB; the oldest bans are forgotten first


@dataclass(frozen=True, slots=True)
class PoolTransaction:
    """A transaction in the pool: its full wire bytes and the runtime's verdict on it."""

    hash: Hash
    raw: bytes
    valid: ValidTransaction
    arrival: int  # counts submissions: of two with one priority, the earlier goes first
    height_max: int  # the verdict holds for blocks up to this height

    @property
    def rank(self) -> tuple[int, int]:
        """Worth: the higher priority, then the earlier arrival."""
        return self.valid.priority, -self.arrival


@dataclass(slots=True)
class _Queue:
    """One sender's transactions by nonce."""

    next_nonce: int  # the account's, as far as the pool knows
    by_nonce: dict[int, PoolTransaction] = field(default_factory=dict)
    nonces: list[int] = field(default_factory=list)  # ascending
    ready_count: int = 0  # as the pool has counted it

    def put(self, transaction: PoolTransaction) -> None:
        nonce = transaction.valid.nonce
        if nonce not in self.by_nonce:
            insort(self.nonces, nonce)
        self.by_nonce[nonce] = transaction

    def pop(self, nonce: int) -> None:
        del self.by_nonce[nonce]
        del self.nonces[bisect_left(self.nonces, nonce)]

    def ready(self) -> list[PoolTransaction]:
        """Those without a gap between the account's nonce and their own."""
        found, nonce = [], self.next_nonce
        while (transaction := self.by_nonce.get(nonce)) is not None:
            found.append(transaction)
            nonce += 1
        return found

    def count_ready(self) -> int:
        """How many `ready` would find."""
        places = range(len(self.nonces))
        # With a gap in front of it, a nonce is further from its place than the account's.
        return bisect_right(places, self.next_nonce, key=lambda place: self.nonces[place] - place)

    def worth(self, nonce: int) -> Worth:
        """What decides who is pushed out: a future transaction is worth less than every ready one."""
        is_ready = bisect_left(self.nonces, nonce) == nonce - self.next_nonce
        return (is_ready, *self.by_nonce[nonce].rank)


def _ignore(_departure: Departure) -> None:
    """Nobody wants to know what leaves the pool."""


class Pool:
    """See the module. Not thread-safe: one task owns it; `ready` and `due` return copies for other threads."""

    def __init__(self, limits: PoolLimits | None = None, on_removed: Callable[[Departure], None] = _ignore) -> None:
        self.limits = limits or PoolLimits()
        self.height = 0
        self.bytes_used = 0
        self._on_removed = on_removed
        self._queues: dict[bytes, _Queue] = {}
        self._by_hash: dict[Hash, PoolTransaction] = {}  # the longest unvalidated first
        self._banned: dict[Hash, tuple[int, str]] = {}  # until when and why, the earliest ban first
        self._arrivals = 0
        self._ready_count = 0
        self._recent: dict[bytes, int] = {}  # the next nonce of those who sent something in the last blocks
        # The worth of each sender's last transaction, the least first, with entries that are no longer true among them.
        self._tails: list[tuple[Worth, bytes]] = []

    # --- in ---

    def precheck(self, raw: bytes, now_ms: int) -> Hash:
        """Refuse, before its validation is paid for, what `submit` would refuse anyway. Returns the hash."""
        if len(raw) > self.limits.transaction_bytes_max:
            raise ImmediatelyDropped(
                f"expected a transaction of at most {self.limits.transaction_bytes_max} bytes, which is the most that "
                f"peers take from each other, got {len(raw)}"
            )
        found = blake2_256(raw)
        if found in self._by_hash:
            raise AlreadyImported(f"transaction 0x{found.hex()} is in the pool already")
        until_ms, reason = self._banned.get(found, (0, ""))
        if until_ms > now_ms:
            raise TemporarilyBanned(
                f"transaction 0x{found.hex()} was refused: {reason}; it can be sent again in {until_ms - now_ms} ms"
            )
        return found

    def submit(self, raw: bytes, valid: ValidTransaction, now_ms: int) -> Hash:
        """Take a transaction that the runtime found valid at the best block; PoolError if there is no place for it."""
        found = self.precheck(raw, now_ms)
        # A block may have come since the verdict: a nonce that it used must not come back.
        account_nonce = max(valid.account_nonce, self._recent.get(valid.sender, 0))
        queue = self._queues.get(valid.sender) or _Queue(account_nonce)
        self._advance(queue, account_nonce, Fate.INVALID)
        if valid.nonce < queue.next_nonce:
            raise ImmediatelyDropped(f"nonce {valid.nonce} is used, the account's next is {queue.next_nonce}")
        self._arrivals += 1
        newcomer = PoolTransaction(found, raw, valid, self._arrivals, self.height + valid.longevity)
        rival = queue.by_nonce.get(valid.nonce)
        if rival is not None:
            if valid.priority <= rival.valid.priority:
                raise TooLowPriority(rival.hash, valid.nonce, rival.valid.priority, valid.priority)
        elif len(queue.nonces) >= self.limits.sender_count_max:
            raise ImmediatelyDropped(
                f"the sender has {len(queue.nonces)} transactions in the pool, the most allowed; "
                "send more when some are included"
            )
        victims = self._make_room(newcomer, queue, rival)
        for victim in victims:
            self._remove(victim, Fate.DROPPED)
        if rival is not None:
            self._remove(rival, Fate.USURPED, found)
        self._queues.setdefault(valid.sender, queue).put(newcomer)
        self._note_change(valid.sender)
        self._by_hash[found] = newcomer
        self.bytes_used += len(raw)
        return found

    def _make_room(
        self, newcomer: PoolTransaction, own: _Queue, rival: PoolTransaction | None
    ) -> list[PoolTransaction]:
        """The least worthy last transactions of other senders that must go; ImmediatelyDropped if one is worthier."""
        count = len(self._by_hash) + 1 - (rival is not None)
        size = self.bytes_used + len(newcomer.raw) - (len(rival.raw) if rival is not None else 0)
        if count <= self.limits.count_max and size <= self.limits.bytes_max:
            return []
        nonce = newcomer.valid.nonce
        worth = (bisect_left(own.nonces, nonce) == nonce - own.next_nonce, *newcomer.rank)
        victims: list[PoolTransaction] = []
        with closing(self._least_worthy(newcomer.valid.sender)) as candidates:
            while count > self.limits.count_max or size > self.limits.bytes_max:
                found = next(candidates, None)
                if found is None or found[0] > worth:
                    least = f", the least of them has priority {found[0][1]}" if found else ""
                    raise ImmediatelyDropped(
                        f"the pool is full ({len(self._by_hash)} transactions, {self.bytes_used} bytes){least}; this "
                        f"one has priority {newcomer.valid.priority}: a higher tip gets it in"
                    )
                victims.append(found[1])
                count, size = count - 1, size - len(found[1].raw)
        return victims

    def _least_worthy(self, but: bytes) -> Generator[tuple[Worth, PoolTransaction]]:
        """Everybody's transactions but one sender's, the least worthy first, each sender's from the last nonce down."""
        behind: list[tuple[Worth, bytes, int]] = []  # Of senders whose last was yielded, the one before it.
        set_aside: list[tuple[Worth, bytes]] = []
        seen = {but}
        try:
            while True:
                while self._tails and (self._tails[0][1] in seen or self._is_stale(self._tails[0])):
                    tail = heapq.heappop(self._tails)
                    if not self._is_stale(tail):
                        set_aside.append(tail)
                if behind and (not self._tails or behind[0] < self._tails[0]):
                    worth, sender, position = heapq.heappop(behind)
                elif self._tails:
                    worth, sender = self._tails[0]
                    position = len(self._queues[sender].nonces) - 1
                    seen.add(sender)
                else:
                    return
                queue = self._queues[sender]
                yield worth, queue.by_nonce[queue.nonces[position]]
                if position > 0:
                    heapq.heappush(behind, (queue.worth(queue.nonces[position - 1]), sender, position - 1))
        finally:
            for tail in set(set_aside):
                heapq.heappush(self._tails, tail)

    def _is_stale(self, tail: tuple[Worth, bytes]) -> bool:
        queue = self._queues.get(tail[1])
        return queue is None or not queue.nonces or queue.worth(queue.nonces[-1]) != tail[0]

    def _note_change(self, sender: bytes) -> None:
        """A sender's queue has changed: note how many of it are ready, and what its last transaction is worth now."""
        queue = self._queues.get(sender)
        if queue is not None and queue.nonces:
            ready_count = queue.count_ready()
            self._ready_count += ready_count - queue.ready_count
            queue.ready_count = ready_count
            heapq.heappush(self._tails, (queue.worth(queue.nonces[-1]), sender))
        if len(self._tails) > 2 * len(self._queues) + STALE_TAILS_MAX:
            self._tails = [(queue.worth(queue.nonces[-1]), sender) for sender, queue in self._queues.items()]
            heapq.heapify(self._tails)

    # --- out ---

    def on_block(self, height: int, extrinsics: Iterable[bytes]) -> None:
        """A block is sealed: forget what it includes, what its nonces make stale, and what has expired."""
        self.height = height
        for index, raw in enumerate(extrinsics):
            included = self._by_hash.get(blake2_256(raw))
            if included is not None:
                self._remove(included, Fate.INCLUDED, index=index)
                self._advance_sender(included.valid.sender, included.valid.nonce + 1)
                continue
            signed = sender_and_nonce(raw)
            if signed is not None:
                self._advance_sender(signed[0], signed[1] + 1)
        for expired in [item for item in self._by_hash.values() if item.height_max <= height]:
            self._remove(expired, Fate.INVALID)

    def due(self, count_max: int) -> list[PoolTransaction]:
        """The transactions whose verdicts are oldest, to validate anew (in a thread) and hand to `settle`."""
        return [item for item, _ in zip(self._by_hash.values(), range(count_max), strict=False)]

    def settle(
        self, verdicts: Iterable[tuple[PoolTransaction, ValidTransaction | InvalidTransaction]], now_ms: int
    ) -> None:
        """Renew the verdicts of `due` transactions; those found invalid leave the pool and are banned."""
        for transaction, verdict in verdicts:
            if self._by_hash.get(transaction.hash) is not transaction:
                continue  # it left while it was being validated
            if isinstance(verdict, InvalidTransaction):
                self.refuse(transaction.hash, now_ms, verdict)
                continue
            renewed = replace(transaction, valid=verdict, height_max=self.height + verdict.longevity)
            del self._by_hash[transaction.hash]
            self._by_hash[transaction.hash] = renewed
            queue = self._queues[verdict.sender]
            queue.put(renewed)
            self._advance(queue, verdict.account_nonce, Fate.INVALID)
            self._note_change(verdict.sender)

    def revalidate(
        self, validate: Callable[[bytes], ValidTransaction], now_ms: int, count_max: int | None = None
    ) -> None:
        """Validate the `count_max` oldest verdicts (all of them by default) anew at the best block."""

        def judge(transaction: PoolTransaction) -> ValidTransaction | InvalidTransaction:
            try:
                return validate(transaction.raw)
            except InvalidTransaction as error:
                return error

        due = self.due(len(self._by_hash) if count_max is None else count_max)
        self.settle([(transaction, judge(transaction)) for transaction in due], now_ms)

    def refuse(self, found: Hash, now_ms: int, error: InvalidTransaction) -> None:
        """Ban a transaction that the runtime found invalid: for long where that is a module's bug."""
        for_ms = self.limits.panic_ban_ms if isinstance(error, Panicked) else self.limits.ban_ms
        self.ban(found, now_ms, error.message, for_ms)

    def ban(self, found: Hash, now_ms: int, reason: str, for_ms: int | None = None) -> None:
        """Refuse this hash for a time, and say why. It leaves the pool if it is here."""
        transaction = self._by_hash.get(found)
        if transaction is not None:
            self._remove(transaction, Fate.INVALID)
        self._banned.pop(found, None)
        while self._banned:
            oldest = next(iter(self._banned))
            if self._banned[oldest][0] > now_ms and len(self._banned) < self.limits.ban_count_max:
                break
            del self._banned[oldest]
        until_ms = now_ms + (self.limits.ban_ms if for_ms is None else for_ms)
        self._banned[found] = until_ms, reason[:BAN_REASON_MAX]

    # --- views ---

    def ready(self) -> Iterator[PoolTransaction]:
        """Ready transactions, the best priority first, each sender's in nonce order; a copy as of this call."""
        queues = [queue.ready() for queue in self._queues.values()]
        heads = [(_best_first(items[0]), number, 0) for number, items in enumerate(queues) if items]
        heapq.heapify(heads)
        return self._merge(queues, heads)

    @staticmethod
    def _merge(
        queues: list[list[PoolTransaction]], heads: list[tuple[tuple[int, int], int, int]]
    ) -> Iterator[PoolTransaction]:
        while heads:
            _, number, position = heapq.heappop(heads)
            items = queues[number]
            yield items[position]
            if position + 1 < len(items):
                heapq.heappush(heads, (_best_first(items[position + 1]), number, position + 1))

    def next_nonce(self, account: bytes, on_chain_nonce: int) -> int:
        """The nonce that the account's next transaction should have, behind its ready ones."""
        queue = self._queues.get(account)
        nonce = on_chain_nonce
        if queue is not None:
            nonce = max(nonce, queue.next_nonce)
            while nonce in queue.by_nonce:
                nonce += 1
        return nonce

    def get(self, found: Hash) -> PoolTransaction | None:
        """The transaction with this hash."""
        return self._by_hash.get(found)

    def hashes(self) -> list[Hash]:
        """Of everything here, ready or future."""
        return list(self._by_hash)

    def everything(self) -> list[PoolTransaction]:
        """All that is here, ready or future; a copy as of this call."""
        return list(self._by_hash.values())

    def counts(self) -> tuple[int, int]:
        """How many are ready, and how many wait as future."""
        return self._ready_count, len(self._by_hash) - self._ready_count

    def __contains__(self, found: Hash) -> bool:
        return found in self._by_hash

    def __len__(self) -> int:
        return len(self._by_hash)

    # --- inside ---

    def _remove(
        self, transaction: PoolTransaction, fate: Fate, usurper: Hash | None = None, index: int | None = None
    ) -> None:
        del self._by_hash[transaction.hash]
        self.bytes_used -= len(transaction.raw)
        queue = self._queues[transaction.valid.sender]
        queue.pop(transaction.valid.nonce)
        if not queue.nonces:
            del self._queues[transaction.valid.sender]
            self._ready_count -= queue.ready_count
            queue.ready_count = 0  # A usurper may come to the same queue.
        self._note_change(transaction.valid.sender)
        self._on_removed(Departure(transaction.hash, fate, usurper, index))

    def _advance_sender(self, sender: bytes, next_nonce: int) -> None:
        self._recent.pop(sender, None)
        self._recent[sender] = next_nonce
        if len(self._recent) > RECENT_SENDERS_MAX:
            del self._recent[next(iter(self._recent))]
        queue = self._queues.get(sender)
        if queue is not None:
            self._advance(queue, next_nonce, Fate.INVALID)

    def _advance(self, queue: _Queue, next_nonce: int, fate: Fate) -> None:
        """The account's nonce moved on (it never moves back: blocks are final); lower ones are stale."""
        if next_nonce > queue.next_nonce:
            queue.next_nonce = next_nonce
            for nonce in queue.nonces[: bisect_left(queue.nonces, next_nonce)]:
                self._remove(queue.by_nonce[nonce], fate)
            if queue.nonces:
                self._note_change(queue.by_nonce[queue.nonces[0]].valid.sender)


def _best_first(transaction: PoolTransaction) -> tuple[int, int]:
    priority, newness = transaction.rank
    return -priority, -newness
