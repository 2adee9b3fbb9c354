"""The server over raw HTTP and sockets: shapes that clients rely on, limits, and whatever else a port has to bear."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

from chain.primitives.hashing import blake2_256, storage_prefix
from chain.primitives.merkle import verify_proof
from chain.primitives.scale import codec_of
from chain.primitives.seal import Seal
from chain.primitives.types import sign_extrinsic
from chain.rpc.client import CannotConnect, Client
from chain.rpc.errors import Code, PortInUse
from chain.rpc.protocol import Limits
from chain.rpc.server import RpcServer
from runtime.potchain import RUNTIME
from tests.rpc.kit import ALICE, BOB, PeerStub, Served, served


async def post(it: Served, body: object) -> Any:
    async with httpx.AsyncClient(verify=False, trust_env=False) as http:
        return (await http.post(it.http, json=body)).json()


async def ask(it: Served, method: str, *params: object) -> Any:
    answer = await post(it, {"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    assert "error" not in answer, answer
    return answer["result"]


async def refusal(it: Served, method: str, *params: object) -> dict[str, Any]:
    answer = await post(it, {"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    error: dict[str, Any] = answer["error"]
    return error


@asynccontextmanager
async def websocket(it: Served) -> AsyncIterator[WebSocketConnection]:
    async with open_websocket_url(it.url, max_message_size=32 << 20) as connection:
        try:
            yield connection
        finally:
            await trio.aclose_forcefully(connection._stream)  # The library leaves it open when the server closes.


async def call(connection: WebSocketConnection, method: str, *params: object) -> Any:
    await connection.send_message(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
    return json.loads(await connection.get_message())


async def exchange(it: Served, data: bytes) -> bytes:
    """Send bytes over a connection of their own; what comes back until the server closes it."""
    stream = await trio.open_tcp_stream("127.0.0.1", it.server.port)
    found = b""
    try:
        await stream.send_all(data)
        while piece := await stream.receive_some(65536):
            found += piece
    except trio.BrokenResourceError:
        pass
    await trio.aclose_forcefully(stream)
    return found


# --- what clients rely on


async def test_the_node_says_who_it_is(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        it.node.peer_list = [PeerStub()]
        assert await ask(it, "system_name") == "potchain"
        assert await ask(it, "system_chain") == "potchain test"
        assert await ask(it, "system_chainType") == "Development"
        assert await ask(it, "system_properties") == {"ss58Format": 42, "tokenDecimals": 12, "tokenSymbol": "POT"}
        assert await ask(it, "system_health") == {"peers": 1, "isSyncing": True, "shouldHavePeers": False}
        assert await ask(it, "system_nodeRoles") == ["Authority"]
        assert await ask(it, "system_localPeerId") == it.node.local_identity.hex()
        assert await ask(it, "system_syncState") == {
            "startingBlock": 0,
            "currentBlock": 0,
            "highestBlock": 12,
            "phase": "blocks",
            "perSecond": 0.0,
            "secondsLeft": None,
            "stateKeys": None,
            "stateBytes": None,
            "stalled": None,
        }
        assert await ask(it, "system_peers") == [
            {
                "peerId": "07" * 32,
                "roles": "AUTHORITY",
                "address": "192.0.2.1:30333",
                "bestHash": "0x" + "05" * 32,
                "bestNumber": 12,
            }
        ]
        assert (await ask(it, "consensus_state"))["phase"] == "prepare"
        methods = (await ask(it, "rpc_methods"))["methods"]
        assert methods == sorted(methods)
        assert {"rpc_methods", "state_getStorage", "author_submitAndWatchExtrinsic", "training_task"} <= set(methods)


async def test_a_block_comes_with_its_seal_as_justification(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        header = await it.node.seal()
        block_hash = "0x" + header.hash.hex()
        assert await ask(it, "chain_getBlockHash") == block_hash
        assert await ask(it, "chain_getFinalizedHead") == block_hash
        assert await ask(it, "chain_getBlockHash", 1) == await ask(it, "chain_getBlockHash", "0x1") == block_hash
        assert await ask(it, "chain_getBlockHash", [0, 1, 9]) == ["0x" + header.parent_hash.hex(), block_hash, None]
        found = await ask(it, "chain_getBlock", block_hash)
        ((engine, seal),) = found["justifications"]
        assert bytes(engine) == b"PBFT"
        assert codec_of(Seal).decode(bytes(seal)).block_hash == header.hash
        assert found["block"]["header"] == await ask(it, "chain_getHeader", block_hash)
        assert found["block"]["header"]["number"] == "0x1"
        assert len(found["block"]["extrinsics"]) == 1
        assert (await ask(it, "chain_getBlock", "0x" + header.parent_hash.hex()))["justifications"] is None
        assert await ask(it, "chain_getHeader", "0x" + "00" * 32) is None


async def test_storage_is_read_at_any_block_and_proven(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        first = await it.node.seal()
        await it.node.seal()
        key = storage_prefix("System", "Number")
        name = "0x" + key.hex()
        at = "0x" + first.hash.hex()
        assert await ask(it, "state_getStorage", name) == "0x02000000"
        assert await ask(it, "state_getStorage", name, at) == "0x01000000"
        assert await ask(it, "state_getStorageSize", name) == 4
        assert await ask(it, "state_queryStorageAt", [name], at) == [{"block": at, "changes": [[name, "0x01000000"]]}]
        absent = "0x" + "ff" * 32
        proof = await ask(it, "state_getReadProof", [name, absent], at)
        nodes = [bytes.fromhex(node[2:]) for node in proof["proof"]]
        assert proof["at"] == at
        shown = verify_proof(first.state_root, [key, b"\xff" * 32], nodes)
        assert shown == {key: bytes.fromhex("01000000"), b"\xff" * 32: None}


async def test_keys_come_in_pages(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        whole = await ask(it, "state_getKeysPaged", "0x", 1000)
        assert whole == sorted(whole)
        paged: list[str] = []
        while page := await ask(it, "state_getKeysPaged", "0x", 5, paged[-1] if paged else None):
            assert len(page) <= 5
            paged += page
        assert paged == whole


async def test_metadata_and_runtime_calls_answer(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        assert bytes.fromhex((await ask(it, "state_getMetadata"))[2:]) == RUNTIME.metadata(14)
        assert await ask(it, "state_call", "Metadata_metadata_versions", "0x") == "0x080e0000000f000000"
        assert await ask(it, "state_call", "AccountNonceApi_account_nonce", "0x" + ALICE.public.hex()) == "0x00000000"
        assert (await ask(it, "state_getRuntimeVersion"))["specName"] == "potchain"
        error = await refusal(it, "state_call", "Nothing_at_all", "0x")
        assert error["code"] == Code.STATE_CLIENT
        assert "Nothing_at_all" in error["data"]
        assert (await refusal(it, "state_call", "AccountNonceApi_account_nonce", "0x00"))["code"] == Code.STATE_CLIENT
        assert (await refusal(it, "payment_queryInfo", "0x00"))["code"] == Code.STATE_CLIENT


async def test_an_unknown_block_a_task_and_a_round_are_named(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        unknown = "0x" + "ab" * 32
        for method, *before in (("state_getStorage", "0x00"), ("state_getRuntimeVersion",), ("state_getMetadata",)):
            error = await refusal(it, method, *before, unknown)
            assert (error["code"], unknown in error["data"]) == (Code.STATE_CLIENT, True)
        assert await ask(it, "chain_getBlock", unknown) is None
        assert "no task 7" in (await refusal(it, "training_task", 7))["data"]
        assert "no round 2" in (await refusal(it, "training_round", 0, 2))["data"]
        assert (await refusal(it, "no_such_method"))["code"] == Code.METHOD_NOT_FOUND


async def test_a_pruned_state_is_told_from_an_unknown_block_and_the_block_stays(tmp_path: Path) -> None:
    async with served(tmp_path, history=2) as it:
        old, *_ = [await it.node.seal() for _ in range(3)]
        at = "0x" + old.hash.hex()
        key = "0x" + storage_prefix("System", "Number").hex()
        error = await refusal(it, "state_getStorage", key, at)
        assert (error["code"], error["message"]) == (Code.STATE_CLIENT, "Client error: State already discarded")
        assert "the state at height 1 was pruned: the oldest that this node keeps is 2" in error["data"]
        block = await ask(it, "chain_getBlock", at)
        assert block["block"]["header"] == await ask(it, "chain_getHeader", at)
        assert (await ask(it, "state_getRuntimeVersion", at))["specName"] == "potchain"


async def test_a_running_round_shows_its_phase_and_slots(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        assert (await ask(it, "training_round", 0))["phase"] == "idle"
        call_bytes = RUNTIME.encode_call(RUNTIME.call("training.register_worker", capacity=2))
        raw = sign_extrinsic(
            BOB,
            call_bytes,
            nonce=0,
            spec_version=RUNTIME.spec_version,
            transaction_version=RUNTIME.transaction_version,
            genesis_hash=it.node.ledger.genesis_hash,
        )
        await ask(it, "author_submitExtrinsic", "0x" + raw.hex())
        with trio.fail_after(60):
            while (await ask(it, "training_round", 0))["phase"] == "idle":
                await it.node.seal()
        found = await ask(it, "training_round", 0)
        assert found["phase"] == "commit"
        assert [slot["slot"] for slot in found["slots"]] == [0, 1]
        (worker,) = await ask(it, "training_workers")
        assert {slot["worker"] for slot in found["slots"]} == {worker["account"]}
        assert (worker["active"], worker["taken"], worker["paused"]) == (True, 2, [])
        task = await ask(it, "training_task", 0)
        assert (task["loss"], task["accuracy"], task["status"]) == ([], [], "active")
        kept = task["storage"]
        assert (kept["programBytes"], kept["datasetBytes"], kept["parameters"]) == (7_000, 120_000, 20_000)
        assert (kept["paramsRoot"], kept["endedAt"]) == (task["paramsRoot"], None)
        assert kept["until"] == 3 * (3 + 10 + 10) + 86_400
        assert [short["id"] for short in await ask(it, "training_tasks")] == [0]


async def test_subscriptions_push_in_order_and_end(tmp_path: Path) -> None:
    async with served(tmp_path) as it, websocket(it) as connection:
        number = (await call(connection, "chain_subscribeFinalizedHeads"))["result"]
        for height in range(3):
            note = json.loads(await connection.get_message())
            assert note["method"] == "chain_finalizedHead"
            assert note["params"]["subscription"] == number
            assert note["params"]["result"]["number"] == hex(height)
            await it.node.seal()
        last = json.loads(await connection.get_message())
        assert last["params"]["result"]["number"] == "0x3"
        assert (await call(connection, "chain_unsubscribeFinalizedHeads", number))["result"] is True
        assert (await call(connection, "chain_unsubscribeFinalizedHeads", number))["result"] is False
        await it.node.seal()
        assert (await call(connection, "system_name"))["result"] == "potchain"


async def test_a_batch_is_answered_in_order_with_subscriptions_after_it(tmp_path: Path) -> None:
    async with served(tmp_path) as it, websocket(it) as connection:
        names = ["system_name", "chain_subscribeNewHeads", "nothing"]
        batch = [{"jsonrpc": "2.0", "id": i, "method": name} for i, name in enumerate(names)]
        await connection.send_message(json.dumps(batch))
        answers = json.loads(await connection.get_message())
        assert [answer["id"] for answer in answers] == [0, 1, 2]
        note = json.loads(await connection.get_message())
        assert note["params"]["subscription"] == answers[1]["result"]
        over_http = await post(it, [*batch, {"jsonrpc": "2.0", "method": "system_name"}])
        assert [("result" in answer) for answer in over_http] == [True, False, False]
        assert "WebSocket" in over_http[1]["error"]["data"]


# --- what a port has to bear


async def test_transactions_that_follow_each_other_are_judged_together_and_what_follows_them_after_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[bytes] = []
    may_go = trio.Event()

    async def submit(raw: bytes) -> bytes:
        waiting.append(raw)
        await may_go.wait()
        return blake2_256(raw)

    async with served(tmp_path, limits=Limits(together_max=3)) as it, websocket(it) as connection:
        monkeypatch.setattr(it.node, "submit", submit)
        raws = [b"transfer %d" % number for number in range(5)]
        for number, raw in enumerate(raws):
            request = {"jsonrpc": "2.0", "id": number, "method": "author_submitExtrinsic", "params": [f"0x{raw.hex()}"]}
            await connection.send_message(json.dumps(request))
        await connection.send_message('{"jsonrpc": "2.0", "id": "last", "method": "system_chain", "params": []}')
        while len(waiting) < 3:
            await trio.sleep(0.01)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert waiting == raws[:3]  # As many as may be, in their order.
        may_go.set()
        answers = [json.loads(await connection.get_message()) for _ in range(6)]
    assert waiting == raws
    assert answers[-1]["id"] == "last"
    told = {answer["id"]: answer["result"] for answer in answers[:-1]}
    assert told == {number: f"0x{blake2_256(raw).hex()}" for number, raw in enumerate(raws)}


async def test_a_port_in_use_is_named_with_the_flag(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        with pytest.raises(PortInUse, match=rf"port {it.server.port} .*--rpc-port"):
            await RpcServer(it.node, port=it.server.port).run()


GARBAGE = [
    b"\x00" * 3000,
    b"\xff" * 70_000,
    b"GET / HTTP/9.9\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00" * 200,
    b"GET / HTTP/1.1\r\nhost: a\r\nupgrade: h2c\r\nconnection: upgrade\r\nhttp2-settings: !!\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
    b"GET /%ff%00 HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\nsec-websocket-key: x\r\nsec-websocket-version: 13\r\n"
    b"upgrade: websocket\r\nconnection: upgrade\r\n\r\n" + b"\xff" * 500,
]


async def test_garbage_ends_its_own_connection_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with served(tmp_path, limits=Limits(idle_seconds=0.1)) as it:
        with trio.fail_after(60):
            for garbage in GARBAGE:
                await exchange(it, garbage)
            assert await ask(it, "system_name") == "potchain"
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_garbage_in_a_websocket_is_answered_or_closed(tmp_path: Path) -> None:
    async with served(tmp_path, limits=Limits(request_bytes_max=1000)) as it, websocket(it) as connection:
        for text in ("", "{", "[]", "null", "[" * 900, '{"jsonrpc":"2.0","id":1,"method":"' + "x" * 300 + '"}'):
            await connection.send_message(text)
            assert json.loads(await connection.get_message())["error"]["code"] < 0
        await connection.send_message(b'{"jsonrpc":"2.0","id":1,"method":"system_name"}')
        assert json.loads(await connection.get_message())["result"] == "potchain"
        await connection.send_message("x" * 1001)
        with pytest.raises(ConnectionClosed), trio.fail_after(60):
            await connection.get_message()
        assert connection.closed is not None
        assert connection.closed.code == 1009


async def test_too_many_connections_are_turned_away_with_the_reason(tmp_path: Path) -> None:
    async with served(tmp_path, limits=Limits(connections_max=2)) as it, websocket(it), websocket(it):
        with pytest.raises(CannotConnect, match="HTTP status 503"):
            async with Client.connect(it.url):
                pass
        async with httpx.AsyncClient(verify=False, trust_env=False) as http:
            answer = await http.get(it.http + "/health")
        assert (answer.status_code, "most connections" in answer.text) == (503, True)


async def test_too_many_subscriptions_and_too_large_batches_are_refused(tmp_path: Path) -> None:
    limits = Limits(subscriptions_max=2, batch_max=3)
    async with served(tmp_path, limits=limits) as it, websocket(it) as connection:
        for _ in range(2):
            await call(connection, "state_subscribeRuntimeVersion")
            await connection.get_message()
        error = (await call(connection, "chain_subscribeNewHeads"))["error"]
        assert (error["code"], "at most 2" in error["data"]) == (Code.TOO_MANY_SUBSCRIPTIONS, True)
        await connection.send_message(json.dumps([1] * 4))
        assert json.loads(await connection.get_message())["error"]["code"] == Code.BATCH_TOO_LARGE


async def test_a_subscriber_that_does_not_read_is_dropped_and_others_are_served(tmp_path: Path) -> None:
    limits = Limits(outbox_messages_max=4, send_seconds=0.5)
    async with served(tmp_path, limits=limits) as it, websocket(it) as other:
        slow = socket.create_connection(("127.0.0.1", it.server.port))
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(slow))
        keys = ["0x" + bytes([byte]).hex() * 200 for byte in range(200)]
        text = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "state_subscribeStorage", "params": [keys]})
        await stream.send_all(
            b"GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
            b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
        )
        for _ in range(200):  # Each asks for ~80 kB at once: far more than the kernel's buffers take.
            payload = text.encode()
            frame = b"\x81\xff" + len(payload).to_bytes(8, "big") + bytes(4) + payload
            with trio.move_on_after(0.2) as scope:
                try:
                    await stream.send_all(frame)
                except trio.BrokenResourceError:
                    break
            if scope.cancelled_caught:
                break
        with trio.fail_after(60):
            while it.server.connections > 1:
                assert (await call(other, "system_name"))["result"] == "potchain"
        await trio.aclose_forcefully(stream)


async def test_a_stop_does_not_wait_for_a_stalled_client(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        streams = [await trio.open_tcp_stream("127.0.0.1", it.server.port) for _ in range(3)]
        await streams[0].send_all(
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{"
        )
        await streams[1].send_all(b"GET / HT")
        async with websocket(it):
            assert await ask(it, "system_name") == "potchain"
            with trio.fail_after(Limits().idle_seconds / 3):
                it.stop()
                await it.stopped.wait()
        for stream in streams:
            await stream.aclose()


async def test_requests_over_the_rate_wait_and_are_answered(tmp_path: Path) -> None:
    limits = Limits(requests_per_second=50, requests_burst=5)
    async with served(tmp_path, limits=limits) as it, websocket(it) as connection:
        started = trio.current_time()
        for _ in range(15):
            assert (await call(connection, "system_name"))["result"] == "potchain"
        assert trio.current_time() - started >= 0.15


async def test_http_refuses_what_is_no_json_rpc(tmp_path: Path) -> None:
    limits = Limits(request_bytes_max=1000, idle_seconds=0.2)
    async with served(tmp_path, limits=limits) as it, httpx.AsyncClient(verify=False, trust_env=False) as http:
        assert (await http.post(it.http, content=b"{}")).status_code == 415
        too_big = await http.post(it.http, content=b"x" * 1001, headers={"content-type": "application/json"})
        assert (too_big.status_code, too_big.json()["error"]["code"]) == (413, Code.OVERSIZED_REQUEST)
        assert "potchain node" in (await http.get(it.http)).text
        assert (await http.get(it.http + "/health")).json()["isSyncing"] is False
        assert (await http.get(it.http + "/nowhere")).status_code == 404
        assert (await http.delete(it.http)).status_code == 405
        only_notes = [{"jsonrpc": "2.0", "method": "system_name"}]
        assert (await http.post(it.http, json=only_notes)).status_code == 204

        head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{"
        with trio.fail_after(60):
            assert b"408" in await exchange(it, head)
            assert b"200" in await exchange(it, b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n")  # then idle: closed


async def test_blobs_are_bounded_and_checked(tmp_path: Path) -> None:
    limits = Limits(blob_bytes_max=1000)
    async with served(tmp_path, limits=limits) as it, httpx.AsyncClient(verify=False, trust_env=False) as http:
        zero = it.http + "/blobs/0x" + "00" * 32
        wrong = await http.put(zero, content=b"data")
        assert (wrong.status_code, "expected bytes with root 0x00" in wrong.text) == (400, True)
        assert (await http.put(zero, content=b"x" * 1001)).status_code == 413
        assert (await http.get(zero)).status_code == 404
        assert (await http.get(it.http + "/blobs/zz")).status_code == 400
        assert (await http.get(it.http + "/blobs/..%2f..%2fetc%2fpasswd")).status_code in (400, 404)


async def test_the_loop_stays_free_while_clients_ask_for_much(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        turn_cpu_s = 0.0  # processor time, since a busy machine holds every loop
        async with trio.open_nursery() as nursery:

            async def probe() -> None:
                nonlocal turn_cpu_s
                while True:
                    before = time.thread_time()
                    await trio.sleep(0.001)
                    turn_cpu_s = max(turn_cpu_s, time.thread_time() - before)

            async def load() -> None:
                async with websocket(it) as connection:
                    for _ in range(30):
                        await call(connection, "state_getMetadata")
                        await call(connection, "state_getKeysPaged", "0x", 1000)

            nursery.start_soon(probe)
            async with trio.open_nursery() as clients:
                for _ in range(4):
                    clients.start_soon(load)
            nursery.cancel_scope.cancel()
        assert turn_cpu_s < 0.25  # Alone it is a few milliseconds.
