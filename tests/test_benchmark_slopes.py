"""What benchmarks say of growth: a slope, and between what it lies."""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts" / "bench"))  # where the scripts find each other

from samples import Sample  # noqa: E402
from slopes import Point, Slope, slope, without  # noqa: E402
from soak import HOUR, MEASURES, growth  # noqa: E402


def noisy(growth: float, noise: float, count: int = 40, seed: int = 0) -> list[Point]:
    rng = Random(seed)
    return [Point(i / count, growth * i / count + rng.gauss(0, noise)) for i in range(count)]


def test_a_line_has_its_slope_and_no_spread() -> None:
    assert slope([Point(time, 3 + 2 * time) for time in range(9)]) == Slope(2, 2, 2)


def test_a_few_points_that_are_far_off_do_not_move_a_slope() -> None:
    points = [Point(time, 2 * time) for time in range(40)]
    points[7], points[30] = Point(7, 10_000), Point(30, -10_000)
    found = slope(points)
    assert found is not None
    assert (found.low, found.median, found.high) == (2, 2, 2)


def test_noise_alone_does_not_exceed_what_is_allowed_but_about_one_time_in_forty() -> None:
    found = [slope(noisy(0, 1, seed=seed)) for seed in range(400)]
    beyond = sum(each is not None and each.exceeds(0) for each in found)
    assert 1 <= beyond <= 20


@pytest.mark.parametrize("grown", [4.0, -4.0])
def test_growth_within_noise_is_found_and_told_by_its_sign(grown: float) -> None:
    found = slope(noisy(grown, 1))
    assert found is not None
    assert found.low < grown < found.high
    assert found.exceeds(1) is (grown > 0)
    assert not found.exceeds(6)


def test_what_a_restart_changed_is_no_growth() -> None:
    found = slope([Point(time, 100 if time < 20 else 900, life=time // 20) for time in range(40)])
    assert found == Slope(0, 0, 0)


def test_too_few_points_have_no_slope() -> None:
    assert slope([Point(0, 1), Point(1, 2)]) is None
    assert slope([Point(time, time, life=time) for time in range(40)]) is None


def test_what_follows_another_value_is_taken_out_and_what_grows_beside_it_stays() -> None:
    rng = Random(1)
    cause = [Point(time, rng.uniform(1, 3)) for time in range(60)]
    points = [Point(each.time, 5 * each.value + 0.1 * each.time) for each in cause]
    found = slope(without(points, cause))
    assert found is not None
    assert found.median == pytest.approx(0.1, abs=0.02)
    assert without(points[:2], cause) == points[:2]  # too few to tell


def samples_of(values: list[dict[str, float]]) -> list[Sample]:
    return [Sample(10.0 * place, {"alice": 7}, {"alice": each}) for place, each in enumerate(values)]


def test_a_processs_growth_leaves_out_its_first_half() -> None:
    memory = MEASURES[0]
    found = growth(memory, "alice", samples_of([{"memory": min(place, 100) * 5.0} for place in range(361)]))
    assert found is not None
    assert (found.level, found.slope) == (500.0, Slope(0, 0, 0))
    assert growth(memory, "bob", samples_of([{"memory": 1.0}] * 361)) is None


def test_a_measure_of_each_block_divides_what_both_grew_by() -> None:
    (of_blocks,) = (measure for measure in MEASURES if measure.name == "processor time a block")
    # A block a second that takes ten milliseconds at first, and one more for each thousand seconds.
    cpu = [0.01 * t + 0.5e-6 * t * t for t in range(0, 3610, 10)]
    values = [{"cpu": each, "blocks": 10.0 * place} for place, each in enumerate(cpu)]
    found = growth(of_blocks, "alice", samples_of(values))
    assert found is not None
    assert found.level == pytest.approx(13.4, abs=0.2)
    assert found.slope.median == pytest.approx(HOUR / 1000, rel=0.02)


def test_samples_survive_their_line() -> None:
    sample = Sample(1.5, {"alice": 3}, {"alice": {"memory": 2.0}})
    assert Sample.decode(sample.encode()) == sample
