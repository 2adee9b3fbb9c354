"""What a slot remembers when a round begins: recomputed from the chain, or gone on with from the round before.

Rule: a memory follows from the slot's contributions and the updates that were accepted of it since its tenure began
(docs/training-numerics.md), so that whoever lost it computes it as an auditor does.
"""

from __future__ import annotations

from dataclasses import replace

import trio

from chain.primitives.hashing import Hash
from trainer.codecs.memory import EMPTY, Memory
from trainer.codecs.updates import Update
from trainer.files import Place
from trainer.job import Job
from trainer.node import Node
from trainer.sandbox import Engine
from trainer.spill import load
from trainer.views import PastRound, RoundView, TaskView

# The rounds that a walk back looks at: those of one tenure, of each slot at its own place.
PAST_ROUNDS_MAX = 64


class Tenures:
    """The memories of one task's slots in a process."""

    def __init__(self, task: TaskView, node: Node, job: Job) -> None:
        self._task = task
        self._node = node
        self._job = job
        self._files = job.memories
        self._past: dict[int, PastRound] = {}

    async def meant(self, engine: Engine, view: RoundView, slot: int) -> Memory:
        """What a slot is to say in a round, on top of what it has not said before: the codec's `take`."""
        contribution = await self._job.contribution(engine, view, slot)
        memory = await self._before(engine, view, slot)
        return await trio.to_thread.run_sync(self._task.codec.take, memory, contribution)

    async def keep(self, view: RoundView, slot: int, meant: Memory, root: Hash, update: Update) -> None:
        """Remember what is left when an update is accepted, if the slot has a next round in its tenure."""
        if (view.round + 1) % self._task.codec.tenure:
            left = await trio.to_thread.run_sync(self._task.codec.give, meant, update)
            await trio.to_thread.run_sync(self._files.put, self._place(view, slot), root, left)

    async def _before(self, engine: Engine, view: RoundView, slot: int) -> Memory:
        """What the slot remembers of the rounds before."""
        codec, length = self._task.codec, (await self._job.program()).parameters
        walked: list[tuple[RoundView, Hash]] = []
        memory: Memory | None = None
        at = view.round
        while memory is None and at % codec.tenure:
            # What has begun ahead goes on from a round that is not final yet.
            before = view.before if view.before is not None and view.before.round == at - 1 else None
            past = before or await self._past_round(at - 1)
            root = past.accepted_of(slot, view.slots[slot].worker)
            if root is None:
                break
            then = replace(view, round=past.round, attempt=past.attempt, params_root=past.start_root)
            memory = await trio.to_thread.run_sync(self._files.get, self._place(then, slot), root, length)
            if memory is None:
                walked.append((then, root))
            at = past.round
        memory = memory or EMPTY
        for then, root in reversed(walked):
            contribution = await self._job.contribution(engine, then, slot)
            taken = await trio.to_thread.run_sync(codec.take, memory, contribution)
            said = await trio.to_thread.run_sync(load, await self._job.update(then, root))
            memory = await trio.to_thread.run_sync(codec.give, taken, said)
            await trio.to_thread.run_sync(self._files.put, self._place(then, slot), root, memory)
        return memory

    async def _past_round(self, number: int) -> PastRound:
        """A round that is final, asked for once."""
        found = self._past.get(number)
        if found is None:
            found = self._past[number] = await self._node.past_round(self._task.id, number)
            while len(self._past) > PAST_ROUNDS_MAX:
                del self._past[min(self._past)]
        return found

    def _place(self, view: RoundView, slot: int) -> Place:
        return self._task.id, view.round, view.attempt, slot
