"""The worker: computes what its slots are to say, commits to it, reveals it.

Rule: what a commitment hides is on disk before the commitment is sent and nowhere else before the reveal, so that a
kill at any moment costs neither the bond nor the secret.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import trio

from chain.primitives.blob import blob_root
from chain.primitives.hashing import Hash, blake2_256
from chain.primitives.keys import Keypair
from chain.wallet.known import ANY_CHAIN, Known
from trainer.codecs.updates import Update
from trainer.devices import named
from trainer.files import Files, Pending, PendingFiles, Place, kept_secret
from trainer.follow import Heights, Report, Servant, follow
from trainer.hosts import Cluster, open_spread_engines
from trainer.job import Job
from trainer.measured import MeasuredNode
from trainer.metrics import ENCODE, Meter
from trainer.node import Node, NodeError, TaskOver, open_node
from trainer.plants import Planter, spoiled
from trainer.sandbox import Engine, Engines, open_engines
from trainer.status import tell
from trainer.tenure import Tenures
from trainer.views import RoundView, TaskView

# The secret that says which slots are planted.
PLANT_KEY = "plant.key"
# After every round that there may be.
ROUNDS_END = (1 << 32, 0)
# After a registration that failed (no money for the bond, say), this many blocks pass before the next.
RETRY_BLOCKS = 10
# Most audits end so many blocks after they began; in those that do not, something may be missing.
SETTLED_BLOCKS = 2
# A worker that misses slot after slot (its engine dies of each, say) waits twice as long every time: it costs each
# round the time that the others wait for it. Who has not resumed after 600 blocks is retired as missing.
PAUSE_BLOCKS_MAX = 512


async def run_worker(
    urls: Sequence[str],
    keypair: Keypair,
    cache_dir: Path,
    *,
    report: Report,
    known: Known = ANY_CHAIN,
    platform: str = "cpu",
    devices: int | None = 1,
    capacity: int | None = 4,
    capacity_max: int = 16,
    meter: Meter | None = None,
    cluster: Cluster | None = None,
    plants: bool = False,
) -> None:
    """Train for every task of the chain behind `urls` until cancelled, up to `capacity` slots of a round at once.

    None is one for each device, as far as the chain lets a worker have so many; those of the other hosts of a `cluster`
    count. With `plants` it reveals a wrong update now and then, where the chain lets it, so that auditors who do not
    look lose. `report` gets one line at a time.
    """
    if cluster is None:
        opened = open_engines(cache_dir, platform, warn=report, devices=devices, meter=meter)
    else:
        opened = open_spread_engines(cluster, cache_dir, platform, report=report, devices=devices, meter=meter)
    async with opened as engines:
        found = await engines.require_devices()
        capacity = capacity or min(len(found), capacity_max)
        report(f"computes on {named(found)}, up to {capacity} slot{'s'[: capacity - 1]} of a round at once")
        async with open_node(urls, keypair, known) as node:
            measured = MeasuredNode(node, engines.meter)
            planter = Planter(kept_secret(cache_dir / PLANT_KEY), keypair.public) if plants else None
            await work(measured, engines, cache_dir, report=report, capacity=capacity, planter=planter)


async def work(
    node: Node,
    engines: Engines,
    cache_dir: Path,
    *,
    report: Report,
    capacity: int = 4,
    servant: MakeServant | None = None,
    planter: Planter | None = None,
) -> None:
    """A worker's life on a chain; `servant` makes what serves a task, a `TaskWorker` unless told."""
    files = Files.open(cache_dir)
    make = servant or TaskWorker

    def serve(task: TaskView) -> Servant:
        # Only silos are drawn for a task whose data they have.
        if task.scored is not None:
            return Bystander()
        worker = make(
            task, node, engines.of(task.id), Job(task, node, files.blobs, files.memories), files.pending, report
        )
        worker.planter = planter
        worker.turns = trio.Semaphore(engines.lanes)
        return worker

    async def always(heights: Heights) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(register_worker, node, capacity, heights, report)
            nursery.start_soon(tell, node, heights, engines.meter, engines.devices, report)
            if planter is not None:
                nursery.start_soon(_set_plant_key, node, planter, heights, report)
                nursery.start_soon(_show_plants, node, planter, heights, report)

    await follow(
        node,
        serve,
        report,
        release=engines.release,
        forget=files.forget,
        always=always,
    )


