"""The parent's handle on its engine child: started when first needed, one request at a time, killed when late.

Rule: whatever the child does (crash, hang, lie, grow), the parent gets an exception within the deadline and the next
request gets a fresh child. The child's environment is written here, word by word, so that it holds no secret.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import trio

from chain.primitives.hashing import Hash
from trainer import choices, wire
from trainer.arrays import Float32s
from trainer.artifact import Program
from trainer.local import LocalSteps
from trainer.node import CannotServe
from trainer.packing import PackingError

# After that many deaths in a row with one program, the program is taken to be the reason, and rests for ten minutes
# before each further try: what killed the engines may also have been this machine running out of memory.
CRASHES_MAX = 3
NO_PROGRAM = bytes(32)  # in place of a program's root where none is meant
SUSPENDED_SECONDS = 600.0
PLATFORMS = ("cpu", "cuda", "tpu")
# What JAX needs to find an accelerator, and nothing else, comes from the parent's environment.
PASSED_ON = ("PATH", "LANG", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "TPU_VISIBLE_CHIPS", "TPU_NAME")
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

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

    def __init__(self, cache_dir: Path, platform: str, deadlines: Deadlines, warn: Warn) -> None:
        if platform not in PLATFORMS:
            raise ValueError(f"platform: expected one of {', '.join(PLATFORMS)}, got {platform!r}")
        self._cache_dir = cache_dir.absolute()
        self._platform = platform
        self._deadlines = deadlines
        self._warn = warn
        self._process: trio.Process | None = None
        self._loaded: OrderedDict[Hash, None] = OrderedDict()
        self._programs: OrderedDict[Hash, tuple[Program, bytes]] = OrderedDict()
        self._crashes: dict[Hash, int] = {}
        self._suspended: dict[Hash, float] = {}
        self._lock = trio.Lock()

    @property
    def pid(self) -> int | None:
        """The child's process id, when there is a child."""
        return self._process.pid if self._process is not None else None

    async def load(self, root: Hash, program: Program, blob: bytes) -> None:
        """Compile a program; ProgramRefused when it may not run."""
        async with self._lock:
            self._programs[root] = (program, blob)
            self._programs.move_to_end(root)
            while len(self._programs) > wire.PROGRAMS_MAX:
                self._programs.popitem(last=False)
            await self._ensure(root)

    async def find_device(self) -> None:
        """See that JAX computes on this platform; ProgramRefused says what is missing."""
        async with self._lock:
            if self._process is None:
                await self._start(NO_PROGRAM)
            await self._request(NO_PROGRAM, {"op": "find_device"}, self._deadlines.load)

    async def gradient(self, root: Hash, theta: Float32s, x: bytes, y: bytes) -> Gradient:
        """The gradient of one batch under a loaded program."""
        async with self._lock:
            program = await self._ensure(root)
            answer = await self._run(root, "gradient", theta, x, y)
            loss, raw = answer.get("loss"), answer.get("gradient")
            if type(loss) is not float or type(raw) is not bytes or len(raw) != 4 * program.parameters:
                raise await self._broken(root, "an answer that is no gradient")
            return Gradient(loss, np.frombuffer(raw, dtype="<f4").astype(np.float32))

    async def local_steps(
        self, root: Hash, theta: Float32s, x: bytes, y: bytes, steps: LocalSteps, round_index: int
    ) -> Float32s:
        """What local steps come to, f32[P], under a loaded program; `x` and `y` are their batches one after another."""
        async with self._lock:
            program = await self._ensure(root)
            seconds = min(self._deadlines.run * steps.count, self._deadlines.slot)
            more = {"steps": choices.local_steps_json(steps), "round": round_index}
            answer = await self._run(root, "local_steps", theta, x, y, seconds, more)
            raw = answer.get("contribution")
            if type(raw) is not bytes or len(raw) != 4 * program.parameters:
                raise await self._broken(root, "an answer that is no contribution")
            return np.frombuffer(raw, dtype="<f4").astype(np.float32)

    async def evaluate(self, root: Hash, theta: Float32s, x: bytes, y: bytes) -> Evaluation:
        """Loss and right answers over whole evaluation batches under a loaded program."""
        async with self._lock:
            await self._ensure(root)
            answer = await self._run(root, "evaluate", theta, x, y)
            loss_sum, correct = answer.get("loss_sum"), answer.get("correct")
            if type(loss_sum) is not float or type(correct) is not int:
                raise await self._broken(root, "an answer that is no evaluation")
            return Evaluation(loss_sum, correct)

    async def close(self) -> None:
        """End the child, if there is one."""
        process, self._process = self._process, None
        self._loaded.clear()
        if process is not None:
            with trio.CancelScope(shield=True):
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGKILL)
                await process.wait()
                for stream in (process.stdin, process.stdout):
                    if stream is not None:
                        await stream.aclose()

    async def _ensure(self, root: Hash) -> Program:
        if root not in self._programs:
            raise EngineError(f"program 0x{root.hex()} was not loaded")
        program, blob = self._programs[root]
        if trio.current_time() < self._suspended.get(root, 0.0):
            raise ProgramSuspended(f"program 0x{root.hex()} ended {CRASHES_MAX} engines in a row and is left to rest")
        if self._process is None:
            await self._start(root)
        if root not in self._loaded:
            await self._request(root, {"op": "load", "program": blob}, self._deadlines.load)
            self._loaded[root] = None
            while len(self._loaded) > wire.PROGRAMS_MAX:
                self._loaded.popitem(last=False)
        return program

    async def _run(
        self,
        root: Hash,
        op: str,
        theta: Float32s,
        x: bytes,
        y: bytes,
        seconds: float | None = None,
        more: Mapping[str, object] | None = None,
    ) -> dict[str, Any]:
        message = {"op": op, "theta": theta.astype("<f4").tobytes(), "x": x, "y": y, **(more or {})}
        self._loaded.move_to_end(root)  # As the child does, which sees only what is computed.
        answer = await self._request(root, message, self._deadlines.run if seconds is None else seconds)
        self._crashes.pop(root, None)
        return answer

    async def _request(self, root: Hash, message: dict[str, object], seconds: float) -> dict[str, Any]:
        answer = await self._conversation(root, seconds, wire.frame({**message, "key": root, "seconds": seconds}))
        if answer.get("ok") is True:
            return answer
        raise ProgramRefused(str(answer.get("message"))[:1_000])

    async def _conversation(self, root: Hash, seconds: float, said: bytes | None) -> dict[str, Any]:
        """The next frame from the child, after telling it something; whatever comes instead ends the child."""
        assert self._process is not None
        process = self._process
        completed = False
        try:
            with trio.fail_after(seconds):
                answer = await self._exchange(process, said)
            completed = True
        except trio.TooSlowError:
            self._count(root)
            raise EngineTimeout(f"the engine did not answer in {seconds:.0f} s") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError, wire.WireError, PackingError, EOFError) as error:
            self._count(root)
            with trio.move_on_after(1.0):
                await process.wait()
            ending = f"exit status {process.returncode}" if process.returncode is not None else repr(error)
            raise EngineCrashed(f"the engine died ({ending})") from None
        finally:
            # Half an exchange, by failure or by cancellation, leaves a pipe that nobody can make sense of.
            if not completed:
                await self.close()
        return answer

    async def _exchange(self, process: trio.Process, said: bytes | None) -> dict[str, Any]:
        assert process.stdin is not None
        if said is not None:
            await process.stdin.send_all(said)
        length = wire.body_length(await self._receive(process, wire.LENGTH.size))
        return wire.parse(await self._receive(process, length))

    async def _receive(self, process: trio.Process, count: int) -> bytes:
        assert process.stdout is not None
        data = bytearray()
        while len(data) < count:
            piece = await process.stdout.receive_some(min(count - len(data), 1 << 20))
            if not piece:
                raise EOFError("the pipe ended")
            data += piece
        return bytes(data)

    async def _broken(self, root: Hash, what: str) -> EngineCrashed:
        self._count(root)
        await self.close()
        return EngineCrashed(f"the engine gave {what}")

    def _count(self, root: Hash) -> None:
        self._crashes[root] = self._crashes.get(root, 0) + 1
        if self._crashes[root] >= CRASHES_MAX:
            self._suspended[root] = trio.current_time() + SUSPENDED_SECONDS

    async def _start(self, root: Hash) -> None:
        home = self._cache_dir / "engine"
        with _log(home) as log:
            self._process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "trainer.engine", self._platform, str(home / "compiled")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(home, self._platform),
                cwd=home,
                start_new_session=True,
            )
        # Said before it has seen a byte of anybody's program.
        for line in (await self._conversation(root, self._deadlines.load, None))["missing"]:
            self._warn(line)


