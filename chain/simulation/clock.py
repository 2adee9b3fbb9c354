"""Virtual time: a simulation's hours pass as fast as its work is done, and one seed fixes the order of everything."""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from math import inf
from random import Random
from typing import Any, Final, TypeVar

import trio
from trio.abc import Clock

T = TypeVar("T")

# So often somebody may ask for the time before it moves on: a hundred times what the busiest moments need.
ASKED_MAX: Final = 300_000
# So much may be on the agenda: a hundred validators have sent each other ten messages each.
AGENDA_MAX: Final = 100_000


class Endless(AssertionError):
    """A simulation that would not end, or not soon."""


class VirtualClock(Clock):
    """Stands still while anything can run, then is at once where there is something to do.

    It keeps an agenda, which costs a fraction of what trio's own deadlines do: a message each has one.
    """

    def __init__(self) -> None:
        self.measured = trio.CancelScope()  # Around all that runs on this clock; cancelled where it gets nowhere.
        self._now = 0.0
        self._asked = 0
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []
        self._count = 0
        self._waiting: trio.lowlevel.Task | None = None

    def start_clock(self) -> None:
        """Time is 0 when a simulation begins."""

    def current_time(self) -> float:
        self._asked += 1
        if self._asked > ASKED_MAX:
            self.measured.cancel()
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Trio asks this when nothing can run: nothing is missed by being at the deadline now."""
        if self._waiting is not None and self._agenda and self._agenda[0][0] <= deadline:
            deadline = self._agenda[0][0]
            trio.lowlevel.reschedule(self._waiting)
            self._waiting = None
        if deadline < inf:
            self._now, self._asked = max(self._now, deadline), 0
        return 0.0

    def after(self, ms: int, action: Callable[[], object]) -> None:
        """Do something so much later."""
        if len(self._agenda) >= AGENDA_MAX:
            raise Endless(
                f"{AGENDA_MAX} messages are on the way at {self._now:.3f} s: each seems to bring forth others"
            )
        self._count += 1
        heapq.heappush(self._agenda, ((round(1000 * self._now) + ms) / 1000, self._count, action))

    async def run(self) -> None:
        """Do what is on the agenda, until cancelled."""
        while True:
            while self._agenda and self._agenda[0][0] <= self._now:
                heapq.heappop(self._agenda)[2]()
            self._waiting = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._stop_waiting)

    def _stop_waiting(self, _: object) -> trio.lowlevel.Abort:
        self._waiting = None
        return trio.lowlevel.Abort.SUCCEEDED


def run_virtually(seed: int, main: Callable[[], Awaitable[T]]) -> T:
    """Run trio on virtual time; Endless where time stands still for ever."""
    clock = VirtualClock()

    async def measured() -> T:
        with clock.measured:
            return await main()
        raise Endless(f"time stands still at {clock.current_time():.3f} s: it would never move on")

    with _fixed_order(seed):
        return trio.run(measured, clock=clock)


def now_ms() -> int:
    """The simulation's time."""
    return round(trio.current_time() * 1000)


@contextmanager
def _fixed_order(seed: int) -> Iterator[None]:
    """Have trio draw the order of tasks that are ready at once from the seed.

    Trio has this for Hypothesis, and no public name for it. Without it a seed would not replay what it found.
    """
    scheduler: Any = trio._core._run
    allowed, chance = scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r = True, Random(seed)
    try:
        yield
    finally:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r = allowed, chance
