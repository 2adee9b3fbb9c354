"""The optimisers, in numpy float32.

Rule: one IEEE operation at a time on flat arrays (no fused operation, no float reduction, no libm), so that every
machine gets the same bits from the same chain of updates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from trainer.arrays import PARAMETERS_MAX, Float32s
from trainer.packing import PackingError, fields, integer, pack, unpack

VERSION = 1
PICO = 10**12
# Beyond it parameters and moments saturate: products of two rates and such a value still fit float32.
MAGNITUDE_MAX = np.float32(2.0**96)
STEPS_MAX = 2**32 - 1
# Some ten arrays of so many values are in hand at once: 1.3 MB, which is half of a core's second-level cache.
STEPPED_AT_ONCE = 1 << 15


class OptimizerError(ValueError):
    """Hyperparameters or an optimiser's state that cannot be used."""


@dataclass(frozen=True, slots=True)
class Sgd:
    """Polyak's heavy ball: v = momentum * v + g; theta -= learning_rate * v. Units: 1e-12."""

    learning_rate: int
    momentum: int


@dataclass(frozen=True, slots=True)
class Nesterov:
    """v = momentum * v + g; theta -= learning_rate * (momentum * v + g) (Sutskever et al. 2013). Units: 1e-12.

    The outer optimiser of DiLoCo (Douillard et al. 2023) for tasks with local steps, with 0.7 and 0.9 there.
    """

    learning_rate: int
    momentum: int


@dataclass(frozen=True, slots=True)
class Adam:
    """Kingma and Ba 2015, algorithm 1, with bias correction. Units: 1e-12."""

    learning_rate: int
    beta1: int
    beta2: int
    epsilon: int


Optimizer = Sgd | Nesterov | Adam


@dataclass(frozen=True, slots=True)
class OptimizerState:
    """Steps taken, and the moments f32[P] in the order that the optimiser names them (none before the first step)."""

    step: int
    moments: tuple[Float32s, ...]


FRESH = OptimizerState(0, ())


def checked(optimizer: Optimizer) -> Optimizer:
    """The optimiser itself, if its hyperparameters make sense; OptimizerError names the one that does not."""
    match optimizer:
        case Sgd(rate, momentum) | Nesterov(rate, momentum):
            _within("learning rate", rate, 1, 1_000 * PICO)
            _within("momentum", momentum, 0, PICO - 1)
        case Adam(rate, beta1, beta2, epsilon):
            _within("learning rate", rate, 1, 1_000 * PICO)
            _within("beta1", beta1, 0, PICO - 1)
            _within("beta2", beta2, 0, PICO - 1)
            # Zero would divide zero by zero where a gradient has always been zero.
            _within("epsilon", epsilon, 1, PICO)
        case _:
            assert_never(optimizer)
    return optimizer


def step(
    optimizer: Optimizer, state: OptimizerState, theta: Float32s, gradient: Float32s
) -> tuple[Float32s, OptimizerState]:
    """One step: new parameters f32[P] and new state; the inputs stay as they are.

    No value depends on another, so they are stepped in parts that stay in a core's cache, for the same bits.
    """
    count = state.step + 1
    if count > STEPS_MAX:
        raise OptimizerError(f"expected at most {STEPS_MAX:,} steps")
    if others := {each.shape for each in (gradient, *state.moments)} - {theta.shape}:
        raise OptimizerError(f"expected gradient and moments of shape {theta.shape}, got {sorted(others)}")
    after, moments = np.empty_like(theta), tuple(np.empty_like(theta) for _ in moments_of(optimizer))
    for begin in range(0, theta.size, STEPPED_AT_ONCE):
        part = slice(begin, begin + STEPPED_AT_ONCE)
        # A first step begins with moments of zero.
        before = [moment[part] for moment in state.moments] or [np.zeros_like(theta[part]) for _ in moments]
        after[part], made = _stepped(optimizer, count, before, theta[part], gradient[part])
        for whole, values in zip(moments, made, strict=True):
            whole[part] = values
    return after, OptimizerState(count, moments)


