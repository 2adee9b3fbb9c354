"""Blobs over HTTP under clients that stall, flood and ask for what nobody has: whoever behaves is served at once."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, cast

import httpx
import pytest
import trio
import trio.testing

from chain.blobs import INCOMING_SHARE, BlobStore
from chain.primitives.blob import CHUNK_BYTES, RANGE_CHUNKS_MAX, blob_root
from chain.primitives.hashing import Hash
from chain.rpc.blob_routes import FETCHES_MAX, BlobRoutes
from chain.rpc.client import BlobError, BlobNotFound, Client
from chain.rpc.protocol import Limits
from tests.rpc.kit import Served, served

MIB = 1024 * 1024


@asynccontextmanager
async def browser() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(verify=False, trust_env=False, timeout=60) as http:
        yield http


def url(it: Served, root: bytes) -> str:
    return f"{it.http}/blobs/0x{root.hex()}"


async def stalled(it: Served, head: bytes) -> trio.SocketStream:
    """A connection that sends this and then neither sends nor reads."""
    raw = socket.create_connection(("127.0.0.1", it.server.port))
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(raw))
    await stream.send_all(head)
    return stream


async def test_uploads_and_downloads_that_stall_hold_up_nobody(tmp_path: Path) -> None:
    async with served(tmp_path) as it, browser() as http:
        large = it.node.blobs.put(bytes(4 * MIB))
        name = b"0x" + b"ab" * 32
        streams = []
        for _ in range(30):
            put = b"PUT /blobs/%b HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\nx" % (name, 60 * MIB)
            get = b"GET /blobs/%b HTTP/1.1\r\nhost: a\r\n\r\n" % large.hex().encode()
            streams += [await stalled(it, put), await stalled(it, get)]
        with trio.fail_after(60):
            mine = b"mine" * 1000
            answer = await http.put(url(it, blob_root(mine)), content=mine)
            assert (answer.status_code, answer.text) == (201, f"0x{blob_root(mine).hex()}\n")
            assert (await http.get(url(it, blob_root(mine)))).content == mine
            assert (await http.get(url(it, large))).content == bytes(4 * MIB)
        for stream in streams:
            await trio.aclose_forcefully(stream)
        await until(lambda: it.server.connections <= 1)
        assert not list((tmp_path / "blobs").glob("*/*.part"))


async def test_a_flood_of_uploads_leaves_what_the_chain_names(tmp_path: Path) -> None:
    async with served(tmp_path) as it, browser() as http:
        store = it.node.blobs = BlobStore(tmp_path / "small", INCOMING_SHARE * MIB)
        named = blob_root(b"named")
        store.keep("chain", {named: 5})
        assert (await http.put(url(it, named), content=b"named")).status_code == 201
        for number in range(10):
            data = bytes([number]) * (MIB // 3)
            assert (await http.put(url(it, blob_root(data)), content=data)).status_code == 201
        assert (await http.get(url(it, named))).content == b"named"
        assert store.bytes_used <= 2 * MIB
        too_much = bytes(MIB + 1)
        refused = await http.put(url(it, blob_root(too_much)), content=too_much)
        assert (refused.status_code, "does not fit" in refused.text) == (507, True)


async def until(condition: Callable[[], object]) -> None:
    """Wait for what threads and sockets bring about."""
    with trio.fail_after(60):
        while not condition():
            await trio.testing.wait_all_tasks_blocked(0.001)


class Backend:
    """A node whose peers answer when a test lets them."""

    def __init__(self, blobs: BlobStore, fetch: Callable[[Hash], Awaitable[None]]) -> None:
        self.blobs = blobs
        self.fetch_blob = fetch


async def test_questions_for_what_nobody_has_take_no_turn_of_what_the_chain_names(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, MIB)
    asked: list[Hash] = []

    async def fetch(root: Hash) -> None:
        asked.append(root)
        if root == named:
            store.put(b"named")
        else:
            await trio.sleep_forever()

    named = blob_root(b"named")
    store.keep("chain", {named: 5})
    routes = BlobRoutes(cast(Any, Backend(store, fetch)), Limits())
    async with trio.open_nursery() as nursery:
        for number in range(3 * FETCHES_MAX):
            nursery.start_soon(routes.find, bytes([number]) * 32)
            nursery.start_soon(routes.find, bytes([number]) * 32)
        await until(lambda: len(asked) == FETCHES_MAX)
        with trio.fail_after(60):
            blob = await routes.find(named)
        assert blob is not None
        blob.close()
        nursery.cancel_scope.cancel()
    assert len(asked) == FETCHES_MAX + 1
    assert len(set(asked)) == len(asked)


async def test_who_waits_for_another_s_question_asks_again_when_that_one_is_cut_off(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, MIB)
    asked: list[Hash] = []
    root = blob_root(b"late")

    async def fetch(root: Hash) -> None:
        asked.append(root)
        if len(asked) == 1:
            await trio.sleep_forever()
        store.put(b"late")

    routes = BlobRoutes(cast(Any, Backend(store, fetch)), Limits())
    first = trio.CancelScope()

    async def impatient() -> None:
        with first:
            await routes.find(root)

    found: list[int] = []

    async def patient() -> None:
        blob = await routes.find(root)
        assert blob is not None
        found.append(blob.length)
        blob.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(impatient)
        await until(lambda: asked)
        for _ in range(5):
            nursery.start_soon(patient)
        await trio.testing.wait_all_tasks_blocked(0.01)
        first.cancel()
    assert found == [4] * 5
    assert len(asked) >= 2


async def test_a_range_of_chunks_comes_proven_and_from_peers_without_being_kept(tmp_path: Path) -> None:
    data = Random(3).randbytes(5 * CHUNK_BYTES + 7)
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        here, there = it.node.blobs.put(data), blob_root(data[1:])
        it.node.peer_blobs[there] = data[1:]
        for root, expected in ((here, data), (there, data[1:])):
            found = await client.get_chunks(root, 4, RANGE_CHUNKS_MAX)
            assert found == (len(expected), expected[4 * CHUNK_BYTES :])
        assert not it.node.blobs.has(there)
        with pytest.raises(BlobNotFound):
            await client.get_chunks(blob_root(b"nowhere"), 0, 1)
        with pytest.raises(BlobError, match="no chunk 6"):
            await client.get_chunks(here, 6, 1)


async def test_a_node_that_gives_other_bytes_for_a_range_is_not_believed(tmp_path: Path) -> None:
    data = Random(3).randbytes(3 * CHUNK_BYTES)
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        it.node.peer_blobs[blob_root(data)] = data[:-1] + b"x"
        with pytest.raises(BlobError, match="chunk 1 is not proven"):
            await client.get_chunks(blob_root(data), 1, 2)


async def test_a_range_that_is_no_range_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as it, browser() as http:
        place = f"{url(it, it.node.blobs.put(bytes(100)))}/chunks"
        for query in (
            *("", "?first=0", "?first=0&count=0", f"?first=0&count={RANGE_CHUNKS_MAX + 1}", "?first=-1&count=1"),
            *("?first=00&count=1", "?first=0&count=1&count=1", "?first=1e3&count=1", "?first=123456789&count=1"),
        ):
            assert (await http.get(place + query)).status_code == 400
        assert (await http.get(f"{it.http}/blobs/0x12/chunks?first=0&count=1")).status_code == 400
        assert (await http.get(place + "?first=1&count=1")).status_code == 416
        whole = await http.get(place + "?first=0&count=16")
        assert (whole.status_code, whole.content) == (200, (100).to_bytes(8, "little") + bytes(100))
