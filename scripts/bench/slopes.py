"""Whether something grows: slopes that outliers do not move, with their spread, and what they say.

Rule: a slope is the median of those between all pairs of points (Theil 1950, Sen 1968), and pairs from two lives of one
process are no pairs. Its interval is Sen's, at 95 %: what would be found where nothing but noise grew.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

# Of the normal distribution: 95 % lie within so many standard deviations.
DEVIATIONS = 1.96


@dataclass(frozen=True, slots=True)
class Point:
    """A value at a time, of a process that had this number."""

    time: float
    value: float
    life: int = 0


@dataclass(frozen=True, slots=True)
class Slope:
    """How much a value grows in a unit of time: the median of all pairs, and between what it lies."""

    median: float
    low: float
    high: float

    def __mul__(self, factor: float) -> Slope:
        """The same in other units; `factor` is above 0."""
        return Slope(self.median * factor, self.low * factor, self.high * factor)

    def exceeds(self, allowed: float) -> bool:
        """Whether it grows by more than is allowed, beyond what noise explains."""
        return self.low > allowed


def slope(points: Sequence[Point]) -> Slope | None:
    """How much the value grows in a unit of time; None where no life has three points."""
    pairs: list[float] = []
    variance = 0.0
    for life in {point.life for point in points}:
        own = [point for point in points if point.life == life]
        if len(own) < 3:
            continue
        pairs += [
            (after.value - before.value) / (after.time - before.time)
            for before, after in combinations(sorted(own, key=lambda point: point.time), 2)
            if after.time > before.time
        ]
        # Of Kendall's statistic, where the values are of no order.
        variance += len(own) * (len(own) - 1) * (2 * len(own) + 5) / 18
    if not pairs:
        return None
    pairs.sort()
    reach = DEVIATIONS * math.sqrt(variance)
    low = max(0, math.floor((len(pairs) - reach) / 2))
    high = min(len(pairs) - 1, math.ceil((len(pairs) + reach) / 2))
    return Slope(statistics.median(pairs), pairs[low], pairs[high])


def without(points: Sequence[Point], cause: Sequence[Point]) -> list[Point]:
    """The points without what follows another value of the same times, by the slope of the one against the other."""
    caused = {point.time: point.value for point in cause}
    both = [point for point in points if point.time in caused]
    found = slope([Point(caused[point.time], point.value) for point in both])
    if found is None:
        return list(points)
    middle = statistics.median(caused[point.time] for point in both)
    return [Point(point.time, point.value - found.median * (caused[point.time] - middle), point.life) for point in both]
