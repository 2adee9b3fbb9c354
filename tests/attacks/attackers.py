"""Whoever attacks otherwise than by a wrong gradient: by what it commits to, repeats, withholds, attests or sums.

Rule: each notes what the chain answered, by the name of the error, for the table to tell.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass, field

from chain.primitives.hashing import Hash
from chain.primitives.seal import bitmap
from chain.primitives.types import Id
from runtime.extensions import decode_transaction
from runtime.potchain import RUNTIME
from tests.attacks.ground import WORKERS
from trainer.files import Pending
from trainer.follow import Report
from trainer.node import Node, RpcNode
from trainer.views import RoundView, TaskView
from trainer.worker import TaskWorker, commitment_of

# A round that began ahead is thrown away where a slot of the one before is rejected: what is sent for it then is late.
GONE = frozenset({"Training.WrongRound", "Training.WrongAttempt", "Training.WrongPhase", "Training.RevealsClosed"})


@dataclass
class Notes:
    """In which attempt of which round it was tried, and what the chain said."""

    at: list[tuple[int, int]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


class Withholder(TaskWorker):
    """Commits, and reveals nothing."""

    notes: Notes

    async def step(self, view: RoundView, height: int) -> None:
        newest = view.ahead or view
        if newest.phase != "reveal" or not newest.assigned(self.node.account):
            await super().step(view, height)
        else:
            self.notes.at = [(newest.round, newest.attempt)]

    async def _resume(self, height: int) -> None:
        """Once is enough."""


class Copycat(Withholder):
    """Commits to what an honest worker has committed to, and reveals that once it has: a cheat might reveal nothing."""

    VICTIMS = frozenset(key.public for key in WORKERS.values())

    async def step(self, view: RoundView, height: int) -> None:
        newest = view.ahead or view
        mine, now = newest.assigned(self.node.account), (newest.round, newest.attempt)
        if not mine or newest.phase not in ("commit", "reveal"):
            await super().step(view, height)
            return
        slot = mine[0]
        own = newest.slots[slot]
        others = [each for each in newest.slots if each.worker in self.VICTIMS]
        place = {"task": self.task.id, "round": newest.round, "attempt": newest.attempt, "slot": slot}
        if newest.phase == "commit" and own.commitment is None:
            copied = next((each.commitment for each in others if each.commitment is not None), None)
            if copied is not None:
                error = await self.node.transact("training.commit", **place, commitment=copied)
                self.report(f"committed to another's commitment: {error}")
        elif newest.phase == "reveal" and now not in self.notes.at:
            other = next((each for each in others if each.commitment == own.commitment and each.update_root), None)
            if other is not None:
                salt, root = await revealed_by(self.node, other.worker, newest.round)  # type: ignore[arg-type]
                error = await self.node.transact("training.reveal", **place, salt=salt, update_root=root)
                if error not in GONE:
                    self.notes.at.append(now)
                    self.notes.said.append(str(error))


class Repeater(Withholder):
    """Honest in its first round; in the next it repeats what it said there, salt and all."""

    said_once: tuple[RoundView, int, Pending] | None = None

    async def step(self, view: RoundView, height: int) -> None:
        newest = view.ahead or view
        mine, before = newest.assigned(self.node.account), self.said_once
        if not mine or newest.phase not in ("commit", "reveal") or self.notes.at:
            await super().step(view, height)
        elif before is None or before[0].round == newest.round:
            await TaskWorker.step(self, view, height)
            pending = self.pending.get(*self._key(newest, mine[0]))
            if pending is not None:
                self.said_once = newest, mine[0], pending
        else:
            await self._repeat(newest, mine[0], *before)

    async def _repeat(self, view: RoundView, slot: int, then: RoundView, its: int, pending: Pending) -> None:
        first = {"task": self.task.id, "round": then.round, "attempt": then.attempt, "slot": its}
        place = {"task": self.task.id, "round": view.round, "attempt": view.attempt, "slot": slot}
        old = commitment_of(self.node.account, self.task.id, then.round, then.attempt, its, pending)
        if view.phase == "commit" and view.slots[slot].commitment is None:
            said = [
                str(await self.node.transact("training.commit", **where, commitment=old))
                for where in (
                    first,
                    {**place, "attempt": view.attempt + 1},
                    {**place, "slot": (slot + 1) % len(view.slots)},
                )
            ]
            error = await self.node.transact("training.commit", **place, commitment=old)
            if error is None:
                self.notes.said += said
            else:
                assert error in GONE, error
        elif view.phase == "reveal" and view.slots[slot].commitment is not None:
            opened = {"salt": pending.salt, "update_root": pending.update_root}
            error = await self.node.transact("training.reveal", **place, **opened)
            if error not in GONE:
                self.notes.said.append(str(error))
                self.notes.at.append((view.round, view.attempt))


async def revealed_by(node: RpcNode, worker: bytes, round_: int) -> tuple[Hash, Hash]:
    """The salt and the root that a worker revealed, from the block in which it did."""
    client = node._client
    block_hash = await client.request("chain_getFinalizedHead")
    while True:
        block = (await client.request("chain_getBlock", block_hash))["block"]
        for text in block["extrinsics"]:
            extrinsic = decode_transaction(RUNTIME, bytes.fromhex(text[2:]))
            signed, call = extrinsic.signature, extrinsic.call
            if signed is None or call.path != "training.reveal" or call.arguments["round"] != round_:
                continue
            if signed.address == Id(worker):
                return call.arguments["salt"], call.arguments["update_root"]
        block_hash = block["header"]["parentHash"]


class Speaker:
    """Whoever only speaks about rounds; a `trainer.follow.Servant`, for the first task."""

    def __init__(self, task: TaskView, node: Node, notes: Notes, report: Report) -> None:
        self.task = task
        self.node = node
        self.notes = notes
        self.report = report

    async def step(self, view: RoundView, height: int) -> None:
        """Speak, if it is time to."""
        now = (view.round, view.attempt)
        if view.phase == "audit" and self.task.id == 0 and await self.speak(view, now) and now not in self.notes.at:
            self.notes.at.append(now)

    async def speak(self, view: RoundView, now: tuple[int, int]) -> bool:
        """Say something, if there is something to say; whether it was heard."""
        raise NotImplementedError

    async def say(self, call: str, view: RoundView, **arguments: object) -> bool:
        """Whether the chain took it."""
        place = {"task": self.task.id, "round": view.round, "attempt": view.attempt}
        error = await self.node.transact(call, **place, **arguments)
        self.report(f"{call} in round {view.round}: {error}")
        return error is None

    def made_up(self, view: RoundView) -> dict[str, bytes]:
        """A model that nobody computed."""
        roots = {"params_root": secrets.token_bytes(32), "optimizer_root": secrets.token_bytes(32)}
        return {"accepted": bitmap(view.revealed, len(view.slots)), **roots}


class FalseWord(Speaker):
    """An auditor that attests, in every round, to a model that nobody computed."""

    async def speak(self, view: RoundView, now: tuple[int, int]) -> bool:
        if any(each.validator == self.node.account for each in view.attestations):
            return False
        return await self.say("training.attest", view, **self.made_up(view), evaluation=(0, 1_000_000))


class FalseSum(Speaker):
    """An aggregator that says, before anybody else, a model that nobody computed."""

    async def speak(self, view: RoundView, now: tuple[int, int]) -> bool:
        return now not in self.notes.at and await self.say("training.aggregate", view, **self.made_up(view))


class FalseAlarm(Speaker):
    """An auditor that challenges honest workers' slots, one in each of so many rounds."""

    honest: Collection[bytes] = ()
    times = 1

    async def speak(self, view: RoundView, now: tuple[int, int]) -> bool:
        slot = next((slot for slot in view.revealed if view.slots[slot].worker in self.honest), None)
        if slot is None or now in self.notes.at or len(self.notes.at) == self.times:
            return False
        return await self.say("training.challenge", view, slot=slot)
