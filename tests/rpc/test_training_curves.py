"""The curves of a task: a point for each round that was evaluated, no more than fit, the newest always among them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chain.rpc.methods_training import CURVE_POINTS_MAX, curve_rounds
from runtime.modules.training_types import Task
from runtime.testing import ALICE, TestChain
from tests.runtime.training_kit import POLICY, terms


@pytest.fixture(scope="module")
def task() -> Task:
    chain = TestChain()
    chain.call(ALICE, "training.create_task", **terms(policy=replace(POLICY, evaluate_rounds=3), rounds=9))
    found: Task = chain.modules.training.tasks[0]
    return found


@pytest.mark.parametrize(
    ("final", "expected"), [(0, []), (1, [0]), (3, [0]), (4, [0, 3]), (8, [0, 3, 6]), (9, [0, 3, 6, 8])]
)
def test_a_curve_has_the_rounds_that_were_evaluated(task: Task, final: int, expected: list[int]) -> None:
    assert curve_rounds(replace(task, round=final)) == expected


@pytest.mark.parametrize("final", [3 * CURVE_POINTS_MAX - 2, 3 * CURVE_POINTS_MAX + 1, 999_999, 1_000_000])
def test_a_long_curve_keeps_evenly_spaced_points_and_the_newest(task: Task, final: int) -> None:
    long = replace(task, round=final, rounds=1_000_000)
    points = curve_rounds(long)
    assert len(points) == CURVE_POINTS_MAX
    assert (points[0], points[-1]) == (0, long.last_evaluated)
    assert points == sorted(set(points))
    assert all(long.is_evaluated(round_) for round_ in points)
