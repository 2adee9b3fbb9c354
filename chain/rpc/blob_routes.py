"""Blobs over HTTP: `GET /blobs/{root}` streams one, `PUT /blobs/{root}` takes one whose bytes have that root, and
`GET /blobs/{root}/chunks?first=0&count=4` gives a range of 64 KiB chunks, each with the Merkle path that proves it.

Both move pieces between socket and disk, so that clients, however slow or many, hold no blob in memory and no turn that
others wait for.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TypeVar

import trio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from chain.blobs import BlobStoreFull, StoredBlob, Upload
from chain.primitives.blob import RANGE_CHUNKS_MAX, encode_chunks
from chain.primitives.hashing import Hash
from chain.rpc.backend import Backend
from chain.rpc.body import BodyTooLarge, BodyTooSlow, body_pieces
from chain.rpc.protocol import Limits

ROOT = re.compile(r"(?:0x)?([0-9a-f]{64})\Z")
IMMUTABLE = "public, max-age=31536000, immutable"
# What goes to the socket at once: with the send limit, a client that takes less than 4 kB/s is dropped.
PIECE_BYTES = 64 * 1024
# What goes to or from the disk in one visit to a thread, and thus what one client holds in memory.
DISK_BYTES = 256 * 1024
_INDEX = re.compile(r"0|[1-9][0-9]{0,7}")
# The disk's own threads: no number of clients takes those that blocks and votes need.
THREADS = 4
# A blob that is fetched from peers is in memory until it is whole. What the chain names has turns of its own, so that
# questions for what nobody has cannot take them.
FETCHES_MAX = 4

T = TypeVar("T")


@dataclass(slots=True)
class _Fetching:
    """A question to the peers that is under way."""

    over: trio.Event = field(default_factory=trio.Event)
    answered: bool = False


class BlobRoutes:
    """The handlers."""

    def __init__(self, backend: Backend, limits: Limits) -> None:
        self._backend = backend
        self._limits = limits
        self._threads = trio.CapacityLimiter(THREADS)
        self._fetches = {wanted: trio.CapacityLimiter(FETCHES_MAX) for wanted in (True, False)}
        self._fetching: dict[Hash, _Fetching] = {}

    async def get(self, request: Request) -> Response:
        """The blob, from this node or its peers."""
        root = _root(request)
        return _wrong_root(request) if root is None else _Download(root, self)

    async def put(self, request: Request) -> Response:
        """Take a blob: 201 with its root, 400 when its bytes have another, 507 when there is no room."""
        root = _root(request)
        if root is None:
            return _wrong_root(request)
        try:
            upload = await self.in_thread(self._backend.blobs.begin)
            try:
                return await self._receive(request, upload, root)
            finally:
                with trio.CancelScope(shield=True):
                    await self.in_thread(upload.close)
        except BodyTooLarge as error:
            return PlainTextResponse(f"the blob is too large: {error}\n", 413)
        except BodyTooSlow as error:
            return PlainTextResponse(f"{error}\n", 408)
        except ClientDisconnect:
            return Response(status_code=400)
        except (BlobStoreFull, OSError) as error:
            return _no_room(error)

    async def _receive(self, request: Request, upload: Upload, root: Hash) -> Response:
        size, waiting = 0, bytearray()
        async with aclosing(body_pieces(request, self._limits.blob_bytes_max, self._limits.idle_seconds)) as pieces:
            async for piece in pieces:
                size += len(piece)
                waiting += piece
                if len(waiting) >= DISK_BYTES:
                    await self.in_thread(upload.write, waiting)
                    waiting = bytearray()
        await self.in_thread(upload.write, waiting)
        found = await self.in_thread(upload.root)
        if found != root:
            expected = f"expected bytes with root 0x{root.hex()}, got {size} bytes with root 0x{found.hex()}"
            return PlainTextResponse(f"{expected}\n", 400)
        await self.in_thread(upload.keep)
        return PlainTextResponse(f"0x{root.hex()}\n", 201)

    async def get_chunks(self, request: Request) -> Response:
        """Chunks of a blob with their proofs (`chain.primitives.blob.decode_chunks` reads them); 416 beyond its end.

        What is not here comes from a peer, and is not kept: who asks for a range does not want the whole.
        """
        root = _root(request)
        if root is None:
            return _wrong_root(request)
        query = request.query_params
        texts = [query.get("first", ""), query.get("count", "")]
        if len(query.multi_items()) != 2 or not all(_INDEX.fullmatch(text) for text in texts):
            return PlainTextResponse(
                f"expected ?first=0&count=1 to {RANGE_CHUNKS_MAX}, got {str(request.url.query)[:80]!r}\n", 400
            )
        first, count = map(int, texts)
        if not 1 <= count <= RANGE_CHUNKS_MAX:
            return PlainTextResponse(f"expected 1 to {RANGE_CHUNKS_MAX} chunks, got {count}\n", 400)
        store = self._backend.blobs
        found = await self.in_thread(store.chunks, root, first, count)
        if found is None:
            async with self._fetches[store.wants(root)]:
                found = await self._backend.fetch_chunks(root, first, count)
        if found is None:
            return _missing(root)
        if not found.chunks:
            return PlainTextResponse(f"the blob has {found.total_length} bytes: no chunk {first}\n", 416)
        body = await self.in_thread(encode_chunks, found.total_length, found.chunks)
        return Response(body, media_type="application/octet-stream", headers={"cache-control": IMMUTABLE})

    async def find(self, root: Hash) -> StoredBlob | None:
        """The blob from the store, where it is put if only a peer has it. Raises `BlobStoreFull` or OSError."""
        store = self._backend.blobs
        blob = await self.in_thread(store.open, root)
        asked = False
        while blob is None and not asked:
            asked = await self._ask_peers(root)
            blob = await self.in_thread(store.open, root)
        return blob

    async def _ask_peers(self, root: Hash) -> bool:
        """Ask the peers, once for all who wait; False when the one who asked was cut off before they had answered."""
        under_way = self._fetching.get(root)
        if under_way is not None:
            await under_way.over.wait()
            return under_way.answered
        mine = self._fetching[root] = _Fetching()
        try:
            async with self._fetches[self._backend.blobs.wants(root)]:
                await self._backend.fetch_blob(root)
            mine.answered = True
        finally:
            del self._fetching[root]
            mine.over.set()
        return True

    async def in_thread(self, call: Callable[..., T], *arguments: object) -> T:
        """Call the store in one of the blobs' own threads."""
        return await trio.to_thread.run_sync(call, *arguments, limiter=self._threads)


