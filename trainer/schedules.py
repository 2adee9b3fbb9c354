"""How the learning rate changes from step to step: a warm-up, then one of four decays.

Rule: integers alone, in units of 1e-12, so that a rate has the same bits everywhere and may be computed on chain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

PICO = 10**12
# As many as an optimiser takes.
STEPS_MAX = 2**32 - 1
BITS = 128
ONE = 1 << BITS
# The first 128 binary digits behind the point.
PI = 0x3_243F6A8885A308D313198A2E03707344


class ScheduleError(ValueError):
    """Numbers of which no schedule can be made."""


@dataclass(frozen=True, slots=True)
class Constant:
    """The peak for ever."""


@dataclass(frozen=True, slots=True)
class Linear:
    """Along a line to the share `final` (1e-12) of the peak, within `steps`."""

    steps: int
    final: int


@dataclass(frozen=True, slots=True)
class Cosine:
    """Along half a wave to the share `final` (1e-12) of the peak, within `steps` (Loshchilov and Hutter 2017)."""

    steps: int
    final: int


@dataclass(frozen=True, slots=True)
class Staircase:
    """Times `factor` (1e-12) after every so many steps."""

    every: int
    factor: int


Decay = Constant | Linear | Cosine | Staircase


@dataclass(frozen=True, slots=True)
class Schedule:
    """A line from peak/warmup_steps up to the peak, then the decay."""

    warmup_steps: int = 0
    decay: Decay = Constant()


CONSTANT = Schedule()


def checked(schedule: Schedule) -> Schedule:
    """The schedule itself, if its numbers make sense; ScheduleError names the one that does not."""
    _within("warm-up steps", schedule.warmup_steps, 0, STEPS_MAX)
    match schedule.decay:
        case Constant():
            pass
        case Linear(steps, final) | Cosine(steps, final):
            _within("decay steps", steps, 1, STEPS_MAX)
            _within("final share", final, 0, PICO)
        case Staircase(every, factor):
            _within("steps of a stair", every, 1, STEPS_MAX)
            _within("factor of a stair", factor, 0, PICO)
        case _:
            assert_never(schedule.decay)
    return schedule


def rate(schedule: Schedule, peak: int, step: int) -> int:
    """The learning rate (1e-12) of the step after `step` others, where `peak` is the largest."""
    if step < schedule.warmup_steps:
        return _nearest(peak * (step + 1), schedule.warmup_steps)
    step -= schedule.warmup_steps
    match schedule.decay:
        case Constant():
            return peak
        case Linear(steps, final):
            left = steps - min(step, steps)
            return _nearest(peak * (final * steps + (PICO - final) * left), PICO * steps)
        case Cosine(steps, final):
            share = final * ONE + (PICO - final) * _half_wave(min(step, steps), steps)
            return _nearest(peak * share, PICO * ONE)
        case Staircase(every, factor):
            return _nearest(peak * _power(factor * ONE // PICO, step // every), ONE)
        case _:
            assert_never(schedule.decay)


def _nearest(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)


def _half_wave(step: int, steps: int) -> int:
    """(1 + cos(pi step/steps)) / 2, which is the square of half the angle's cosine, in units of 2^-128."""
    angle = PI * step // (2 * steps)
    square = angle * angle >> BITS
    cosine, term, order = ONE, ONE, 0
    # The Taylor series up to a quarter of a turn: its terms are gone after about thirty.
    while term:
        term = (term * square >> BITS) // ((order + 1) * (order + 2))
        order += 2
        cosine += -term if order % 4 else term
    # At the quarter itself the error of the last digits may be below zero.
    return max(0, cosine) ** 2 >> BITS


def _power(base: int, exponent: int) -> int:
    """base^exponent by squaring, all in units of 2^-128."""
    result = ONE
    while exponent:
        if exponent & 1:
            result = result * base >> BITS
        base = base * base >> BITS
        exponent >>= 1
    return result


def _within(what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ScheduleError(f"{what}: expected {low} to {high}, got {value}")
