"""What a run prints of each perturbation: medians and greatest values, for people; nothing here fails a run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Report:
    """What one perturbation came to: how long blocks took while it lasted, and how long starts and recovery took."""

    name: str
    first: int = 0
    last: int = 0
    held_blocks: int | None = None  # while it lasted
    recoveries: list[float] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)  # seconds from a node's start to its first answer
    answers_cpu: list[float] = field(default_factory=list)  # processor seconds that it took until then
    blocks: list[float] = field(default_factory=list)  # seconds from a node's start until it told of a new block
    notes: list[str] = field(default_factory=list)

    def lines(self, block_seconds: Sequence[float]) -> list[str]:
        """For people; the block times are those of its heights."""
        told = [f"{self.name}: heights {self.first} to {self.last}"]
        if block_seconds:
            told[0] += f", a block every {spread(block_seconds)}"
        if self.held_blocks is not None:
            told.append(f"  blocks while it lasted: {self.held_blocks}")
        for what, samples in (
            ("recovered, every node on a new block", self.recoveries),
            ("from start to first RPC answer", self.answers),
            ("  processor time of it", self.answers_cpu),
            ("from start to a new block", self.blocks),
        ):
            if samples:
                told.append(f"  {what}: {spread(samples)}, {len(samples)} times")
        return told + [f"  {note}" for note in self.notes]


def spread(seconds: Sequence[float]) -> str:
    """Median and greatest."""
    return f"{statistics.median(seconds):.2f} s (at most {max(seconds):.2f})"
