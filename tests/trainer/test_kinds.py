"""A model of each kind of JAX, from its definition to its use: exported, measured, trained by others, fetched."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trio
from flax import nnx

from tests.trainer.network import EVE, POT, Lines, audit_and_aggregate, network, reporter
from trainer.check import check
from trainer.market import Market, Task
from trainer.task import build
from trainer.worker import run_worker

SECONDS_MAX = 300
RNG = np.random.default_rng(6)
X = RNG.uniform(-2, 2, (256, 2)).astype(np.float32)
Y = (X[:, 0] * X[:, 1]).astype(np.float32)  # a saddle

# What a model says of inputs f32[B, 2] with these parameters: f32[B].
Apply = Callable[[Any, Any], Any]


def plain() -> tuple[Any, Apply]:
    params = {"w": RNG.standard_normal((2, 16)).astype(np.float32), "v": RNG.standard_normal(16).astype(np.float32) / 4}
    return params, lambda params, x: jnp.tanh(x @ params["w"]) @ params["v"]


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        found = nn.Dense(1)(nn.tanh(nn.Dense(16)(x)))
        return jnp.asarray(found[:, 0])


def linen() -> tuple[Any, Apply]:
    module = Linen()
    return module.init(jax.random.key(0), jnp.zeros((1, 2))), lambda params, x: module.apply(params, x)


class Nnx(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.hidden, self.out = nnx.Linear(2, 16, rngs=rngs), nnx.Linear(16, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.asarray(self.out(nnx.tanh(self.hidden(x)))[:, 0])


def by_nnx() -> tuple[Any, Apply]:
    graph, params, rest = nnx.split(Nnx(nnx.Rngs(0)), nnx.Param, ...)  # type: ignore[misc]
    return params, lambda params, x: nnx.merge(graph, params, rest)(x)


def task_of(name: str, params: Any, apply: Apply) -> Task:
    def losses(params: Any, x: Any, y: Any) -> Any:
        return (apply(params, x) - y) ** 2

    return Task(
        name,
        loss=lambda params, x, y: losses(params, x, y).mean(),
        evaluation=lambda params, x, y: (losses(params, x, y).sum(), (losses(params, x, y) < 0.1).sum()),
        params=params,
        train=(X, Y),
        held_out=(X[:64], Y[:64]),
        batch=64,
        # So short a way along the gradient leads down whichever rows are drawn.
        terms={
            "rounds": 4,
            "slots": 2,
            "auditors": 1,
            "price": 1,
            "optimizer": "sgd",
            "learning_rate": 0.02,
            "momentum": 0,
        },
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", [plain, linen, by_nnx], ids=["plain", "linen", "nnx"])
async def test_a_model_goes_all_the_way(
    kind: Callable[[], tuple[Any, Apply]], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind is not plain and not request.config.getoption("--sweep"):
        pytest.skip("each starts seven processes with JAX: --sweep has them all trained")
    params, apply = kind()
    task = task_of(kind.__name__, params, apply)
    lines: Lines = []
    with trio.fail_after(SECONDS_MAX):
        checked = await check(build(task), tmp_path / "check", warn=lines.append)
        before = float(((apply(params, X[:64]) - Y[:64]) ** 2).mean())
        assert checked.evaluation.loss_sum / 64 == pytest.approx(before, rel=1e-4)
        async with network(tmp_path / "node", rounds=1) as chain, trio.open_nursery() as nursery:
            await audit_and_aggregate(nursery, chain, tmp_path, lines)
            nursery.start_soon(partial(run_worker, [chain.url], EVE, tmp_path / "eve", report=reporter(lines, "eve")))
            market = Market(chain.url, "//Ferdie", quiet=True)
            number = await trio.to_thread.run_sync(partial(market.create, task))
            results = await trio.to_thread.run_sync(lambda: list(market.watch(number)))
            trained = await trio.to_thread.run_sync(market.fetch, number, params)
            nursery.cancel_scope.cancel()

    assert [(result.round, result.paid, result.spent) for result in results] == [
        (number, results[0].paid, results[0].paid * (number + 1)) for number in range(4)
    ]
    assert results[0].paid == 2 * 2 * POT  # two slots of a token, doubled by emission
    assert str(jax.tree_util.tree_structure(trained)) == str(jax.tree_util.tree_structure(params))
    loss = float(((apply(trained, X[:64]) - Y[:64]) ** 2).mean())
    assert loss == pytest.approx(results[-1].loss, rel=1e-4)
    assert loss < before
