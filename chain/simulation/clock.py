"""Virtual time: a simulation's hours pass as fast as its work is done, and one seed fixes the order of everything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, TypeVar

import trio
from trio.testing import MockClock

T = TypeVar("T")


def run_virtually(seed: int, main: Callable[[], Awaitable[T]]) -> T:
    """Run trio on a clock that jumps to the next deadline whenever nothing can run."""
    with _fixed_order(seed):
        return trio.run(main, clock=MockClock(autojump_threshold=0))


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
