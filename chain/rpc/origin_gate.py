"""Turns away the requests that a browser makes for a page that is not trusted, with the reason.

Browsers send a page's origin with every WebSocket and with every POST and PUT, so that no page gets past, not even one
that has made its own name point to this machine. What is no browser sends none, and is not asked for one.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from chain.rpc.access import Origins
from chain.rpc.params import quote


class OriginGate:
    """Stands before the application: what it refuses, nothing else sees."""

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = Headers(scope=scope).get("origin") if scope["type"] in ("http", "websocket") else None
        if origin is None or self._origins.trust(origin):
            await self._app(scope, receive, send)
            return
        refusal = PlainTextResponse(
            f"pages of {quote(origin)} may not use this node: its operator can allow them with --rpc-cors\n",
            403,
        )
        if scope["type"] == "websocket":
            await WebSocket(scope, receive, send).send_denial_response(refusal)
        else:
            await refusal(scope, receive, send)
