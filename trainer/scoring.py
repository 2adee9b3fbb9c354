"""Scores: how much better a model would be without a contribution whose data nobody else has.

Rule: losses are measured in floats, judged as integers. What honest machines measure differs by a millionth, so that a
challenge takes more harm than a verdict: who confirms one never stands on the other side of the line.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

MICRO = 1_000_000
PPM = 1_000_000
# u64 in a call; a loss beyond 10^12 says no more than that the task diverged.
LOSS_MICRO_MAX = 10**18
# What a challenge takes beyond the harm that a policy forgives: a share of it. The least that a policy may say is 1,000
# ppm, a sixteenth of which is sixty times what honest machines differ by.
MARGIN = 16

# The held-out loss (1e-6) of what a round makes of the model by these slots, ascending; of none, what it is before.
Loss = Callable[[tuple[int, ...]], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Scored:
    """What harm a policy forgives (ppm of the loss before the round), what more costs, how much a silo may weigh."""

    harm_ppm: int
    forfeit: int  # planck
    weight_max: int  # samples
    silos_min: int  # of a round


@dataclass(frozen=True, slots=True)
class Score:
    """Whether a contribution is accepted, and what it adds to the held-out loss: less than nothing where it helps."""

    right: bool
    harm_ppm: int

    def __str__(self) -> str:
        return f"it adds {self.harm_ppm / 1e4:+.2f} % to the held-out loss"


def in_micro(loss: float) -> int:
    """A loss in 1e-6. One that is no number has diverged as far as one that is too large."""
    return min(max(round(loss * MICRO), 0), LOSS_MICRO_MAX) if loss < LOSS_MICRO_MAX else LOSS_MICRO_MAX


def harm_ppm(with_it: int, without_it: int, start: int) -> int:
    """What a contribution adds to the loss, in ppm of the loss before the round."""
    return (with_it - without_it) * PPM // max(start, 1)


def limit_ppm(scored: Scored, *, challenged: bool) -> int:
    """How much harm is forgiven: less where somebody has challenged it already."""
    return scored.harm_ppm if challenged else scored.harm_ppm + scored.harm_ppm // MARGIN


async def is_suspicious(scored: Scored, slots: Sequence[int], loss: Loss) -> bool:
    """Whether all contributions together make the model worse: then several may hide behind one another."""
    start = await loss(())
    return harm_ppm(await loss(tuple(slots)), start, start) > scored.harm_ppm


async def score(scored: Scored, slots: Sequence[int], asked: Collection[int], loss: Loss) -> dict[int, Score]:
    """The scores of some of the slots, that nobody has challenged: each against all the others."""
    limit = limit_ppm(scored, challenged=False)
    found = await _harms(slots, [slot for slot in slots if slot in asked], loss)
    return {slot: Score(harm <= limit, harm) for slot, harm in found.items()}


async def eliminate(scored: Scored, slots: Sequence[int], challenged: Collection[int], loss: Loss) -> dict[int, Score]:
    """The scores of all slots: the most harmful goes, until none does harm to those that are left.

    One at a time, because in the company of a poisoned contribution an honest one may seem harmful, too. Of what goes,
    the harm is that at which it went. It takes as many losses as there are slots, for each that goes and once more.
    """
    left, gone = list(slots), dict[int, Score]()
    while left:
        found = await _harms(left, left, loss)
        over = [slot for slot in left if found[slot] > limit_ppm(scored, challenged=slot in challenged)]
        if not over:
            return gone | {slot: Score(True, harm) for slot, harm in found.items()}
        # Of equals the first.
        worst = max(over, key=lambda slot: (found[slot], -slot))
        gone[worst] = Score(False, found[worst])
        left.remove(worst)
    return gone


async def _harms(slots: Sequence[int], asked: Sequence[int], loss: Loss) -> dict[int, int]:
    start, whole = await loss(()), await loss(tuple(slots))
    return {
        slot: harm_ppm(whole, await loss(tuple(other for other in slots if other != slot)), start) for slot in asked
    }