def commitment_of(worker: bytes, task: int, round_: int, attempt: int, slot: int, pending: Pending) -> Hash:
    """BLAKE2b-256 of SCALE (account, u32 task, round and attempt, u16 slot, salt, root), as Training checks it."""
    numbers = b"".join(number.to_bytes(4, "little") for number in (task, round_, attempt)) + slot.to_bytes(2, "little")
    return blake2_256(worker + numbers + pending.salt + pending.update_root)


class Bystander:
    """What a worker does for a task that it cannot be drawn for."""

    async def step(self, view: RoundView, height: int) -> None:
        """Nothing."""


class TaskWorker:
    """A worker's part in one task."""

    # What pauses it.
    PAUSED_BY = "a missed slot"

    def __init__(
        self, task: TaskView, node: Node, engine: Engine, job: Job, pending: PendingFiles, report: Report
    ) -> None:
        self.task = task
        self.node = node
        self.engine = engine
        self.job = job
        self.tenures = Tenures(task, node, job)
        self.pending = pending
        self.report = report
        self.planter: Planter | None = None
        # As many slots are computed at once as there are lanes: one that waits may not be wanted any more.
        self.turns = trio.Semaphore(1)
        # How many blocks the next pause lasts, and when this one ends.
        self._patience = 0
        self._resume_at: int | None = None

    async def step(self, view: RoundView, height: int) -> None:
        """Commit what is not committed, reveal what is not revealed, and keep what is revealed within reach.

        While a round is audited, the one that has begun ahead is worked on.
        """
        self._expect_plants(view)
        newest, me = view.ahead or view, self.node.account
        mine = newest.assigned(me)
        slots = newest.slots
        uncommitted = [slot for slot in mine if slots[slot].commitment is None]
        unrevealed = [slot for slot in mine if slots[slot].commitment is not None and slots[slot].update_root is None]
        if newest.phase == "commit" and uncommitted:
            await self._each(uncommitted, newest, self._commit, "committed to", first=self.prepare)
            return
        if newest.phase == "reveal" and unrevealed:
            await self._each(unrevealed, newest, self._reveal, "revealed")
            return
        if view.phase == "audit" and height >= view.deadline - self.task.audit_blocks + SETTLED_BLOCKS:
            revealed = [slot for slot in view.assigned(me) if view.slots[slot].update_root is not None]
            await self._keep_within_reach(revealed, view)
        await trio.to_thread.run_sync(self.pending.forget_before, self.task.id, view.round, view.attempt)
        await self.job.prepare(self.engine)
        if not mine:
            await self._resume(height)

    def _expect_plants(self, view: RoundView) -> None:
        """Have the planted slots of a round in audit shown, which must not wait for what is computed meanwhile."""
        if self.planter is None or view.phase != "audit":
            return
        for slot in view.assigned(self.node.account):
            pending = self.pending.get(*self._key(view, slot))
            if pending is not None and pending.plant_proof:
                self.planter.hidden[self.task.id, view.round, view.attempt, slot] = pending.plant_proof

    async def _keep_within_reach(self, revealed: Sequence[int], view: RoundView) -> None:
        """Store updates again that are gone with the node that had them: what nobody can fetch counts as wrong."""
        for slot in revealed:
            pending = self.pending.get(*self._key(view, slot))
            if pending is not None and not await self.node.has_blob(pending.update_root):
                await self.upload(pending, view)

    async def _resume(self, height: int) -> None:
        """Be drawn again after a missed slot: at once, and later each time when nothing was revealed since."""
        if not await self.node.is_paused(self.task.id):
            return
        if self._resume_at is None:
            self._resume_at = height + self._patience
            self._patience = min(max(1, 2 * self._patience), PAUSE_BLOCKS_MAX)
        if height < self._resume_at:
            return
        error = await self.node.transact("training.resume", task=self.task.id)
        if error is None:
            self._resume_at = None
            self.report(f"task {self.task.id}: back after {self.PAUSED_BY}")
        else:
            self.report(f"task {self.task.id}: still paused after {self.PAUSED_BY}: {error}")

    async def prepare(self, view: RoundView, slot: int) -> None:
        """Compute a slot's update and make it durable; an update that is durable is not computed again."""
        key = self._key(view, slot)
        if self.pending.get(*key) is not None:
            return
        async with self.turns:
            if not await self._goes_on(view):
                return
            update, proof = await self._planted(view, slot) or (await self.contribution(view, slot), b"")
        pending = Pending(secrets.token_bytes(32), blob_root(update), update, proof)
        await trio.to_thread.run_sync(self.pending.put, *key, pending)
        if proof and self.planter is not None:
            self.planter.hidden[key[0]] = proof

    async def _goes_on(self, view: RoundView) -> bool:
        """Whether a round that had begun ahead has not been thrown away since: what is sent to one costs a fee."""
        if view.before is None:
            return True
        now = await self.node.round(self.task.id)
        found = [(each.round, each.attempt) for each in (now, now.ahead) if each is not None]
        return (view.round, view.attempt) in found

    async def _planted(self, view: RoundView, slot: int) -> tuple[bytes, bytes] | None:
        """A wrong update and what shows that it may be wrong; None for almost all slots."""
        # What is wrong ends a tenure, and what a slot remembers is worth more.
        if self.planter is None or view.plant_beacon is None or self.task.codec.tenure > 1:
            return None
        place = self.task.id, view.round, view.attempt, slot
        proof = self.planter.proof(await self.node.plant_rules(), view.opened_at, view.plant_beacon, *place)
        if proof is None:
            return None
        meant = await self.tenures.meant(self.engine, view, slot)
        spoil = partial(spoiled, self.job.codec, meant.meant, self.task.tolerance, view.round, proof)
        update = await trio.to_thread.run_sync(spoil)
        if update is None:
            return None
        self.report(f"task {self.task.id} round {view.round}: slot {slot} is wrong on purpose, to see who audits it")
        return update.encode(), proof

    def _key(self, view: RoundView, slot: int) -> tuple[Place, Hash]:
        """Where a slot's update is kept: by its place, and by all that it follows from."""
        task = self.task
        source = blake2_256(task.program_root + task.dataset_root + task.seed + view.params_root)
        return (task.id, view.round, view.attempt, slot), source

    async def contribution(self, view: RoundView, slot: int) -> bytes:
        """The slot's update blob."""
        meant = await self.tenures.meant(self.engine, view, slot)

        def said() -> tuple[Update, bytes]:
            update = self.job.codec.quantise(meant.meant, view.round)
            return update, update.encode()

        with self.engine.meter.stage(ENCODE):
            update, blob = await trio.to_thread.run_sync(said)
        await self.tenures.keep(view, slot, meant, blob_root(blob), update)
        return blob

    async def upload(self, pending: Pending, view: RoundView) -> None:  # noqa: ARG002
        """Store an update where auditors find it."""
        await self.node.put_blob(pending.update)

    async def _commit(self, view: RoundView, slot: int) -> str | None:
        if not await self._goes_on(view):
            return "the round is thrown away, since a slot of the one before does not count"
        pending = self.pending.get(*self._key(view, slot))
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
        pending = self.pending.get(*self._key(view, slot))
        if pending is None:
            return "its salt and update are not on disk: was the cache folder removed?"
        await self.upload(pending, view)
        error = await self.node.transact(
            "training.reveal",
            task=self.task.id,
            round=view.round,
            attempt=view.attempt,
            slot=slot,
            salt=pending.salt,
            update_root=pending.update_root,
        )
        if error is None:
            self._patience = 0
        return error

    async def _each(
        self,
        slots: Sequence[int],
        view: RoundView,
        act: Callable[[RoundView, int], Awaitable[str | None]],
        done: str,
        *,
        first: Callable[[RoundView, int], Awaitable[None]] | None = None,
    ) -> None:
        """Act on all slots at once; one line for those that succeeded, one for each that failed.

        What comes `first` is computed in turns; a slot that is ready waits for no other.
        """
        succeeded: list[int] = []

        async def one(slot: int) -> None:
            if first is not None:
                await first(view, slot)
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


