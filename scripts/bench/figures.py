"""How the benchmarks measure and print: medians with their spread, beside the goal that a figure is held against.

Each sample is taken twice: by the wall clock, which is what users feel and what a goal means, and by the processor time
of this process, which other work on the machine disturbs less.
"""

from __future__ import annotations

import cProfile
import platform
import pstats
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import cpu_count, getloadavg
from pathlib import Path

PROFILE_LINES = 25


@dataclass
class Figure:
    """The samples of one thing, in seconds."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        wall, cpu = sorted(self.wall), sorted(self.cpu)
        return (
            f"{1000 * statistics.median(wall):9.2f} ms  ({1000 * wall[0]:.2f} to {1000 * wall[-1]:.2f}),"
            f"  cpu {1000 * statistics.median(cpu):9.2f} ms"
        )

    @property
    def seconds(self) -> float:
        """The median by the wall clock."""
        return statistics.median(self.wall)

    @property
    def cpu_seconds(self) -> float:
        """The median of the processor time."""
        return statistics.median(self.cpu)

    def __add__(self, other: Figure) -> Figure:
        """Two things that are done one after the other, sample by sample."""
        return _combined(self, other, 1)

    def __sub__(self, other: Figure) -> Figure:
        """What remains of a thing without a part of it, sample by sample."""
        return _combined(self, other, -1)


def _combined(left: Figure, right: Figure, sign: int) -> Figure:
    return Figure(
        [a + sign * b for a, b in zip(left.wall, right.wall, strict=True)],
        [a + sign * b for a, b in zip(left.cpu, right.cpu, strict=True)],
    )


class Figures:
    """Figures by name, in the order in which they were first taken."""

    def __init__(self) -> None:
        self._figures: defaultdict[str, Figure] = defaultdict(Figure)

    def __getitem__(self, name: str) -> Figure:
        return self._figures[name]

    @contextmanager
    def sample(self, name: str) -> Iterator[None]:
        """Time the body as one more sample."""
        figure = self._figures[name]
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        figure.cpu.append(time.process_time() - cpu)
        figure.wall.append(time.perf_counter() - wall)


def show(name: str, figure: Figure, goal_ms: float | None = None) -> None:
    """Print one figure and, where it has a goal, how they compare."""
    line = f"  {name:<34} {figure}"
    if goal_ms is not None:
        line += f"   goal {goal_ms:g} ms: {verdict(goal_ms / 1000 / figure.seconds)}"
    print(line, flush=True)


def show_rate(name: str, count: int, figure: Figure, goal: float) -> None:
    """Print how many of `count` things were done in a second."""
    rate = count / figure.seconds
    print(
        f"  {name:<34} {rate:9,.0f} a second, by processor time {count / figure.cpu_seconds:,.0f}"
        f"   goal {goal:,.0f}: {verdict(rate / goal)}",
        flush=True,
    )


def verdict(ratio: float) -> str:
    """How many times a goal is met."""
    return f"{ratio:.2f} x the goal, {'met' if ratio >= 1 else 'MISSED'}"


def machine() -> str:
    """What the figures were taken on, and how many others wanted its cores just then."""
    name = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
    return (
        f"{cpu_count()} cores of {name}, {platform.system()}, Python {platform.python_version()},"
        f" load {getloadavg()[0]:.1f}"
    )


@contextmanager
def profiled(title: str) -> Iterator[None]:
    """Print which functions the body spends its time in; a profile stretches small functions."""
    profile = cProfile.Profile()
    profile.enable()
    yield
    profile.disable()
    print(f"profile of {title}:")
    pstats.Stats(profile).strip_dirs().sort_stats("tottime").print_stats(PROFILE_LINES)
