"""The way of a transaction into the pool: checked in a thread, once, then passed on to the peers.

Own clients are told why theirs is refused. What peers gossip waits in a bounded queue: a flood costs known memory and
never a vote.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import trio

from chain.author import now_ms
from chain.ledger import Ledger
from chain.net.network import Network
from chain.pace import Threads
from chain.pool import Pool, PoolError, PoolTransaction
from chain.primitives.hashing import Hash, blake2_256
from chain.primitives.types import Header, sender_and_nonce
from chain.rpc.broadcast import Broadcast
from runtime.executive import Executive
from runtime.panic import Panicked
from runtime.types import InvalidReason, InvalidTransaction, MalformedTransaction, UnknownTransaction, ValidTransaction

# Checking holds the interpreter most of the time: one thread for clients and one for gossip, each resting as long as it
# worked, so that a flood of either leaves the other, and votes, their time.
THREADS = 1
REST = 1.0
BATCH = 64  # checked in one visit to a thread: some 10 ms of work
QUEUE_MAX = 32 * BATCH  # gossip that waits for its check: about a second's worth of checking
# Most transactions take 150 bytes, but each may take a MiB, and there may be many who send such.
QUEUE_BYTES_MAX = 32 * 1024 * 1024
# Checks wait while a block is built, executed or committed, and on a validator from when one is due until it is there:
# they would share interpreter and cores with what everybody waits for, and what they admit is for the block after it. A
# machine that can do no more than its blocks admits a batch in so long.
YIELD_SECONDS_MAX = 1.0
REVALIDATED_PER_BLOCK = 128  # verdicts renewed after each block: some 20 ms of a thread

# Who passes these on has not checked them. A signature may be wrong here and right there for a block or two, when its
# era ends: a flood of them is no accident.
MALFORMED_POINTS = 10.0
BAD_PROOF_POINTS = 1.0

Verdict = ValidTransaction | InvalidTransaction


class Intake:
    """Owns what enters the pool. `run` it once; all methods belong to one event loop.

    `is_behind()` says whether this node is still fetching blocks that its peers have; `at_rest()` returns when no block
    is at work, nor due.
    """

    def __init__(
        self,
        ledger: Ledger,
        executive: Executive,
        pool: Pool,
        network: Network,
        is_behind: Callable[[], bool],
        at_rest: Callable[[], Awaitable[None]],
    ) -> None:
        self._ledger = ledger
        self._executive = executive
        self._pool = pool
        self._network = network
        self._is_behind = is_behind
        self._at_rest = at_rest
        self._submitted = _Together(self._judge, self._yield)
        self._gossip = Threads(THREADS, REST)
        self._queue: deque[tuple[bytes, bytes]] = deque()  # What peers sent, each with who sent it.
        self._queue_bytes = 0
        self.refused: Counter[str] = Counter()  # by the kinds of errors that there are
        self._came = trio.Event()

    async def submit(self, raw: bytes) -> Hash:
        """Pool and gossip a client's extrinsic; raises InvalidTransaction or PoolError, with what the client can do."""
        try:
            self._pool.precheck(raw, now_ms())
            verdict = await self._submitted.judge(raw)
            if isinstance(verdict, InvalidTransaction):
                self._ban_if_panicked(raw, verdict)
                raise verdict
            found = self._pool.submit(raw, verdict, now_ms())
        except (InvalidTransaction, PoolError) as error:
            self._note_refused(error)
            raise
        self._network.gossip_transactions([raw])
        return found

    async def restore(self, transactions: Sequence[bytes]) -> int:
        """Pool what waited before a restart, checked anew; how many of it were taken."""
        taken = 0
        for start in range(0, len(transactions), BATCH):
            pooled, _ = await self._admit(transactions[start : start + BATCH])
            taken += len(pooled)
        return taken

    def gossiped(self, peer: bytes, transactions: list[bytes]) -> None:
        """Queue what a peer sent; what does not fit now is asked for again later."""
        for taken, raw in enumerate(transactions):
            if len(self._queue) == QUEUE_MAX or self._queue_bytes + len(raw) > QUEUE_BYTES_MAX:
                self._network.postpone_transactions(transactions[taken:])
                break
            self._queue.append((peer, raw))
            self._queue_bytes += len(raw)
        self._came.set()

    async def run(self, heads: Broadcast[Header]) -> None:
        """Check what is queued, and after each block what has waited longest, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._take_in)
            nursery.start_soon(self._revalidate, heads)

    async def _take_in(self) -> None:
        while True:
            await self._came.wait()
            self._came = trio.Event()
            while self._queue:
                await self._yield()
                batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
                self._queue_bytes -= sum(len(raw) for _, raw in batch)
                # A node that is still fetching blocks cannot judge what is signed for blocks that it does not have.
                if self._is_behind():
                    self._network.postpone_transactions([raw for _, raw in batch])
                    continue
                _, judged = await self._admit([raw for _, raw in batch])
                points = {raw: points for raw, verdict in judged if (points := _points(raw, verdict))}
                for peer in dict.fromkeys(peer for peer, raw in batch if raw in points):
                    sent = sum(points.get(raw, 0.0) for sender, raw in batch if sender == peer)
                    self._network.penalise(peer, sent, "gossiped transactions that are valid on no node")

    async def _yield(self) -> None:
        """Let the block go first that is being made now."""
        with trio.move_on_after(YIELD_SECONDS_MAX):
            await self._at_rest()

    async def _admit(self, batch: Sequence[bytes]) -> tuple[list[bytes], list[tuple[bytes, Verdict]]]:
        """Check what the pool does not know, pool and pass on what is valid; which that is, and every verdict."""
        wanted = [raw for raw in batch if self._is_wanted(raw)]
        judged = list(zip(wanted, await self._gossip.run(self._judge, wanted), strict=True))
        pooled = [raw for raw, verdict in judged if self._pools(raw, verdict)]
        self._network.gossip_transactions(pooled)
        return pooled, judged

    def _is_wanted(self, raw: bytes) -> bool:
        try:
            self._pool.precheck(raw, now_ms())
        except PoolError as error:
            self._note_refused(error)
            return False
        return True

    def _pools(self, raw: bytes, verdict: Verdict) -> bool:
        if isinstance(verdict, InvalidTransaction):
            self._ban_if_panicked(raw, verdict)
            self._note_refused(verdict)
            return False
        try:
            self._pool.submit(raw, verdict, now_ms())
        except PoolError as error:
            self._note_refused(error)
            return False
        return True

    def _note_refused(self, error: InvalidTransaction | PoolError) -> None:
        self.refused[error.reason.name.lower() if isinstance(error, InvalidTransaction) else error.word] += 1

    def _ban_if_panicked(self, raw: bytes, verdict: InvalidTransaction) -> None:
        """What meets a module's bug is not judged again and again: other verdicts may change with the next block."""
        if isinstance(verdict, Panicked):
            self._pool.refuse(blake2_256(raw), now_ms(), verdict)

    async def _revalidate(self, heads: Broadcast[Header]) -> None:
        """What can no longer be included must not fill the pool."""
        with heads.subscribe(newest=True) as receiver:
            async for _ in receiver:
                due = self._pool.due(REVALIDATED_PER_BLOCK)
                if due:
                    verdicts = await self._gossip.run(self._judge, [item.raw for item in due])
                    settled: list[tuple[PoolTransaction, Verdict]] = list(zip(due, verdicts, strict=True))
                    self._pool.settle(settled, now_ms())

    def _judge(self, transactions: Sequence[bytes]) -> list[Verdict]:
        """Each transaction's verdict on the newest state; called in a thread."""
        verdicts: list[Verdict] = []
        with self._ledger.state() as state:
            validate = self._executive.validating(state, state.header.hash)
            for raw in transactions:
                try:
                    verdicts.append(validate(raw))
                except InvalidTransaction as error:
                    self._ledger.panics.tell(error)
                    verdicts.append(error)
        return verdicts


