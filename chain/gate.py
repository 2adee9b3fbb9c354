"""A gate for threads: readers pass together, and close behind them it lets through one who needs to be alone.

A thread that reads already always passes again: who waits to be alone waits for that reader to end, so holding it up
would hold up both for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Lets readers through together, or one who needs to be alone."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._readers = 0
        self._closed = False
        self._mine = threading.local()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Be one of the readers."""
        mine: int = getattr(self._mine, "readers", 0)
        with self._condition:
            while self._closed and not mine:
                self._condition.wait()
            self._readers += 1
        self._mine.readers = mine + 1
        try:
            yield
        finally:
            self._mine.readers = getattr(self._mine, "readers", 0) - 1
            with self._condition:
                self._readers -= 1
                if self._closed:
                    self._condition.notify_all()

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Let no new reader in."""
        # Set before the lock is taken: readers who come and go without a pause would keep it from us for long.
        self._closed = True
        try:
            yield
        finally:
            with self._condition:
                self._closed = False
                self._condition.notify_all()

    @contextmanager
    def alone(self, seconds: float) -> Iterator[None]:
        """Let no new reader in, and wait until the last one is out. TimeoutError if one stays for longer."""
        assert not getattr(self._mine, "readers", 0), "a thread must not write while it reads: it would wait for itself"
        with self.closed():
            with self._condition:
                if not self._condition.wait_for(lambda: not self._readers, seconds):
                    raise TimeoutError(f"{self._readers} readers did not end within {seconds:.0f} s")
            yield
