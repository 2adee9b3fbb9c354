"""The digits task in this process: its model, data and batches, for simulations of training that need no chain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.flatten_util import ravel_pytree

from chain.primitives.hashing import Hash, blake2_256
from scripts.build_digits import MODEL, build_dataset, evaluation, loss
from trainer import batches, descent
from trainer.arrays import Float32s
from trainer.codecs import Codec
from trainer.codecs.memory import EMPTY
from trainer.codecs.updates import Update
from trainer.descent import Descent
from trainer.local import LocalSteps, contribution
from trainer.optimizers import FRESH

Bytes = npt.NDArray[np.uint8]
CLASSES = 10


class Learnable(Protocol):
    """A model and its data, for simulations: over flat parameters f32[P]."""

    @property
    def rows(self) -> int:
        """How many rows are trained on."""

    def start(self, seed: int) -> Float32s:
        """Initial parameters f32[P]."""

    def gradient(self, theta: Float32s, rows: batches.Rows) -> Float32s:
        """The gradient of the mean loss of these training rows."""

    def held_out(self, theta: Float32s) -> tuple[float, float]:
        """Mean loss and accuracy on the rows that are held out."""


class Digits:
    """The data set, and the model's functions over flat parameters f32[P]."""

    @cached_property
    def _data(self) -> tuple[Bytes, Bytes, Bytes, Bytes]:
        manifest, blobs = build_dataset()

        def read(root: Hash, count: int) -> Bytes:
            return np.frombuffer(blobs[root], np.uint8).reshape(count, -1)

        train, held_out = manifest.train, manifest.held_out
        return (
            read(train.x, train.count),
            read(train.y, train.count).ravel(),
            read(held_out.x, held_out.count),
            read(held_out.y, held_out.count).ravel(),
        )

    @cached_property
    def _functions(self) -> tuple[Callable[..., Any], ...]:
        _, unravel = ravel_pytree(_params(0))
        gradient = jax.grad(lambda theta, x, y: loss(unravel(theta), x, y))
        return (
            jax.jit(gradient),
            jax.jit(jax.vmap(gradient, (None, 0, 0))),
            jax.jit(lambda theta, x, y: evaluation(unravel(theta), x, y)),
        )

    @property
    def rows(self) -> int:
        """How many rows are trained on."""
        return len(self._data[1])

    def start(self, seed: int) -> Float32s:
        """Initial parameters f32[P]."""
        return np.asarray(ravel_pytree(_params(seed))[0], np.float32)

    def gradient(self, theta: Float32s, rows: batches.Rows) -> Float32s:
        """The gradient of the mean loss of these training rows."""
        x, y, _, _ = self._data
        return np.asarray(self._functions[0](theta, x[rows], y[rows]))

    def gradients(self, theta: Float32s, rows: batches.Rows, *, mislabelled: int = 0) -> Float32s:
        """The gradients f32[n, P] of n batches [n, batch]; in the first so many, each class is called its opposite."""
        x, y, _, _ = self._data
        targets = y[rows]
        targets[:mislabelled] = CLASSES - 1 - targets[:mislabelled]
        return np.asarray(self._functions[1](theta, x[rows], targets))

    def held_out(self, theta: Float32s) -> tuple[float, float]:
        """Mean loss and accuracy on the rows that are held out."""
        _, _, x, y = self._data
        total, right = self._functions[2](theta, x, y)
        return float(total) / len(y), int(right) / len(y)


@cache
def digits() -> Digits:
    """The one data set of this process."""
    return Digits()


def _params(seed: int) -> Any:
    return MODEL.init(jax.random.key(seed), jnp.zeros((1, 64), jnp.uint8))["params"]


@dataclass(frozen=True)
class Training:
    """How many workers train, on what, how often they speak, how, and what becomes of what they say."""

    outer: Descent
    codec: Codec | None = None  # none: float32 as it is, for comparison
    local: LocalSteps | None = None
    workers: int = 4
    batch: int = 32
    # Rounds after which workers are drawn anew, and what they have not sent is lost; none: never.
    tenure: int | None = None

    @property
    def steps(self) -> int:
        """Batches of a slot in a round."""
        return self.local.count if self.local else 1


@dataclass(frozen=True)
class Trained:
    """What came of it: held-out loss and accuracy, and the bytes that a worker sent for each batch."""

    loss: float
    accuracy: float
    bytes_per_step: float


def train(
    training: Training,
    seed: int,
    steps: int,
    combine: Callable[[Sequence[Update]], Float32s],
    task: Learnable | None = None,
) -> Trained:
    """Train for so many batches a worker as the protocol does, without a chain; digits unless told."""
    task, count = task or digits(), training.workers
    theta, state = task.start(seed), FRESH
    memories, sent = [EMPTY] * count, 0
    rounds = steps // training.steps
    for round_index in range(rounds):
        if training.tenure and round_index % training.tenure == 0:
            memories = [EMPTY] * count
        said = [_contribution(task, training, theta, seed, round_index, slot) for slot in range(count)]
        if training.codec is None:
            sent += 4 * theta.size * count
            gradient = _float32_mean(said)
        else:
            updates = []
            for slot, values in enumerate(said):
                taken = training.codec.take(memories[slot], values)
                update = training.codec.quantise(taken.meant, round_index)
                memories[slot] = training.codec.give(taken, update)
                updates.append(update)
                sent += len(update.encode())
            gradient = combine(updates)
        theta, state = descent.step(training.outer, state, theta, gradient)
    return Trained(*task.held_out(theta), sent / count / (rounds * training.steps))


def _contribution(
    task: Learnable, training: Training, theta: Float32s, seed: int, round_index: int, slot: int
) -> Float32s:
    rows = batches.slot_rows(
        blake2_256(seed.to_bytes(4, "little")), round_index, 0, slot, training.batch * training.steps, task.rows
    ).reshape(training.steps, training.batch)
    return contribution(training.local, theta, lambda at, index: task.gradient(at, rows[index]), round_index)


def _float32_mean(said: Sequence[Float32s]) -> Float32s:
    total = np.zeros_like(said[0])
    for values in said:
        total = total + values
    return total / np.float32(len(said))
