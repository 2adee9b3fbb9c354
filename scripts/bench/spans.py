"""Runs a node, worker, auditor or aggregator, and keeps account of its processor time: by part, to the nanosecond.

    python scripts/bench/spans.py FILE [potchain's arguments]

At SIGUSR1 it writes to FILE what was spent so far. A thread's time is counted where it is spent: in each step of a task
of trio's loop, each visit to a thread, each collection of garbage, and within these in each function that is named
below. Of a part it says how often it began, its processor time and its time by the clock, both without what parts
within it took. What is in no part is the rest of the process: trio's own loop, and threads that are not trio's.

Rule: nothing that is measured changes what it does; a name that is no more is an error, not a part that is missing.
"""

from __future__ import annotations

import functools
import gc
import importlib
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import trio

# The parts of a block, by functions that begin and end them. What calls are is said by their runtime's own words.
FUNCTIONS: Final = (
    ("proposal", "chain.author:Author._propose"),
    ("check of transactions", "chain.intake:Intake._judge"),
    ("pool", "chain.pool:Pool.submit"),
    ("pool", "chain.pool:Pool.ready"),
    ("gossip", "chain.net.gossip:Gossip.received"),
    ("gossip", "chain.net.gossip:Gossip.publish"),
    ("messages", "chain.net.messages:pack"),
    ("messages", "chain.net.messages:unpack"),
    ("TLS", "ssl:SSLObject.read"),
    ("TLS", "ssl:SSLObject.write"),
    ("execution", "runtime.executive:Executive.execute"),
    ("execution", "runtime.executive:Executive.begin"),
    ("execution", "runtime.block:BlockBuilder.apply"),
    ("execution", "runtime.block:BlockBuilder.finish"),
    ("signatures of transactions", "chain.primitives.keys:verify"),
    ("state root", "chain.primitives.merkle:update"),
    ("extrinsics root", "chain.primitives.merkle:ordered_root"),
    ("replica", "consensus.replica:Replica.step"),
    ("vote log", "consensus.wal:Wal.append"),
    ("BLS signatures", "chain.primitives.bls:backend.sign"),
    ("BLS sums", "chain.primitives.bls:backend.aggregate"),
    ("BLS pairings", "chain.primitives.bls:backend.verify"),
    ("BLS pairings", "chain.primitives.bls:backend.fast_aggregate_verify"),
    ("BLS pairings", "chain.primitives.bls:backend.verify_all"),
    ("commit", "chain.ledger:Ledger.commit"),
    ("LMDB", "chain.store:Store.write"),
)
DISPATCH: Final = "runtime.composition:View.dispatch"
HOOK: Final = "runtime.block:BlockBuilder._hook"
STAGE: Final = "trainer.metrics:Meter.stage"
# A connection that came is served by a function that this names in a variable alone.
SERVER: Final = "trio._highlevel_serve_listeners._run_handler"
TRAINERS: Final = ("worker", "auditor", "aggregator")

Part = str
_stage: ContextVar[str] = ContextVar("stage")


# What runs a task or asks for a thread, by the beginning of its name: the first that fits.
PROGRAM_PARTS: Final = (
    ("consensus.", "consensus"),
    ("chain.net.", "network"),
    ("chain.sync.", "sync"),
    ("chain.rpc.blob", "blobs over HTTP"),
    ("chain.rpc.", "RPC"),
    ("hypercorn.", "RPC"),
    ("starlette.", "RPC"),
    ("trio_websocket.", "RPC"),
    ("chain.intake.", "check of transactions"),
    ("chain.blob", "blobs kept"),
    ("<TrioToken.run_sync_soon task>", "results of threads"),
    ("chain.", "other tasks of the node"),
    ("trainer.", "other tasks of trainers"),
)


class _Thread(threading.local):
    """What a thread has spent by part, and the parts that it is in."""

    def __init__(self, register: Callable[[dict[Part, list[int]]], None]) -> None:
        self.totals: dict[Part, list[int]] = {}  # times begun, CPU, wall, in ns
        self.within: list[list[int]] = []  # CPU and wall of the parts within each part that is open
        self.outer = 0  # CPU of the outermost parts, in ns
        self.collecting = (0, 0)
        register(self.totals)


