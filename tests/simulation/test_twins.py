"""A twin of any validator, and every partition of every view: no two decisions, and one once all are together."""

from __future__ import annotations

import pytest

from tests.simulation.twins import PARTITIONS, WITHOUT_COMMITS, N, explore


@pytest.mark.parametrize("twin", range(N))
def test_p1_no_scenario_of_two_views_with_lost_commits_breaks_agreement(twin: int) -> None:
    explored = explore(twin, 2, PARTITIONS + WITHOUT_COMMITS)
    assert explored.scenarios == 32**2
    assert explored.decided > 0


@pytest.mark.slow
@pytest.mark.parametrize("twin", range(N))
def test_p1_no_scenario_of_four_views_breaks_agreement(twin: int) -> None:
    explored = explore(twin, 4, PARTITIONS)
    assert explored.scenarios == 16**4
    assert explored.decided > 0


@pytest.mark.slow
@pytest.mark.parametrize("twin", range(N))
def test_p1_no_scenario_of_three_views_with_lost_commits_breaks_agreement(
    twin: int, pytestconfig: pytest.Config
) -> None:
    if twin > 0 and not pytestconfig.getoption("sweep"):
        pytest.skip("takes twenty seconds for each twin: --sweep goes through them all")
    explored = explore(twin, 3, PARTITIONS + WITHOUT_COMMITS)
    assert explored.scenarios == 32**3
    assert explored.decided > 0


@pytest.mark.slow
@pytest.mark.parametrize("twin", range(N))
def test_p1_no_scenario_of_five_views_breaks_agreement(twin: int, pytestconfig: pytest.Config) -> None:
    if not pytestconfig.getoption("sweep"):
        pytest.skip("a million scenarios for each twin take minutes: --sweep goes through them")
    explored = explore(twin, 5, PARTITIONS)
    assert explored.scenarios == 16**5
    assert explored.decided > 0