def _stepped(
    optimizer: Optimizer, count: int, moments: Sequence[Float32s], theta: Float32s, gradient: Float32s
) -> tuple[Float32s, tuple[Float32s, ...]]:
    """Step number `count` of some parameters, and their new moments."""
    match optimizer:
        case Sgd(rate, 0):
            return _bound(theta - _f32(rate) * gradient), ()
        case Sgd(rate, momentum):
            velocity = _bound(moments[0] * _f32(momentum) + gradient)
            return _bound(theta - _f32(rate) * velocity), (velocity,)
        case Nesterov(rate, momentum):
            velocity = _bound(moments[0] * _f32(momentum) + gradient)
            ahead = _bound(velocity * _f32(momentum) + gradient)
            return _bound(theta - _f32(rate) * ahead), (velocity,)
        case Adam(rate, beta1, beta2, epsilon):
            m, v = moments
            m = m * _f32(beta1) + gradient * _f32(PICO - beta1)
            v = v * _f32(beta2) + (gradient * gradient) * _f32(PICO - beta2)
            m_hat = m / np.float32(1.0 - _power(beta1 / PICO, count))
            # Overflows only where beta2 is within 1e-9 of 1; an infinite second moment then means no step.
            with np.errstate(over="ignore"):
                v_hat = v / np.float32(1.0 - _power(beta2 / PICO, count))
            theta = theta - (m_hat * _f32(rate)) / (np.sqrt(v_hat) + _f32(epsilon))
            return _bound(theta), (m, v)
        case _:
            assert_never(optimizer)


def moments_of(optimizer: Optimizer) -> tuple[str, ...]:
    """The names of the moments that this optimiser keeps after its first step."""
    match optimizer:
        case Sgd(_, momentum):
            return ("velocity",) if momentum else ()
        case Nesterov():
            return ("velocity",)
        case Adam():
            return ("m", "v")
        case _:
            assert_never(optimizer)


def state_bytes_max(optimizer: Optimizer, length: int) -> int:
    """The most bytes that a state of `length` parameters encodes to."""
    return len(moments_of(optimizer)) * 4 * length + 128


def encode_state(optimizer: Optimizer, state: OptimizerState) -> bytes:
    """The state's blob: version, step and each moment as little-endian float32."""
    named = dict(zip(moments_of(optimizer), (_raw(moment) for moment in state.moments), strict=True))
    return pack({"version": VERSION, "step": state.step, **named})


def decode_state(optimizer: Optimizer, data: bytes, length: int) -> OptimizerState:
    """The state of exactly `length` parameters in a blob; OptimizerError on anything that we would not write."""
    names = moments_of(optimizer)
    try:
        limit = state_bytes_max(optimizer, length)
        shape: dict[str, type] = {"version": int, "step": int, **dict.fromkeys(names, bytes)}
        parsed = fields(unpack(data, bytes_max=limit), shape, "optimizer")
        integer(parsed["version"], VERSION, VERSION, "optimizer.version")
        count = integer(parsed["step"], 1, STEPS_MAX, "optimizer.step")
    except PackingError as error:
        raise OptimizerError(str(error)) from None
    return OptimizerState(count, tuple(decode_params(parsed[name], length) for name in names))


def empty(length: int) -> Float32s:
    """A vector f32[P] that is about to be filled."""
    return np.empty(length, np.float32)


def encode_params(theta: Float32s) -> bytes:
    """A parameter vector's blob: raw little-endian float32."""
    return _raw(theta)


def decode_params(data: bytes, length: int) -> Float32s:
    """The f32[P] in a blob: exactly `length` finite numbers."""
    if not 0 < length <= PARAMETERS_MAX or len(data) != 4 * length:
        raise OptimizerError(f"expected {length} float32 ({4 * length} bytes), got {len(data)} bytes")
    theta = np.frombuffer(data, dtype="<f4").astype(np.float32)
    if not bool(np.isfinite(theta).all()):
        raise OptimizerError("expected finite parameters, got NaN or infinity")
    return theta


def _raw(values: Float32s) -> bytes:
    return values.astype("<f4").tobytes()


def _f32(pico: int) -> np.float32:
    # True division of integers rounds correctly; so does the cast.
    return np.float32(pico / PICO)


def _power(base: float, exponent: int) -> float:
    """base ** exponent by squaring: only IEEE products, since libm's pow differs between machines."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


def _bound(values: Float32s) -> Float32s:
    return values.clip(-MAGNITUDE_MAX, MAGNITUDE_MAX)


def _within(what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise OptimizerError(f"{what}: expected {low} to {high} (in units of 1e-12), got {value}")
