"""Products of fewer bits: what a program rounds itself, hardware has nothing left of to round."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as jax_export
from jax.interpreters import mlir
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo

from trainer import admission, audit, task
from trainer.arrays import Float32s
from trainer.audit import Tolerance
from trainer.codecs import INT8
from trainer.export import ExportError, round_products
from trainer.operations import Refused
from trainer.task import Task

RNG = np.random.default_rng(3)
X, Y = RNG.standard_normal((64, 24)).astype(np.float32), RNG.standard_normal(64).astype(np.float32)
STRICTEST = Tolerance(510_000, 20)


def predicted(params: Any, x: jax.Array) -> jax.Array:
    return jnp.asarray(jnp.tanh(x @ params["hidden"]) @ params["out"])


def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.mean((predicted(params, x) - y) ** 2)


def evaluation(params: Any, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    return ((predicted(params, x) - y) ** 2).sum(), (y > 0).sum()


PARAMS = {
    "hidden": RNG.standard_normal((24, 32)).astype(np.float32),
    "out": RNG.standard_normal(32).astype(np.float32),
}
NET = Task("net", loss, evaluation, PARAMS, train=(X, Y), held_out=(X, Y), batch=64)


def gradient(precision: str, hardware_bits: int | None = None) -> Float32s:
    """What a task's program computes; on hardware that keeps so many bits of whatever is multiplied."""
    built = task.build(dataclasses.replace(NET, precision=precision))
    exported = jax_export.deserialize(bytearray(built.program.gradient))
    if hardware_bits is not None:
        with mlir.make_ir_context():
            module = ir.Module.parse(exported.mlir_module())
            round_products(module, hardware_bits)
            version = stablehlo.get_current_version()
            portable = stablehlo.serialize_portable_artifact(module, version)
        exported = dataclasses.replace(exported, mlir_module_serialized=portable)
    return np.asarray(jax.jit(exported.call)(built.theta, X, Y)[1])


def distance(one: Float32s, other: Float32s) -> float:
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "bits", "coarse"), [("tf32", 10, 1e-4), ("bf16", 7, 1e-3)])
def test_hardware_of_that_precision_computes_the_bits_that_a_cpu_does(precision: str, bits: int, coarse: float) -> None:
    here = gradient(precision)
    assert gradient(precision, bits).tobytes() == here.tobytes()
    # It is no float32 task, of which such hardware computes something else: an audit tells, as it tells a cheat.
    assert coarse < distance(here, gradient("float32")) < 30 * coarse
    assert not audit.compare(INT8.quantise(gradient("float32", bits), 0), gradient("float32"), STRICTEST).right
    assert audit.compare(INT8.quantise(gradient(precision, bits), 0), here, STRICTEST).right


def test_a_precision_that_there_is_not_is_refused_by_name() -> None:
    with pytest.raises(ExportError, match="precision: expected float32, tf32, bf16, got 'fp8'"):
        task.build(dataclasses.replace(NET, precision="fp8"))


@pytest.mark.parametrize(
    ("precision", "bits", "admitted"),
    [("high", 10, True), ("high", 7, True), ("default", 7, True), ("high", 11, False), ("default", 10, False)],
)
def test_a_product_is_admitted_where_its_precision_loses_nothing(precision: str, bits: int, admitted: bool) -> None:
    def rounded_product(x: jax.Array) -> jax.Array:
        few = jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=bits)
        return few @ few

    with jax.default_matmul_precision(precision):
        text = jax_export.export(jax.jit(rounded_product))(jnp.ones((4, 4))).mlir_module()
    with mlir.make_ir_context():
        module = ir.Module.parse(text)
        if admitted:
            assert admission.inspect(module, admission.Limits()).flops >= 2 * 4**3
        else:
            with pytest.raises(
                Refused, match=r"expected precision HIGHEST .*, or operands that are rounded to what it"
            ):
                admission.inspect(module, admission.Limits())


def test_a_product_of_one_rounded_operand_is_refused() -> None:
    def half_rounded(x: jax.Array) -> jax.Array:
        return jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=10) @ x

    with jax.default_matmul_precision("high"):
        text = jax_export.export(jax.jit(half_rounded))(jnp.ones((4, 4))).mlir_module()
    with mlir.make_ir_context(), pytest.raises(Refused, match="rounded to what it keeps"):
        admission.inspect(ir.Module.parse(text), admission.Limits())
