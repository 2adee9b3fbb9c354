"""Tells those who wait for a transaction when it leaves the pool, at once and with the reason: others hear nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from chain.pool import Departure
from chain.primitives.hashing import Hash

Tell = Callable[[Departure], None]


class Departures:
    """Stands between the pool, whose `on_removed` is `note`, and any number of watchers of single transactions."""

    def __init__(self) -> None:
        self._watchers: dict[Hash, list[Tell]] = {}

    def note(self, departure: Departure) -> None:
        """A transaction left the pool."""
        for tell in tuple(self._watchers.get(departure.hash, ())):
            tell(departure)

    @contextmanager
    def watch(self, found: Hash, tell: Tell) -> Iterator[None]:
        """Call `tell`, which must not wait, with each departure of the transaction. It need not be in the pool yet."""
        watchers = self._watchers.setdefault(found, [])
        watchers.append(tell)
        try:
            yield
        finally:
            watchers.remove(tell)
            if not watchers:
                del self._watchers[found]