MakeServant = Callable[[TaskView, Node, Engine, Job, PendingFiles, Report], TaskWorker]


async def _set_plant_key(node: Node, planter: Planter, heights: Heights, report: Report) -> None:
    """Set the key that says which slots are planted, once the account is a worker."""
    height = heights.newest - 1
    while True:
        height = await heights.above(height)
        try:
            if (await node.plant_rules()).key == planter.key:
                return
            if not await node.worker_capacity():
                continue
            arguments = {"key": planter.key, "proof": planter.possession}
            error = await node.transact("training.set_plant_key", **arguments)
        except NodeError as failure:
            error = str(failure)
        if error is not None:
            report(f"no key for planted faults, trying again in {RETRY_BLOCKS} blocks: {error}")
            height = await heights.above(height + RETRY_BLOCKS - 1)


async def _show_plants(node: Node, planter: Planter, heights: Heights, report: Report) -> None:
    """Show planted slots, at the first head at which no auditor learns from it what it should have found out."""
    height = heights.newest - 1
    while True:
        height = await heights.above(height)
        for task in sorted({place[0] for place in planter.hidden}):
            try:
                view = await node.round(task)
            except NodeError:
                continue
            except TaskOver:
                planter.forget_before(task, ROUNDS_END)
                continue
            planter.forget_before(task, (view.round, view.attempt))
            for slot in planter.due(task, view):
                error = await _show_plant(node, (task, view.round, view.attempt, slot), planter)
                said = "shown to be planted" if error is None else f"planted and not shown: {error}"
                report(f"task {task} round {view.round}: slot {slot} {said}")


