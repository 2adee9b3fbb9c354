"""Simulations that anybody can repeat: a plan says all that decides how one goes, and failing ones name their plan."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final

import trio

from chain.simulation.clock import now_ms, run_virtually
from chain.simulation.cluster import LOOK_MS, TIMING, Cluster
from chain.simulation.crypto import stub_signatures
from chain.simulation.faults import FAULTS, SET_CHANGES, SKEW_MS, brew
from chain.simulation.ledger import MemoryWorld
from chain.simulation.liars import CENSORSHIP, LIARS
from chain.simulation.monitor import expect
from chain.simulation.whole import Traffic, WholeWorld, make_world

# Storms end after so long, whatever they have done to the chain: time for views to fail until time-outs reach the cap.
STORM_MS_MAX: Final = 15_000
# One in some storms that a partition moves through with the views lasts until an uncapped time-out would show.
LONG_STORM_MS_MAX: Final = 60_000
LONG_STORMS: Final = 0.1
# The last heights are calm. Whoever equivocates in them is accused within as many.
CALM_HEIGHTS: Final = 6
# How late a newcomer's node starts at most: it has to catch up.
LATE_MS_MAX: Final = 10_000
# Each simulation has a part of the faults only: all at once hide each other.
FAULT_CHANCE: Final = 0.6


@dataclass(frozen=True, slots=True)
class Plan:
    """All that decides how a simulation goes."""

    seed: int
    validators: int = 4
    heights: int = 30
    faults: frozenset[str] = frozenset(FAULTS)
    real_signatures: bool = False
    real_ledger: bool = False

    @property
    def command(self) -> str:
        """The one command that replays it."""
        names = "all" if self.faults == frozenset(FAULTS) else ",".join(sorted(self.faults)) or "none"
        words = ["potchain simulate", f"--seed {self.seed}", f"--validators {self.validators}"]
        words += [f"--heights {self.heights}", f"--faults {names}"]
        words += ["--crypto real"] * self.real_signatures + ["--ledger real"] * self.real_ledger
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a simulation whose checks all held."""

    heights: int
    last_hash: bytes
    faults: tuple[str, ...]  # Those that it was drawn to have.
    views_max: int
    crashes: int
    evidence: int
    set_changes: int
    messages: int
    sent_bytes: int
    virtual_ms: int


def simulate(plan: Plan) -> Outcome:
    """Run a simulation. Where a check fails, the Violation, or whatever else goes wrong, comes with the command."""
    try:
        with nullcontext() if plan.real_signatures else stub_signatures():
            if not plan.real_ledger:
                return run_virtually(plan.seed, partial(_simulate, plan, None))
            with make_world(plan.validators) as world:
                return run_virtually(plan.seed, partial(_simulate, plan, world))
    except BaseException as error:
        error.add_note(f"replay with: {plan.command}")
        raise


def draw(plan: Plan, rng: Random) -> tuple[frozenset[str], dict[int, str]]:
    """What a simulation has of faults of weather and of machines, and which members lie how; `rng` is fresh."""
    f = (plan.validators - 1) // 3
    others = [fault for fault in FAULTS if fault in plan.faults and fault not in LIARS]
    if plan.real_ledger:  # Whose set stays.
        others = [fault for fault in others if fault != SET_CHANGES]
    faults = frozenset(fault for fault in others if rng.random() < FAULT_CHANCE)
    members = plan.validators + spares(plan) * (SET_CHANGES in faults)
    kinds = [kind for kind in LIARS if kind in plan.faults and (kind != CENSORSHIP or plan.real_ledger)]
    # Sets never become smaller than the first, so that each of them tolerates as many.
    liars = {member: rng.choice(kinds) for member in rng.sample(range(members), rng.choice([0, f, f])) if kinds}
    return faults, liars


def spares(plan: Plan) -> int:
    """How many members wait outside where the set changes: as many as may come at once."""
    return max(1, (plan.validators - 1) // 3)


async def _simulate(plan: Plan, world: WholeWorld | None) -> Outcome:
    rng = Random(plan.seed)
    faults, liars = draw(plan, rng)
    memory = MemoryWorld(plan.validators, TIMING, spares(plan) * (SET_CHANGES in faults), Random(plan.seed))
    cluster = Cluster(plan.validators, plan.seed, liars, world if world is not None else memory)
    traffic = None if world is None else Traffic(world, cluster)
    # Whoever's clock is wrong may count as faulty: its proposals are refused where they are too late.
    cluster.wrong_clocks = rng.sample(cluster.honest, (plan.validators - 1) // 3 - len(liars))
    if "clock-skew" in faults:
        for node in cluster.wrong_clocks:
            node.clock_skew_ms = rng.choice([-SKEW_MS, SKEW_MS])
    async with trio.open_nursery() as nursery:
        late = [node for node in cluster.nodes if node.member >= plan.validators]
        cluster.start(nursery, but=[node.name for node in late])
        for node in late:
            nursery.start_soon(_later, rng.randrange(LATE_MS_MAX), node.run)
        paying = trio.CancelScope()
        if traffic is not None:
            nursery.start_soon(_within, paying, traffic.run)
        await _storm(plan, cluster, faults, rng)
        cluster.calm()
        paying.cancel()
        healed = cluster.head
        await cluster.reach(healed + 1, cluster.recovery_ms, "recovery")
        if traffic is not None:
            traffic.again()
        last = max(plan.heights, healed + CALM_HEIGHTS)
        await cluster.reach(last, cluster.height_ms * (last - healed))
        _check_evidence(cluster, healed)
        if traffic is not None:
            traffic.check()
        nursery.cancel_scope.cancel()
    return Outcome(
        heights=last,
        last_hash=cluster.monitor.chain[last],
        faults=(*sorted(faults), *sorted(liars.values())),
        views_max=cluster.monitor.views_max,
        crashes=sum(node.crashes for node in cluster.nodes),
        evidence=cluster.monitor.evidence,
        set_changes=cluster.monitor.set_changes,
        messages=cluster.network.messages,
        sent_bytes=cluster.network.sent_bytes,
        virtual_ms=now_ms(),
    )


async def _later(ms: int, task: Callable[[], Awaitable[None]]) -> None:
    await trio.sleep(ms / 1000)
    await task()


async def _within(scope: trio.CancelScope, task: Callable[[], Awaitable[None]]) -> None:
    with scope:
        await task()


async def _storm(plan: Plan, cluster: Cluster, faults: frozenset[str], rng: Random) -> None:
    while not faults and cluster.head < plan.heights - CALM_HEIGHTS:  # noqa: ASYNC110  (time is virtual)
        await trio.sleep(LOOK_MS / 1000)
    long = "moving" in faults and rng.random() < LONG_STORMS
    end = now_ms() + (LONG_STORM_MS_MAX if long else STORM_MS_MAX)
    while now_ms() < end and cluster.head < plan.heights - CALM_HEIGHTS:
        brew(frozenset({"moving"}) if long else faults, cluster, rng)
        await trio.sleep(rng.randrange(200, 3000) / 1000)


def _check_evidence(cluster: Cluster, healed: int) -> None:
    """Who equivocated while all was calm was accused while it was."""
    for index, kind in cluster.liars.items():
        if kind == "equivocation":
            last = cluster.monitor.accused.get(index, 0)
            expect(last >= healed, f"validator {index} equivocated from height {healed} on; last accused at {last}")
