"""The simulations of the test suite, counted by docs/faults.md; `scripts/test --sweep` runs a hundred times as many."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Final

from chain.simulation.plan import Plan, draw

SUITE: Final = {
    "four": (Plan(0), 200),
    "seven": (Plan(0, validators=7), 30),
    "whole nodes": (Plan(0, heights=12, real_ledger=True), 30),
}
SWEEP: Final = 100


def plans(name: str, times: int = 1) -> list[Plan]:
    """The suite's simulations of one kind, or so many times as many: those of the suite come first."""
    first, seeds = SUITE[name]
    return [replace(first, seed=seed) for seed in range(seeds * times)]


def faults_drawn() -> Counter[str]:
    """How many simulations of the suite have each fault."""
    found: Counter[str] = Counter()
    for plan in (plan for name in SUITE for plan in plans(name)):
        drawn = draw(plan, Random(plan.seed))
        found.update({*drawn.faults, *drawn.liars.values()})
    return found
