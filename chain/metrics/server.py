"""Serves a process's metrics to Prometheus at /metrics, on a port of their own, beside the RPC's stack.

Rule: a scrape is made once at a time and lasts a moment for whoever asks again, so that no number of scrapers costs the
process more than one does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import inf
from typing import cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.typing import ASGIFramework
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from chain.pace import Turns
from chain.rpc.listener import Acceptor, open_listener
from chain.rpc.protocol import Limits

# Prometheus asks every fifteen seconds, some every second: who asks more often reads the same numbers again.
FRESH_SECONDS = 0.5
# A few Prometheus servers and whoever looks by hand; one that asks nothing makes room.
LIMITS = Limits(connections_max=16, send_seconds=10.0, idle_seconds=60.0)
WELCOME = "Prometheus metrics of potchain are at /metrics.\n"

Scrape = Callable[[], Awaitable[bytes]]


class MetricsServer:
    """Serves what `scrape` returns; a failure of it is the node's own, and raised."""

    def __init__(self, host: str, port: int, scrape: Scrape) -> None:
        self._host = host
        self._port = port
        self._scrape = scrape
        self._turn = trio.Lock()
        self._text = b""
        self._made_at = -inf

    async def run(self, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started with the port (the system's choice for 0). Raises `PortInUse`."""
        listener = await open_listener(self._host, self._port, LIMITS, "--prometheus-port")
        port = int(listener.socket.getsockname()[1])
        routes = [
            Route("/", _welcome, methods=["GET"]),
            Route("/metrics", self._metrics, methods=["GET"]),
        ]
        acceptor = Acceptor(ASGIWrapper(cast(ASGIFramework, Starlette(routes=routes))), LIMITS, Turns())
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, acceptor, [listener])
            task_status.started(port)

    async def _metrics(self, request: Request) -> Response:
        del request
        async with self._turn:
            if trio.current_time() >= self._made_at + FRESH_SECONDS:
                self._text = await self._scrape()
                self._made_at = trio.current_time()
        return Response(self._text, media_type=CONTENT_TYPE_LATEST)


async def _welcome(request: Request) -> Response:
    del request
    return PlainTextResponse(WELCOME)
