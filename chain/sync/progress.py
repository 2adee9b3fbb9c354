"""How far catching up is, how fast, how long it takes, and why it does not go on: for the log and for the RPC."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum

# A rate is that of the last seconds: long enough to be steady, short enough to show that a peer was lost.
WINDOW_S = 10.0
# More samples say no more.
SAMPLE_EVERY_S = 0.1
# A line of progress at most so often.
NEWS_EVERY_S = 2.0
# Twice the time that a newcomer has for its answer, and an hour for whoever looks at a screen.
STALL_S = 4.0


class Phase(StrEnum):
    """What is being fetched."""

    HANDOVERS = "handovers"
    STATE = "state"
    BLOCKS = "blocks"


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
class StateProgress:
    """How much of a state has come. `keys_expected` is a peer's word."""

    block: int
    keys: int
    keys_expected: int
    bytes: int


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """`target` is the best height that a peer claims, a proven one if there is any, and ours when nobody claims more.

    `height` is our head's; while set changes are fetched, the highest block that is proven. `per_second` is of blocks
    or, while a state is fetched, of its keys. `stalled` says what is waited for, once nothing came for some seconds.
    """

    height: int
    target: int
    per_second: float
    stalled: str | None = None
    phase: Phase = Phase.BLOCKS
    state: StateProgress | None = None

    @property
    def syncing(self) -> bool:
        """Whether we are behind by more than the block that is being sealed right now."""
        return self.phase is not Phase.BLOCKS or self.target > self.height + 1

    @property
    def seconds_left(self) -> float | None:
        """Of this phase; None while there is no rate yet."""
        left = self.target - self.height if self.state is None else self.state.keys_expected - self.state.keys
        return max(0, left) / self.per_second if self.per_second > 0 else None

    def __str__(self) -> str:
        """One line of progress."""
        left = self.seconds_left
        eta = "" if left is None else f"   {shown_seconds(left)} left"
        if self.state is not None:
            state = self.state
            return (
                f"state of block {state.block:,}: {state.keys:,} of {state.keys_expected:,} keys, "
                f"{state.bytes / 2**20:,.1f} MiB   {self.per_second:,.0f} keys/s{eta}"
            )
        what = "set changes up to block " if self.phase is Phase.HANDOVERS else ""
        return f"{what}{self.height:,} of {self.target:,}   {self.per_second:,.0f} blocks/s{eta}"


def shown_seconds(seconds: float) -> str:
    """As people say it: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
