"""Which devices of this machine to compute on, and what they are called.

Rule: a slot is computed by one device alone, so that how many there are changes how fast, and no bit of what.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

from trainer.child import DEVICES_MAX
from trainer.node import CannotServe


def chosen(platform: str, count: int | None) -> int | None:
    """How many devices to use if `count` was asked for, None where JAX is to find out how many there are.

    None is all: of a CPU, each core that this process may run on. CannotServe where it is more than a child can have.
    """
    if count is not None and count > DEVICES_MAX:
        raise CannotServe(f"--devices: expected 1 to {DEVICES_MAX}, got {count}: run several workers, each with a key")
    if count is None and platform == "cpu":
        return min(len(os.sched_getaffinity(0)), DEVICES_MAX)
    return count


def named(devices: Sequence[str]) -> str:
    """`8 × NVIDIA H100`, or with several kinds each of them."""
    return ", ".join(f"{count} × {kind}" for kind, count in sorted(Counter(devices).items()))
