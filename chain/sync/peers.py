"""What those who fetch need of the network: `chain.net.network.Network` is one, and so are a simulator's neighbours."""

from __future__ import annotations

from typing import Protocol

from chain.net.messages import Handovers, StateNodes
from chain.net.peer import PeerInfo
from chain.primitives.hashing import Hash


class Peers(Protocol):
    """What those who fetch need of the network (`chain.net.network.Network`)."""

    def peers(self) -> list[PeerInfo]:
        """Everyone connected."""

    async def request_blocks(self, peer: bytes, start: int, count: int, deadline_s: float) -> list[bytes]:
        """Sealed blocks; `PeerUnavailable` when the peer does not answer."""

    def note_helper(self, peer: bytes) -> None:
        """A peer gave what it promised."""

    def penalise(self, peer: bytes, points: float, reason: str) -> None:
        """Hold something against a peer."""


class WarpPeers(Peers, Protocol):
    """What a warp needs of the network besides blocks."""

    async def request_handovers(self, peer: bytes, set_id: int, deadline_s: float) -> Handovers:
        """The last blocks of validator sets; `PeerUnavailable` when the peer does not answer."""

    async def request_state(self, peer: bytes, block_hash: Hash, after: bytes, deadline_s: float) -> StateNodes:
        """A part of a state; `PeerUnavailable` when the peer does not answer."""
