"""How strict a task's audit is: as honest machines require, or not at all when the mildest cheats would pass.

Rule: the verdict of an audit itself is asked, about vectors that were really computed: the same slot by several honest
machines (or under several thread counts and instruction sets), and by cheats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

from trainer.arrays import Float32s
from trainer.audit import HALF_STEP, Tolerance, compare
from trainer.codecs import Codec

# The bounds of a policy on chain.
MICRO_STEPS_MIN = 510_000
MICRO_STEPS_MAX = 4_000_000
OUTLIERS_PPM = 20
# Machines that nobody tried differ more than those that somebody tried.
MARGIN = 8


class Uncalibratable(ValueError):
    """No tolerance lets honest workers pass and cheats fail: the task needs another codec, or fewer local steps."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A task's tolerance, and what honest results needed of it (1e-6 steps): half a step at least."""

    tolerance: Tolerance
    needed: int


def calibrate(
    codec: Codec,
    honest: Sequence[Float32s],
    cheats: Mapping[str, Float32s],
    round_index: int = 0,
    *,
    margin: int = MARGIN,
) -> Calibration:
    """The tolerance for a slot that `honest` (two or more) computed, each f32[P]; Uncalibratable when a cheat passes.

    What honest results need beyond half a step is multiplied by `margin`.
    """
    if len(honest) < 2:
        raise ValueError(f"expected two honest results or more, got {len(honest)}")
    needed = max(_needed(codec, sent, own, round_index) for sent, own in permutations(honest, 2))
    micro_steps = max(MICRO_STEPS_MIN, HALF_STEP + margin * (needed - HALF_STEP))
    if micro_steps > MICRO_STEPS_MAX:
        raise Uncalibratable(
            f"honest results differ by {needed / 1e6:.3f} steps; {margin} times what is beyond half a step exceeds "
            f"{MICRO_STEPS_MAX / 1e6:g}: take a coarser codec or fewer local steps"
        )
    tolerance = Tolerance(micro_steps, OUTLIERS_PPM)
    passed = [
        name
        for name, values in cheats.items()
        if any(compare(codec.quantise(values, round_index), own, tolerance).right for own in honest)
    ]
    if passed:
        raise Uncalibratable(
            f"within {micro_steps / 1e6:.3f} steps, which honest results need, an audit takes for right: "
            f"{', '.join(passed)}; take a finer codec or fewer local steps"
        )
    return Calibration(tolerance, needed)


def _needed(codec: Codec, sent: Float32s, own: Float32s, round_index: int) -> int:
    """The least tolerance (1e-6 steps) under which `sent` passes an audit by `own`, or one more than the largest."""
    update = codec.quantise(sent, round_index)
    low, high = HALF_STEP, MICRO_STEPS_MAX + 1
    while low < high:
        middle = (low + high) // 2
        if compare(update, own, Tolerance(middle, OUTLIERS_PPM)).right:
            high = middle
        else:
            low = middle + 1
    return low
