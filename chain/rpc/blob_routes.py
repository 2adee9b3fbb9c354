"""Blobs over HTTP: `GET /blobs/{root}` streams one, `PUT /blobs/{root}` takes one whose bytes have that root."""

from __future__ import annotations

import re

import trio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from chain.blobs import BlobStoreFull
from chain.primitives.blob import blob_root
from chain.rpc.backend import Backend
from chain.rpc.body import BodyTooLarge, BodyTooSlow, read_body
from chain.rpc.protocol import Limits

ROOT = re.compile(r"(?:0x)?([0-9a-f]{64})\Z")
# What goes to the socket at once: with the send limit, a client that takes less than 16 kB/s is dropped.
PIECE_BYTES = 64 * 1024
# A download holds its blob in memory from the first byte to the last.
DOWNLOADS_MAX = 16
FETCHES_MAX = 8


class BlobRoutes:
    """The two handlers; a few at once, since each holds a blob in memory."""

    def __init__(self, backend: Backend, limits: Limits) -> None:
        self._backend = backend
        self._limits = limits
        self._uploads = trio.CapacityLimiter(limits.blob_uploads_max)
        self._fetches = trio.CapacityLimiter(FETCHES_MAX)
        self._downloads = trio.CapacityLimiter(DOWNLOADS_MAX)

    async def get(self, request: Request) -> Response:
        """The blob, from this node or its peers."""
        root = _root(request)
        if root is None:
            return _wrong_root(request)
        return _Download(root, self._backend, self._fetches, self._downloads)

    async def put(self, request: Request) -> Response:
        """Take a blob: 201 with its root, 400 when its bytes have another."""
        root = _root(request)
        if root is None:
            return _wrong_root(request)
        async with self._uploads:
            try:
                data = await read_body(request, self._limits.blob_bytes_max, self._limits.idle_seconds)
            except BodyTooLarge as error:
                return PlainTextResponse(f"the blob is too large: {error}\n", 413)
            except BodyTooSlow as error:
                return PlainTextResponse(f"{error}\n", 408)
            except ClientDisconnect:
                return Response(status_code=400)
            found = await trio.to_thread.run_sync(blob_root, data)
            if found != root:
                expected = f"expected bytes with root 0x{root.hex()}, got {len(data)} bytes with root 0x{found.hex()}"
                return PlainTextResponse(f"{expected}\n", 400)
            try:
                await trio.to_thread.run_sync(self._backend.blobs.put, data)
            except BlobStoreFull as error:
                return PlainTextResponse(f"{error}\n", 507)
        return PlainTextResponse(f"0x{root.hex()}\n", 201)


class _Download(Response):
    """Finds a blob and streams it, within the number of downloads that may be under way."""

    def __init__(self, root: bytes, backend: Backend, fetches: trio.CapacityLimiter, downloads: trio.CapacityLimiter):
        super().__init__()
        self._root = root
        self._backend = backend
        self._fetches = fetches
        self._downloads = downloads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if await trio.to_thread.run_sync(self._backend.blobs.has, self._root):
            async with self._downloads:
                data = await trio.to_thread.run_sync(self._backend.blobs.get, self._root)
                await self._answer(data, scope, receive, send)
        else:  # Apart, so that questions for what nobody has do not take the turns of what is here.
            async with self._fetches:
                data = await self._backend.fetch_blob(self._root)
                await self._answer(data, scope, receive, send)

    async def _answer(self, data: bytes | None, scope: Scope, receive: Receive, send: Send) -> None:
        if data is None:
            missing = PlainTextResponse(f"no blob 0x{self._root.hex()} here or at the peers\n", 404)
            await missing(scope, receive, send)
            return
        headers = {
            b"content-length": str(len(data)).encode(),
            b"content-type": b"application/octet-stream",
            b"cache-control": b"public, max-age=31536000, immutable",
        }
        await send({"type": "http.response.start", "status": 200, "headers": list(headers.items())})
        for start in range(0, len(data), PIECE_BYTES):
            await send({"type": "http.response.body", "body": data[start : start + PIECE_BYTES], "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _root(request: Request) -> bytes | None:
    match = ROOT.match(request.path_params["root"])
    return bytes.fromhex(match[1]) if match else None


def _wrong_root(request: Request) -> Response:
    given = request.path_params["root"][:80]
    return PlainTextResponse(f"expected /blobs/0x and 64 hex digits, got {given!r}\n", 400)
