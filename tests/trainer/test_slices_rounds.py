"""Rounds whose sums are proven slice by slice: real auditors, workers and aggregators on a chain of four validators."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from chain.primitives.blob import blob_root
from chain.primitives.keys import Keypair
from chain.validator_keys import ValidatorKeys
from runtime.modules.training import Training
from tests.trainer.kit import wide_task
from tests.trainer.network import AGGREGATOR, EVE, FERDIE, POT, Choice, Lines, Network, network, one_engine, reporter
from trainer import aggregate as sums
from trainer import optimizers
from trainer.aggregator import MakeServant, TaskAggregator, aggregate
from trainer.auditor import attend
from trainer.codecs import INT8
from trainer.follow import Report
from trainer.job import NextModel
from trainer.metrics import Meter
from trainer.node import Node, RpcNode, open_node
from trainer.optimizers import FRESH, PICO, Adam
from trainer.sandbox import Engines
from trainer.slices import CHUNK_PARAMETERS, Slices
from trainer.views import RoundView
from trainer.worker import work

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 240
VALIDATORS = [ValidatorKeys.from_uri(f"//{name}") for name in ("Alice", "Bob", "Charlie", "Dave")]
MALLORY = Keypair.from_uri("//Mallory")
RULE = Adam(PICO // 100, 9 * PICO // 10, 99 * PICO // 100, PICO // 10**8)
NUMBERS = {"learningRate": RULE.learning_rate, "beta1": RULE.beta1, "beta2": RULE.beta2, "epsilon": RULE.epsilon}
SLICED: Choice = ({"checks": {"slices": {"chunks": 1}}}, {"rule": {"adam": NUMBERS}})


class Liar(TaskAggregator):
    """Changes one parameter of the second slice."""

    async def _in_slices(self, view: RoundView, accepted: tuple[int, ...], slices: Slices) -> NextModel | None:
        model = await super()._in_slices(view, accepted, slices)
        if model is None:
            return None
        theta = model.theta.copy()
        theta[CHUNK_PARAMETERS + 7] += 1
        params = optimizers.encode_params(theta)
        return replace(model, theta=theta, params=params, params_root=blob_root(params))


class Withholder(TaskAggregator):
    """Says what is right, and serves nothing of it."""

    async def _in_slices(self, view: RoundView, accepted: tuple[int, ...], slices: Slices) -> NextModel | None:
        self.job.publish = self._keep_to_itself  # type: ignore[method-assign]
        return await super()._in_slices(view, accepted, slices)

    async def _keep_to_itself(self, model: NextModel) -> None:
        assert model.params


class Blind:
    """A node that gives parts of blobs to its auditor, and never has one whole, while it is told so."""

    def __init__(self, node: RpcNode, life: Life) -> None:
        self._node = node
        self._life = life

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    async def has_blob(self, root: bytes) -> bool:
        return not self._life.is_blind and await self._node.has_blob(root)


@dataclass
class Life:
    """A chain with its auditors and workers, and what its blocks tell of."""

    chain: Network
    nursery: trio.Nursery
    folder: Path
    lines: Lines = field(default_factory=list)
    is_blind: bool = False

    def aggregates(self, key: Keypair, servant: MakeServant | None = None) -> None:
        """Let an aggregator live on the chain."""
        name = "aggregator" if servant is None else "mallory"

        async def live() -> None:
            async with open_node([self.chain.url], key) as node:
                report = reporter(self.lines, name)
                await aggregate(node, self.folder / name, Meter("aggregator"), report=report, servant=servant)

        self.nursery.start_soon(live)


@asynccontextmanager
async def life(
    folder: Path, *, rounds: int, audit_blocks: int, auditors: Sequence[ValidatorKeys] = VALIDATORS
) -> AsyncIterator[Life]:
    async with (
        network(
            folder / "node",
            rounds=rounds,
            audit_blocks=audit_blocks,
            choices=[SLICED],
            others=[MALLORY],
            task=wide_task(),
            validators=VALIDATORS,
        ) as chain,
        one_engine(folder) as engines,
        trio.open_nursery() as nursery,
    ):
        found = Life(chain, nursery, folder)
        for index, keys in enumerate(auditors):
            report = reporter(found.lines, f"auditor {index}")
            nursery.start_soon(partial(audits, found, keys.account, engines, folder / f"auditor{index}", report))
        for index, key in enumerate((EVE, FERDIE)):
            report = reporter(found.lines, f"worker {index}")
            nursery.start_soon(partial(works, chain, key, engines, folder / f"worker{index}", report))
        yield found
        nursery.cancel_scope.cancel()


async def audits(life: Life, key: Keypair, engines: Engines, folder: Path, report: Report) -> None:
    async with open_node([life.chain.url], key) as node:
        blind: Node = Blind(node, life)
        await attend(blind, engines, folder, report=report)


async def works(chain: Network, key: Keypair, engines: Engines, folder: Path, report: Report) -> None:
    async with open_node([chain.url], key) as node:
        await work(node, engines, folder, report=report, capacity=1, servant=None)


async def test_an_aggregator_that_changes_one_parameter_is_slashed_and_the_model_is_right(tmp_path: Path) -> None:
    rounds = 2
    with trio.fail_after(PATIENCE_SECONDS):
        async with life(tmp_path, rounds=rounds, audit_blocks=600) as it:
            it.aggregates(MALLORY, Liar)
            await it.chain.until(lambda modules: MALLORY.public in modules.training.aggregators)
            await it.chain.until(lambda modules: MALLORY.public not in modules.training.aggregators)
            it.aggregates(AGGREGATOR)
            await it.chain.until(lambda modules: modules.training.rounds_ahead.get(0))
            await it.chain.until(lambda modules: modules.training.tasks[0].round == rounds)
            history = [it.chain.modules(lambda modules, r=r: modules.training.history[0, r]) for r in range(rounds)]
            blobs = it.chain.node.blobs
            theta, state = wide_task().theta, FRESH
            for record in history:
                found = [
                    INT8.decode(blobs.get(slot.update_root) or b"", theta.size, 0)
                    for slot in record.slots
                    if slot.accepted
                ]
                theta, state = optimizers.step(RULE, state, theta, sums.mean(found))
                assert record.params_root == blob_root(optimizers.encode_params(theta))
                assert record.optimizer_root == blob_root(optimizers.encode_state(RULE, state))
            slashed, refuted = it.chain.told(Training.AggregatorSlashed), it.chain.told(Training.AggregateRefuted)
            proven, checked = it.chain.told(Training.AggregateProven), it.chain.told(Training.SlicesFound)
    assert [(event.aggregator, event.amount) for event in slashed] == [(MALLORY.public, 60 * POT)]
    assert [event.reward for event in refuted] == [6 * POT]
    assert [record.aggregator for record in history] == [AGGREGATOR.public] * rounds
    assert len(proven) == rounds
    assert {event.validator for event in checked} == {keys.account.public for keys in VALIDATORS}
    # Two of four look at each slice: nobody has added up all of a round that was proven.
    assert not [line for line in it.lines if "confirmed the sum" in line]


async def test_where_a_validator_is_silent_the_others_prove_its_slices(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        async with life(tmp_path, rounds=1, audit_blocks=240, auditors=VALIDATORS[:3]) as it:
            it.aggregates(AGGREGATOR)
            record = await it.chain.until(lambda modules: modules.training.history.get((0, 0)))
    assert record.aggregator == AGGREGATOR.public
    # What was drawn for the silent one the others have looked at, before anybody gave up and added up all.
    assert not [line for line in it.lines if "confirmed the sum" in line]


async def test_where_an_aggregate_is_not_served_or_not_whole_everybody_adds_up_all(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        async with life(tmp_path, rounds=2, audit_blocks=16) as it:
            it.aggregates(MALLORY, Withholder)
            await it.chain.until(lambda modules: modules.training.tasks[0].round)
            record = it.chain.modules(lambda modules: modules.training.history[0, 0])
            proven = it.chain.told(Training.AggregateProven)
            unheard = it.chain.modules(lambda modules: modules.training.unheard_aggregators[MALLORY.public])
            model = it.chain.node.blobs.get(record.params_root)
            # What is proven and that its validators cannot keep is not relied on either, though it is paid.
            it.is_blind = True
            it.aggregates(AGGREGATOR)
            await it.chain.until(lambda modules: modules.training.tasks[0].round == 2)
            second = it.chain.modules(lambda modules: modules.training.history[0, 1])
    assert second.aggregator in (AGGREGATOR.public, None)
    assert record.aggregator is None
    assert unheard > record.finalised_at
    assert model is not None
    assert proven == []
