"""Hypercorn's HTTP and WebSocket protocol on our own accept loop: bounded, and never held up by a client.

Whatever a connection sends, it ends that connection alone; a stop of the server waits for nobody.
"""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from math import inf
from typing import Any, cast

import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import Response
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ConnectionState
from hypercorn.utils import parse_socket_addr

from chain.log import Log
from chain.pace import Turns
from chain.rpc.errors import PortInUse
from chain.rpc.protocol import Limits, RateLimit

log = Log("rpc")

# Connections that the kernel completes while the loop is busy.
BACKLOG = 128
# Request line and headers together.
HEAD_BYTES_MAX = 16 * 1024
RECEIVE_BYTES = 64 * 1024
# What the kernel holds for a client that does not read; it would grow to megabytes by itself.
SEND_BUFFER_BYTES = 256 * 1024
# How often a quiet WebSocket is probed: with the send limit, a client that vanished is noticed within half a minute.
PING_SECONDS = 20.0
# How long a client that was told goodbye may take to go.
LINGER_SECONDS = 0.5
GOODBYE_SECONDS = 0.05
# When all places are taken, a client that has asked nothing for so long makes room: an honest one asks at once.
IDLE_SECONDS_MIN = 1.0
# Clients that are told, for half a second each, that all places are taken; the others of a flood are hung up on.
TURNED_AWAY_MAX = 64
FULL = b"the node serves its most connections already: try again later, or raise the limit on the node\n"
FULL_ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(FULL), FULL)
)


async def open_listener(host: str, port: int, limits: Limits, flag: str = "--rpc-port") -> trio.SocketListener:
    """Listen at one address; raises `PortInUse`, or OSError for an address that is not this machine's.

    `flag` is what chooses the port.
    """
    family = trio.socket.AF_INET6 if ":" in host else trio.socket.AF_INET
    sock = trio.socket.socket(family, trio.socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        # Accepted sockets inherit both: what a client does not acknowledge in this time ends its connection.
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(limits.send_seconds * 1000))
        await sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(host, port, flag) from None
        raise OSError(
            error.errno, f"cannot serve at {host}:{port}: {error.strerror}: is it an address of this machine?"
        ) from None
    return trio.SocketListener(sock)


class CallRate:
    """How fast one connection asks: the application finds it in the connection's state."""

    def __init__(self, limits: Limits) -> None:
        self._rate = RateLimit(limits.requests_per_second, limits.requests_burst, trio.current_time())

    async def keep(self, calls: int) -> None:
        """Wait until so many calls are within the rate: who asks faster waits in its own socket."""
        delay = self._rate.delay(calls, trio.current_time())
        if delay > 0:
            await trio.sleep(delay)


class Acceptor:
    """Hands connections to the application, at most `connections_max` at once; an idle one makes room for a new one."""

    def __init__(self, app: AppWrapper, limits: Limits, turns: Turns) -> None:
        self._app = app
        self._turns = turns
        self._limits = limits
        self._context = WorkerContext(None)
        self._config = config = Config()
        config.errorlog = None  # What fails here is the client's fault; the dispatcher logs the node's own.
        config.h11_max_incomplete_size = HEAD_BYTES_MAX
        config.include_server_header = False
        config.keep_alive_timeout = limits.idle_seconds
        config.max_app_queue_size = 3  # A small request whole: body, its end, and the news of a disconnection.
        config.websocket_max_message_size = limits.request_bytes_max
        config.websocket_ping_interval = PING_SECONDS
        self._open: set[_Connection] = set()
        self.refused = 0  # clients that found no place
        self._turned_away = 0  # of those, who are being told

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._open)

    async def __call__(self, stream: trio.SocketStream) -> None:
        if self.connections >= self._limits.connections_max and not await self._make_room():
            self.refused += 1
            await self._turn_away(stream)
            return
        state = ConnectionState({"rate": CallRate(self._limits)})
        connection = _Connection(self._app, self._config, self._context, state, cast(Any, stream))
        connection.send_seconds = self._limits.send_seconds
        connection.turns = self._turns
        self._open.add(connection)
        try:
            await connection.run()
        except* (Exception, OSError) as group:
            log.debug(f"an RPC connection ended: {_summary(group)}")
        finally:
            self._open.discard(connection)
            await trio.aclose_forcefully(stream)

    async def _make_room(self) -> bool:
        """Hang up on the client that has asked nothing for longest; False when all are being answered."""
        since = trio.current_time() - IDLE_SECONDS_MIN
        idle = [connection for connection in self._open if connection.idle_since < since]
        if not idle:
            return False
        idlest = min(idle, key=lambda connection: connection.idle_since)
        self._open.discard(idlest)
        await trio.aclose_forcefully(idlest.stream)
        return True

    async def _turn_away(self, stream: trio.SocketStream) -> None:
        """Say why, unless many are being told already: a flood is not worth its sockets."""
        if self._turned_away < TURNED_AWAY_MAX:
            self._turned_away += 1
            try:
                await _say_full(stream)
            finally:
                self._turned_away -= 1
        await trio.aclose_forcefully(stream)


