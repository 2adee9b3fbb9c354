"""How the work of clients is paced, so that votes and blocks never wait behind it however many ask.

The event loop and the interpreter are one each: clients take them in turns, and give back as much as they took.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import TypeVar

import trio

T = TypeVar("T")


class Turns:
    """Lets one task go on in each pass of the loop over all that can run."""

    def __init__(self) -> None:
        self._lock = trio.Lock()

    async def take(self) -> None:
        """Wait for the next turn, first come, first served."""
        # Who waits for a lock of trio's is woken in the pass after the one that it became free in.
        async with self._lock:
            pass


class Threads:
    """A few threads for work that holds the interpreter; each rests after a call, `rest` times as long as that took."""

    def __init__(self, count: int, rest: float) -> None:
        self._limiter = trio.CapacityLimiter(count)
        self._rest = rest
        self._free_at = [0.0] * count

    async def run(self, call: Callable[..., T], *arguments: object) -> T:
        """Call in a thread; its result is here at once, and the next call has to wait for the rest."""
        async with self._limiter:
            free_at = heapq.heappop(self._free_at)
            try:
                await trio.sleep_until(free_at)
                started = trio.current_time()
                free_at = started
                try:
                    return await trio.to_thread.run_sync(call, *arguments, limiter=trio.CapacityLimiter(1))
                finally:
                    free_at += (trio.current_time() - started) * (1.0 + self._rest)
            finally:
                heapq.heappush(self._free_at, free_at)
