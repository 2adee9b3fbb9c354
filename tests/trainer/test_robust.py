"""Robust aggregators give the same bits as the dumbest version of each, and wrong updates lead none far astray."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.byzantine import ATTACKS, WRONG, Attack, accuracy, trained
from tests.trainer.plain_robust import AGGREGATORS, PLAIN
from trainer import aggregate, robust
from trainer.codecs import INT8
from trainer.codecs.topk import TopK
from trainer.codecs.updates import DenseUpdate
from trainer.robust import PPM, Aggregation, AggregationError, CenteredClip, Krum, Mean, Median, TrimmedMean

each_aggregator = pytest.mark.parametrize("aggregator", AGGREGATORS.values(), ids=AGGREGATORS.keys())
LENGTH = 300


@st.composite
def updates(draw: st.DrawFn) -> list[DenseUpdate]:
    """Updates of one width that have something in common, some of them large and some the same."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count, dtype, peak = draw(st.integers(1, 9)), *draw(st.sampled_from([(np.int8, 127), (np.int16, 32767)]))
    common = rng.integers(-peak // 2, peak // 2, LENGTH)
    made = [
        DenseUpdate(
            (common + rng.integers(-peak // 2, peak // 2, LENGTH)).astype(dtype),
            rng.integers(-9 + 20 * int(rng.random() < 0.2), 12, 2).astype(np.int8),
        )
        for _ in range(count)
    ]
    return made + made[: draw(st.integers(0, 2))]


@pytest.mark.parametrize("name", PLAIN)
@given(updates())
@settings(max_examples=8, deadline=None)
def test_an_aggregator_agrees_with_the_plainest_arithmetic(name: str, given_updates: list[DenseUpdate]) -> None:
    assert robust.combine(AGGREGATORS[name], given_updates).tolist() == PLAIN[name](given_updates)


@each_aggregator
@given(updates(), st.randoms(use_true_random=False), st.sampled_from([1, 2, 3, 64]))
@settings(max_examples=20, deadline=None)
def test_order_and_chunks_change_nothing(
    aggregator: Aggregation, given_updates: list[DenseUpdate], random: object, chunk: int
) -> None:
    shuffled = list(given_updates)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    expected = robust.combine(aggregator, given_updates)
    assert robust.combine(aggregator, shuffled, chunk_blocks=chunk).tobytes() == expected.tobytes()


@each_aggregator
def test_what_all_say_is_what_comes_out(aggregator: Aggregation) -> None:
    update = INT8.quantise(np.linspace(-1, 1, LENGTH, dtype=np.float32), 0)
    for count in (1, 2, 3, 16):
        np.testing.assert_allclose(robust.combine(aggregator, [update] * count), update.scaled(), rtol=1e-6)


@pytest.mark.parametrize("name", ["median", "trimmed mean", "krum", "centered clip"])
def test_seven_of_sixteen_that_say_the_largest_there_is_move_nothing_by_more_than_the_honest_differ(name: str) -> None:
    rng = np.random.default_rng(1)
    honest = [INT8.quantise(rng.normal(1, 0.1, LENGTH).astype(np.float32), 0) for _ in range(9)]
    wrong = [INT8.quantise(np.full(LENGTH, np.float32(1e17)), 0)] * 7
    combined = robust.combine(AGGREGATORS[name], honest + wrong)
    assert float(np.abs(combined - 1).max()) < 0.6


def test_sparse_updates_have_a_mean_and_no_middle() -> None:
    sparse = [TopK(10_000).quantise(np.ones(LENGTH, np.float32), 0)] * 3
    assert robust.combine(Mean(), sparse).tolist() == aggregate.mean(sparse).tolist()
    with pytest.raises(AggregationError, match="dense"):
        robust.combine(Median(), sparse)


@pytest.mark.parametrize(
    "wrong",
    [TrimmedMean(-1), TrimmedMean(PPM // 2 + 1), Krum(PPM, multi=True), CenteredClip(0, 1), CenteredClip(1, 101)],
)
def test_aggregators_without_sense_are_refused(wrong: Aggregation) -> None:
    with pytest.raises(AggregationError):
        robust.checked(wrong)


@each_aggregator
def test_aggregators_with_sense_are_taken(aggregator: Aggregation) -> None:
    assert robust.checked(aggregator) is aggregator


ROUNDS = 100


@cache
def honest_accuracy() -> float:
    return accuracy(Mean(), None, ROUNDS)


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_seven_of_sixteen_wrong_workers_cost_a_centered_clip_a_hundredth_at_most(attack: Attack) -> None:
    assert accuracy(CenteredClip(PPM, 100), attack, ROUNDS) >= honest_accuracy() - 0.01


@pytest.mark.slow
def test_seven_of_sixteen_wrong_workers_ruin_a_mean() -> None:
    assert accuracy(Mean(), ATTACKS["sign flip"], ROUNDS // 4) < 0.5 < honest_accuracy()


@pytest.mark.slow
def test_audits_of_a_tenth_catch_all_seven_and_refuse_nothing_honest() -> None:
    found = trained(Mean(), ATTACKS["sign flip"], ROUNDS // 2, momentum=np.float32(0), audited_ppm=PPM // 10)
    assert (found.caught, found.refused) == (WRONG, 0)
    assert found.accuracy > 0.9
