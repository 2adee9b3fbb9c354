"""The nodes of one simulated chain, what they share, and how long they may take for what they must do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from random import Random
from typing import Final, Protocol

import trio

from chain.primitives import bls
from chain.primitives.hashing import Hash
from chain.primitives.seal import ValidatorSet
from chain.simulation.clock import now_ms
from chain.simulation.ledger import MemoryWorld
from chain.simulation.liars import LIARS
from chain.simulation.monitor import Monitor, Violation
from chain.simulation.network import Network, Weather
from chain.simulation.node import Ledger, Node
from consensus.host import Timing

TIMING: Final = Timing(block_time_ms=200, timeout_ms=500, timeout_ms_max=4000, resend_ms=250)
# How often those who wait for a height look.
LOOK_MS: Final = 50


class World(Protocol):
    """What the nodes of a chain decide on: where it begins, who decides, and the ledger of each."""

    genesis_hash: Hash
    genesis_time_ms: int
    validators: ValidatorSet  # The first.
    secrets: tuple[bytes, ...]  # Every member's: of those in the first set, then of those who may join one later.
    timing: Timing

    def ledger(self, node: Node) -> Ledger:
        """A node's ledger, which survives its power cuts."""


class Cluster:
    """Nodes in one network. Made inside a trio run; `liars` says which members lie, and how."""

    def __init__(self, n: int, seed: int, liars: Mapping[int, str] | None = None, world: World | None = None) -> None:
        self.world: World = world if world is not None else MemoryWorld(n, TIMING)
        self.rng = Random(seed)
        self.liars = dict(liars or {})
        keys = {bls.public_key(secret): member for member, secret in enumerate(self.world.secrets)}
        self.monitor = Monitor(keys, self.world.genesis_hash, frozenset(self.liars), self.world.timing)
        self.monitor.decides(0, 1, self.world.validators)
        # The most faults that a set of them may tolerate.
        self.f = (len(keys) - 1) // 3
        self.network = Network(Random(self.rng.random()))
        self.wrong_clocks: list[Node] = []  # Whoever's clock is wrong, or may jump.
        members = [*keys.values(), *(member for member, kind in sorted(self.liars.items()) if kind == "twins")]
        for name, member in enumerate(members):
            rng = Random(self.rng.random())
            node = Node(name, member, self.world.secrets[member], self.network, self.monitor, self.world.timing, rng)
            node.clock = partial(self._clock, node)
            if member in self.liars:
                node.liar = LIARS[self.liars[member]](rng)
            node.ledger = self.world.ledger(node)
            self.network.nodes.append(node)

    @property
    def nodes(self) -> list[Node]:
        return self.network.nodes

    @property
    def honest(self) -> list[Node]:
        return [node for node in self.nodes if node.honest]

    @property
    def head(self) -> int:
        """The highest block that an honest node has."""
        return max(node.head for node in self.honest)

    @property
    def leader(self) -> int:
        """Which node leads the highest view of the highest height; -1 while nobody runs."""
        states = [(node.gadget.state, node) for node in self.nodes if node.gadget is not None]
        if not states:
            return -1
        top, there = max(states, key=lambda found: (found[0].height, found[0].view))
        key = there.ledger.validators(top.height).primary(top.height, top.view).bls_key
        return next(node.name for node in self.nodes if node.key == key)

    def start(self, nursery: trio.Nursery, but: Iterable[int] = ()) -> None:
        """Let the network run, and all nodes but some."""
        nursery.start_soon(self.network.run)
        for node in self.nodes:
            if node.name not in but:
                nursery.start_soon(node.run)

    async def reach(self, height: int, within_ms: int, what: str = "progress") -> None:
        """Wait until every honest node has a block; a Violation if it takes longer."""
        end = now_ms() + within_ms
        while any(node.head < height for node in self.honest):
            if now_ms() >= end:
                raise Violation(f"no {what}: height {height} is not reached within {within_ms} ms: {self.describe()}")
            await trio.sleep(LOOK_MS / 1000)

    def calm(self) -> None:
        """End all that befalls messages and machines. Liars lie on, and clocks stay wrong."""
        self.network.weather = Weather()
        for node in self.nodes:
            node.crash = 0.0
            node.disk.sync_ms = 0
            node.disk.full = False
            node.disk.errors = 0.0
            node.go_on()
        self.network.reconnect()

    @property
    def recovery_ms(self) -> int:
        """How long the next block may take once all is calm.

        Views that liars lead fail, each after the greatest time-out; a replica that comes late to one doubles that; and
        sync leaves who failed it alone for a while.
        """
        return 2 * (self.f + 2) * self.world.timing.timeout_ms_max + 10_000

    @property
    def height_ms(self) -> int:
        """How long each further height may take: views of liars fail, with time-outs that begin small again."""
        timing = self.world.timing
        return timing.block_time_ms + (timing.timeout_ms << self.f + 1) + 2000

    def describe(self) -> str:
        """Where every node is."""
        parts = []
        for node in self.nodes:
            state = None if node.gadget is None else node.gadget.state
            where = "down" if state is None else f"height {state.height} view {state.view} {state.phase}"
            parts.append(f"{node.name}: head {node.head}, {where}")
        return "; ".join(parts)

    def _clock(self, node: Node) -> int:
        return self.world.genesis_time_ms + now_ms() + node.clock_skew_ms
