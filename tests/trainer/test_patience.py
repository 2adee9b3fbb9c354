"""What hangs is given up by name, and work goes on: a node that takes connections and is mute, a blob that drips."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

from chain.primitives.blob import blob_root
from chain.rpc import blob_client, client, link
from chain.rpc.client import Client
from tests.rpc.kit import ALICE, served
from trainer.measured import MeasuredNode
from trainer.metrics import Meter
from trainer.node import NodeError, RpcNode

Serve = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[str]:
    """A server on this machine that is no node."""
    async with trio.open_nursery() as nursery:
        serving = partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
        listeners = await nursery.start(serving)
        yield f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def say_nothing(stream: trio.SocketStream) -> None:
    """Take what comes, and answer none of it."""
    async for _ in stream:
        pass


async def drip(stream: trio.SocketStream) -> None:
    """Begin a blob, and send it a byte at a time: never silent for long, and never done."""
    await stream.receive_some(4096)
    await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    while True:
        try:
            await stream.send_all(b".")
        except trio.BrokenResourceError:
            return
        await trio.sleep(0.005)


async def test_a_node_that_takes_connections_and_says_nothing_is_left_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "HANDSHAKE_SECONDS", 0.1)
    with trio.fail_after(60):
        async with served(tmp_path) as it, listening(say_nothing) as silent:
            async with Client.reconnecting([silent]) as lost:
                with pytest.raises(client.CannotConnect, match=r"no node for 0.5 s: .* \(no answer in 0.1 s\)"):
                    await lost.request("system_chain", timeout=0.5)
            async with Client.reconnecting([silent, it.url]) as found:
                assert await MeasuredNode(RpcNode(found, ALICE), Meter()).task_ids() == [0]


async def test_a_node_that_takes_requests_and_answers_none_is_given_up_with_what_it_was_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def take(request: WebSocketRequest) -> None:
        connection = await request.accept()
        with suppress(ConnectionClosed):
            while True:
                await connection.get_message()

    monkeypatch.setattr(client.Client.request, "__kwdefaults__", {"timeout": 0.2})
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve_websocket, take, "127.0.0.1", 0, None)
            async with Client.reconnecting([f"ws://127.0.0.1:{server.port}"]) as connected:
                node = RpcNode(connected, ALICE)
                with pytest.raises(
                    NodeError, match=r"training_tasks: .* did not answer in 0.2 s: is the node overloaded"
                ):
                    await node.task_ids()
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("serve", "bound", "said"),
    [
        (drip, "TOTAL_SECONDS", r"a blob was not through at .* after 0.2 s"),
        (say_nothing, "SILENT_SECONDS", r"was silent for 0.2 s while a blob was on its way"),
    ],
)
async def test_a_blob_that_does_not_come_is_given_up_and_asked_for_again(
    serve: Serve, bound: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blob_client, bound, 0.2)
    meter = Meter()
    with trio.fail_after(60):
        async with listening(serve) as url:
            node = MeasuredNode(RpcNode(Client([url], reconnects=True), ALICE), meter)
            for _ in range(2):  # A step that failed is due again at the next head, with a new connection.
                with pytest.raises(NodeError, match=said):
                    await node.get_blob(blob_root(b"x"), 1 << 20)
    assert meter.running["fetch"] == 0
