"""Local steps: what a worker sends when it trains for a while before it speaks (FedAvg, McMahan et al. 2017; DiLoCo).

Rule: the steps follow from the round's parameters and the slot's rows alone. The inner optimiser begins afresh in each
round, since whoever has a slot next, and whoever audits it, knows nothing of what another worker kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from trainer import descent
from trainer.arrays import Float32s
from trainer.codecs.blocks import bounded
from trainer.descent import Descent
from trainer.optimizers import FRESH, OptimizerError

# A round waits for its slowest slot, and an audit of a slot takes as long as its steps did: hours, beyond this.
STEPS_MAX = 4096

# The gradient f32[P] at parameters f32[P] of the slot's batch with this index.
Gradient = Callable[[Float32s, int], Float32s]


@dataclass(frozen=True, slots=True)
class LocalSteps:
    """`count` steps of the inner descent, each on a batch of its own."""

    count: int
    inner: Descent


def checked(local: LocalSteps) -> LocalSteps:
    """The local steps themselves, if their numbers make sense; OptimizerError or ScheduleError names what does not."""
    descent.checked(local.inner)
    if not 1 <= local.count <= STEPS_MAX:
        raise OptimizerError(f"local steps: expected 1 to {STEPS_MAX:,}, got {local.count}")
    return local


def contribution(local: LocalSteps | None, theta: Float32s, gradient: Gradient, round_index: int) -> Float32s:
    """What a slot is to say, f32[P]: its gradient, or with local steps the way from where they end back to `theta`.

    The outer optimiser takes it as a gradient: at rate 1 it steps to the mean of where the slots' steps ended.
    """
    if local is None:
        return bounded(gradient(theta, 0))
    at, state = theta, FRESH
    for index in range(local.count):
        # The schedule goes on from round to round, though the moments do not.
        at, state = descent.step(
            local.inner, state, at, bounded(gradient(at, index)), scheduled=round_index * local.count + index
        )
    return theta - at
