"""One step of training: clip the gradient, let the weights decay, and let the optimiser step at the scheduled rate.

Rule: as in the optimisers, one IEEE operation at a time; the one float that depends on all parameters, a norm, is
summed in a fixed order (trainer/exact.py). The same for the aggregate of a round and for a worker's local steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import assert_never

import numpy as np

from trainer import exact, optimizers, schedules
from trainer.arrays import Float32s
from trainer.optimizers import PICO, Optimizer, OptimizerError, OptimizerState
from trainer.schedules import CONSTANT, Schedule

# A clip that is wider than any model needs is no clip.
LIMIT_MAX = 1_000 * PICO


@dataclass(frozen=True, slots=True)
class ClipValue:
    """No value beyond `limit` (1e-12) on either side."""

    limit: int


@dataclass(frozen=True, slots=True)
class ClipNorm:
    """Scaled down to a Euclidean norm of `limit` (1e-12) if it is longer (Pascanu et al. 2013)."""

    limit: int


Clip = ClipValue | ClipNorm


@dataclass(frozen=True, slots=True)
class Descent:
    """What makes a step of a gradient.

    `weight_decay` (1e-12) is decoupled (Loshchilov and Hutter 2019): with Adam it is AdamW.
    """

    rule: Optimizer
    schedule: Schedule = CONSTANT
    clip: Clip | None = None
    weight_decay: int = 0


def checked(descent: Descent) -> Descent:
    """The descent itself, if its numbers make sense; OptimizerError or ScheduleError names the one that does not."""
    optimizers.checked(descent.rule)
    schedules.checked(descent.schedule)
    if descent.clip is not None and not 1 <= descent.clip.limit <= LIMIT_MAX:
        raise OptimizerError(f"limit of a clip: expected 1 to {LIMIT_MAX} (1e-12), got {descent.clip.limit}")
    if not 0 <= descent.weight_decay <= PICO:
        raise OptimizerError(f"weight decay: expected 0 to {PICO} (1e-12), got {descent.weight_decay}")
    return descent


def step(
    descent: Descent, state: OptimizerState, theta: Float32s, gradient: Float32s, *, scheduled: int | None = None
) -> tuple[Float32s, OptimizerState]:
    """One step: new parameters f32[P] and new state; the inputs stay as they are.

    `scheduled` is the step's place in the schedule, where that is not how many steps the optimiser has taken.
    """
    place = state.step if scheduled is None else scheduled
    rate = schedules.rate(descent.schedule, descent.rule.learning_rate, place)
    if descent.clip is not None:
        gradient = clipped(descent.clip, gradient)
    if descent.weight_decay:
        theta = theta - theta * np.float32(rate * descent.weight_decay / PICO**2)
    return optimizers.step(replace(descent.rule, learning_rate=rate), state, theta, gradient)


def clipped(clip: Clip, gradient: Float32s) -> Float32s:
    """The gradient within the clip's limit."""
    match clip:
        case ClipValue(limit):
            bound = np.float32(limit / PICO)
            return gradient.clip(-bound, bound)
        case ClipNorm(limit):
            norm = math.sqrt(exact.sum_of_squares(gradient))
            return gradient if norm <= limit / PICO else gradient * np.float32(limit / PICO / norm)
        case _:
            assert_never(clip)
