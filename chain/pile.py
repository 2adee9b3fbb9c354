"""What a node holds in memory for others until they take it, or send the rest of it: bounded over all of them.

Whoever makes it hold most is cut off first, so that none of the others notices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Share:
    """One connection's part of the pile."""

    __slots__ = ("_pile", "bytes", "drop")

    def __init__(self, pile: Pile, drop: Callable[[], None]) -> None:
        self._pile = pile
        self.bytes = 0
        self.drop = drop

    def grow(self, count: int) -> None:
        """So many bytes more are held, or fewer."""
        self._pile.grow(self, count)


class Pile:
    """All that is held; `bytes_max` of it at most."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes = 0
        self._bytes_max = bytes_max
        self._shares: set[Share] = set()

    @contextmanager
    def share(self, drop: Callable[[], None]) -> Iterator[Share]:
        """A connection's part; `drop` is called, at most once, to end the one that makes us hold most."""
        share = Share(self, drop)
        self._shares.add(share)
        try:
            yield share
        finally:
            self._forget(share)

    def grow(self, share: Share, count: int) -> None:
        """As `Share.grow`; drops the largest parts until the rest is within the bound."""
        if share not in self._shares:
            return  # It was dropped, and what was held for it does not count any more.
        share.bytes += count
        self.bytes += count
        while self.bytes > self._bytes_max and self._shares:
            largest = max(self._shares, key=lambda share: share.bytes)
            self._forget(largest)
            largest.drop()

    def _forget(self, share: Share) -> None:
        if share in self._shares:
            self._shares.remove(share)
            self.bytes -= share.bytes
