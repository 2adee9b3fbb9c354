"""One connected peer: a reader, a writer, a pinger and the requests in flight.

The rule: whatever the peer does ends at most this peer. Nothing here raises into the network's other tasks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import trio

from chain.log import Log
from chain.net.errors import PeerError, PeerGone, PeerUnavailable
from chain.net.handshake import RECEIVE_BYTES, Connection
from chain.net.messages import (
    ANSWERS,
    Answer,
    Blocks,
    Chunks,
    Consensus,
    GetBlocks,
    GetChunks,
    GetHandovers,
    GetState,
    Handovers,
    HaveTransactions,
    Message,
    Peers,
    Ping,
    Request,
    Role,
    StateNodes,
    Transactions,
    WantTransactions,
    pack,
    unpack,
)
from chain.net.outbox import Lane, Outbox
from chain.net.traffic import Traffic
from chain.pile import Pile

log = Log("net")

PING_S = 5.0
# A node that is stopped for 10 s (SIGSTOP, a slow disk) keeps its connections.
SILENCE_S = 20.0
# One batch of at most a large frame: a peer that takes no bytes for so long is slow.
WRITE_S = 20.0
# More requests to one peer at once would only queue on its side.
REQUESTS_MAX = 16
# What a peer may make us do, in units of some 10 microseconds of the loop; an honest node, at 500 transactions a second
# and tens of frames, needs a third of it.
CREDIT_PER_SECOND = 2000.0
CREDIT_BURST = 8000.0
# Gossip may use this share of the outbox; what does not fit is left to pull repair.
GOSSIP_SHARE = 0.25


@dataclass(slots=True)
class _Pending:
    expected: type[Answer]
    answer: Answer | None = None
    done: trio.Event = field(default_factory=trio.Event)


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """What others may know about a peer. `connected_since` is in seconds of `trio.current_time`."""

    id: bytes
    host: str
    listen_port: int
    role: Role
    dialled: bool
    best_height: int
    best_hash: bytes
    connected_since: float
    latency_ms: float | None
    name: str = ""  # what people call it, or the head of its id
    lowest_height: int = 0  # from which on it has every block

    @property
    def address(self) -> str:
        """Where it listens for peers, host:port."""
        return f"{self.host}:{self.listen_port}"

    @property
    def is_validator(self) -> bool:
        """Whether it says that it votes."""
        return self.role is Role.VALIDATOR


class Peer:
    """A peer after its handshake. `run` it once; everything else is synchronous but `request` and `drained`."""

    def __init__(
        self,
        connection: Connection,
        host: str,
        name: str,
        traffic: Traffic,
        dialled_at: tuple[str, int] | None = None,
    ) -> None:
        self._traffic = traffic
        self.id = connection.identity
        self.name = name
        self.hello = connection.hello
        self.dialled = connection.dialled
        self.host = host
        self.best_height = connection.hello.height
        self.best_hash = connection.hello.block_hash
        self.lowest_height = connection.hello.lowest
        self.dialled_at = dialled_at  # where we reached it; None where it reached us
        self.connected_since = trio.current_time()
        self.latency_ms: float | None = None
        self.failure: str | None = None
        self.penalty = 0.0
        self.gone = trio.Event()
        self.helped = False  # It gave us blocks or chunks that proved true.
        self._connection = connection
        self._outbox = Outbox()
        self._wake = trio.Event()
        self._written = trio.Event()
        self._scope = trio.CancelScope()
        self._pending: dict[int, _Pending] = {}
        self._next_request = 0
        self._heard_at = self.connected_since
        self._ping: tuple[int, float] = (0, self.connected_since)
        self._credit = CREDIT_BURST
        self._inbox, self.requests = trio.open_memory_channel[Request](REQUESTS_MAX)

    def __str__(self) -> str:
        return f"{self.name} at {self.host}"

    @property
    def info(self) -> PeerInfo:
        """A snapshot."""
        return PeerInfo(
            id=self.id,
            host=self.host,
            listen_port=self.hello.listen_port,
            role=self.hello.role,
            dialled=self.dialled,
            best_height=self.best_height,
            best_hash=self.best_hash,
            connected_since=self.connected_since,
            latency_ms=self.latency_ms,
            name=self.name,
            lowest_height=self.lowest_height,
        )

    @property
    def silent_s(self) -> float:
        """For how long nothing has been heard from it."""
        return trio.current_time() - self._heard_at

    def drop(self, reason: str, penalty: float = 0.0) -> None:
        """End the connection; the first reason stays. `penalty` is for the network to book when `run` returns."""
        if self.failure is None:
            self.failure = reason
            self.penalty = penalty
        self._scope.cancel()

    def send(self, message: Message) -> None:
        """Queue a message; a peer whose outbox is full is dropped."""
        self.send_frame(_lane(message), pack(message))

    def send_frame(self, lane: Lane, frame: bytes) -> None:
        """As `send`, for a frame that was packed once for many peers."""
        if self._outbox.offer(lane, frame):
            self._traffic.sent(frame)
            self._wake.set()
        else:
            self._traffic.slow_peers += self.failure is None
            self.drop(f"slow: {self._outbox.bytes_waiting} bytes wait to be sent")

    def offer(self, message: Message) -> bool:
        """Queue gossip if there is plenty of room; False when it was left out."""
        frame = pack(message)
        if not self._outbox.has_room(len(frame), share=GOSSIP_SHARE):
            self._traffic.gossip_deferred += 1
            return False
        self.send_frame(Lane.BULK, frame)
        return True

    async def drained(self, bytes_max: int) -> None:
        """Return when no more than `bytes_max` wait to be sent."""
        while self._outbox.bytes_waiting > bytes_max:
            await self._written.wait()

    async def request(self, make: Callable[[int], Request], deadline_s: float) -> Answer:
        """Send `make(request id)` and return its answer; `PeerGone` or `PeerUnavailable` when none comes."""
        if self.gone.is_set() or self.failure is not None:
            raise PeerGone(f"peer {self} is gone")
        if len(self._pending) >= REQUESTS_MAX:
            raise PeerUnavailable(f"{REQUESTS_MAX} requests to peer {self} wait for answers already")
        request = self._next_request
        self._next_request = (request + 1) & 0xFFFFFFFF
        message = make(request)
        pending = self._pending[request] = _Pending(ANSWERS[type(message)])
        try:
            self.send(message)
            with trio.move_on_after(deadline_s):
                await pending.done.wait()
        finally:
            del self._pending[request]
        if pending.answer is None and self.failure is not None:
            raise PeerGone(f"peer {self} went away: {self.failure}")
        if pending.answer is None:
            raise PeerUnavailable(f"peer {self} did not answer within {deadline_s:g} s")
        return pending.answer

    def answered(self, answer: Answer) -> None:
        """Hand an answer to who waits for it; `PeerError` when nobody ever asked."""
        pending = self._pending.get(answer.request)
        if pending is None:
            # Late answers are honest, answers to what was never asked are not.
            if not 0 < (self._next_request - answer.request) & 0xFFFFFFFF < 1 << 16:
                raise PeerError("an answer to a request that was never made")
            return
        if not isinstance(answer, pending.expected):
            raise PeerError(f"expected {pending.expected.__name__}, got {type(answer).__name__}")
        pending.answer = answer
        pending.done.set()

    def asked(self, request: Request) -> None:
        """Queue a request of the peer for `serve`. One too many is left unanswered and no offence: an honest peer that
        gave up on slow answers asks again while we still hold its old questions."""
        with suppress(trio.WouldBlock):
            self._inbox.send_nowait(request)

    def ponged(self, nonce: int) -> None:
        """Note the answer to our last ping."""
        expected, sent_at = self._ping
        if nonce == expected:
            self.latency_ms = (trio.current_time() - sent_at) * 1000

    async def run(
        self,
        handle: Callable[[Peer, Message], None],
        serve: Callable[[Peer], Awaitable[None]],
        turn: Callable[[Peer], Awaitable[None]],
        unfinished: Pile,
    ) -> None:
        """Converse until either side ends it. `handle` is called with each message, after a `turn`; `serve` answers
        requests; `unfinished` is the pile of frames that have come in part."""

        async def guarded(task: Callable[[], Awaitable[None]]) -> None:
            try:
                await task()
            except PeerError as error:
                self.drop(error.reason, error.points)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self.drop("connection lost")
            except trio.TooSlowError:
                self.drop(f"slow: took no bytes for {WRITE_S:g} s")
            except Exception:
                log.exception(f"a fault of ours while serving peer {self}; only that peer is dropped", peer=self.id)
                self.drop("a fault on our side")

        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(guarded, lambda: self._read(handle, turn, unfinished))
                    nursery.start_soon(guarded, self._write)
                    nursery.start_soon(guarded, self._keep_alive)
                    nursery.start_soon(guarded, lambda: serve(self))
        finally:
            self.drop("we stopped")
            self.gone.set()
            for pending in self._pending.values():
                pending.done.set()
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(self._connection.stream)

    async def _read(
        self, handle: Callable[[Peer, Message], None], turn: Callable[[Peer], Awaitable[None]], unfinished: Pile
    ) -> None:
        reader, stream = self._connection.reader, self._connection.stream
        with unfinished.share(lambda: self.drop("its unfinished frames took too much memory")) as held:
            while True:
                while (payload := reader.next()) is not None:
                    message = unpack(payload)
                    self._traffic.received(payload)
                    await self._pay(_cost(message))
                    await turn(self)
                    handle(self, message)
                held.grow(reader.buffered - held.bytes)
                data = await stream.receive_some(RECEIVE_BYTES)
                if not data:
                    self.drop("the peer hung up")
                    return
                self._earn()
                reader.feed(data)

    def _earn(self) -> None:
        now = trio.current_time()
        self._credit = min(CREDIT_BURST, self._credit + (now - self._heard_at) * CREDIT_PER_SECOND)
        self._heard_at = now

    async def _pay(self, cost: float) -> None:
        """Not to read is what slows a flooding peer down: its own outbox fills, not ours."""
        self._credit -= cost
        if self._credit < 0.0:
            await trio.sleep(-self._credit / CREDIT_PER_SECOND)
            self._earn()

    async def _write(self) -> None:
        stream = self._connection.stream
        while True:
            while not (batch := self._outbox.take()):
                self._wake = trio.Event()
                await self._wake.wait()
            with trio.fail_after(WRITE_S):
                await stream.send_all(batch)
            self._written.set()
            self._written = trio.Event()

    async def _keep_alive(self) -> None:
        while True:
            await trio.sleep(PING_S)
            now = trio.current_time()
            if now - self._heard_at > SILENCE_S:
                self.drop(f"silent for {SILENCE_S:g} s")
                return
            self._ping = (self._ping[0] + 1, now)
            self.send(Ping(self._ping[0]))


def _cost(message: Message) -> float:
    """What the message makes us do, in units of credit."""
    match message:
        case Transactions(transactions):
            return len(transactions) + sum(map(len, transactions)) / 4096
        case HaveTransactions(hashes) | WantTransactions(hashes):
            return len(hashes) / 2
        case Consensus(frame):
            return 1 + len(frame) / 4096
        case GetBlocks() | GetChunks():
            return 8
        case GetHandovers() | GetState():
            return (
                64  # The interpreter is held while a part of the state is read, which bounds them to thirty a second.
            )
        case Peers(peers):
            return 1 + len(peers)
        case _:  # Blocks and chunks we have asked for.
            return 1


def _lane(message: Message) -> Lane:
    match message:
        case Consensus():
            return Lane.CONSENSUS
        case Blocks() | Chunks() | Handovers() | StateNodes() | Transactions() | HaveTransactions():
            return Lane.BULK
        case _:
            return Lane.CONTROL
