"""The aggregator: sums a round's updates as validators do, says the result on chain and serves its blobs.

Rule: it says only what it summed itself, since a false word costs its bond, and spends one transaction on a set of
slots. Who is first is paid; who comes later keeps quiet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import trio

from chain.primitives.keys import Keypair
from chain.primitives.seal import bitmap
from chain.wallet.known import ANY_CHAIN, Known
from trainer.codecs.blocks import CodecError
from trainer.files import Files
from trainer.follow import Heights, Report, follow
from trainer.job import Job, NextModel
from trainer.measured import MeasuredNode
from trainer.metrics import SUM, Meter
from trainer.node import BlobMissing, Node, NodeError, open_node
from trainer.slices import MalformedUpdate, Slices
from trainer.spill import StoredUpdate
from trainer.status import tell
from trainer.views import AggregateView, RoundView, TaskView

RETRY_BLOCKS = 10


async def run_aggregator(
    urls: Sequence[str],
    keypair: Keypair,
    cache_dir: Path,
    *,
    report: Report,
    known: Known = ANY_CHAIN,
    meter: Meter | None = None,
) -> None:
    """Aggregate for every task of the chain behind `urls` until cancelled; `report` gets one line at a time."""
    meter = meter or Meter("aggregator")
    async with open_node(urls, keypair, known) as node:
        await aggregate(MeasuredNode(node, meter), cache_dir, meter, report=report)


async def aggregate(
    node: Node, cache_dir: Path, meter: Meter, *, report: Report, servant: MakeServant | None = None
) -> None:
    """An aggregator's life on a chain; `servant` makes what serves a task, a `TaskAggregator` unless told."""
    make = servant or TaskAggregator
    files = Files.open(cache_dir)

    async def always(heights: Heights) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_register, node, heights, report)
            nursery.start_soon(tell, node, heights, meter, (), report)

    await follow(
        node,
        lambda task: make(task, node, Job(task, node, files.blobs, files.memories), meter, report),
        report,
        forget=files.forget,
        always=always,
    )


class TaskAggregator:
    """An aggregator's part in one task."""

    def __init__(self, task: TaskView, node: Node, job: Job, meter: Meter, report: Report) -> None:
        self.task = task
        self.node = node
        self.job = job
        self.meter = meter
        self.report = report
        self.slices = None if task.slice_chunks is None else Slices(task, node, job)
        # What was found out in this round: for which slots it is known what they make.
        self._round = (-1, -1)
        self._said: set[tuple[int, ...]] = set()
        # Whether what was said before the audit's beginning came in time only its block knows.
        self._tried: set[tuple[str, tuple[int, ...]]] = set()
        self._models: dict[tuple[int, ...], NextModel] = {}

    async def step(self, view: RoundView, height: int) -> None:  # noqa: ARG002
        """Publish what the model becomes as soon as all is revealed; in the audit, say it of the slots that count."""
        if self._round != (view.round, view.attempt):
            self._round, self._said, self._tried, self._models = (view.round, view.attempt), set(), set(), {}
        accepted = _accepted(view) if self.slices is None else _undoubted(view)
        if not view.is_fixed or not accepted or accepted in self._said or (view.phase, accepted) in self._tried:
            return
        model = await self._model(view, accepted)
        if model is None:
            return
        if AggregateView(accepted, model.params_root, model.optimizer_root) in view.aggregates:
            self._said.add(accepted)
            return
        error = await self.node.transact(
            "training.aggregate",
            task=self.task.id,
            round=view.round,
            attempt=view.attempt,
            accepted=bitmap(accepted, len(view.slots)),
            params_root=model.params_root,
            optimizer_root=model.optimizer_root,
        )
        self._tried.add((view.phase, accepted))
        if view.phase == "audit" or error is None:
            self._said.add(accepted)
        # A round that became final first needs no aggregate any more.
        if error is None:
            self.report(f"task {self.task.id} round {view.round}: aggregated {len(accepted)} updates")

    async def _model(self, view: RoundView, accepted: tuple[int, ...]) -> NextModel | None:
        """What these slots make, summed and published once; None as long as not all of their updates are there.

        A malformed update is about to be challenged; which slots count is then known from the attestations.
        """
        if accepted not in self._models and self.slices is not None:
            model = await self._in_slices(view, accepted, self.slices)
            if model is None:
                return None
            await self.job.publish(model)
            self._models[accepted] = model
        elif accepted not in self._models:
            updates = {slot: update for slot in accepted if (update := await self._update(view, slot)) is not None}
            if not updates or len(updates) != len(accepted):
                return None
            with self.meter.stage(SUM):
                model = await self.job.next_model(view, updates)
            await self.job.publish(model)
            self._models[accepted] = model
        return self._models[accepted]

    async def _in_slices(self, view: RoundView, accepted: tuple[int, ...], slices: Slices) -> NextModel | None:
        """The same, with a slice of each update at a time: no machine has to hold them all."""
        model = None
        try:
            with self.meter.stage(SUM):
                model = await slices.model(view, accepted)
        except* MalformedUpdate:
            # It is about to be challenged: of these slots there is nothing to say.
            self._said.add(accepted)
        except* BlobMissing:
            pass
        return model

    async def _update(self, view: RoundView, slot: int) -> StoredUpdate | None:
        root = view.slots[slot].update_root
        try:
            return await self.job.update(view, root) if root is not None else None
        except CodecError:
            return None


MakeServant = Callable[[TaskView, Node, Job, Meter, Report], TaskAggregator]


def _accepted(view: RoundView) -> tuple[int, ...]:
    """The slots that most validators accept so far, or all that are revealed while nobody is said to be wrong."""
    if not any(slot.challenged or (slot.planted and slot.auditors) for slot in view.slots):
        return tuple(slot for slot in view.revealed if slot not in view.left_out)
    voices = Counter(attestation.accepted for attestation in view.attestations)
    return voices.most_common(1)[0][0] if voices else ()


def _undoubted(view: RoundView) -> tuple[int, ...]:
    """The slots that nobody has said to be wrong. Where validators wait for an aggregate before they attest, they say
    by challenges alone what they think; and an aggregate of all, which was said before, is not forgotten.
    """
    doubted = [index for index, slot in enumerate(view.slots) if slot.challenged or (slot.planted and slot.auditors)]
    return tuple(slot for slot in view.revealed if slot not in view.left_out and slot not in doubted)


async def _register(node: Node, heights: Heights, report: Report) -> None:
    height = heights.newest - 1
    while True:
        height = await heights.above(height)
        try:
            if await node.is_aggregator():
                break
            error = await node.transact("training.register_aggregator")
        except NodeError as failure:
            error = str(failure)
        if error is None:
            report("registered as an aggregator")
            break
        report(f"not registered as an aggregator, trying again in {RETRY_BLOCKS} blocks: {error}")
        height = await heights.above(height + RETRY_BLOCKS - 1)
    await trio.sleep_forever()
