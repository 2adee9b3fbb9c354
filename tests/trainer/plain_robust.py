"""The robust aggregations, and the plainest version of each: fractions and lists, one value at a time.

Rule: no arithmetic is shared with `trainer/robust.py`, whose results are compared with these bit by bit. The mean of
what Krum chooses is `trainer/aggregate.py`'s, which is compared with a plain one of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from trainer import aggregate
from trainer.codecs.updates import DenseUpdate
from trainer.robust import PPM, Aggregation, CenteredClip, Krum, Mean, Median, TrimmedMean

# What each takes for granted of wrong workers, and how the centre is looked for.
SHARE = 7 * PPM // 16
ITERATIONS = 20
AGGREGATORS: dict[str, Aggregation] = {
    "mean": Mean(),
    "median": Median(),
    "trimmed mean": TrimmedMean(SHARE),
    "krum": Krum(SHARE, multi=False),
    "multi-krum": Krum(SHARE, multi=True),
    "centered clip": CenteredClip(PPM, ITERATIONS),
}


def values_of(update: DenseUpdate) -> list[Fraction]:
    """Each value as a fraction."""
    return [
        int(value) * Fraction(2) ** int(update.exponents[index // 256])
        for index, value in enumerate(update.values.tolist())
    ]


def products(updates: Sequence[DenseUpdate]) -> list[list[float]]:
    """Scalar products block by block, each exact and then rounded once when it is added."""
    values = [values_of(update) for update in updates]

    def product(left: list[Fraction], right: list[Fraction]) -> float:
        total = 0.0
        for begin in range(0, len(left), 256):
            block = slice(begin, begin + 256)
            total += float(sum(a * b for a, b in zip(left[block], right[block], strict=True)))
        return total

    return [[product(left, right) for right in values] for left in values]


def in_order(updates: Sequence[DenseUpdate]) -> list[DenseUpdate]:
    """The order that follows from what the updates say."""
    return sorted(updates, key=lambda update: (update.exponents.tobytes(), update.values.tobytes()))


def median(updates: Sequence[DenseUpdate]) -> list[float]:
    """The middle of each coordinate."""
    count, columns = len(updates), zip(*map(values_of, updates), strict=True)
    middle = [sorted(column)[(count - 1) // 2 : count // 2 + 1] for column in columns]
    return [float(np.float32(sum(map(float, values)) / len(values))) for values in middle]


def trimmed_mean(updates: Sequence[DenseUpdate]) -> list[float]:
    """The mean of each coordinate without the lowest and the highest."""
    cut = min(len(updates) * SHARE // PPM, (len(updates) - 1) // 2)
    result = []
    for column in zip(*map(values_of, updates), strict=True):
        kept = sorted(column)[cut : len(column) - cut]
        total = 0.0
        for value in kept:
            total += float(value)
        result.append(float(np.float32(total / len(kept))))
    return result


def krum(updates: Sequence[DenseUpdate], *, multi: bool) -> list[float]:
    """The update with the nearest neighbours, or the mean of all but the farthest."""
    ordered = in_order(updates)
    of, count = products(ordered), len(ordered)
    wrong = min(count * SHARE // PPM, max(0, (count - 3) // 2))
    scores = []
    for i in range(count):
        distances = sorted(max(0.0, of[i][i] + of[j][j] - 2 * of[i][j]) for j in range(count) if j != i)
        scores.append((math.fsum(distances[: max(1, count - wrong - 2)]), i))
    chosen = [ordered[i] for _, i in sorted(scores)[: count - wrong if multi else 1]]
    return [float(value) for value in aggregate.mean(chosen)]


def centre(updates: Sequence[DenseUpdate]) -> list[float]:
    """Where the pulls cancel, none of them longer than the median distance."""
    ordered = in_order(updates)
    of, count = products(ordered), len(ordered)
    weights = [0.0] * count
    for _ in range(ITERATIONS):
        along = [0.0] * count
        for j in range(count):
            along = [along[i] + of[i][j] * weights[j] for i in range(count)]
        squared = math.fsum(weight * value for weight, value in zip(weights, along, strict=True))
        distances = [math.sqrt(max(0.0, of[i][i] - 2 * along[i] + squared)) for i in range(count)]
        radius = sorted(distances)[(count - 1) // 2]
        pulls = [min(1.0, radius / distance) if distance > 0 else 1.0 for distance in distances]
        rest = 1 - math.fsum(pulls) / count
        weights = [weight * rest + pull / count for weight, pull in zip(weights, pulls, strict=True)]
    values = [list(map(float, values_of(update))) for update in ordered]
    result = []
    for index in range(len(values[0])):
        total = 0.0
        for column, weight in zip(values, weights, strict=True):
            total += column[index] * weight
        result.append(float(np.float32(total)))
    return result


PLAIN: dict[str, Callable[[Sequence[DenseUpdate]], list[float]]] = {
    "median": median,
    "trimmed mean": trimmed_mean,
    "krum": lambda updates: krum(updates, multi=False),
    "multi-krum": lambda updates: krum(updates, multi=True),
    "centered clip": centre,
}
