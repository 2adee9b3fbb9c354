"""The auditor: confirms what revealed updates make, checks them, challenges wrong ones and attests to the next model.

Rule: it signs only what it computed from the chain and from blobs that it checked. Whatever it has not attested to at a
head, it looks at afresh at the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import trio

from chain.primitives.hashing import Hash
from chain.primitives.keys import Keypair
from chain.primitives.seal import bitmap
from chain.wallet.known import ANY_CHAIN, Known
from trainer import audit, scoring
from trainer.audit import MICRO
from trainer.checker import Checker
from trainer.codecs.blocks import CodecError
from trainer.files import Files
from trainer.follow import Report, follow
from trainer.job import Job, NextModel
from trainer.measured import MeasuredNode
from trainer.metrics import Meter
from trainer.node import BlobMissing, Node, NodeError, open_node
from trainer.sandbox import Engine, Engines, open_engines
from trainer.scorer import Scorer
from trainer.slices import Slices
from trainer.spill import StoredUpdate, load
from trainer.status import tell
from trainer.tenure import Tenures
from trainer.views import AggregateView, RoundView, TaskView

# Why the chain takes no challenge of an auditor: no money for its bond, or too many that were refuted.
NO_MORE_CHALLENGES = ("InsufficientBalance", "Expendability", "LiquidityRestrictions", "TooManyChallenges")


async def run_auditor(
    urls: Sequence[str],
    keypair: Keypair,
    cache_dir: Path,
    *,
    report: Report,
    known: Known = ANY_CHAIN,
    platform: str = "cpu",
    devices: int | None = 1,
    meter: Meter | None = None,
) -> None:
    """Audit every task of the chain behind `urls` with a validator's account until cancelled."""
    async with open_engines(
        cache_dir, platform, warn=report, devices=devices, meter=meter or Meter("auditor")
    ) as engines:
        await engines.require_devices()
        async with open_node(urls, keypair, known) as node:
            await attend(MeasuredNode(node, engines.meter), engines, cache_dir, report=report)


async def attend(
    node: Node, engines: Engines, cache_dir: Path, *, report: Report, servant: MakeServant | None = None
) -> None:
    """An auditor's life on a chain; `servant` makes what serves a task, a `TaskAuditor` unless told."""
    make = servant or TaskAuditor
    files = Files.open(cache_dir)

    await follow(
        node,
        lambda task: make(task, node, engines.of(task.id), Job(task, node, files.blobs, files.memories), report),
        report,
        release=engines.release,
        forget=files.forget,
        always=lambda heights: tell(node, heights, engines.meter, engines.devices, report),
    )


