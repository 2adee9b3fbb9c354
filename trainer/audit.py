"""The comparison that an audit is: does a revealed update say what the auditor computed itself?

Rule: the verdict is about integers in units of the update's own steps. Honest machines differ by a hundredth of a
step, the mildest cheats by whole steps in a fifth of the values: the tolerance lies between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

import numpy as np
import numpy.typing as npt

from trainer.arrays import Float32s, Float64s
from trainer.codecs.blocks import BLOCK, CHECKED_AT_ONCE, bounded, steps_of
from trainer.codecs.topk import BITS, kth_largest
from trainer.codecs.updates import DenseUpdate, SparseUpdate, Update

MICRO = 1_000_000
# What rounding alone costs, in 1e-6 steps.
HALF_STEP = MICRO // 2
# Honest float32 results differ by rounding noise in proportion to the largest terms, also where a value is a small
# difference of large ones. A block that is noise through and through is judged on that scale: 2^-21 of the peak.
NOISE_OF_PEAK = 2.0**-21


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far an integer may be from the auditor's own value (in 1e-6 steps), and how many may be farther (ppm)."""

    micro_steps: int
    outliers_ppm: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an update is right, and by how much: values out of tolerance of values that were sent."""

    right: bool
    outliers: int
    length: int

    def __str__(self) -> str:
        return f"{self.outliers:,} of {self.length:,} values out of tolerance"


def compare(update: Update, own: Float32s, tolerance: Tolerance) -> Verdict:
    """Judge `update` by what the auditor would have rounded itself, f32[P]: its own `take` of the same slot."""
    if own.size != update.length:
        raise ValueError(f"expected a vector of {update.length} values, got {own.size}")
    meant = bounded(own).ravel()
    noise = NOISE_OF_PEAK * float(max(meant.max(), -meant.min()))
    match update:
        case DenseUpdate():
            outliers, sent = 0, meant.size
            # All at once takes memory anew for forty bytes a value, which costs several times the arithmetic.
            for begin in range(0, meant.size, CHECKED_AT_ONCE):
                part = update.slice(begin, min(begin + CHECKED_AT_ONCE, meant.size))
                steps = np.repeat(np.ldexp(1.0, part.exponents.astype(np.int32)), BLOCK)[: part.length]
                values, own_part = part.values.astype(np.float64), meant[begin : begin + part.length]
                outliers += int(np.count_nonzero(_outliers(values, steps, own_part, noise, tolerance)))
        case SparseUpdate(_, indices, values):
            steps = np.ldexp(1.0, update.steps())
            wrong = _outliers(values.astype(np.float64), steps, meant[indices], noise, tolerance)
            # What is as large as the least value that should be sent, give or take what honest machines differ by, may
            # be sent or not.
            magnitudes = np.abs(meant)
            least = kth_largest(magnitudes, indices.size)
            step = float(np.ldexp(1.0, int(steps_of(least.reshape(1), BITS)[0])))
            margin = (tolerance.micro_steps - HALF_STEP) / MICRO * step + noise
            wrong |= magnitudes[indices] < least - margin
            unsent = magnitudes > least + margin
            unsent[indices] = False
            outliers, sent = int(np.count_nonzero(wrong) + np.count_nonzero(unsent)), indices.size
        case _:
            assert_never(update)
    return Verdict(outliers * MICRO <= tolerance.outliers_ppm * sent, outliers, sent)


def _outliers(
    values: Float64s, steps: Float64s, meant: Float32s, noise: float, tolerance: Tolerance
) -> npt.NDArray[np.bool_]:
    # Dividing by a power of two is exact, so that all of the difference is the two vectors'.
    distance = np.abs(values - meant / steps)
    return np.asarray(distance > tolerance.micro_steps / MICRO + noise / steps)
