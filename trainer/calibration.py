"""How strict a task's audit is: as honest machines require, and whether the mildest cheats are told apart under it.

Rule: the verdict of an audit itself is asked, about vectors that were really computed: the same slot by several honest
machines (under several thread counts and instruction sets), and by cheats. What cannot be told apart has a name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from statistics import median

import numpy as np

from trainer.arrays import Float32s
from trainer.audit import HALF_STEP, Tolerance, compare
from trainer.codecs import Codec

# The bounds of a policy on chain.
MICRO_STEPS_MIN = 510_000
MICRO_STEPS_MAX = 4_000_000
OUTLIERS_PPM = 20
# Machines that nobody tried differ more than those that somebody tried.
MARGIN = 8
# Float32 differs by 1e-7 to 1e-6, rounded products by 6e-5, local steps of a smooth model that learns by no more than
# they did after one: what is beyond this grows from step to step, and in another slot may have grown further.
DRIFT = 1e-4
STEADY = (
    "fewer local steps, a lower inner learning rate, or a model without kinks: gelu or silu for relu, the mean for the "
    "maximum in pooling"
)
ADVICE = "a finer codec (int16, a larger share), smaller batches or fewer local steps"


class Uncalibratable(ValueError):
    """No tolerance lets honest workers pass and cheats fail; the message says what cannot be told apart."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One slot as two honest machines or more computed it, each f32[P], and as cheats did, by their names.

    `lazy` ones save work by it; `wrong` ones save none, and do harm only as far as they are off.
    """

    honest: Sequence[Float32s]
    lazy: Mapping[str, Float32s]
    wrong: Mapping[str, Float32s]
    round: int = 0

    @property
    def cheats(self) -> Mapping[str, Float32s]:
        return {**self.lazy, **self.wrong}


@dataclass(frozen=True, slots=True)
class Finding:
    """What becomes of a kind of cheat: in how many trials every honest auditor finds it.

    `harmless` counts trials in which nobody is the worse for it: it saved no work, and under the strictest audit that
    there is each integer is as near to the truth as an honest one. `share` is what of its values is out of tolerance,
    the median of the trials.
    """

    cheat: str
    found: int
    harmless: int
    trials: int
    share: float

    @property
    def passes(self) -> bool:
        """Whether who cheats so gains by it in half of the trials or more."""
        return 2 * (self.found + self.harmless) <= self.trials

    def __str__(self) -> str:
        rest = f", harmless in {self.harmless}" if self.harmless else ""
        return f"{self.cheat}: found in {self.found} of {self.trials}{rest}, {self.share:.2%} of its values off"


@dataclass(frozen=True, slots=True)
class Calibration:
    """A task's tolerance, what honest results needed of it (1e-6 steps), and what becomes of cheats under it."""

    tolerance: Tolerance
    needed: int
    difference: float  # of honest results, relative L2
    findings: tuple[Finding, ...]

    @property
    def missed(self) -> tuple[Finding, ...]:
        """Cheats that pass: with work that was left out, or with more harm than rounding does."""
        return tuple(finding for finding in self.findings if finding.passes)

    @property
    def drifts(self) -> bool:
        """Whether honest results differ by more than rounding does, so that other slots may need more than these."""
        return self.difference > DRIFT


def calibrate(
    codec: Codec, trials: Sequence[Trial], outliers_ppm: int = OUTLIERS_PPM, *, said: int | None = None
) -> Calibration:
    """What audits of a task need, by trials of its slots; cheats are judged under that, or under a tolerance `said`.

    What honest results need beyond half a step is multiplied by `MARGIN`. Uncalibratable where that is more than
    there may be.
    """
    if not trials or any(len(trial.honest) < 2 for trial in trials):
        raise ValueError("expected trials of two honest results or more each")
    needed = max(
        _needed(codec, sent, own, trial.round, outliers_ppm)
        for trial in trials
        for sent, own in permutations(trial.honest, 2)
    )
    micro_steps = max(MICRO_STEPS_MIN, HALF_STEP + MARGIN * (needed - HALF_STEP))
    difference = max(map(_difference, trials))
    if micro_steps > MICRO_STEPS_MAX and said is None:
        advice = STEADY if difference > DRIFT else "a coarser codec or fewer local steps"
        most = f"{MICRO_STEPS_MAX / 1e6:g}"
        needs = f"more than {most}" if needed > MICRO_STEPS_MAX else f"{needed / 1e6:.3f}"
        raise Uncalibratable(
            f"honest results differ by {difference:.1e} of their length and need a tolerance of {needs} steps; "
            f"{MARGIN} times what is beyond half a step exceeds {most}: take {advice}"
        )
    tolerance = Tolerance(micro_steps, outliers_ppm)
    judged_by = tolerance if said is None else Tolerance(said, outliers_ppm)
    names = dict.fromkeys(name for trial in trials for name in trial.cheats)
    findings = tuple(_finding(codec, name, trials, judged_by) for name in names)
    return Calibration(tolerance, needed, difference, findings)


def require_told_apart(calibration: Calibration) -> None:
    """Uncalibratable where a cheat passes."""
    if calibration.missed:
        raise Uncalibratable(
            f"within {calibration.tolerance.micro_steps / 1e6:.3f} steps, which honest results need, audits take for "
            f"right: {'; '.join(map(str, calibration.missed))}. Take {ADVICE}"
        )


def _finding(codec: Codec, name: str, trials: Sequence[Trial], tolerance: Tolerance) -> Finding:
    found = harmless = 0
    shares = []
    strictest = Tolerance(MICRO_STEPS_MIN, OUTLIERS_PPM)
    for trial in trials:
        if name not in trial.cheats:
            continue
        update = codec.quantise(trial.cheats[name], trial.round)
        verdicts = [compare(update, own, tolerance) for own in trial.honest]
        is_found = not any(verdict.right for verdict in verdicts)
        found += is_found
        if not is_found and name in trial.wrong:
            harmless += all(compare(update, own, strictest).right for own in trial.honest)
        shares.append(min(verdict.outliers / verdict.length for verdict in verdicts))
    return Finding(name, found, harmless, len(shares), median(shares))


def _difference(trial: Trial) -> float:
    """How far honest results are apart at most, relative L2."""
    return max(
        float(np.linalg.norm(a.astype(np.float64) - b)) / max(float(np.linalg.norm(b.astype(np.float64))), 1e-300)
        for a, b in permutations(trial.honest, 2)
    )


def _needed(codec: Codec, sent: Float32s, own: Float32s, round_index: int, outliers_ppm: int) -> int:
    """The least tolerance (1e-6 steps) under which `sent` passes an audit by `own`, or one more than the largest."""
    update = codec.quantise(sent, round_index)
    low, high = HALF_STEP, MICRO_STEPS_MAX + 1
    while low < high:
        middle = (low + high) // 2
        if compare(update, own, Tolerance(middle, outliers_ppm)).right:
            high = middle
        else:
            low = middle + 1
    return low
