"""What consensus counts of itself, in plain numbers: how long it waits for what, and how often views change.

Rule: counting decides nothing; who wants the numbers reads them.
"""

from dataclasses import dataclass, field
from typing import get_args

from chain.primitives.spread import Spread
from consensus.host import Awaited


@dataclass(slots=True)
class Counts:
    """`phases` has, in seconds, how long views waited for what; `views_changed` counts those after a height's first."""

    phases: dict[Awaited, Spread] = field(default_factory=lambda: {phase: Spread() for phase in get_args(Awaited)})
    views_changed: int = 0
    equivocations: int = 0
    faults: int = 0
