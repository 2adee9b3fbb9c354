"""How old what is proven may be: a proof says what was final, never that nothing came after it.

Times are the blocks' own, in milliseconds since 1970; validators refuse blocks from the future, so that a block's time
is at most a little ahead of the truth.
"""

from __future__ import annotations

from typing import Final

from chain.light.checkpoint import Checkpoint
from chain.light.errors import LightError, Stale

# Blocks come once a second, and after some failed views in a row within a minute.
AGE_SECONDS_MAX: Final = 120
# How far this device's clock may be behind the validators'.
AHEAD_SECONDS_MAX: Final = 60
# Validators can withdraw their stakes after a week: from then on they lose nothing by sealing another chain from where
# they once decided. Two thirds of that leave time for the evidence of it to be brought on chain.
TRUST_SECONDS_MAX: Final = 7 * 86400 * 2 // 3


def check_age(head: Checkpoint, now_ms: int, age_seconds_max: int = AGE_SECONDS_MAX) -> None:
    """That a block is of now, as this device's clock has it; raises Stale."""
    if head.height == 0:
        return  # Genesis has no time: the chain has not begun.
    age = (now_ms - head.time_ms) // 1000
    if age > age_seconds_max:
        raise Stale(
            f"the newest block that it shows, {head.height}, is {show_age(age)} old: the chain has stopped, the node "
            f"is behind or withholds what came after, or this device's clock is wrong (--max-age {age} accepts it)"
        )
    if -age > AHEAD_SECONDS_MAX:
        raise Stale(f"block {head.height} is {show_age(-age)} ahead of this device's clock: set the clock")


def check_trust(start: Checkpoint, now_ms: int) -> None:
    """That whoever decided after a checkpoint still has a stake to lose; raises LightError."""
    age = (now_ms - start.time_ms) // 1000
    if start.height and age > TRUST_SECONDS_MAX:
        raise LightError(
            f"the checkpoint, block {start.height}, is {show_age(age)} old, and after {show_age(TRUST_SECONDS_MAX)} "
            "its validators may have nothing to lose any more: look up the hash of a recent block at a source that "
            "you trust, and give it with --trust HASH"
        )


def show_age(seconds: int) -> str:
    """A span of time in its greatest units."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
