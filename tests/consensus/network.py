"""Four (or any number of) real gadgets with real keys and logs, joined in memory: the kit of the gadget tests."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

import trio

from chain.primitives import bls
from chain.primitives.hashing import blake2_256
from chain.primitives.seal import Authority, Seal, ValidatorSet, has_signed, verify_seal
from consensus.gadget import Gadget
from consensus.host import InvalidProposal, Premature, RunInThread, Superseded, Timing
from consensus.lookback import Past
from consensus.messages import Message, decode
from consensus.tally import Equivocation
from consensus.voice import BlsSigner

T = TypeVar("T")

GENESIS = bytes(31) + b"\x01"
TIMING = Timing(block_time_ms=1000, timeout_ms=2000, timeout_ms_max=8000, resend_ms=500)


async def inline(work: Callable[[], T], /) -> T:
    """Run CPU work on the spot: a virtual clock must not jump while a thread is at it."""
    await trio.lowlevel.checkpoint()
    return work()


@cache
def secret(index: int) -> bytes:
    return bls.keygen(index.to_bytes(32, "big"))


@cache
def validator_set(n: int, set_id: int = 0) -> ValidatorSet:
    return ValidatorSet(
        set_id, tuple(Authority(index.to_bytes(32, "big"), bls.public_key(secret(index))) for index in range(n))
    )


def digest_of(payload: bytes) -> bytes:
    return blake2_256(payload)


class MemoryHost:
    """A ledger of payloads that say which height, view and validator they are of. It survives its gadget."""

    genesis_hash = GENESIS

    def __init__(self, validators: ValidatorSet, me: int) -> None:
        self.set = validators
        self.me = me
        self.blocks: list[tuple[bytes, Seal]] = []
        self.parent_seals: dict[int, Seal | None] = {}  # By the height that this host built a payload for.
        self.refuse: Callable[[bytes], bool] = lambda payload: False  # noqa: ARG005
        self.clock_is_slow = False  # Whatever another validator built is from the future.
        self.on_commit = trio.Event()

    @property
    def head(self) -> int:
        return len(self.blocks)

    def validators(self, height: int) -> ValidatorSet:
        assert height == self.head + 1
        return self.set

    async def build(self, height: int, view: int, parent_seal: Seal | None) -> bytes:
        if height != self.head + 1:
            raise Superseded
        if parent_seal is not None:
            assert verify_seal(self.set, GENESIS, parent_seal)
            assert (parent_seal.height, parent_seal.block_hash) == (height - 1, digest_of(self.blocks[-1][0]))
        self.parent_seals[height] = parent_seal
        return f"{height} {view} {self.me} ".encode() + bytes(200)

    async def check(self, height: int, view: int, payload: bytes, *, decided: bool) -> bytes:
        if height != self.head + 1:
            raise Superseded
        parts = payload.split(b" ")
        if len(parts) != 4 or int(parts[0]) != height or int(parts[1]) > view or self.refuse(payload):
            raise InvalidProposal(f"expected a payload of height {height}, got {payload[:20]!r}")
        if self.clock_is_slow and int(parts[2]) != self.me and not decided:
            raise Premature("from the future")
        return digest_of(payload)

    async def commit(self, height: int, payload: bytes, seal: Seal) -> None:
        self.import_block(height, payload, seal)

    def import_block(self, height: int, payload: bytes, seal: Seal) -> None:
        assert verify_seal(self.set, GENESIS, seal)
        assert (seal.height, seal.block_hash) == (height, digest_of(payload))
        if height == self.head + 1:
            self.blocks.append((payload, seal))
            self.on_commit.set()
            self.on_commit = trio.Event()
        else:
            assert self.blocks[height - 1][0] == payload


@dataclass
class Node:
    host: MemoryHost
    gadget: Gadget = field(init=False)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    faults: list[tuple[bytes | None, str]] = field(default_factory=list)
    equivocations: list[Equivocation] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    behind: list[int] = field(default_factory=list)

    def on_fault(self, peer: bytes | None, reason: str) -> None:
        self.faults.append((peer, reason))


class Network:
    """Delivers frames after a delay unless `lost` says otherwise; syncs a node that says that it is behind."""

    def __init__(
        self,
        nursery: trio.Nursery,
        folder: Path,
        n: int,
        timing: Timing = TIMING,
        run: RunInThread = inline,
        delay: float = 0.01,
    ) -> None:
        self.nursery, self.folder, self.n, self.timing, self.run, self.delay = nursery, folder, n, timing, run, delay
        self.set = validator_set(n)
        self.hosts = [MemoryHost(self.set, index) for index in range(n)]
        self.nodes: dict[int, Node] = {}
        self.sent: list[tuple[int, Message]] = []
        self.lost: Callable[[int, int, Message], bool] = lambda sender, receiver, message: False  # noqa: ARG005
        self.syncing = True

    async def start(self, *indices: int, past: Past = Past.KNOWN) -> None:
        for index in indices:
            node = Node(self.hosts[index])
            node.gadget = Gadget(
                node.host,
                Transport(self, index),
                BlsSigner(secret(index), self.run),
                self.folder / f"{index}.wal",
                self.timing,
                self.hosts[index].head + 1,
                on_behind=partial(self._behind, index),
                on_fault=node.on_fault,
                on_equivocation=node.equivocations.append,
                on_notice=node.notices.append,
                past=past,
                run=self.run,
            )
            self.nodes[index] = node
            await self.nursery.start(self._run, node)

    async def _run(self, node: Node, task_status: trio.TaskStatus[None]) -> None:
        with node.scope:
            await node.gadget.run(task_status)

    def kill(self, index: int) -> None:
        self.nodes.pop(index).scope.cancel()

    def _behind(self, index: int, height: int) -> None:
        self.nodes[index].behind.append(height)
        if self.syncing:
            self.sync(index)

    def sync(self, index: int) -> None:
        host = self.hosts[index]
        best = max((self.hosts[other] for other in self.nodes), key=lambda other: other.head)
        for height in range(host.head + 1, best.head + 1):
            payload, seal = best.blocks[height - 1]
            host.import_block(height, payload, seal)
            signed = has_signed(self.set, seal, bls.public_key(secret(index)))
            self.nodes[index].gadget.advanced(height, signed=signed)

    async def reach(self, height: int, *indices: int) -> None:
        for index in indices or tuple(self.nodes):
            while self.hosts[index].head < height:
                await self.hosts[index].on_commit.wait()

    def agreed(self) -> list[bytes]:
        """Return the chain, after checking that all hosts have the same."""
        longest = max((host.blocks for host in self.hosts), key=len)
        for host in self.hosts:
            assert [payload for payload, _ in host.blocks] == [payload for payload, _ in longest[: host.head]]
        return [payload for payload, _ in longest]

    async def carry(self, sender: int, receiver: int, frame: bytes) -> None:
        await trio.sleep(self.delay)
        if receiver in self.nodes:
            assert self.nodes[receiver].gadget.deliver(peer_id(sender), frame)


def peer_id(index: int) -> bytes:
    return f"node {index}".encode()


class Transport:
    def __init__(self, network: Network, me: int) -> None:
        self.network, self.me = network, me

    def broadcast(self, frame: bytes) -> None:
        self.network.sent.append((self.me, decode(frame)))
        for other in range(self.network.n):
            if other != self.me:
                self._send(other, frame)

    def send(self, peer: bytes, frame: bytes) -> None:
        self.network.sent.append((self.me, decode(frame)))
        self._send(int(peer.split()[1]), frame)

    def _send(self, receiver: int, frame: bytes) -> None:
        if not self.network.lost(self.me, receiver, decode(frame)):
            self.network.nursery.start_soon(self.network.carry, self.me, receiver, frame)
