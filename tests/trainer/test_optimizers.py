"""Optimisers give the same bits as the dumbest scalar version, and their state survives its blob."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import optimizers
from trainer.arrays import Float32s
from trainer.optimizers import FRESH, PICO, Adam, Nesterov, Optimizer, OptimizerError, OptimizerState, Sgd

ADAM = Adam(2 * PICO // 100, 9 * PICO // 10, 999 * PICO // 1000, PICO // 10**8)
OPTIMIZERS = [ADAM, Sgd(PICO // 10, 0), Sgd(PICO // 10, 9 * PICO // 10), Nesterov(PICO // 10, 9 * PICO // 10)]
F = np.float32


def scalar_step(
    optimizer: Optimizer, count: int, theta: F, moments: tuple[F, ...], gradient: F
) -> tuple[F, tuple[F, ...]]:
    """One parameter, one numpy float32 operation a line."""
    rate = F(optimizer.learning_rate / PICO)
    if isinstance(optimizer, Sgd):
        if optimizer.momentum == 0:
            return F(theta - F(rate * gradient)), ()
        velocity = F(F(moments[0] * F(optimizer.momentum / PICO)) + gradient)
        return F(theta - F(rate * velocity)), (velocity,)
    if isinstance(optimizer, Nesterov):
        momentum = F(optimizer.momentum / PICO)
        velocity = F(F(moments[0] * momentum) + gradient)
        return F(theta - F(rate * F(F(velocity * momentum) + gradient))), (velocity,)
    beta1, beta2 = optimizer.beta1 / PICO, optimizer.beta2 / PICO
    m = F(F(moments[0] * F(beta1)) + F(gradient * F((PICO - optimizer.beta1) / PICO)))
    square = F(gradient * gradient)
    v = F(F(moments[1] * F(beta2)) + F(square * F((PICO - optimizer.beta2) / PICO)))
    m_hat = F(m / F(1.0 - by_squaring(beta1, count)))
    v_hat = F(v / F(1.0 - by_squaring(beta2, count)))
    root = F(F(math.sqrt(v_hat)) + F(optimizer.epsilon / PICO))
    return F(theta - F(F(m_hat * rate) / root)), (m, v)


def by_squaring(base: float, exponent: int) -> float:
    """base ** exponent, the way that is part of the protocol."""
    if exponent == 0:
        return 1.0
    half = by_squaring(base * base, exponent // 2)
    return half * base if exponent % 2 else half


def trained(optimizer: Optimizer, seed: int, steps: int, length: int = 40) -> tuple[Float32s, OptimizerState]:
    rng = np.random.default_rng(seed)
    theta, state = rng.standard_normal(length).astype(F), FRESH
    for _ in range(steps):
        theta, state = optimizers.step(optimizer, state, theta, rng.standard_normal(length).astype(F))
    return theta, state


@pytest.mark.parametrize("length", [0, 1, 255, 256, 257, 511, 512, 1000])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_a_step_in_parts_is_the_step_of_the_whole_bit_for_bit(
    optimizer: Optimizer, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(length)
    strange = np.array([-0.0, 0.0, 1e-45, -1e-39, 3e38, -3e38, 2.0**96], F)
    # Every second of a longer vector: what is stepped need not lie together.
    gradients = rng.choice(np.append(strange, rng.standard_normal(20).astype(F)), (3, 2 * length))[:, ::2]
    theta = rng.standard_normal(2 * length).astype(F)[::2]

    def after(at_once: int) -> list[bytes]:
        monkeypatch.setattr(optimizers, "STEPPED_AT_ONCE", at_once)
        at, state = theta, FRESH
        with np.errstate(over="ignore"):
            for gradient in gradients:
                at, state = optimizers.step(optimizer, state, at, gradient)
        return [values.tobytes() for values in (at, *state.moments)]

    assert after(256) == after(1 << 20)


def test_a_step_refuses_a_gradient_or_moments_of_another_length() -> None:
    length = optimizers.STEPPED_AT_ONCE
    fits, longer = np.ones(length, F), np.ones(length + 1, F)
    for state, gradient in ((FRESH, longer), (OptimizerState(1, (longer,)), fits)):
        with pytest.raises(OptimizerError, match=r"shape \(32768,\), got \[\(32769,\)\]"):
            optimizers.step(Sgd(PICO // 10, 9 * PICO // 10), state, fits, gradient)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=10, deadline=None)
def test_a_vector_step_is_the_scalar_step_bit_for_bit(optimizer: Optimizer, seed: int) -> None:
    rng = np.random.default_rng(seed)
    length, steps = 20, 5
    start = rng.standard_normal(length).astype(F)
    gradients = [(rng.standard_normal(length) * 10.0 ** rng.integers(-9, 9)).astype(F) for _ in range(steps)]
    theta, state = start, FRESH
    for gradient in gradients:
        theta, state = optimizers.step(optimizer, state, theta, gradient)
    for index in range(length):
        one, moments = F(start[index]), tuple(F(0) for _ in optimizers.moments_of(optimizer))
        for count, gradient in enumerate(gradients, 1):
            one, moments = scalar_step(optimizer, count, one, moments, F(gradient[index]))
        assert one.tobytes() == theta[index].tobytes()
        assert [m.tobytes() for m in moments] == [m[index].tobytes() for m in state.moments]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_slices_of_the_vector_step_alike(optimizer: Optimizer) -> None:
    rng = np.random.default_rng(7)
    theta, gradient = rng.standard_normal(1001).astype(F), rng.standard_normal(1001).astype(F)
    whole, _ = optimizers.step(optimizer, FRESH, theta, gradient)
    parts = [optimizers.step(optimizer, FRESH, theta[i::7], gradient[i::7])[0] for i in range(7)]
    for index, part in enumerate(parts):
        assert part.tobytes() == whole[index::7].tobytes()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_goes_on_from_a_state_blob_as_if_it_had_never_stopped(optimizer: Optimizer) -> None:
    theta, state = trained(optimizer, 3, 4)
    blob = optimizers.encode_state(optimizer, state)
    assert len(blob) <= optimizers.state_bytes_max(optimizer, theta.size)
    read = optimizers.decode_state(optimizer, blob, theta.size)
    gradient = np.ones_like(theta)
    straight, after = optimizers.step(optimizer, state, theta, gradient)
    resumed, after_read = optimizers.step(optimizer, read, theta, gradient)
    assert straight.tobytes() == resumed.tobytes()
    assert optimizers.encode_state(optimizer, after) == optimizers.encode_state(optimizer, after_read)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_gradient_makes_anything_but_finite_numbers(optimizer: Optimizer) -> None:
    theta, state = np.full(4, 2.0**96, F), FRESH
    for size in (2.0**57, -(2.0**57), 0.0, 2.0**-100) * 20:
        theta, state = optimizers.step(optimizer, state, theta, np.full(4, size, F))
    assert bool(np.isfinite(theta).all())
    assert optimizers.decode_state(optimizer, optimizers.encode_state(optimizer, state), 4).step == 80


@pytest.mark.parametrize(
    "wrong",
    [Sgd(0, 0), Sgd(1, PICO), Nesterov(1, PICO), Adam(1, 0, 0, 0), Adam(1, PICO, 0, 1), Adam(1000 * PICO + 1, 0, 0, 1)],
)
def test_hyperparameters_without_sense_are_refused(wrong: Optimizer) -> None:
    with pytest.raises(OptimizerError):
        optimizers.checked(wrong)


@pytest.mark.parametrize("values", [b"", bytes(4 * 3), bytes(4 * 5), np.array([1, 2, 3, np.nan], "<f4").tobytes()])
def test_parameters_of_another_length_or_without_end_are_refused(values: bytes) -> None:
    with pytest.raises(OptimizerError):
        optimizers.decode_params(values, 4)


def test_a_state_of_another_optimiser_is_refused() -> None:
    _, state = trained(ADAM, 1, 1)
    with pytest.raises(OptimizerError):
        optimizers.decode_state(Sgd(1, 1), optimizers.encode_state(ADAM, state), 40)