@dataclass(slots=True, eq=False)
class _Case:
    raw: bytes
    verdict: Verdict | None = None
    failure: Exception | None = None  # of the judge, not of the transaction


class _Together:
    """Judges what clients submit at the same time in one visit to a thread: to go there costs as much as a check."""

    def __init__(
        self, judge: Callable[[Sequence[bytes]], list[Verdict]], before: Callable[[], Awaitable[None]]
    ) -> None:
        """`before()` is awaited before each visit."""
        self._judge = judge
        self._before = before
        self._threads = Threads(THREADS, REST)
        self._turn = trio.Lock()
        self._waiting: list[_Case] = []

    async def judge(self, raw: bytes) -> Verdict:
        """The verdict on a transaction, with those on all that waited with it."""
        case = _Case(raw)
        self._waiting.append(case)
        async with self._turn:
            while case.verdict is None:
                if case.failure is not None:
                    raise case.failure
                await self._before()
                cases = self._waiting[:BATCH]
                try:
                    verdicts = await self._threads.run(self._judge, [each.raw for each in cases])
                except Exception as error:
                    # What cannot be judged must not be what everybody's next turn begins with.
                    for each in cases:
                        each.failure = error
                else:
                    for each, verdict in zip(cases, verdicts, strict=True):
                        each.verdict = verdict
                # Only now: should this client go away before, the next one's turn judges them.
                del self._waiting[: len(cases)]
        return case.verdict


def _points(raw: bytes, verdict: Verdict) -> float:
    """What a gossiped transaction costs the peer that sent it."""
    match verdict:
        case UnknownTransaction() | MalformedTransaction():
            return MALFORMED_POINTS
        case InvalidTransaction(reason=InvalidReason.BAD_PROOF):
            # What comes without a signature proves itself, on every node alike, and costs pairings to refuse.
            return MALFORMED_POINTS if sender_and_nonce(raw) is None else BAD_PROOF_POINTS
        case _:
            return 0.0