def _log(home: Path) -> BinaryIO:
    (home / "compiled").mkdir(parents=True, exist_ok=True)
    return open(home / "engine.log", "wb")


def _environment(home: Path, platform: str) -> dict[str, str]:
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ} | {
        "HOME": str(home),
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "XLA_FLAGS": ONE_THREAD if platform == "cpu" else "",
        # One thread computes; the libraries under numpy need none of their own.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


@asynccontextmanager
async def open_engine(
    cache_dir: Path, platform: str = "cpu", deadlines: Deadlines | None = None, *, warn: Warn = to_stderr
) -> AsyncIterator[Engine]:
    """An engine that keeps its compiled programs and its log under `cache_dir`, and ends with the block."""
    engine = Engine(cache_dir, platform, deadlines or Deadlines(), warn)
    try:
        yield engine
    finally:
        await engine.close()


class Engines:
    """An engine for each task, so that one task's program can neither delay another's nor tamper with its results.

    An accelerator belongs to one process: there all tasks share an engine. Use `open_engines`.
    """

    def __init__(self, cache_dir: Path, platform: str, deadlines: Deadlines, warn: Warn) -> None:
        self._cache_dir = cache_dir
        self._platform = platform
        self._deadlines = deadlines
        self._warn = warn
        self._warned: set[str] = set()
        self._engines: dict[str, Engine] = {}

    def of(self, task: int) -> Engine:
        """The engine of a task; its child starts when it is first needed."""
        name = self._name(task)
        if name not in self._engines:
            folder = self._cache_dir / "engines" / name
            self._engines[name] = Engine(folder, self._platform, self._deadlines, self._warn_once)
        return self._engines[name]

    async def require_device(self) -> None:
        """See that there is the accelerator that was asked for, before its owner bonds for it; CannotServe if not.

        There is a CPU wherever this runs.
        """
        if self._platform == "cpu":
            return
        try:
            await self.of(0).find_device()
        except EngineError as error:
            raise CannotServe(str(error)) from None

    async def release(self, task: int) -> None:
        """End what is a task's alone, now that it needs it no more."""
        if self._platform == "cpu" and (engine := self._engines.pop(self._name(task), None)) is not None:
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
    cache_dir: Path, platform: str = "cpu", deadlines: Deadlines | None = None, *, warn: Warn = to_stderr
) -> AsyncIterator[Engines]:
    """Engines that keep their compiled programs and logs under `cache_dir`, and end with the block."""
    engines = Engines(cache_dir, platform, deadlines or Deadlines(), warn)
    try:
        yield engines
    finally:
        await engines.close()
