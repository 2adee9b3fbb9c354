"""Networks on real sockets with real TLS: what nodes say to each other arrives, once and in order."""

from __future__ import annotations

import logging

import msgpack
import pytest
import trio

import chain.net.network as network_module
import chain.net.peer as peer_module
from chain.net.dialer import Bootnode
from chain.net.errors import PeerUnavailable, PortInUse
from chain.net.frames import FrameReader, frame
from chain.net.messages import (
    PROTOCOL_VERSION,
    GetBlocks,
    Refusal,
    Refused,
    Role,
    handshake_bytes_max,
    unpack,
)
from chain.net.network import Network
from chain.net.outbox import BYTES_MAX
from chain.net.reserved import RESERVED_MAX, TooManyReserved
from chain.net.tls import make_context
from tests.net.kit import (
    ALICE,
    BOB,
    CHARLIE,
    DAVE,
    GENESIS,
    HOST,
    OTHER_GENESIS,
    Node,
    arena,
    dial,
    pair,
    receive,
    start,
    until_peers,
)


async def test_two_nodes_prove_their_keys_to_each_other() -> None:
    alice, bob = Node(best=(7, b"\x07" * 32)), Node()
    async with pair(alice, bob) as (first, second):
        (seen_by_alice,) = first.network.peers()
        (seen_by_bob,) = second.network.peers()
        assert (seen_by_alice.id, seen_by_alice.dialled, seen_by_alice.listen_port) == (BOB.public, False, second.port)
        assert (seen_by_bob.id, seen_by_bob.dialled, seen_by_bob.best_height) == (ALICE.public, True, 7)
        assert bob.statuses == [(ALICE.public, 7, b"\x07" * 32)]


async def test_consensus_frames_arrive_in_order_at_all_validators_and_at_no_full_node() -> None:
    alice, bob, charlie, dave = Node(), Node(), Node(), Node()
    async with arena() as nursery:
        first = await start(nursery, ALICE, alice)
        boot = [(HOST, first.port, None)]
        await start(nursery, BOB, bob, boot)
        await start(nursery, CHARLIE, charlie, boot)
        full = await start(nursery, DAVE, dave, boot, role=Role.FULL)
        await alice.until(lambda: len(alice.connected) == 3)
        frames = [b"vote %d" % i for i in range(100)]
        for frame in frames:
            first.network.broadcast_consensus(frame)
        first.network.announce(3, b"\x03" * 32)
        for node in (bob, charlie):
            await node.until_frames(100)
            assert node.frames == [(ALICE.public, frame) for frame in frames]
        await dave.until(lambda: (ALICE.public, 3, b"\x03" * 32) in dave.statuses)
        assert dave.frames == []
        first.network.send_consensus(full.network.id, b"to one")
        await dave.until(lambda: dave.frames)
        assert dave.frames == [(ALICE.public, b"to one")]
        sent, received = first.network.traffic, full.network.traffic
        assert (sent.frames["out", "consensus"], received.frames["in", "consensus"]) == (201, 1)
        assert sent.bytes["out", "consensus"] > sum(2 * len(frame) for frame in frames)
        assert (sent.connections["in"], received.connections["out"] > 0) == (3, True)


async def test_nodes_that_share_a_bootnode_find_each_other_and_keep_one_connection() -> None:
    nodes = [Node() for _ in range(4)]
    async with arena() as nursery:
        first = await start(nursery, ALICE, nodes[0])
        boot = [(HOST, first.port, ALICE.public)]
        others = [
            await start(nursery, key, node, boot) for key, node in zip((BOB, CHARLIE, DAVE), nodes[1:], strict=True)
        ]
        for running in (first, *others):
            await until_peers(running, 3)
        everyone = {ALICE.public, BOB.public, CHARLIE.public, DAVE.public}
        for running in (first, *others):
            assert {peer.id for peer in running.network.peers()} == everyone - {running.network.id}


async def test_nodes_that_dial_each_other_at_once_keep_one_connection_that_works() -> None:
    alice, bob = Node(), Node()
    async with arena() as nursery:
        reserved = await trio.open_tcp_listeners(0, host=HOST)
        port = reserved[0].socket.getsockname()[1]
        await reserved[0].aclose()
        first = await start(nursery, ALICE, alice, [(HOST, port, BOB.public)])
        second = await start(nursery, BOB, bob, [(HOST, first.port, ALICE.public)], port=port)
        await alice.until(lambda: alice.connected)
        await bob.until(lambda: bob.connected)
        sent = 0
        # Whichever connection went away, what is said over the one that stays arrives both ways.
        while not (alice.frames and bob.frames):
            first.network.broadcast_consensus(b"%d" % sent)
            second.network.broadcast_consensus(b"%d" % sent)
            sent += 1
            await trio.sleep(0.01)
        assert [peer.id for peer in first.network.peers()] == [BOB.public]
        assert [peer.id for peer in second.network.peers()] == [ALICE.public]
        assert first.network.peers()[0].dialled != second.network.peers()[0].dialled


