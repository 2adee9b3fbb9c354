"""Peer exchange: tells peers of nodes that were found, and dials those that they tell of; nobody can fill its places.

The rule: others are told only where we ourselves have reached a node, which its key has proven. What they tell us is a
hint, dialled a few times; how many hints count is bounded for all peers in one part of the internet together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random

import trio

from chain.net.book import AddressBook, group_of
from chain.net.dialer import Bootnode, Dialer
from chain.net.messages import PEERS_COUNT_MAX, Peers
from chain.net.peer import Peer
from chain.net.reputation import is_address, is_loopback

# Nodes that are kept up with because somebody told of them, connected or being dialled.
LEARNED_MAX = 256
# Of these what peers of one part of the internet have told, and have yet to prove true: two full messages.
HINTS_PER_GROUP_MAX = 2 * PEERS_COUNT_MAX
# Of those being dialled at once: who tells of addresses that hang costs us as many sockets.
DIALS_PER_GROUP_MAX = 8
# A hint is tried so often, a node that was found once longer: it restarts.
HINT_ATTEMPTS_MAX = 3
FOUND_ATTEMPTS_MAX = 8
# Where peers say that they are is looked at this many at a time, and twice for each connection.
PROBES_MAX = 4
# Beyond these a peer's address is not looked at: who comes and goes with ever new names must not fill the memory.
PROBES_WAITING_MAX = 256
# How often the book is looked through, and how many of it are dialled at once.
REVISIT_S = 10.0
REVISITS_MAX = 8
# Enough peers: beyond them, places are for who comes.
PEERS_WANTED = 64
# Whoever has the higher identity waits this long, so that two nodes that hear of each other dial once.
YIELD_S = 1.0

Probe = Callable[[Bootnode], Awaitable[bool]]


class PeerExchange:
    """`own` is our identity, `public` where others find us, if somebody has said; `peers` is the network's table.

    `probe(node)` says whether a node answers at its address. `now()` is Unix time.
    """

    def __init__(
        self,
        own: bytes,
        public: tuple[str, int] | None,
        peers: Mapping[bytes, Peer],
        dialer: Dialer,
        book: AddressBook,
        probe: Probe,
        now: Callable[[], int],
        rng: Random,
    ) -> None:
        self._own = own
        self._public = public
        self._peers = peers
        self._dialer = dialer
        self._book = book
        self._probe = probe
        self._now = now
        self._rng = rng
        self._found: dict[bytes, tuple[str, int]] = {}  # where connected peers were reached
        self._probed: Counter[bytes] = Counter()
        self._probing = trio.CapacityLimiter(PROBES_MAX)
        self._learned: set[bytes] = set()
        self._hints: Counter[str] = Counter()
        self._dialling: dict[str, trio.CapacityLimiter] = {}
        self._hinted_by: dict[bytes, str] = {}  # whose place each hint takes until it has proven true

    async def run(self) -> None:
        """Keep up with the nodes in the book, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                busy = {self._own, *self._peers, *self._learned}
                for number, node in enumerate(list(self._book.due(self._now(), busy))):
                    if number == REVISITS_MAX or max(len(self._peers), len(self._learned)) >= PEERS_WANTED:
                        break
                    assert node.identity is not None
                    self._learned.add(node.identity)
                    nursery.start_soon(self._keep, node, node.identity)
                await trio.sleep(REVISIT_S)

    def introduce(self, peer: Peer, nursery: trio.Nursery) -> None:
        """Tell the new peer of others and, once it was reached at its address, the others of it."""
        self._proven(peer.id)
        if self._public is not None:
            peer.send(Peers(((self._own, *self._public),)))
        if known := self._known_to(peer):
            peer.send(Peers(known))
        if peer.dialled_at is not None:
            self._reached(peer, *peer.dialled_at)
        elif peer.hello.listen_port:
            nursery.start_soon(self._look, peer, peer.host, peer.hello.listen_port)

    def gone(self, peer: Peer) -> None:
        """The peer is not connected any more."""
        self._found.pop(peer.id, None)
        self._probed.pop(peer.id, None)

    def learn(self, source: Peer, peers: Sequence[tuple[bytes, str, int]], nursery: trio.Nursery) -> None:
        """Dial nodes that a peer knows; it may not send us to our own machine unless it is on it."""
        for identity, host, port in peers:
            if not is_address(host) or (is_loopback(host) and not is_loopback(source.host)):
                continue
            if identity == source.id:
                nursery.start_soon(self._look, source, host, port)
            elif identity != self._own and identity not in self._learned and identity not in self._peers:
                self._take_hint(source, Bootnode(host, port, identity), identity, nursery)

    def _take_hint(self, source: Peer, node: Bootnode, identity: bytes, nursery: trio.Nursery) -> None:
        group, _ = group_of(source.host)
        if len(self._learned) >= LEARNED_MAX or self._hints[group] >= HINTS_PER_GROUP_MAX:
            return
        self._learned.add(identity)
        self._hints[group] += 1
        self._hinted_by[identity] = group
        nursery.start_soon(self._try, node, identity, group)

    async def _try(self, node: Bootnode, identity: bytes, group: str) -> None:
        """Follow a hint when it is its turn; the turn is over when the node was reached."""
        limiter = self._dialling.setdefault(group, trio.CapacityLimiter(DIALS_PER_GROUP_MAX))
        try:
            await limiter.acquire_on_behalf_of(identity)
            if identity not in self._hinted_by:  # It has come to us meanwhile.
                _release(limiter, identity)
            await self._keep(node, identity)
        finally:
            self._learned.discard(identity)
            self._proven(identity)

    def _proven(self, identity: bytes) -> None:
        """Give back the place of a hint."""
        group = self._hinted_by.pop(identity, None)
        if group is None:
            return
        self._hints[group] -= 1
        # A node that comes right after it was told of is here before its hint was begun with.
        if (limiter := self._dialling.get(group)) is not None:
            _release(limiter, identity)
        if not self._hints[group]:
            del self._hints[group]
            self._dialling.pop(group, None)

    async def _keep(self, node: Bootnode, identity: bytes) -> None:
        try:
            if self._own > identity:
                await trio.sleep(YIELD_S)
            await self._dialer.keep(node, FOUND_ATTEMPTS_MAX if identity in self._book else HINT_ATTEMPTS_MAX)
        finally:
            self._learned.discard(identity)
            if identity not in self._peers:
                self._book.failed(identity, self._now())

    async def _look(self, peer: Peer, host: str, port: int) -> None:
        """See whether the peer answers where it says that it is, or seems to be."""
        if self._found.get(peer.id) == (host, port) or self._probed[peer.id] >= 2:
            return
        if self._probing.statistics().tasks_waiting >= PROBES_WAITING_MAX:
            return
        self._probed[peer.id] += 1
        async with self._probing:
            if self._peers.get(peer.id) is not peer:  # It went while it waited.
                return
            answers = await self._probe(Bootnode(host, port, peer.id))
        if answers and self._peers.get(peer.id) is peer:
            self._reached(peer, host, port)

    def _reached(self, peer: Peer, host: str, port: int) -> None:
        self._book.worked(peer.id, host, port, self._now())
        self._found[peer.id] = host, port
        for other in list(self._peers.values()):
            if other is not peer and _may_know(host, other):
                other.send(Peers(((peer.id, host, port),)))

    def _known_to(self, peer: Peer) -> tuple[tuple[bytes, str, int], ...]:
        """Whom to tell a peer of: those who are connected, then others of the book, as many as one message has."""
        connected = [(identity, *place) for identity, place in self._found.items()]
        others = [
            (entry.identity, entry.host, entry.port)
            for entry in self._book.fresh(self._now())
            if entry.identity not in self._found
        ]
        # Nobody is always among those that are left out.
        self._rng.shuffle(connected)
        self._rng.shuffle(others)
        told = [one for one in (*connected, *others) if one[0] != peer.id and _may_know(one[1], peer)]
        return tuple(told[:PEERS_COUNT_MAX])


def _release(limiter: trio.CapacityLimiter, identity: bytes) -> None:
    """Give back a place, if it has one: who has just got it may have lost it again before it goes on."""
    if identity in limiter.statistics().borrowers:
        limiter.release_on_behalf_of(identity)


def _may_know(host: str, peer: Peer) -> bool:
    """Whether an address means the same node to a peer: ours on this machine does so on this machine alone."""
    return not is_loopback(host) or is_loopback(peer.host)
