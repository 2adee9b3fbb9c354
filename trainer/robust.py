"""Aggregations that a minority of wrong updates cannot lead far astray, for tasks whose updates nobody can recompute.

Rule: an aggregation sees a set of updates. They are put in an order of their own first, and every float is made of
exact values by one IEEE operation at a time, so that no order of slots, no chunk and no machine changes a bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cmp_to_key
from typing import assert_never

import numpy as np

from trainer import aggregate
from trainer.aggregate import checked_length, spans
from trainer.arrays import Float32s, Float64s
from trainer.codecs.blocks import BLOCK, blocks_of
from trainer.codecs.updates import DenseUpdate
from trainer.spill import StoredDense, Summand

PPM = 1_000_000
# 64 updates of 64 blocks are 8 MiB of float64, and their products another 2 MiB.
CHUNK_BLOCKS = 64
ITERATIONS_MAX = 100
RADIUS_PPM_MAX = 1000 * PPM


class AggregationError(ValueError):
    """Numbers of which no aggregation can be made, or updates that it cannot take."""


@dataclass(frozen=True, slots=True)
class Mean:
    """All alike: right where every update is audited."""


@dataclass(frozen=True, slots=True)
class Median:
    """The middle of each coordinate (Yin et al. 2018)."""


@dataclass(frozen=True, slots=True)
class TrimmedMean:
    """The mean of each coordinate without the `byzantine_ppm` lowest and as many highest (Yin et al. 2018)."""

    byzantine_ppm: int


@dataclass(frozen=True, slots=True)
class Krum:
    """The update with the nearest neighbours (Blanchard et al. 2017), or the mean of all but the share of the farthest.

    It holds where n updates have at most (n - 3) / 2 wrong ones: 6 of 16.
    """

    byzantine_ppm: int
    multi: bool


@dataclass(frozen=True, slots=True)
class CenteredClip:
    """The point where the pulls of all updates cancel, none of them longer than `radius_ppm` of the median distance.

    Karimireddy et al. 2021; their worker momentum is the workers' affair. Their radius is a length, which nobody knows
    when a task is made: this one follows the updates as they shrink. All points on the way are combinations of the
    updates, so that iterations from zero cost nothing once the updates' products are known.
    """

    radius_ppm: int
    iterations: int


Dense = DenseUpdate | StoredDense
Aggregation = Mean | Median | TrimmedMean | Krum | CenteredClip


def checked(aggregation: Aggregation) -> Aggregation:
    """The aggregation itself, if its numbers make sense; AggregationError names the one that does not."""
    match aggregation:
        case Mean() | Median():
            pass
        case TrimmedMean(byzantine_ppm) | Krum(byzantine_ppm, _):
            _within("byzantine share (ppm)", byzantine_ppm, 0, PPM // 2)
        case CenteredClip(radius_ppm, iterations):
            _within("radius (ppm)", radius_ppm, 1, RADIUS_PPM_MAX)
            _within("iterations", iterations, 1, ITERATIONS_MAX)
        case _:
            assert_never(aggregation)
    return aggregation


def combine(
    aggregation: Aggregation,
    updates: Sequence[Summand],
    weights: Sequence[int] | None = None,
    *,
    chunk_blocks: int = CHUNK_BLOCKS,
) -> Float32s:
    """What a round's updates come to, f32[P]; robust aggregations take dense updates, which all weigh alike."""
    if not isinstance(aggregation, Mean) and weights is not None and len(set(weights)) > 1:
        # There are several weighted medians, and no weighted Krum: who outweighs the others would be the middle.
        raise AggregationError("expected updates that weigh alike: only the mean takes weights")
    match aggregation:
        case Mean():
            return aggregate.mean(updates, weights)
        case Median():
            middle = len(updates) // 2
            return _ranked(_ordered(updates), range((len(updates) - 1) // 2, middle + 1), chunk_blocks)
        case TrimmedMean(byzantine_ppm):
            cut = min(len(updates) * byzantine_ppm // PPM, (len(updates) - 1) // 2)
            return _ranked(_ordered(updates), range(cut, len(updates) - cut), chunk_blocks)
        case Krum(byzantine_ppm, multi):
            ordered = _ordered(updates)
            wrong = min(len(updates) * byzantine_ppm // PPM, max(0, (len(updates) - 3) // 2))
            best = _by_neighbours(products(ordered, chunk_blocks=chunk_blocks), wrong)
            return aggregate.mean([ordered[index] for index in best[: len(updates) - wrong if multi else 1]])
        case CenteredClip():
            ordered = _ordered(updates)
            pulls = _pulls(products(ordered, chunk_blocks=chunk_blocks), aggregation)
            return _weighted(ordered, pulls, chunk_blocks)
        case _:
            assert_never(aggregation)


def products(updates: Sequence[Dense], *, chunk_blocks: int = CHUNK_BLOCKS) -> Float64s:
    """The scalar products of all pairs, f64[n, n].

    Within a block they are sums of at most 256 products of integers, which a matrix product in float64 finds exactly in
    any order; blocks are added one after the other.
    """
    length, count = checked_length(updates), len(updates)
    total = np.zeros((count, count), np.float64)
    for begin, end in spans(length, chunk_blocks):
        blocks = blocks_of(end - begin)
        integers = np.zeros((count, blocks * BLOCK), np.float64)
        steps = np.empty((blocks, count), np.float64)
        for index, update in enumerate(updates):
            part = update.slice(begin, end)
            integers[index, : end - begin] = part.values
            steps[:, index] = np.ldexp(1.0, part.exponents.astype(np.int32))
        by_block = integers.reshape(count, blocks, BLOCK).transpose(1, 0, 2)
        exact = np.matmul(by_block, by_block.transpose(0, 2, 1))
        for product in exact * (steps[:, :, None] * steps[:, None, :]):
            total += product
    return total


def _ranked(updates: Sequence[Dense], ranks: range, chunk_blocks: int) -> Float32s:
    """The mean of each coordinate's values with these ranks, added from the lowest to the highest."""
    length = checked_length(updates)
    result = np.empty(length, np.float32)
    for begin, end in spans(length, chunk_blocks):
        # Integers of 16 bits times a power of two are exact in float32, too, which sorts twice as fast.
        rows = np.stack([update.slice(begin, end).scaled().astype(np.float32) for update in updates], axis=1)
        rows.sort(axis=1)
        total = np.zeros(end - begin, np.float64)
        for rank in ranks:
            total += rows[:, rank]
        result[begin:end] = total / np.float64(len(ranks))
    return result


def _by_neighbours(products_of: Float64s, wrong: int) -> list[int]:
    """The updates from the one whose neighbours are nearest to the one whose are farthest; of equals the first."""
    count = len(products_of)
    nearest = max(1, count - wrong - 2)
    norms = np.diagonal(products_of)
    distances = np.maximum(norms[:, None] + norms[None, :] - 2 * products_of, 0)
    scores = [math.fsum(sorted(np.delete(row, index).tolist())[:nearest]) for index, row in enumerate(distances)]
    return sorted(range(count), key=lambda index: (scores[index], index))


def _pulls(products_of: Float64s, aggregation: CenteredClip) -> Float64s:
    """The weights f64[n] with which the updates make the centre: it is always one of their combinations."""
    count = len(products_of)
    norms = np.diagonal(products_of)
    weights = np.zeros(count, np.float64)
    for _ in range(aggregation.iterations):
        along = np.zeros(count, np.float64)
        for index in range(count):
            along += products_of[:, index] * weights[index]
        centre = math.fsum((weights * along).tolist())
        distances = np.sqrt(np.maximum(norms - 2 * along + centre, 0))
        radius = float(np.sort(distances)[(count - 1) // 2]) * (aggregation.radius_ppm / PPM)
        # What is nearer than the radius pulls with all of its distance, and so does what is at the centre itself.
        pulls = np.minimum(1, np.divide(radius, distances, out=np.ones(count), where=distances > 0))
        weights = weights * (1 - math.fsum(pulls.tolist()) / count) + pulls / count
    return weights


def _weighted(updates: Sequence[Dense], weights: Float64s, chunk_blocks: int) -> Float32s:
    length = checked_length(updates)
    result = np.empty(length, np.float32)
    for begin, end in spans(length, chunk_blocks):
        total = np.zeros(end - begin, np.float64)
        for update, weight in zip(updates, weights, strict=True):
            total += update.slice(begin, end).scaled() * weight
        result[begin:end] = total
    return result


def _ordered(updates: Sequence[Summand]) -> list[Dense]:
    """The updates in an order that follows from what they say."""
    checked_length(updates)
    dense = [update for update in updates if isinstance(update, DenseUpdate | StoredDense)]
    if len(dense) != len(updates):
        # Of a coordinate that most leave out there is no middle.
        raise AggregationError("expected dense updates (int8 or int16): robust aggregations compare every coordinate")
    return sorted(dense, key=cmp_to_key(_compare))


def _compare(left: Dense, right: Dense) -> int:
    # Exponents are a 256th of an update, and of different updates hardly ever the same.
    a, b = left.exponents.tobytes(), right.exponents.tobytes()
    if a != b:
        return -1 if a < b else 1
    for begin, end in spans(left.length, CHUNK_BLOCKS):
        a, b = left.slice(begin, end).values.tobytes(), right.slice(begin, end).values.tobytes()
        if a != b:
            return -1 if a < b else 1
    return 0


def _within(what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise AggregationError(f"{what}: expected {low} to {high}, got {value}")
