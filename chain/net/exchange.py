"""Peer exchange: tells peers of each other, and dials those that they tell of; no peer can make us dial the world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import trio

from chain.net.dialer import Bootnode, Dialer
from chain.net.messages import PEERS_COUNT_MAX, Peers
from chain.net.peer import Peer
from chain.net.reputation import is_address, is_loopback

# Addresses learned from peers that are dialled at once; more would let a liar make us dial the world.
LEARNED_MAX = 64
LEARNED_ATTEMPTS_MAX = 8
# Whoever has the higher identity waits this long, so that two nodes that hear of each other dial once.
YIELD_S = 1.0


class PeerExchange:
    """`own` is our identity, `peers` the table of who is connected, which the network keeps."""

    def __init__(self, own: bytes, peers: Mapping[bytes, Peer], dialer: Dialer) -> None:
        self._own = own
        self._peers = peers
        self._dialer = dialer
        self._learned: set[bytes] = set()

    def introduce(self, peer: Peer) -> None:
        """Tell the new peer of the others and the others of it."""
        others = [other for other in self._peers.values() if other is not peer]
        known = [entry for other in others if (entry := _entry(other, peer)) is not None]
        if known:
            peer.send(Peers(tuple(known[:PEERS_COUNT_MAX])))
        for other in others:
            if (entry := _entry(peer, other)) is not None:
                other.send(Peers((entry,)))

    def learn(self, source: Peer, peers: Sequence[tuple[bytes, str, int]], nursery: trio.Nursery) -> None:
        """Dial nodes that a peer knows; it may not send us to our own machine unless it is on it."""
        for identity, host, port in peers:
            known = identity == self._own or identity in self._learned or identity in self._peers
            if known or len(self._learned) >= LEARNED_MAX:
                continue
            if not is_address(host) or (is_loopback(host) and not is_loopback(source.host)):
                continue
            self._learned.add(identity)
            nursery.start_soon(self._keep, Bootnode(host, port, identity), identity)

    async def _keep(self, node: Bootnode, identity: bytes) -> None:
        try:
            if self._own > identity:
                await trio.sleep(YIELD_S)
            await self._dialer.keep(node, LEARNED_ATTEMPTS_MAX)
        finally:
            self._learned.discard(identity)


def _entry(peer: Peer, to: Peer) -> tuple[bytes, str, int] | None:
    """How to reach `peer`, for `to`; None when it does not listen or is on a machine that `to` cannot mean."""
    if peer.hello.listen_port == 0 or (is_loopback(peer.host) and not is_loopback(to.host)):
        return None
    return peer.id, peer.host, peer.hello.listen_port
