"""The client against a real server: transactions to finality, errors that say what to do, reconnection."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from chain.primitives.hashing import blake2_256
from chain.primitives.keys import Keypair
from chain.primitives.types import Mortal
from chain.rpc import link, transactions
from chain.rpc.client import (
    BlobError,
    BlobNotFound,
    CannotConnect,
    Client,
    ClientError,
    ConnectionLost,
    RpcError,
    SlowSubscriber,
    TransactionDropped,
)
from chain.rpc.errors import Code
from chain.rpc.link import Stream
from tests.ports import free_port
from tests.rpc.kit import ALICE, ALICE_SR, BOB, CHARLIE, POT, Served, push_out, served, transfer


def transfer_raw(it: Served, nonce: int, value: int = 1, *, tip: int = 0, era: Mortal | None = None) -> str:
    return "0x" + transfer(it, nonce, value, tip=tip, era=era).hex()


@pytest.mark.parametrize("keypair", [ALICE, ALICE_SR], ids=["ed25519", "sr25519"])
async def test_a_transfer_becomes_final_and_its_receipt_tells_where(tmp_path: Path, keypair: Keypair) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        with trio.fail_after(60):
            receipt = await client.transact(keypair, "balances.transfer_keep_alive", dest=CHARLIE.public, value=7 * POT)
        assert (receipt.ok, receipt.error, receipt.height) == (True, None, 1)
        assert receipt.block_hash == it.node.ledger.head_hash
        assert [type(event).__name__ for event in receipt.events][-1] == "ExtrinsicSuccess"
        assert (await client.account(CHARLIE.public)).free == 7 * POT


async def test_a_call_that_fails_names_its_module_and_error(tmp_path: Path) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        with trio.fail_after(60):
            receipt = await client.transact(ALICE, "balances.transfer_keep_alive", dest=BOB.public, value=10**30)
            assert (receipt.ok, receipt.error) == (False, "Balances.InsufficientBalance")
            commit = {"task": 0, "round": 0, "attempt": 0, "slot": 0, "commitment": bytes(32)}
            receipt = await client.transact(ALICE, "training.commit", **commit)
            assert (receipt.ok, receipt.error) == (False, "Training.WrongPhase")


async def test_twenty_transactions_of_one_account_in_flight_get_nonces_of_their_own(tmp_path: Path) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        heights: list[int] = []

        async def send(value: int) -> None:
            receipt = await client.transact(ALICE, "balances.transfer_keep_alive", dest=CHARLIE.public, value=value)
            assert receipt.ok
            heights.append(receipt.height)

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for index in range(20):
                    nursery.start_soon(send, POT + index)
        assert len(heights) == 20
        account = await client.account(ALICE.public)
        assert account.nonce == 20
        assert (await client.account(CHARLIE.public)).free == 20 * POT + 190


async def test_two_programs_with_one_account_do_not_disturb_each_other(tmp_path: Path) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as one, Client.connect(it.url) as other:
        done: list[bool] = []

        async def send(client: Client) -> None:
            for _ in range(4):
                receipt = await client.transact(ALICE, "balances.transfer_keep_alive", dest=BOB.public, value=POT)
                done.append(receipt.ok)

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send, one)
                nursery.start_soon(send, other)
        assert done == [True] * 8


async def test_what_the_pool_refuses_comes_with_substrates_code_and_the_values(tmp_path: Path) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        submit = "author_submitExtrinsic"
        it.node.seals_at_once = False
        first = transfer_raw(it, 0)
        await client.request(submit, first)

        async def refusal(raw: str) -> tuple[int, str]:
            with pytest.raises(RpcError) as caught:
                await client.request(submit, raw)
            return caught.value.code, str(caught.value)

        assert (await refusal(first))[0] == Code.ALREADY_IMPORTED
        code, text = await refusal(transfer_raw(it, 0, value=2))
        assert code == Code.PRIORITY_TOO_LOW
        assert "vs" in text
        code, text = await refusal(first[:-2] + ("00" if first[-2:] != "00" else "01"))
        assert (code, "bad signature" in text) == (Code.INVALID_TRANSACTION, True)
        code, text = await refusal("0x00")
        assert (code, "malformed transaction" in text) == (Code.VERIFICATION, True)
        await it.node.seal()
        code, text = await refusal(transfer_raw(it, 0, value=3))
        assert code == Code.INVALID_TRANSACTION
        assert "outdated" in text
        with pytest.raises(RpcError, match="Inability to pay"):
            await client.transact(CHARLIE, "balances.transfer_keep_alive", dest=BOB.public, value=1)


async def test_a_transaction_that_waits_for_an_earlier_nonce_is_future_then_ready_then_final(tmp_path: Path) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        it.node.seals_at_once = False
        async with client.subscribe("author_submitAndWatchExtrinsic", transfer_raw(it, 1)) as updates:
            with trio.fail_after(60):
                assert await anext(updates) == "future"
                await client.request("author_submitExtrinsic", transfer_raw(it, 0))
                header = await it.node.seal()
                at = "0x" + header.hash.hex()
                assert [await anext(updates) for _ in range(3)] == ["ready", {"inBlock": at}, {"finalized": at}]


async def test_a_replaced_transaction_is_usurped_and_its_sender_told(tmp_path: Path) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        it.node.seals_at_once = False
        watch = "author_submitAndWatchExtrinsic"
        async with (
            client.subscribe(watch, transfer_raw(it, 0)) as first,
            client.subscribe(watch, transfer_raw(it, 1)) as second,
        ):
            assert [await anext(first), await anext(second)] == ["ready", "ready"]
            with trio.fail_after(60):
                better = await client.request("author_submitExtrinsic", transfer_raw(it, 1, tip=POT))
                assert await anext(second) == {"usurped": better}, "at once: no block has to come first"
                await it.node.seal()
                assert "inBlock" in await anext(first)


async def test_what_leaves_the_pool_without_a_block_is_told_with_the_reason(tmp_path: Path) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        it.node.seals_at_once = False
        watch, pool = "author_submitAndWatchExtrinsic", it.node.pool
        ends: list[tuple[str, Callable[[bytes], object]]] = [
            ("dropped", lambda found: push_out(pool, found)),
            ("invalid", lambda found: pool.ban(found, 0, "it was found invalid")),
        ]
        for nonce, (word, end) in enumerate(ends):
            raw = transfer_raw(it, nonce)
            async with client.subscribe(watch, raw) as updates:
                with trio.fail_after(60):
                    assert await anext(updates) == "ready"
                    end(blake2_256(bytes.fromhex(raw[2:])))
                    assert await anext(updates) == word
            await client.request("author_submitExtrinsic", transfer_raw(it, nonce, value=7))


async def test_a_transaction_that_expires_is_reported_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "ERA_BLOCKS", 4)
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        it.node.seals_at_once = False
        it.node.pool.ready = lambda: iter(())  # type: ignore[method-assign]  # an author that leaves it out
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:

                async def send() -> None:
                    with pytest.raises(TransactionDropped, match="invalid"):
                        await client.transact(ALICE, "balances.transfer_keep_alive", dest=BOB.public, value=1)
                    nursery.cancel_scope.cancel()

                nursery.start_soon(send)
                while True:
                    await trio.lowlevel.checkpoint()
                    if len(it.node.pool):
                        await it.node.seal()


async def test_storage_is_read_through_the_modules_at_any_block(tmp_path: Path) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        genesis = await client.request("chain_getBlockHash", 0)
        await client.transact(ALICE, "balances.transfer_keep_alive", dest=CHARLIE.public, value=POT)
        accounts = await client.read(lambda chain: [account for account, _ in chain.system.account.items()])
        before = await client.read(lambda chain: [account for account, _ in chain.system.account.items()], at=genesis)
        assert sorted(accounts) == sorted([*before, CHARLIE.public])
        assert await client.read(lambda chain: chain.training.tasks[0].name) == b"digits"


async def test_no_node_is_one_line_that_says_what_to_do() -> None:
    port = free_port()
    with pytest.raises(CannotConnect) as caught:
        async with Client.connect(f"ws://127.0.0.1:{port}"):
            pass
    assert str(caught.value) == f"cannot reach ws://127.0.0.1:{port}: connection refused: is the node running?"
    with pytest.raises(CannotConnect, match=r"nowhere.invalid:1: [a-z ]+: is the node running\?"):
        async with Client.connect("ws://nowhere.invalid:1"):
            pass


@pytest.mark.parametrize("url", ["localhost:9944", "http://127.0.0.1:9944", "ws://127.0.0.1:port", "ws://[::1"])
@pytest.mark.parametrize("connect", [Client.connect, lambda url: Client.reconnecting([url])])
async def test_what_is_no_address_is_not_tried_again(url: str, connect: Any) -> None:
    with pytest.raises(ClientError, match="expected a node address such as ws:"), trio.fail_after(60):
        async with connect(url) as client:
            await client.request("system_chain")


async def test_a_port_that_speaks_something_else_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "HANDSHAKE_SECONDS", 0.3)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]

    async def nonsense(stream: trio.SocketStream) -> None:
        await stream.receive_some(1000)
        await stream.send_all(b"220 mail.example ESMTP\r\n")
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, nonsense, listeners)
        with pytest.raises(CannotConnect, match="is it an RPC port"), trio.fail_after(60):
            async with Client.connect(f"ws://127.0.0.1:{port}"):
                pass
        nursery.cancel_scope.cancel()


async def test_an_error_inside_the_scope_comes_out_as_itself(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        with pytest.raises(KeyError, match="mine"):
            async with Client.connect(it.url):
                raise KeyError("mine")
        with pytest.raises(KeyError, match="mine"):
            async with Client.reconnecting([it.url]):
                raise KeyError("mine")


async def test_a_lost_connection_fails_requests_and_streams_at_once(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        ready = trio.Event()
        scope = trio.CancelScope()
        url = ""

        async def node() -> None:
            nonlocal url
            with scope:
                async with served(tmp_path) as it:
                    url = it.url
                    ready.set()
                    await trio.sleep_forever()

        nursery.start_soon(node)
        await ready.wait()
        async with Client.connect(url) as client, client.subscribe("chain_subscribeNewHeads") as heads:
            await anext(heads)
            scope.cancel()
            with trio.fail_after(60):
                with pytest.raises(ConnectionLost):
                    await anext(heads)
                with pytest.raises(ConnectionLost):
                    await client.request("system_chain")


async def test_a_reconnecting_client_follows_a_node_over_a_restart(tmp_path: Path) -> None:
    port = free_port()
    url = f"ws://127.0.0.1:{port}"
    with trio.fail_after(60):
        async with Client.reconnecting([url]) as client, client.finalized_heads() as heads:
            for life in (1, 2):
                async with served(tmp_path, port=port) as it:
                    assert await client.request("system_chain") == "potchain test"
                    await it.node.seal()
                    while int((await anext(heads))["number"], 16) < life:
                        pass


async def test_a_transaction_survives_the_restart_of_its_node(tmp_path: Path) -> None:
    port = free_port()
    with trio.fail_after(60):
        async with Client.reconnecting([f"ws://127.0.0.1:{port}"]) as client, trio.open_nursery() as nursery:
            receipts = []
            done = trio.Event()

            async def send() -> None:
                call = "balances.transfer_keep_alive"
                receipts.append(await client.transact(ALICE, call, dest=CHARLIE.public, value=POT))
                done.set()

            async with served(tmp_path, port=port) as it:
                it.node.seals_at_once = False
                nursery.start_soon(send)
                while not len(it.node.pool):
                    await trio.lowlevel.checkpoint()
            async with served(tmp_path, port=port):  # The pool is lost; the client sends again.
                await done.wait()
    assert [receipt.ok for receipt in receipts] == [True]


async def test_a_reconnecting_client_says_why_there_is_no_node() -> None:
    port = free_port()
    async with Client.reconnecting([f"ws://127.0.0.1:{port}"]) as client:
        with pytest.raises(CannotConnect, match="connection refused"):
            await client.request("system_chain", timeout=0.3)


async def test_a_node_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "PROBE_SECONDS", 0.05)
    monkeypatch.setattr(link, "SILENT_SECONDS", 0.2)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]

    async def shake_hands_and_hang(stream: trio.SocketStream) -> None:
        head = (await stream.receive_some(4096)).decode()
        key = next(line.partition(": ")[2] for line in head.splitlines() if "websocket-key" in line.lower())
        proof = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()
        answer = f"HTTP/1.1 101 \r\nupgrade: WebSocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {proof}\r\n\r\n"
        await stream.send_all(answer.encode())
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, shake_hands_and_hang, [listener])
        with trio.fail_after(60):
            async with Client.connect(f"ws://127.0.0.1:{port}") as client:
                with pytest.raises(ConnectionLost, match="does the node hang"):
                    await client.request("system_chain")
        nursery.cancel_scope.cancel()


async def test_an_unread_stream_ends_rather_than_grows() -> None:
    stream = Stream("heads", items_max=2)
    assert [stream.push(number) for number in range(3)] == [True, True, False]
    assert [await anext(stream), await anext(stream)] == [0, 1]
    with pytest.raises(SlowSubscriber, match="latest=True"):
        await anext(stream)
    newest = Stream("heads", latest=True)
    assert all(newest.push(number) for number in range(3))
    assert await anext(newest) == 2


async def test_blobs_go_up_and_come_down_checked(tmp_path: Path) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        data = bytes(range(256)) * 1000
        root = await client.put_blob(data)
        assert await client.get_blob(root, len(data)) == data
        with pytest.raises(BlobError, match="larger than the 10 bytes expected"):
            await client.get_blob(root, 10)
        with pytest.raises(BlobNotFound, match="has no blob"):
            await client.get_blob(bytes(32), 10)
        (file,) = (tmp_path / "blobs").glob(f"*/{root.hex()}")
        file.write_bytes(b"not what hashes to that root")
        with pytest.raises(BlobError, match="other bytes"):
            await client.get_blob(root, 100)
    with pytest.raises(CannotConnect, match="is the node running"):
        await client.put_blob(b"x")
