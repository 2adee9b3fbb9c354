"""Hostile programs, each with what is said about it, as MLIR and as artifacts that a task could ship.

Rule: every one is built here, by `jax.export` or as text that MLIR parses, so that a reader sees what it does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.interpreters import mlir
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo

from trainer.artifact import Program, Rows, Tensor

PARAMETERS, BATCH = 4, 2


def exported(function: Callable[..., Any], *, platforms: tuple[str, ...] = ("cpu",)) -> str:
    """A function of f32[4], as its export says it."""
    with jax.default_matmul_precision("highest"):
        shape = jax.ShapeDtypeStruct((4,), jnp.float32)  # type: ignore[no-untyped-call]
        return str(export.export(jax.jit(function), platforms=platforms)(shape).mlir_module())


def module(body: str, rest: str = "") -> str:
    """A program from f32[4] to f32[4]."""
    return f"module {{ func.func public @main(%x: tensor<4xf32>) -> tensor<4xf32> {{ {body} }} {rest} }}"


def loop(stop: str, step: int = 1, direction: str = "LT") -> str:
    """A loop that counts from zero, by `step`, while its counter compares to %stop as `direction` says."""
    return module(
        f"""
        %zero = stablehlo.constant dense<0> : tensor<i32>
        %step = stablehlo.constant dense<{step}> : tensor<i32>
        {stop}
        %r:2 = stablehlo.while(%i = %zero, %c = %x) : tensor<i32>, tensor<4xf32>
        cond {{
          %p = stablehlo.compare {direction}, %i, %stop, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
          stablehlo.return %p : tensor<i1>
        }} do {{
          %n = stablehlo.add %i, %step : tensor<i32>
          %d = stablehlo.add %c, %c : tensor<4xf32>
          stablehlo.return %n, %d : tensor<i32>, tensor<4xf32>
        }}
        return %r#1 : tensor<4xf32>
        """
    )


TEN = "%stop = stablehlo.constant dense<10> : tensor<i32>"


def doubling(depth: int) -> str:
    """Functions that each call the next one twice: 2^depth additions in a few lines."""
    calls = "%a = func.call @f{0}(%x) : (tensor<4xf32>) -> tensor<4xf32> %b = func.call @f{0}(%a) : "
    head = "func.func private @f{0}(%x: tensor<4xf32>) -> tensor<4xf32>"
    functions = [
        f"{head.format(i)} {{ {calls.format(i + 1)}(tensor<4xf32>) -> tensor<4xf32> return %b : tensor<4xf32> }}"
        for i in range(depth)
    ]
    functions.append(f"{head.format(depth)} {{ %s = stablehlo.add %x, %x : tensor<4xf32> return %s : tensor<4xf32> }}")
    return module(
        "%r = func.call @f0(%x) : (tensor<4xf32>) -> tensor<4xf32> return %r : tensor<4xf32>", " ".join(functions)
    )


def nested(x: jax.Array) -> jax.Array:
    """Sixty thousand turns of sixty thousand turns."""

    def double(_: int, value: jax.Array) -> jax.Array:
        return value * 2

    def inner(_: int, value: jax.Array) -> jax.Array:
        return jnp.asarray(jax.lax.fori_loop(0, 60_000, double, value))

    return jnp.asarray(jax.lax.fori_loop(0, 60_000, inner, x))


def many(count: int) -> str:
    """That many additions, one after the other."""
    steps = "\n".join(f"%s{i + 1} = stablehlo.add %s{i}, %s{i} : tensor<4xf32>" for i in range(count))
    return module(f"%s0 = stablehlo.negate %x : tensor<4xf32> {steps} return %s{count} : tensor<4xf32>")


def deep(levels: int) -> str:
    """A choice in a choice in a choice."""
    inner = "stablehlo.return %x : tensor<4xf32>"
    for level in range(levels):
        inner = (
            f'%c{level} = "stablehlo.case"(%zero) ({{ {inner} }}) : (tensor<i32>) -> tensor<4xf32> '
            f"stablehlo.return %c{level} : tensor<4xf32>"
        )
    last = f"stablehlo.return %c{levels - 1}"
    return module(f"%zero = stablehlo.constant dense<0> : tensor<i32> {inner}".replace(last, f"return %c{levels - 1}"))


def windows(x: jax.Array) -> jax.Array:
    """A hundred million additions that depend on no input: the compiler makes them, one by one, for minutes."""
    table = jax.lax.broadcasted_iota(jnp.float32, (128, 128), 0)
    return x + jnp.asarray(jax.lax.reduce_window(table, 0.0, jax.lax.add, (64, 64), (1, 1), "SAME")).sum()


def folded(x: jax.Array) -> jax.Array:
    """A table that is sorted, and sorted again, before the program runs."""
    table = jnp.asarray(np.random.default_rng(1).standard_normal(1_000_000).astype(np.float32))
    return x + jnp.sort(jnp.sin(jnp.sort(table)))[:4]


def crowded(x: jax.Array) -> jax.Array:
    """Tensors of half a gigabyte, each one alive until the last."""
    large = [jnp.sin(jnp.broadcast_to(x[:1] * n, (1 << 27,))) for n in range(9)]
    return x + jnp.stack([each.sum() for each in large] + [each[0] for each in large]).sum()


def rereading(x: jax.Array) -> jax.Array:
    """One number of a quarter of a gigabyte, again and again: little is written, and everything read."""
    large = jnp.broadcast_to(x[:1], (1 << 26,))
    return jnp.asarray(jax.lax.fori_loop(0, 60_000, lambda _, c: c + (large * c[0]).max(), x))


def one(operation: str) -> str:
    """A program of one operation, as MLIR writes it in general; %x goes in and %r comes out."""
    return module(f"{operation} return %r : tensor<4xf32>")


def after_token(operation: str) -> str:
    """One operation that needs a token, as those on feeds and channels do."""
    return module(f"%t = stablehlo.create_token : !stablehlo.token {operation} return %x : tensor<4xf32>")


REDUCER = "({ ^bb0(%a: tensor<f32>, %b: tensor<f32>): stablehlo.return %a : tensor<f32> })"
F4, TO_F4 = "tensor<4xf32>", "(tensor<4xf32>) -> tensor<4xf32>"


@cache
def hostile() -> dict[str, tuple[str, str]]:
    """Programs, and what is said about each, as an expression that matches."""
    return {
        "a callback into Python": (
            module(
                "%r = stablehlo.custom_call @xla_ffi_python_cpu_callback(%x) : (tensor<4xf32>) -> tensor<4xf32> "
                "return %r : tensor<4xf32>"
            ),
            "custom_call",
        ),
        "a library's custom call": (exported(lambda x: jnp.linalg.inv(x.reshape(2, 2)).ravel()), "custom_call"),
        "a loop until something happens": (
            exported(lambda x: jax.lax.while_loop(lambda c: c.sum() < 10, lambda c: c + 1, x)),
            "loop",
        ),
        "a loop that never counts": (loop(TEN, step=0), "count up"),
        "a loop that counts away from its end": (loop(TEN, direction="GE"), "loop"),
        "a loop to a computed end": (loop("%stop = stablehlo.add %zero, %step : tensor<i32>"), "constants"),
        "a loop of too many turns": (loop(TEN.replace("10", "2000000000")), "turns"),
        "loops within loops": (
            exported(nested),
            "traffic",
        ),
        "calls that double": (doubling(28), "traffic"),
        "calls that never end": (
            module(
                "%r = func.call @f(%x) : (tensor<4xf32>) -> tensor<4xf32> return %r : tensor<4xf32>",
                "func.func private @f(%x: tensor<4xf32>) -> tensor<4xf32> "
                "{ %r = func.call @f(%x) : (tensor<4xf32>) -> tensor<4xf32> return %r : tensor<4xf32> }",
            ),
            "calls itself",
        ),
        "a tensor larger than memory": (
            module(
                "%big = stablehlo.constant dense<0.0> : tensor<1099511627776xf32> "
                "%r = stablehlo.slice %big [0:4] : (tensor<1099511627776xf32>) -> tensor<4xf32> "
                "return %r : tensor<4xf32>"
            ),
            "tensor of",
        ),
        "a dynamic shape": (
            module(
                "%d = stablehlo.convert %x : (tensor<4xf32>) -> tensor<?xf32> "
                "%r = stablehlo.convert %d : (tensor<?xf32>) -> tensor<4xf32> return %r : tensor<4xf32>"
            ),
            "dynamic shape",
        ),
        "randomness of the machine": (
            module(
                "%s = stablehlo.constant dense<1> : tensor<2xui64> "
                "%a, %b = stablehlo.rng_bit_generator %s, algorithm = DEFAULT : (tensor<2xui64>) "
                "-> (tensor<2xui64>, tensor<4xf32>) return %b : tensor<4xf32>"
            ),
            "not on the list",
        ),
        "half precision": (exported(lambda x: (x.astype(jnp.bfloat16) * 2).astype(jnp.float32)), "element type"),
        "a product at default precision": (
            module(
                "%r = stablehlo.dot_general %x, %x, contracting_dims = [0] x [0] : (tensor<4xf32>, tensor<4xf32>) "
                "-> tensor<f32> %b = stablehlo.broadcast_in_dim %r, dims = [] : (tensor<f32>) -> tensor<4xf32> "
                "return %b : tensor<4xf32>"
            ),
            "HIGHEST",
        ),
        "a feed from outside": (
            after_token(
                '%f:2 = "stablehlo.infeed"(%t) {infeed_config = ""} '
                ": (!stablehlo.token) -> (tensor<4xf32>, !stablehlo.token)"
            ),
            "one device",
        ),
        "a feed to outside": (
            after_token(
                '%o = "stablehlo.outfeed"(%x, %t) {outfeed_config = ""} '
                ": (tensor<4xf32>, !stablehlo.token) -> !stablehlo.token"
            ),
            "one device",
        ),
        "a sum over devices": (
            one(f'%r = "stablehlo.all_reduce"(%x) {REDUCER} {{replica_groups = dense<0> : tensor<1x1xi64>}} : {TO_F4}'),
            "all_reduce.*one device",
        ),
        "a question which device it is": (
            one("%p = stablehlo.partition_id : tensor<ui32> %r = stablehlo.negate %x : tensor<4xf32>"),
            "partition_id.*one device",
        ),
        "randomness of the compiler": (
            one(
                "%z = stablehlo.constant dense<0.0> : tensor<f32> %s = stablehlo.constant dense<4> : tensor<1xi64> "
                "%r = stablehlo.rng %z, %z, %s, distribution = UNIFORM "
                ": (tensor<f32>, tensor<f32>, tensor<1xi64>) -> tensor<4xf32>"
            ),
            "rng.*random.key",
        ),
        "a Fourier transform": (
            one(
                "%c = stablehlo.fft %x, type = RFFT, length = [4] : (tensor<4xf32>) -> tensor<3xcomplex<f32>> "
                "%r = stablehlo.negate %x : tensor<4xf32>"
            ),
            "fft.*convolution",
        ),
        "a shape that is data": (
            one(
                "%s = stablehlo.constant dense<4> : tensor<1xi32> "
                "%r = stablehlo.dynamic_reshape %x, %s : (tensor<4xf32>, tensor<1xi32>) -> tensor<4xf32>"
            ),
            "dynamic_reshape.*shape that does not depend on data",
        ),
        "an operation of somebody's own": (
            module(
                f'%r = stablehlo.composite "my.own" %x {{decomposition = @f}} : {TO_F4} return %r : {F4}',
                f"func.func private @f(%x: {F4}) -> {F4} {{ return %x : {F4} }}",
            ),
            "composite",
        ),
        "a hint to the compiler": (
            one(f'%r = stablehlo.negate %x {{mhlo.frontend_attributes = {{_xla_compute_type = "host"}}}} : {F4}'),
            "frontend_attributes",
        ),
        "a result in its argument's memory": (
            one(f"%r = stablehlo.negate %x : {F4}").replace(
                "@main(%x: tensor<4xf32>)", "@main(%x: tensor<4xf32> {tf.aliasing_output = 0 : i32})"
            ),
            "aliasing_output",
        ),
        "a loop that compares without signs": (loop(TEN).replace("SIGNED", "UNSIGNED"), "loop whose condition"),
        "a tensor of too many dimensions": (
            one(
                f"%d = stablehlo.reshape %x : (tensor<4xf32>) -> tensor<{'1x' * 16}4xf32> "
                f"%r = stablehlo.reshape %d : (tensor<{'1x' * 16}4xf32>) -> tensor<4xf32>"
            ),
            "17 dimensions",
        ),
        "eighty thousand operations": (many(80_000), "more than 20,000 operations.*scan"),
        "choices within choices": (deep(40), "nest deeper"),
        "a hundred million additions for the compiler": (exported(windows), "depends on no input"),
        "sorting for the compiler": (exported(folded), "depends on no input"),
        "more memory than there is": (exported(crowded), "bytes of memory"),
        "a large tensor that is read again and again": (exported(rereading), "bytes of traffic"),
    }


@cache
def _honest() -> tuple[export.Exported, bytes]:
    """Honest functions of the signatures that the artifacts here have: a gradient, and an evaluation's bytes."""

    def gradient(theta: jax.Array, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        return theta.sum() + x.sum() * 0.0 + y.sum() * 0.0, theta

    def evaluate(theta: jax.Array, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        return gradient(theta, x, y)[0], y.sum().astype(jnp.int32)

    shapes = [((PARAMETERS,), "float32"), ((BATCH, 1), "uint8"), ((BATCH,), "uint8")]
    structs = [jax.ShapeDtypeStruct(shape, jnp.dtype(kind)) for shape, kind in shapes]  # type: ignore[no-untyped-call]
    exported = [export.export(jax.jit(function), platforms=("cpu",))(*structs) for function in (gradient, evaluate)]
    return exported[0], bytes(exported[1].serialize())


def _without_sharding(operation: Any) -> Any:
    """JAX adds rules for sharding to what calls LAPACK, which have no portable form."""
    if "sdy.sharding_rule" in operation.attributes:
        del operation.attributes["sdy.sharding_rule"]
    return ir.WalkResult.ADVANCE


def shipped(text: str) -> Program:
    """The artifact whose gradient calls the program's @main, as a task would ship it."""
    hostile_main = text.replace("func.func public @main(", "func.func private @hostile(")
    body, end = hostile_main.rsplit("}", 1)
    whole = f"""{body}
        func.func public @main(%theta: {F4}, %x: tensor<2x1xui8>, %y: tensor<2xui8>) -> (tensor<f32>, {F4}) {{
            %loss = stablehlo.constant dense<0.0> : tensor<f32>
            %gradient = func.call @hostile(%theta) : {TO_F4}
            return %loss, %gradient : tensor<f32>, {F4}
        }}
    }}{end}"""
    exported, evaluate = _honest()
    with mlir.make_ir_context():
        module_ = ir.Module.parse(whole)
        module_.operation.walk(_without_sharding)
        version = stablehlo.get_version_from_compatibility_requirement(
            stablehlo.StablehloCompatibilityRequirement.WEEK_4
        )
        portable = stablehlo.serialize_portable_artifact(module_, version)
    return Program(
        gradient=bytes(dataclasses.replace(exported, mlir_module_serialized=portable).serialize()),
        evaluate=evaluate,
        parameters=PARAMETERS,
        batch=BATCH,
        evaluate_batch=BATCH,
        inputs=Rows((1,), "uint8"),
        targets=Rows((), "uint8"),
        layout=(Tensor("w", (PARAMETERS,), 0),),
    )
