"""One simulated validator: the real gadget and synchroniser over a disk, a ledger and a network that are not.

It lives until it is killed or its power is cut, at any step of its work, and starts again from what its disk and its
ledger hold. It may also be stopped for a while, which nobody else can tell from silence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from random import Random
from typing import Protocol, TypeVar

import trio

from chain.ledger import SealedBlock
from chain.primitives import bls
from chain.primitives.hashing import Hash
from chain.primitives.seal import ValidatorSet, has_signed
from chain.simulation.disk import Killed, PowerCut, SimulatedDisk
from chain.simulation.liars import Liar
from chain.simulation.monitor import FALSE_POINTS, Monitor
from chain.simulation.network import Neighbourhood, Network, peer_id
from chain.simulation.process import Process
from chain.store import StorageFailed
from chain.sync.synchroniser import Synchroniser
from consensus.gadget import Gadget
from consensus.host import Host, Timing
from consensus.lookback import Past
from consensus.messages import Message, decode, encode
from consensus.tally import Equivocation
from consensus.voice import BlsSigner
from consensus.wal import WalFailed

T = TypeVar("T")


@lru_cache(maxsize=64)
def places(validators: ValidatorSet) -> dict[bytes, int]:
    """Each key's place in a set."""
    return {authority.bls_key: index for index, authority in enumerate(validators.authorities)}


WAL_PATH = Path("/consensus.wal")
SYNC_PATIENCE_S = 2.0  # as in a node


class Ledger(Host, Protocol):
    """A host that also serves sync: the ledger in memory, or the real one behind the real author."""

    def best(self) -> tuple[int, Hash]: ...

    def sealed_blocks(self, start: int, count: int) -> list[bytes]: ...

    def variant(self, payload: bytes) -> bytes: ...

    def restart(self) -> None: ...

    async def import_blocks(self, blocks: Sequence[SealedBlock]) -> None: ...

    def accuse(self, found: Equivocation) -> None: ...

    async def run(self) -> None: ...


# How long a node is down at most.
DOWN_MS_MAX = 3000
# What the system holds for a process that does not read, in messages: a connection's buffers take some hundred KB.
UNREAD_MAX = 1024


