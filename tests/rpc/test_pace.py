"""Clients wait for each other and never the node for them: turns, rests, and memory that all clients share."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import trio
import trio.testing

from chain.pace import Threads, Turns
from chain.pile import Pile
from chain.rpc import protocol
from chain.rpc.client import CannotConnect, Client
from chain.rpc.errors import Code
from chain.rpc.protocol import Encoded, Limits, notification
from tests.rpc.kit import served
from tests.rpc.test_client import transfer_raw
from tests.rpc.test_server import call, websocket


async def test_clients_have_one_turn_a_pass_of_the_loop() -> None:
    turns, order = Turns(), list[str]()

    async def client(name: str) -> None:
        for _ in range(3):
            await turns.take()
            order.append(name)

    async def node() -> None:
        while True:
            order.append("node")
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(node)
        async with trio.open_nursery() as clients:
            for name in ("a", "b", "c"):
                clients.start_soon(client, name)
        nursery.cancel_scope.cancel()
    assert sorted(name for name in order if name != "node") == ["a"] * 3 + ["b"] * 3 + ["c"] * 3
    # trio shuffles a pass, so that two turns may touch where two passes do.
    assert order.count("node") >= 8
    assert all("node" in order[at : at + 3] for at in range(len(order) - 2))


async def test_a_thread_rests_after_work_and_its_result_does_not_wait_for_that() -> None:
    threads = Threads(1, rest=3.0)
    started = trio.current_time()
    await threads.run(time.sleep, 0.05)
    worked = trio.current_time() - started
    assert worked < 0.15
    await threads.run(str, 1)
    assert trio.current_time() - started >= 4 * 0.05


async def test_work_that_fails_frees_its_thread() -> None:
    threads = Threads(1, rest=0.0)
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0)
    with trio.move_on_after(0) as cancelled:
        await threads.run(str, 1)
    assert cancelled.cancelled_caught
    assert await threads.run(str, 2) == "2"


def test_who_lets_most_wait_is_dropped_first_and_counts_no_more() -> None:
    pile, dropped = Pile(100), list[str]()

    def dropper(name: str) -> Callable[[], None]:
        return lambda: dropped.append(name)

    with pile.share(dropper("small")) as small, pile.share(dropper("large")) as large:
        small.grow(40)
        large.grow(60)
        assert (pile.bytes, dropped) == (100, [])
        small.grow(1)
        assert (pile.bytes, dropped) == (41, ["large"])
        large.grow(-60)
        small.grow(-1)
        assert pile.bytes == 40
    assert pile.bytes == 0
    assert dropped == ["large"]


def test_a_value_that_is_written_already_is_sent_as_it_is() -> None:
    value = {"number": "0x1", "logs": ['a"b', "é"]}
    text = notification("chain_newHead", 'id"', value)
    assert text == notification("chain_newHead", 'id"', Encoded(json.dumps(value, separators=(",", ":"))))
    assert json.loads(text) == {
        "jsonrpc": "2.0",
        "method": "chain_newHead",
        "params": {"subscription": 'id"', "result": value},
    }


async def test_all_clients_together_have_only_so_many_subscriptions(tmp_path: Path) -> None:
    async with served(tmp_path, limits=Limits(subscriptions_total_max=2)) as it, websocket(it) as other:
        async with websocket(it) as connection:
            for _ in range(2):
                assert "result" in await call(connection, "state_subscribeRuntimeVersion")
                await connection.get_message()
            error = (await call(other, "chain_subscribeNewHeads"))["error"]
            assert (error["code"], "all connections together" in error["data"]) == (Code.TOO_MANY_SUBSCRIPTIONS, True)
        with trio.fail_after(60):
            while "error" in (answer := await call(other, "chain_subscribeNewHeads")):
                await trio.testing.wait_all_tasks_blocked(0.001)
        assert "result" in answer


async def test_all_clients_together_watch_only_so_many_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chain.rpc.context.WATCHED_KEYS_MAX", 5)
    async with served(tmp_path) as it, websocket(it) as connection:
        assert "result" in await call(connection, "state_subscribeStorage", ["0x00"] * 3)
        await connection.get_message()
        error = (await call(connection, "state_subscribeStorage", ["0x00"] * 3))["error"]
        assert (error["code"], "3 keys of at most 5" in error["data"]) == (Code.TOO_MANY_SUBSCRIPTIONS, True)


async def test_who_makes_the_server_hold_most_goes_when_memory_is_short(tmp_path: Path) -> None:
    limits = Limits(waiting_bytes_max=200_000, send_seconds=60.0)
    question = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "state_getMetadata"}).encode()
    frame = b"\x81" + bytes([0x80 | len(question)]) + bytes(4) + question
    async with served(tmp_path, limits=limits) as it, websocket(it) as reader:
        raw = socket.create_connection(("127.0.0.1", it.server.port))
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(raw))
        await stream.send_all(
            b"GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
            b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
        )
        assert (await stream.receive_some(1000)).startswith(b"HTTP/1.1 101 ")
        await stream.send_all(frame * 50)
        with trio.fail_after(60):
            while it.server.connections > 1:
                assert (await call(reader, "system_name"))["result"] == "potchain"
        await trio.aclose_forcefully(stream)


async def test_an_answer_over_http_that_is_not_taken_counts_too(tmp_path: Path) -> None:
    limits = Limits(waiting_bytes_max=200_000, send_seconds=60.0)
    batch = json.dumps([{"jsonrpc": "2.0", "id": 1, "method": "state_getMetadata"}] * 40).encode()
    head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(batch)
    async with served(tmp_path, limits=limits) as it:
        stream = await trio.open_tcp_stream("127.0.0.1", it.server.port)
        await stream.send_all(head + batch)
        with trio.fail_after(60):
            while it.server.connections > 0:
                await trio.testing.wait_all_tasks_blocked(0.001)
        await trio.aclose_forcefully(stream)


async def test_who_asks_nothing_makes_room_for_who_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(tmp_path, limits=Limits(connections_max=3)) as it, websocket(it) as asking:
        silent = await trio.open_tcp_stream("127.0.0.1", it.server.port)
        half = await trio.open_tcp_stream("127.0.0.1", it.server.port)
        await half.send_all(b"GET /health HTTP/1.1\r\nhos")
        async with httpx.AsyncClient(verify=False, trust_env=False) as http:
            with trio.fail_after(60):
                while it.server.connections < 3:
                    await trio.testing.wait_all_tasks_blocked(0.001)
                assert (await http.get(it.http + "/health")).status_code == 503
                monkeypatch.setattr("chain.rpc.listener.IDLE_SECONDS_MIN", 0.0)
                for _ in range(5):
                    fresh = {"connection": "close"}
                    assert (await http.get(it.http + "/health", headers=fresh)).status_code == 200
        assert (await call(asking, "system_name"))["result"] == "potchain"
        for stream in (silent, half):
            await trio.aclose_forcefully(stream)


async def test_websockets_leave_room_for_requests_and_blobs(tmp_path: Path) -> None:
    async with served(tmp_path, limits=Limits(websockets_max=1)) as it, websocket(it) as first:
        with pytest.raises(CannotConnect, match="HTTP status 503"):
            async with Client.connect(it.url):
                pass
        async with httpx.AsyncClient(verify=False, trust_env=False) as http:
            assert (await http.get(it.http + "/health")).status_code == 200
        assert (await call(first, "system_name"))["result"] == "potchain"


async def test_a_body_that_drips_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chain.rpc.body.BYTES_PER_SECOND_MIN", 1000)
    async with served(tmp_path, limits=Limits(idle_seconds=0.2)) as it:
        stream = await trio.open_tcp_stream("127.0.0.1", it.server.port)
        head = b"PUT /blobs/0x" + b"ab" * 32 + b" HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n"
        await stream.send_all(head)
        answers = list[bytes]()

        async def drip() -> None:
            with suppress(trio.BrokenResourceError):
                while True:
                    await stream.send_all(b"x")
                    await trio.sleep(0.02)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip)
            with trio.fail_after(60):
                answers.append(bytes(await stream.receive_some(1000)))
            nursery.cancel_scope.cancel()
        assert b"408" in answers[0].split(b"\r\n")[0]
        await trio.aclose_forcefully(stream)


async def test_long_answers_are_written_where_they_were_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, longest = threading.get_ident(), 0
    encode = protocol.encode

    def watching(value: object) -> str:
        nonlocal longest
        text = encode(value)
        if threading.get_ident() == here:
            longest = max(longest, len(text))
        return text

    async with served(tmp_path, others=1000) as it, websocket(it) as connection:
        monkeypatch.setattr(protocol, "encode", watching)
        it.node.seals_at_once = False
        for nonce in range(400):
            await it.node.submit(bytes.fromhex(transfer_raw(it, nonce)[2:]))
        keys = (await call(connection, "state_getKeysPaged", "0x", 1000))["result"]
        for asked in (("state_getMetadata",), ("state_queryStorageAt", keys), ("author_pendingExtrinsics",)):
            assert len(json.dumps(await call(connection, *asked))) > 64 * 1024
        await it.node.seal()
        assert len(json.dumps(await call(connection, "chain_getBlock"))) > 64 * 1024
    assert 0 < longest < 4096
