"""What the RPC counts of calls: plain numbers by protocol and method, of the methods that there are.

A name that is no method's is counted as `unknown`: nobody fills a label with what he likes.
"""

from __future__ import annotations

from collections import Counter

from chain.primitives.spread import Spread

# Substrate's, in microseconds.
MICROSECONDS = (25.0, 100.0, 500.0, 1_000.0, 2_500.0, 10_000.0, 100_000.0, 1_000_000.0, 10_000_000.0)
UNKNOWN = "unknown"


class Calls:
    """Counts on the event loop; each table is bounded by the methods and the two protocols."""

    def __init__(self) -> None:
        self.started: Counter[tuple[str, str]] = Counter()
        self.finished: Counter[tuple[str, str, str]] = Counter()
        self.time_us: dict[tuple[str, str], Spread] = {}

    def begin(self, protocol: str, method: str) -> None:
        """A call has come."""
        self.started[protocol, method] += 1

    def end(self, protocol: str, method: str, seconds: float, *, is_error: bool) -> None:
        """It is answered."""
        self.finished[protocol, method, str(is_error).lower()] += 1
        spread = self.time_us.get((protocol, method))
        if spread is None:
            spread = self.time_us[protocol, method] = Spread(MICROSECONDS)
        spread.add(seconds * 1e6)
