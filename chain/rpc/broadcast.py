"""One publisher, many subscribers: publishing never waits, and who reads too slowly is cut off, never waited for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import trio

T = TypeVar("T")

# A minute of one-second blocks: a subscriber that is further behind would rather start over.
BACKLOG = 64


class Lagged(Exception):
    """A subscriber fell further behind than the backlog."""


class Receiver(Generic[T]):
    """One subscriber's view: `async for value in receiver`; raises `Lagged` once values were lost to it. One that cares
    for the `newest` value alone loses the others and never lags."""

    def __init__(self, backlog: int = BACKLOG, *, newest: bool = False) -> None:
        self._values: deque[T] = deque()
        self._backlog = backlog
        self._newest = newest
        self._lagged = False
        self._wake = trio.Event()

    def put(self, value: T) -> None:
        """Queue one value; never waits."""
        if self._newest:
            self._values.clear()
        if len(self._values) >= self._backlog:
            self._lagged = True
        else:
            self._values.append(value)
        self.wake()

    def take(self) -> T | None:
        """The next value if one is here; raises `Lagged` once those before the lost ones were taken."""
        if self._values:
            return self._values.popleft()
        if self._lagged:
            raise Lagged(f"more than {self._backlog} values behind")
        return None

    async def wait(self) -> None:
        """Wait for the next value, or for `wake`; who waits looks again at everything that it waits for."""
        self._wake = trio.Event()
        await self._wake.wait()

    def wake(self) -> None:
        """Let who waits for a value look around: there is something else for it."""
        self._wake.set()

    def __aiter__(self) -> Receiver[T]:
        return self

    async def __anext__(self) -> T:
        await trio.lowlevel.checkpoint()
        while (value := self.take()) is None:
            await self.wait()
        return value


class Broadcast(Generic[T]):
    """Publishes values (sealed headers) to whoever subscribes, on one event loop."""

    def __init__(self) -> None:
        self._listeners: set[Callable[[T], None]] = set()

    @property
    def subscribers(self) -> int:
        """How many take the values."""
        return len(self._listeners)

    def publish(self, value: T) -> None:
        """Hand `value` to every subscriber; never waits."""
        for tell in tuple(self._listeners):
            tell(value)

    @contextmanager
    def subscribe(self, backlog: int = BACKLOG, *, newest: bool = False) -> Iterator[Receiver[T]]:
        """The values published from now on; with `newest`, of those that wait only the last."""
        receiver: Receiver[T] = Receiver(backlog, newest=newest)
        with self.listen(receiver.put):
            yield receiver

    @contextmanager
    def listen(self, tell: Callable[[T], None]) -> Iterator[None]:
        """Call `tell`, which must not wait, with each value that is published from now on."""
        self._listeners.add(tell)
        try:
            yield
        finally:
            self._listeners.discard(tell)
