"""Measures what a validator fetches and computes to know a round's sum: all of it, or its slices of an aggregator's.

    .venv/bin/python scripts/bench/slices.py [--parameters 1000000] [--updates 64] [--chunks 4] [--validators 4 100]

A node with the round's blobs runs in a process of its own and is asked over HTTP, as an auditor asks its node. Bytes
are what the node answers, proofs included; seconds are processor time of the auditor's own process. A validator of so
many checks those slices that a draw gives it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import trio
from figures import heading, machine, record

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the node is the tests'

from chain.blobs import BlobStore
from chain.primitives.blob import CHUNK_BYTES, LENGTH_BYTES, proof_count
from chain.primitives.hashing import Hash
from chain.primitives.keys import Keypair
from chain.rpc.client import Client
from tests.rpc.kit import served
from trainer import optimizers
from trainer.artifact import Program, Rows
from trainer.audit import Tolerance
from trainer.codecs import INT8
from trainer.descent import Descent
from trainer.files import BlobFiles, MemoryFiles
from trainer.job import Job
from trainer.node import RpcNode
from trainer.optimizers import PICO, Adam, OptimizerState
from trainer.robust import Mean
from trainer.slices import Slices
from trainer.views import AggregateView, Claim, RoundView, SlotView, TaskView, TrialView

RULE = Adam(PICO // 100, 9 * PICO // 10, 99 * PICO // 100, PICO // 10**8)
ROUND = 3
STORE_BYTES = 1 << 33

T = TypeVar("T")


class Counting(RpcNode):
    """Counts the bytes of blobs that a node answered."""

    received = 0

    async def get_blob(self, root: Hash, bytes_max: int) -> bytes:
        data = await super().get_blob(root, bytes_max)
        self.received += len(data)
        return data

    async def get_chunks(self, root: Hash, first: int, count: int) -> tuple[int, bytes]:
        length, data = await super().get_chunks(root, first, count)
        hashes = sum(proof_count(length, first + place) for place in range(-(-len(data) // CHUNK_BYTES)))
        self.received += LENGTH_BYTES + len(data) + 32 * hashes
        return length, data


class Unparsed(Job):
    """A job whose program is not at hand: only its number of parameters matters here."""

    async def program(self) -> Program:
        return Program(b"", b"", self.task.claim.parameters, 1, 1, Rows((1,), "uint8"), Rows((), "uint8"), ())


def main() -> None:
    """Make a round, serve it, and measure each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=int, default=1_000_000)
    parser.add_argument("--updates", type=int, default=64)
    parser.add_argument("--chunks", type=int, default=4, help="of a slice")
    parser.add_argument("--validators", type=int, nargs="+", default=[4, 16, 100])
    parser.add_argument("--short", action="store_true", help="few updates of a small model")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        trio.run(serve, options.serve)
        return
    if options.short:
        options.parameters, options.updates, options.chunks, options.validators = 70_000, 3, 1, [4]
    print(machine())
    trio.run(measure, options.parameters, options.updates, options.chunks, options.validators)


