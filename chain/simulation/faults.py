"""The faults that a simulation may inject, by name, and the storms that are drawn from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from random import Random
from typing import TYPE_CHECKING, Final

from chain.simulation.liars import LIARS
from chain.simulation.network import Weather

if TYPE_CHECKING:
    from chain.simulation.cluster import Cluster

MESSAGES: Final = ("loss", "duplication", "delay", "lost-commits")
PARTITIONS: Final = ("halves", "one-apart", "ring", "moving", "one-way")
MACHINES: Final = (
    *("crash", "kill-all", "stop", "slow-disk", "full-disk", "disk-errors"),
    *("clock-skew", "clock-jumps"),
)
# Not a fault, and a time at which much can go wrong: who decides is another set from session to session.
SET_CHANGES: Final = "set-changes"
FAULTS: Final = (*MESSAGES, *PARTITIONS, *MACHINES, SET_CHANGES, *LIARS)

# A clock may be off by more than proposals may be from the future (`chain.author.DRIFT_MS_MAX`).
SKEW_MS: Final = 40_000
# How many of the ways from one node to another are cut where what is cut is not cut the other way round.
ONE_WAY: Final = 0.3
# How long a process is stopped: views fail meanwhile, and the others decide many blocks.
STOPPED_MS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Sides:
    """A partition into groups: nothing passes between them."""

    sides: tuple[int, ...]

    def __call__(self, sender: int, receiver: int) -> bool:
        return self.sides[sender] != self.sides[receiver]


@dataclass(frozen=True, slots=True)
class Ring:
    """Each hears its two neighbours alone."""

    n: int

    def __call__(self, sender: int, receiver: int) -> bool:
        return (sender - receiver) % self.n not in (1, self.n - 1)


@dataclass(frozen=True, slots=True)
class AwayFromPrimary:
    """Whoever leads the highest view is alone: the partition moves on as the view does."""

    cluster: Cluster

    def __call__(self, sender: int, receiver: int) -> bool:
        return self.cluster.leader in (sender, receiver)


@dataclass(frozen=True, slots=True)
class OneWay:
    """Some hear others that do not hear them."""

    cut: frozenset[tuple[int, int]]

    def __call__(self, sender: int, receiver: int) -> bool:
        return (sender, receiver) in self.cut


def partition(kind: str, cluster: Cluster, rng: Random) -> Callable[[int, int], bool]:
    """A partition of one kind, drawn."""
    n = len(cluster.nodes)
    if kind == "ring":
        return Ring(n)
    if kind == "moving":
        return AwayFromPrimary(cluster)
    if kind == "one-way":
        return OneWay(frozenset(pair for pair in permutations(range(n), 2) if rng.random() < ONE_WAY))
    if kind == "one-apart":
        alone = rng.randrange(n)
        return Sides(tuple(int(name == alone) for name in range(n)))
    return Sides(tuple(rng.randrange(2) for _ in range(n)))


def brew(faults: frozenset[str], cluster: Cluster, rng: Random) -> None:
    """Begin the next episode: each fault of this simulation happens in it, or not."""

    def draw(fault: str, chance: float) -> bool:
        return fault in faults and rng.random() < chance

    weather = Weather(
        loss=rng.choice([0.1, 0.4]) if draw("loss", 0.5) else 0.0,
        duplication=0.2 if draw("duplication", 0.5) else 0.0,
        delay_ms_max=rng.choice([300, 3000]) if draw("delay", 0.5) else 20,
        lost_commits=rng.choice([0.5, 0.8]) if draw("lost-commits", 0.4) else 0.0,
    )
    kinds = [kind for kind in PARTITIONS if kind in faults]
    if kinds and rng.random() < 0.5:
        weather.cut = partition(rng.choice(kinds), cluster, rng)
    cluster.network.weather = weather
    for node in cluster.nodes:
        node.crash = 0.01 if draw("crash", 0.5) else 0.0
        node.disk.sync_ms = rng.choice([20, 200, 2000]) if draw("slow-disk", 0.3) else 0
        node.disk.full = draw("full-disk", 0.05)
        node.disk.errors = 0.2 if draw("disk-errors", 0.05) else 0.0
        if draw("stop", 0.05):
            node.stop(STOPPED_MS)
    for node in cluster.wrong_clocks:
        if draw("clock-jumps", 0.5):
            node.clock_skew_ms = rng.choice([-SKEW_MS, 0, SKEW_MS])
    if draw("kill-all", 0.15):
        for node in cluster.nodes:
            node.kill()
    cluster.network.reconnect()
