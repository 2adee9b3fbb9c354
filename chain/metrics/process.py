"""Metrics of the process: the event loop's lag, and with the library's own collector CPU time, memory and files.

Rule: the loop is measured by a task that asks for nothing but to be woken, as every vote does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import trio
from prometheus_client.core import Metric as Family

from chain import log
from chain.metrics.metric import Kind, Metric
from chain.primitives.spread import Spread

STARTED: Final = Metric(
    "substrate_process_start_time_seconds", Kind.GAUGE, "When this process began, in seconds since 1970."
)
LAG: Final = Metric(
    "potchain_event_loop_lag_seconds",
    Kind.HISTOGRAM,
    "How much later than asked for the event loop wakes a task: what a vote waits for beside its own work.",
)
TASKS: Final = Metric("potchain_event_loop_tasks", Kind.GAUGE, "Tasks that live on the event loop.")
LOGGED: Final = Metric("potchain_log_lines_total", Kind.COUNTER, "Lines of the log, by level.", ("level",))
DROPPED: Final = Metric(
    "potchain_log_lines_dropped_total", Kind.COUNTER, "Lines that were dropped, since what takes the log was too slow."
)
THREADS: Final = Metric(
    "potchain_threads_busy", Kind.GAUGE, "Threads of the default limit that work for the event loop just now."
)

# Ten measurements a second show a loop that is held for some tenths of a second, and cost nothing.
EVERY_SECONDS: Final = 0.1
_STARTED_AT: Final = time.time()


class LoopLag:
    """`run` it once, on the loop that is measured."""

    def __init__(self) -> None:
        self.spread = Spread()

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            due = trio.current_time() + EVERY_SECONDS
            await trio.sleep_until(due)
            self.spread.add(trio.current_time() - due)


def collected(lag: LoopLag) -> Iterator[Family]:
    """To be called on the loop."""
    yield STARTED.of(_STARTED_AT)
    yield LAG.spread({(): lag.spread})
    lines = log.counts()
    yield LOGGED.each({(level,): count for level, count in lines.written.items()})
    yield DROPPED.of(lines.dropped)
    yield TASKS.of(trio.lowlevel.current_statistics().tasks_living)
    yield THREADS.of(trio.to_thread.current_default_thread_limiter().borrowed_tokens)
