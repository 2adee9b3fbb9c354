"""Build the digits task: data set, program and initial parameters as blobs under genesis/, and the task's JSON.

Rule: the same sources give the same blobs; whoever doubts the shipped ones runs this and compares the roots it prints.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from chain.primitives.blob import blob_root
from chain.primitives.hashing import Hash, blake2_256
from trainer import artifact, dataset, export, optimizers
from trainer.arrays import Float32s
from trainer.artifact import Program, Rows
from trainer.batches import permutation
from trainer.dataset import Manifest, Split

GENESIS = Path(__file__).resolve().parent.parent / "genesis"
SPLIT_SEED = blake2_256(b"potchain digits split")
HELD_OUT = 360  # a fifth of 1,797
BATCH = 256
HIDDEN = 256
CLASSES = 10
PIXEL_MAX = 16


class Mlp(nn.Module):
    """64 pixels, 256 hidden units, 10 digits."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits f32[rows, 10] of pixels u8[rows, 64]."""
        hidden = nn.relu(nn.Dense(HIDDEN, name="hidden")(x.astype(jnp.float32) / PIXEL_MAX))
        logits: jax.Array = nn.Dense(CLASSES, name="digits")(hidden)
        return logits


MODEL = Mlp()


def logits_of(params: Any, x: jax.Array) -> jax.Array:
    """Logits f32[rows, 10] under a tree of parameters."""
    logits = MODEL.apply({"params": params}, x)
    assert isinstance(logits, jax.Array)
    return logits


def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean cross-entropy of a batch."""
    return _cross_entropy(logits_of(params, x), y).mean()


def evaluation(params: Any, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Summed cross-entropy, and how many digits are named rightly."""
    logits = logits_of(params, x)
    return _cross_entropy(logits, y).sum(), (logits.argmax(axis=-1) == y).sum()


def _cross_entropy(logits: jax.Array, y: jax.Array) -> jax.Array:
    return -(jax.nn.log_softmax(logits) * jax.nn.one_hot(y, CLASSES)).sum(axis=-1)


def build_program() -> tuple[Program, Float32s]:
    """The program and its initial parameters f32[P]."""
    params: Any = MODEL.init(jax.random.key(0), jnp.zeros((1, PIXEL_MAX * 4), jnp.uint8))["params"]
    program, theta, _ = export.build(
        loss,
        evaluation,
        params,
        inputs=Rows((PIXEL_MAX * 4,), "uint8"),
        targets=Rows((), "uint8"),
        batch=BATCH,
        evaluate_batch=HELD_OUT,
    )
    return program, theta


def build_dataset() -> tuple[Manifest, dict[Hash, bytes]]:
    """The manifest, and the blobs of its four arrays by root."""
    digits = load_digits()
    pixels, labels = digits.data.astype(np.uint8), digits.target.astype(np.uint8)
    order = permutation(SPLIT_SEED, len(labels))
    blobs: dict[Hash, bytes] = {}

    def put(data: bytes) -> Hash:
        root = blob_root(data)
        blobs[root] = data
        return root

    def split(rows: Any) -> Split:
        return Split(put(pixels[rows].tobytes()), put(labels[rows].tobytes()), len(rows))

    return Manifest(train=split(order[:-HELD_OUT]), held_out=split(order[-HELD_OUT:])), blobs


def build() -> tuple[dict[str, str], dict[Hash, bytes]]:
    """The task's roots as hex under their JSON names, and every blob by root."""
    program, theta = build_program()
    manifest, blobs = build_dataset()
    roots: dict[str, str] = {}
    for name, data in (
        ("programRoot", artifact.encode(program)),
        ("datasetRoot", dataset.encode(manifest)),
        ("paramsRoot", optimizers.encode_params(theta)),
    ):
        root = blob_root(data)
        blobs[root] = data
        roots[name] = "0x" + root.hex()
    return roots, blobs


def main() -> None:
    """Write genesis/blobs/* and genesis/digits/task.json, and print the task."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    task_file = GENESIS / "digits" / "task.json"
    roots, blobs = build()
    stale = {Path(name) for name in json.loads(task_file.read_text())["blobs"]} if task_file.exists() else set()
    folder = GENESIS / "blobs"
    folder.mkdir(exist_ok=True)
    for path in stale:
        (folder / path).unlink(missing_ok=True)
    for root, data in blobs.items():
        (folder / root.hex()).write_bytes(data)
    task = {**roots, "blobs": sorted(root.hex() for root in blobs)}
    task_file.write_text(json.dumps(task, indent=2) + "\n")
    print(json.dumps(task, indent=2))


if __name__ == "__main__":
    main()
