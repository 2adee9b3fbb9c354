"""How many engine children a program has at once: who has idled longest gives way to who has something to compute.

Rule: nobody who computes is ended for another's sake; who waits for a place waits for deadlines that others have.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

import trio

# Each is a process with JAX in it, some 300 MB before it has a program.
CHILDREN_MAX = 8


class Holder(Protocol):
    """What has a child, or wants one."""

    @property
    def is_busy(self) -> bool:
        """Whether it is needed just now."""

    async def close(self) -> None:
        """End the child, and give its place back before the first pause."""


class Places:
    """The places that there are, by who has them."""

    def __init__(self, count_max: int = CHILDREN_MAX) -> None:
        self._count_max = count_max
        self._taken: OrderedDict[Holder, None] = OrderedDict()
        self._changed = trio.Event()

    @property
    def is_full(self) -> bool:
        return len(self._taken) >= self._count_max

    async def take(self, holder: Holder) -> None:
        """Wait for a place: for as long as everybody else computes, each of whom has a deadline."""
        while holder not in self._taken and self.is_full:
            idle = next((other for other in self._taken if not other.is_busy), None)
            if idle is not None:
                await idle.close()
            else:
                await self._changed.wait()
        self._taken[holder] = None

    def touch(self, holder: Holder) -> None:
        """It has just computed."""
        if holder in self._taken:
            self._taken.move_to_end(holder)
        self._wake()

    def give(self, holder: Holder) -> None:
        """It has a child no more."""
        self._taken.pop(holder, None)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
