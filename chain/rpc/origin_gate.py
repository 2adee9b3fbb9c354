"""Turns away the requests that a browser makes for a page that is not trusted, with the reason.

Browsers send a page's origin with every WebSocket and with every POST and PUT, so that no page gets past, not even one
that has made its own name point to this machine. What is no browser sends none, and is not asked for one.

The node's own pages are trusted where they were opened by address: a browser that says `http://192.0.2.1:9944` is
there, while a name may be anybody's who points it here.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from chain.rpc.access import Origins
from chain.rpc.params import quote


def is_own_page(origin: str, host: str) -> bool:
    """Whether a page comes from where it asks, by the address of a machine and not by a name."""
    scheme, _, place = origin.partition("://")
    if scheme not in ("http", "https") or place != host:
        return False
    try:
        ip_address(urlsplit(origin).hostname or "")
    except ValueError:
        return False
    return True


class OriginGate:
    """Stands before the application: what it refuses, nothing else sees. What `is_open` is for everybody's pages."""

    def __init__(self, app: ASGIApp, origins: Origins, is_open: Callable[[Scope], bool]) -> None:
        self._app = app
        self._origins = origins
        self._is_open = is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] in ("http", "websocket") else Headers()
        origin = headers.get("origin")
        is_trusted = origin is None or self._origins.trust(origin) or is_own_page(origin, headers.get("host", ""))
        if is_trusted or self._is_open(scope):
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
