"""What a cluster of validators does in calms, without some of them, and in storms with a plot."""

from __future__ import annotations

from itertools import combinations
from random import Random

import pytest
import trio

from chain.primitives.seal import ValidatorSet
from chain.simulation.cluster import TIMING, Cluster
from chain.simulation.crypto import stub_signatures
from chain.simulation.faults import Sides
from chain.simulation.ledger import SESSION_BLOCKS, SET_ID, MemoryWorld
from chain.simulation.liars import Silent
from chain.simulation.monitor import Violation
from chain.simulation.network import Weather
from chain.simulation.node import DOWN_MS_MAX
from runtime.modules.validators_sessions import session_of
from tests.simulation.kit import play


def silence(cluster: Cluster, name: int) -> None:
    """Stop a validator for good."""
    cluster.nodes[name].liar = Silent(cluster.rng)
    cluster.nodes[name].kill()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7])
def test_in_calm_weather_every_height_is_sealed_in_view_0(n: int) -> None:
    async def scenario(cluster: Cluster, nursery: trio.Nursery) -> None:
        cluster.start(nursery)
        await cluster.reach(20, within_ms=20 * 300)

    cluster = play(scenario, n)
    assert cluster.monitor.views_max == 0
    assert len(cluster.monitor.chain) >= 20


