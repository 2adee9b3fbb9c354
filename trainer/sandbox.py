"""The parent's handle on its engine child: started when first needed, a request a device at a time, killed when late.

Rule: whatever the child does (crash, hang, lie, grow), the parent gets an exception within the deadline and the next
request gets a fresh child.
"""

from __future__ import annotations

import shutil
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import trio

from chain.primitives.hashing import Hash
from trainer import child, choices, wire
from trainer.arrays import Float32s
from trainer.artifact import Program
from trainer.child import Child, Lane
from trainer.local import LocalSteps
from trainer.metrics import COMPUTE, EVALUATE, Meter
from trainer.node import CannotServe
from trainer.packing import PackingError
from trainer.places import Places

# After that many deaths in a row with one program, the program is taken to be the reason, and rests for ten minutes
# before each further try: what killed the engines may also have been this machine running out of memory.
CRASHES_MAX = 3
NO_PROGRAM = bytes(32)  # in place of a program's root where none is meant
SUSPENDED_SECONDS = 600.0

# Gets each protection that this system does not offer, as the child says it when it starts.
Warn = Callable[[str], None]


def to_stderr(line: str) -> None:
    """A warning for whoever has no better place for it."""
    print(line, file=sys.stderr)


class EngineError(Exception):
    """A request to the engine failed."""


class EngineCrashed(EngineError):
    """The child died or broke the protocol; a request may be tried again."""


class EngineTimeout(EngineError):
    """The child took longer than the deadline and was killed."""


class ProgramRefused(EngineError):
    """The program may not run here: it is malformed, not on the list or too costly."""


class ProgramSuspended(EngineError):
    """The program killed every engine lately, and is not tried for a while."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds that a request may take."""

    # Importing JAX beside busy neighbours takes seconds, compiling a large model minutes.
    load: float = 300.0
    # A batch within the flop budget takes one core two minutes; local steps have as long for each of them.
    run: float = 240.0
    # But no phase of a round is longer than so many blocks of a second.
    slot: float = 14_400.0


