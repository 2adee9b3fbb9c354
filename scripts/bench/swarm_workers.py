"""The workers of a swarm: the real worker's code, each with its own key, nonces, connection, secrets and decisions.

Rule: what a node says to everybody alike (heads, rounds, blocks, state of a block) is asked once for all workers of
that node, and so are the data of a task; whatever is of one account (its next nonce, its transactions, its updates)
goes over that worker's own sockets.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio

from chain.primitives.hashing import Hash, blake2_256
from chain.primitives.keys import Keypair
from chain.rpc.client import Client, ClientError, Receipt, RpcError
from chain.rpc.transactions import Sender, failure, hexed
from runtime.modules.balances import POT
from runtime.potchain import RUNTIME
from runtime.types import ApplyExtrinsic
from tests.trainer.cheats import KINDS, Insistent
from trainer.files import BlobFiles, MemoryFiles, Pending, PendingFiles, Place
from trainer.follow import PASSING, leaves
from trainer.job import Job
from trainer.node import NodeError, RpcNode, TaskOver
from trainer.sandbox import Engine
from trainer.views import RoundView, TaskView, ViewError, round_of
from trainer.worker import TaskWorker

HONEST = "honest"
# A commitment whose update is never revealed; the others are wrong updates, as tests.trainer.cheats has them.
SILENT = "silent"
CHEATS = ("noise", "colluding", "copied", SILENT)
# What a new account gets: a bond, as much again for who comes back, and fees.
PURSE = 250 * POT
# A block is asked for by all whose transactions are in it, within a few heads.
BLOCKS_KEPT = 8
RETRY_SECONDS = 1.0

Slot = tuple[int, int, int, int]  # task, round, attempt, slot


@dataclass
class Deeds:
    """What the members of a swarm did and met, which no chain knows."""

    wrong: dict[Slot, str] = field(default_factory=dict)  # how each slot was cheated in
    troubles: Counter[str] = field(default_factory=Counter)  # what did not work at first, by its first words
    sent: int = 0  # transactions that became final

    def met(self, trouble: object) -> None:
        """Count something that has to be tried again."""
        self.troubles[str(trouble)[:100]] += 1


@dataclass(frozen=True, slots=True)
class Block:
    """What is read of a block: when its proposer says that it was made (seconds), extrinsics in hex, event records."""

    height: int
    time: float
    extrinsics: list[str]
    records: list[Any]


def _told(chain: Any) -> tuple[list[Any], int]:
    """The events of a block, and its time in milliseconds."""
    return chain.system.events.get(), chain.timestamp.now.get()


def _drawn_next(task: int, chain: Any) -> tuple[bytes, ...]:
    """Who is drawn for a task's next round."""
    found: tuple[bytes, ...] = chain.training.next_workers[task]
    return found


