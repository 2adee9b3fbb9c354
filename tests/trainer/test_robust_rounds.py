"""Rounds of every robust aggregation on a chain: what the model became is what the plainest arithmetic makes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import trio

from chain.primitives.blob import blob_root
from chain.primitives.keys import Keypair
from runtime.modules.training_types import RoundRecord
from tests.trainer.kit import small_task
from tests.trainer.network import (
    AGGREGATOR,
    CHARLIE,
    EVE,
    FERDIE,
    VALIDATORS,
    Choice,
    Lines,
    network,
    one_engine,
    reporter,
)
from tests.trainer.plain_robust import ITERATIONS, PLAIN, SHARE
from trainer import optimizers
from trainer.aggregator import run_aggregator
from trainer.auditor import attend
from trainer.codecs import INT8
from trainer.node import open_node
from trainer.optimizers import PICO
from trainer.robust import PPM
from trainer.worker import work

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE_SECONDS = 240
ROUNDS, SLOTS = 3, 5
# Enough, with four workers, that each of five tasks has all slots of its round and of the next.
SEATS = 16
RATE = PICO // 10
# Each aggregation as a genesis file says it.
WORDS: dict[str, dict[str, object]] = {
    "median": {"median": {}},
    "trimmed mean": {"trimmedMean": {"byzantinePpm": SHARE}},
    "krum": {"krum": {"byzantinePpm": SHARE}},
    "multi-krum": {"multiKrum": {"byzantinePpm": SHARE}},
    "centered clip": {"centeredClip": {"radiusPpm": PPM, "iterations": ITERATIONS}},
}

# How workers say what they found, where it is not int8: its authors have centered clip with worker momentum.
SAID: dict[str, dict[str, object]] = {
    "centered clip": {"codec": {"int8Momentum": {"momentum": 9 * PICO // 10, "tenure": ROUNDS}}}
}


@pytest.mark.slow
async def test_rounds_of_each_robust_aggregation_make_the_model_that_the_plainest_arithmetic_makes(
    tmp_path: Path,
) -> None:
    lines: Lines = []
    descent = {"rule": {"sgd": {"learningRate": RATE, "momentum": 0}}}
    choices: list[Choice] = [
        ({"slots": SLOTS, "aggregation": words, **SAID.get(name, {})}, descent) for name, words in WORDS.items()
    ]
    # Task and round, and the blobs of all slots of each.
    records: dict[tuple[int, int], RoundRecord] = {}
    blobs: dict[tuple[int, int], list[bytes]] = {}
    with trio.fail_after(PATIENCE_SECONDS):
        async with (
            network(tmp_path / "node", rounds=ROUNDS, choices=choices) as chain,
            one_engine(tmp_path) as engines,
            trio.open_nursery() as nursery,
        ):

            async def audits(name: str, key: Keypair) -> None:
                async with open_node([chain.url], key) as node:
                    await attend(node, engines, tmp_path / name, report=reporter(lines, name))

            async def works(name: str, key: Keypair) -> None:
                async with open_node([chain.url], key) as node:
                    await work(node, engines, tmp_path / name, report=reporter(lines, name), capacity=SEATS)

            for index, keys in enumerate(VALIDATORS):
                nursery.start_soon(audits, f"auditor {index}", keys.account)
            for key in (EVE, FERDIE, CHARLIE, AGGREGATOR):
                nursery.start_soon(works, f"worker {key.public.hex()[:4]}", key)
            report = reporter(lines, "aggregator")
            nursery.start_soon(partial(run_aggregator, [chain.url], AGGREGATOR, tmp_path / "sums", report=report))
            await chain.until(lambda modules: not modules.training.active_tasks.get())
            records = chain.modules(lambda modules: dict(modules.training.history.items()))
            for place, record in records.items():
                found = [chain.node.blobs.get(slot.update_root) for slot in record.slots if slot.update_root]
                blobs[place] = [data for data in found if data is not None]
            nursery.cancel_scope.cancel()

    assert sorted(records) == [(task, round_) for task in range(len(WORDS)) for round_ in range(ROUNDS)]
    assert all(slot.accepted for record in records.values() for slot in record.slots)
    # The first rounds may begin before all workers are there; each slot has an update of its own.
    assert [len(set(found)) for found in blobs.values()] == [len(record.slots) for record in records.values()]
    assert [len(records[task, ROUNDS - 1].slots) for task in range(len(WORDS))] == [SLOTS] * len(WORDS)
    aggregates: dict[str, str] = {}
    for task, name in enumerate(WORDS):
        theta = small_task().theta
        for round_ in range(ROUNDS):
            updates = [INT8.decode(data, theta.size, round_) for data in blobs[task, round_]]
            combined = np.array(PLAIN[name](updates), np.float32)
            theta = theta - np.float32(RATE / PICO) * combined
            assert records[task, round_].params_root == blob_root(optimizers.encode_params(theta)), (name, round_)
            aggregates[f"{name}/{round_}"] = blob_root(combined.tobytes()).hex()
            folder = tmp_path / "updates" / name / str(round_)
            folder.mkdir(parents=True)
            for data in blobs[task, round_]:
                (folder / blob_root(data).hex()).write_bytes(data)
    orders = []
    for seed in ("1", "2"):
        found_here = combined_with_seed(tmp_path / "updates", seed)
        assert {name: root for name, (root, _) in found_here.items()} == aggregates
        orders.append([order for _, order in found_here.values()])
    assert orders[0] != orders[1]


def combined_with_seed(folder: Path, seed: str) -> dict[str, tuple[str, list[str]]]:
    """What another process makes of the same updates, and in which orders it took them."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.trainer.robust_roots", str(folder), str(small_task().theta.size)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found: dict[str, tuple[str, list[str]]] = json.loads(done.stdout)
    return found
