"""Silos that have other classes of digits each, one that poisons, and what they do to a model: no chain, real steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.flatten_util import ravel_pytree

from scripts import build_digits
from tests.trainer import kit
from trainer import aggregate, batches, dataset, descent
from trainer.arrays import Float32s
from trainer.codecs import INT8
from trainer.codecs.updates import Update
from trainer.descent import Descent
from trainer.local import LocalSteps, contribution
from trainer.optimizers import FRESH, PICO, Sgd
from trainer.scoring import harm_ppm, in_micro

# Label skew: each hospital, say, has seen some of the ten digits and no other.
CLASSES_OF = ((0, 1, 2), (3, 4), (5, 6, 7), (8, 9))
BATCH = 32
# Steps to the mean: FedAvg.
OUTER = Descent(Sgd(PICO, 0))

Rows = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


@cache
def _splits() -> tuple[Rows, Rows]:
    manifest, blobs = build_digits.build_dataset()

    def read(split: dataset.Split) -> Rows:
        x, y = (np.frombuffer(blobs[root], np.uint8) for root in (split.x, split.y))
        return x.reshape(split.count, -1), y

    return read(manifest.train), read(manifest.held_out)


def held_out() -> Rows:
    """The rows that everybody sees."""
    return _splits()[1]


def by_class() -> list[Rows]:
    """The rows of four honest silos."""
    x, y = _splits()[0]
    return [(x[np.isin(y, classes)], y[np.isin(y, classes)]) for classes in CLASSES_OF]


def mislabelled(count: int) -> Rows:
    """So many rows of all classes, each called by the next one's name."""
    x, y = _splits()[0]
    return x[:count], ((y[:count] + 1) % kit.CLASSES).astype(np.uint8)


def steps(count: int) -> LocalSteps:
    """What a silo does before it speaks."""
    return LocalSteps(count, Descent(Sgd(PICO // 10, 9 * PICO // 10)))


class Model:
    """A model's functions over flat parameters f32[P]."""

    def __init__(self, loss: Callable[..., Any], evaluation: Callable[..., Any], params: Any) -> None:
        flat, unravel = ravel_pytree(params)
        self.theta = np.asarray(flat, np.float32)
        self.gradient = jax.jit(jax.grad(lambda theta, x, y: loss(unravel(theta), x, y)))
        self._evaluation = jax.jit(lambda theta, x, y: evaluation(unravel(theta), x, y)[0])

    def held_out(self, theta: Float32s) -> float:
        """The mean loss of the rows that are held out."""
        x, y = held_out()
        return float(self._evaluation(theta, x, y)) / len(y)


@cache
def softmax() -> Model:
    """A softmax regression, from zero."""
    params = {"w": jnp.zeros((kit.PIXELS, kit.CLASSES)), "b": jnp.zeros(kit.CLASSES)}
    return Model(kit.loss, kit.evaluation, params)


@cache
def perceptron() -> Model:
    """The testnet's model."""
    params = build_digits.MODEL.init(jax.random.key(0), jnp.zeros((1, kit.PIXELS), jnp.uint8))["params"]
    return Model(build_digits.loss, build_digits.evaluation, params)


@dataclass(frozen=True)
class Scores:
    """A round: the loss before it, what each silo adds to it in company, and what each adds alone; shares of it."""

    start: float
    harms: list[float]
    alone: list[float]


def train(
    model: Model, data: Sequence[Rows], local: LocalSteps, rounds: int, believed: int, distort: float = 1
) -> Iterator[tuple[Scores, Float32s]]:
    """Each round's scores and the model after it, to which the first `believed` silos contribute.

    What the last silo says is multiplied by `distort`.
    """
    theta, counts = model.theta, [len(y) for _, y in data]
    for round_ in range(rounds):
        updates = [
            INT8.quantise(_said(model, theta, local, rows, round_, slot), round_) for slot, rows in enumerate(data)
        ]
        if distort != 1:
            said = _said(model, theta, local, data[-1], round_, len(data) - 1) * np.float32(distort)
            updates[-1] = INT8.quantise(said, round_)

        def stepped(slots: Sequence[int], at: Float32s = theta, made: Sequence[Update] = updates) -> Float32s:
            if not slots:
                return at
            mean = aggregate.mean([made[slot] for slot in slots], [counts[slot] for slot in slots])
            return descent.step(OUTER, FRESH, at, mean)[0]

        everybody = range(len(data))
        start, whole = in_micro(model.held_out(theta)), in_micro(model.held_out(stepped(everybody)))

        def share(with_it: int, without_it: int, start: int = start) -> float:
            return harm_ppm(with_it, without_it, start) / 1e6

        without = [in_micro(model.held_out(stepped([o for o in everybody if o != slot]))) for slot in everybody]
        alone = [in_micro(model.held_out(stepped([slot]))) for slot in everybody]
        scores = Scores(start / 1e6, [share(whole, each) for each in without], [share(each, start) for each in alone])
        theta = stepped(range(believed))
        yield scores, theta


def _said(model: Model, theta: Float32s, local: LocalSteps, rows: Rows, round_: int, slot: int) -> Float32s:
    x, y = rows
    order = batches.slot_rows(bytes(32), round_, 0, slot, local.count * BATCH, len(y)).reshape(local.count, BATCH)

    def gradient(at: Float32s, index: int) -> Float32s:
        return np.asarray(model.gradient(at, x[order[index]], y[order[index]]))

    return contribution(local, theta, gradient, round_)