async def test_a_node_of_another_chain_is_refused_with_both_genesis_hashes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "potchain.net")
    alice, bob = Node(), Node()
    async with arena() as nursery:
        first = await start(nursery, ALICE, alice)
        await start(nursery, BOB, bob, [(HOST, first.port, None)], genesis_hash=OTHER_GENESIS)
        while len(caplog.messages) < 2:
            await trio.sleep(0.01)
    for message in caplog.messages:
        assert "67" * 32 in message
        assert "68" * 32 in message
        assert "another chain" in message
    assert not alice.connected
    assert not bob.connected


@pytest.mark.parametrize("version", [PROTOCOL_VERSION - 1, PROTOCOL_VERSION + 1])
async def test_a_node_of_another_protocol_version_is_refused_with_both_whatever_else_it_says(
    version: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "potchain.net")
    alice = Node()
    async with arena() as nursery:
        first = await start(nursery, ALICE, alice)
        # More often than what breaks the protocol is put up with.
        for fields in ([], [bytes(32), 0], [b"of a form", {"that": "nobody"}, None], [0] * 13):
            tcp = await trio.open_tcp_stream(HOST, first.port)
            stream = trio.SSLStream(tcp, make_context(CHARLIE.secret_seed, server_side=False), https_compatible=True)
            await stream.send_all(frame(msgpack.packb([0, version, *fields])))
            reader, refusal = FrameReader(handshake_bytes_max), None
            while not isinstance(refusal, Refused):
                reader.feed(await stream.receive_some(65536))
                while (payload := reader.next()) is not None:
                    refusal = unpack(payload)
            await trio.aclose_forcefully(stream)
            expected = f"protocol version {version}, expected {PROTOCOL_VERSION}: update the older node"
            assert refusal == Refused(Refusal.PROTOCOL, expected)
        while len(caplog.messages) < 4:
            await trio.sleep(0.01)
    assert caplog.messages == [f"we refused a node at {HOST}: {expected}"] * 4
    assert not alice.connected


async def test_a_bootnode_with_another_identity_than_expected_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "potchain.net")
    alice, bob = Node(), Node()
    async with arena() as nursery:
        first = await start(nursery, ALICE, alice)
        await start(nursery, BOB, bob, [(HOST, first.port, CHARLIE.public)])
        while not any("we refused" in message for message in caplog.messages):
            await trio.sleep(0.01)
    assert f"identity {ALICE.public.hex()}, expected {CHARLIE.public.hex()}" in "".join(caplog.messages)
    assert not bob.connected


async def test_a_refused_node_writes_down_why(caplog: pytest.LogCaptureFixture) -> None:
    alice, bob = Node(), Node()
    async with pair(alice, bob) as (first, second):
        caplog.set_level(logging.WARNING, "potchain.net")
        first.network.penalise(BOB.public, 100, "lied")
        await bob.until(lambda: bob.disconnected)
        while not any("refused us: banned for another 60 s" in message for message in caplog.messages):
            await trio.sleep(0.01)
        assert first.network.peers() == second.network.peers() == []


async def test_a_node_reconnects_after_its_peer_restarted() -> None:
    alice, bob = Node(), Node()
    async with pair(alice, bob) as (first, second):
        first.scope.cancel()
        await bob.until(lambda: bob.disconnected == [ALICE.public])
        async with arena() as nursery:
            again = await start(nursery, ALICE, alice, port=first.port)
            await bob.until(lambda: bob.connected == [ALICE.public] * 2)
            again.network.broadcast_consensus(b"back")
            await bob.until(lambda: bob.frames == [(ALICE.public, b"back")])
            assert len(second.network.peers()) == 1


async def test_a_second_node_with_a_key_that_is_connected_is_refused_and_both_sides_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    alice, bob, twin = Node(), Node(), Node()
    async with pair(alice, bob) as (first, second), arena() as nursery:
        await start(nursery, BOB, twin, [(HOST, first.port, None), (HOST, second.port, None)])
        key = f"another node with the key of {BOB.public.hex()[:8]}"
        wanted = (
            f"refused us: {key} at 127.0.0.1 is connected already: two nodes must not",
            f"we refused a node at 127.0.0.1: {key} at 127.0.0.1 is connected already",
            f"we refused a node at 127.0.0.1: {key} is this one",
        )
        while not all(any(text in message for message in caplog.messages) for text in wanted):
            await trio.sleep(0.01)
        assert alice.connected == [BOB.public]
        second.network.broadcast_consensus(b"it is me")
        await alice.until(lambda: alice.frames == [(BOB.public, b"it is me")])