class _Answer:
    """What a node answers, for all who wait for it."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.value: Any = None
        self.error: Exception | None = None


class Hall:
    """One node, as its workers see it: what it says to everybody is asked for once and told to all."""

    def __init__(self, client: Client, nursery: trio.Nursery, engine: Engine, folder: Path, deeds: Deeds) -> None:
        self.client = client
        self.engine = engine
        self.deeds = deeds
        self.url = client.urls[0]
        self.height = 0
        self.seen = trio.current_time()  # when the newest head came
        self._views: dict[int, tuple[Any, RoundView]] = {}
        self.tasks: dict[int, TaskView] = {}
        self.jobs: dict[int, Job] = {}
        self.members: dict[bytes, Member] = {}
        self.engaged: set[bytes] = set()  # who has a slot, or is drawn for one
        self.paused: defaultdict[bytes, set[int]] = defaultdict(set)  # as the observer has read in blocks
        self._nursery = nursery
        self._folder = folder
        self._answers: dict[tuple[object, ...], _Answer] = {}
        self._blocks: dict[str, Block] = {}
        self._reading = trio.Lock()
        self._changed = trio.Event()

    async def ask(self, method: str, *params: object) -> Any:
        """What the node answers since its newest head."""
        key = (method, *params)
        answer = self._answers.get(key)
        if answer is None:
            answer = self._answers[key] = _Answer()
            # Not by who asks first: that worker may vanish meanwhile.
            self._nursery.start_soon(self._fetch, answer, key, method, params)
        await answer.done.wait()
        if answer.error is not None:
            raise answer.error
        return answer.value

    async def _fetch(self, answer: _Answer, key: tuple[object, ...], method: str, params: tuple[object, ...]) -> None:
        try:
            answer.value = await self.client.request(method, *params)
        except (ClientError, RpcError) as error:
            answer.error = error
            if self._answers.get(key) is answer:
                del self._answers[key]
        finally:
            answer.done.set()

    async def round(self, task: int) -> RoundView:
        """A task's running round as of the newest head, read once."""
        answer = await self.ask("training_round", task)
        if task not in self._views or self._views[task][0] is not answer:
            self._views[task] = answer, round_of(answer)
        return self._views[task][1]

    async def block(self, at: str) -> Block:
        """A block, fetched and read once."""
        async with self._reading:
            if at not in self._blocks:
                block = (await self.client.request("chain_getBlock", at))["block"]
                records, now_ms = await self.client.read(_told, at)
                number = int(block["header"]["number"], 16)
                self._blocks[at] = Block(number, now_ms / 1000, block["extrinsics"], records)
                while len(self._blocks) > BLOCKS_KEPT:
                    del self._blocks[next(iter(self._blocks))]
            return self._blocks[at]

    async def above(self, height: int) -> int:
        """The newest height, as soon as it is above `height`."""
        while self.height <= height:
            await self._changed.wait()
        return self.height

    async def follow(self) -> None:
        """At every head, look at the rounds and wake those who may have something to do."""
        async with self.client.finalized_heads() as heads:
            async for head in heads:
                self.height, self.seen = int(head["number"], 16), trio.current_time()
                self._answers.clear()
                self._changed.set()
                self._changed = trio.Event()
                try:
                    await self._look()
                except (ClientError, RpcError, ViewError) as error:
                    self.deeds.met(error)

    async def _look(self) -> None:
        drawn: set[bytes] = set()
        waking: list[tuple[Member, int]] = []
        for task in self.tasks:
            view = await self.round(task)
            following = await self.client.read(partial(_drawn_next, task))
            paused = [account for account, where in self.paused.items() if task in where]
            newest = (view, *((view.ahead,) if view.ahead else ()))
            busy = {slot.worker for each in newest for slot in each.slots}
            drawn |= busy | set(following)
            # Who copies has to see what others reveal.
            copying = [account for account, member in self.members.items() if member.kind == "copied"]
            here = busy.union(paused, copying) & self.members.keys()
            waking += [(self.members[account], task) for account in here]
        self.engaged = drawn
        for member, task in waking:
            member.wake(task)

    async def open(self, tasks: int) -> None:
        """Learn what the tasks are; their data are fetched when they are first needed, once for all of this hall."""
        node = RpcNode(self.client, Keypair.from_uri("//Swarm"))
        blobs, memories = BlobFiles(self._folder / "blobs"), MemoryFiles(self._folder / "memories")
        for task in range(tasks):
            self.tasks[task] = await node.task(task)
            self.jobs[task] = Job(self.tasks[task], node, blobs, memories)


class MemberClient(Client):
    """A worker's connection: what is of its account goes over it, and the rest is asked in the hall."""

    hall: Hall

    async def request(self, method: str, *params: object, timeout: float = 30.0) -> Any:
        """As `Client.request`."""
        if method.startswith("author_") or method == "system_accountNextIndex":
            return await super().request(method, *params, timeout=timeout)
        return await self.hall.ask(method, *params)

    @classmethod
    @asynccontextmanager
    async def at(cls, hall: Hall) -> AsyncIterator[MemberClient]:
        """A connection to a hall's node."""
        async with cls.reconnecting([hall.url]) as client:
            client.hall = hall
            client._sender = _MemberSender(client, hall)
            yield client


class _MemberSender(Sender):
    """Sends as every client does; what a block made of its transactions is read once for all of a hall."""

    def __init__(self, client: MemberClient, hall: Hall) -> None:
        super().__init__(client, RUNTIME, None)
        self._hall = hall

    async def _receipt(self, raw: bytes, block_hash: bytes) -> Receipt:
        block = await self._hall.block(hexed(block_hash))
        height, index = block.height, block.extrinsics.index(hexed(raw))
        events = tuple(record.event for record in block.records if record.phase == ApplyExtrinsic(index))
        error = failure(RUNTIME, events)
        self._hall.deeds.sent += 1
        # What is asked after this must know of it.
        await self._hall.above(height - 1)
        return Receipt(blake2_256(raw), block_hash, height, index, error is None, error, events)


