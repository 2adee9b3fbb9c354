"""Whole rounds: real workers, auditors and an aggregator with their engines, on a real chain behind a real RPC."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from chain.primitives.keys import Keypair
from tests.trainer.kit import small_task
from tests.trainer.network import (
    AGGREGATOR,
    EVE,
    FERDIE,
    VALIDATORS,
    Lines,
    Network,
    audit_and_aggregate,
    network,
    reporter,
)
from trainer import aggregate, batches, dataset, optimizers
from trainer.arrays import Float32s
from trainer.codecs import INT8
from trainer.sandbox import open_engine
from trainer.worker import run_worker

PATIENCE_SECONDS = 240


async def dies_once(chain: Network, key: Keypair, folder: Path, lines: Lines) -> None:
    """A worker that ends right after its first commitment, and starts again with nothing but its folder."""
    with trio.CancelScope() as life:

        def report(line: str) -> None:
            reporter(lines, "eve's first life")(line)
            if "committed to" in line:
                life.cancel()

        await run_worker([chain.url], key, folder, report=report)
    await run_worker([chain.url], key, folder, report=reporter(lines, "eve"))


@pytest.mark.slow
async def test_rounds_are_trained_audited_and_paid_though_a_worker_dies_before_it_reveals(tmp_path: Path) -> None:
    lines: Lines = []
    rounds = 6
    with trio.fail_after(PATIENCE_SECONDS):
        async with network(tmp_path / "node", rounds=rounds, expiring=True) as chain:
            async with trio.open_nursery() as nursery:
                await audit_and_aggregate(nursery, chain, tmp_path, lines)
                nursery.start_soon(dies_once, chain, EVE, tmp_path / "eve", lines)
                nursery.start_soon(
                    partial(run_worker, [chain.url], FERDIE, tmp_path / "ferdie", report=reporter(lines, "ferdie"))
                )
                await chain.until(lambda modules: modules.training.tasks[0].round == rounds)
                nursery.cancel_scope.cancel()
            history = [chain.modules(lambda modules, r=r: modules.training.history[0, r]) for r in range(rounds)]
            workers = chain.modules(lambda modules: [modules.training.workers[key.public] for key in (EVE, FERDIE)])
            shares = chain.modules(lambda modules: dict(modules.rewards.earned_by_checking.items()))
            # What rounds long final left is dropped, and the last ones were trained all the same.
            await chain.until(lambda _: not chain.node.blobs.has(history[0].params_root))
            model = chain.node.blobs.get(history[-1].params_root)
            seed = chain.modules(lambda modules: modules.training.tasks[0].seed)

    assert any(line.startswith("eve's first life") for line in lines)
    assert all(slot.accepted for record in history for slot in record.slots)
    assert sum(worker.accepted for worker in workers) == 2 * rounds
    assert [worker.rejected for worker in workers] == [0, 0]
    minted = sum(record.minted for record in history)
    by_work = sum(worker.earned for worker in workers)
    assert by_work + sum(shares.values()) == minted
    # An aggregator that is always in time has a twentieth; where it was not, the workers have it.
    assert minted * 85 // 100 <= by_work <= minted * 9 // 10
    assert [shares.get(keys.account.public, 0) > 0 for keys in VALIDATORS] == [True, True]
    assert (
        by_work + sum(shares[keys.account.public] for keys in VALIDATORS) + shares.get(AGGREGATOR.public, 0) == minted
    )
    assert [record.evaluation is not None for record in history] == [True, False, False, False, True, True]
    assert history[-1].evaluation.loss_micro < history[0].evaluation.loss_micro
    assert model is not None
    expected = await trained_here(tmp_path / "here", seed, rounds)
    assert np.allclose(optimizers.decode_params(model, expected.size), expected, atol=2e-3)


async def trained_here(folder: Path, seed: bytes, rounds: int) -> Float32s:
    """The same task without a chain: gradients, mean, optimiser."""
    task = small_task()
    optimizer = optimizers.Adam(2 * 10**10, 9 * 10**11, 999 * 10**9, 10**4)
    manifest_x, manifest_y = training_rows()
    theta, state = task.theta, optimizers.FRESH
    async with open_engine(folder) as engine:
        await engine.load(task.program_root, task.program, task.blobs[task.program_root])
        for round_ in range(rounds):
            updates = []
            for slot in range(2):
                rows = batches.slot_rows(seed, round_, 0, slot, task.program.batch, len(manifest_y))
                found = await engine.gradient(
                    task.program_root, theta, manifest_x[rows].tobytes(), manifest_y[rows].tobytes()
                )
                updates.append(INT8.quantise(found.values, round_))
            theta, state = optimizers.step(optimizer, state, theta, aggregate.mean(updates))
    return theta


def training_rows() -> tuple[Any, Any]:
    task = small_task()
    split = dataset.parse(task.blobs[task.dataset_root]).train
    x = np.frombuffer(task.blobs[split.x], np.uint8).reshape(split.count, -1)
    return x, np.frombuffer(task.blobs[split.y], np.uint8)
