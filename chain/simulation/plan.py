"""Simulations that anybody can repeat: a plan says all that decides how one goes, and failing ones name their plan."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final

import trio

from chain.simulation.audit import check_light, check_offences
from chain.simulation.clock import now_ms, run_virtually
from chain.simulation.cluster import LOOK_MS, TIMING, Cluster
from chain.simulation.crypto import stub_signatures
from chain.simulation.faults import FAULTS, SET_CHANGES, SKEW_MS, brew
from chain.simulation.ledger import MemoryWorld
from chain.simulation.liars import CENSORSHIP, LIARS
from chain.simulation.monitor import expect
from chain.simulation.people import People
from chain.simulation.whole import WholeWorld, make_world

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
            with make_world(plan.validators, _spares(plan)) as world:
                return run_virtually(plan.seed, partial(_simulate, plan, world))
    except BaseException as error:
        error.add_note(f"replay with: {plan.command}")
        raise


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a simulation has: faults of weather and machines, so many members, and liars among them."""

    faults: frozenset[str]
    members: int
    f: int  # How many of them may be faulty.
    liars: dict[int, str]


def draw(plan: Plan, rng: Random) -> Drawn:
    """What a seed gives a simulation; `rng` is fresh from it."""
    others = [fault for fault in FAULTS if fault in plan.faults and fault not in LIARS]
    faults = frozenset(fault for fault in others if rng.random() < FAULT_CHANCE)
    members = plan.validators
    f = (plan.validators - 1) // 3
    if SET_CHANGES in faults:
        members += max(1, f)  # As many wait outside as may come at once.
        if plan.real_ledger:  # Who is often away is chilled, so that the set may shrink to four.
            f = min(f, 1)
    kinds = [kind for kind in LIARS if kind in plan.faults and (kind != CENSORSHIP or plan.real_ledger)]
    # In memory, sets never become smaller than the first, so that each of them tolerates as many.
    liars = {member: rng.choice(kinds) for member in rng.sample(range(members), rng.choice([0, f, f])) if kinds}
    return Drawn(faults, members, f, liars)


def _spares(plan: Plan) -> int:
    """How many members wait outside: nobody, where the set does not change."""
    return draw(plan, Random(plan.seed)).members - plan.validators


async def _simulate(plan: Plan, world: WholeWorld | None) -> Outcome:
    rng = Random(plan.seed)
    drawn = draw(plan, rng)
    faults, liars = drawn.faults, drawn.liars
    memory = MemoryWorld(plan.validators, TIMING, drawn.members - plan.validators, Random(plan.seed))
    cluster = Cluster(plan.validators, plan.seed, liars, world if world is not None else memory)
    people = None if world is None else People(world, cluster, Random(plan.seed))
    # Whoever's clock is wrong may count as faulty: its proposals are refused where they are too late.
    cluster.wrong_clocks = rng.sample(cluster.honest, drawn.f - len(liars))
    if "clock-skew" in faults:
        for node in cluster.wrong_clocks:
            node.clock_skew_ms = rng.choice([-SKEW_MS, SKEW_MS])
    async with trio.open_nursery() as nursery:
        late = [node for node in cluster.nodes if node.member >= plan.validators]
        cluster.start(nursery, but=[node.name for node in late])
        for node in late:
            nursery.start_soon(_later, rng.randrange(LATE_MS_MAX), node.run)
        sending = trio.CancelScope()
        if people is not None:
            nursery.start_soon(_within, sending, people.run)
        await _storm(plan, cluster, faults, rng)
        cluster.calm()
        sending.cancel()
        healed = cluster.head
        await cluster.reach(healed + 1, cluster.recovery_ms, "recovery")
        if people is not None:
            people.again()
        last = max(plan.heights, healed + CALM_HEIGHTS)
        await cluster.reach(last, cluster.height_ms * (last - healed))
        _check_evidence(cluster, healed, last)
        if world is not None and people is not None:
            people.check()
            people.observer.check_invariants()
            check_offences(world, cluster, people.observer, healed)
            check_light(world, people.observer)
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


def _check_evidence(cluster: Cluster, healed: int, last: int) -> None:
    """Who equivocated while all was calm, and in the set, was accused while it was."""
    monitor = cluster.monitor
    for member, kind in cluster.liars.items():
        seated = all(member in monitor.deciders(height).members for height in range(healed + 1, last + 1))
        if kind == "equivocation" and seated:
            found = max(monitor.accused.get(member, {0}))
            expect(found >= healed, f"validator {member} equivocated from height {healed} on; last accused at {found}")
