"""Curves: what something costs at one size after another, beside how it should grow with that.

Rule: how a column should grow is named before anything is measured, once, for the table, the record and the plot.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from figures import Recorded, Spread, heading, record

# What a power of the size may be above the one that was named: a factor of 1.6 in a decade, which is what a machine
# that does other work, too, makes of equal figures.
EXCESS_MAX = 0.2


class Growth(Enum):
    """How a cost should grow with the size."""

    FLAT = "flat"
    LOGARITHMIC = "logarithmic"
    LINEAR = "linear"
    PAIRS = "n(n − 1)"

    def of(self, size: float) -> float:
        """What the cost should be in proportion to."""
        match self:
            case Growth.FLAT:
                return 1.0
            case Growth.LOGARITHMIC:
                return math.log(size)
            case Growth.LINEAR:
                return size
            case Growth.PAIRS:
                return size * (size - 1)

    def power(self, before: float, size: float) -> float:
        """The power of the size that it should grow by between two sizes."""
        return power((before, self.of(before)), (size, self.of(size)))


@dataclass(frozen=True)
class Column:
    """One cost. `unit` is "ms" for processor time unless the name says by which clock."""

    name: str
    unit: str
    growth: Growth


@dataclass(frozen=True)
class Curve:
    """Costs that grow with the same thing."""

    file: str  # the plot's
    group: str  # the heading that its figures are recorded under
    noun: str  # what grows
    columns: tuple[Column, ...]

    def named(self, size: int, column: Column) -> str:
        """What a figure is recorded as."""
        return f"{size:,} {self.noun}, {column.name}"

    def points(self, figures: Iterable[Recorded], column: Column) -> list[tuple[int, Spread]]:
        """What was recorded of a column, by ascending size."""
        found: list[tuple[int, Spread]] = []
        for figure in figures:
            size, _, rest = figure.name.partition(" ")
            if figure.group == self.group and rest == f"{self.noun}, {column.name}":
                found.append((int(size.replace(",", "")), figure.value))
        return sorted(found, key=lambda point: point[0])


@dataclass(frozen=True)
class Form:
    """At which sizes a curve is measured, and how many samples of each figure are taken."""

    sizes: tuple[int, ...]
    samples: int


class Rows:
    """A curve's table, a row at a time, as Markdown: in brackets the power of the size that a column grew by.

    A power that is above the one that was named is bold.
    """

    def __init__(self, curve: Curve) -> None:
        self._curve = curve
        self._before: tuple[int, Mapping[str, float]] | None = None
        self._above: list[str] = []
        heading(f"\n{curve.group}", curve.group)
        titles = [f"{each.name}{f', {each.unit}' if each.unit else ''}: {each.growth.value}" for each in curve.columns]
        print(f"\n| {' | '.join([curve.noun, *titles])} |\n|{'---:|' * (1 + len(titles))}", flush=True)

    def add(self, size: int, samples: Mapping[str, Sequence[float]]) -> None:
        """Print and record the samples of each column at a size greater than the last; a column may lack them."""
        medians: dict[str, float] = {}
        cells = [f"{size:,}"]
        self._above = []
        for column in self._curve.columns:
            taken = samples.get(column.name, ())
            if not taken:
                cells.append("")
                continue
            record(self._curve.named(size, column), taken, column.unit)
            medians[column.name] = Spread.of(taken).median
            cells.append(shown(medians[column.name]) + self._power(size, column, medians[column.name]))
        print(f"| {' | '.join(cells)} |", flush=True)
        self._before = size, medians

    def _power(self, size: int, column: Column, value: float) -> str:
        if self._before is None:
            return ""
        before, values = self._before
        if value <= 0 or values.get(column.name, 0) <= 0:
            return ""
        grew = power((before, values[column.name]), (size, value))
        if grew <= column.growth.power(before, size) + EXCESS_MAX:
            return f" ({grew:.2f})"
        self._above.append(column.name)
        return f" (**{grew:.2f}**)"

    def end(self) -> None:
        """Say which columns grew in the last row as they should, and which more."""
        good = [column.name for column in self._curve.columns if column.name not in self._above]
        print(f"\n  as it should in the last row: {'; '.join(good) or 'nothing'}")
        if self._above:
            print(f"  MORE than it should: {'; '.join(self._above)}")


def power(before: tuple[float, float], after: tuple[float, float]) -> float:
    """The power of the size by which something grew between two points (size, cost)."""
    return math.log(after[1] / before[1]) / math.log(after[0] / before[0])


def shown(value: float) -> str:
    """Three digits at least, where there are as many."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
