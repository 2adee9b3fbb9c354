"""Blobs over HTTP: what goes up and what comes down is checked against its root on this side."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx
import trio

from chain.primitives.blob import blob_root
from chain.rpc.errors import BlobError, BlobNotFound, CannotConnect

# 64 MiB over a 10 Mbit/s line is 54 s; a silence of 30 s is a dead line.
TOTAL_SECONDS = 180.0
SILENT_SECONDS = 30.0


def http_url(url: str) -> str:
    """The HTTP side of a node's WebSocket address: `ws://host:9944` is `http://host:9944`."""
    parts = urlsplit(url)
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    return f"{scheme}://{parts.netloc}"


async def put(url: str, data: bytes) -> bytes:
    """PUT `data` at the node and return its root."""
    root = await trio.to_thread.run_sync(blob_root, data)
    try:
        with trio.fail_after(TOTAL_SECONDS):
            async with _http() as http:
                answer = await http.put(f"{http_url(url)}/blobs/0x{root.hex()}", content=data)
    except (httpx.HTTPError, trio.TooSlowError) as error:
        raise _unreachable(url, error) from None
    if answer.status_code not in (200, 201):
        raise BlobError(f"{url} refused a blob of {len(data)} bytes: {_reason(answer)}")
    return root


async def get(url: str, root: bytes, size_max: int) -> bytes:
    """GET the blob of `root`, at most `size_max` bytes of it, and verify it."""
    name = f"0x{root.hex()}"
    data = bytearray()
    try:
        with trio.fail_after(TOTAL_SECONDS):
            async with _http() as http, http.stream("GET", f"{http_url(url)}/blobs/{name}") as answer:
                if answer.status_code != 200:
                    await answer.aread()
                    if answer.status_code == 404:
                        raise BlobNotFound(f"{url} has no blob {name}, and none of its peers gave it")
                    raise BlobError(f"{url} did not give blob {name}: {_reason(answer)}")
                async for piece in answer.aiter_raw():
                    data += piece
                    if len(data) > size_max:
                        raise BlobError(f"blob {name} of {url} is larger than the {size_max} bytes expected")
    except (httpx.HTTPError, trio.TooSlowError) as error:
        raise _unreachable(url, error) from None
    found = await trio.to_thread.run_sync(blob_root, bytes(data))
    if found != root:
        raise BlobError(f"{url} gave other bytes for blob {name}: {len(data)} bytes with root 0x{found.hex()}")
    return bytes(data)


def _http() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=httpx.Timeout(SILENT_SECONDS), trust_env=False)


def _reason(answer: httpx.Response) -> str:
    return answer.text.strip()[:200] or f"HTTP status {answer.status_code}"


def _unreachable(url: str, error: Exception) -> CannotConnect:
    if isinstance(error, httpx.ConnectError):
        return CannotConnect(f"cannot reach {http_url(url)}: connection refused: is the node running?")
    if isinstance(error, httpx.TimeoutException | trio.TooSlowError):
        return CannotConnect(f"{http_url(url)} was silent for too long while a blob was on its way")
    return CannotConnect(f"the connection to {http_url(url)} broke while a blob was on its way: {error}")
