"""Request bodies, read piece by piece: never more than the limit in memory, never a client that is waited for."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import trio
from starlette.requests import Request

# What a client sends on average, after the first seconds: as little as is borne of one that reads.
BYTES_PER_SECOND_MIN = 4096


class BodyTooLarge(Exception):
    """The client sends more than is taken."""


class BodyTooSlow(Exception):
    """The client stopped sending."""


async def body_pieces(request: Request, bytes_max: int, silent_seconds: float) -> AsyncGenerator[bytes]:
    """The body as it comes; raises `BodyTooLarge`, `BodyTooSlow`, or Starlette's `ClientDisconnect`."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced[:20]) > bytes_max:
        raise BodyTooLarge(f"expected at most {bytes_max} bytes, got {announced[:20]}")
    size = 0
    started = trio.current_time()
    stream = aiter(request.stream())
    while True:
        piece = None
        # Silence is borne this long, and slowness as long on the whole.
        with trio.move_on_at(started + silent_seconds + size / BYTES_PER_SECOND_MIN) as slow:
            with trio.move_on_after(silent_seconds) as silent:
                piece = await anext(stream, None)
        if silent.cancelled_caught or slow.cancelled_caught:
            elapsed = trio.current_time() - started
            raise BodyTooSlow(f"got {size} bytes in {elapsed:.0f} s, and no more for now: send faster")
        if piece is None:
            return
        size += len(piece)
        if size > bytes_max:
            raise BodyTooLarge(f"expected at most {bytes_max} bytes, got more")
        yield piece


async def read_body(request: Request, bytes_max: int, silent_seconds: float) -> bytes:
    """The whole body; raises as `body_pieces`."""
    body = bytearray()
    async with aclosing(body_pieces(request, bytes_max, silent_seconds)) as pieces:
        async for piece in pieces:
            body += piece
    return bytes(body)
