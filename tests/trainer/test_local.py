"""Local steps are the steps that a worker would take alone, and say where they led."""

from __future__ import annotations

import numpy as np
import pytest

from trainer import local, optimizers
from trainer.arrays import Float32s
from trainer.descent import Descent
from trainer.local import LocalSteps, contribution
from trainer.optimizers import FRESH, PICO, Adam, OptimizerError, Sgd
from trainer.schedules import Linear, Schedule

START = np.array([1, -2, 3], np.float32)
SGD = Sgd(PICO // 4, 9 * PICO // 10)
ADAM = Adam(PICO // 100, 9 * PICO // 10, 999 * PICO // 1000, PICO // 10**8)


def gradient(theta: Float32s, index: int) -> Float32s:
    """That of a bowl whose middle moves from batch to batch."""
    return theta - np.float32(index)


@pytest.mark.parametrize(
    "wrong", [LocalSteps(0, Descent(SGD)), LocalSteps(4097, Descent(SGD)), LocalSteps(8, Descent(Sgd(0, 0)))]
)
def test_local_steps_without_sense_are_refused(wrong: LocalSteps) -> None:
    with pytest.raises(OptimizerError):
        local.checked(wrong)


def test_local_steps_with_sense_are_taken() -> None:
    steps = LocalSteps(32, Descent(ADAM))
    assert local.checked(steps) is steps


def test_without_local_steps_a_slot_says_its_gradient() -> None:
    assert contribution(None, START, gradient, 5).tolist() == START.tolist()
    assert contribution(None, START, lambda theta, _: theta * np.float32(np.nan), 5).tolist() == [0, 0, 0]


@pytest.mark.parametrize("inner", [SGD, ADAM])
def test_local_steps_are_the_inner_optimisers_from_a_fresh_state(inner: Sgd | Adam) -> None:
    theta, state = START, FRESH
    for index in range(5):
        theta, state = optimizers.step(inner, state, theta, gradient(theta, index))
    for round_index in (0, 9):
        said = contribution(LocalSteps(5, Descent(inner)), START, gradient, round_index)
        assert said.tobytes() == (START - theta).tobytes()


def test_an_outer_step_at_rate_one_goes_to_where_the_local_steps_ended() -> None:
    said = contribution(LocalSteps(4, Descent(SGD)), START, gradient, 0)
    theta, state = START, FRESH
    for index in range(4):
        theta, state = optimizers.step(SGD, state, theta, gradient(theta, index))
    outer, _ = optimizers.step(Sgd(PICO, 0), FRESH, START, said)
    np.testing.assert_allclose(outer, theta, rtol=1e-6)


def test_a_schedule_goes_on_from_round_to_round() -> None:
    falling = Descent(Sgd(PICO, 0), Schedule(0, Linear(4, 0)))
    one = np.ones(1, np.float32)
    said = [contribution(LocalSteps(2, falling), one, lambda _, __: one, index).tolist() for index in range(3)]
    assert said == [[1.75], [0.75], [0.0]]
