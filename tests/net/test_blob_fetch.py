"""Blobs over the network: whole and proven, or not at all."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import trio

from chain.blobs import BlobChunks, BlobStore
from chain.primitives.blob import CHUNK_BYTES, blob_root
from chain.primitives.hashing import Hash
from tests.net.kit import ALICE, BOB, CHARLIE, DAVE, HOST, Node, Running, arena, start, until_peers

# 20 chunks, the last one short: two requests.
BLOB = Random(7).randbytes(19 * CHUNK_BYTES + 17)
ROOT = blob_root(BLOB)
MIB = 1 << 20


class Liar(Node):
    """Has the blob, and changes one byte of every chunk that it gives."""

    def blob_chunks(self, root: Hash, index: int, count: int) -> BlobChunks | None:
        found = super().blob_chunks(root, index, count)
        assert found is not None
        return dataclasses.replace(
            found, chunks=tuple((bytes([chunk[0] ^ 1]) + chunk[1:], proof) for chunk, proof in found.chunks)
        )


class Forgetful(Node):
    """Gives the first request's worth and then says that it has nothing."""

    def blob_chunks(self, root: Hash, index: int, count: int) -> BlobChunks | None:
        return super().blob_chunks(root, index, count) if index == 0 else None


class Stingy(Node):
    """Gives one chunk at a time, whatever is asked for."""

    def blob_chunks(self, root: Hash, index: int, count: int) -> BlobChunks | None:
        assert count
        return super().blob_chunks(root, index, 1)


def store(path: Path, *blobs: bytes) -> BlobStore:
    made = BlobStore(path, 64 * MIB)
    for blob in blobs:
        made.put(blob)
    return made


@asynccontextmanager
async def alice_connected_to(*others: Node) -> AsyncIterator[tuple[Running, Sequence[Running]]]:
    async with arena() as nursery:
        running = [await start(nursery, key, node) for key, node in zip((BOB, CHARLIE, DAVE), others, strict=False)]
        alice = await start(nursery, ALICE, Node(), [(HOST, other.port, None) for other in running])
        await until_peers(alice, len(running))
        yield alice, running


async def test_a_blob_comes_whole_from_several_peers(tmp_path: Path) -> None:
    blobs = store(tmp_path, BLOB)
    async with alice_connected_to(Node(blobs=blobs), Node(blobs=blobs), Node()) as (alice, _):
        assert await alice.network.fetch_blob(ROOT, 4 * MIB) == BLOB


async def test_a_lying_peer_costs_itself_and_not_the_blob(tmp_path: Path) -> None:
    blobs = store(tmp_path, BLOB)
    async with alice_connected_to(Liar(blobs=blobs), Node(blobs=blobs)) as (alice, _):
        assert await alice.network.fetch_blob(ROOT, 4 * MIB) == BLOB
        # The fetch may be over before the liar answered; then ask the liar again, alone among those who have it.
        while len(alice.network.peers()) == 2:
            await alice.network.fetch_blob(ROOT, 4 * MIB)
        assert [peer.id for peer in alice.network.peers()] == [CHARLIE.public]


async def test_what_one_peer_will_not_give_comes_from_another(tmp_path: Path) -> None:
    blobs = store(tmp_path, BLOB)
    async with alice_connected_to(Forgetful(blobs=blobs), Stingy(blobs=blobs), Forgetful(blobs=blobs)) as (alice, _):
        assert await alice.network.fetch_blob(ROOT, 4 * MIB) == BLOB


async def test_nobody_who_has_the_blob_or_all_of_it_is_none(tmp_path: Path) -> None:
    async with alice_connected_to(Forgetful(blobs=store(tmp_path, BLOB)), Node()) as (alice, _):
        assert await alice.network.fetch_blob(ROOT, 4 * MIB) is None
        assert await alice.network.fetch_blob(blob_root(b"unheard of"), 4 * MIB) is None


async def test_a_blob_larger_than_wished_is_none_and_nobodys_fault(tmp_path: Path) -> None:
    async with alice_connected_to(Node(blobs=store(tmp_path, BLOB))) as (alice, _):
        assert await alice.network.fetch_blob(ROOT, len(BLOB) - 1) is None
        assert await alice.network.fetch_blob(ROOT, len(BLOB)) == BLOB


async def test_the_empty_blob_needs_no_peer() -> None:
    async with alice_connected_to() as (alice, _):
        assert await alice.network.fetch_blob(blob_root(b""), 1) == b""
        assert await alice.network.fetch_blob(ROOT, 4 * MIB) is None


async def test_a_peer_that_goes_away_in_the_middle_is_replaced(tmp_path: Path) -> None:
    blobs = store(tmp_path, BLOB)

    class Leaving(Node):
        running: Running

        def blob_chunks(self, root: Hash, index: int, count: int) -> BlobChunks | None:
            if index:
                trio.from_thread.run_sync(self.running.scope.cancel)
            return super().blob_chunks(root, index, count)

    leaving = Leaving(blobs=blobs)
    async with alice_connected_to(leaving, Stingy(blobs=blobs)) as (alice, others):
        leaving.running = others[0]
        assert await alice.network.fetch_blob(ROOT, 4 * MIB) == BLOB


async def test_some_chunks_come_from_whoever_has_them_and_a_liar_pays(tmp_path: Path) -> None:
    blobs = store(tmp_path, BLOB)
    async with alice_connected_to(Liar(blobs=blobs), Node(), Stingy(blobs=blobs), Node(blobs=blobs)) as (alice, _):
        while len(alice.network.peers()) == 3:
            found = await alice.network.fetch_chunks(ROOT, 18, 4)
            assert found is None or (found.total_length, b"".join(chunk for chunk, _ in found.chunks)) == (
                len(BLOB),
                BLOB[18 * CHUNK_BYTES :],
            )
        assert BOB.public not in [peer.id for peer in alice.network.peers()]
        assert await alice.network.fetch_chunks(ROOT, 20, 1) is None
        assert await alice.network.fetch_chunks(blob_root(b"unheard of"), 0, 1) is None