@dataclass(frozen=True, slots=True)
class Gradient:
    """One slot's result: its loss, and grad f32[P]."""

    loss: float
    values: Float32s


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Summed loss and number of right answers over the rows evaluated."""

    loss_sum: float
    correct: int


class Engine:
    """One engine child, present or not. Use `open_engine`."""

    def __init__(
        self,
        cache_dir: Path,
        platform: str,
        deadlines: Deadlines,
        warn: Warn,
        devices: int | None = 1,
        places: Places | None = None,
        meter: Meter | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        if platform not in child.PLATFORMS:
            raise ValueError(f"platform: expected one of {', '.join(child.PLATFORMS)}, got {platform!r}")
        if devices is not None and not 1 <= devices <= child.DEVICES_MAX:
            raise ValueError(f"devices: expected 1 to {child.DEVICES_MAX}, got {devices}")
        self._cache_dir = cache_dir.absolute()
        self._platform = platform
        self._deadlines = deadlines
        self._warn = warn
        self._wanted = devices
        self._variables = variables or {}
        self._places = places or Places()
        self.meter = meter or Meter()
        self._child: Child | None = None
        self._starting = trio.Lock()
        # What the devices are called; how many there are is known when a child has found them.
        self.devices: tuple[str, ...] = ()
        self._idle: list[int] = []
        self._turns: trio.Semaphore | None = None
        self._requests = 0
        self.starts = 0
        self._programs: OrderedDict[Hash, tuple[Program, bytes]] = OrderedDict()
        self._crashes: dict[Hash, int] = {}
        self._suspended: dict[Hash, float] = {}

    @property
    def pid(self) -> int | None:
        """The child's process id, when there is a child."""
        return self._child.process.pid if self._child is not None else None

    @property
    def is_busy(self) -> bool:
        """Whether a request is under way, or waits for a device."""
        return self._requests > 0

    @property
    def waiting(self) -> tuple[int, int]:
        """How many devices are at work, and how many requests wait for one."""
        at_work = len(self.devices) - len(self._idle)
        return at_work, self._requests - at_work

    async def load(self, root: Hash, program: Program, blob: bytes) -> None:
        """Compile a program for every device; ProgramRefused when it may not run.

        Where no further child may be started it is compiled when it is needed.
        """
        self._programs[root] = (program, blob)
        self._programs.move_to_end(root)
        while len(self._programs) > wire.PROGRAMS_MAX:
            self._programs.popitem(last=False)
        if self._child is None and self._places.is_full:
            return
        if self._child is not None and all(root in lane.loaded for lane in self._child.lanes):
            return

        async def one() -> None:
            async with self._lane(root, unloaded=True) as lane:
                await self._ensure(lane, root)

        # The first says how many devices there are, and leaves what it compiled where the others look for it.
        await one()
        async with trio.open_nursery() as nursery:
            for _ in self.devices[1:]:
                nursery.start_soon(one)

    async def find_devices(self) -> tuple[str, ...]:
        """What JAX computes on here; ProgramRefused says what is missing."""
        await self._alive(NO_PROGRAM)
        return self.devices

    async def gradient(self, root: Hash, theta: Float32s, x: bytes, y: bytes) -> Gradient:
        """The gradient of one batch under a loaded program."""
        async with self._lane(root) as lane:
            program = await self._ensure(lane, root)
            answer = await self._run(lane, root, "gradient", theta, x, y)
            self.meter.computed(program.batch)
            loss, raw = answer.get("loss"), answer.get("gradient")
            if type(loss) is not float or type(raw) is not bytes or len(raw) != 4 * program.parameters:
                raise await self._broken(lane, "an answer that is no gradient")
            return Gradient(loss, np.frombuffer(raw, dtype="<f4").astype(np.float32))

    async def local_steps(
        self, root: Hash, theta: Float32s, x: bytes, y: bytes, steps: LocalSteps, round_index: int
    ) -> Float32s:
        """What local steps come to, f32[P], under a loaded program; `x` and `y` are their batches one after another."""
        async with self._lane(root) as lane:
            program = await self._ensure(lane, root)
            seconds = min(self._deadlines.run * steps.count, self._deadlines.slot)
            more = {"steps": choices.local_steps_json(steps), "round": round_index}
            answer = await self._run(lane, root, "local_steps", theta, x, y, seconds, more)
            self.meter.computed(program.batch * steps.count)
            raw = answer.get("contribution")
            if type(raw) is not bytes or len(raw) != 4 * program.parameters:
                raise await self._broken(lane, "an answer that is no contribution")
            return np.frombuffer(raw, dtype="<f4").astype(np.float32)

    async def evaluate(self, root: Hash, theta: Float32s, x: bytes, y: bytes) -> Evaluation:
        """Loss and right answers over whole evaluation batches under a loaded program."""
        async with self._lane(root) as lane:
            await self._ensure(lane, root)
            answer = await self._run(lane, root, "evaluate", theta, x, y)
            loss_sum, correct = answer.get("loss_sum"), answer.get("correct")
            if type(loss_sum) is not float or type(correct) is not int:
                raise await self._broken(lane, "an answer that is no evaluation")
            return Evaluation(loss_sum, correct)

    async def close(self) -> None:
        """End the child, if there is one."""
        ended, self._child = self._child, None
        self._places.give(self)
        if ended is not None:
            await ended.end("it was closed")

    @asynccontextmanager
    async def _lane(self, root: Hash, *, unloaded: bool = False) -> AsyncIterator[Lane]:
        """The way to a device that is free, in a child that lives; `unloaded`: one that lacks the program, if any."""
        self._requests += 1
        try:
            self._program(root)
            await self._alive(root)
            assert self._turns is not None
            async with self._turns:
                lanes = (await self._alive(root)).lanes
                index = next((i for i in self._idle if unloaded and root not in lanes[i].loaded), self._idle[0])
                self._idle.remove(index)
                try:
                    yield lanes[index]
                finally:
                    self._idle.append(index)
        finally:
            self._requests -= 1
            self._places.touch(self)

    def _program(self, root: Hash) -> tuple[Program, bytes]:
        if root not in self._programs:
            raise EngineError(f"program 0x{root.hex()} was not loaded")
        if trio.current_time() < self._suspended.get(root, 0.0):
            raise ProgramSuspended(f"program 0x{root.hex()} ended {CRASHES_MAX} engines in a row and is left to rest")
        return self._programs[root]

    async def _ensure(self, lane: Lane, root: Hash) -> Program:
        program, blob = self._program(root)
        if root not in lane.loaded:
            await self._request(lane, root, {"op": "load", "program": blob}, self._deadlines.load)
            lane.loaded[root] = None
            while len(lane.loaded) > wire.PROGRAMS_MAX:
                lane.loaded.popitem(last=False)
        return program

    async def _run(
        self,
        lane: Lane,
        root: Hash,
        op: str,
        theta: Float32s,
        x: bytes,
        y: bytes,
        seconds: float | None = None,
        more: Mapping[str, object] | None = None,
    ) -> dict[str, Any]:
        message = {"op": op, "theta": theta.astype("<f4").tobytes(), "x": x, "y": y, **(more or {})}
        lane.loaded.move_to_end(root)  # As the child does, which sees only what is computed.
        with self.meter.stage(EVALUATE if op == "evaluate" else COMPUTE):
            answer = await self._request(lane, root, message, self._deadlines.run if seconds is None else seconds)
        self._crashes.pop(root, None)
        return answer

    async def _request(self, lane: Lane, root: Hash, message: dict[str, object], seconds: float) -> dict[str, Any]:
        said = wire.frame({**message, "key": root, "seconds": seconds})
        return _granted(await self._conversation(lane, root, seconds, said))

    async def _conversation(self, lane: Lane, root: Hash, seconds: float, said: bytes | None) -> dict[str, Any]:
        """The next frame on a lane, after telling the child something; whatever comes instead ends the child."""
        held = lane.child
        lane.root = root
        try:
            with trio.fail_after(seconds):
                answer = await lane.exchange(said)
        except trio.TooSlowError:
            late = f"the engine did not answer in {seconds:.0f} s"
            await self._end(held, late, counts=True)
            raise EngineTimeout(late) from None
        except (trio.BrokenResourceError, trio.ClosedResourceError, wire.WireError, PackingError, EOFError) as error:
            ending = held.ended or f"{await held.ending()}; {error}"
            await self._end(held, ending, counts=True)
            raise EngineCrashed(f"the engine died ({ending})") from None
        except BaseException:
            # Half an exchange leaves a lane that nobody can make sense of.
            await self._end(held, "a request to it was given up", counts=False)
            raise
        finally:
            lane.root = None
        return answer

    async def _broken(self, lane: Lane, what: str) -> EngineCrashed:
        await self._end(lane.child, f"it gave {what}", counts=True)
        return EngineCrashed(f"the engine gave {what}")

    async def _end(self, held: Child, reason: str, *, counts: bool) -> None:
        """End a child, once; each program that it had to do with then has one death more to its name, if it `counts`.

        Which of several killed a child that all tasks share, nobody can tell.
        """
        if held.ended:
            return
        held.ended = reason
        if self._child is held:
            self._child = None
            self._places.give(self)
        for root in {lane.root for lane in held.lanes if lane.root is not None} if counts else ():
            self._crashes[root] = self._crashes.get(root, 0) + 1
            if self._crashes[root] >= CRASHES_MAX:
                self._suspended[root] = trio.current_time() + SUSPENDED_SECONDS
        await held.end(reason)

    async def _alive(self, root: Hash) -> Child:
        """The child; a new one where there is none, or none any more."""
        async with self._starting:
            if self._child is None:
                await self._places.take(self)
                try:
                    home = self._cache_dir / "engine"
                    self._child = await child.start_engine(home, self._platform, self._wanted, self._variables)
                finally:
                    if self._child is None:
                        self._places.give(self)
                await self._greet(self._child, root)
            return self._child

    async def _greet(self, held: Child, root: Hash) -> None:
        """What a new child says by itself: what this system does not offer, and the devices that it found."""
        self.starts += 1
        first = held.lanes[0]
        # Said before it has seen a byte of anybody's program.
        for line in (await self._conversation(first, root, self._deadlines.load, None))["missing"]:
            self._warn(line)
        answer = await self._conversation(first, root, self._deadlines.load, None)
        if answer.get("ok") is not True:
            await self._end(held, "there is no device for it", counts=False)
        found = tuple(map(str, _granted(answer)["devices"]))
        if self._turns is None:
            self.devices, self._idle, self._turns = found, list(range(len(found))), trio.Semaphore(len(found))
        elif len(found) < len(self.devices):
            gone = f"{len(self.devices)} devices were here, {len(found)} are left: see what became of the others"
            await self._end(held, gone, counts=False)
            raise EngineCrashed(gone)
        await held.keep(len(self.devices))


