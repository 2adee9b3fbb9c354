"""Build a program artifact from a loss function: the tool side of a task, the only place that sees the task's Python.

Rule: what is exported carries no file names, runs on cpu, cuda and tpu from the same bytes, and multiplies the same
numbers everywhere, since audits compare results across machines: float32 at its full precision, or what was rounded
before to the bits that faster hardware keeps. What workers would refuse is refused here, with the line of the model
that it comes from.

Parameters are one vector f32[P]: the leaves of the tree in the order of `jax.tree_util.tree_leaves` (keys of
dictionaries sorted), each in row-major order; a leaf's name is its path, joined by dots.
"""

from __future__ import annotations

import dataclasses
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.extend.core import Literal
from jax.interpreters import mlir
from jaxlib.mlir import ir, passmanager
from jaxlib.mlir.dialects import func, stablehlo

from trainer import admission
from trainer.admission import Cost
from trainer.arrays import Float32s
from trainer.artifact import Program, Rows, Tensor
from trainer.operations import EXPONENT_BITS, MANTISSA_BITS, Refused

PLATFORMS = ("cpu", "cuda", "tpu")
# What products may be of, and how JAX and StableHLO call the precision at which hardware multiplies such numbers.
PRECISIONS = {"float32": "HIGHEST", "tf32": "HIGH", "bf16": "DEFAULT"}

