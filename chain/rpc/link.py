"""One WebSocket connection to a node: requests by id, subscriptions by id, and an end that fails them all.

The reader never waits for a consumer: a subscription that is not read in time ends with `SlowSubscriber`.
"""

from __future__ import annotations

import json
import math
import os
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import SplitResult, urlsplit

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from chain.rpc.errors import CannotConnect, ConnectionLost, NoAddress, RpcError, SlowSubscriber

# The server bounds its responses at 16 MiB (metadata and a page of 1,000 keys are ~0.1 MB): twice that is garbage.
MESSAGE_BYTES_MAX = 32 * 1024 * 1024
CONNECT_SECONDS = 10.0
# A node that is up answers within milliseconds; what is not a node may never answer.
HANDSHAKE_SECONDS = 5.0
# A minute of heads at one block a second with room for bursts of storage changes.
STREAM_ITEMS_MAX = 256
# Sending is into a socket buffer: a node that takes nothing for this long is hung.
SEND_SECONDS = 5.0
# A node answers a ping within milliseconds, or within the second that its longest answer takes.
PROBE_SECONDS = 5.0
SILENT_SECONDS = 10.0


AnyStream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


class Stream:
    """The notifications of one subscription, in order: `async for item in stream`.

    With `latest` only the newest unread item is kept (for heads, where each item replaces the one before).
    """

    def __init__(self, name: str, *, latest: bool = False, items_max: int = STREAM_ITEMS_MAX) -> None:
        self.name = name
        self._latest = latest
        self._items: deque[Any] = deque()
        self._items_max = 1 if latest else items_max
        self._end: Exception | None = None
        self._wake = trio.Event()

    def push(self, item: object) -> bool:
        """Queue one item; False when this subscription has just ended because nobody reads it."""
        if self._end is not None:
            return False
        if len(self._items) >= self._items_max:
            if not self._latest:
                self.end(
                    SlowSubscriber(
                        f"{self.name}: {self._items_max} notifications arrived unread: read them faster, "
                        "or subscribe with latest=True"
                    )
                )
                return False
            self._items.clear()
        self._items.append(item)
        self._wake.set()
        return True

    def end(self, error: Exception) -> None:
        """No more items come; a reader gets `error` after the items that are queued."""
        if self._end is None:
            self._end = error
        self._wake.set()

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Any:
        await trio.lowlevel.checkpoint()
        while not self._items:
            if self._end is not None:
                raise self._end
            self._wake = trio.Event()
            await self._wake.wait()
        return self._items.popleft()


class _Waiter:
    """One request in flight, and the stream that its answer opens when it is a subscription."""

    __slots__ = ("done", "error", "result", "stream")

    def __init__(self, stream: Stream | None) -> None:
        self.done = trio.Event()
        self.result: Any = None
        self.error: Exception | None = None
        self.stream = stream


