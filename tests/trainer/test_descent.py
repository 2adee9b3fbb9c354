"""Steps with schedules, clipping and decay say what optax says, and rates and norms are exact."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import descent, exact, optimizers, schedules
from trainer.arrays import Float32s
from trainer.descent import ClipNorm, ClipValue, Descent
from trainer.optimizers import FRESH, PICO, Adam, Nesterov, OptimizerError, Sgd
from trainer.schedules import Constant, Cosine, Linear, Schedule, ScheduleError, Staircase

RATE = PICO // 20
PEAK = 0.05
MOMENTUM = 9 * PICO // 10
ADAM = Adam(RATE, MOMENTUM, 999 * PICO // 1000, PICO // 10**8)
WARM_COSINE = Schedule(5, Cosine(15, PICO // 10))
STEPS = 24


def warm_cosine(count: int) -> object:
    """The same in optax, whose warm-up begins at zero and not at the first of its steps."""
    up = optax.linear_schedule(PEAK / 5, PEAK, 4)
    return optax.join_schedules([up, optax.cosine_decay_schedule(PEAK, 15, 0.1)], [5])(count)


SAME: dict[str, tuple[Descent, Callable[[], optax.GradientTransformation]]] = {
    "sgd": (Descent(Sgd(RATE, 0)), lambda: optax.sgd(PEAK)),
    "heavy ball": (Descent(Sgd(RATE, MOMENTUM)), lambda: optax.sgd(PEAK, 0.9)),
    "nesterov": (Descent(Nesterov(RATE, MOMENTUM)), lambda: optax.sgd(PEAK, 0.9, nesterov=True)),
    "adam": (Descent(ADAM), lambda: optax.adam(PEAK)),
    "adamw": (Descent(ADAM, weight_decay=PICO // 10), lambda: optax.adamw(PEAK, weight_decay=0.1)),
    "adamw, warm-up and cosine": (
        Descent(ADAM, WARM_COSINE, weight_decay=PICO // 10),
        lambda: optax.adamw(warm_cosine, weight_decay=0.1),
    ),
    "sgd, norm clipped": (
        Descent(Sgd(RATE, MOMENTUM), clip=ClipNorm(3 * PICO)),
        lambda: optax.chain(optax.clip_by_global_norm(3.0), optax.sgd(PEAK, 0.9)),
    ),
    "sgd, values clipped": (
        Descent(Sgd(RATE, MOMENTUM), clip=ClipValue(PICO // 2)),
        lambda: optax.chain(optax.clip(0.5), optax.sgd(PEAK, 0.9)),
    ),
}


@pytest.mark.parametrize(("ours", "theirs"), SAME.values(), ids=SAME.keys())
def test_steps_are_those_of_optax(ours: Descent, theirs: Callable[[], optax.GradientTransformation]) -> None:
    rng = np.random.default_rng(3)
    start = rng.standard_normal(50).astype(np.float32)
    theta, state = start, FRESH
    transformation, expected = theirs(), jnp.asarray(start)
    their_state = transformation.init(expected)
    for _ in range(STEPS):
        gradient = rng.standard_normal(50).astype(np.float32)
        theta, state = descent.step(descent.checked(ours), state, theta, gradient)
        updates, their_state = transformation.update(jnp.asarray(gradient), their_state, expected)
        expected = jnp.asarray(optax.apply_updates(expected, updates))
    np.testing.assert_allclose(theta, np.asarray(expected), rtol=2e-5, atol=1e-5)


def test_without_schedule_clip_and_decay_a_step_is_the_optimisers_bit_for_bit() -> None:
    rng = np.random.default_rng(4)
    theta, gradient = rng.standard_normal(100).astype(np.float32), rng.standard_normal(100).astype(np.float32)
    assert descent.step(Descent(ADAM), FRESH, theta, gradient)[0].tobytes() == (
        optimizers.step(ADAM, FRESH, theta, gradient)[0].tobytes()
    )


@given(st.integers(1, 10**6), st.integers(0, 2 * 10**6), st.integers(0, PICO))
@settings(max_examples=60, deadline=None)
def test_a_cosine_is_a_cosine_to_the_last_unit(steps: int, step: int, final: int) -> None:
    progress = min(step, steps) / steps
    expected = final + (PICO - final) * (1 + math.cos(math.pi * progress)) / 2
    assert abs(schedules.rate(Schedule(0, Cosine(steps, final)), PICO, step) - expected) <= 2


def test_a_cosine_falls_from_the_peak_through_its_middle_to_its_end() -> None:
    rates = [schedules.rate(Schedule(2, Cosine(4, 0)), 1000, step) for step in range(8)]
    assert rates == [500, 1000, 1000, 854, 500, 146, 0, 0]


def test_a_line_and_stairs_are_exact() -> None:
    line = Schedule(0, Linear(4, PICO // 5))
    assert [schedules.rate(line, 1000, step) for step in range(6)] == [1000, 800, 600, 400, 200, 200]
    stairs = Schedule(0, Staircase(2, PICO // 2))
    assert [schedules.rate(stairs, 1000, step) for step in range(7)] == [1000, 1000, 500, 500, 250, 250, 125]
    assert schedules.rate(Schedule(0, Staircase(1, PICO - 1)), PICO, schedules.STEPS_MAX) == round(
        PICO * math.exp(schedules.STEPS_MAX * math.log1p(-1e-12))
    )
    assert schedules.rate(Schedule(3, Constant()), 10, 0) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        Schedule(-1),
        Schedule(0, Linear(0, 0)),
        Schedule(0, Cosine(1, PICO + 1)),
        Schedule(0, Staircase(0, 1)),
        Schedule(0, Staircase(1, -1)),
    ],
)
def test_schedules_without_sense_are_refused(wrong: Schedule) -> None:
    with pytest.raises(ScheduleError):
        descent.checked(Descent(ADAM, wrong))


@pytest.mark.parametrize(
    "wrong",
    [
        Descent(Sgd(0, 0)),
        Descent(ADAM, clip=ClipNorm(0)),
        Descent(ADAM, clip=ClipValue(2**61 * PICO)),
        Descent(ADAM, weight_decay=-1),
    ],
)
def test_descents_without_sense_are_refused(wrong: Descent) -> None:
    with pytest.raises(OptimizerError):
        descent.checked(wrong)


def plain_sum_of_squares(values: Float32s) -> float:
    """The same trees of Python floats; what they leave is added as fractions."""
    total = Fraction(0)
    for begin in range(0, values.size, 256):
        tree = [float(value) * float(value) for value in values[begin : begin + 256]]
        tree += [0.0] * (256 - len(tree))
        while len(tree) > 1:
            half = len(tree) // 2
            tree = [left + right for left, right in zip(tree[:half], tree[half:], strict=True)]
        total += Fraction(tree[0])
    return float(total)


@given(st.integers(0, 2**32), st.integers(1, 2000), st.sampled_from([1, 2, 5, 1024]))
@settings(max_examples=25, deadline=None)
def test_a_sum_of_squares_agrees_with_fractions_whatever_the_chunks(seed: int, length: int, chunk: int) -> None:
    rng = np.random.default_rng(seed)
    values = (rng.standard_normal(length) * 10.0 ** rng.integers(-20, 17, length)).astype(np.float32)
    assert exact.sum_of_squares(values, chunk_blocks=chunk) == plain_sum_of_squares(values)


def test_a_clipped_norm_is_the_limit_and_a_short_gradient_stays_as_it_is() -> None:
    gradient = np.array([3, 4], np.float32)
    assert descent.clipped(ClipNorm(5 * PICO), gradient) is gradient
    assert descent.clipped(ClipNorm(PICO), gradient).tolist() == [np.float32(3) * np.float32(0.2), np.float32(0.8)]
    assert descent.clipped(ClipNorm(PICO), np.zeros(2, np.float32)).tolist() == [0, 0]