async def serve(folder: Path) -> None:
    """A node with the blobs in a folder, until whoever started this process ends it."""
    async with served(folder) as it:
        it.node.blobs = BlobStore(folder / "round", STORE_BYTES)
        print(it.url, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        it.stop()


async def measure(parameters: int, count: int, chunks: int, validators: list[int]) -> None:
    """Print a line for the whole, and one for each number of validators."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        task, view = made(folder, parameters, count, chunks)
        command = [sys.executable, __file__, "--serve", str(folder)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            heading(f"{count} updates of {parameters:,} parameters, int8, Adam; slices of {chunks} chunks")
            async with a_job(url, folder / "aggregator", task) as (node, job):
                slices = Slices(task, node, job)
                model = await shown("an aggregator, slice by slice", node, lambda: slices.model(view, view.revealed))
                await job.publish(model)
                claim = AggregateView(view.revealed, model.params_root, model.optimizer_root)
            async with a_job(url, folder / "whole", task) as (node, job):
                found = await shown("a validator, everything", node, lambda: whole(job, view))
                assert found == claim.params_root
            for each in validators:
                await check(url, folder / str(each), task, view, claim, each)
            process.stdin.close()


async def check(url: str, folder: Path, task: TaskView, view: RoundView, claim: AggregateView, validators: int) -> None:
    """What the first of so many validators does for its slices."""
    faulty = (validators - 1) // 3
    order = tuple(bytes([number]) * 32 for number in range(validators))
    trial = TrialView(claim, 0, faulty + 1, order, {}, {})
    async with a_job(url, folder, task) as (node, job):
        slices = Slices(task, node, job)
        drawn = [trial.drawn(account, slices.count) for account in order]
        # Slices are dealt out; some have one more than others.
        mine = max(drawn, key=len)

        async def all_right() -> None:
            for run in slices.runs(mine):
                assert all((await slices.check(view, claim, run)).values())

        name = f"a validator of {validators}, {len(mine)} of {slices.count} slices"
        await shown(name, node, all_right)


async def whole(job: Job, view: RoundView) -> Hash:
    """Fetch, decode and sum everything, as every validator does where a task has no slices."""
    updates = {}
    for slot in view.revealed:
        updates[slot] = await job.update(view, view.slots[slot].update_root or b"")
    return (await job.next_model(view, updates)).params_root


async def shown(name: str, node: Counting, work: Callable[[], Awaitable[T]]) -> T:
    """Do it, and print what it took."""
    before, started = node.received, time.process_time()
    found = await work()
    seconds = time.process_time() - started
    megabytes = (node.received - before) / 1e6
    print(f"  {name:<42} {megabytes:8.1f} MB fetched   {seconds:6.2f} s of processor time")
    record(f"{name}: fetched", [megabytes], "MB")
    record(f"{name}: processor time", [seconds], "s")
    return found


@asynccontextmanager
async def a_job(url: str, folder: Path, task: TaskView) -> AsyncIterator[tuple[Counting, Job]]:
    """A participant's view of the task."""
    async with Client.connect(url) as client:
        node = Counting(client, Keypair.from_uri("//Alice"))
        yield node, Unparsed(task, node, BlobFiles(folder / "blobs"), MemoryFiles(folder / "memories"))


def made(folder: Path, parameters: int, count: int, chunks: int) -> tuple[TaskView, RoundView]:
    """A round's blobs in a store, and what the chain would say of them."""
    store = BlobStore(folder / "round", STORE_BYTES)
    rng = np.random.default_rng(1)
    theta, m, v = (rng.standard_normal(parameters, np.float32) for _ in range(3))
    state = OptimizerState(ROUND, (m, np.abs(v)))
    updates = [INT8.quantise(rng.standard_normal(parameters, np.float32), ROUND).encode() for _ in range(count)]
    slots = tuple(
        SlotView(bytes(32), bytes(32), store.put(update), (), challenged=False, planted=False, weight=1)
        for update in updates
    )
    view = RoundView(
        round=ROUND,
        attempt=0,
        phase="audit",
        opened_at=0,
        deadline=100,
        plant_beacon=None,
        is_agreed=False,
        params_root=store.put(optimizers.encode_params(theta)),
        optimizer_root=store.put(optimizers.encode_state(RULE, state)),
        slots=slots,
        attestations=(),
        aggregates=(),
    )
    return task_of(parameters, count, chunks), view


def task_of(parameters: int, count: int, chunks: int) -> TaskView:
    return TaskView(
        id=0,
        program_root=bytes(32),
        dataset_root=bytes(32),
        seed=bytes(32),
        claim=Claim(1, 1, parameters),
        descent=Descent(RULE),
        codec=INT8,
        local_steps=None,
        aggregation=Mean(),
        scored=None,
        slice_chunks=chunks,
        rounds=10,
        slots=count,
        tolerance=Tolerance(510_000, 20),
        audit_blocks=100,
        evaluate_rounds=1,
    )


if __name__ == "__main__":
    main()