class Link:
    """A live connection; `run` reads it until it ends, then every waiter and stream fails with `ConnectionLost`."""

    def __init__(self, url: str, socket: WebSocketConnection) -> None:
        self.url = url
        self._socket = socket
        self._waiters: dict[int, _Waiter] = {}
        self._streams: dict[str, Stream] = {}
        self._next_id = 1
        self._heard = -math.inf  # when it last told something: not yet
        self.lost: ConnectionLost | None = None
        self.ended = trio.Event()

    async def request(self, method: str, params: list[object], stream: Stream | None = None) -> Any:
        """The result of one call; raises `RpcError` or `ConnectionLost`. With `stream`, the result is its id."""
        if self.lost is not None:
            raise self.lost
        number = self._next_id
        self._next_id += 1
        waiter = self._waiters[number] = _Waiter(stream)
        try:
            await self._send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
            await waiter.done.wait()
        finally:
            del self._waiters[number]
        if waiter.error is not None:
            raise waiter.error
        return waiter.result

    async def release(self, subscription: str, unsubscribe: str) -> None:
        """Forget a subscription and tell the node, without waiting for its answer."""
        self._streams.pop(subscription, None)
        if self.lost is None:
            number = self._next_id
            self._next_id += 1
            with suppress(ConnectionLost):
                await self._send({"jsonrpc": "2.0", "id": number, "method": unsubscribe, "params": [subscription]})

    async def _send(self, message: dict[str, object]) -> None:
        text = json.dumps(message, separators=(",", ":"))
        try:
            # Shielded: half a frame would garble every other request of this connection.
            with trio.move_on_after(SEND_SECONDS, shield=True) as scope:
                await self._socket.send_message(text)
            if scope.cancelled_caught:
                self.fail(f"{self.url} has taken no data for {SEND_SECONDS:.0f} s")
        except (ConnectionClosed, trio.ClosedResourceError, trio.BrokenResourceError) as error:
            self.fail(_closed_reason(self.url, error))
        if self.lost is not None:
            raise self.lost

    async def run(self) -> None:
        """Read until the connection ends."""
        try:
            while True:
                message = await self._socket.get_message()
                self._heard = trio.current_time()
                self._receive(message)
        except ConnectionClosed as error:
            self.fail(_closed_reason(self.url, error))
        finally:
            self.fail(f"the connection to {self.url} was closed by this program")

    async def probe(self) -> None:
        """Ping when nothing has come for a while: a node that hangs keeps the connection open, unnoticed."""
        self._heard = trio.current_time()
        while self.lost is None:
            silent = trio.current_time() - self._heard
            if silent < PROBE_SECONDS:
                await trio.sleep(PROBE_SECONDS - silent)
                continue
            with trio.move_on_after(SILENT_SECONDS) as scope:
                await self._socket.ping()
                self._heard = trio.current_time()
            if scope.cancelled_caught:
                self.fail(f"{self.url} has not answered for {SILENT_SECONDS:g} s: does the node hang?")

    def _receive(self, text: str | bytes) -> None:
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            return
        if not isinstance(message, dict):
            return
        params = message.get("params")
        if "method" in message and isinstance(params, dict):
            stream = self._streams.get(str(params.get("subscription")))
            if stream is not None:
                stream.push(params.get("result"))
            return
        number = message.get("id")
        waiter = self._waiters.get(number) if isinstance(number, int) else None
        if waiter is None:
            return
        error = message.get("error")
        if isinstance(error, dict):
            code = error.get("code")
            text = str(error.get("message", ""))
            waiter.error = RpcError(code if isinstance(code, int) else 0, text, error.get("data"))
        else:
            waiter.result = message.get("result")
            if waiter.stream is not None:  # Registered here: the next message may already be its first item.
                self._streams[str(waiter.result)] = waiter.stream
        waiter.done.set()

    async def close(self) -> None:
        """Say goodbye, for at most a second: the node may be gone."""
        with trio.move_on_after(1.0, shield=True):
            await self._socket.aclose()

    def fail(self, reason: str) -> None:
        """The connection has ended: whoever waits for it learns why. The first reason stands."""
        if self.lost is not None:
            return
        self.lost = ConnectionLost(reason)
        for waiter in self._waiters.values():
            if not waiter.done.is_set():
                waiter.error = self.lost
                waiter.done.set()
        for stream in self._streams.values():
            stream.end(self.lost)
        self._streams.clear()
        self.ended.set()


@asynccontextmanager
async def open_link(url: str, message_bytes_max: int = MESSAGE_BYTES_MAX) -> AsyncIterator[Link]:
    """Connect and read in the background for as long as the scope lasts; raises `CannotConnect`.

    What is no address at all is a `NoAddress`: nobody should try it again.
    """
    parts, port = parsed(url)
    resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = parts.netloc.rpartition("@")[2]
    try:
        with trio.fail_after(CONNECT_SECONDS):
            stream = await _reached(parts, port)
    except OSError as failure:
        raise CannotConnect(f"cannot reach {url}: {os_reason(failure)}: is the node running?") from None
    except trio.BrokenResourceError as failure:
        raise CannotConnect(f"cannot reach {url}: no TLS with it: {os_reason(failure)}") from None
    except trio.TooSlowError:
        raise CannotConnect(f"cannot reach {url}: no answer in {CONNECT_SECONDS:.0f} s: is the node running?") from None
    try:
        async with trio.open_nursery() as nursery:
            link: Link = await nursery.start(_converse, url, stream, host, resource, message_bytes_max)
            try:
                yield link
            finally:
                await link.close()
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise sole(group) from None
    finally:
        await trio.aclose_forcefully(stream)