async def test_a_node_that_restarted_takes_the_place_of_its_own_dead_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(network_module, "LIVELY_S", 0.0)  # The old one is not heard any more.
    alice, bob, reborn = Node(), Node(), Node()
    # The same key from a new process, while Alice still believes in the old connection, which Bob dialled.
    async with pair(alice, bob) as (first, second), arena() as nursery:
        third = await start(nursery, BOB, reborn, [(HOST, first.port, ALICE.public)])
        await alice.until(lambda: alice.connected == [BOB.public] * 2)
        third.network.broadcast_consensus(b"it is me")
        await alice.until(lambda: alice.frames == [(BOB.public, b"it is me")])
        second.scope.cancel()


async def test_a_transaction_reaches_everyone_once_by_push_or_by_repair() -> None:
    nodes = [Node() for _ in range(4)]
    async with arena() as nursery:
        first = await start(nursery, ALICE, nodes[0])
        boot = [(HOST, first.port, ALICE.public)]
        for key, node in zip((BOB, CHARLIE), nodes[1:3], strict=True):
            await start(nursery, key, node, boot)
        await nodes[0].until(lambda: len(nodes[0].connected) == 2)
        transactions = [b"transfer %d" % i for i in range(300)]
        first.network.gossip_transactions(transactions)
        for node in nodes[1:3]:
            await node.until_transactions(300)
        # Dave comes too late for the push.
        await start(nursery, DAVE, nodes[3], boot)
        await nodes[3].until(lambda: len(nodes[3].transactions) == 300)
        assert nodes[0].transactions == []
        for node in nodes[1:]:
            assert sorted(node.transactions) == sorted(transactions)


async def test_what_a_peer_sent_goes_once_to_who_asks_for_it_and_to_nobody_who_has_it() -> None:
    alice, bob, charlie, dave = (Node() for _ in range(4))
    async with arena() as nursery:
        first = await start(nursery, ALICE, alice)
        second = await start(nursery, BOB, bob, [(HOST, first.port, ALICE.public)])
        await bob.until(lambda: ALICE.public in bob.connected)
        # Charlie is a peer of both, Dave of Bob alone.
        boot = [(HOST, first.port, ALICE.public), (HOST, second.port, BOB.public)]
        third = await start(nursery, CHARLIE, charlie, boot)
        await start(nursery, DAVE, dave, boot[1:])
        await charlie.until(lambda: len(charlie.connected) == 2)
        await bob.until(lambda: len(bob.connected) == 3)
        transactions = [b"transfer %d" % i for i in range(20)]
        first.network.gossip_transactions(transactions)
        await charlie.until_transactions(20)
        await bob.until_transactions(20)
        second.network.gossip_transactions(bob.transactions)
        await dave.until_transactions(20)
        while not third.network.traffic.frames["in", "havetransactions"]:  # Bob told Charlie, too.
            await trio.sleep(0.01)
        assert [sorted(node.transactions) for node in (bob, charlie, dave)] == [sorted(transactions)] * 3
        assert third.network.traffic.frames["in", "transactions"] == 1
        assert third.network.traffic.frames["out", "wanttransactions"] == 0


async def test_what_a_peer_asked_for_and_there_was_no_room_to_give_is_given_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alice, bob = Node(), Node()
    transactions = [bytes([i]) * 2000 for i in range(2)]
    monkeypatch.setattr(network_module, "REPAIR_S", 0.05)
    async with pair(alice, bob) as (first, second):
        with monkeypatch.context() as patch:
            patch.setattr(
                peer_module, "GOSSIP_SHARE", 1000 / BYTES_MAX
            )  # Room to tell of transactions, and for none of them.
            first.network.gossip_transactions(transactions)
            while not first.network.traffic.frames["in", "wanttransactions"]:
                await trio.sleep(0.01)
            assert bob.transactions == []
        await bob.until_transactions(2)
        assert sorted(bob.transactions) == transactions
        assert second.network.traffic.frames["in", "transactions"] == 1


async def test_blocks_are_requested_in_ranges() -> None:
    alice, bob = Node(chain=[b"block %d" % height for height in range(1, 11)]), Node()
    async with pair(alice, bob) as (_, second):
        assert await second.network.request_blocks(ALICE.public, 3, 4, 8.0) == [
            b"block 3",
            b"block 4",
            b"block 5",
            b"block 6",
        ]
        assert await second.network.request_blocks(ALICE.public, 9, 64, 8.0) == [b"block 9", b"block 10"]
        assert await second.network.request_blocks(ALICE.public, 11, 1, 8.0) == []
        with pytest.raises(PeerUnavailable, match="not connected"):
            await second.network.request_blocks(CHARLIE.public, 1, 1, 8.0)


