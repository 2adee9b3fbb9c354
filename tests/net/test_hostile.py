"""What strangers and liars do to a network: they lose their connection, and nobody else notices."""

from __future__ import annotations

import logging
import os
import ssl
import struct
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgpack
import pytest
import trio

from chain.net import handshake, network, outbox, peer, reputation
from chain.net.errors import PeerUnavailable
from chain.net.frames import frame
from chain.net.handshake import Connection, RefusedByPeer
from chain.net.messages import (
    CONSENSUS_BYTES_MAX,
    HASHES_COUNT_MAX,
    Blocks,
    Chunks,
    Consensus,
    GetBlocks,
    HaveTransactions,
    Message,
    Ping,
    Pong,
    Refusal,
    Refused,
    Transactions,
    pack,
)
from chain.primitives.keys import Keypair
from tests.net.kit import (
    ALICE,
    BOB,
    CHARLIE,
    DAVE,
    HOST,
    Node,
    Running,
    arena,
    dial,
    is_hung_up_on,
    receive,
    start,
    until_peers,
)


@asynccontextmanager
async def alice_and_bob(
    caplog: pytest.LogCaptureFixture, alice: Node | None = None
) -> AsyncIterator[tuple[Running, Running]]:
    """Both connected; in the end they still are, talk, and nothing of ours failed."""
    caplog.set_level(logging.INFO, "potchain.net")
    alice, bob = alice if alice is not None else Node(), Node()
    async with arena() as nursery:
        first = await start(nursery, ALICE, alice)
        second = await start(nursery, BOB, bob, [(HOST, first.port, ALICE.public)])
        await until_peers(first, 1)
        yield first, second
        second.network.send_consensus(ALICE.public, b"still here")
        await first.node.until(lambda: (BOB.public, b"still here") in first.node.frames)
        assert BOB.public not in first.node.disconnected
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\n\r\n", bytes(4096), os.urandom(4096), b"\x16\x03\x01\x40\x00" + bytes(16), b""],
    ids=["http", "zeros", "random", "half a TLS record", "nothing"],
)
async def test_garbage_on_the_port_is_hung_up_on(
    garbage: bytes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshake, "HANDSHAKE_S", 0.3)
    async with alice_and_bob(caplog) as (first, _):
        stream = await trio.open_tcp_stream(HOST, first.port)
        async with stream:
            if garbage:
                await stream.send_all(garbage)
            with suppress(trio.BrokenResourceError):
                while await stream.receive_some(4096):
                    pass


async def test_half_open_connections_of_one_address_are_bounded_and_expire(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshake, "HANDSHAKE_S", 0.5)
    async with alice_and_bob(caplog) as (first, _):
        silent = [await trio.open_tcp_stream(HOST, first.port) for _ in range(reputation.STRANGERS_PER_ADDRESS_MAX)]
        extra = await trio.open_tcp_stream(HOST, first.port)
        async with extra:
            assert await extra.receive_some(1) == b""
        for stream in silent:
            async with stream:
                assert await stream.receive_some(1) == b""
        connection = await dial(CHARLIE, first.port)
        await first.node.until(lambda: CHARLIE.public in first.node.connected)
        await trio.aclose_forcefully(connection.stream)


async def test_a_client_without_a_certificate_does_not_get_in(caplog: pytest.LogCaptureFixture) -> None:
    async with alice_and_bob(caplog) as (first, _):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        stream = trio.SSLStream(await trio.open_tcp_stream(HOST, first.port), context, https_compatible=True)
        with suppress(trio.BrokenResourceError):
            assert await stream.receive_some(1) == b""
        await trio.aclose_forcefully(stream)
        assert len(first.network.peers()) == 1


BAD_FRAMES = {
    "a length beyond every bound": struct.pack(">I", 0xFFFFFFFF) + b"\x92\x04",
    "a length beyond the kind's bound": struct.pack(">I", CONSENSUS_BYTES_MAX * 2) + b"\x92\x04",
    "a ping as large as a block": struct.pack(">I", 1 << 20) + b"\x92\x02",
    "an unknown kind": frame(msgpack.packb([99, b""])),
    "no array": frame(b"\xc4\x02\x00\x00"),
    "a map": frame(b"\x92\x02" + msgpack.packb({1: 2})),
    "an empty frame": struct.pack(">I", 0) + b"\x00\x00",
    "a wrong type": frame(msgpack.packb([2, "text"])),
    "a boolean for a number": frame(msgpack.packb([2, True])),
    "a field too many": frame(msgpack.packb([2, 1, 1])),
    "bytes after the message": frame(msgpack.packb([2, 1]) + b"\x00"),
    "a nest of arrays": frame(b"\x92\x02" + b"\x91" * 20 + b"\xc0"),
    "an answer to no question": pack(Blocks(5, (b"block",))),
    "an empty list of transactions": frame(msgpack.packb([5, []])),
}


