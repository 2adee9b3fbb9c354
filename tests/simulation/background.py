"""The simulations of the suite, run beside all other tests: they need no clock, port or file, only a processor's time.

They take what the other tests leave of the processors, which is about half, and are waited for last.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Event
from typing import Final

from chain.simulation.plan import Plan
from chain.simulation.sweep import Done, sweep

# A tenth of what another process gets on the same core: the other tests are not to notice.
NICENESS: Final = 10


class Background:
    """Simulations that are under way."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        self._stopped = Event()
        self._executor = ThreadPoolExecutor(1)
        self._done = self._executor.submit(self._run, plans)

    def done(self) -> list[Done]:
        """Wait for all of them, or for the first that fails, which is the last one here."""
        return self._done.result()

    def stop(self) -> None:
        """End those that nobody waits for."""
        self._stopped.set()
        self._executor.shutdown()

    def _run(self, plans: Sequence[Plan]) -> list[Done]:
        found: list[Done] = []
        with closing(sweep(plans, os.cpu_count() or 1, NICENESS)) as under_way:
            for done in under_way:
                found.append(done)
                if done.failure is not None or self._stopped.is_set():
                    break
        return found
