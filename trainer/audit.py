"""The comparison that an audit is: does a revealed update say what the auditor computed itself?

Rule: the verdict is about integers in units of the update's own steps. Honest machines differ by a hundredth of a
step, the mildest cheats by whole steps in a fifth of the values: the tolerance lies between.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainer.codec import BLOCK, Float32s, Update, bounded

MICRO = 1_000_000
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
    """Whether an update is right, and by how much: values out of tolerance of values compared."""

    right: bool
    outliers: int
    length: int

    def __str__(self) -> str:
        return f"{self.outliers:,} of {self.length:,} values out of tolerance"


def compare(update: Update, own: Float32s, tolerance: Tolerance) -> Verdict:
    """Judge `update` by the auditor's own gradient f32[P] of the same slot."""
    if own.size != update.length:
        raise ValueError(f"expected a gradient of {update.length} values, got {own.size}")
    meant = bounded(own).astype(np.float64)
    # Multiplying by a power of two is exact, so that all of the difference is the two gradients'.
    per_step = np.repeat(np.ldexp(1.0, -update.exponents.astype(np.int32)), BLOCK)[: own.size]
    distance = np.abs(update.values - meant * per_step)
    allowed = tolerance.micro_steps / MICRO + NOISE_OF_PEAK * float(np.abs(meant).max()) * per_step
    outliers = int(np.count_nonzero(distance > allowed))
    return Verdict(outliers * MICRO <= tolerance.outliers_ppm * own.size, outliers, int(own.size))
