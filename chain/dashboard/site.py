"""Serves the dashboard: files of this package, read once, under names that are known beforehand.

Rule: no path of a request ever reaches the disk, and no page may load, or be framed by, anything that is not this
node's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Scope

from chain.primitives.hashing import blake2_256

MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
PAGE: Final = "index.html"
FOLDER: Final = "/dashboard/"
WELCOME: Final = (
    "This is the RPC port of a potchain node: connect a Substrate wallet or library to ws://HOST:PORT, POST JSON-RPC "
    "here (content-type: application/json), or open this address in a browser for the node's dashboard.\n"
)
# `connect-src 'self'` is the node's WebSocket too. Styles are set by scripts as properties, never as attributes' text.
HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # A node that was updated has other files: browsers ask, and are told in a few bytes that nothing has changed.
    "cache-control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it is sent."""

    body: bytes
    media_type: str
    etag: str

    def answer(self, request: Request, extra: dict[str, str]) -> Response:
        """The file, or that the browser has it already."""
        headers = {**HEADERS, **extra, "etag": self.etag}
        known = [each.strip() for each in request.headers.get("if-none-match", "").split(",")]
        if self.etag in known or f"W/{self.etag}" in known:
            return Response(status_code=304, headers=headers)
        return Response(self.body, media_type=self.media_type, headers=headers)


class Site:
    """The dashboard's pages: `/` for browsers, and what that page loads under `/dashboard/`."""

    def __init__(self) -> None:
        self._files = dict(_read(files("chain.dashboard") / "static"))

    @property
    def names(self) -> list[str]:
        """The files that are served, by name."""
        return sorted(self._files)

    def routes(self) -> list[BaseRoute]:
        """What a server of RPC serves beside it."""
        return [
            Route("/", self._page, methods=["GET"]),
            Route(f"{FOLDER}{{name}}", self._file, methods=["GET"]),
        ]

    async def _page(self, request: Request) -> Response:
        """The page for who can show one, and a line of text for who cannot."""
        if "text/html" not in request.headers.get("accept", ""):
            return PlainTextResponse(WELCOME, headers={"vary": "accept"})
        return self._files[PAGE].answer(request, {"vary": "accept"})

    async def _file(self, request: Request) -> Response:
        found = self._files.get(request.path_params["name"])
        if found is None:
            return PlainTextResponse("the dashboard has no such file\n", 404)
        return found.answer(request, {})


def is_of_site(scope: Scope) -> bool:
    """Whether a request is for the pages, which are the same for everybody and tell nothing of the node."""
    is_reading = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
    return is_reading and (scope["path"] == "/" or scope["path"].startswith(FOLDER))


def _read(folder: Traversable) -> list[tuple[str, _File]]:
    found = []
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
        stem, dot, ending = entry.name.rpartition(".")
        media_type = MEDIA_TYPES.get(dot + ending)
        if stem and media_type is not None:
            body = entry.read_bytes()
            found.append((entry.name, _File(body, media_type, f'"{blake2_256(body)[:12].hex()}"')))
    return found