async def test_a_request_ends_when_the_peer_goes_away() -> None:
    alice = Node()
    async with arena() as nursery:
        first = await start(nursery, ALICE, alice)
        silent = await dial(CHARLIE, first.port)
        await alice.until(lambda: alice.connected)

        async def ask() -> None:
            with pytest.raises(PeerUnavailable):
                await first.network.request_blocks(CHARLIE.public, 1, 1, 8.0)

        async with trio.open_nursery() as asking:
            asking.start_soon(ask)
            while not isinstance(await receive(silent), GetBlocks):
                pass
            await trio.aclose_forcefully(silent.stream)


async def test_a_port_in_use_names_the_port_and_the_flag() -> None:
    async with arena() as nursery:
        first = await start(nursery, ALICE, Node())
        second = Network(BOB, GENESIS, (HOST, first.port), [], Node(), lambda: (0, bytes(32)))
        with pytest.raises(PortInUse, match=rf"port {first.port} is in use .* --port") as caught:
            await second.run()
        assert caught.value.port == first.port


async def test_a_fault_in_the_handler_costs_one_connection_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    class Faulty(Node):
        def on_consensus(self, peer: bytes, frame: bytes) -> None:
            if frame == b"poison":
                raise RuntimeError("our own mistake")
            super().on_consensus(peer, frame)

    alice, bob, charlie = Faulty(), Node(), Node()
    async with arena() as nursery:
        first = await start(nursery, ALICE, alice)
        boot = [(HOST, first.port, ALICE.public)]
        second = await start(nursery, BOB, bob, boot, role=Role.FULL)
        third = await start(nursery, CHARLIE, charlie, boot, role=Role.FULL)
        await alice.until(lambda: len(alice.connected) == 2)
        await bob.until(lambda: ALICE.public in bob.connected)
        await charlie.until(lambda: ALICE.public in charlie.connected)
        second.network.send_consensus(ALICE.public, b"poison")
        await bob.until(lambda: ALICE.public in bob.disconnected)
        third.network.send_consensus(ALICE.public, b"vote")
        await alice.until(lambda: alice.frames == [(CHARLIE.public, b"vote")])
        assert "our own mistake" in caplog.text
        await bob.until(lambda: bob.connected.count(ALICE.public) == 2)


async def test_a_reserved_node_is_found_again_after_it_was_away_until_it_is_released() -> None:
    alice, bob = Node(), Node()
    async with arena() as nursery:
        first, second = await start(nursery, ALICE, alice), await start(nursery, BOB, bob)
        first.network.reserve(Bootnode(HOST, second.port, BOB.public))
        assert first.network.reserved() == [BOB.public]
        await until_peers(first, 1)
        second.scope.cancel()
        await until_peers(first, 0)
        again = await start(nursery, BOB, Node(), port=second.port)
        await until_peers(first, 1)
        assert first.network.release(BOB.public)
        assert not first.network.release(BOB.public)
        assert first.network.reserved() == []
        await until_peers(first, 0)
        await until_peers(again, 0)


async def test_a_node_is_reserved_once_and_not_without_bound() -> None:
    async with arena() as nursery:
        node = (await start(nursery, ALICE, Node())).network
        for number in range(RESERVED_MAX):
            node.reserve(Bootnode(HOST, 1, bytes([number]) * 32))
        node.reserve(Bootnode(HOST, 2, bytes(32)))
        with pytest.raises(TooManyReserved, match=f"{RESERVED_MAX} nodes are reserved"):
            node.reserve(Bootnode(HOST, 1, b"\xff" * 32))
        assert len(node.reserved()) == RESERVED_MAX


async def test_a_reserved_node_that_dials_us_has_a_place_that_strangers_cannot_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("chain.net.network.PEERS_MAX", 2)
    monkeypatch.setattr("chain.net.network.PEERS_DIALLED_RESERVED", 1)
    async with arena() as nursery:
        first = await start(nursery, ALICE, Node())
        first.network.reserve(Bootnode(HOST, 1, BOB.public))
        stranger = await dial(DAVE, first.port)
        await until_peers(first, 1)
        other = await dial(CHARLIE, first.port)
        message = await receive(other)
        assert isinstance(message, Refused)
        assert message.code is Refusal.FULL
        reserved = await dial(BOB, first.port)
        await until_peers(first, 2)
        assert {peer.id for peer in first.network.peers()} == {DAVE.public, BOB.public}
        for connection in (stranger, other, reserved):
            await trio.aclose_forcefully(connection.stream)
