"""The network of a simulation: loses, delays, reorders and doubles what it carries, and falls apart, by one seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

import trio

from chain.net.errors import PeerGone, PeerUnavailable
from chain.net.messages import Role
from chain.net.peer import PeerInfo
from chain.primitives.hashing import Hash
from chain.primitives.seal import Phase
from chain.simulation.clock import VirtualClock

if TYPE_CHECKING:
    from chain.simulation.node import Node

# What a peer may answer with at most, as the real network has it for one message.
ANSWER_BYTES_MAX: Final = 4 * 1024 * 1024


# Where a frame says that it is a commit: a vote's variant, height and view come before its phase.
_VOTE: Final = slice(0, 10, 9)
_COMMIT: Final = bytes((0, Phase.COMMIT))


@dataclass(slots=True)
class Weather:
    """What befalls messages. `cut` says of two nodes' names that nothing gets from the first to the second."""

    loss: float = 0.0
    duplication: float = 0.0
    delay_ms_min: int = 1
    delay_ms_max: int = 20
    cut: Callable[[int, int], bool] | None = None
    lost_commits: float = 0.0  # Commits alone: what was prepared stays locked, and hidden.


def peer_id(name: int) -> bytes:
    return b"node %d" % name


class Network:
    """Carries frames and statuses between the nodes that are up."""

    def __init__(self, rng: Random) -> None:
        self.weather = Weather()
        self.nodes: list[Node] = []
        self.messages = 0
        self.sent_bytes = 0
        self._rng = rng
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, VirtualClock)
        self._clock = clock

    async def run(self) -> None:
        """Deliver what is due, until cancelled."""
        await self._clock.run()

    def after(self, ms: int, action: Callable[[], object]) -> None:
        """Do something so much later."""
        self._clock.after(ms, action)

    def connected(self, one: Node, other: Node) -> bool:
        """Whether the two could talk now."""
        cut = self.weather.cut
        return (
            one.up and other.up and not (cut is not None and (cut(one.name, other.name) or cut(other.name, one.name)))
        )

    def send(self, sender: Node, receiver: Node, frame: bytes) -> None:
        """Send a frame of consensus, which may be lost, doubled, delayed and overtaken."""
        weather, rng = self.weather, self._rng
        self.messages += 1
        self.sent_bytes += len(frame)
        if weather.cut is not None and weather.cut(sender.name, receiver.name):
            return
        if weather.lost_commits and frame[_VOTE] == _COMMIT and rng.random() < weather.lost_commits:
            return
        for _ in range(2 if weather.duplication and rng.random() < weather.duplication else 1):
            if not (weather.loss and rng.random() < weather.loss):
                delay = rng.randint(weather.delay_ms_min, weather.delay_ms_max)
                self.after(delay, lambda: receiver.deliver(peer_id(sender.name), frame))

    def announce(self, sender: Node, height: int, block_hash: Hash) -> None:
        """Tell everybody who is connected of a node's best block; whoever is not hears of it once it is."""
        for receiver in self.nodes:
            if receiver is not sender and self.connected(sender, receiver):
                delay = self._rng.randint(self.weather.delay_ms_min, self.weather.delay_ms_max)
                self.after(delay, lambda r=receiver: r.hear_of(peer_id(sender.name), height, block_hash))  # type: ignore[misc]

    def reconnect(self) -> None:
        """Whoever is connected tells its best block again, as new connections begin."""
        for node in self.nodes:
            if node.up:
                self.announce(node, *node.claimed_best())


class Neighbourhood:
    """The network as one node's synchroniser sees it (`chain.sync.peers.Peers`)."""

    def __init__(self, network: Network, node: Node) -> None:
        self._network = network
        self._node = node
        self.penalties: dict[bytes, float] = {}

    def peers(self) -> list[PeerInfo]:
        """Those within reach that have said what they have."""
        return [
            PeerInfo(
                peer_id(other.name), "", 0, Role.VALIDATOR, False, *self._node.heard[peer_id(other.name)], 0.0, None
            )
            for other in self._network.nodes
            if peer_id(other.name) in self._node.heard and self._network.connected(self._node, other)
        ]

    async def request_blocks(self, peer: bytes, start: int, count: int, deadline_s: float) -> list[bytes]:
        """Ask a node; what it answers is its own affair."""
        other = next(node for node in self._network.nodes if peer_id(node.name) == peer)
        weather = self._network.weather
        with trio.move_on_after(deadline_s):
            if not self._network.connected(self._node, other):
                raise PeerGone("not connected")
            await trio.sleep(2 * weather.delay_ms_max / 1000)
            if not self._network.connected(self._node, other):
                raise PeerGone("the connection is lost")
            answer = await other.blocks(start, count)
            if answer is not None:
                return answer
            await trio.sleep_forever()
        raise PeerUnavailable(f"no answer within {deadline_s} s")

    def note_helper(self, peer: bytes) -> None:
        """Helpers need no reward here."""

    def penalise(self, peer: bytes, points: float, reason: str) -> None:
        """Held against a peer: the monitor says whether that may be."""
        self.penalties[peer] = self.penalties.get(peer, 0.0) + points
        self._node.on_penalty(peer, points, reason)
