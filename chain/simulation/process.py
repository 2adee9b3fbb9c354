"""A process that can be stopped, as SIGSTOP does it, and goes on later: its timers fire late, all at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from functools import partial
from types import coroutine
from typing import Any

import trio


class Process:
    """What is run through `carry` stands still between `stop` and `go_on`, whatever it was waiting for."""

    def __init__(self) -> None:
        self._going = trio.Event()
        self._going.set()

    @property
    def stopped(self) -> bool:
        return not self._going.is_set()

    def stop(self) -> None:
        """Stand still wherever each task waits next."""
        if not self.stopped:
            self._going = trio.Event()

    def go_on(self) -> None:
        """Let everything go on that has become ready in the meantime."""
        self._going.set()

    async def going(self) -> None:
        """Return when it is not stopped."""
        with trio.CancelScope(shield=True):
            await self._going.wait()

    async def run(self, main: Callable[[], Awaitable[None]]) -> None:
        """Carry the process's first task. Who cancels this, kills it: also while it is stopped."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._go_on_when_killed)
            await self.carry(main)
            nursery.cancel_scope.cancel()

    async def carry(self, task: Callable[[], Awaitable[None]]) -> None:
        """Do a task of the process."""
        await self._drive(task)

    @coroutine
    def _drive(self, task: Callable[[], Awaitable[None]]) -> Generator[Any, Any, None]:
        """Hand on what the task asks of trio, and what trio answers: late, where the process is stopped by then."""
        steps: Any = task().__await__()
        resume: Callable[[], Any] = partial(next, steps)
        while True:
            try:
                wish = resume()
            except StopIteration:
                return
            try:
                answer = yield wish
            except BaseException as error:
                resume = partial(steps.throw, error)
            else:
                resume = partial(steps.send, answer)
            if self.stopped:
                yield from self.going().__await__()

    async def _go_on_when_killed(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self.go_on()
