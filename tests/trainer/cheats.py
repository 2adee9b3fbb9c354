"""A worker that cheats, each time in another way: what auditors must find, for tests with and without a network.

As a process of its own:  python -m tests.trainer.cheats --rpc ws://127.0.0.1:9944 --key //Ferdie --folder FOLDER KIND…
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import trio

from chain.primitives.hashing import Hash
from chain.primitives.keys import Keypair
from chain.rpc.client import Client
from trainer import batches, dataset
from trainer.arrays import Float32s
from trainer.codecs import INT8
from trainer.files import Pending, PendingFiles
from trainer.follow import Report
from trainer.job import Job
from trainer.node import Node, RpcNode
from trainer.sandbox import Engine, open_engines
from trainer.views import RoundView, TaskView
from trainer.worker import TaskWorker, work

Contribution = Callable[["Cheat", RoundView, int], Awaitable[bytes]]
DROPPED = 5  # which sample of a batch is left out


class Cheat(TaskWorker):
    """Cheats in one way after the other, a new one in every attempt; `tried` says in which attempt each was tried."""

    def __init__(
        self,
        task: TaskView,
        node: Node,
        engine: Engine,
        job: Job,
        pending: PendingFiles,
        report: Report,
        *,
        kinds: Sequence[str],
        tried: dict[str, tuple[int, int]],
    ) -> None:
        super().__init__(task, node, engine, job, pending, report)
        self.kinds = kinds
        self.tried = tried
        self.first: RoundView | None = None
        self.revealed: dict[tuple[int, int], Hash] = {}

    async def step(self, view: RoundView, height: int) -> None:
        """Keep what others reveal, and what the model once was."""
        self.first = self.first or view
        for slot in view.revealed:
            root = view.slots[slot].update_root
            if root is not None and view.slots[slot].worker != self.node.account:
                self.revealed[view.round, slot] = root
        await super().step(view, height)

    async def contribution(self, view: RoundView, slot: int) -> bytes:
        now = (view.round, view.attempt)
        kind = next((kind for kind, attempt in self.tried.items() if attempt == now), None)
        if kind is None:
            kind = next((kind for kind in self.kinds if kind not in self.tried and self._can(kind, view)), None)
        if kind is None:
            return await super().contribution(view, slot)
        self.tried[kind] = now
        self.report(f"round {view.round}: slot {slot} is going to be {kind}")
        return await KINDS[kind](self, view, slot)

    async def upload(self, pending: Pending, view: RoundView) -> None:
        if self.tried.get("withheld") != (view.round, view.attempt):
            await super().upload(pending, view)

    def _can(self, kind: str, view: RoundView) -> bool:
        assert self.first is not None
        if kind == "stale":
            return view.params_root != self.first.params_root
        return kind != "copied" or bool(self.revealed)

    async def gradient(self, view: RoundView, slot: int) -> Float32s:
        """The honest gradient."""
        return await self.job.gradient(self.engine, view, slot)


def encoded(gradient: Float32s) -> bytes:
    return INT8.quantise(gradient, 0).encode()


async def scaled(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """Five per cent more."""
    return encoded(await cheat.gradient(view, slot) * np.float32(1.05))


async def fewer(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """One sample left out: what the mean over the others is."""
    job = cheat.job
    program = await job.program()
    blob = await cheat.node.get_blob(job.task.dataset_root, dataset.MANIFEST_BYTES_MAX)
    split = dataset.parse(blob).train
    rows = batches.slot_rows(job.task.seed, view.round, view.attempt, slot, program.batch, split.count)
    x_bytes, y_bytes = program.inputs.row_bytes, program.targets.row_bytes
    xs = await cheat.node.get_blob(split.x, split.count * x_bytes)
    ys = await cheat.node.get_blob(split.y, split.count * y_bytes)
    row = int(rows[DROPPED])
    x = xs[row * x_bytes : (row + 1) * x_bytes] * program.batch
    y = ys[row * y_bytes : (row + 1) * y_bytes] * program.batch
    whole = await cheat.gradient(view, slot)
    alone = (await cheat.engine.gradient(job.task.program_root, await job.theta(view), x, y)).values
    return encoded((whole * np.float32(program.batch) - alone) / np.float32(program.batch - 1))


async def stale(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """The gradient at the parameters of an earlier round."""
    assert cheat.first is not None
    return encoded(await cheat.gradient(replace(view, params_root=cheat.first.params_root), slot))


async def copied(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """What another worker revealed last."""
    root = cheat.revealed[max(cheat.revealed)]
    return await cheat.node.get_blob(root, INT8.bytes_max((await cheat.job.program()).parameters, 0))


async def colluding(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """What the worker of another slot computed, told by that worker before anybody revealed anything."""
    return encoded(await cheat.gradient(view, (slot + 1) % len(view.slots)))


async def repeated(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """The right update of the same slot in another attempt."""
    return encoded(await cheat.gradient(replace(view, attempt=view.attempt + 1), slot))


async def zeros(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """Nothing at all, well formed."""
    return encoded(np.zeros_like(await cheat.gradient(view, slot)))


async def noise(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """As large as the gradient, and nothing that was computed."""
    honest = await cheat.gradient(view, slot)
    drawn = np.random.default_rng(view.round).standard_normal(honest.size)
    return encoded((drawn * np.linalg.norm(honest) / np.linalg.norm(drawn)).astype(np.float32))


async def garbled(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """What is no update."""
    return b"\0" * 100


async def swollen(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """Far more bytes than an update has."""
    return bytes(4 << 20)


async def withheld(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """The right update, which nobody ever gets to see."""
    return encoded(await cheat.gradient(view, slot))


KINDS: dict[str, Contribution] = {
    "scaled": scaled,
    "fewer": fewer,
    "stale": stale,
    "copied": copied,
    "colluding": colluding,
    "repeated": repeated,
    "zeros": zeros,
    "noise": noise,
    "garbled": garbled,
    "swollen": swollen,
    "withheld": withheld,
}


async def cheat(
    url: str, key: Keypair, folder: Path, kinds: Sequence[str], tried: dict[str, tuple[int, int]], report: Report
) -> None:
    """A cheating worker's life on the chain behind `url`; comes back, with a new bond, whenever it is slashed."""
    async with open_engines(folder) as engines, Client.reconnecting([url]) as client:
        node, servant = RpcNode(client, key), partial(Cheat, kinds=kinds, tried=tried)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(work, node, engines, folder, report=report, capacity=1, servant=servant))
            async with node.heads() as heads:
                async for _ in heads:
                    if tried and not await node.worker_capacity():
                        await node.transact("training.register_worker", capacity=1)


def main() -> None:
    """Cheat until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rpc", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("kinds", nargs="+", choices=list(KINDS))
    options = parser.parse_args()
    report = partial(print, flush=True)
    trio.run(cheat, options.rpc, Keypair.from_uri(options.key), options.folder, options.kinds, {}, report)


if __name__ == "__main__":
    main()