class _Download(Response):
    """Finds a blob and streams it."""

    def __init__(self, root: Hash, routes: BlobRoutes) -> None:
        super().__init__()
        self._root = root
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            blob = await self._routes.find(self._root)
        except (BlobStoreFull, OSError) as error:
            await _no_room(error)(scope, receive, send)
            return
        if blob is None:
            await _missing(self._root)(scope, receive, send)
            return
        try:
            await self._stream(blob, send)
        finally:
            blob.close()

    async def _stream(self, blob: StoredBlob, send: Send) -> None:
        headers = {
            b"content-length": str(blob.length).encode(),
            b"content-type": b"application/octet-stream",
            b"cache-control": IMMUTABLE.encode(),
        }
        await send({"type": "http.response.start", "status": 200, "headers": list(headers.items())})
        for start in range(0, blob.length, DISK_BYTES):
            data = await self._routes.in_thread(blob.read, start, DISK_BYTES)
            for offset in range(0, len(data), PIECE_BYTES):
                piece = data[offset : offset + PIECE_BYTES]
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _root(request: Request) -> Hash | None:
    match = ROOT.match(request.path_params["root"])
    return bytes.fromhex(match[1]) if match else None


def _wrong_root(request: Request) -> Response:
    given = request.path_params["root"][:80]
    return PlainTextResponse(f"expected /blobs/0x and 64 hex digits, got {given!r}\n", 400)


def _missing(root: Hash) -> Response:
    return PlainTextResponse(f"no blob 0x{root.hex()} here or at the peers\n", 404)


def _no_room(error: Exception) -> Response:
    return PlainTextResponse(f"this node cannot store the blob: {error}\n", 507)
