"""A worker that cheats, each time in another way: what auditors must find, for tests with and without a network.

As a process of its own:  python -m tests.trainer.cheats --node ws://127.0.0.1:9944 --key //Ferdie --folder FOLDER KIND…
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
from runtime.modules.training_types import ROUNDS_MAX
from trainer.arrays import Float32s
from trainer.audit import MICRO
from trainer.codecs.blocks import BLOCK
from trainer.codecs.topk import TopK, largest
from trainer.codecs.updates import DenseUpdate
from trainer.files import Pending, PendingFiles
from trainer.follow import Report
from trainer.job import Job
from trainer.node import BlobMissing, BlobOversized, Node, NodeError, RpcNode
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
        self.models: list[Hash] = []  # what rounds began from: the last, and the one before
        self.revealed: dict[tuple[int, int], Hash] = {}

    async def step(self, view: RoundView, height: int) -> None:
        """Keep what others reveal, and what the model once was."""
        if view.params_root not in self.models:
            self.models = [*self.models[-1:], view.params_root]
        for slot in view.revealed:
            root = view.slots[slot].update_root
            if root is not None and view.slots[slot].worker != self.node.account:
                self.revealed[view.round, slot] = root
        await super().step(view, height)

    async def contribution(self, view: RoundView, slot: int) -> bytes:
        now = (view.round, view.attempt)
        kind = next((kind for kind, at in self.tried.items() if at == now and self._can(kind, view)), None)
        # A round that began from what a cheat makes is thrown away, and nobody judges what is said in it.
        is_judged = view.before is None or (view.before.round, view.before.attempt) not in self.tried.values()
        if kind is None and is_judged:
            kind = next((kind for kind in self.kinds if kind not in self.tried and self._can(kind, view)), None)
        if kind is None:
            return await super().contribution(view, slot)
        self.tried[kind] = now
        self.report(f"round {view.round}: slot {slot} is going to be {kind}")
        return await {**KINDS, **WITHIN_TOLERANCE, **CHOSEN, **REMEMBERING}[kind](self, view, slot)

    async def upload(self, pending: Pending, view: RoundView) -> None:
        if self.tried.get("withheld") != (view.round, view.attempt):
            await super().upload(pending, view)

    def _can(self, kind: str, view: RoundView) -> bool:
        if kind == "stale":
            return bool(self.stale(view))
        if kind == "hasty":
            return self.task.local_steps is not None
        if kind == "smaller":
            return isinstance(self.task.codec, TopK)
        if kind == "forgetful":
            return view.round % self.task.codec.tenure > 1
        return kind != "copied" or bool(self.revealed)

    def stale(self, view: RoundView) -> list[Hash]:
        """Models of before this round, which nodes still have."""
        return [root for root in self.models if root != view.params_root]

    async def honest(self, view: RoundView, slot: int) -> Float32s:
        """What an honest worker says."""
        return await self.job.contribution(self.engine, view, slot)

    def encoded(self, values: Float32s, view: RoundView) -> bytes:
        """The update that says these values."""
        return self.task.codec.quantise(values, view.round).encode()


async def scaled(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """Five per cent more."""
    return cheat.encoded(await cheat.honest(view, slot) * np.float32(1.05), view)


async def fewer(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """One sample left out: what the mean over the others is."""
    program = await cheat.job.program()

    def dropped(rows: bytes, row_bytes: int) -> bytes:
        return rows[DROPPED * row_bytes : (DROPPED + 1) * row_bytes] * program.batch

    x, y = await cheat.job.rows(view, slot)
    x, y = dropped(x, program.inputs.row_bytes), dropped(y, program.targets.row_bytes)
    whole, theta = await cheat.honest(view, slot), await cheat.job.theta(view)
    alone = (await cheat.engine.gradient(cheat.task.program_root, theta, x, y)).values
    return cheat.encoded((whole * np.float32(program.batch) - alone) / np.float32(program.batch - 1), view)


async def chosen(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """The right gradient of rows that the worker chose: those of a round that never comes."""
    x, y = await cheat.job.rows(replace(view, round=ROUNDS_MAX), slot)
    said = await cheat.engine.gradient(cheat.task.program_root, await cheat.job.theta(view), x, y)
    return cheat.encoded(said.values, view)


async def mislabelled(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """The right gradient of the right rows with wrong targets: each of ten classes is called its opposite."""
    x, y = await cheat.job.rows(view, slot)
    wrong = (9 - np.frombuffer(y, np.uint8)).astype(np.uint8).tobytes()
    said = await cheat.engine.gradient(cheat.task.program_root, await cheat.job.theta(view), x, wrong)
    return cheat.encoded(said.values, view)


async def flipped(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """The opposite, three times as long."""
    return cheat.encoded(np.float32(-3) * await cheat.honest(view, slot), view)


async def stale(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """The gradient at the parameters of an earlier round."""
    return cheat.encoded(await cheat.honest(replace(view, params_root=cheat.stale(view)[-1]), slot), view)


async def copied(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """What another worker revealed last, of what can be had: others may withhold theirs."""
    bytes_max = cheat.task.codec.bytes_max((await cheat.job.program()).parameters, view.round)
    for _, root in sorted(cheat.revealed.items(), reverse=True):
        try:
            return await cheat.node.get_blob(root, bytes_max)
        except (BlobMissing, BlobOversized):
            continue
    raise NodeError("nobody has what others revealed")


async def colluding(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """What the worker of another slot computed, told by that worker before anybody revealed anything."""
    return cheat.encoded(await cheat.honest(view, (slot + 1) % len(view.slots)), view)


async def repeated(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """The right update of the same slot in another attempt."""
    return cheat.encoded(await cheat.honest(replace(view, attempt=view.attempt + 1), slot), view)


async def zeros(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """Nothing at all, well formed."""
    return cheat.encoded(np.zeros_like(await cheat.honest(view, slot)), view)


async def noise(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """As large as the gradient, and nothing that was computed."""
    honest = await cheat.honest(view, slot)
    drawn = np.random.default_rng(view.round).standard_normal(honest.size)
    return cheat.encoded((drawn * np.linalg.norm(honest) / np.linalg.norm(drawn)).astype(np.float32), view)


async def infinite(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """Infinity everywhere, as far as the encoding goes: the largest values there are."""
    return cheat.encoded(np.full_like(await cheat.honest(view, slot), np.inf), view)


async def nan(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """Not a number, written into the blob: the steps' exponents are those of no number that may come."""
    update = cheat.task.codec.quantise(await cheat.honest(view, slot), view.round)
    return replace(update, exponents=np.full_like(update.exponents, 127)).encode()