class _Connection(TCPServer):
    """One client: HTTP/1.1 or a WebSocket."""

    send_seconds: float
    turns: Turns
    idle_since: float  # Infinity while a request is answered, or a WebSocket is open.

    async def run(self) -> None:
        self.idle_since = trio.current_time()
        sock = self.stream.socket
        self._reading = trio.CancelScope()
        async with TaskGroup() as group:
            self._task_group = group
            self.protocol = cast(Any, _Protocol)(
                self.app,
                self.config,
                self.context,
                group,
                ConnectionState(self.state),
                False,
                parse_socket_addr(sock.family, sock.getpeername()),
                parse_socket_addr(sock.family, sock.getsockname()),
                self.protocol_send,
            )
            await self.protocol.initiate()
            await self.idle_task.restart(group, self._idle_timeout)
            with self._reading:
                await self._read_data()
            if self._reading.cancelled_caught:
                await self._linger()
            assert group._nursery is not None
            group._nursery.cancel_scope.cancel()  # The client is gone: so is whatever works for it.

    async def _read_data(self) -> None:
        data = b"the client has sent nothing yet"
        while data:
            try:
                data = bytes(await self.stream.receive_some(RECEIVE_BYTES))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                break
            await self.turns.take()  # What this starts is the client's: the node's own work goes first.
            await self.protocol.handle(RawData(data))
        await self.protocol.handle(Closed())

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, Closed):
            self._reading.cancel()
            return
        if isinstance(event, Updated):
            self.idle_since = trio.current_time() if event.idle else inf
        if not isinstance(event, RawData):
            await super().protocol_send(event)
            return
        async with self.send_lock:
            with trio.move_on_after(self.send_seconds) as scope:
                try:
                    await self.stream.send_all(event.data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    self._reading.cancel()
        if scope.cancelled_caught:
            await trio.aclose_forcefully(self.stream)  # It takes nothing: the read loop ends with the stream.

    async def _linger(self) -> None:
        """Let the client read our last words: closing while its data is unread would destroy them."""
        with trio.move_on_after(LINGER_SECONDS), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with self.send_lock:  # Whoever is in the middle of a message ends it first.
                await self.stream.send_eof()
            while await self.stream.receive_some(HEAD_BYTES_MAX):
                pass

    async def _close(self) -> None:
        await trio.aclose_forcefully(self.stream)

    async def _initiate_server_close(self) -> None:
        self._reading.cancel()


class _Protocol(H11Protocol):
    """HTTP/1.1 alone: no upgrade to HTTP/2, no compressed WebSocket messages (a few bytes that become a gigabyte)."""

    _undelivered = 0  # parts of the request that wait for the application

    async def stream_send(self, event: StreamEvent) -> None:
        # An answer before the whole request was taken: what follows on this connection could not be told apart.
        if isinstance(event, Response) and isinstance(self.stream, HTTPStream):
            unread = self._undelivered or self.connection.their_state is not h11.DONE
            if unread and (b"connection", b"close") not in event.headers:
                event.headers.append((b"connection", b"close"))
        await super().stream_send(event)

    async def _close_stream(self) -> None:
        # An application that has answered reads no more: it would never take the news.
        with trio.move_on_after(GOODBYE_SECONDS):
            await super()._close_stream()
        self.stream = None

    async def _check_protocol(self, event: h11.Request) -> None:
        del event

    async def _create_stream(self, request: h11.Request) -> None:
        kept = [(name, value) for name, value in request.headers if name != b"sec-websocket-extensions"]
        plain = h11.Request(
            method=request.method, target=request.target, headers=kept, http_version=request.http_version
        )
        await super()._create_stream(plain)
        if isinstance(self.stream, HTTPStream):
            put = self.stream.app_put

            async def tracked(message: ASGIReceiveEvent) -> None:
                self._undelivered += 1
                await put(message)
                self._undelivered -= 1

            self._undelivered = 0
            self.stream.app_put = tracked
        elif isinstance(self.stream, WSStream) and self.stream.closed:
            await self.send(Closed())  # A handshake that was refused: nothing else would end the connection.


async def _say_full(stream: trio.SocketStream) -> None:
    with (
        trio.move_on_after(LINGER_SECONDS),
        suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError),
    ):
        await stream.send_all(FULL_ANSWER)
        await stream.send_eof()
        await stream.receive_some(HEAD_BYTES_MAX)  # Let the request arrive: closing on unread data resets.


def _summary(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
