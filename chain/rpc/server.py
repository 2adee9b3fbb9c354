"""The RPC server: JSON-RPC over HTTP and WebSocket at `/`, blobs at `/blobs/{root}`, the dashboard; all on one port.

No client can hold up the node: slow ones are dropped, loud ones slowed down, and work runs in threads of its own.
"""

from __future__ import annotations

from contextlib import suppress
from typing import cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.typing import ASGIFramework
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from chain.dashboard.site import Site, is_of_site
from chain.log import Log
from chain.pace import Turns
from chain.pile import Pile
from chain.rpc import protocol
from chain.rpc.access import Access
from chain.rpc.backend import Backend
from chain.rpc.blob_routes import BlobRoutes
from chain.rpc.body import BodyTooLarge, BodyTooSlow, read_body
from chain.rpc.calls import Calls
from chain.rpc.connection import Connection, Outbox, Places, Underway
from chain.rpc.dispatch import Dispatcher
from chain.rpc.errors import Code, RpcError
from chain.rpc.listener import FULL, Acceptor, open_listener
from chain.rpc.methods import all_methods
from chain.rpc.methods_system import health
from chain.rpc.origin_gate import OriginGate
from chain.rpc.protocol import Limits, Message

log = Log("rpc")

# WebSocket close codes (RFC 6455): a policy was violated; the server failed.
POLICY_VIOLATION = 1008
INTERNAL_ERROR = 1011
# A close frame carries at most 123 bytes of reason.
REASON_BYTES_MAX = 120