# params, x, y -> mean loss, and params, x, y -> (summed loss, correctly answered rows).
Loss = Callable[[Any, jax.Array, jax.Array], jax.Array]
Evaluation = Callable[[Any, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


class ExportError(ValueError):
    """A model cannot be a task's; the message says what of it, where, and what to do."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What one call of each function of a program costs at most."""

    gradient: Cost
    evaluate: Cost


def build(
    loss: Loss,
    evaluation: Evaluation,
    params: Any,
    *,
    inputs: Rows,
    targets: Rows,
    batch: int,
    evaluate_batch: int,
    precision: str = "float32",
) -> tuple[Program, Float32s, Costs]:
    """The program of a model whose parameters are the tree `params`, its initial flat vector f32[P], and its costs.

    `precision` is what products are of, one of `PRECISIONS`. ExportError when the model cannot be exported or would not
    be admitted.
    """
    if precision not in PRECISIONS:
        raise ExportError(f"precision: expected {', '.join(PRECISIONS)}, got {precision!r}")
    layout, theta = flatten(params)
    treedef = jax.tree_util.tree_structure(params)

    def tree_of(flat: jax.Array) -> Any:
        leaves = [flat[t.offset : t.offset + t.elements].reshape(t.shape) for t in layout]
        return jax.tree_util.tree_unflatten(treedef, leaves)

    def gradient(theta: jax.Array, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        # Of the tree and not of the flat vector, of which each leaf's gradient is padded to its length, and added up.
        value, tree = jax.value_and_grad(lambda params: loss(params, x, y).astype(jnp.float32))(tree_of(theta))
        return value, jnp.concatenate([leaf.ravel() for leaf in jax.tree_util.tree_leaves(tree)])

    def evaluate(theta: jax.Array, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        total, correct = evaluation(tree_of(theta), x, y)
        return total.astype(jnp.float32), correct.astype(jnp.int32)

    flat = _shape((theta.size,), "float32")
    training = _batch(inputs, batch), _batch(targets, batch)
    evaluating = _batch(inputs, evaluate_batch), _batch(targets, evaluate_batch)
    with _traced("loss"):
        _require_gradients(loss, params, layout, *training)
    with _traced("evaluation"):
        _require_evaluation(evaluation, params, *evaluating)
    with _traced("the gradient of loss"):
        gradient_bytes, gradient_cost = _exported(precision, gradient, flat, *training)
    with _traced("evaluation"):
        evaluate_bytes, evaluate_cost = _exported(precision, evaluate, flat, *evaluating)
    program = Program(
        gradient=gradient_bytes,
        evaluate=evaluate_bytes,
        parameters=theta.size,
        batch=batch,
        evaluate_batch=evaluate_batch,
        inputs=inputs,
        targets=targets,
        layout=layout,
    )
    return program, theta, Costs(gradient_cost, evaluate_cost)


def flatten(params: Any) -> tuple[tuple[Tensor, ...], Float32s]:
    """The named layout of a tree of float32 arrays, and the tree as one vector f32[P]."""
    tensors: list[Tensor] = []
    parts: list[Float32s] = []
    offset = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = _name(path)
        # No array, or one of random keys, has no such type.
        if str(getattr(leaf, "dtype", type(leaf).__name__)) != "float32":
            raise ExportError(
                f"parameter {name!r}: expected a float32 array, got {getattr(leaf, 'dtype', type(leaf).__name__)}; "
                "convert it, or leave what is not trained (counters, statistics, random keys) out of the parameters"
            )
        tensor = Tensor(name, tuple(leaf.shape), offset)
        tensors.append(tensor)
        parts.append(np.asarray(leaf).ravel())
        offset += tensor.elements
    if not offset:
        raise ExportError("expected parameters, got a tree without arrays")
    return tuple(tensors), np.concatenate(parts)


def unflatten(like: Any, theta: Float32s) -> Any:
    """A tree as `like`, with the numbers of a vector f32[P]; its leaves are numpy arrays."""
    layout, _ = flatten(like)
    if theta.shape != (sum(tensor.elements for tensor in layout),):
        raise ExportError(f"expected {sum(tensor.elements for tensor in layout):,} parameters, got {theta.shape}")
    leaves = [theta[t.offset : t.offset + t.elements].reshape(t.shape) for t in layout]
    return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(like), leaves)


def restore(like: Any, tensors: Mapping[str, Float32s]) -> Any:
    """A tree as `like`, with named tensors such as a fetched model's file has."""
    layout, _ = flatten(like)
    expected = {tensor.name: tensor.shape for tensor in layout}
    got = {name: tensor.shape for name, tensor in tensors.items()}
    if got != expected:
        wrong = sorted(name for name in expected | got if expected.get(name) != got.get(name))
        raise ExportError(f"these are another model's tensors: {', '.join(wrong[:4])} differ in name or shape")
    return unflatten(like, np.concatenate([np.asarray(tensors[t.name], np.float32).ravel() for t in layout]))


def _batch(rows: Rows, count: int) -> jax.ShapeDtypeStruct:
    return _shape((count, *rows.shape), rows.dtype)


def _shape(shape: tuple[int, ...], dtype: str) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))  # type: ignore[no-untyped-call]


def _name(path: Any) -> str:
    # A leaf of an nnx state is the value of a variable, which has the name.
    return jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")


def _exported(precision: str, function: Callable[..., Any], *shapes: jax.ShapeDtypeStruct) -> tuple[bytes, Cost]:
    setting = PRECISIONS[precision]
    with jax.default_matmul_precision(setting.lower()):
        exported = export.export(jax.jit(function), platforms=PLATFORMS)(*shapes)
    with mlir.make_ir_context():
        module = ir.Module.parse(exported.mlir_module())
        _write_composites_out(module)
        if setting in MANTISSA_BITS:
            round_products(module, MANTISSA_BITS[setting])
        cost = admission.inspect(module, admission.Limits())
        if exported.ordered_effects or exported.unordered_effects:
            raise Refused("it has effects: leave debug prints and callbacks out")
        # Locations name the builder's files; without them the same program has the same bytes everywhere.
        passmanager.PassManager.parse("builtin.module(strip-debuginfo)").run(module.operation)
        version = stablehlo.get_version_from_compatibility_requirement(
            stablehlo.StablehloCompatibilityRequirement.WEEK_4
        )
        portable = stablehlo.serialize_portable_artifact(module, version)
    return bytes(dataclasses.replace(exported, mlir_module_serialized=portable).serialize()), cost


def _write_composites_out(module: Any) -> None:
    """Call what a composite (a top-k, an arc sine) is made of: admission knows no operation by a name of its own."""
    composites: list[Any] = []

    def collect(operation: Any) -> Any:
        if operation.name == "stablehlo.composite":
            composites.append(operation)
        return ir.WalkResult.ADVANCE

    module.operation.walk(collect)
    for composite in composites:
        callee = ir.FlatSymbolRefAttr(composite.attributes["decomposition"]).value
        with ir.InsertionPoint(composite), composite.location:
            call = func.CallOp([result.type for result in composite.results], callee, list(composite.operands))
        for old, new in zip(composite.results, call.results, strict=True):
            old.replace_all_uses_with(new)
        composite.erase()


def round_products(module: Any, mantissa_bits: int) -> None:
    """Round what products are of, as hardware would that keeps so many bits; for it, nothing is left to round."""
    products: list[Any] = []

    def collect(operation: Any) -> Any:
        if operation.name in ("stablehlo.dot_general", "stablehlo.convolution"):
            products.append(operation)
        return ir.WalkResult.ADVANCE

    module.operation.walk(collect)
    i32 = ir.IntegerType.get_signless(32)
    bits = ir.IntegerAttr.get(i32, EXPONENT_BITS), ir.IntegerAttr.get(i32, mantissa_bits)
    for product in products:
        for place, operand in enumerate(list(product.operands)):
            if str(ir.RankedTensorType(operand.type).element_type) == "f32":
                with ir.InsertionPoint(product), product.location:
                    product.operands[place] = stablehlo.ReducePrecisionOp(operand, *bits).result


def _require_gradients(loss: Loss, params: Any, layout: Sequence[Tensor], *batch: jax.ShapeDtypeStruct) -> None:
    """Refuse a loss that is no float32 number, and parameters that it does not depend on."""
    result = jax.eval_shape(loss, params, *batch)
    if getattr(result, "shape", None) != () or str(result.dtype) != "float32":
        raise ExportError(f"loss: expected one float32 number, the batch's mean, got {result}")
    traced = jax.make_jaxpr(jax.grad(loss))(params, *batch).jaxpr
    for equation in traced.eqns:
        if equation.effects:
            raise ExportError(
                f"loss: {equation.primitive} has an effect: leave debug prints and callbacks out"
                f"{_where(_traceback_of(equation))}"
            )
    # A gradient that is zero whatever goes in is made from nothing.
    made: dict[Any, bool] = dict.fromkeys(traced.invars, True)
    for equation in traced.eqns:
        depends = any(made.get(value, False) for value in equation.invars if not isinstance(value, Literal))
        made.update(dict.fromkeys(equation.outvars, depends))
    for tensor, value in zip(layout, traced.outvars, strict=True):
        if isinstance(value, Literal) or not made.get(value, False):
            raise ExportError(
                f"parameter {tensor.name!r} gets no gradient: the loss does not depend on it; use it, or leave it out "
                "of the parameters"
            )


def _require_evaluation(evaluation: Evaluation, params: Any, *batch: jax.ShapeDtypeStruct) -> None:
    found = jax.eval_shape(evaluation, params, *batch)
    if not isinstance(found, tuple | list) or [getattr(part, "shape", None) for part in found] != [(), ()]:
        raise ExportError(f"evaluation: expected two numbers, (sum of losses, right answers), got {found}")
    kind = found[1].dtype
    if not jnp.issubdtype(kind, jnp.integer) or kind.itemsize < 4:
        # A mean, as often as not: of a batch it is 0 as an integer, in every round that somebody pays for.
        raise ExportError(
            f"evaluation: expected an int32 for the number of right answers, got {kind}: take .sum() of booleans, not "
            "their mean, or .astype(jnp.int32) of a count; and sum the losses, too"
        )


@contextmanager
def _traced(what: str) -> Iterator[None]:
    """Say of whatever goes wrong with a model what it was about, and the line of the model that it comes from."""
    try:
        yield
    except ExportError:
        raise
    except Refused as error:
        places = (f"{file}:{line}" for file, line in re.findall(r'"([^"]+\.py)":(\d+)', error.location))
        raise ExportError(f"{what}: {error.message}{_where(places)}") from None
    except Exception as error:  # JAX's own about a stranger's code: a type, a shape, something that depends on data.
        frames = reversed(traceback.extract_tb(error.__traceback__))
        text = str(error).strip().splitlines()
        where = _where(f"{frame.filename}:{frame.lineno}" for frame in frames)
        raise ExportError(f"{what}: {type(error).__name__}: {text[0] if text else ''}{where}") from error


def _traceback_of(equation: Any) -> Iterator[str]:
    """Where an equation was traced, innermost first."""
    frames = getattr(equation.source_info.traceback, "frames", ())
    return (f"{frame.file_name}:{frame.line_num}" for frame in frames)


def _where(places: Iterable[str]) -> str:
    """The first of some places that is the model's own, in brackets; nothing where none is."""
    return next((f" ({place})" for place in places if _is_models(place)), "")


def _is_models(place: str) -> bool:
    """Whether a place is neither in a library nor in this package."""
    return not any(part in place for part in ("site-packages", "dist-packages", str(Path(__file__).parent), "<frozen"))
