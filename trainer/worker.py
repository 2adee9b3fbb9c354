"""The worker: computes the gradients of its slots, commits to them, reveals them.

Rule: what a commitment hides is on disk before the commitment is sent and nowhere else before the reveal, so that a
kill at any moment costs neither the bond nor the secret.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import trio

from chain.primitives.blob import blob_root
from chain.primitives.hashing import Hash, blake2_256
from chain.primitives.keys import Keypair
from trainer import codec
from trainer.files import BlobFiles, Pending, PendingFiles
from trainer.follow import Heights, Report, follow
from trainer.job import Job
from trainer.node import Node, NodeError, open_node
from trainer.sandbox import Engine, open_engine
from trainer.views import RoundView, TaskView

# After a registration that failed (no money for the bond, say), this many blocks pass before the next.
RETRY_BLOCKS = 10


async def run_worker(
    urls: Sequence[str], keypair: Keypair, cache_dir: Path, *, report: Report, platform: str = "cpu"
) -> None:
    """Train for every task of the chain behind `urls` until cancelled; `report` gets one line at a time."""
    async with open_engine(cache_dir, platform) as engine, open_node(urls, keypair) as node:
        await work(node, engine, cache_dir, report=report)


async def work(
    node: Node, engine: Engine, cache_dir: Path, *, report: Report, servant: type[TaskWorker] | None = None
) -> None:
    """A worker's life on a chain; `servant` is what serves a task, `TaskWorker` unless told."""
    blobs, pending = BlobFiles(cache_dir / "blobs"), PendingFiles(cache_dir / "pending")
    kind = servant or TaskWorker

    async def stay_registered(heights: Heights) -> None:
        await _stay_registered(node, heights, report)

    await follow(
        node,
        lambda task: kind(task, node, engine, Job(task, node, blobs), pending, report),
        report,
        always=stay_registered,
    )


def commitment_of(worker: bytes, task: int, round_: int, attempt: int, slot: int, pending: Pending) -> Hash:
    """BLAKE2b-256 of SCALE (account, u32 task, round and attempt, u16 slot, salt, root), as Training checks it."""
    numbers = b"".join(number.to_bytes(4, "little") for number in (task, round_, attempt)) + slot.to_bytes(2, "little")
    return blake2_256(worker + numbers + pending.salt + pending.update_root)


class TaskWorker:
    """A worker's part in one task."""

    def __init__(
        self, task: TaskView, node: Node, engine: Engine, job: Job, pending: PendingFiles, report: Report
    ) -> None:
        self.task = task
        self.node = node
        self.engine = engine
        self.job = job
        self.pending = pending
        self.report = report

    async def step(self, view: RoundView, height: int) -> None:  # noqa: ARG002
        """Commit what is not committed, reveal what is not revealed."""
        mine = view.assigned(self.node.account)
        if view.phase == "commit":
            due = [slot for slot in mine if view.slots[slot].commitment is None]
            # One at a time through the engine, all at once onto the chain.
            for slot in due:
                await self.prepare(view, slot)
            await self._each(due, view, self._commit, "committed to")
        elif view.phase == "reveal":
            due = [s for s in mine if view.slots[s].commitment is not None and view.slots[s].update_root is None]
            await self._each(due, view, self._reveal, "revealed")
        else:
            await trio.to_thread.run_sync(self.pending.forget_before, self.task.id, view.round, view.attempt)
            await self.job.prepare(self.engine)

    async def prepare(self, view: RoundView, slot: int) -> None:
        """Compute a slot's update and make it durable; an update that is durable is not computed again."""
        key = (self.task.id, view.round, view.attempt, slot)
        if self.pending.get(*key) is None:
            update = await self.contribution(view, slot)
            pending = Pending(secrets.token_bytes(32), blob_root(update), update)
            await trio.to_thread.run_sync(self.pending.put, *key, pending)

    async def contribution(self, view: RoundView, slot: int) -> bytes:
        """The slot's update blob."""
        gradient = await self.job.gradient(self.engine, view, slot)
        return await trio.to_thread.run_sync(lambda: codec.encode(codec.quantise(gradient)))

    async def _commit(self, view: RoundView, slot: int) -> str | None:
        pending = self.pending.get(self.task.id, view.round, view.attempt, slot)
        if pending is None:
            return "its update is not on disk"
        return await self.node.transact(
            "training.commit",
            task=self.task.id,
            round=view.round,
            attempt=view.attempt,
            slot=slot,
            commitment=commitment_of(self.node.account, self.task.id, view.round, view.attempt, slot, pending),
        )

    async def _reveal(self, view: RoundView, slot: int) -> str | None:
        pending = self.pending.get(self.task.id, view.round, view.attempt, slot)
        if pending is None:
            return "its salt and update are not on disk: was the cache folder removed?"
        await self.node.put_blob(pending.update)
        return await self.node.transact(
            "training.reveal",
            task=self.task.id,
            round=view.round,
            attempt=view.attempt,
            slot=slot,
            salt=pending.salt,
            update_root=pending.update_root,
        )

    async def _each(
        self, slots: Sequence[int], view: RoundView, act: Callable[[RoundView, int], Awaitable[str | None]], done: str
    ) -> None:
        """Act on all slots at once; one line for those that succeeded, one for each that failed."""
        succeeded: list[int] = []

        async def one(slot: int) -> None:
            try:
                error = await act(view, slot)
            except NodeError as failure:
                error = str(failure)
            if error is None:
                succeeded.append(slot)
            else:
                self.report(f"task {self.task.id} round {view.round}: slot {slot} not {done}: {error}")

        async with trio.open_nursery() as nursery:
            for slot in slots:
                nursery.start_soon(one, slot)
        if succeeded:
            named = ", ".join(str(slot) for slot in sorted(succeeded))
            self.report(f"task {self.task.id} round {view.round}: {done} slot{'s'[: len(succeeded) - 1]} {named}")


async def _stay_registered(node: Node, heights: Heights, report: Report) -> None:
    """Register, and resume after a pause, for as long as the worker runs."""
    height = heights.newest - 1
    while True:
        height = await heights.above(height)
        try:
            worker = await node.worker()
            if worker.active:
                continue
            call = "training.resume" if worker.bonded else "training.register_worker"
            error = await node.transact(call)
        except NodeError as failure:
            error = str(failure)
        if error is None:
            report(f"{'back after a pause' if worker.bonded else 'registered'}: can be drawn for slots from now on")
        else:
            report(f"not registered as a worker, trying again in {RETRY_BLOCKS} blocks: {error}")
            height = await heights.above(height + RETRY_BLOCKS - 1)
