"""The node's network: listens, dials, keeps a table of peers, and moves what the node says and hears.

The rule: sending never waits and never fails; whatever one peer does is that peer's end at most.
"""

from __future__ import annotations

import errno
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial
from random import Random

import trio

from chain.blobs import BlobChunks
from chain.log import Log
from chain.net.book import AddressBook
from chain.net.dialer import CONNECT_S, Bootnode, Dialer
from chain.net.errors import PeerError, PeerGone, PeerUnavailable, PortInUse
from chain.net.exchange import PeerExchange
from chain.net.fetch import Fetch, fetch_chunks
from chain.net.gossip import Gossip, batches
from chain.net.handler import SERVING_THREADS, Handler, Server
from chain.net.handshake import RefusedByPeer, RefusedByUs, greet, identify, judge_hello
from chain.net.messages import (
    BLOCKS_COUNT_MAX,
    HANDOVERS_COUNT_MAX,
    PROTOCOL_VERSION,
    TRANSACTIONS_COUNT_MAX,
    Blocks,
    Chunks,
    Consensus,
    GetBlocks,
    GetChunks,
    GetHandovers,
    GetState,
    Handovers,
    HaveTransactions,
    Hello,
    Message,
    Peers,
    Ping,
    Pong,
    Refusal,
    Refused,
    Role,
    StateNodes,
    Status,
    Transactions,
    WantTransactions,
    pack,
)
from chain.net.outbox import Lane
from chain.net.peer import Peer, PeerInfo
from chain.net.reputation import FAILED_HANDSHAKE_POINTS, Reputation
from chain.net.reserved import Reserved
from chain.net.tls import make_context
from chain.net.traffic import Traffic
from chain.pace import Turns
from chain.pile import Pile
from chain.primitives.hashing import Hash
from chain.primitives.keys import Keypair

log = Log("net")

# A committee of 64 fits; an idle peer costs about 200 kB.
PEERS_MAX = 80
# Places that strangers who dial us cannot take, so that we always reach whom we want.
PEERS_DIALLED_RESERVED = 16
# When all places are taken, who dialled us and was of no use for so long goes; a validator votes every second.
PROBATION_S = 10.0
# What a banned identity costs the address that it came from: the fourth bans that, too.
BANNED_IDENTITY_POINTS = 30.0
# A peer that was heard from within so long lives: each pings every five seconds. Of two nodes with one key, the one
# that lives keeps its connections; one that restarts after a power cut has to wait for so long.
LIVELY_S = 6.0
# Frames that have come in part, of all peers: a dozen of the largest at once. Past it, who left most goes.
UNFINISHED_BYTES_MAX = 96 * 1024 * 1024
# How often lost gossip is repaired and, every fifth time, our best height is repeated.
REPAIR_S = 1.0
STATUS_EVERY_REPAIRS = 5
# The next transactions are passed on no sooner than so long after the last, and together: a message costs as much as
# some twenty transactions in it. One that comes alone waits for nothing.
GOSSIP_S = 0.1


def head_of(identity: bytes) -> str:
    """Enough of a node's id to tell it from others, for logs."""
    return identity.hex()[:8]