async def misshapen(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """The right update with a parameter too many."""
    return cheat.encoded(np.append(await cheat.honest(view, slot), np.float32(0)), view)


async def bomb(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """Few bytes that say they are four gigabytes: an update whose last byte string is as long as one can be called."""
    blob = cheat.encoded(await cheat.honest(view, slot), view)
    head = blob.index(b"\xa6values") + len(b"\xa6values")
    return blob[:head] + b"\xc6\xff\xff\xff\xff" + blob[head + 3 :]


async def nudged(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """As far against the gradient as the tolerance lets it: what nobody can tell from an honest machine's rounding."""
    honest = await cheat.honest(view, slot)
    update = cheat.task.codec.quantise(honest, view.round)
    assert isinstance(update, DenseUpdate)
    steps = np.ldexp(1.0, update.exponents.astype(np.int32)).repeat(BLOCK)[: honest.size]
    exact = honest / steps
    room = cheat.task.tolerance.micro_steps / MICRO
    # Of the two integers around a value, that against the gradient's sign, where it is near enough.
    against = np.where(exact > 0, np.floor(exact), np.ceil(exact))
    values = np.where(np.abs(against - exact) <= room - 1e-3, against, update.values).astype(np.int8)
    return replace(update, values=values).encode()


async def garbled(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """What is no update."""
    return b"\0" * 100


async def swollen(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """Far more bytes than an update has."""
    return bytes(4 << 20)


async def withheld(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """The right update, which nobody ever gets to see."""
    return cheat.encoded(await cheat.honest(view, slot), view)


async def hasty(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """One local step left out: where the others lead."""
    program, steps = await cheat.job.program(), cheat.task.local_steps
    assert steps is not None
    count = steps.count - 1
    x, y = await cheat.job.rows(view, slot)
    x = x[: count * program.batch * program.inputs.row_bytes]
    y = y[: count * program.batch * program.targets.row_bytes]
    theta = await cheat.job.theta(view)
    said = await cheat.engine.local_steps(cheat.task.program_root, theta, x, y, replace(steps, count=count), view.round)
    return cheat.encoded(said, view)


async def smaller(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """Right values, but those that come after the largest."""
    assert isinstance(cheat.task.codec, TopK)
    said = (await cheat.honest(view, slot)).copy()
    said[largest(np.abs(said), cheat.task.codec.count(said.size, view.round))] = 0
    return cheat.encoded(said, view)


async def forgetful(cheat: Cheat, view: RoundView, slot: int) -> bytes:
    """Its gradient alone, without what the slot has not said before."""
    return cheat.encoded(await cheat.honest(view, slot), view)


# What any task can be cheated with.
KINDS: dict[str, Contribution] = {
    "scaled": scaled,
    "fewer": fewer,
    "stale": stale,
    "copied": copied,
    "colluding": colluding,
    "repeated": repeated,
    "chosen": chosen,
    "mislabelled": mislabelled,
    "flipped": flipped,
    "zeros": zeros,
    "noise": noise,
    "infinite": infinite,
    "nan": nan,
    "misshapen": misshapen,
    "bomb": bomb,
    "garbled": garbled,
    "swollen": swollen,
    "withheld": withheld,
}
# What no audit can find, since honest machines differ as much.
WITHIN_TOLERANCE: dict[str, Contribution] = {"nudged": nudged}
# What takes local steps, or a codec that leaves something out.
CHOSEN: dict[str, Contribution] = {"hasty": hasty, "smaller": smaller}
# What takes a codec that remembers.
REMEMBERING: dict[str, Contribution] = {"forgetful": forgetful}


class Insistent(Cheat):
    """Cheats in its one way wherever it can, until it is caught; `at` says in which attempts."""

    at: list[tuple[int, int]]

    async def contribution(self, view: RoundView, slot: int) -> bytes:
        (kind,) = self.kinds
        if not self._can(kind, view):
            return await TaskWorker.contribution(self, view, slot)
        self.tried[kind] = (view.round, view.attempt)
        self.at.append((view.round, view.attempt))
        self.report(f"round {view.round}: slot {slot} is going to be {kind}")
        return await {**KINDS, **WITHIN_TOLERANCE}[kind](self, view, slot)

    async def upload(self, pending: Pending, view: RoundView) -> None:
        if "withheld" not in self.kinds or (view.round, view.attempt) not in self.at:
            await TaskWorker.upload(self, pending, view)


async def cheat(
    url: str,
    key: Keypair,
    folder: Path,
    kinds: Sequence[str],
    tried: dict[str, tuple[int, int]],
    report: Report,
    capacity: int = 1,
) -> None:
    """A cheating worker's life on the chain behind `url`; comes back, with a new bond, whenever it is slashed."""
    async with open_engines(folder) as engines, Client.reconnecting([url]) as client:
        node, servant = RpcNode(client, key), partial(Cheat, kinds=kinds, tried=tried)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(work, node, engines, folder, report=report, capacity=capacity, servant=servant))
            async with node.heads() as heads:
                async for _ in heads:
                    if tried and not await node.worker_capacity():
                        await node.transact("training.register_worker", capacity=capacity)


def main() -> None:
    """Cheat until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--node", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("kinds", nargs="+", choices=list(KINDS))
    options = parser.parse_args()
    report = partial(print, flush=True)
    trio.run(cheat, options.node, Keypair.from_uri(options.key), options.folder, options.kinds, {}, report)


if __name__ == "__main__":
    main()
