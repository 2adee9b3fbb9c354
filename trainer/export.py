"""Build a program artifact from a loss function: the tool side of a task, the only place that sees the task's Python.

Rule: what is exported carries no file names, runs on cpu, cuda and tpu from the same bytes, and multiplies matrices at
float32's full precision, since audits compare results across machines.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.interpreters import mlir
from jaxlib.mlir import ir, passmanager
from jaxlib.mlir.dialects import stablehlo

from trainer.arrays import Float32s
from trainer.artifact import Program, Rows, Tensor

PLATFORMS = ("cpu", "cuda", "tpu")

# params, x, y -> mean loss, and params, x, y -> (summed loss, correctly answered rows).
Loss = Callable[[Any, jax.Array, jax.Array], jax.Array]
Evaluation = Callable[[Any, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def build(
    loss: Loss, evaluation: Evaluation, params: Any, *, inputs: Rows, targets: Rows, batch: int, evaluate_batch: int
) -> tuple[Program, Float32s]:
    """The program of a model whose parameters are the tree `params`, and its initial flat vector f32[P]."""
    layout, theta = flatten(params)
    treedef = jax.tree_util.tree_structure(params)

    def unflatten(flat: jax.Array) -> Any:
        leaves = [flat[t.offset : t.offset + t.elements].reshape(t.shape) for t in layout]
        return jax.tree_util.tree_unflatten(treedef, leaves)

    def gradient(theta: jax.Array, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.value_and_grad(lambda flat: loss(unflatten(flat), x, y).astype(jnp.float32))(theta)

    def evaluate(theta: jax.Array, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        total, correct = evaluation(unflatten(theta), x, y)
        return total.astype(jnp.float32), correct.astype(jnp.int32)

    flat = _shape((theta.size,), "float32")
    program = Program(
        gradient=_exported(gradient, flat, _batch(inputs, batch), _batch(targets, batch)),
        evaluate=_exported(evaluate, flat, _batch(inputs, evaluate_batch), _batch(targets, evaluate_batch)),
        parameters=theta.size,
        batch=batch,
        evaluate_batch=evaluate_batch,
        inputs=inputs,
        targets=targets,
        layout=layout,
    )
    return program, theta


def flatten(params: Any) -> tuple[tuple[Tensor, ...], Float32s]:
    """The named layout of a tree of arrays (names are its paths), and the tree as one vector f32[P]."""
    tensors: list[Tensor] = []
    parts: list[Float32s] = []
    offset = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.asarray(leaf, dtype=np.float32)
        tensor = Tensor(jax.tree_util.keystr(path, simple=True, separator="."), array.shape, offset)
        tensors.append(tensor)
        parts.append(array.ravel())
        offset += tensor.elements
    return tuple(tensors), np.concatenate(parts)


def _batch(rows: Rows, count: int) -> jax.ShapeDtypeStruct:
    return _shape((count, *rows.shape), rows.dtype)


def _shape(shape: tuple[int, ...], dtype: str) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))  # type: ignore[no-untyped-call]


def _exported(function: Callable[..., Any], *shapes: jax.ShapeDtypeStruct) -> bytes:
    with jax.default_matmul_precision("highest"):
        exported = export.export(jax.jit(function), platforms=PLATFORMS)(*shapes)
    with mlir.make_ir_context():
        module = ir.Module.parse(exported.mlir_module())
        # Locations name the builder's files; without them the same program has the same bytes everywhere.
        passmanager.PassManager.parse("builtin.module(strip-debuginfo)").run(module.operation)
        version = stablehlo.get_version_from_compatibility_requirement(
            stablehlo.StablehloCompatibilityRequirement.WEEK_4
        )
        portable = stablehlo.serialize_portable_artifact(module, version)
    return bytes(dataclasses.replace(exported, mlir_module_serialized=portable).serialize())
