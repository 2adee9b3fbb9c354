"""What the chain says of a swarm: every block's events read once, rounds timed, seconds counted, slots judged.

Rule: what is counted is what blocks say; only which slots were cheated in is known from the swarm itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import trio
from swarm_network import Plan
from swarm_workers import HONEST, SILENT, Deeds, Hall, Member

from chain.primitives import ss58
from runtime.modules.training import Training
from runtime.modules.training_types import ReopenReason, SlashReason

# A block a second; when its proposer is late, the next one takes its turn after three.
BLOCK_SECONDS_MAX = 5.0
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


class Observer:
    """Follows every block of one node."""

    def __init__(self, hall: Hall, tasks: int) -> None:
        self.hall = hall
        self.rounds: list[dict[int, Round]] = [{} for _ in range(tasks)]
        self.open = [False] * tasks  # whether a task has a round that is not waiting for anything
        self.final_at = [trio.current_time()] * tasks  # when the last round of each became final
        self.height = 0
        self.block_at = trio.current_time()
        self.gaps: list[float] = []
        self.chain_up: list[bool] = []
        self.market_up: list[bool] = []
        self.round_seconds: list[float] = []
        self.round_blocks: list[float] = []
        self.events: Counter[str] = Counter()
        self.reopened: Counter[str] = Counter()
        self.slashes: list[tuple[bytes, SlashReason]] = []
        self._first: list[int] = [0] * tasks
        self._counting = False
        self._send, self._receive = trio.open_memory_channel[bytes](RETIRED_MAX)
        self._changed = trio.Event()

    def __str__(self) -> str:
        return (
            f"height {self.height}, rounds {', '.join(str(len(each)) for each in self.rounds)}, "
            f"chain {self._share(self.chain_up)}, market {self._share(self.market_up)}"
        )

    @staticmethod
    def _share(up: list[bool]) -> str:
        return f"{sum(up)}/{len(up)}"

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
        self._counting = True
        self.gaps.clear()
        self._first = [
            min((number for number, each in task.items() if each.record is None), default=0) for task in self.rounds
        ]

    async def end(self) -> None:
        """Count no more."""
        self._counting = False

    async def retired(self) -> AsyncIterator[bytes]:
        """The accounts that can be drawn no more, as it happens."""
        async for account in self._receive:
            yield account

    async def follow(self) -> None:
        """Read every block, in order."""
        while True:
            newest = await self.hall.above(self.height)
            now = trio.current_time()
            self.gaps += [now - self.block_at]
            self.block_at = now
            for height in range(self.height + 1, newest + 1):
                at = await self.hall.client.request("chain_getBlockHash", height)
                _, _, records = await self.hall.block(at)
                for each in records:
                    await self._note(each.event, height, now)
                self.height = height
            self._changed.set()
            self._changed = trio.Event()

    async def _note(self, event: Any, height: int, now: float) -> None:
        match event:
            case Training.RoundOpened(task, number, attempt, _):
                found = self.rounds[task].setdefault(number, Round(height, now))
                found.attempts = attempt + 1
                self.open[task] = True
            case Training.RoundReopened(task, _, _, reason):
                self.open[task] = False
                if self._counting:
                    self.reopened[ReopenReason(reason).name.lower().replace("_", " ")] += 1
            case Training.RoundFinalised(task, number):
                self.open[task] = number + 1 in self.rounds[task]
                self.final_at[task] = now
                await self._close(task, number, height, now)
            case Training.WorkerRetired(worker, _):
                self._send.send_nowait(worker)
            case Training.WorkerSlashed(worker, _, _, _, reason):
                if self._counting:
                    self.slashes.append((worker, SlashReason(reason)))

    async def _close(self, task: int, number: int, height: int, now: float) -> None:
        found = self.rounds[task][number]
        found.record = await self.hall.client.request("training_round", task, number)
        if self._counting:
            self.round_seconds.append(now - found.opened)
            self.round_blocks.append(height - found.opened_height)

    async def watch(self, halls: list[Hall], plan: Plan) -> None:
        """Every second, say whether chain and market are up."""
        began, second = trio.current_time(), 0
        while True:
            second += 1
            await trio.sleep_until(began + second)
            now = trio.current_time()
            self.chain_up.append(now - max(hall.seen for hall in halls) <= BLOCK_SECONDS_MAX)
            late = plan.round_seconds_max
            self.market_up.append(all(self.open) and all(now - at <= late for at in self.final_at))

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
