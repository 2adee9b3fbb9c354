"""Blobs over HTTP: what goes up and what comes down is checked against its root on this side."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

import h11
import trio

from chain.primitives.blob import ChunkError, answer_bytes_max, blob_root, decode_chunks
from chain.rpc.errors import BlobError, BlobNotFound, BlobTooLarge, CannotConnect
from chain.rpc.link import os_reason

# 64 MiB over a 10 Mbit/s line is 54 s; a silence of 30 s is a dead line.
TOTAL_SECONDS = 180.0
SILENT_SECONDS = 30.0
PIECE_BYTES = 64 * 1024
# What a refusal says fits in a line or two.
REASON_BYTES_MAX = 4096


@dataclass(frozen=True, slots=True)
class _Answer:
    """A response; `data` is None when it was longer than asked for."""

    status: int
    data: bytes | None

    def reason(self) -> str:
        text = (self.data or b"")[:200].decode(errors="replace").strip()
        return text or f"HTTP status {self.status}"


async def put(url: str, data: bytes) -> bytes:
    """PUT `data` at the node and return its root."""
    root = await trio.to_thread.run_sync(blob_root, data)
    answer = await _exchange(url, "PUT", root, data, REASON_BYTES_MAX)
    if answer.status not in (200, 201):
        raise BlobError(f"{url} refused a blob of {len(data)} bytes: {answer.reason()}")
    return root


async def get(url: str, root: bytes, size_max: int) -> bytes:
    """GET the blob of `root`, at most `size_max` bytes of it, and verify it."""
    name = f"0x{root.hex()}"
    answer = await _exchange(url, "GET", root, b"", size_max)
    if answer.status == 404:
        raise BlobNotFound(f"{url} has no blob {name}, and none of its peers gave it")
    if answer.status != 200:
        raise BlobError(f"{url} did not give blob {name}: {answer.reason()}")
    if answer.data is None:
        raise BlobTooLarge(f"blob {name} of {url} is larger than the {size_max} bytes expected")
    found = await trio.to_thread.run_sync(blob_root, answer.data)
    if found != root:
        raise BlobError(f"{url} gave other bytes for blob {name}: {len(answer.data)} bytes with root 0x{found.hex()}")
    return answer.data


async def get_chunks(url: str, root: bytes, first: int, count: int) -> tuple[int, bytes]:
    """The length of a blob, and its bytes from chunk `first` on, `count` chunks at most, each proven by the root."""
    name, query = f"0x{root.hex()}", f"/chunks?first={first}&count={count}"
    answer = await _exchange(url, "GET", root, b"", answer_bytes_max(count), query)
    if answer.status == 404:
        raise BlobNotFound(f"{url} has no blob {name}, and none of its peers gave it")
    if answer.status != 200 or answer.data is None:
        raise BlobError(f"{url} did not give chunks from {first} on of blob {name}: {answer.reason()}")
    try:
        return await trio.to_thread.run_sync(decode_chunks, root, first, count, answer.data)
    except ChunkError as error:
        raise BlobError(f"{url} gave other bytes for chunks from {first} on of blob {name}: {error}") from None


async def _exchange(url: str, verb: str, root: bytes, body: bytes, size_max: int, query: str = "") -> _Answer:
    """One request on a connection of its own."""
    parts = urlsplit(url)
    secure = parts.scheme in ("wss", "https")
    host = parts.hostname or ""
    port = parts.port or (443 if secure else 80)
    try:
        with trio.move_on_after(TOTAL_SECONDS):
            if secure:
                stream: trio.abc.Stream = await trio.open_ssl_over_tcp_stream(
                    host, port, ssl_context=ssl.create_default_context(), https_compatible=True
                )
            else:
                stream = await trio.open_tcp_stream(host, port)
            try:
                return await _converse(stream, parts.netloc, verb, f"/blobs/0x{root.hex()}{query}", body, size_max)
            finally:
                await trio.aclose_forcefully(stream)
    except OSError as error:
        raise CannotConnect(f"cannot reach {url} for a blob: {os_reason(error)}: is the node running?") from None
    except trio.TooSlowError:
        raise CannotConnect(f"{url} was silent for {SILENT_SECONDS:g} s while a blob was on its way") from None
    except (trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError) as error:
        raise CannotConnect(f"the connection to {url} broke while a blob was on its way: {os_reason(error)}") from None
    raise CannotConnect(f"a blob was not through at {url} after {TOTAL_SECONDS:g} s: is the line too slow for it?")


async def _converse(stream: trio.abc.Stream, host: str, verb: str, target: str, body: bytes, size_max: int) -> _Answer:
    http = h11.Connection(h11.CLIENT)
    headers = [("host", host), ("content-length", str(len(body))), ("connection", "close")]
    head = h11.Request(method=verb, target=target, headers=headers)
    await stream.send_all(http.send(head) or b"")
    try:
        for start in range(0, len(body), PIECE_BYTES):
            with trio.fail_after(SILENT_SECONDS):
                await stream.send_all(http.send(h11.Data(data=body[start : start + PIECE_BYTES])) or b"")
        await stream.send_all(http.send(h11.EndOfMessage()) or b"")
    except trio.BrokenResourceError:
        pass  # A node that refuses a blob answers before it has read it: the answer says why.
    status = 0
    data = bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            with trio.fail_after(SILENT_SECONDS):
                http.receive_data(bytes(await stream.receive_some(PIECE_BYTES)))
        elif isinstance(event, h11.Response):
            status = event.status_code
            size_max = size_max if status == 200 else max(size_max, REASON_BYTES_MAX)
        elif isinstance(event, h11.Data):
            data += event.data
            if len(data) > size_max:
                return _Answer(status, None)
        elif isinstance(event, h11.EndOfMessage):
            return _Answer(status, bytes(data))
        elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
            raise h11.RemoteProtocolError("it ended before the whole answer came")
