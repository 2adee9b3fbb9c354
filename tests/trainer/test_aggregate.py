"""Sums are exact: order, chunks and machines do not matter."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import aggregate, codec
from trainer.codec import Update

LENGTH = 700


@st.composite
def updates(draw: st.DrawFn) -> list[Update]:
    """Updates whose blocks have steps from equal to 100 powers of two apart."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count, spread = draw(st.integers(1, 6)), draw(st.sampled_from([0, 3, 40, 100]))

    def one() -> Update:
        values = rng.integers(-127, 128, LENGTH).astype(np.int8)
        exponents = rng.integers(-spread // 2 - 5, spread // 2 - 4, codec.blocks_of(LENGTH)).astype(np.int8)
        return Update(values, exponents)

    return [one() for _ in range(count)]


def plain_mean(given_updates: list[Update]) -> list[np.float32]:
    """The same mean in Python's own integers and fractions, a value at a time."""
    result = []
    for index in range(LENGTH):
        block = index // codec.BLOCK
        steps = [int(update.exponents[block]) for update in given_updates]
        unit = max(min(steps), max(steps) - aggregate.SPREAD_MAX)
        total = 0
        for update, step in zip(given_updates, steps, strict=True):
            value = int(update.values[index])
            total += value << (step - unit) if step >= unit else value >> (unit - step)
        result.append(np.float32(float(Fraction(total) * Fraction(2) ** unit / len(given_updates))))
    return result


@given(updates())
@settings(max_examples=25, deadline=None)
def test_the_mean_agrees_with_pythons_integers(given_updates: list[Update]) -> None:
    assert aggregate.mean(given_updates).tolist() == [float(value) for value in plain_mean(given_updates)]


@given(updates(), st.randoms(use_true_random=False), st.sampled_from([1, 2, 3, 64]))
@settings(max_examples=25, deadline=None)
def test_order_and_chunks_change_nothing(given_updates: list[Update], random: object, chunk: int) -> None:
    shuffled = list(given_updates)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert aggregate.mean(shuffled, chunk_blocks=chunk).tobytes() == aggregate.mean(given_updates).tobytes()


def test_as_many_updates_as_there_may_be_are_summed_exactly() -> None:
    ones = Update(np.full(1, 127, np.int8), np.array([aggregate.SPREAD_MAX], np.int8))
    least = Update(np.full(1, 127, np.int8), np.array([0], np.int8))
    count = 20_000
    total = 127 * (2**aggregate.SPREAD_MAX * (count - 1) + 1)
    mean = aggregate.mean([ones] * (count - 1) + [least])
    assert mean.tolist() == [float(np.float32(float(Fraction(total, count))))]


def test_nothing_and_unequal_lengths_are_refused() -> None:
    one = codec.quantise(np.ones(3, np.float32))
    two = codec.quantise(np.ones(4, np.float32))
    for wrong in ([], [one, two]):
        with pytest.raises(ValueError, match="expected"):
            aggregate.mean(wrong)