@pytest.mark.parametrize("n", [4, 5, 7])
def test_p14_f_silent_validators_do_not_stop_the_chain(n: int) -> None:
    async def scenario(cluster: Cluster, nursery: trio.Nursery) -> None:
        cluster.start(nursery)
        await cluster.reach(2 * n, within_ms=60_000)

    for silent in combinations(range(n), (n - 1) // 3):
        play(scenario, n, liars=dict.fromkeys(silent, "silence"))


@pytest.mark.parametrize("n", [4, 5, 7])
def test_p7_primaries_whose_proposals_are_invalid_are_passed_over(n: int) -> None:
    async def scenario(cluster: Cluster, nursery: trio.Nursery) -> None:
        cluster.start(nursery)
        await cluster.reach(2 * n, within_ms=60_000)

    liars = dict.fromkeys(range((n - 1) // 3), "invalid-proposals")
    assert any(play(scenario, n, seed, liars).monitor.views_max > 0 for seed in range(3))


@pytest.mark.parametrize("n", [2, 3, 4, 5, 7])
def test_one_silent_validator_too_many_stops_the_chain_until_it_comes_back(n: int) -> None:
    missing = range((n - 1) // 3 + 1)

    async def scenario(cluster: Cluster, nursery: trio.Nursery) -> None:
        cluster.start(nursery, but=missing)
        await trio.sleep(60)
        assert cluster.monitor.chain == {}
        for name in missing:
            nursery.start_soon(cluster.nodes[name].run)
        await cluster.reach(3, within_ms=15_000)

    play(scenario, n)


@pytest.mark.parametrize("n", [4, 5, 7])
def test_p13_validators_that_start_one_by_one_find_a_common_view(n: int) -> None:
    async def scenario(cluster: Cluster, nursery: trio.Nursery) -> None:
        cluster.start(nursery, but=range(1, n))
        for node in cluster.nodes[1:]:
            await trio.sleep(7)
            nursery.start_soon(node.run)
        await cluster.reach(3, within_ms=15_000)

    play(scenario, n)


@pytest.mark.parametrize("seed", range(10))
def test_p5_killing_all_validators_at_once_again_and_again_loses_nothing(seed: int) -> None:
    async def scenario(cluster: Cluster, nursery: trio.Nursery) -> None:
        cluster.start(nursery)
        for _ in range(20):
            sealed = cluster.head
            await trio.sleep(cluster.rng.randrange(100, 1500) / 1000)
            assert cluster.head >= sealed
            for node in cluster.nodes:
                node.kill()
        await cluster.reach(cluster.head + 3, within_ms=30_000)

    assert sum(node.crashes for node in play(scenario, 4, seed).nodes) > 20


def test_p19_a_wiped_validator_fetches_the_chain_and_takes_part_again() -> None:
    async def scenario(cluster: Cluster, nursery: trio.Nursery) -> None:
        cluster.start(nursery)
        await cluster.reach(10, within_ms=10_000)
        wiped = cluster.nodes[3]
        wiped.kill()
        wiped.disk.wipe()
        wiped.ledger = cluster.world.ledger(wiped)
        await trio.sleep(10)
        assert wiped.head > 30
        # Two of the other three do not suffice: what is decided now is decided with its vote.
        silence(cluster, 0)
        await trio.sleep(10)
        sealed = cluster.head
        await cluster.reach(sealed + 2, within_ms=10_000)

    play(scenario, 4)


@pytest.mark.parametrize("n", [4, 7])
def test_p27_validators_that_lose_their_logs_contradict_nothing_that_they_have_signed(n: int) -> None:
    async def scenario(cluster: Cluster, nursery: trio.Nursery) -> None:
        cluster.start(nursery)
        await cluster.reach(1, within_ms=10_000)
        for _ in range(6):
            # In the middle of heights that take several views, and at times all of the disk.
            cluster.network.weather = Weather(loss=0.2, lost_commits=0.5, delay_ms_max=300)
            await trio.sleep(cluster.rng.randrange(200, 5000) / 1000)
            for node in cluster.rng.sample(cluster.nodes, (n - 1) // 3):
                node.kill()
                node.disk.wipe()
                if cluster.rng.random() < 0.5:
                    node.ledger = cluster.world.ledger(node)
            cluster.calm()
            with trio.fail_after(60):
                await trio.sleep(DOWN_MS_MAX / 1000)
                # More at once than f would be too many that cannot vote.
                while not all(node.gadget is not None and node.gadget.votes for node in cluster.nodes):
                    await cluster.reach(cluster.head + 1, within_ms=60_000)

    # The monitor holds every vote of theirs against all that they have cast before.
    for seed in range(4):
        play(scenario, n, seed)


@pytest.mark.parametrize("n", [4, 7])
def test_p15_after_ten_failed_views_and_more_the_chain_goes_on_within_the_cap(n: int) -> None:
    async def scenario(cluster: Cluster, nursery: trio.Nursery) -> None:
        cluster.start(nursery)
        # All prepare and nobody hears of commits, so that view after view fails.
        cluster.network.weather.lost_commits = 1.0
        await trio.sleep(60)
        silence(cluster, cluster.leader)
        cluster.calm()
        await cluster.reach(1, within_ms=3 * TIMING.timeout_ms_max)

    assert play(scenario, n).monitor.views_max > 10


def test_p13_a_validator_that_was_away_joins_the_view_that_the_others_have_reached() -> None:
    async def scenario(cluster: Cluster, nursery: trio.Nursery) -> None:
        cluster.start(nursery)
        cluster.network.weather = Weather(cut=Sides((0, 0, 1, 0)), lost_commits=1.0)
        await trio.sleep(60)
        # Now it is needed, in a view that its own time-outs would take a minute to.
        silence(cluster, 3)
        cluster.calm()
        await cluster.reach(1, within_ms=4 * TIMING.timeout_ms_max)

    assert play(scenario, 4).monitor.views_max > 10


@pytest.mark.parametrize("n", [4, 7])
def test_p16_an_equivocating_validator_is_accused_within_its_first_blocks(n: int) -> None:
    async def scenario(cluster: Cluster, nursery: trio.Nursery) -> None:
        cluster.start(nursery)
        await cluster.reach(3, within_ms=30_000)

    for seed in range(10):
        cluster = play(scenario, n, seed, dict.fromkeys(range((n - 1) // 3), "equivocation"))
        assert cluster.monitor.accused.keys() == cluster.liars.keys()


@pytest.mark.parametrize("n", [4, 7])
def test_a_validator_that_is_stopped_for_ten_seconds_goes_on_and_is_needed_at_once(n: int) -> None:
    async def scenario(cluster: Cluster, nursery: trio.Nursery) -> None:
        cluster.start(nursery)
        await cluster.reach(3, within_ms=10_000)
        stopped = cluster.nodes[1]
        stopped.stop(10_000)
        at = stopped.head
        await trio.sleep(9.9)
        assert stopped.head == at
        assert cluster.head > at + 5
        # All its timers fire now, while it hears of what was decided without it.
        for name in range(2, 2 + (n - 1) // 3):
            silence(cluster, name)
        await trio.sleep(0.2)
        await cluster.reach(cluster.head + 3, within_ms=10_000)

    play(scenario, n)


def test_p5_all_validators_stopped_at_once_go_on_as_if_nothing_had_been() -> None:
    async def scenario(cluster: Cluster, nursery: trio.Nursery) -> None:
        cluster.start(nursery)
        await cluster.reach(3, within_ms=10_000)
        for node in cluster.nodes:
            node.stop(10_000)
        at = cluster.head
        await trio.sleep(9.9)
        assert cluster.head == at
        await trio.sleep(0.2)
        await cluster.reach(at + 3, within_ms=5_000)

    play(scenario, 4)


def test_who_is_killed_while_it_is_stopped_starts_again() -> None:
    async def scenario(cluster: Cluster, nursery: trio.Nursery) -> None:
        cluster.start(nursery)
        await cluster.reach(3, within_ms=10_000)
        for node in cluster.nodes:
            node.stop(1_000_000)
        await trio.sleep(1)
        for node in cluster.nodes:
            node.kill()
        await cluster.reach(cluster.head + 3, within_ms=15_000)

    play(scenario, 4)


class TurningWorld(MemoryWorld):
    """A chain whose set has everybody in another place in every session."""

    def deciding(self, height: int) -> ValidatorSet:
        first = self.validators
        session = session_of(height, SESSION_BLOCKS)
        turn = session % first.n
        return ValidatorSet(first.set_id + session, first.authorities[turn:] + first.authorities[:turn])


@pytest.mark.parametrize("n", [4, 7])
def test_p22_a_place_in_one_set_means_nothing_in_the_next(n: int) -> None:
    """Or votes would be counted for others, and the honest accused of what liars did in their places."""

    async def scenario(cluster: Cluster, nursery: trio.Nursery) -> None:
        cluster.start(nursery)
        await cluster.reach(5 * SESSION_BLOCKS, within_ms=60_000)

    with stub_signatures():
        world = TurningWorld(n, TIMING)
    liars = {0: "equivocation"} if n == 4 else {0: "equivocation", 3: "replay"}
    cluster = play(scenario, n, liars=liars, world=world)
    assert cluster.monitor.set_changes == 5
    assert cluster.monitor.accused.keys() >= {0}


@pytest.mark.parametrize("n", [1, 3, 4, 7])
def test_p25_validators_come_and_go_and_newcomers_vote_in_the_first_session_that_is_theirs(n: int) -> None:
    f = (n - 1) // 3
    with stub_signatures():
        world = MemoryWorld(n, TIMING, spares=max(1, f), rng=Random(n))

    async def scenario(cluster: Cluster, nursery: trio.Nursery) -> None:
        late = range(n, len(world.secrets))
        cluster.start(nursery, but=late)
        await trio.sleep(1)
        for name in late:
            nursery.start_soon(cluster.nodes[name].run)
        await cluster.reach(60, within_ms=60 * 300)

    cluster = play(scenario, n, world=world)
    assert cluster.monitor.views_max == 0
    assert cluster.monitor.set_changes == world.deciding(61).set_id - SET_ID > 0
    for height in range(2, 60):
        before, deciding = ({a.bls_key for a in world.deciding(each).authorities} for each in (height - 1, height))
        assert len(deciding) >= n
        for key in deciding - before:
            assert cluster.monitor.has_voted(cluster.monitor.keys[key], height)


def test_a_chain_that_stands_still_is_a_violation_that_says_where_everybody_is() -> None:
    async def scenario(cluster: Cluster, nursery: trio.Nursery) -> None:
        cluster.start(nursery, but=[0, 1])
        await cluster.reach(1, within_ms=5_000)

    with pytest.raises(ExceptionGroup) as raised:
        play(scenario, 4)
    (violation,) = raised.value.exceptions
    assert isinstance(violation, Violation)
    assert str(violation).endswith("; 2: head 0, height 1 view 1 view-change; 3: head 0, height 1 view 1 view-change")
