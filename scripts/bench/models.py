"""The three models that training is measured with, each as a chain's task and as functions of this process.

Digits come with the tests. The examples read what Debian has: where its packages are not installed, any folder does,

    apt-get download dataset-fashion-mnist bible-kjv-text && for deb in *.deb; do dpkg -x "$deb" FOLDER; done
    export FASHION_MNIST=FOLDER/usr/share/datasets/fashion-mnist BIBLE_DATA=FOLDER/usr/lib/bible.data
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "examples")]

from trainer.arrays import Float32s  # noqa: E402
from trainer.batches import Rows  # noqa: E402
from trainer.task import Task  # noqa: E402

NAMES = ("digits", "fashion", "bible")
# Rows of one call when what is held out is evaluated: a transformer's attention over all of them would fill a memory.
EVALUATED_ROWS = 64


def task_of(name: str, batch: int) -> Task:
    """The task of a model, with so many rows a batch."""
    from dataclasses import replace

    task = {"digits": _digits, "fashion": _example, "bible": _example}[name](name)
    return replace(task, batch=batch)


def train_of(task: Task) -> tuple[Any, Any]:
    """What a model is trained on: all three have their data with the task."""
    assert task.train is not None
    return task.train


def initial(name: str, seed: int) -> Any:
    """A model's initial parameters, another tree for each seed."""
    import jax
    import jax.numpy as jnp

    if name == "bible":
        import bible  # type: ignore[import-not-found]
        from flax import nnx

        return nnx.split(bible.Network(nnx.Rngs(seed)), nnx.Param, ...)[1]
    if name == "fashion":
        import fashion  # type: ignore[import-not-found]

        return fashion.network.init(jax.random.key(seed), jnp.zeros((1, 28, 28), jnp.uint8))
    from scripts.build_digits import MODEL

    return MODEL.init(jax.random.key(seed), jnp.zeros((1, 64), jnp.uint8))["params"]


class Learner:
    """A model over flat parameters f32[P], as `tests.trainer.digits.train` takes it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._task = task_of(name, 1)
        self._train = train_of(self._task)

    @property
    def rows(self) -> int:
        """How many rows are trained on."""
        return len(self._train[0])

    def start(self, seed: int) -> Float32s:
        """Initial parameters f32[P]."""
        from jax.flatten_util import ravel_pytree

        return np.asarray(ravel_pytree(initial(self._name, seed))[0], np.float32)

    def gradient(self, theta: Float32s, rows: Rows) -> Float32s:
        """The gradient of the mean loss of these training rows."""
        x, y = self._train
        return np.asarray(self._functions[0](theta, x[rows], y[rows]))

    def held_out(self, theta: Float32s) -> tuple[float, float]:
        """Mean loss and accuracy on the rows that are held out."""
        x, y = self._task.held_out
        total, right = 0.0, 0
        for first in range(0, len(y), EVALUATED_ROWS):
            last = first + EVALUATED_ROWS
            loss_sum, correct = self._functions[1](theta, x[first:last], y[first:last])
            total, right = total + float(loss_sum), right + int(correct)
        return total / len(y), right / len(y)

    @cached_property
    def _functions(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        import jax
        from jax.flatten_util import ravel_pytree

        task = self._task
        _, unravel = ravel_pytree(task.params)
        return (
            jax.jit(jax.grad(lambda theta, x, y: task.loss(unravel(theta), x, y))),
            jax.jit(lambda theta, x, y: task.evaluation(unravel(theta), x, y)),
        )


def _digits(name: str) -> Task:
    from scripts.build_digits import build_dataset, evaluation, loss

    manifest, blobs = build_dataset()

    def pair(split: Any) -> tuple[Any, Any]:
        x = np.frombuffer(blobs[split.x], np.uint8).reshape(split.count, -1)
        return x, np.frombuffer(blobs[split.y], np.uint8)

    return Task(
        name,
        loss,
        evaluation,
        initial(name, 0),
        train=pair(manifest.train),
        held_out=pair(manifest.held_out),
        batch=256,
    )


def _example(name: str) -> Task:
    from importlib import import_module

    found: Task = import_module(name).task()
    return found
