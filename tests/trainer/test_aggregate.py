"""Sums are exact: order, chunks and machines do not matter."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import aggregate
from trainer.arrays import Int8s
from trainer.codecs import INT8
from trainer.codecs.blocks import BLOCK, blocks_of
from trainer.codecs.topk import TopK
from trainer.codecs.updates import DenseUpdate, SparseUpdate, Update

LENGTH = 700
KINDS = ["int8", "int16", "topk"]


@st.composite
def updates(draw: st.DrawFn) -> list[Update]:
    """Updates of one kind whose blocks have steps from equal to 100 powers of two apart."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count, spread, kind = draw(st.integers(1, 6)), draw(st.sampled_from([0, 3, 40, 100])), draw(st.sampled_from(KINDS))

    def exponents(values: int) -> Int8s:
        return rng.integers(-spread // 2 - 5, spread // 2 - 4, blocks_of(values)).astype(np.int8)

    def one() -> Update:
        if kind == "topk":
            chosen = np.sort(rng.choice(LENGTH, 400, replace=False)).astype(np.int64)
            return SparseUpdate(LENGTH, chosen, rng.integers(-127, 128, 400).astype(np.int8), exponents(400))
        if kind == "int16":
            return DenseUpdate(rng.integers(-32767, 32768, LENGTH).astype(np.int16), exponents(LENGTH))
        return DenseUpdate(rng.integers(-127, 128, LENGTH).astype(np.int8), exponents(LENGTH))

    return [one() for _ in range(count)]


def plain(update: Update) -> dict[int, tuple[int, int]]:
    """Integer and step's exponent of each index that an update says something of."""
    indices = update.indices.tolist() if isinstance(update, SparseUpdate) else range(LENGTH)
    return {
        index: (int(update.values[place]), int(update.exponents[place // BLOCK])) for place, index in enumerate(indices)
    }


def plain_mean(given_updates: list[Update], weights: list[int]) -> list[np.float32]:
    """The same mean in Python's own integers and fractions, a value at a time."""
    result, said = [], [plain(update) for update in given_updates]
    for index in range(LENGTH):
        block = range(index // BLOCK * BLOCK, (index // BLOCK + 1) * BLOCK)
        steps = [update[other][1] for update in said for other in block if other in update]
        unit = max(min(steps), max(steps) - aggregate.spread_max(given_updates, sum(weights)))
        total = 0
        for update, weight in zip(said, weights, strict=True):
            if index in update:
                value, step = update[index]
                total += weight * (value << (step - unit) if step >= unit else value >> (unit - step))
        # The exact sum is rounded to float64 in no step: it has 53 bits. The quotient is rounded twice.
        result.append(np.float32(float(Fraction(total) * Fraction(2) ** unit / sum(weights))))
    return result


@given(updates())
@settings(max_examples=25, deadline=None)
def test_the_mean_agrees_with_pythons_integers(given_updates: list[Update]) -> None:
    alike = [1] * len(given_updates)
    assert aggregate.mean(given_updates).tolist() == [float(value) for value in plain_mean(given_updates, alike)]


@given(updates(), st.data(), st.sampled_from([1, 3, 64]))
@settings(max_examples=25, deadline=None)
def test_a_weighted_mean_agrees_with_pythons_integers(
    given_updates: list[Update], data: st.DataObject, chunk: int
) -> None:
    weight = st.one_of(st.integers(1, 2_000), st.integers(1, aggregate.WEIGHT_MAX // 6))
    weights = [data.draw(weight) for _ in given_updates]
    expected = [float(value) for value in plain_mean(given_updates, weights)]
    assert aggregate.mean(given_updates, weights, chunk_blocks=chunk).tolist() == expected


@given(updates(), st.integers(1, 5_000))
@settings(max_examples=10, deadline=None)
def test_weights_that_are_all_alike_change_no_bit(given_updates: list[Update], weight: int) -> None:
    weighted = aggregate.mean(given_updates, [weight] * len(given_updates))
    assert weighted.tobytes() == aggregate.mean(given_updates).tobytes()


@pytest.mark.parametrize("weights", [[1], [1, 0], [1, -1], [1, aggregate.WEIGHT_MAX]])
def test_weights_without_sense_are_refused(weights: list[int]) -> None:
    update = INT8.quantise(np.ones(LENGTH, np.float32), 0)
    with pytest.raises(ValueError, match="expected 2 weights"):
        aggregate.mean([update, update], weights)


@given(updates(), st.randoms(use_true_random=False), st.sampled_from([1, 2, 3, 64]))
@settings(max_examples=25, deadline=None)
def test_order_and_chunks_change_nothing(given_updates: list[Update], random: object, chunk: int) -> None:
    shuffled = list(given_updates)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert aggregate.mean(shuffled, chunk_blocks=chunk).tobytes() == aggregate.mean(given_updates).tobytes()


@pytest.mark.parametrize(("dtype", "peak"), [(np.int8, 127), (np.int16, 32767)])
def test_as_many_updates_as_there_may_be_are_summed_exactly(dtype: type, peak: int) -> None:
    least = DenseUpdate(np.full(1, peak, dtype), np.array([0], np.int8))
    count = 20_000
    spread = aggregate.spread_max([least], count)
    most = DenseUpdate(np.full(1, peak, dtype), np.array([spread], np.int8))
    total = peak * (2**spread * (count - 1) + 1)
    mean = aggregate.mean([most] * (count - 1) + [least])
    assert mean.tolist() == [float(np.float32(float(Fraction(total, count))))]


def test_what_no_update_says_anything_of_stays_zero() -> None:
    gradient = np.zeros(1000, np.float32)
    gradient[[3, 999]] = 1
    assert aggregate.mean([TopK(2_000).quantise(gradient, 0)] * 3).tolist() == gradient.tolist()


def test_nothing_and_updates_of_different_lengths_or_kinds_are_refused() -> None:
    one = INT8.quantise(np.ones(3, np.float32), 0)
    two = INT8.quantise(np.ones(4, np.float32), 0)
    sparse = TopK(1).quantise(np.ones(3, np.float32), 0)
    wrongs: list[list[Update]] = [[], [one, two], [one, sparse]]
    for wrong in wrongs:
        with pytest.raises(ValueError, match="expected"):
            aggregate.mean(wrong)
