"""What audits of a task have to tell apart, measured before it is made: its slots by honest machines and by cheats.

Rule: engines compute all of it, in the sandbox and from the shipped bytes, as workers and auditors will; what differs
between them is how many threads they have and which instructions they may use.
"""

from __future__ import annotations

import platform as this_machine
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import trio

from chain.primitives.hashing import blake2_256
from trainer import aggregate, artifact, calibration, choices, dataset, descent, optimizers
from trainer.arrays import Float32s
from trainer.artifact import ArtifactError, Program
from trainer.batches import Rows, slot_rows
from trainer.calibration import Calibration, Trial
from trainer.child import ONE_THREAD
from trainer.codecs import Codec
from trainer.codecs.memory import EMPTY, Memory
from trainer.codecs.topk import TopK
from trainer.codecs.updates import Update
from trainer.dataset import Dataset, DatasetError
from trainer.descent import Descent
from trainer.export import ExportError
from trainer.local import LocalSteps
from trainer.optimizers import FRESH, OptimizerError
from trainer.sandbox import Engine, EngineError, Warn, open_engine
from trainer.schedules import CONSTANT
from trainer.task import Built, Saved, fetch_from

# Measured in round 1, and again in this one: what gradients have in common gets smaller, and what honest machines
# differ by does not. Local steps get there sooner. Where slots remember, it is the last round of a whole tenure.
ROUNDS = 8
TRAINED_BATCHES_MAX = 32
# How many slots are computed in each of the two rounds, where one takes no more batches than this.
SLOTS = 2
SLOT_BATCHES_MAX = 8
SCALE = np.float32(0.95)

# How much is done, of how much, in batches.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Machine:
    """A kind of machine: the platform that its engine computes on, and what its engine is told beside it."""

    name: str
    platform: str
    variables: Mapping[str, str]


def machines(platform: str = "cpu") -> list[Machine]:
    """The kinds of machine that there are to try here, an ordinary worker's engine first."""
    found = [
        Machine("one thread", "cpu", {}),
        Machine("eight threads", "cpu", {"NPROC": "8", "XLA_FLAGS": ""}),
    ]
    if this_machine.machine() in ("x86_64", "AMD64"):
        # No fused multiplication and half the vector's width, which is as far as two processors are apart.
        oldest = f"--xla_cpu_max_isa=SSE4_2 {ONE_THREAD}"
        found.append(Machine("SSE4.2", "cpu", {"XLA_FLAGS": oldest}))
    return found if platform == "cpu" else [*found, Machine(platform, platform, {})]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What of a task's terms says what a slot is: how it is computed, and how it is said."""

    descent: Descent
    codec: Codec
    local_steps: LocalSteps | None
    slots: int
    outliers_ppm: int

    @classmethod
    def of(cls, optimizer: Any, policy: Any) -> Recipe:
        """The recipe in the JSON of a task's optimiser and policy; a share that falls is taken where it has fallen."""
        codec = choices.codec_of(policy["codec"])
        return cls(
            choices.descent_of(optimizer),
            replace(codec, warmup_rounds=0) if isinstance(codec, TopK) else codec,
            choices.local_steps_of(policy["localSteps"]),
            int(policy["slots"]),
            int(policy["outliersPpm"]),
        )

    @property
    def batches(self) -> int:
        """How many batches a slot takes."""
        return self.local_steps.count if self.local_steps else 1


@dataclass(frozen=True, slots=True)
class Round:
    """A round of the training that is measured: its parameters f32[P], and what its slots said."""

    theta: Float32s
    updates: Sequence[Update]


@dataclass(frozen=True, slots=True)
class Place:
    """A slot of a round."""

    round: int
    slot: int


