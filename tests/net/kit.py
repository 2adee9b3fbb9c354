"""What the network's tests share: a handler that remembers, and networks on free loopback ports."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import trio

from chain.adoption import Handover, StateChunk
from chain.blobs import BlobChunks, BlobStore
from chain.net.book import AddressBook
from chain.net.handshake import Connection, greet
from chain.net.messages import PROTOCOL_VERSION, Hello, Message, Role, unpack
from chain.net.network import Network
from chain.net.tls import make_context
from chain.primitives.hashing import Hash
from chain.primitives.keys import Keypair

GENESIS = bytes.fromhex("67" * 32)
OTHER_GENESIS = bytes.fromhex("68" * 32)
ALICE, BOB, CHARLIE, DAVE = (Keypair.from_uri(f"//{name}") for name in ("Alice", "Bob", "Charlie", "Dave"))
HOST = "127.0.0.1"


def certificates(listening: Keypair, dialling: Keypair) -> tuple[bytes, bytes]:
    """What both sides of a handshake show each other, the listening one's first."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = make_context(listening.secret_seed, server_side=True).wrap_bio(to_server, to_client, server_side=True)
    client = make_context(dialling.secret_seed, server_side=False).wrap_bio(to_client, to_server)
    for side in (client, server, client, server):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    assert client.version() == server.version() == "TLSv1.3"
    shown = client.getpeercert(binary_form=True), server.getpeercert(binary_form=True)
    assert shown[0] is not None
    assert shown[1] is not None
    return shown[0], shown[1]


@dataclass
class Node:
    """A handler that keeps what it is told and serves what it is given; `until` waits for a condition on it."""

    best: tuple[int, Hash] = (0, bytes(32))
    blobs: BlobStore | None = None
    chain: list[bytes] = field(default_factory=list)
    connected: list[bytes] = field(default_factory=list)
    voters: set[bytes] = field(default_factory=set)
    disconnected: list[bytes] = field(default_factory=list)
    frames: list[tuple[bytes, bytes]] = field(default_factory=list)
    transactions: list[bytes] = field(default_factory=list)
    statuses: list[tuple[bytes, int, Hash]] = field(default_factory=list)
    _changed: trio.Event = field(default_factory=trio.Event)

    def _note(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await self._changed.wait()

    async def until_frames(self, count: int) -> None:
        await self.until(lambda: len(self.frames) >= count)

    async def until_transactions(self, count: int) -> None:
        await self.until(lambda: len(self.transactions) >= count)

    def on_connected(self, peer: bytes) -> None:
        self.connected.append(peer)
        self._note()

    def on_disconnected(self, peer: bytes) -> None:
        self.disconnected.append(peer)
        self._note()

    def is_voter(self, peer: bytes) -> bool:
        return peer in self.voters

    def on_consensus(self, peer: bytes, frame: bytes) -> None:
        self.frames.append((peer, frame))
        self._note()

    def on_transactions(self, peer: bytes, transactions: list[bytes]) -> None:
        self.transactions += transactions
        self._note()

    def on_status(self, peer: bytes, height: int, block_hash: Hash) -> None:
        self.statuses.append((peer, height, block_hash))
        self._note()

    def blocks(self, start: int, count: int, bytes_max: int) -> list[bytes]:
        assert bytes_max > 0
        return self.chain[start - 1 : start - 1 + count]

    def handovers(self, set_id: int, count: int) -> list[Handover]:
        return []

    def state_chunk(self, block_hash: Hash, after: bytes | None, bytes_max: int) -> StateChunk | None:
        return None

    def blob_chunks(self, root: Hash, index: int, count: int) -> BlobChunks | None:
        return None if self.blobs is None else self.blobs.chunks(root, index, count)


@dataclass
class Running:
    """A network that runs, with its node and the scope that ends it."""

    node: Node
    network: Network
    scope: trio.CancelScope
    port: int


async def start(
    nursery: trio.Nursery,
    identity: Keypair,
    node: Node,
    bootnodes: Sequence[tuple[str, int, bytes | None]] = (),
    *,
    port: int = 0,
    genesis_hash: Hash = GENESIS,
    role: Role = Role.VALIDATOR,
    host: str = HOST,
    public: tuple[str, int] | None = None,
    book: AddressBook | None = None,
) -> Running:
    """Run one network in the nursery until its scope is cancelled."""
    network = Network(
        identity,
        genesis_hash,
        (host, port),
        bootnodes,
        node,
        lambda: node.best,
        role=role,
        public=public,
        book=book,
    )
    scope = trio.CancelScope()

    async def run(task_status: trio.TaskStatus[tuple[str, int]]) -> None:
        with scope:
            await network.run(task_status)

    _, listening = await nursery.start(run)
    return Running(node, network, scope, listening)


async def until_peers(running: Running, count: int) -> None:
    """Wait until the network has exactly so many peers."""
    await running.node.until(lambda: len(running.network.peers()) == count)


@asynccontextmanager
async def arena(seconds: float = 30.0) -> AsyncIterator[trio.Nursery]:
    """A nursery for networks that ends them all, and fails what takes too long."""
    with trio.fail_after(seconds):
        async with trio.open_nursery() as nursery:
            yield nursery
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def pair(alice: Node, bob: Node) -> AsyncIterator[tuple[Running, Running]]:
    """Alice and Bob, connected: Bob dialled."""
    async with arena() as nursery:
        first = await start(nursery, ALICE, alice)
        second = await start(nursery, BOB, bob, [(HOST, first.port, ALICE.public)])
        await alice.until(lambda: BOB.public in alice.connected)
        await bob.until(lambda: ALICE.public in bob.connected)
        yield first, second


async def dial(identity: Keypair, port: int, *, role: Role = Role.VALIDATOR, listen_port: int = 0) -> Connection:
    """A peer without a network of its own: authenticated and greeted, and then free to send what it likes."""
    tcp = await trio.open_tcp_stream(HOST, port)
    instance = int.from_bytes(identity.public[:8], "big")
    hello = Hello(PROTOCOL_VERSION, GENESIS, 0, bytes(32), 0, role, listen_port, instance)
    context = make_context(identity.secret_seed, server_side=False)
    try:
        return await greet(tcp, context, lambda: hello, lambda *_: None, dialled=True)
    except BaseException:
        await trio.aclose_forcefully(tcp)
        raise


async def receive(connection: Connection) -> Message:
    """The next message that the other side sent."""
    while (payload := connection.reader.next()) is None:
        data = await connection.stream.receive_some(65536)
        if not data:
            raise trio.BrokenResourceError("hung up")
        connection.reader.feed(data)
    return unpack(payload)


async def is_hung_up_on(connection: Connection) -> None:
    """Returns when the other side has closed the connection."""
    try:
        while await connection.stream.receive_some(65536):
            pass
    except trio.BrokenResourceError:
        pass
    await trio.aclose_forcefully(connection.stream)