class Spans:
    """The account of one process."""

    def __init__(self) -> None:
        self._all: list[dict[Part, list[int]]] = []
        self._thread = _Thread(self._all.append)
        self.stages: dict[str, list[float]] = {}  # how often each ended, and its seconds by the clock

    def begin(self) -> tuple[int, int]:
        """Open a part; hand what this returns to `end`."""
        self._thread.within.append([0, 0])
        return time.thread_time_ns(), time.perf_counter_ns()

    def end(self, part: Part, began: tuple[int, int]) -> None:
        """Close the part that was opened last in this thread."""
        cpu, wall = time.thread_time_ns() - began[0], time.perf_counter_ns() - began[1]
        thread = self._thread
        inner_cpu, inner_wall = thread.within.pop()
        total = thread.totals.setdefault(part, [0, 0, 0])
        total[0] += 1
        total[1] += cpu - inner_cpu
        total[2] += wall - inner_wall
        if thread.within:
            thread.within[-1][0] += cpu
            thread.within[-1][1] += wall
        else:
            thread.outer += cpu

    def totals(self) -> dict[Part, list[int]]:
        """By part: times begun, CPU and wall in nanoseconds, of all threads. To be called on the main thread."""
        found: dict[Part, list[int]] = {}
        for own in list(self._all):
            for part, values in list(own.items()):
                total = found.setdefault(part, [0, 0, 0])
                for place, value in enumerate(values):
                    total[place] += value
        found["trio's loop"] = [0, time.thread_time_ns() - self._thread.outer, 0]
        return found

    def write(self, path: Path) -> None:
        """Write the account; whoever reads it sees all of it or none."""
        spent = {"cpu": time.process_time_ns(), "parts": self.totals(), "stages": self.stages}
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(spent))
        temporary.replace(path)

    # --- what is measured

    def install(self, command: str) -> None:
        """Exchange what is named above wherever it was imported to, and hear of trio's steps and of collections."""
        # All that has imported one of the names must be there before they are exchanged.
        if command in TRAINERS:
            importlib.import_module(f"trainer.{command}")
            _exchange(STAGE, self._staged)
        else:
            importlib.import_module("chain.node_life")
            for part, where in FUNCTIONS:
                _exchange(where, partial(self._measured, name=lambda *_, part=part, **__: part))
            _exchange(DISPATCH, partial(self._measured, name=lambda _, call, *__: f"call {call.path}"))
            _exchange(HOOK, partial(self._measured, name=_hook_name))
        _exchange("trio.to_thread:run_sync", self._in_thread)
        _exchange("trio:run", self._instrumented)
        gc.callbacks.append(self._collecting)

    def _measured(self, function: Callable[..., Any], *, name: Callable[..., Part]) -> Callable[..., Any]:
        """The function, counted as the part that `name` says of its arguments."""

        @functools.wraps(function)
        def measured(*args: Any, **kwargs: Any) -> Any:
            began = self.begin()
            try:
                return function(*args, **kwargs)
            finally:
                self.end(name(*args, **kwargs), began)

        return measured

    def _instrumented(self, run: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(run)
        def instrumented(*args: Any, **kwargs: Any) -> Any:
            return run(*args, **{**kwargs, "instruments": [*kwargs.get("instruments", ()), _Steps(self)]})

        return instrumented

    def _in_thread(self, run_sync: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(run_sync)
        async def measured(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            part = _stage.get("") or part_of(_name_of(function))
            return await run_sync(self._measured(function, name=lambda *_, **__: part), *args, **kwargs)

        return measured

    def _staged(self, stage: Callable[..., Any]) -> Callable[..., Any]:
        @contextmanager
        def measured(meter: Any, name: str) -> Iterator[None]:
            token, began = _stage.set(f"stage {name}"), time.monotonic()
            try:
                with stage(meter, name):
                    yield
            finally:
                _stage.reset(token)
                total = self.stages.setdefault(name, [0, 0.0])
                total[0] += 1
                total[1] += time.monotonic() - began

        return measured

    def _collecting(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._thread.collecting = self.begin()
        else:
            self.end("garbage collection", self._thread.collecting)


class _Steps(trio.abc.Instrument):
    """Counts each step of a task as the part of what the task does: its stage, or the program that it is of."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans
        self._began = (0, 0)
        self._parts: dict[trio.lowlevel.Task, Part] = {}

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        name = task.name
        frame = getattr(task.coro, "cr_frame", None)
        if name.startswith(SERVER) and frame is not None:
            name = _name_of(frame.f_locals["handler"])
        self._parts[task] = part_of(name)

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        self._parts.pop(task, None)

    def before_task_step(self, _: trio.lowlevel.Task) -> None:
        self._began = self._spans.begin()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        part = task.context.get(_stage) or self._parts.get(task) or part_of(task.name)
        self._spans.end(part, self._began)


def _hook_name(_: object, module: Any, hook: Callable[..., Any], *__: object) -> Part:
    return f"hook {module.info.attribute}.{hook.__name__}"


def part_of(name: str) -> Part:
    """The part that a function belongs to, by its module and name."""
    return next((part for beginning, part in PROGRAM_PARTS if name.startswith(beginning)), f"tasks of {name}")


def _name_of(function: Callable[..., Any]) -> str:
    while isinstance(function, partial):
        function = function.func
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '')}"


def _exchange(where: str, change: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put what `change` makes of a function in its place, in its class or in every module that has it."""
    module, _, path = where.partition(":")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(module)
    try:
        for each in owners:
            owner = getattr(owner, each)
        found = getattr(owner, name)
    except AttributeError as error:
        raise SystemExit(f"{Path(__file__).name} measures {where}, which is no more: {error}") from None
    exchanged = change(found)
    setattr(owner, name, exchanged)
    if isinstance(owner, ModuleType):
        for other in list(sys.modules.values()):
            for alias, value in list(vars(other).items()) if isinstance(other, ModuleType) else ():
                if value is found:
                    setattr(other, alias, exchanged)


def main() -> None:
    """Install, then be potchain."""
    file, *words = sys.argv[1:]
    spans = Spans()
    spans.install(words[0])
    signal.signal(signal.SIGUSR1, lambda *_: spans.write(Path(file)))
    spans.write(Path(file))  # From now on it answers.
    sys.argv = ["potchain", *words]
    importlib.import_module("chain.cli").main()


if __name__ == "__main__":
    main()
