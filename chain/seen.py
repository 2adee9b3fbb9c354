"""What a node has seen of its chain since it was started, in plain numbers: for its metrics.

Rule: it grows with the validators of one set and the tasks that run, and with nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Seen:
    """Times are in seconds, of `trio.current_time` where they are moments; amounts in planck; weight in picoseconds."""

    blocks: int = 0
    transactions: int = 0
    weight: int = 0  # of the newest block
    skew: float = 0.0  # how far its time was ahead of this machine's clock
    head_at: float = 0.0
    stalled: bool = False
    stalls: int = 0
    validators: int = 0
    seal_voters: int = 0
    seal_bytes: int = 0
    missed: Counter[bytes] = field(default_factory=Counter)  # by account
    rounds: int = 0
    minted: int = 0
    slots: Counter[str] = field(default_factory=lambda: Counter({"accepted": 0, "rejected": 0}))
    measured: dict[int, tuple[float, float]] = field(default_factory=dict)  # by task: loss, and accuracy of 1

    def sealed(self, missing: Iterable[bytes], validators: Iterable[bytes]) -> None:
        """A seal lacks some of the validators' votes; who is no validator any more is forgotten."""
        accounts = set(validators)
        for account in [account for account in self.missed if account not in accounts]:
            del self.missed[account]
        for account in accounts:  # A metric that is there from the beginning can be seen to grow.
            self.missed.setdefault(account, 0)
        self.missed.update(missing)