@pytest.mark.parametrize("bad", list(BAD_FRAMES.values()), ids=list(BAD_FRAMES))
async def test_a_frame_that_may_not_be_ends_that_connection(bad: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with alice_and_bob(caplog) as (first, _):
        connection = await dial(CHARLIE, first.port)
        await connection.stream.send_all(pack(Consensus(b"good")) + bad)
        await is_hung_up_on(connection)
        await first.node.until(lambda: CHARLIE.public in first.node.disconnected)
        assert (CHARLIE.public, b"good") in first.node.frames


async def test_whoever_breaks_the_protocol_twice_is_banned_and_told_so(caplog: pytest.LogCaptureFixture) -> None:
    async with alice_and_bob(caplog) as (first, _):
        for _ in range(2):
            connection = await dial(CHARLIE, first.port)
            await connection.stream.send_all(BAD_FRAMES["a wrong type"])
            await is_hung_up_on(connection)
        with pytest.raises(RefusedByPeer, match="banned for another 60 s"):
            await dial(CHARLIE, first.port)


async def test_a_peer_that_does_not_read_is_dropped_and_costs_bounded_memory(caplog: pytest.LogCaptureFixture) -> None:
    async with alice_and_bob(caplog) as (first, second):
        connection = await dial(CHARLIE, first.port)
        await first.node.until(lambda: CHARLIE.public in first.node.connected)
        sent = 0
        while CHARLIE.public in {info.id for info in first.network.peers()}:
            first.network.broadcast_consensus(bytes(1 << 20))
            sent += 1
            await second.node.until_frames(sent)
        # What the kernel takes comes on top of the outbox.
        assert outbox.BYTES_MAX >> 20 <= sent <= (outbox.BYTES_MAX >> 20) + 16
        assert "slow" in caplog.text
        await is_hung_up_on(connection)


async def test_a_peer_that_stops_answering_is_dropped(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with alice_and_bob(caplog) as (first, _):
        monkeypatch.setattr(peer, "PING_S", 0.05)
        monkeypatch.setattr(peer, "SILENCE_S", 0.2)
        connection = await dial(CHARLIE, first.port)
        await first.node.until(lambda: CHARLIE.public in first.node.disconnected)
        assert "silent" in caplog.text
        await is_hung_up_on(connection)


async def test_requests_beyond_the_bound_are_left_unanswered(caplog: pytest.LogCaptureFixture) -> None:
    released = threading.Event()

    class SlowDisk(Node):
        def blocks(self, start: int, count: int, bytes_max: int) -> list[bytes]:
            released.wait()
            return super().blocks(start, count, bytes_max)

    async with alice_and_bob(caplog, SlowDisk()) as (first, _):
        connection = await dial(CHARLIE, first.port)
        requests = b"".join(pack(GetBlocks(request, 1, 1)) for request in range(1000))
        try:
            await connection.stream.send_all(requests + pack(Ping(1)))
            while await receive(connection) != Pong(1):
                pass
        finally:
            released.set()
        answered: list[int] = []
        while 1000 not in answered:
            if isinstance(message := await receive(connection), Blocks):
                answered.append(message.request)
            if len(answered) == peer.REQUESTS_MAX:
                await connection.stream.send_all(pack(GetBlocks(1000, 1, 1)))
        assert len(answered) <= peer.REQUESTS_MAX + 2
        await trio.aclose_forcefully(connection.stream)


async def test_a_flood_is_read_no_faster_than_allowed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "CREDIT_BURST", 10.0)
    monkeypatch.setattr(peer, "CREDIT_PER_SECOND", 100.0)
    async with alice_and_bob(caplog) as (first, _):
        connection = await dial(CHARLIE, first.port)
        began = trio.current_time()
        await connection.stream.send_all(pack(Ping(1)) * 49 + pack(Ping(2)))
        message: Message = Pong(0)
        while message != Pong(2):
            message = await receive(connection)
        assert trio.current_time() - began > 0.3
        await trio.aclose_forcefully(connection.stream)


async def test_an_answer_of_the_wrong_kind_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async with alice_and_bob(caplog) as (first, _):
        connection = await dial(CHARLIE, first.port)
        await first.node.until(lambda: CHARLIE.public in first.node.connected)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def answer() -> None:
                while not isinstance(message := await receive(connection), GetBlocks):
                    pass
                await connection.stream.send_all(pack(Chunks(message.request, 0, ())))
                await is_hung_up_on(connection)

            with pytest.raises(PeerUnavailable):
                await first.network.request_blocks(CHARLIE.public, 1, 1, 8.0)


async def test_a_transaction_of_a_flooding_peer_is_handed_over_once(caplog: pytest.LogCaptureFixture) -> None:
    async with alice_and_bob(caplog) as (first, _):
        connection = await dial(CHARLIE, first.port)
        await connection.stream.send_all(pack(Transactions((b"same", b"same"))) * 50 + pack(Consensus(b"end")))
        await first.node.until(lambda: first.node.frames)
        assert first.node.transactions == [b"same"]
        await trio.aclose_forcefully(connection.stream)


async def test_a_peer_that_tells_of_what_it_never_gives_keeps_no_transaction_from_us(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with alice_and_bob(caplog) as (first, second):
        liar, sender = await dial(CHARLIE, first.port), await dial(DAVE, second.port)
        invented = [i.to_bytes(32, "big") for i in range(9 * HASHES_COUNT_MAX)]
        for start_at in range(0, len(invented), HASHES_COUNT_MAX):
            part = tuple(invented[start_at : start_at + HASHES_COUNT_MAX])
            await liar.stream.send_all(pack(HaveTransactions(part)))
        await liar.stream.send_all(pack(Consensus(b"end")))
        await first.node.until(lambda: first.node.frames)
        # What Dave sent Bob, Bob only tells Alice of.
        await sender.stream.send_all(pack(Transactions((b"transfer",))))
        await second.node.until_transactions(1)
        second.network.gossip_transactions(second.node.transactions)
        await first.node.until_transactions(1)
        assert first.node.transactions == [b"transfer"]
        assert first.network.traffic.frames["in", "havetransactions"] == 10
        for connection in (liar, sender):
            await trio.aclose_forcefully(connection.stream)


async def test_when_all_places_are_taken_who_is_of_no_use_makes_room(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "PEERS_MAX", 4)
    monkeypatch.setattr(network, "PEERS_DIALLED_RESERVED", 0)
    alice = Node(voters={BOB.public})
    async with alice_and_bob(caplog, alice) as (first, _):
        useless = [await dial(Keypair.from_uri(f"//Useless{number}"), first.port) for number in range(3)]
        await first.node.until(lambda: len(first.node.connected) == 4)
        refused = await dial(CHARLIE, first.port)
        assert await receive(refused) == Refused(Refusal.FULL, "4 peers are connected already: try again later")
        await is_hung_up_on(refused)
        monkeypatch.setattr(network, "PROBATION_S", 0.0)
        connection = await dial(CHARLIE, first.port)
        await is_hung_up_on(useless[0])
        await first.node.until(lambda: CHARLIE.public in first.node.connected)
        assert {BOB.public, CHARLIE.public} <= {info.id for info in first.network.peers()}
        assert len(first.network.peers()) == 4
        for stream in (connection.stream, *(other.stream for other in useless[1:])):
            await trio.aclose_forcefully(stream)


async def test_a_crowd_that_floods_is_heard_in_turns_and_a_validator_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    alice = Node(voters={BOB.public})
    async with alice_and_bob(caplog, alice) as (first, second):
        crowd = [await dial(Keypair.from_uri(f"//Loud{number}"), first.port) for number in range(8)]
        turn_cpu_s = 0.0  # processor time, since a busy machine holds every loop

        async def shout(connection: Connection) -> None:
            with suppress(trio.BrokenResourceError):
                while True:
                    hashes = tuple(os.urandom(32) for _ in range(256))
                    await connection.stream.send_all(pack(HaveTransactions(hashes)) * 20)

        async def listen(connection: Connection) -> None:
            await is_hung_up_on(connection)

        async def probe() -> None:
            nonlocal turn_cpu_s
            while True:
                before = time.thread_time()
                await trio.lowlevel.checkpoint()
                turn_cpu_s = max(turn_cpu_s, time.thread_time() - before)

        async with trio.open_nursery() as nursery:
            for connection in crowd:
                nursery.start_soon(shout, connection)
                nursery.start_soon(listen, connection)
            nursery.start_soon(probe)
            for number in range(50):
                second.network.send_consensus(ALICE.public, b"vote %d" % number)
                await first.node.until_frames(number + 1)
            nursery.cancel_scope.cancel()
        for connection in crowd:
            await trio.aclose_forcefully(connection.stream)
        assert first.node.frames == [(BOB.public, b"vote %d" % number) for number in range(50)]
        assert turn_cpu_s < 0.25


def test_a_message_costs_its_sender_what_it_makes_us_do() -> None:
    cheap, dear = peer._cost(Ping(1)), peer._cost(Transactions((b"x",) * 256))
    assert (cheap, dear > 256) == (1, True)
    assert peer._cost(Transactions((bytes(1 << 20),))) > 256
    assert peer._cost(HaveTransactions((bytes(32),) * 1024)) == 512
    assert peer._cost(Blocks(1, (bytes(1 << 20),))) == 1
    # One block's worth of transactions and votes of a whole committee fit into what may come at once.
    block, votes = 4 * peer._cost(Transactions((bytes(200),) * 256)), 3 * 64 * peer._cost(Consensus(bytes(300)))
    assert block + votes < peer.CREDIT_BURST


async def test_frames_that_never_end_cost_bounded_memory_over_all_peers(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "UNFINISHED_BYTES_MAX", 1 << 20)
    async with alice_and_bob(caplog) as (first, second):
        most, less = await dial(CHARLIE, first.port), await dial(DAVE, first.port)
        endless = pack(Consensus(bytes(2 << 20)))
        await less.stream.send_all(endless[: 400 << 10])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(is_hung_up_on, most)
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await most.stream.send_all(endless[:-1])
        second.network.send_consensus(ALICE.public, b"whole")
        await first.node.until_frames(1)
        await first.node.until(lambda: CHARLIE.public in first.node.disconnected)
        assert DAVE.public not in first.node.disconnected
        await trio.aclose_forcefully(less.stream)
    assert "its unfinished frames took too much memory" in caplog.text
