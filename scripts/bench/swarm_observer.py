"""What the chain says of a swarm: every block's events read once, rounds timed, seconds counted, slots judged.

Rule: what is counted is what blocks say; only which slots were cheated in is known from the swarm itself.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import Any

import trio
from swarm_network import Plan
from swarm_workers import HONEST, SILENT, Deeds, Hall, Member

from chain.primitives import ss58
from runtime.modules.training import Training
from runtime.modules.training_types import ReopenReason, SlashReason

# Beyond the time of a block: when its proposer is late, the next one takes its turn after three seconds.
LATE_SECONDS_MAX = 4.0
RETIRED_MAX = 4096


@dataclass
class Round:
    """A round of a task: when it began, and what the chain keeps of it once it is final."""

    opened_height: int
    opened: float
    record: Any = None
    attempts: int = 1


@dataclass
class Judged:
    """What became of the slots of final rounds."""

    accepted: int = 0
    caught: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    honest_refused: int = 0
    honest_late: int = 0
    gone: int = 0  # nobody was there any more
    slashed: Counter[str] = field(default_factory=Counter)

    @property
    def caught_share(self) -> float:
        """Of all that could be caught, the share that was."""
        total = self.caught.total() + self.missed.total()
        return self.caught.total() / total if total else 1.0

    def lines(self) -> list[str]:
        """In words."""
        kinds = sorted({*self.caught, *self.missed})
        cheats = ", ".join(f"{kind} {self.caught[kind]} and {self.missed[kind]}" for kind in kinds) or "nobody cheated"
        slashed = ", ".join(f"{what} {count}" for what, count in sorted(self.slashed.items())) or "nobody"
        return [
            f"slots of honest workers: {self.accepted} accepted, {self.honest_refused} refused, "
            f"{self.honest_late} missed; {self.gone} of workers that had left",
            f"cheats caught and missed: {cheats}",
            f"slashed: {slashed}",
        ]


@dataclass(frozen=True, slots=True)
class Moment:
    """A block: when it was made, and whether each task had a round under way and when its last one became final."""

    time: float
    seen: float  # when the swarm had read it
    open: tuple[bool, ...]
    final_at: tuple[float, ...]


class Observer:
    """Follows every block of one node. Times are those in blocks: how late the swarm reads them changes nothing."""

    def __init__(self, halls: list[Hall], everybody: Mapping[bytes, Member], tasks: int) -> None:
        self.halls = halls
        self.everybody = everybody
        self.rounds: list[dict[int, Round]] = [{} for _ in range(tasks)]
        self.height = 0
        self.moments: list[Moment] = []
        self.chain_up: list[bool] = []
        self.market_up: list[bool] = []
        self.gaps: list[float] = []
        self.lags: list[float] = []
        self.round_seconds: list[float] = []
        self.round_blocks: list[float] = []
        self.reopened: Counter[str] = Counter()
        self.slashes: list[tuple[bytes, SlashReason]] = []
        self._open = [False] * tasks
        self._final_at = [time.time()] * tasks
        self._first: list[int] = [0] * tasks
        self._began = inf
        self._send, self._receive = trio.open_memory_channel[bytes](RETIRED_MAX)
        self._changed = trio.Event()

    def __str__(self) -> str:
        rounds = ", ".join(str(sum(each.record is not None for each in task.values())) for task in self.rounds)
        lag = time.time() - self.moments[-1].time
        return f"height {self.height}, made {lag:.1f} s ago; final rounds {rounds}"

    @property
    def rounds_told(self) -> str:
        """How many became final, and what was begun anew."""
        anew = ", ".join(f"{count} for {why}" for why, count in sorted(self.reopened.items())) or "none"
        return f"{len(self.round_seconds)} final, begun anew: {anew}"

    async def rounds_final(self, count: int) -> None:
        """Return when each task has so many final rounds."""
        while any(sum(each.record is not None for each in task.values()) < count for task in self.rounds):
            await self._changed.wait()

    def begin(self) -> None:
        """Count from now on."""
        self._began = time.time()
        self._first = [
            min((number for number, each in task.items() if each.record is None), default=0) for task in self.rounds
        ]

    async def end(self, plan: Plan) -> None:
        """Read all blocks up to now, and say of each second whether chain and market were up."""
        ended = time.time()
        while self.moments[-1].time < ended:
            await self._changed.wait()
        times = [moment.time for moment in self.moments]
        for second in range(1, int(ended - self._began) + 1):
            at = self._began + second
            last = self.moments[bisect_right(times, at) - 1]
            self.chain_up.append(at - last.time <= plan.block_ms / 1000 + LATE_SECONDS_MAX)
            late = (at - final_at > plan.round_seconds_max for final_at in last.final_at)
            self.market_up.append(all(last.open) and not any(late))
        counted = [moment for moment in self.moments if self._began <= moment.time <= ended]
        self.gaps = [after.time - before.time for before, after in pairwise(counted)]
        self.lags = [moment.seen - moment.time for moment in counted]

    async def retired(self) -> AsyncIterator[bytes]:
        """The accounts that can be drawn no more, as it happens."""
        async for account in self._receive:
            yield account

    async def follow(self) -> None:
        """Read every block, in order."""
        hall = self.halls[0]
        while True:
            newest = await hall.above(self.height)
            for height in range(self.height + 1, newest + 1):
                block = await hall.block(await hall.client.request("chain_getBlockHash", height))
                for each in block.records:
                    await self._note(each.event, height, block.time)
                self.height = height
                self.moments.append(Moment(block.time, time.time(), tuple(self._open), tuple(self._final_at)))
            self._changed.set()
            self._changed = trio.Event()

    async def _note(self, event: Any, height: int, now: float) -> None:
        match event:
            case Training.RoundOpened(task, number, attempt, _):
                found = self.rounds[task].setdefault(number, Round(height, now))
                found.attempts = attempt + 1
                self._open[task] = True
            case Training.RoundReopened(task, _, _, reason):
                self._open[task] = False
                if now >= self._began:
                    self.reopened[ReopenReason(reason).name.lower().replace("_", " ")] += 1
            case Training.RoundFinalised(task, number):
                self._open[task] = number + 1 in self.rounds[task]
                self._final_at[task] = now
                await self._close(task, number, height, now)
            case Training.WorkerPaused(worker, task, _):
                if worker in self.everybody:
                    self.everybody[worker].hall.paused[worker].add(task)
            case Training.WorkerResumed(worker, task):
                if worker in self.everybody:
                    self.everybody[worker].hall.paused[worker].discard(task)
            case Training.WorkerRetired(worker, _):
                self._send.send_nowait(worker)
            case Training.WorkerSlashed(worker, _, _, _, reason):
                if now >= self._began:
                    self.slashes.append((worker, SlashReason(reason)))

    async def _close(self, task: int, number: int, height: int, now: float) -> None:
        found = self.rounds[task][number]
        found.record = await self.halls[0].client.request("training_round", task, number)
        if now >= self._began:
            self.round_seconds.append(now - found.opened)
            self.round_blocks.append(height - found.opened_height)

    def judged(self, deeds: Deeds, everybody: Mapping[bytes, Member]) -> Judged:
        """What became of each slot of the rounds that became final while it was counted."""
        found = Judged()
        for task, rounds in enumerate(self.rounds):
            for number, each in rounds.items():
                if each.record is None or number < self._first[task]:
                    continue
                for slot in each.record["slots"]:
                    place = task, number, each.record["attempt"], slot["slot"]
                    member = everybody[ss58.decode(slot["worker"], None)]
                    self._judge(found, slot, deeds.wrong.get(place), member)
        for account, reason in self.slashes:
            kind = everybody[account].kind if account in everybody else "others"
            found.slashed[f"{kind}, {reason.name.lower().replace('_', ' ')}"] += 1
        return found

    @staticmethod
    def _judge(found: Judged, slot: Mapping[str, Any], wrong: str | None, member: Member) -> None:
        revealed = slot["updateRoot"] is not None
        if wrong is not None and (revealed or wrong == SILENT):
            (found.missed if slot["accepted"] else found.caught)[wrong] += 1
        elif slot["accepted"]:
            found.accepted += 1
        elif revealed:
            found.honest_refused += 1
        elif member.gone:
            found.gone += 1
        elif member.kind == HONEST:
            found.honest_late += 1
