"""Many simulations, on every core: what came of each as it comes, and what all of them together have shown."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from time import process_time

from chain.simulation.faults import FAULTS
from chain.simulation.plan import Outcome, Plan, simulate


@dataclass(frozen=True, slots=True)
class Done:
    """One simulation that ended: `failure` is what went wrong, in full, with the command that replays it."""

    plan: Plan
    outcome: Outcome | None
    failure: str | None
    cpu_seconds: float


def sweep(plans: Sequence[Plan], jobs: int, niceness: int = 0) -> Generator[Done, None, None]:
    """Run simulations in so many processes, which are that nice to others; yields them as they end."""
    if (jobs == 1 and not niceness) or len(plans) == 1:
        yield from map(_attempt, plans)
        return
    # Fresh processes: a copy of this one could inherit its threads' locks.
    with multiprocessing.get_context("spawn").Pool(jobs, os.nice, (niceness,)) as pool:
        yield from pool.imap_unordered(_attempt, plans, chunksize=4)


def _attempt(plan: Plan) -> Done:
    began = process_time()
    try:
        return Done(plan, simulate(plan), None, process_time() - began)
    except Exception:
        return Done(plan, None, traceback.format_exc(), process_time() - began)


@dataclass(slots=True)
class Summary:
    """What simulations have shown so far."""

    simulations: int = 0
    failures: int = 0
    heights: int = 0
    views_max: int = 0
    crashes: int = 0
    evidence: int = 0
    set_changes: int = 0
    messages: int = 0
    cpu_seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)

    def add(self, done: Done) -> None:
        """Count one that ended."""
        self.simulations += 1
        self.cpu_seconds += done.cpu_seconds
        if done.outcome is None:
            self.failures += 1
            return
        outcome = done.outcome
        self.heights += outcome.heights
        self.views_max = max(self.views_max, outcome.views_max)
        self.crashes += outcome.crashes
        self.evidence += outcome.evidence
        self.set_changes += outcome.set_changes
        self.messages += outcome.messages
        self.faults.update(set(outcome.faults))

    def lines(self) -> list[str]:
        """The same for people."""
        faults = ", ".join(f"{name} {self.faults[name]}" for name in FAULTS if self.faults[name])
        return [
            f"{self.simulations - self.failures} of {self.simulations} simulations held every check: {self.heights} "
            f"heights, {self.set_changes} changes of the set, highest view {self.views_max}, {self.crashes} crashes, "
            f"{self.evidence} accusations of liars, {self.messages} messages, {self.cpu_seconds:.0f} s of CPU",
            f"faults, with how many simulations had each: {faults or 'none'}",
        ]