def _granted(answer: dict[str, Any]) -> dict[str, Any]:
    if answer.get("ok") is True:
        return answer
    raise ProgramRefused(str(answer.get("message"))[:1_000])


@asynccontextmanager
async def open_engine(
    cache_dir: Path,
    platform: str = "cpu",
    deadlines: Deadlines | None = None,
    *,
    warn: Warn = to_stderr,
    devices: int | None = 1,
    variables: Mapping[str, str] | None = None,
) -> AsyncIterator[Engine]:
    """An engine that keeps its compiled programs and its log under `cache_dir`, and ends with the block.

    `variables` of its environment stand for those that an engine of a worker has.
    """
    engine = Engine(cache_dir, platform, deadlines or Deadlines(), warn, devices, variables=variables)
    try:
        yield engine
    finally:
        await engine.close()


class Engines:
    """An engine for each task, so that one task's program can neither delay another's nor tamper with its results.

    An accelerator belongs to one process: there all tasks share an engine. Use `open_engines`.
    """

    def __init__(
        self,
        cache_dir: Path,
        platform: str,
        deadlines: Deadlines,
        warn: Warn,
        devices: int | None = 1,
        meter: Meter | None = None,
    ) -> None:
        self._cache_dir = cache_dir
        self._platform = platform
        self._deadlines = deadlines
        self._warn = warn
        self._wanted = devices
        self.meter = meter or Meter()
        self.meter.computes_with(self.waiting, lambda: self.starts)
        # What this computes on; empty until it is known.
        self.devices: tuple[str, ...] = ()
        self._warned: set[str] = set()
        self._engines: dict[str, Engine] = {}
        self._places = Places()
        self._ended_starts = 0

    def of(self, task: int) -> Engine:
        """The engine of a task; its child starts when it is first needed."""
        name = self._name(task)
        if name not in self._engines:
            self._engines[name] = self._make(task)
        return self._engines[name]

    def _make(self, task: int) -> Engine:
        return Engine(*self._terms(task))

    def _terms(self, task: int) -> tuple[Path, str, Deadlines, Warn, int | None, Places, Meter]:
        """What an engine of this is made of."""
        folder = self._cache_dir / "engines" / self._name(task)
        return folder, self._platform, self._deadlines, self._warn_once, self._wanted, self._places, self.meter

    async def require_devices(self) -> tuple[str, ...]:
        """What this computes on; CannotServe where what was asked for is not here, before its owner bonds for it.

        There is a CPU wherever this runs, of which as much is used as was asked for.
        """
        if self._platform == "cpu":
            self.devices = ("cpu",) * (self._wanted or 1)
        else:
            try:
                self.devices = await self.of(0).find_devices()
            except EngineError as error:
                raise CannotServe(str(error)) from None
        return self.devices

    @property
    def lanes(self) -> int:
        """How many requests of a task are computed at once."""
        return len(self.devices) or 1

    def waiting(self) -> tuple[int, int]:
        """How many devices are at work, and how many requests wait for one; each task has the devices of a CPU."""
        found = [engine.waiting for engine in self._engines.values()]
        return sum(at_work for at_work, _ in found), sum(waits for _, waits in found)

    @property
    def starts(self) -> int:
        """How many children were ever started."""
        return self._ended_starts + sum(engine.starts for engine in self._engines.values())

    async def release(self, task: int) -> None:
        """End what is a task's alone, now that it needs it no more."""
        if self._platform == "cpu" and (engine := self._engines.pop(self._name(task), None)) is not None:
            self._ended_starts += engine.starts
            await engine.close()
            folder = self._cache_dir / "engines" / self._name(task)
            await trio.to_thread.run_sync(partial(shutil.rmtree, folder, ignore_errors=True))

    async def close(self) -> None:
        """End every child."""
        for engine in self._engines.values():
            await engine.close()

    def _warn_once(self, line: str) -> None:
        if line not in self._warned:
            self._warned.add(line)
            self._warn(line)

    def _name(self, task: int) -> str:
        return str(task) if self._platform == "cpu" else "all"


@asynccontextmanager
async def open_engines(
    cache_dir: Path,
    platform: str = "cpu",
    deadlines: Deadlines | None = None,
    *,
    warn: Warn = to_stderr,
    devices: int | None = 1,
    meter: Meter | None = None,
) -> AsyncIterator[Engines]:
    """Engines that keep their compiled programs and logs under `cache_dir`, and end with the block.

    `devices` is how many of the platform's to use, None for all; of a CPU, how many slots it computes at a time.
    """
    engines = Engines(cache_dir, platform, deadlines or Deadlines(), warn, devices, meter)
    try:
        yield engines
    finally:
        await engines.close()
