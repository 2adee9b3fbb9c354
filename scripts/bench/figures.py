"""How the benchmarks measure and print: medians with their spread, beside the goal that a figure is held against.

Each sample is taken twice: by the wall clock, which is what users feel and what a goal means, and by the processor time
of this process, which other work on the machine disturbs less. Whatever is shown here is also recorded, for the tables
of all.py; a script that prints a table of its own records its figures beside it.
"""

from __future__ import annotations

import cProfile
import json
import os
import platform
import pstats
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

PROFILE_LINES = 25
# Names the file to which what is recorded is added at once, a JSON object a line, so that a benchmark that fails or
# takes too long leaves what it had. Processes that a benchmark starts record nothing: they do not see the variable.
RECORDED = "POTCHAIN_BENCH_RECORDED"
_recorded = os.environ.pop(RECORDED, None)
_group = ""
_known: set[tuple[str, str]] = set()

Better = Literal["less", "more"]


@dataclass(frozen=True)
class Spread:
    """Samples in short."""

    median: float
    least: float
    most: float
    samples: int

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """The spread of one sample at least."""
        return cls(statistics.median(samples), min(samples), max(samples), len(samples))


@dataclass(frozen=True)
class Recorded:
    """One figure as tables have it."""

    group: str  # the heading that it stands under
    name: str
    unit: str
    better: Better
    value: Spread
    cpu: Spread | None  # the same by processor time
    goal: float | None
    met: bool | None  # whether the goal is
    peers: Mapping[str, float]  # medians of others in this unit, taken in the same run


def heading(text: str, group: str | None = None) -> None:
    """Print what the next figures are of; they are recorded under `group`, for a text that differs each time."""
    global _group
    print(f"{text}:", flush=True)
    _group = text if group is None else group


def record(
    name: str,
    samples: Sequence[float],
    unit: str,
    *,
    better: Better = "less",
    cpu: Sequence[float] = (),
    goal: float | None = None,
    held: float | None = None,
    peers: Mapping[str, float] | None = None,
) -> None:
    """Have a figure stand in the table; a goal is held against `held`, the median unless told.

    ValueError where a figure of this name stands under this heading: no other table could be held against it.
    """
    name = name.strip()
    if (_group, name) in _known:
        raise ValueError(f"expected each figure once under a heading; got another {name!r} under {_group!r}")
    _known.add((_group, name))
    if _recorded is None:
        return
    value = Spread.of(samples)
    if held is None:
        held = value.median
    met = None if goal is None else (held >= goal if better == "more" else held <= goal)
    spent = Spread.of(cpu) if cpu else None
    figure = Recorded(_group, name, unit, better, value, spent, goal, met, dict(peers or {}))
    with Path(_recorded).open("a") as file:
        file.write(json.dumps(asdict(figure)) + "\n")


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
    print(f"  {name:<34} {figure}{_beside_goal(1000 * figure.seconds, goal_ms, 'ms', 'less')}", flush=True)
    record(name, [1000 * each for each in figure.wall], "ms", cpu=[1000 * each for each in figure.cpu], goal=goal_ms)


def show_rate(
    name: str, count: int, figure: Figure, goal: float | None = None, peers: Mapping[str, float] | None = None
) -> None:
    """Print how many of `count` things were done in a second, and how many times as many as peers do."""
    rate = count / figure.seconds
    print(
        f"  {name:<34} {rate:9,.0f} a second, by processor time {count / figure.cpu_seconds:,.0f}"
        f"{_beside_goal(rate, goal, '', 'more')}"
        + "".join(f"   {rate / theirs:.2f} x {peer}" for peer, theirs in (peers or {}).items()),
        flush=True,
    )
    rates, by_cpu = ([count / each for each in samples] for samples in (figure.wall, figure.cpu))
    record(name, rates, "a second", better="more", cpu=by_cpu, goal=goal, peers=peers)


def show_value(
    name: str, samples: Sequence[float], unit: str, goal: float | None = None, *, better: Better = "less"
) -> None:
    """Print something that is not a time of this process."""
    value = Spread.of(samples)
    spread = f"  ({value.least:,.1f} to {value.most:,.1f})" if value.samples > 1 else ""
    beside = _beside_goal(value.median, goal, unit, better)
    print(f"  {name:<34} {value.median:9,.1f} {unit}{spread}{beside}", flush=True)
    record(name, samples, unit, better=better, goal=goal)


def _beside_goal(value: float, goal: float | None, unit: str, better: Better) -> str:
    if goal is None:
        return ""
    return f"   goal {f'{goal:,g} {unit}'.strip()}: {verdict(times_goal(value, goal, better))}"


def times_goal(value: float, goal: float, better: Better) -> float:
    """How many times a goal is met: 1 and more is met."""
    met, by = (value, goal) if better == "more" else (goal, value)
    return met / by if by else float("inf")


def verdict(ratio: float) -> str:
    """How many times a goal is met."""
    return f"{ratio:.2f} x the goal, {'met' if ratio >= 1 else 'MISSED'}"


def machine() -> str:
    """What the figures were taken on, and how many others wanted its cores just then."""
    return f"{hardware()}, load {os.getloadavg()[0]:.1f}"


def hardware() -> str:
    """What the figures were taken on."""
    name = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
    return f"{os.cpu_count()} cores of {name}, {platform.system()}, Python {platform.python_version()}"


@contextmanager
def profiled(title: str) -> Iterator[None]:
    """Print which functions the body spends its time in; a profile stretches small functions."""
    profile = cProfile.Profile()
    profile.enable()
    yield
    profile.disable()
    print(f"profile of {title}:")
    pstats.Stats(profile).strip_dirs().sort_stats("tottime").print_stats(PROFILE_LINES)
