"""How far catching up is, how fast, how long it takes, and why it does not go on: for the log and for the RPC."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

# A rate is that of the last seconds: long enough to be steady, short enough to show that a peer was lost.
WINDOW_S = 10.0
# More samples say no more.
SAMPLE_EVERY_S = 0.1


class Pace:
    """How much comes in a second, of something that is counted."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def note(self, now: float, total: int) -> None:
        """So much has come in all."""
        samples = self._samples
        if len(samples) > 1 and now - samples[-2][0] < SAMPLE_EVERY_S:
            samples.pop()
        samples.append((now, total))
        while now - samples[0][0] > WINDOW_S and len(samples) > 2:
            samples.popleft()

    @property
    def per_second(self) -> float:
        """0 while nothing was measured."""
        if len(self._samples) < 2:
            return 0.0
        (began, first), (now, total) = self._samples[0], self._samples[-1]
        return (total - first) / max(now - began, 1e-3)


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """`target` is the best height that a peer claims, a proven one if there is any, and ours when nobody claims more.

    `stalled` says what is waited for, once nothing has come for some seconds.
    """

    height: int
    target: int
    blocks_per_second: float
    stalled: str | None = None

    @property
    def syncing(self) -> bool:
        """Whether we are behind by more than the block that is being sealed right now."""
        return self.target > self.height + 1

    @property
    def seconds_left(self) -> float | None:
        """None while there is no rate yet."""
        return (self.target - self.height) / self.blocks_per_second if self.blocks_per_second > 0 else None

    def __str__(self) -> str:
        """One line of progress."""
        left = self.seconds_left
        eta = "" if left is None else f"   {shown_seconds(left)} left"
        return f"{self.height:,} of {self.target:,}   {self.blocks_per_second:,.0f} blocks/s{eta}"


def shown_seconds(seconds: float) -> str:
    """As people say it: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
