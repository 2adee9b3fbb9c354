"""Fetching one blob from several peers at once, chunk by proven chunk, or some chunks of one.

The rule: no byte is kept that its proof does not tie to the root, so a liar costs one request and its own standing.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence

import trio

from chain.blobs import BlobChunks
from chain.net.errors import PeerGone, PeerUnavailable
from chain.net.messages import CHUNKS_COUNT_MAX, Chunks, GetChunks
from chain.net.peer import Peer
from chain.primitives.blob import CHUNK_BYTES, FETCHED_BYTES_MAX, blob_root, chunk_count, verify_chunk
from chain.primitives.hashing import Hash

# Peers asked side by side: enough to hide a slow one, few enough that the first answers are not all the same.
PARALLEL_PEERS = 4
# One mebibyte at the slowest rate that is of use (100 kB/s).
CHUNKS_DEADLINE_S = 10.0
_EMPTY_ROOT = blob_root(b"")

Blame = Callable[[Peer, float, str], None]


class _Chunk(enum.IntEnum):
    MISSING = 0
    ASKED_FOR = 1
    HERE = 2


class Fetch:
    """One blob on its way. `blame(peer, points, reason)` is told who lied or stalled."""

    def __init__(self, root: Hash, bytes_max: int, blame: Blame) -> None:
        self._root = root
        self._bytes_max = min(bytes_max, FETCHED_BYTES_MAX)
        self._blame = blame
        # Both empty until the first proven chunk tells the length.
        self._data = bytearray()
        self._chunks = bytearray()
        self._missing: int | None = None
        self._too_large = False
        self._changed = trio.Event()

    async def run(self, peers: Sequence[Peer]) -> bytes | None:
        """The blob's bytes; None when no peer has it all or it is larger than wished."""
        if self._root == _EMPTY_ROOT:
            return b""
        limiter = trio.CapacityLimiter(PARALLEL_PEERS)
        async with trio.open_nursery() as nursery:
            for peer in peers:
                nursery.start_soon(self._from_peer, peer, limiter, nursery.cancel_scope)
        return bytes(self._data) if self._missing == 0 and not self._too_large else None

    @property
    def _over(self) -> bool:
        return self._too_large or self._missing == 0

    async def _from_peer(self, peer: Peer, limiter: trio.CapacityLimiter, scope: trio.CancelScope) -> None:
        async with limiter:
            while (work := await self._next_range()) is not None:
                helpful = await self._ask(peer, work)
                for index in work:
                    if index < len(self._chunks) and self._chunks[index] == _Chunk.ASKED_FOR:
                        self._chunks[index] = _Chunk.MISSING
                self._changed.set()
                self._changed = trio.Event()
                if self._over:
                    scope.cancel()
                if not helpful:
                    return

    async def _next_range(self) -> range | None:
        """The chunks to ask for next; while the length is unknown everyone asks for the beginning."""
        while not self._over:
            if self._missing is None:
                return range(CHUNKS_COUNT_MAX)
            start = self._chunks.find(_Chunk.MISSING)
            if start >= 0:
                stop = start
                while stop < min(start + CHUNKS_COUNT_MAX, len(self._chunks)) and not self._chunks[stop]:
                    self._chunks[stop] = _Chunk.ASKED_FOR
                    stop += 1
                return range(start, stop)
            await self._changed.wait()
        return None

    async def _ask(self, peer: Peer, work: range) -> bool:
        """Ask for the range and keep what is proven; False when this peer is of no (more) use."""
        answer = await _answer(peer, self._root, work.start, len(work), self._blame)
        if answer is None:
            return False
        for index, (chunk, proof) in zip(work, answer.chunks, strict=False):
            if not verify_chunk(self._root, answer.total_length, index, chunk, proof):
                self._blame(peer, 100.0, f"sent a false chunk of blob {self._root.hex()[:8]}")
                return False
            if answer.total_length > self._bytes_max:
                self._too_large = True
                return False
            peer.helped = True
            self._keep(answer.total_length, index, chunk)
        return bool(answer.chunks)

    def _keep(self, total_length: int, index: int, chunk: bytes) -> None:
        if self._missing is None:
            self._data = bytearray(total_length)
            self._missing = chunk_count(total_length)
            self._chunks = bytearray(self._missing)
        if self._chunks[index] != _Chunk.HERE:
            self._chunks[index] = _Chunk.HERE
            self._missing -= 1
            self._data[index * CHUNK_BYTES : index * CHUNK_BYTES + len(chunk)] = chunk


async def fetch_chunks(peer: Peer, root: Hash, first: int, count: int, blame: Blame) -> BlobChunks | None:
    """Up to `count` proven chunks of a blob from `first` on; None when this peer has none of them to give."""
    asked = min(count, CHUNKS_COUNT_MAX)
    answer = await _answer(peer, root, first, asked, blame)
    if answer is None or not answer.chunks:
        return None
    for index, (chunk, proof) in enumerate(answer.chunks, first):
        if not verify_chunk(root, answer.total_length, index, chunk, proof):
            blame(peer, 100.0, f"sent a false chunk of blob {root.hex()[:8]}")
            return None
    if len(answer.chunks) != min(asked, chunk_count(answer.total_length) - first):
        return None
    peer.helped = True
    return BlobChunks(answer.total_length, answer.chunks)


async def _answer(peer: Peer, root: Hash, first: int, count: int, blame: Blame) -> Chunks | None:
    """What a peer says when it is asked for chunks; None when it is of no (more) use."""
    try:
        answer = await peer.request(lambda request: GetChunks(request, root, first, count), CHUNKS_DEADLINE_S)
    except PeerGone:
        return None
    except PeerUnavailable as error:
        blame(peer, 10.0, str(error))
        return None
    if not isinstance(answer, Chunks):
        raise AssertionError("the peer's answers are matched to requests by type")
    return answer