async def _show_plant(node: Node, place: Place, planter: Planter) -> str | None:
    task, round_, attempt, slot = place
    arguments = {"task": task, "round": round_, "attempt": attempt, "slot": slot, "proof": planter.hidden[place]}
    try:
        error = await node.transact("training.show_plant", **arguments)
    except NodeError as failure:
        return str(failure)
    if error is None:
        planter.hidden.pop(place, None)
    return error


async def register_worker(node: Node, capacity: int, heights: Heights, report: Report) -> None:
    """Register, once, for so many slots of a round.

    Who loses the registration was slashed or took it back, and must not pay for either twice.
    """
    registered = False
    height = heights.newest - 1
    while True:
        height = await heights.above(height)
        try:
            found = await node.worker_capacity()
            registered |= found > 0
            if found >= capacity:
                continue
            if registered and not found:
                report(
                    "no longer registered: slashed, deregistered, or away for ten minutes after a missed slot; "
                    "find out why, then start again to register"
                )
                return
            error = await node.transact("training.register_worker", capacity=capacity)
        except NodeError as failure:
            error = str(failure)
        if error is None:
            report(f"registered: can be drawn for {capacity} slot{'s'[: capacity - 1]} of a round from now on")
        else:
            report(f"not registered as a worker, trying again in {RETRY_BLOCKS} blocks: {error}")
            height = await heights.above(height + RETRY_BLOCKS - 1)