class Node:
    """`name` is its place in the network, `member` the number of its key: twins share the second alone."""

    def __init__(
        self,
        name: int,
        member: int,
        secret: bytes,
        network: Network,
        monitor: Monitor,
        timing: Timing,
        rng: Random,
    ) -> None:
        self.name, self.member, self.secret = name, member, secret
        self.key = bls.public_key(secret)
        self.network, self.monitor, self.timing, self.rng = network, monitor, timing, rng
        self.crash = 0.0  # How likely it is killed, or its power cut, at each step of its work.
        self.clock_skew_ms = 0
        self.clock: Callable[[], int]  # Set by whoever makes the node, as is the ledger.
        self.ledger: Ledger
        self.liar: Liar | None = None
        self.up = False
        self.crashes = 0
        self.heard: dict[bytes, tuple[int, Hash]] = {}  # The best blocks that peers tell of.
        self.disk = SimulatedDisk(rng, self.hazard)
        self.gadget: Gadget | None = None
        self.sync: Synchroniser | None = None
        self._logged = False
        self._life = trio.CancelScope()
        self._process = Process()
        self._unread: list[Callable[[], None]] = []  # What came while it was stopped.
        self._signer = BlsSigner(secret, self.work)

    @property
    def honest(self) -> bool:
        return self.liar is None

    @property
    def head(self) -> int:
        return self.ledger.best()[0]

    @property
    def validators(self) -> ValidatorSet:
        """Who decides its next height."""
        return self.ledger.validators(self.head + 1)

    @property
    def index(self) -> int:
        """Its place in that set; LookupError where it has none."""
        return self._places[self.key]

    @property
    def seated(self) -> bool:
        """Whether it has a place in that set."""
        return self.key in self._places

    @property
    def _places(self) -> dict[bytes, int]:
        return places(self.validators)

    # --- living and dying ---

    async def run(self) -> None:
        """Live, die, and start again after a while, until cancelled."""
        while self.liar is None or not self.liar.is_silent:
            power_cut = False
            try:
                await self._live()
            except* PowerCut:
                power_cut = True
            except* (Killed, WalFailed, StorageFailed):
                pass
            self._down(power_cut=power_cut or self._life.cancelled_caught)
            await trio.sleep(self.rng.randrange(DOWN_MS_MAX) / 1000)
            self.disk.full, self.disk.errors = False, 0.0

    def kill(self) -> None:
        """Cut its power between two steps; it starts again by itself."""
        self.crashes += self.up
        self._life.cancel()

    def stop(self, ms: int) -> None:
        """Stop it for so long, as SIGSTOP does: to others it is silent, and its connections stay."""
        if self.up and not self._process.stopped:
            self._process.stop()
            life = self._life
            self.network.after(ms, lambda: self.go_on() if life is self._life else None)

    def go_on(self) -> None:
        """Go on, if it is stopped: with all at once that came meanwhile."""
        unread, self._unread = self._unread, []
        self._process.go_on()
        for read in unread:
            read()

    @property
    def answers(self) -> bool:
        """Whether a client that connects has an answer."""
        return self.up and not self._process.stopped

    def hazard(self) -> None:
        """Maybe stop here."""
        if self.crash and self.up and self.rng.random() < self.crash:
            self.crashes += 1
            raise Killed if self.rng.random() < 0.5 else PowerCut

    async def _live(self) -> None:
        # Who starts it for the first time says so, and again where it died before its log held that; later its log is
        # all that it goes by.
        past = Past.IGNORED if self.liar is not None else Past.UNKNOWN if self._logged else Past.KNOWN
        with trio.CancelScope() as self._life:
            async with trio.open_nursery() as nursery:
                self.ledger.restart()
                self.sync = Synchroniser(
                    network=Neighbourhood(self.network, self),
                    genesis_hash=self.ledger.genesis_hash,
                    best=self.ledger.best,
                    validators=self.ledger.validators,
                    import_blocks=self._import,
                    patience_s=SYNC_PATIENCE_S,
                    rng=self.rng,
                    run=self.work,
                )
                self.gadget = Gadget(
                    host=self.ledger,
                    transport=self,
                    signer=self._signer,
                    wal_path=WAL_PATH,
                    timing=self.timing,
                    start_height=self.head + 1,
                    on_behind=self.sync.on_behind,
                    on_fault=self._on_fault,
                    on_equivocation=self._on_equivocation,
                    past=past,
                    draw=self.rng.randbytes,
                    run=self.work,
                    disk=self.disk,
                )
                self.up = True
                self.network.announce(self, *self.claimed_best())
                for other in self.network.nodes:
                    if other is not self and self.network.connected(other, self):
                        self.hear_of(peer_id(other.name), *other.claimed_best())
                nursery.start_soon(self._process.carry, self.sync.run)
                nursery.start_soon(self._process.carry, self.ledger.run)
                await self._process.run(self.gadget.run)

    def _down(self, *, power_cut: bool) -> None:
        self.up = False
        self._logged |= self.gadget is not None and self.gadget.has_log
        self.gadget = self.sync = None
        self.heard.clear()
        self._unread.clear()
        if power_cut:
            self.disk.cut_power()
        else:
            self.disk.end_process()
        if self.liar is not None:
            self.liar.on_crash(self)

    async def work(self, work: Callable[[], T], /) -> T:
        """Do what takes a real node a thread; the power may be cut before and after, and the disk be waited for."""
        self.hazard()
        result = work()
        if self.disk.waited_ms:
            waited, self.disk.waited_ms = self.disk.waited_ms, 0
            await trio.sleep(waited / 1000)
        self.hazard()
        return result

    async def _import(self, blocks: Sequence[SealedBlock]) -> None:
        before = self.head
        await self.ledger.import_blocks(blocks)
        if self.gadget is None:
            return
        for seal in (sealed.seal for sealed in blocks if before < sealed.seal.height <= self.head):
            signed = has_signed(self.ledger.validators(seal.height), seal, self.key)
            self.gadget.advanced(seal.height, signed=signed)

    # --- the network, as consensus sees it (`consensus.host.Transport`) ---

    def broadcast(self, frame: bytes) -> None:
        self.hazard()
        message = decode(frame)
        if self.liar is None:
            self.monitor.said(self.member, message, self.disk.durable(WAL_PATH), self.head)
        for other in self.network.nodes:
            if other is not self:
                self._send(other, message, frame)

    def send(self, peer: bytes, frame: bytes) -> None:
        other = next((node for node in self.network.nodes if peer_id(node.name) == peer), None)
        if other is not None:
            self._send(other, decode(frame), frame)

    def tell_all(self, message: Message) -> None:
        """Send everybody something that its gadget did not say."""
        for other in self.network.nodes:
            if other is not self:
                self.network.send(self, other, encode(message))

    def _send(self, receiver: Node, message: Message, frame: bytes) -> None:
        if self.liar is None or not self.seated:
            self.network.send(self, receiver, frame)
        else:
            for told in self.liar.tells(self, receiver, message):
                self.network.send(self, receiver, encode(told))

    # --- what others bring ---

    def deliver(self, peer: bytes, frame: bytes) -> None:
        """Take a frame of consensus."""
        if self._process.stopped:
            self._leave_unread(partial(self.deliver, peer, frame))
        elif self.up and self.gadget is not None:
            if not self.gadget.deliver(peer, frame):
                self._on_fault(peer, "a malformed frame")
            # Two liars that answer each other would fill the network for ever.
            if (
                self.liar is not None
                and self.seated
                and any(node.honest and peer_id(node.name) == peer for node in self.network.nodes)
            ):
                self.liar.hears(self, decode(frame))

    def foreign_signature(self, index: int, message: bytes) -> bytes:
        """What another validator signed with its key elsewhere: on a test chain, or in an earlier set."""
        key = self.validators.authorities[index].bls_key
        return bls.sign(next(node.secret for node in self.network.nodes if node.key == key), message)

    def hear_of(self, peer: bytes, height: int, block_hash: Hash) -> None:
        """Take a peer's status."""
        if self._process.stopped:
            self._leave_unread(partial(self.hear_of, peer, height, block_hash))
        elif self.up and self.sync is not None:
            self.heard[peer] = (height, block_hash)
            self.sync.on_status(peer, height, block_hash)

    def _leave_unread(self, read: Callable[[], None]) -> None:
        if len(self._unread) < UNREAD_MAX:
            self._unread.append(read)

    async def blocks(self, start: int, count: int) -> list[bytes] | None:
        """What it answers who asks for blocks; None for nothing."""
        await self._process.going()
        found = self.ledger.sealed_blocks(start, count)
        return found if self.liar is None else await self.liar.blocks(self, start, count, found)

    def claimed_best(self) -> tuple[int, Hash]:
        """The best block that it says it has."""
        return self.ledger.best() if self.liar is None else self.liar.claims(self)

    # --- what it finds out ---

    def on_committed(self, sealed: SealedBlock) -> None:
        """A block became its head."""
        if self.liar is None:
            self.monitor.committed(self.member, sealed)
            height = sealed.block.header.height + 1
            self.monitor.decides(self.member, height, self.ledger.validators(height))
        self.network.announce(self, *self.claimed_best())

    def on_penalty(self, peer: bytes, points: float, reason: str) -> None:
        """Its synchroniser holds something against a peer."""
        if points >= FALSE_POINTS:
            self._on_fault(peer, reason)

    def _on_fault(self, peer: bytes | None, reason: str) -> None:
        if self.liar is not None:
            return
        if peer is None:
            # A proposal is invalid: whose, its hash does not tell; one's own never is, and without liars nobody's.
            own = reason.startswith("this node built")
            if own or not self.monitor.liars:
                self.monitor.blamed(self.member, self.member if own else None, reason)
            return
        other = next(node for node in self.network.nodes if peer_id(node.name) == peer)
        self.monitor.blamed(self.member, other.member, reason)

    def _on_equivocation(self, evidence: Equivocation) -> None:
        if self.liar is None:
            self.monitor.equivocated(self.member, evidence)
            self.ledger.accuse(evidence)
