"""Programs of real models are admitted; callbacks, endless loops, bombs and dynamic shapes are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import export
from jax.interpreters import mlir
from jaxlib.mlir import ir

from trainer.admission import Cost, Limits, Refused, inspect


def admitted(text: str, limits: Limits | None = None) -> Cost:
    with mlir.make_ir_context():
        return inspect(ir.Module.parse(text), limits or Limits())


def exported(function: Callable[..., Any], *, platforms: tuple[str, ...] = ("cpu", "cuda", "tpu")) -> str:
    with jax.default_matmul_precision("highest"):
        shape = jax.ShapeDtypeStruct((4,), jnp.float32)  # type: ignore[no-untyped-call]
        return str(export.export(jax.jit(function), platforms=platforms)(shape).mlir_module())


def on_cpu(function: Callable[..., Any]) -> str:
    return exported(function, platforms=("cpu",))


def nested(x: jax.Array) -> jax.Array:
    def double(_: int, value: jax.Array) -> jax.Array:
        return value * 2

    def inner(_: int, value: jax.Array) -> jax.Array:
        return jnp.asarray(jax.lax.fori_loop(0, 60_000, double, value))

    return jnp.asarray(jax.lax.fori_loop(0, 60_000, inner, x))


def attention(x: jax.Array) -> jax.Array:
    q = jnp.ones((2, 4, 8)) * x[0]
    return jax.nn.softmax(q @ q.swapaxes(1, 2)) @ q


def pooled_convolution(x: jax.Array) -> jax.Array:
    image = jnp.ones((1, 1, 4, 4)) * x[0]
    hidden = jax.lax.conv(image, jnp.ones((2, 1, 2, 2)), (1, 1), "SAME")
    return jnp.asarray(jax.lax.reduce_window(hidden, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")).sum()


def recurrence(x: jax.Array) -> jax.Array:
    return jnp.asarray(jax.lax.scan(lambda c, a: (jnp.tanh(c) + a, None), x, jnp.ones((7, 4)))[0]).sum()


@pytest.mark.parametrize(
    "function",
    [
        attention,
        jax.grad(lambda x: attention(x).sum()),
        jax.grad(pooled_convolution),
        jax.grad(recurrence),
        lambda x: jax.lax.fori_loop(0, 10, lambda i, c: c * i, x),
        lambda x: jax.nn.gelu(x, approximate=False),
        lambda x: jax.random.normal(jax.random.key(1), (4,)) * x,
        jax.grad(lambda x: (x[jnp.array([0, 1, 1])] * 2).sum()),
        jnp.sort,
    ],
    ids=["attention", "its gradient", "convolution", "scan", "loop", "gelu", "dropout noise", "embedding", "sort"],
)
def test_what_models_need_is_admitted(function: Callable[..., Any]) -> None:
    assert admitted(exported(function)).flops > 0


def module(body: str, rest: str = "") -> str:
    return f"module {{ func.func public @main(%x: tensor<4xf32>) -> tensor<4xf32> {{ {body} }} {rest} }}"


def loop(stop: str, step: int = 1, direction: str = "LT") -> str:
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


def test_a_written_loop_is_admitted_and_multiplied_out() -> None:
    assert admitted(loop(TEN)).flops > 10 * 4


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


def hostile() -> dict[str, tuple[str, str]]:
    """Programs, and what is said about each."""
    return {
        "a callback into Python": (
            module(
                "%r = stablehlo.custom_call @xla_ffi_python_cpu_callback(%x) : (tensor<4xf32>) -> tensor<4xf32> "
                "return %r : tensor<4xf32>"
            ),
            "custom_call",
        ),
        "a library's custom call": (on_cpu(lambda x: jnp.linalg.inv(x.reshape(2, 2))), "custom_call"),
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
        "calls that double": (doubling(30), "traffic"),
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
    }


def test_hostile_programs_are_refused() -> None:
    for name, (text, reason) in hostile().items():
        with pytest.raises(Refused, match=reason):
            assert admitted(text) is None, name


def test_each_limit_binds() -> None:
    text = exported(attention)
    for limits in (Limits(operations=3), Limits(constant_bytes=1), Limits(traffic_bytes=1), Limits(flops=1)):
        with pytest.raises(Refused):
            admitted(text, limits)
