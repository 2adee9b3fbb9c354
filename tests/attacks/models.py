"""What the rounds of a story make of the model by plain arithmetic, from honest updates alone, and without any attack.

Rule: gradients are JAX's own, not an artifact's; sums are of fractions; nothing of the participants' code is used but
what reads a blob and draws its rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.flatten_util import ravel_pytree

from chain.primitives.blob import blob_root
from tests.attacks.campaign import Story
from tests.attacks.ground import POLICY, RATE
from tests.trainer.kit import CLASSES, PIXELS, evaluation, loss, small_task
from tests.trainer.plain_robust import values_of
from tests.trainer.test_rounds import training_rows
from trainer import audit, batches, dataset, optimizers
from trainer.arrays import Float32s
from trainer.audit import Tolerance
from trainer.codecs import INT8
from trainer.codecs.updates import DenseUpdate
from trainer.optimizers import PICO

TOLERANCE = Tolerance(int(str(POLICY["toleranceMicroSteps"])), int(str(POLICY["outliersPpm"])))


@dataclass(frozen=True, slots=True)
class Outcome:
    """A final round: whether only honest slots were accepted, the model that they make, and how far off it is led."""

    accepted: list[int]
    honest: list[int]
    params_root: bytes
    # The distance to what the same slots' own gradients would have made of it, in parts of the step's length.
    led_astray: float


@dataclass(frozen=True, slots=True)
class Model:
    """Held-out loss and accuracy."""

    loss: float
    accuracy: float


_params, _unravel = ravel_pytree({"w": jnp.zeros((PIXELS, CLASSES), jnp.float32), "b": jnp.zeros(CLASSES, jnp.float32)})
_gradient = jax.jit(jax.grad(lambda theta, x, y: loss(_unravel(theta), x, y)))


def outcomes(story: Story) -> tuple[dict[int, Outcome], Model, Model]:
    """Each final round's outcome; the last model; and what as many rounds make in which nobody cheats."""
    theta = untouched = small_task().theta
    found = {}
    for round_ in sorted(story.records):
        record, cheated = story.records[round_], story.cheated(round_)
        revealed = [index for index, slot in enumerate(record.slots) if slot.update_root is not None]
        honest = [index for index in revealed if index not in cheated]
        updates, own = [], []
        for slot in honest:
            root = record.slots[slot].update_root
            assert root is not None
            updates.append(INT8.decode(story.blobs[root], theta.size, round_))
            own.append(gradient(story, theta, round_, slot))
            verdict = audit.compare(updates[-1], own[-1], TOLERANCE)
            assert verdict.right, (round_, slot, verdict)
        step = mean(updates) * np.float32(RATE / PICO)
        right = mean([INT8.quantise(each, round_) for each in own]) * np.float32(RATE / PICO)
        theta = theta - step
        found[round_] = Outcome(
            accepted=[index for index, slot in enumerate(record.slots) if slot.accepted],
            honest=honest,
            params_root=blob_root(optimizers.encode_params(theta)),
            led_astray=float(np.linalg.norm(step - right) / np.linalg.norm(right)),
        )
        everybody = [gradient(story, untouched, round_, slot) for slot in range(len(record.slots))]
        untouched = untouched - mean([INT8.quantise(each, round_) for each in everybody]) * np.float32(RATE / PICO)
    return found, held_out(theta), held_out(untouched)


def gradient(story: Story, theta: Float32s, round_: int, slot: int) -> Float32s:
    """What a slot is to say."""
    x, y = training_rows()
    record = story.records[round_]
    rows = batches.slot_rows(story.seed, round_, record.attempt, slot, small_task().program.batch, len(y))
    return np.asarray(_gradient(theta, x[rows], y[rows]), np.float32)


def mean(updates: Sequence[DenseUpdate]) -> Float32s:
    """The sum of fractions, divided in float64 and rounded once."""
    columns = zip(*map(values_of, updates), strict=True)
    return np.array([float(sum(column, Fraction(0))) / len(updates) for column in columns], np.float32)


def held_out(theta: Float32s) -> Model:
    """How good parameters are."""
    task = small_task()
    split = dataset.parse(task.blobs[task.dataset_root]).held_out
    x: npt.NDArray[np.uint8] = np.frombuffer(task.blobs[split.x], np.uint8).reshape(split.count, -1)
    y = np.frombuffer(task.blobs[split.y], np.uint8)
    total, right = evaluation(_unravel(jnp.asarray(theta)), jnp.asarray(x), jnp.asarray(y))
    return Model(float(total) / split.count, float(right) / split.count)