class Network:
    """One node's network. `run` it once inside a nursery; all other methods belong to the same event loop.

    `best()` gives the height and hash of our newest sealed block; `lowest` is the height from which on we have every
    one. `listen` is (host, port); port 0 takes any free one. `name_of(id)` is what logs call a node. `public` is where
    others find us, if that is not where they see us; `book` has where nodes were found before.
    """

    def __init__(
        self,
        identity: Keypair,
        genesis_hash: Hash,
        listen: tuple[str, int],
        bootnodes: Sequence[tuple[str, int, bytes | None]],
        handler: Handler,
        best: Callable[[], tuple[int, Hash]],
        *,
        role: Role = Role.VALIDATOR,
        rng: Random | None = None,
        name_of: Callable[[bytes], str] = head_of,
        lowest: int = 0,
        public: tuple[str, int] | None = None,
        book: AddressBook | None = None,
    ) -> None:
        self.id = identity.public
        self._name_of = name_of
        self._genesis_hash = genesis_hash
        self._listen = listen
        self._listen_port = 0
        self._bootnodes = [Bootnode(*bootnode) for bootnode in bootnodes]
        self._handler = handler
        self._best = best
        self._lowest = lowest
        self._role = role
        self._rng = rng if rng is not None else Random(secrets.randbits(64))
        self._instance = secrets.randbits(64)
        self._accepting = make_context(identity.secret_seed, server_side=True)
        self._dialling = make_context(identity.secret_seed, server_side=False)
        self._peers: dict[bytes, Peer] = {}
        self.traffic = Traffic()
        self._reputation = Reputation()
        self._gossip = Gossip(self._rng)
        self._unpublished: list[bytes] = []
        self._to_publish = trio.Event()
        self._turns = Turns()
        self._unfinished = Pile(UNFINISHED_BYTES_MAX)
        self._nursery: trio.Nursery | None = None
        self._dialer = Dialer(self._converse_dialled, self._peers.get, self._banned_for, self._rng)
        self._reserved = Reserved(self._dialer.keep)
        self._exchange = PeerExchange(
            self.id,
            public,
            self._peers,
            self._dialer,
            AddressBook() if book is None else book,
            self._answers,
            lambda: int(time.time()),
            self._rng,
        )

    # ------------------------------------------------------------------ what the node calls

    async def run(self, task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen, dial and converse until cancelled. Started with the address that is listened on.

        Raises `PortInUse` before anything else happened.
        """
        host, port = self._listen
        try:
            listeners = await trio.open_tcp_listeners(port, host=host)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUse(port, "--port") from error
            raise
        self._listen_port = listeners[0].socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            server = Server(self._handler, trio.CapacityLimiter(SERVING_THREADS))
            self._serve = server.serve
            nursery.start_soon(partial(trio.serve_listeners, self._accept, listeners, handler_nursery=nursery))
            nursery.start_soon(self._publish)
            nursery.start_soon(self._repair)
            nursery.start_soon(self._exchange.run)
            for bootnode in self._bootnodes:
                nursery.start_soon(self._dialer.keep, bootnode)
            task_status.started((host, self._listen_port))

    @property
    def listen_port(self) -> int:
        """The port that is listened on, once `run` has started."""
        return self._listen_port

    def peers(self) -> list[PeerInfo]:
        """Everyone connected, by identity."""
        return [self._peers[key].info for key in sorted(self._peers)]

    def broadcast_consensus(self, frame: bytes) -> None:
        """Send a frame of the consensus gadget to every connected validator."""
        packed = pack(Consensus(frame))
        for peer in list(self._peers.values()):
            if peer.hello.role is Role.VALIDATOR:
                peer.send_frame(Lane.CONSENSUS, packed)

    def send_consensus(self, peer: bytes, frame: bytes) -> None:
        """Send a frame of the consensus gadget to one peer; nothing happens when it is not connected."""
        if (connected := self._peers.get(peer)) is not None:
            connected.send(Consensus(frame))

    def gossip_transactions(self, transactions: Sequence[bytes]) -> None:
        """Pass valid transactions on soon, our own or those that `Handler.on_transactions` was given."""
        self._unpublished.extend(transactions)
        self._to_publish.set()

    def postpone_transactions(self, transactions: Sequence[bytes]) -> None:
        """Ask again later for what `Handler.on_transactions` was given and had no room for."""
        self._gossip.postpone(transactions, trio.current_time())

    def announce(self, height: int, block_hash: Hash) -> None:
        """Tell every peer of our new best sealed block."""
        packed = pack(Status(height, block_hash))
        for peer in list(self._peers.values()):
            peer.send_frame(Lane.CONTROL, packed)

    async def request_blocks(self, peer: bytes, start: int, count: int, deadline_s: float) -> list[bytes]:
        """Sealed blocks from height `start` upwards, fewer than `count` when the peer has or sends fewer.

        Raises `PeerGone` when the peer is not connected any more, `PeerUnavailable` when it does not answer in time.
        """
        connected = self._connected(peer)
        count = min(count, BLOCKS_COUNT_MAX)
        answer = await connected.request(lambda request: GetBlocks(request, start, count), deadline_s)
        if not isinstance(answer, Blocks):
            raise AssertionError("the peer's answers are matched to requests by type")
        if len(answer.blocks) > count:
            self.penalise(peer, 100, f"sent {len(answer.blocks)} blocks, was asked for {count}")
            raise PeerUnavailable(f"peer {connected} sent more blocks than it was asked for")
        return list(answer.blocks)

    async def request_handovers(self, peer: bytes, set_id: int, deadline_s: float) -> Handovers:
        """The last blocks of validator sets from one on, as the peer sends them; raises as `request_blocks`."""
        answer = await self._connected(peer).request(
            lambda request: GetHandovers(request, set_id, HANDOVERS_COUNT_MAX), deadline_s
        )
        if not isinstance(answer, Handovers):
            raise AssertionError("the peer's answers are matched to requests by type")
        return answer

    async def request_state(self, peer: bytes, block_hash: Hash, after: bytes, deadline_s: float) -> StateNodes:
        """Nodes of the state after a block, as the peer sends them; raises as `request_blocks`."""
        answer = await self._connected(peer).request(lambda request: GetState(request, block_hash, after), deadline_s)
        if not isinstance(answer, StateNodes):
            raise AssertionError("the peer's answers are matched to requests by type")
        return answer

    def _connected(self, peer: bytes) -> Peer:
        connected = self._peers.get(peer)
        if connected is None:
            raise PeerGone(f"peer {self._name_of(peer)} is not connected")
        return connected

    async def fetch_blob(self, root: Hash, size_max: int) -> bytes | None:
        """The blob with this root from whichever peers have it, every chunk proven; None when none has it all or it
        is larger than `size_max` bytes."""
        return await Fetch(root, size_max, self._blame).run(self._peers_to_ask())

    async def fetch_chunks(self, root: Hash, first: int, count: int) -> BlobChunks | None:
        """Proven chunks of a blob from one peer after the other, up to CHUNKS_COUNT_MAX; None when none has them."""
        for peer in self._peers_to_ask():
            found = await fetch_chunks(peer, root, first, count, self._blame)
            if found is not None:
                return found
        return None

    def _peers_to_ask(self) -> list[Peer]:
        peers = list(self._peers.values())
        self._rng.shuffle(peers)
        # Whom we chose, or who has helped before, goes before strangers, who may only want to waste our time.
        peers.sort(key=self._is_of_use, reverse=True)
        return peers

    def _blame(self, peer: Peer, points: float, reason: str) -> None:
        self.penalise(peer.id, points, reason)

    def penalise(self, peer: bytes, points: float, reason: str) -> None:
        """Hold something against a peer: at 100 points it is disconnected and banned for a time."""
        now = trio.current_time()
        banned = self._reputation.penalise(peer, points, now)
        self.traffic.bans += banned
        end = "; banned" if banned else ""
        text = f"peer {self._name_of(peer)} loses {points:g} points: {reason}{end}"
        log.info(text, peer=peer, points=points, reason=reason, banned=banned)
        if banned and (connected := self._peers.get(peer)) is not None:
            connected.drop(f"banned: {reason}")
            # Identities cost nothing: an address that brings one bad one after the other is banned in the end.
            self._reputation.penalise(connected.host, BANNED_IDENTITY_POINTS, now)

    def note_helper(self, peer: bytes) -> None:
        """A peer gave us what proved true: it is asked first and keeps its place."""
        if (connected := self._peers.get(peer)) is not None:
            connected.helped = True

    def reserve(self, node: Bootnode) -> None:
        """Stay connected to a node whose identity is known, until it is released; raises `TooManyReserved`."""
        assert node.identity is not None
        assert self._nursery is not None
        self._reserved.add(node, node.identity, self._nursery)

    def release(self, identity: bytes) -> bool:
        """Reserve a node no longer; whether it was. It may stay connected for other reasons."""
        return self._reserved.remove(identity)

    def reserved(self) -> list[bytes]:
        """Who is reserved, connected or not."""
        return self._reserved.identities

    # ------------------------------------------------------------------ connections

    def _hello(self) -> Hello:
        height, block_hash = self._best()
        return Hello(
            PROTOCOL_VERSION,
            self._genesis_hash,
            height,
            block_hash,
            self._lowest,
            self._role,
            self._listen_port,
            self._instance,
        )

    def _banned_for(self, who: bytes | str) -> float:
        return self._reputation.banned_for(who, trio.current_time())

    async def _accept(self, tcp: trio.SocketStream) -> None:
        """One inbound connection, from the first byte to the last. Raises nothing."""
        peer: Peer | None = None
        try:
            host = tcp.socket.getpeername()[0]
            with (
                trio.CancelScope() as greeting,
                self._reputation.stranger(host, trio.current_time(), greeting.cancel) as admitted,
            ):
                if admitted:
                    await self._turns.take()
                    peer = await self._greet(tcp, host, None, dialled=False)
            if peer is not None:
                await self._converse(peer)
        except RefusedByUs as refusal:
            _tell_of(refusal, f"we refused a node at {host}: {refusal.reason}", host)
        except RefusedByPeer as refusal:
            _tell_of(refusal, f"a node at {host} refused us: {refusal.reason}", host)
        except (PeerError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
            log.debug(f"no handshake with {host}: {error}", host=host, error=str(error))
            self.traffic.handshakes_failed += 1
            self._reputation.penalise(host, FAILED_HANDSHAKE_POINTS, trio.current_time())
        except OSError as error:
            log.debug(f"a connection was lost before it began: {error}", error=str(error))
        except Exception:
            log.exception("a fault of ours in a new connection; only that connection is dropped")
        finally:
            await trio.aclose_forcefully(tcp)

    async def _converse_dialled(self, tcp: trio.SocketStream, expected: bytes | None) -> bytes:
        try:
            peer = await self._greet(tcp, tcp.socket.getpeername()[0], expected, dialled=True)
            await self._converse(peer)
        finally:
            await trio.aclose_forcefully(tcp)
        return peer.id

    async def _answers(self, node: Bootnode) -> bool:
        """Whether a node answers at its address, with its key."""
        try:
            with trio.fail_after(CONNECT_S):
                tcp = await trio.open_tcp_stream(node.host, node.port)
        except (OSError, UnicodeError, trio.TooSlowError):
            return False
        try:
            return await identify(tcp, self._dialling) == node.identity
        except (PeerError, trio.BrokenResourceError, trio.TooSlowError):
            return False
        finally:
            await trio.aclose_forcefully(tcp)

    async def _greet(self, tcp: trio.SocketStream, host: str, expected: bytes | None, *, dialled: bool) -> Peer:
        """The handshake; the peer is in the table when this returns, with no checkpoint in between."""

        def judge(identity: bytes, hello: Hello | None) -> tuple[Refusal, str] | None:
            if hello is None:
                if expected is not None and identity != expected:
                    return Refusal.IDENTITY, f"identity {identity.hex()}, expected {expected.hex()}"
                if (seconds := self._banned_for(identity)) > 0.0:
                    return Refusal.BANNED, f"banned for another {seconds:.0f} s"
                return None
            if (refusal := judge_hello(self._hello(), hello)) is not None:
                return refusal
            if identity == self.id:
                if hello.instance == self._instance:
                    return Refusal.SELF, "that is ourselves"
                return Refusal.TWIN, _twin(self._name_of(identity), "is this one")
            other = self._peers.get(identity)
            if other is not None:
                if hello.instance != other.hello.instance and other.silent_s < LIVELY_S:
                    return Refusal.TWIN, _twin(self._name_of(identity), f"at {other.host} is connected already")
                if not self._supersedes(dialled, hello, other):
                    return Refusal.DUPLICATE, "connected already"
            elif len(self._peers) >= self._places(dialled, identity):
                if (useless := self._most_useless()) is None:
                    return Refusal.FULL, f"{len(self._peers)} peers are connected already: try again later"
                useless.drop("it made room for another peer")
            return None

        context = self._dialling if dialled else self._accepting
        try:
            connection = await greet(tcp, context, self._hello, judge, dialled=dialled)
        except (RefusedByUs, RefusedByPeer) as refusal:
            by = "us" if isinstance(refusal, RefusedByUs) else "peer"
            self.traffic.refused[by, refusal.code.name.lower()] += 1
            raise
        reached: tuple[str, int] | None = tcp.socket.getpeername()[:2] if dialled else None
        peer = Peer(connection, host, self._name_of(connection.identity), self.traffic, reached)
        if (other := self._peers.get(peer.id)) is not None:
            other.drop("a newer connection took its place")
        self._peers[peer.id] = peer
        self.traffic.connections["out" if dialled else "in"] += 1
        return peer

    def _most_useless(self) -> Peer | None:
        """Of those who were of no use for a while, the one who had the longest time to be."""
        since = trio.current_time() - PROBATION_S
        useless = [peer for peer in self._peers.values() if not self._is_of_use(peer) and peer.connected_since < since]
        return min(useless, key=lambda peer: peer.connected_since, default=None)

    def _places(self, dialled: bool, identity: bytes) -> int:
        return PEERS_MAX - PEERS_DIALLED_RESERVED if self._is_stranger(dialled, identity) else PEERS_MAX

    def _is_stranger(self, dialled: bool, identity: bytes) -> bool:
        return not dialled and identity not in self._reserved

    def _is_of_use(self, peer: Peer) -> bool:
        """Whether we chose it, it has helped us, or it speaks for a validator."""
        return not self._is_stranger(peer.dialled, peer.id) or peer.helped or self._handler.is_voter(peer.id)

    def _supersedes(self, dialled: bool, hello: Hello, other: Peer) -> bool:
        """Whether a new connection to a connected peer takes the old one's place. Both sides decide alike: of two that
        crossed, the one that the lower identity dialled stays; a node that restarted has no old connection."""
        if hello.instance != other.hello.instance:
            return True
        we_are_lower = self.id < other.id
        return dialled == we_are_lower or other.dialled != we_are_lower

    async def _converse(self, peer: Peer) -> None:
        """Run the peer until its end; then settle what it did."""
        try:
            assert self._nursery is not None
            self._exchange.introduce(peer, self._nursery)
            self._handler.on_connected(peer.id)
            role, peers = peer.hello.role.name.lower(), len(self._peers)
            log.info(
                f"connected to {peer} ({role}), {peers} peers", peer=peer.id, host=peer.host, role=role, peers=peers
            )
            self._handler.on_status(peer.id, peer.best_height, peer.best_hash)
            await peer.run(self._handle, self._serve, self._turn, self._unfinished)
        finally:
            # Also when the handler failed before `run` began: whoever waits for the end must see it.
            peer.gone.set()
            if self._peers.get(peer.id) is peer:
                del self._peers[peer.id]
                self._exchange.gone(peer)
                self._gossip.forget_peer(peer.id)
                self.traffic.disconnections += 1
                why, peers = peer.failure, len(self._peers)
                text = f"disconnected from {peer}: {why}, {peers} peers"
                log.info(text, peer=peer.id, host=peer.host, reason=why, peers=peers)
                self._handler.on_disconnected(peer.id)
        if peer.penalty:
            self.penalise(peer.id, peer.penalty, peer.failure or "")

    # ------------------------------------------------------------------ conversation

    async def _turn(self, peer: Peer) -> None:
        """Votes are heard at once; strangers, however many and loud, in turns."""
        if not self._handler.is_voter(peer.id):
            await self._turns.take()

    def _handle(self, peer: Peer, message: Message) -> None:
        """One message of a connected peer; `PeerError` against it when the message may not be."""
        match message:
            case Consensus(frame):
                self._handler.on_consensus(peer.id, frame)
            case Transactions(transactions):
                fresh = self._gossip.received(peer.id, transactions, trio.current_time())
                if fresh:
                    self._handler.on_transactions(peer.id, fresh)
            case HaveTransactions(hashes):
                _ask(peer, self._gossip.announced(peer.id, hashes, trio.current_time()))
            case WantTransactions(hashes):
                self._gossip.lacks(peer.id, self._give(peer, self._gossip.give(hashes)))
            case Status(height, block_hash):
                peer.best_height, peer.best_hash = height, block_hash
                self._handler.on_status(peer.id, height, block_hash)
            case GetBlocks() | GetChunks() | GetHandovers() | GetState():
                peer.asked(message)
            case Blocks() | Chunks() | Handovers() | StateNodes():
                peer.answered(message)
            case Ping(nonce):
                peer.send(Pong(nonce))
            case Pong(nonce):
                peer.ponged(nonce)
            case Peers(peers):
                if self._nursery is not None:
                    self._exchange.learn(peer, peers, self._nursery)
            case Refused(code, reason):
                if code is not Refusal.DUPLICATE:
                    log.warning(f"{peer} refused us: {reason}", peer=peer.id, host=peer.host, reason=reason)
                peer.drop(f"it refused us: {reason}")
            case Hello():
                raise PeerError("a second hello")

    def _give(self, peer: Peer, transactions: Sequence[bytes]) -> list[bytes]:
        """Send transactions if the peer keeps up; what is left out, and stays for pull repair."""
        left_out: list[bytes] = []
        for part in batches(transactions):
            if peer.offer(Transactions(part)):
                self._gossip.gave(peer.id, part)
            else:
                left_out += part
        return left_out

    def _tell(self, peer: Peer, hashes: Sequence[Hash]) -> None:
        """Say that we have transactions, as `_give` gives them: it asks for those that it has not."""
        if peer.offer(HaveTransactions(tuple(hashes))):
            self._gossip.knows(peer.id, hashes)

    async def _publish(self) -> None:
        """Pass on what is to be, all that came within a moment at once."""
        while True:
            await self._to_publish.wait()
            self._to_publish = trio.Event()
            transactions, self._unpublished = self._unpublished, []
            for part in batches(transactions):
                passing = self._gossip.publish(part, list(self._peers), trio.current_time())
                for identity, given in passing.given.items():
                    self._give(self._peers[identity], given)
                for identity, told in passing.told.items():
                    self._tell(self._peers[identity], told)
                await trio.lowlevel.checkpoint()
            await trio.sleep(GOSSIP_S)

    async def _repair(self) -> None:
        """Tell peers of transactions that they were not given, ask again for what did not come, repeat our status."""
        rounds = 0
        while True:
            await trio.sleep(REPAIR_S)
            rounds += 1
            for peer in list(self._peers.values()):
                hashes = self._gossip.unknown_to(peer.id)
                if not hashes or peer.offer(HaveTransactions(tuple(hashes))):
                    self._gossip.repaired(peer.id, hashes)
                await trio.lowlevel.checkpoint()  # With a full cache this is milliseconds for a new peer.
            for identity, hashes in self._gossip.overdue(trio.current_time()).items():
                if (holder := self._peers.get(identity)) is not None:
                    _ask(holder, hashes)
            if rounds % STATUS_EVERY_REPAIRS == 0:
                self.announce(*self._best())


def _tell_of(refusal: RefusedByUs | RefusedByPeer, text: str, host: str) -> None:
    tell = log.debug if refusal.code is Refusal.DUPLICATE else log.warning
    tell(text, host=host, code=refusal.code.name.lower(), reason=refusal.reason)


def _twin(name: str, which: str) -> str:
    return f"another node with the key of {name} {which}: two nodes must not share one; stop one of the two"


def _ask(peer: Peer, hashes: Sequence[Hash]) -> None:
    """Ask the peer for transactions, in as many messages as that takes."""
    for start in range(0, len(hashes), TRANSACTIONS_COUNT_MAX):
        peer.send(WantTransactions(tuple(hashes[start : start + TRANSACTIONS_COUNT_MAX])))
