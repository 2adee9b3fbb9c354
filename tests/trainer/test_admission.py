"""Programs of real models are admitted; callbacks, endless loops, bombs and dynamic shapes are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.interpreters import mlir
from jaxlib.mlir import ir

from tests.trainer.corpus import TEN, exported, hostile, loop
from trainer.admission import Cost, Limits, inspect
from trainer.operations import Refused


def admitted(text: str, limits: Limits | None = None) -> Cost:
    with mlir.make_ir_context():
        return inspect(ir.Module.parse(text), limits or Limits())


def attention(x: jax.Array) -> jax.Array:
    q = jnp.ones((2, 4, 8)) * x[0]
    return jax.nn.softmax(q @ q.swapaxes(1, 2)) @ q


def pooled_convolution(x: jax.Array) -> jax.Array:
    image = jnp.ones((1, 1, 4, 4)) * x[0]
    hidden = jax.lax.conv(image, jnp.ones((2, 1, 2, 2)), (1, 1), "SAME")
    return jnp.asarray(jax.lax.reduce_window(hidden, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")).sum()


def recurrence(x: jax.Array) -> jax.Array:
    return jnp.asarray(jax.lax.scan(lambda c, a: (jnp.tanh(c) + a, None), x, jnp.ones((7, 4)))[0]).sum()


def pools(x: jax.Array) -> jax.Array:
    """A maximum and an average over windows."""
    image = jnp.ones((1, 4, 4, 1)) * x[0]
    window: Any = ((1, 2, 2, 1), (1, 2, 2, 1), "SAME")
    highest = jax.lax.reduce_window(image, -jnp.inf, jax.lax.max, *window)
    return jnp.asarray(jax.lax.reduce_window(image, 0.0, jax.lax.add, *window) * highest).sum()


def transposed_convolution(x: jax.Array) -> jax.Array:
    image = jnp.ones((1, 4, 4, 1)) * x[0]
    return jnp.asarray(jax.lax.conv_transpose(image, jnp.ones((3, 3, 1, 2)), (2, 2), "SAME")).sum()


def dropout(x: jax.Array) -> jax.Array:
    """Noise that depends on the batch."""
    kept = jax.random.bernoulli(jax.random.key(x.sum().astype(jnp.int32)), 0.9, x.shape)
    return jnp.where(kept, x / 0.9, 0).sum()


def norms(x: jax.Array) -> jax.Array:
    """Group norm over halves, then layer norm."""
    halves = x.reshape(2, 2)
    halves = (halves - halves.mean(1, keepdims=True)) * jax.lax.rsqrt(halves.var(1, keepdims=True) + 1e-6)
    return jax.nn.standardize(halves.ravel())[0]


MODELS: dict[str, Callable[..., Any]] = {
    "attention": attention,
    "its gradient": jax.grad(lambda x: attention(x).sum()),
    "convolution": jax.grad(pooled_convolution),
    "transposed convolution": jax.grad(transposed_convolution),
    "pools": jax.grad(pools),
    "norms": jax.grad(norms),
    "scan": jax.grad(recurrence),
    "a loop": lambda x: jax.lax.fori_loop(0, 10, lambda i, c: c * i, x),
    "remat": jax.grad(lambda x: jax.checkpoint(lambda y: jnp.sin(jnp.sin(y)).sum())(x)),
    "gelu": jax.grad(lambda x: jax.nn.gelu(x, approximate=False).sum()),
    "constant noise": lambda x: jax.random.normal(jax.random.key(1), (4,)) * x,
    "dropout": jax.grad(dropout),
    "embedding": jax.grad(lambda x: (x[jnp.array([0, 1, 1])] * 2).sum()),
    "segments": jax.grad(lambda x: jax.ops.segment_sum(x, jnp.array([0, 0, 1, 1]), 2)[0]),
    "running sums": jax.grad(lambda x: (jnp.cumsum(x) * jax.lax.cumlogsumexp(x)).sum()),
    "sort": lambda x: jnp.sort(x) + jnp.argsort(x),
    "choice": jax.grad(lambda x: jax.lax.cond(x[0] > 0, jnp.sin, jnp.cos, x).sum()),
    "slices": jax.grad(lambda x: jax.lax.dynamic_slice(x, (x[0].astype(jnp.int32),), (2,)).sum()),
    "bits": lambda x: jax.lax.population_count(x.astype(jnp.uint32)) + jax.lax.clz(x.astype(jnp.uint32)),
    "interpolation": lambda x: jax.image.resize(x.reshape(2, 2), (4, 4), "bilinear"),
}


@pytest.mark.parametrize("name", list(MODELS))
def test_what_models_need_is_admitted(name: str) -> None:
    assert admitted(exported(MODELS[name], platforms=("cpu", "cuda", "tpu"))).flops > 0


def test_a_written_loop_is_admitted_and_multiplied_out() -> None:
    # Ten turns add one and four numbers, and eleven times a comparison says whether there is another.
    assert admitted(loop(TEN)).flops == 10 * (1 + 4) + 11


@pytest.mark.parametrize("name", list(hostile()))
def test_hostile_programs_are_refused_and_told_why(name: str) -> None:
    text, reason = hostile()[name]
    with pytest.raises(Refused, match=reason):
        admitted(text)


def test_a_refusal_names_the_operation_the_function_and_a_way_out() -> None:
    text = exported(lambda x: jax.jit(lambda y: jax.random.normal(jax.random.key(1, impl="rbg"), (4,)) * y)(x))
    with pytest.raises(Refused) as refusal:
        admitted(text)
    assert str(refusal.value) == (
        "stablehlo.rng_bit_generator is not on the list of allowed operations; the numbers depend on the machine: use "
        "JAX's default generator, jax.random.key(seed) (in @_uniform)"
    )


def test_each_limit_binds() -> None:
    text = exported(attention)
    for limit in ("operations", "constant_bytes", "memory_bytes", "traffic_bytes", "flops"):
        with pytest.raises(Refused):
            admitted(text, Limits(**{limit: 1}))