class _Kept(PendingFiles):
    """What a worker must not forget before it reveals, in memory: a swarm's workers are never started again."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Place, Hash], Pending] = {}

    def get(self, place: Place, source: Hash) -> Pending | None:
        """What was put."""
        return self._kept.get((place, source))

    def put(self, place: Place, source: Hash, pending: Pending) -> None:
        """Keep it."""
        self._kept[place, source] = pending

    def forget_before(self, task: int, round_: int, attempt: int) -> None:
        """Remove what earlier attempts and rounds of a task left."""
        self._kept = {
            key: pending for key, pending in self._kept.items() if key[0][0] != task or key[0][1:3] >= (round_, attempt)
        }


class _Silent(TaskWorker):
    """Commits, and never reveals."""

    deeds: Deeds

    async def _commit(self, view: RoundView, slot: int) -> str | None:
        self.deeds.wrong[self.task.id, view.round, view.attempt, slot] = SILENT
        return await super()._commit(view, slot)

    async def _reveal(self, view: RoundView, slot: int) -> str | None:  # noqa: ARG002
        return None


class _Wrong(Insistent):
    """Reveals something wrong in each of its slots."""

    deeds: Deeds

    async def contribution(self, view: RoundView, slot: int) -> bytes:
        cheated = len(self.at)
        update = await super().contribution(view, slot)
        if len(self.at) > cheated:
            self.deeds.wrong[self.task.id, view.round, view.attempt, slot] = self.kinds[0]
        return update


class Member:
    """One worker: an account, its connection, and what it does for each task."""

    def __init__(self, keypair: Keypair, kind: str, hall: Hall) -> None:
        assert kind in (HONEST, SILENT, *KINDS)
        self.keypair = keypair
        self.kind = kind
        self.hall = hall
        self.registered = trio.Event()
        self.leaving = False
        self.gone = ""  # how it left
        self._scope = trio.CancelScope()
        self._due: set[int] = set()  # the tasks to look at
        self._woken = trio.Event()
        self._servants: dict[int, TaskWorker] = {}
        self._busy: set[int] = set()

    @property
    def account(self) -> bytes:
        """Its public key."""
        return self.keypair.public

    @property
    def is_working(self) -> bool:
        """Whether it may be told to leave."""
        return self.registered.is_set() and not self.leaving and not self.gone

    def wake(self, task: int) -> None:
        """Have it look at a task's round, as soon as it is through with what it saw before."""
        self._due.add(task)
        self._woken.set()

    def vanish(self, how: str) -> None:
        """End without a word to the chain."""
        self.gone = how
        self._scope.cancel()

    async def live(self, fund: Callable[[bytes], Any] | None) -> None:
        """Get funded unless it is, register, and train until it leaves."""
        with self._scope:
            async with MemberClient.at(self.hall) as client:
                node = RpcNode(client, self.keypair)
                if fund is not None:
                    await self._insist(lambda: fund(self.account))
                await self._insist(lambda: node.transact("training.register_worker", capacity=1))
                self.hall.members[self.account] = self
                self.registered.set()
                try:
                    async with trio.open_nursery() as nursery:
                        while not self.gone:
                            await self._woken.wait()
                            self._woken = trio.Event()
                            for task in self._due - self._busy:
                                self._due.discard(task)
                                self._busy.add(task)
                                nursery.start_soon(self._step, node, task)
                finally:
                    del self.hall.members[self.account]

    async def leave(self) -> None:
        """Leave as the protocol has it: be drawn no more, finish what it was drawn for, then go."""
        self.leaving = True
        async with MemberClient.at(self.hall) as client:
            node = RpcNode(client, self.keypair)
            await self._insist(lambda: node.transact("training.deregister_worker"))
            height = self.hall.height
            while not self.gone:
                # What it is drawn for is known a head later.
                height = await self.hall.above(height + 1)
                if self.account not in self.hall.engaged:
                    self.vanish("left")

    async def _insist(self, attempt: Callable[[], Any]) -> None:
        """Try until the chain has taken it."""
        while True:
            try:
                error = await attempt()
            except (NodeError, ClientError, RpcError) as failed:
                error = str(failed)
            if error is None:
                return
            self.hall.deeds.met(error)
            await trio.sleep(RETRY_SECONDS)

    async def _step(self, node: RpcNode, task: int) -> None:
        try:
            view = await self.hall.round(task)
            await self._servant(node, task).step(view, self.hall.height)
        except TaskOver:
            pass
        except Exception as error:
            causes = leaves(error)
            if not all(isinstance(cause, (*PASSING, ClientError, RpcError)) for cause in causes):
                raise
            self.hall.deeds.met(causes[0])
        finally:
            self._busy.discard(task)
            if task in self._due:
                self._woken.set()

    def _servant(self, node: RpcNode, task: int) -> TaskWorker:
        if task not in self._servants:
            hall = self.hall
            arguments = (hall.tasks[task], node, hall.engine, hall.jobs[task], _Kept(), self._report)
            worker: TaskWorker
            if self.kind == HONEST:
                worker = TaskWorker(*arguments)
            elif self.kind == SILENT:
                worker = _Silent(*arguments)
                worker.deeds = hall.deeds
            else:
                worker = _Wrong(*arguments, kinds=(self.kind,), tried={})
                worker.deeds, worker.at = hall.deeds, []
            self._servants[task] = worker
        return self._servants[task]

    def _report(self, line: str) -> None:
        for what in ("not committed to", "not revealed"):
            if f" {what}: " in line:
                self.hall.deeds.met(f"{what}, {line.partition(f' {what}: ')[2]}")


async def withdraw(member: Member) -> None:
    """Have the bond of a member back that left, once it is free."""
    hall = member.hall
    worker = await hall.client.read(lambda chain: chain.training.workers[member.account])
    await hall.above(int(worker.free_at))
    async with MemberClient.at(hall) as client:
        error = await RpcNode(client, member.keypair).transact("training.deregister_worker")
        if error is not None:
            hall.deeds.met(error)