async def measure(
    made: Built | Saved,
    recipe: Recipe,
    kinds: Sequence[Machine],
    cache_dir: Path,
    *,
    said: int | None = None,
    warn: Warn,
    progress: Progress,
) -> Calibration:
    """Calibrate a task's audits by two kinds of machine or more; ExportError or EngineError says why that cannot be.

    Cheats are judged by the tolerance that comes of it, or by the one that its owner `said`.
    """
    try:
        program = artifact.parse(made.blobs[made.program_root])
        data = await dataset.load(made.dataset_root, program, fetch_from(made))
        theta = optimizers.decode_params(made.blobs[made.params_root], program.parameters)
    except (ArtifactError, DatasetError, OptimizerError) as error:
        raise ExportError(str(error)) from None
    async with AsyncExitStack() as stack:
        slots = []
        for number, kind in enumerate(kinds):
            folder, variables = cache_dir / str(number), kind.variables
            engine = await stack.enter_async_context(
                open_engine(folder, kind.platform, warn=warn if number == 0 else _unheard, variables=variables)
            )
            slots.append(_Slots(engine, made, program, data, recipe))
        return await _measured(slots, theta, recipe, said, progress)


def _unheard(line: str) -> None:
    """What one engine says of this system, all of them would."""


async def _measured(
    slots: list[_Slots], theta: Float32s, recipe: Recipe, said: int | None, progress: Progress
) -> Calibration:
    worker = slots[0]
    tenure, batches = recipe.codec.tenure, recipe.batches
    count = min(SLOTS if batches <= SLOT_BATCHES_MAX else 1, recipe.slots)
    enough = max(2, min(ROUNDS, TRAINED_BATCHES_MAX // batches))
    last = enough // tenure * tenure + tenure - 1 if tenure > 1 else enough
    places = [Place(number, slot) for number in sorted({1, last}) for slot in range(count)]
    walked = sum(place.round % tenure + 1 for place in places) * (len(slots) - 1)
    cheats = len(places) * ((worker.batch > 1) + (batches > 1) + 1)
    tally = _Tally(progress, batches * ((last + 1) * count + walked + cheats))
    for each_slots in slots:
        each_slots.tally = tally
    tally.add(0)
    rounds = await worker.train(theta, last + 1, count)
    honest: list[list[Float32s]] = [[] for _ in slots]
    lazy: list[dict[str, Float32s]] = []
    wrong: list[dict[str, Float32s]] = []

    async def compute_here() -> None:
        for place in places:
            honest[0].append(worker.meant[place])
            lazy.append(await worker.lazy(rounds, place))
            wrong.append({"scaled by 5 %": honest[0][-1] * SCALE, "one step stale": await worker.stale(rounds, place)})

    async def compute_elsewhere() -> None:
        for number, other in enumerate(slots[1:], 1):
            honest[number] = [await other.honest(rounds, place) for place in places]
            await other.close()

    # Two processes at a time: most machines have room for that, and what is measured is no speed.
    failures: list[EngineError] = []

    async def guarded(compute: Callable[[], Awaitable[None]]) -> None:
        try:
            await compute()
        except EngineError as error:
            failures.append(error)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(guarded, compute_here)
        nursery.start_soon(guarded, compute_elsewhere)
    if failures:
        raise failures[0]
    trials = [
        Trial([values[index] for values in honest], lazy[index], wrong[index], place.round)
        for index, place in enumerate(places)
    ]
    return await trio.to_thread.run_sync(
        lambda: calibration.calibrate(recipe.codec, trials, recipe.outliers_ppm, said=said)
    )


class _Tally:
    """How many batches have been computed, of how many."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def add(self, batches: int) -> None:
        self._done += batches
        self._progress(self._done, self._total)


class _Slots:
    """The slots of a task as one kind of machine computes them."""

    def __init__(self, engine: Engine, made: Built | Saved, program: Program, data: Dataset, recipe: Recipe) -> None:
        self._engine = engine
        self._root = made.program_root
        self._blob = made.blobs[made.program_root]
        self._program = program
        self._data = data
        self._recipe = recipe
        # Nobody knows the seed of a task that there is not; any other draws rows as well.
        self._seed = blake2_256(b"potchain calibration" + made.program_root)
        self.tally: _Tally | None = None
        self.meant: dict[Place, Float32s] = {}
        self._left: dict[Place, Memory] = {}

    @property
    def batch(self) -> int:
        """Rows of a batch."""
        return self._program.batch

    async def train(self, theta: Float32s, count: int, slots: int) -> list[Round]:
        """So many rounds of so many slots, at the full rate; `meant` and `memory` keep what each slot was to say."""
        codec, state = self._recipe.codec, FRESH
        full = replace(self._recipe.descent, schedule=CONSTANT)
        rounds: list[Round] = []
        for number in range(count):
            updates = []
            for place in (Place(number, slot) for slot in range(slots)):
                taken = codec.take(self._remembered(place), await self._contribution(place, theta))
                update = codec.quantise(taken.meant, number)
                self.meant[place], self._left[place] = taken.meant, codec.give(taken, update)
                updates.append(update)
            rounds.append(Round(theta, updates))
            theta, state = descent.step(full, state, theta, aggregate.mean(updates))
        return rounds

    async def honest(self, rounds: Sequence[Round], place: Place) -> Float32s:
        """What the slot is to say, by what it said since its tenure began."""
        codec = self._recipe.codec
        for number in range(place.round - place.round % codec.tenure, place.round + 1):
            at = Place(number, place.slot)
            taken = codec.take(self._remembered(at), await self._contribution(at, rounds[number].theta))
            self._left[at] = codec.give(taken, rounds[number].updates[place.slot])
        return taken.meant

    async def stale(self, rounds: Sequence[Round], place: Place) -> Float32s:
        """What it says by the parameters of the round before."""
        return self._said(place, await self._contribution(place, rounds[place.round - 1].theta))

    async def lazy(self, rounds: Sequence[Round], place: Place) -> dict[str, Float32s]:
        """What it says where a sample, or a step, was left out."""
        found = {}
        theta, rows, steps = rounds[place.round].theta, self._rows(place), self._recipe.local_steps
        if self.batch > 1:
            fewer = rows.copy()
            fewer[-1] = fewer[-self.batch]  # A program takes whole batches: who has one sample less repeats another.
            values = await self._compute(place.round, theta, fewer, steps)
            found[f"one sample of {rows.size:,} left out"] = self._said(place, values)
        if steps is not None and steps.count > 1:
            shorter = replace(steps, count=steps.count - 1)
            values = await self._compute(place.round, theta, rows[: -self.batch], shorter)
            found[f"one step of {steps.count:,} left out"] = self._said(place, values)
        return found

    def _said(self, place: Place, contribution: Float32s) -> Float32s:
        return self._recipe.codec.take(self._remembered(place), contribution).meant

    def _remembered(self, place: Place) -> Memory:
        """What the slot had not said when the round began: nothing where its tenure begins."""
        begins = place.round % self._recipe.codec.tenure == 0
        return EMPTY if begins else self._left[Place(place.round - 1, place.slot)]

    async def _contribution(self, place: Place, theta: Float32s) -> Float32s:
        return await self._compute(place.round, theta, self._rows(place), self._recipe.local_steps)

    async def close(self) -> None:
        """End the engine."""
        await self._engine.close()

    def _rows(self, place: Place) -> Rows:
        size = self.batch * self._recipe.batches
        return slot_rows(self._seed, place.round, 0, place.slot, size, self._data.train_count)

    async def _compute(self, number: int, theta: Float32s, rows: Rows, steps: LocalSteps | None) -> Float32s:
        await self._engine.load(self._root, self._program, self._blob)
        x, y = self._data.batch(rows)
        if steps is None:
            values = (await self._engine.gradient(self._root, theta, x, y)).values
        else:
            values = await self._engine.local_steps(self._root, theta, x, y, steps, number)
        if self.tally is not None:
            self.tally.add(rows.size // self.batch)
        return values