class TaskAuditor:
    """An auditor's part in one task."""

    def __init__(self, task: TaskView, node: Node, engine: Engine, job: Job, report: Report) -> None:
        self.task = task
        self.node = node
        self.engine = engine
        self.job = job
        self.tenures = Tenures(task, node, job)
        self.report = report
        self.scorer = None if task.scored is None else Scorer(task.scored, engine, job)
        self.checker: Checker | None = None
        if task.slice_chunks is not None:
            self.checker = Checker(Slices(task, node, job), node, report, self._note_malformed)
        # What was found out in this round; slots are judged by the root that was revealed for them.
        self._round = (-1, -1)
        self._heard = True
        self._updates: dict[Hash, StoredUpdate | None] = {}
        self._verdicts: dict[tuple[int, Hash], bool] = {}
        # Slots whose challenge the chain refused: a bond that cannot be paid now must not cost a fee in every block.
        self._refused: set[int] = set()
        self._models: dict[tuple[int, ...], NextModel] = {}
        self._evaluations: dict[Hash, tuple[int, int]] = {}
        # Of slots that this auditor accepts together: since which height. Of what is proven: what no node has whole.
        self._since: dict[tuple[int, ...], int] = {}
        self._unserved: set[AggregateView] = set()
        self._summing = trio.Lock()
        # The phases in which this round was confirmed, or could not be.
        self._confirmed: set[str] = set()

    async def step(self, view: RoundView, height: int) -> None:
        """Confirm the sum once it is fixed; challenge what is wrong; when nothing is left to challenge, attest."""
        if self._round != (view.round, view.attempt):
            self._round = (view.round, view.attempt)
            self._updates, self._verdicts, self._models, self._evaluations = {}, {}, {}, {}
            self._refused, self._confirmed = set(), set()
            self._since, self._unserved = {}, set()
        if not view.is_fixed or not await self._is_heard(view):
            await self.job.prepare(self.engine)
            return
        believes = self.checker is not None and not self._is_late(view, height)
        has_all = await self._fetch(
            view, height, [slot for slot in view.revealed if not believes or self._is_drawn(view, slot)]
        )
        async with trio.open_nursery() as nursery:
            if self.checker is not None and believes:
                nursery.start_soon(self.checker.step, view, height)
            else:
                nursery.start_soon(self._confirm, view)
            if view.phase == "audit" and has_all:
                await self._audit(view, believes=believes)

    def _is_late(self, view: RoundView, height: int) -> bool:
        """Whether no aggregate of what this auditor accepts was proven in time: then it adds up everything itself.

        That is half of the audit's time, and a quarter of it after a verdict has changed what it accepts.
        """
        accepted = self._accepted(view, believes=True)
        since = self._since.setdefault(accepted, height)
        proven = self._proven(view, accepted)
        return (
            view.phase == "audit"
            and height >= max(view.deadline - self.task.audit_blocks // 2, since + self.task.audit_blocks // 4)
            and (proven is None or proven in self._unserved)
        )

    async def _confirm(self, view: RoundView) -> None:
        """Say what all slots make, which takes no more than their sum, so that the next round begins from it.

        Not where there is no next round, or none begins ahead: federated tasks have one round at a time.
        """
        updates = {slot: update for slot in view.revealed if (update := self._update(view, slot)) is not None}
        if (
            view.ahead is not None
            or view.round + 1 >= self.task.rounds
            or self.task.scored is not None
            or self.node.account in view.confirmed_by
            or view.phase in self._confirmed
            or any(slot.challenged for slot in view.slots)
            or len(updates) < len(view.revealed)
        ):
            return
        try:
            model = await self._model(view, view.revealed)
            error = await self.node.transact(
                "training.confirm",
                task=self.task.id,
                round=view.round,
                attempt=view.attempt,
                params_root=model.params_root,
                optimizer_root=model.optimizer_root,
            )
            self._confirmed.add(view.phase)
        except NodeError as failure:
            # It is tried again at the next head, and ends no audit that runs beside it.
            error = str(failure)
        # An audit that was over first needs no confirmation any more.
        if error is None:
            self.report(f"task {self.task.id} round {view.round}: confirmed the sum of {len(updates)} slots")

    async def _audit(self, view: RoundView, *, believes: bool) -> None:
        """Challenge what is wrong, or attest; who `believes` what is proven has not fetched every update."""
        await self._recompute(view)
        accepted = self._accepted(view, believes=believes)
        wrong = [slot for slot in view.revealed if slot not in accepted]
        news = [slot for slot in wrong if not view.slots[slot].challenged and not view.slots[slot].planted]
        if news:
            async with trio.open_nursery() as nursery:
                for slot in (each for each in news if each not in self._refused):
                    nursery.start_soon(self._challenge, view, slot)
            return
        proven = self._proven(view, accepted)
        if proven is not None and await self._is_served(proven):
            await self._attest(view, accepted, proven.params_root, proven.optimizer_root)
        elif not believes:
            model = await self._model(view, accepted)
            await self._attest(view, accepted, model.params_root, model.optimizer_root)

    def _accepted(self, view: RoundView, *, believes: bool) -> tuple[int, ...]:
        """The slots that nothing is known against; those that were not fetched count where others `believe` them."""
        return tuple(
            slot
            for slot in view.revealed
            if slot not in view.left_out and self._is_right(view, slot, believes=believes)
        )

    def _proven(self, view: RoundView, accepted: tuple[int, ...]) -> AggregateView | None:
        return next((aggregate for aggregate in view.proven if aggregate.accepted == accepted), None)

    async def _is_served(self, proven: AggregateView) -> bool:
        """Whether this validator's node has all of a model, and keeps it: it must not be lost with its aggregator."""
        for root in (proven.params_root, proven.optimizer_root):
            if not await self.node.has_blob(root):
                self._unserved.add(proven)
                return False
        self._unserved.discard(proven)
        return True

    def _note_malformed(self, root: Hash, reason: str) -> None:
        if self._updates.get(root, root) is not None:
            self._updates[root] = None
            self.report(f"task {self.task.id}: update 0x{root.hex()} is malformed: {reason}")

    async def _is_heard(self, view: RoundView) -> bool:
        """Whether this account has a word in the round: what others say fails, and costs them a fee."""
        heard = await self.node.is_validator()
        if heard != self._heard:
            said = "in the validator set again" if heard else "not in the validator set: waits until it is elected"
            self.report(f"task {self.task.id} round {view.round}: this account is {said}")
            self._heard = heard
        return heard

    async def _fetch(self, view: RoundView, height: int, slots: Sequence[int]) -> bool:
        """Fetch revealed updates; whether all are here, or given up on after half of the audit's time."""
        given_up = view.phase == "audit" and height >= view.deadline - self.task.audit_blocks // 2
        missing: list[int] = []

        async def one(slot: int, root: Hash) -> None:
            try:
                self._updates[root] = await self.job.update(view, root)
            except CodecError as error:
                self._updates[root] = None
                self.report(f"task {self.task.id} round {view.round}: slot {slot} is malformed: {error}")
            except BlobMissing:
                missing.append(slot)

        await self.job.program()
        async with trio.open_nursery() as nursery:
            for slot in slots:
                root = view.slots[slot].update_root
                if root is not None and self._updates.get(root) is None:
                    nursery.start_soon(one, slot, root)
        if missing:
            named = ", ".join(str(slot) for slot in sorted(missing))
            self.report(f"task {self.task.id} round {view.round}: no node has the update of slot {named}")
        return given_up or not missing

    async def _recompute(self, view: RoundView) -> None:
        """Judge the slots drawn for this auditor, those that were challenged, and audited ones that are planted."""
        if self.scorer is not None:
            await self._score(view, self.scorer)
            return
        async with trio.open_nursery() as nursery:
            for slot in view.revealed:
                state, update = view.slots[slot], self._update(view, slot)
                key = (slot, state.update_root or b"")
                if self._is_drawn(view, slot) and update is not None and key not in self._verdicts:
                    nursery.start_soon(self._judge, view, slot, key, update)

    async def _judge(self, view: RoundView, slot: int, key: tuple[int, Hash], stored: StoredUpdate) -> None:
        own = await self.tenures.meant(self.engine, view, slot)
        update = await trio.to_thread.run_sync(load, stored)
        verdict = await trio.to_thread.run_sync(audit.compare, update, own.meant, self.task.tolerance)
        if verdict.right:
            await self.tenures.keep(view, slot, own, key[1], update)
        self._verdicts[key] = verdict.right
        if not verdict.right:
            self.report(f"task {self.task.id} round {view.round}: slot {slot} is wrong: {verdict}")

    async def _score(self, view: RoundView, scorer: Scorer) -> None:
        """Judge slots whose data nobody else has by what the model is without them."""
        updates = {slot: update for slot in view.revealed if (update := self._update(view, slot)) is not None}
        for slot, score in (await scorer.judge(view, updates, self.node.account)).items():
            key = (slot, view.slots[slot].update_root or b"")
            if self._verdicts.get(key, True) and not score.right:
                self.report(f"task {self.task.id} round {view.round}: slot {slot} is harmful: {score}")
            self._verdicts[key] = score.right

    def _is_drawn(self, view: RoundView, slot: int) -> bool:
        """Whether this auditor computes a slot again."""
        state = view.slots[slot]
        return self.node.account in state.auditors or state.challenged or (state.planted and bool(state.auditors))

    def _update(self, view: RoundView, slot: int) -> StoredUpdate | None:
        return self._updates.get(view.slots[slot].update_root or b"")

    def _is_right(self, view: RoundView, slot: int, *, believes: bool) -> bool:
        """A slot is right until shown wrong; one without a well-formed update is wrong."""
        root = view.slots[slot].update_root or b""
        is_formed = self._updates[root] is not None if root in self._updates else believes
        return is_formed and self._verdicts.get((slot, root), True)

    async def _challenge(self, view: RoundView, slot: int) -> None:
        try:
            error = await self.node.transact(
                "training.challenge", task=self.task.id, round=view.round, attempt=view.attempt, slot=slot
            )
        except NodeError as failure:
            error = str(failure)
        if error is None:
            self.report(f"task {self.task.id} round {view.round}: challenged slot {slot}")
        elif any(name in error for name in NO_MORE_CHALLENGES):
            self._refused.add(slot)
            self.report(f"task {self.task.id} round {view.round}: slot {slot} is wrong and not challenged: {error}")
        # Somebody else's challenge, or a round that is over, is as good.

    async def _model(self, view: RoundView, accepted: tuple[int, ...]) -> NextModel:
        """What these slots make of the model, summed and published once."""
        async with self._summing:
            if accepted not in self._models:
                updates = {slot: update for slot in accepted if (update := self._update(view, slot)) is not None}
                model = await self.job.next_model(view, updates)
                await self.job.publish(model)
                self._models[accepted] = model
            return self._models[accepted]

    async def _attest(
        self, view: RoundView, accepted: tuple[int, ...], params_root: Hash, optimizer_root: Hash
    ) -> None:
        said = (accepted, params_root, optimizer_root)
        for attestation in view.attestations:
            if attestation.validator == self.node.account:
                if (attestation.accepted, attestation.params_root, attestation.optimizer_root) == said:
                    return
                break
        figures = await self._evaluated(params_root) if self.task.is_evaluated(view.round) else None
        error = await self.node.transact(
            "training.attest",
            task=self.task.id,
            round=view.round,
            attempt=view.attempt,
            accepted=bitmap(accepted, len(view.slots)),
            params_root=params_root,
            optimizer_root=optimizer_root,
            evaluation=figures,
        )
        if error is None:
            rejected = len(view.revealed) - len(accepted)
            note = f", {rejected} rejected" if rejected else ""
            if figures is not None:
                note += f", loss {figures[0] / MICRO:.3f}, accuracy {figures[1] / MICRO:.1%}"
            self.report(f"task {self.task.id} round {view.round}: attested {len(accepted)} slots{note}")
        else:
            self.report(f"task {self.task.id} round {view.round}: not attested: {error}")

    async def _evaluated(self, params_root: Hash) -> tuple[int, int]:
        """A model's loss (1e-6) and accuracy (ppm) on the held-out rows, measured once."""
        if params_root not in self._evaluations:
            found, count = await self.job.evaluate(self.engine, await self.job.theta_at(params_root))
            # A stranger's program counts the right answers.
            accuracy = min(max(round(found.correct / count * MICRO), 0), MICRO)
            self._evaluations[params_root] = scoring.in_micro(found.loss_sum / count), accuracy
        return self._evaluations[params_root]


MakeServant = Callable[[TaskView, Node, Engine, Job, Report], TaskAuditor]