async def _reached(parts: SplitResult, port: int) -> AnyStream:
    """A connection to a node's address, for wss:// with TLS on it."""
    if parts.scheme == "ws":
        return await trio.open_tcp_stream(str(parts.hostname), port)
    secure = await trio.open_ssl_over_tcp_stream(
        str(parts.hostname), port, ssl_context=ssl.create_default_context(), https_compatible=True
    )
    try:
        # At once: the WebSocket's own handshake would wait out its time when this one has failed.
        await secure.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(secure)
        raise
    return secure


def parsed(url: str) -> tuple[SplitResult, int]:
    """The parts of a node's address, and its port; NoAddress where it is none."""
    with suppress(ValueError):  # A port out of range, half an IPv6 address.
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "wss" else 80)
        if parts.scheme in ("ws", "wss") and parts.hostname:
            return parts, port
    raise NoAddress(f"expected a node address such as ws://127.0.0.1:9944, got {url!r}")


async def _converse(
    url: str,
    stream: AnyStream,
    host: str,
    resource: str,
    message_bytes_max: int,
    task_status: trio.TaskStatus[Link],
) -> None:
    """Shake hands and read until the end. Whatever goes wrong ends the link, and never the program that uses it."""
    link: Link | None = None
    try:
        async with trio.open_nursery() as nursery:
            with trio.fail_after(HANDSHAKE_SECONDS):
                socket = await wrap_client_stream(
                    nursery, stream, host, resource, max_message_size=message_bytes_max, message_queue_size=16
                )
            link = Link(url, socket)
            task_status.started(link)
            nursery.start_soon(link.probe)
            await link.run()
            nursery.cancel_scope.cancel()
    except* Exception as group:
        failure = sole(group)
        if link is None:
            reason = f"{url} does not answer as a node does ({_refusal(failure)}): is it an RPC port?"
            raise CannotConnect(reason) from None
        link.fail(f"the connection to {url} failed: {failure}")


def sole(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one exception that a nursery of ours wrapped (its cancellations aside), or the group when there are more."""
    leaves: list[BaseException] = []
    todo: list[BaseException] = [group]
    while todo:
        error = todo.pop()
        if isinstance(error, BaseExceptionGroup):
            todo.extend(error.exceptions)
        else:
            leaves.append(error)
    real = [leaf for leaf in leaves if not isinstance(leaf, trio.Cancelled)]
    if len(real) > 1:
        return group
    return real[0] if real else leaves[0]


def os_reason(error: BaseException) -> str:
    """The plain words of the innermost OS error: `connection refused`."""
    seen = error
    while True:
        if isinstance(seen, BaseExceptionGroup):
            seen = seen.exceptions[0]
        elif seen.__cause__ is not None:
            seen = seen.__cause__
        else:
            break
    text = str(seen)
    if isinstance(seen, ssl.SSLCertVerificationError):
        text = (
            f"its certificate is not trusted here ({seen.verify_message}): SSL_CERT_FILE can name its authority's file"
        )
    elif isinstance(seen, ssl.SSLError):  # Its number is no system error's.
        text = str(seen.reason or seen.strerror).replace("_", " ").lower()
    elif isinstance(seen, OSError) and seen.strerror:  # Of a name that does not resolve, errno is no system error.
        text = os.strerror(seen.errno) if seen.errno and seen.errno > 0 else seen.strerror
    return text[:1].lower() + text[1:]


def _refusal(error: BaseException) -> str:
    """Why a handshake failed: the HTTP status where there is one (a full node answers 503)."""
    status = getattr(error, "status_code", None)
    if isinstance(error, trio.TooSlowError):
        return f"no answer in {HANDSHAKE_SECONDS:g} s"
    return f"HTTP status {status}" if status is not None else type(error).__name__


def _closed_reason(url: str, error: Exception) -> str:
    reason = getattr(error, "reason", None)
    if reason is not None and (reason.code != 1000 or reason.reason):
        detail = reason.reason or reason.name
        return f"{url} closed the connection: {detail} (code {reason.code})"
    return f"{url} closed the connection"
