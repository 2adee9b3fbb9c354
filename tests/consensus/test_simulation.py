"""Clusters under faults drawn from a seed: agreement always, and progress once the network is well again.

A failing case names its seed; `pytest 'tests/consensus/test_simulation.py::NAME[...]'` replays it exactly.
"""

from dataclasses import dataclass
from itertools import combinations

import pytest

from tests.consensus.simulator import CALM, Cluster, Weather


@dataclass(frozen=True)
class Split:
    """A partition: which side each node is on."""

    sides: list[int]

    def __call__(self, sender: int, receiver: int) -> bool:
        return self.sides[sender] != self.sides[receiver]


def storm(cluster: Cluster, ms: int = 15_000) -> None:
    """Weather that changes every few seconds: loss, doubles, delays, partitions, and crashes at any effect."""
    end = cluster.now + ms
    while cluster.now < end:
        rng = cluster.rng
        split = Split([rng.randrange(3) for _ in cluster.nodes])
        cluster.weather = Weather(
            loss=rng.choice([0.0, 0.1, 0.4]),
            duplication=0.2,
            delay_ms_max=rng.choice([20, 300, 3000]),
            crash=rng.choice([0.0, 0.0, 0.02]),
            cut=split if rng.random() < 0.4 else CALM.cut,
        )
        cluster.run(rng.randrange(200, 3000))
    cluster.check()
    cluster.weather = CALM


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7])
def test_in_calm_weather_every_height_is_sealed_in_view_0(n: int) -> None:
    cluster = Cluster(seed=n, n=n)
    cluster.start()
    cluster.reach(20, within_ms=20 * 300)
    assert {view for _, _, view, _ in cluster.monitor.votes} == {0}


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("n", [4, 5, 7])
def test_p1_replicas_agree_through_a_storm_and_go_on_after_it(n: int, seed: int) -> None:
    cluster = Cluster(seed, n)
    cluster.start()
    storm(cluster)
    cluster.reach(max(len(node.ledger) for node in cluster.nodes) + 3, within_ms=60_000)


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize(("n", "twins"), [(4, (0,)), (5, (2,)), (7, (1, 2)), (7, (5, 6))])
def test_p1_f_equivocating_twins_neither_fork_the_chain_nor_stop_it(n: int, twins: tuple[int, ...], seed: int) -> None:
    cluster = Cluster(seed, n, twins)
    cluster.start()
    storm(cluster)
    cluster.reach(max(len(node.ledger) for node in cluster.honest) + 3, within_ms=120_000)


@pytest.mark.parametrize("n", [4, 5, 7])
def test_p14_f_silent_validators_do_not_stop_the_chain(n: int) -> None:
    for silent in combinations(range(n), (n - 1) // 3):
        cluster = Cluster(n, n)
        for index in silent:
            cluster.nodes[index].silent = True
        cluster.start()
        cluster.reach(2 * n, within_ms=60_000)


@pytest.mark.parametrize("n", [4, 5, 7])
def test_p7_a_primary_whose_proposals_are_invalid_is_passed_over(n: int) -> None:
    cluster = Cluster(n, n)
    cluster.nodes[1].builds_rubbish = True
    cluster.start()
    cluster.reach(2 * n, within_ms=60_000)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 7])
def test_one_silent_validator_too_many_stops_the_chain_until_it_comes_back(n: int) -> None:
    cluster = Cluster(n, n)
    late = cluster.nodes[: (n - 1) // 3 + 1]
    for node in late:
        node.silent = True
    cluster.start()
    cluster.run(60_000)
    assert all(node.ledger == [] for node in cluster.nodes)
    for node in late:
        node.silent = False
        node.start()
    cluster.reach(3, within_ms=15_000)


@pytest.mark.parametrize("n", [4, 5, 7])
def test_p13_validators_that_start_one_by_one_find_a_common_view(n: int) -> None:
    cluster = Cluster(n, n)
    for node in cluster.nodes:
        cluster.after(node.name * 7_000, node.start)
    cluster.run((n - 1) * 7_000)
    cluster.reach(3, within_ms=15_000)


@pytest.mark.parametrize("seed", range(10))
def test_p5_killing_all_validators_at_once_again_and_again_loses_nothing(seed: int) -> None:
    cluster = Cluster(seed, 4)
    cluster.start()
    for _ in range(20):
        sealed = max(len(node.ledger) for node in cluster.nodes)
        cluster.run(cluster.rng.randrange(100, 1500))
        assert max(len(node.ledger) for node in cluster.nodes) >= sealed
        for node in cluster.nodes:
            node.crash()
        cluster.run(10)
        cluster.start()
    cluster.reach(max(len(node.ledger) for node in cluster.nodes) + 3, within_ms=30_000)


@pytest.mark.parametrize("seed", range(10))
def test_p15_a_partition_that_moves_with_the_view_is_survived_within_the_cap(seed: int) -> None:
    cluster = Cluster(seed, 4)
    cluster.start()
    # Whoever is primary of the highest view is cut off, so that view after view fails.
    cluster.weather = Weather(cut=lambda a, b: top(cluster) in (a, b))
    cluster.run(40_000)
    cluster.weather = CALM
    cluster.reach(max(len(node.ledger) for node in cluster.nodes) + 3, within_ms=20_000)


def top(cluster: Cluster) -> int:
    replicas = [node.replica for node in cluster.nodes if node.up and hasattr(node, "replica")]
    return max(replicas, key=lambda replica: (replica.height, replica.view)).primary if replicas else 0