class RpcServer:
    """Serves one node's backend, and the dashboard."""

    def __init__(
        self,
        backend: Backend,
        port: int,
        *,
        access: Access | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.port = port
        self._access = access or Access()
        self._backend = backend
        self._limits = limits or Limits()
        methods = all_methods(backend.ledger.runtime)
        self._dispatcher = Dispatcher(backend, methods, self._limits, serves_unsafe=self._access.serves_unsafe)
        blobs = BlobRoutes(backend, self._limits)
        served = [
            Route("/", self._post, methods=["POST"]),
            *Site().routes(),
            WebSocketRoute("/", self._websocket),
            Route("/health", self._health, methods=["GET"]),
            Route("/blobs/{root}", blobs.get, methods=["GET"]),
            Route("/blobs/{root}", blobs.put, methods=["PUT"]),
            Route("/blobs/{root}/chunks", blobs.get_chunks, methods=["GET"]),
        ]
        origins = self._access.origins
        browsers = [
            Middleware(OriginGate, origins, is_of_site),
            Middleware(
                CORSMiddleware,
                allow_origin_regex=origins.pattern,
                allow_methods=["GET", "POST", "PUT"],
                allow_headers=["*"],
            ),
        ]
        self.websockets = 0  # how many are open
        self.slow_clients = 0
        self._denied = 0
        self._turns = Turns()
        self._places = Places(self._turns)
        self._pile = Pile(self._limits.waiting_bytes_max)
        app = ASGIWrapper(cast(ASGIFramework, Starlette(routes=served, middleware=browsers)))
        self._acceptor = Acceptor(app, self._limits, self._turns)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return self._acceptor.connections

    @property
    def calls(self) -> Calls:
        """Calls by method."""
        return self._dispatcher.calls

    @property
    def subscriptions(self) -> int:
        """How many subscriptions are open."""
        return self._places.taken

    @property
    def refused(self) -> int:
        """How many clients were turned away since all places were taken."""
        return self._acceptor.refused + self._denied

    @property
    def waiting_bytes(self) -> int:
        """How much waits in memory for clients to read it."""
        return self._pile.bytes

    async def run(self, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started with the port (chosen by the system for port 0). Raises `PortInUse`."""
        listener = await open_listener(self._access.host, self.port, self._limits)
        self.port = int(listener.socket.getsockname()[1])
        await trio.serve_listeners(self._acceptor, [listener], task_status=_Started(task_status, self.port))

    # --- HTTP

    async def _post(self, request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return PlainTextResponse("expected the header content-type: application/json\n", 415)
        try:
            body = await read_body(request, self._limits.request_bytes_max, self._limits.idle_seconds)
        except BodyTooLarge as error:
            return _json(
                protocol.failure(None, RpcError(Code.OVERSIZED_REQUEST, "Request is too big", str(error))), 413
            )
        except BodyTooSlow as error:
            return PlainTextResponse(f"{error}\n", 408)
        except ClientDisconnect:
            return Response(status_code=400)
        message = await self._dispatcher.read(body)
        await request.state.rate.keep(len(message.entries))
        answer = await self._dispatcher.answer(message, None)
        return Response(status_code=204) if answer is None else _Answer(answer, self._pile)

    async def _health(self, request: Request) -> Response:
        del request
        return JSONResponse(health(self._backend))

    # --- WebSocket

    async def _websocket(self, websocket: WebSocket) -> None:
        if self.websockets >= self._limits.websockets_max:
            self._denied += 1
            await websocket.send_denial_response(PlainTextResponse(FULL, 503))
            return
        self.websockets += 1
        try:
            await self._serve_websocket(websocket)
        finally:
            self.websockets -= 1

    async def _serve_websocket(self, websocket: WebSocket) -> None:
        await websocket.accept()
        connection: Connection | None = None
        try:
            async with trio.open_nursery() as nursery:
                with self._pile.share(lambda: cast(Connection, connection).cut_off()) as share:
                    outbox = Outbox(self._limits, share)
                    connection = Connection(nursery, outbox, self._limits, self._places)
                    nursery.start_soon(self._send, websocket, outbox)
                    await self._converse(websocket, connection, outbox, nursery)
                nursery.cancel_scope.cancel()
        except* WebSocketDisconnect:
            pass
        except* Exception:
            log.exception("an RPC connection failed: this is a bug in the node, not in the client")
            await _close(websocket, INTERNAL_ERROR, "internal error: see the node's log")
        if connection is not None and connection.slow is not None:
            self.slow_clients += 1
            await _close(websocket, POLICY_VIOLATION, connection.slow)

    async def _converse(
        self, websocket: WebSocket, connection: Connection, outbox: Outbox, nursery: trio.Nursery
    ) -> None:
        """Answer one message after the other: a client that asks faster waits in its own socket.

        Transactions that follow each other are answered together, in whatever order, and what is asked after them when
        all of them have been.
        """
        underway = Underway()
        while True:
            received = await websocket.receive()
            if received["type"] == "websocket.disconnect":
                await underway.at_most(0)
                return
            text: str | bytes = received.get("text") or received.get("bytes") or ""
            message = await self._dispatcher.read(text)
            await websocket.state.rate.keep(len(message.entries))
            if self._dispatcher.goes_together(message, len(text)):
                await underway.at_most(self._limits.together_max - 1)
                # Tasks begin in the order in which they are started here: between two of them a message is waited for.
                underway.begin()
                nursery.start_soon(self._answer, message, len(text), connection, outbox, underway)
                continue
            await underway.at_most(0)
            answer = await self._dispatcher.answer(message, connection)
            if answer is not None:
                await outbox.put(answer)
            connection.answered()

    async def _answer(
        self, message: Message, length: int, connection: Connection, outbox: Outbox, underway: Underway
    ) -> None:
        outbox.hold(length)
        try:
            answer = await self._dispatcher.answer(message, connection)
            if answer is not None:
                await outbox.put(answer)
        finally:
            outbox.hold(-length)
            underway.end()

    async def _send(self, websocket: WebSocket, outbox: Outbox) -> None:
        while True:
            text = await outbox.next()
            await self._turns.take()
            await websocket.send_text(text)


class _Answer(Response):
    """An answer over HTTP; a client that does not take it may have to go, for the sake of what others wait for."""

    def __init__(self, text: str, pile: Pile) -> None:
        super().__init__(text, 200, media_type="application/json")
        self._pile = pile

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with trio.CancelScope() as cut_off, self._pile.share(cut_off.cancel) as share:
            share.grow(len(self.body))
            await super().__call__(scope, receive, send)


class _Started:
    """Reports the port where trio would report the listeners."""

    def __init__(self, status: trio.TaskStatus[int], port: int) -> None:
        self._status = status
        self._port = port

    def started(self, value: object = None) -> None:
        """The listener is open."""
        del value
        self._status.started(self._port)


async def _close(websocket: WebSocket, code: int, reason: str) -> None:
    gone = (RuntimeError, WebSocketDisconnect, trio.BrokenResourceError, trio.ClosedResourceError)
    with trio.move_on_after(1.0), suppress(*gone):
        await websocket.close(code, reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore"))


def _json(text: str, status: int = 200) -> Response:
    return Response(text, status, media_type="application/json")
