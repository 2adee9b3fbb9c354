"""A small real task: a linear model on made-up digits, its blobs, and where they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from chain.primitives.blob import blob_root
from chain.primitives.hashing import Hash
from trainer import artifact, dataset, export, optimizers
from trainer.arrays import Float32s
from trainer.artifact import Program, Rows
from trainer.dataset import Manifest, Split

BATCH = 32
PIXELS = 64
CLASSES = 10
WIDTH = 520
TRAIN, HELD_OUT = 600, 40


@dataclass(frozen=True)
class SmallTask:
    """A task's program and initial parameters, with every blob by its root."""

    program: Program
    theta: Float32s
    program_root: Hash
    dataset_root: Hash
    params_root: Hash
    blobs: dict[Hash, bytes]


def logits(params: Any, x: jax.Array) -> jax.Array:
    return jnp.asarray(x.astype(jnp.float32) / 16 @ params["w"] + params["b"])


def wide_logits(params: Any, x: jax.Array) -> jax.Array:
    hidden = jax.nn.relu(x.astype(jnp.float32) / 16 @ params["w1"] + params["b1"])
    return jnp.asarray(hidden @ params["w2"] + params["b2"])


Loss = Callable[[Any, jax.Array, jax.Array], jax.Array]
Evaluate = Callable[[Any, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def _objectives(model: Callable[[Any, jax.Array], jax.Array]) -> tuple[Loss, Evaluate]:
    """A model's loss, and its evaluation."""

    def cross_entropy(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return -(jax.nn.log_softmax(model(params, x)) * jax.nn.one_hot(y, CLASSES)).sum(axis=-1)

    def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return cross_entropy(params, x, y).mean()

    def evaluation(params: Any, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        return cross_entropy(params, x, y).sum(), (model(params, x).argmax(axis=-1) == y).sum()

    return loss, evaluation


loss, evaluation = _objectives(logits)


@cache
def small_task() -> SmallTask:
    rng = np.random.default_rng(5)
    params = {"w": rng.standard_normal((PIXELS, CLASSES)).astype(np.float32) / 8, "b": np.zeros(CLASSES, np.float32)}
    return _task(rng, (loss, evaluation), params)


@cache
def wide_task() -> SmallTask:
    """The same with a hidden layer: 39,010 parameters, which are three chunks of 64 KiB."""
    rng = np.random.default_rng(6)
    shapes = {"w1": (PIXELS, WIDTH), "b1": (WIDTH,), "w2": (WIDTH, CLASSES), "b2": (CLASSES,)}
    params = {name: rng.standard_normal(shape).astype(np.float32) / 8 for name, shape in shapes.items()}
    return _task(rng, _objectives(wide_logits), params)


def _task(rng: np.random.Generator, objectives: tuple[Loss, Evaluate], params: Any) -> SmallTask:
    program, theta, _ = export.build(
        *objectives,
        params,
        inputs=Rows((PIXELS,), "uint8"),
        targets=Rows((), "uint8"),
        batch=BATCH,
        evaluate_batch=HELD_OUT // 2,
    )
    blobs: dict[Hash, bytes] = {}

    def put(data: bytes) -> Hash:
        blobs[blob_root(data)] = data
        return blob_root(data)

    def split(count: int) -> Split:
        x, y = rng.integers(0, 17, (count, PIXELS)).astype(np.uint8), rng.integers(0, 10, count).astype(np.uint8)
        # Each digit has a bright pixel of its own, so that there is something to learn.
        x[np.arange(count), y] = 16
        return Split(put(x.tobytes()), put(y.tobytes()), count)

    return SmallTask(
        program=program,
        theta=theta,
        program_root=put(artifact.encode(program)),
        dataset_root=put(dataset.encode(Manifest(split(TRAIN), split(HELD_OUT)))),
        params_root=put(optimizers.encode_params(theta)),
        blobs=blobs,
    )


def batch(seed: int) -> tuple[bytes, bytes]:
    """Inputs and targets of one batch."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 17, BATCH * PIXELS).astype(np.uint8).tobytes(), rng.integers(0, 10, BATCH).astype(
        np.uint8
    ).tobytes()
