"""The processes of a network: started, killed and stopped by name, with nothing that restarts them behind one's back.

Each has a log of its own, and a pipe for standard input: should this program die, even by kill -9, they stop.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

ROOT: Final = Path(__file__).resolve().parents[2]
STOP_SECONDS_MAX: Final = 10.0  # the supervisor gives them four; this machine may be busy
LAST_BYTES: Final = 4096  # of a log, to find its last line in


@dataclass(slots=True)
class Process:
    """One process, running or not; `expected` is whether it should be running now."""

    name: str
    arguments: tuple[str, ...]
    log: Path
    running: trio.Process | None = None
    started_at: float = 0.0
    starts: int = 0
    expected: bool = False
    ended: trio.Event = field(default_factory=trio.Event)

    @property
    def last_line(self) -> str:
        """The last line of its log with anything on it."""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - LAST_BYTES))
            lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else "it wrote nothing"


class Processes:
    """All processes of a network by name. `on_unexpected_end` is told, in a sentence, of one that ends by itself."""

    def __init__(self, nursery: trio.Nursery, on_unexpected_end: Callable[[str], None]) -> None:
        self._nursery = nursery
        self._on_unexpected_end = on_unexpected_end
        self._processes: dict[str, Process] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, on_unexpected_end: Callable[[str], None]) -> AsyncIterator[Processes]:
        """No process outlives the scope."""
        async with trio.open_nursery() as nursery:
            processes = cls(nursery, on_unexpected_end)
            try:
                yield processes
            finally:
                with trio.CancelScope(shield=True):
                    await processes.kill([name for name, each in processes.all.items() if each.running is not None])
                nursery.cancel_scope.cancel()

    def add(self, name: str, arguments: tuple[str, ...], log: Path) -> None:
        """Know a process, without starting it."""
        self._processes[name] = Process(name, arguments, log)

    def __getitem__(self, name: str) -> Process:
        return self._processes[name]

    @property
    def all(self) -> Mapping[str, Process]:
        """Every one that was added."""
        return self._processes

    @property
    def running(self) -> list[str]:
        """The names of those that should be running, in the order of `add`."""
        return [name for name, process in self._processes.items() if process.expected]

    async def start(self, name: str) -> None:
        """Start a process that does not run."""
        process = self._processes[name]
        assert process.running is None, name
        with process.log.open("ab") as log:
            process.started_at = time.monotonic()
            process.running = await trio.lowlevel.open_process(
                [sys.executable, *process.arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                start_new_session=True,  # Ctrl-C is for this program.
            )
        process.starts += 1
        process.expected = True
        process.ended = trio.Event()
        self._nursery.start_soon(self._watch, process, process.running, process.ended)

    async def _watch(self, process: Process, running: trio.Process, ended: trio.Event) -> None:
        code = await running.wait()
        if process.expected and process.running is running:
            process.expected = False
            self._on_unexpected_end(f"{process.name} ended by itself with {code}: {process.last_line}")
        ended.set()

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a running process."""
        running = self._processes[name].running
        assert running is not None, name
        running.send_signal(number)

    async def kill(self, names: list[str]) -> None:
        """SIGKILL to all of them before any is waited for."""
        for name in names:
            self._processes[name].expected = False
            self.send(name, signal.SIGKILL)
        for name in names:
            await self.end_of(name)

    async def terminate(self, name: str) -> int:
        """SIGTERM; returns the exit code. Raises trio.TooSlowError when it does not end."""
        self._processes[name].expected = False
        self.send(name, signal.SIGTERM)
        with trio.fail_after(STOP_SECONDS_MAX):
            return await self.end_of(name)

    def expect_end(self, name: str) -> None:
        """The process is about to end by itself, and should."""
        self._processes[name].expected = False

    async def end_of(self, name: str) -> int:
        """Wait until it has ended; returns its exit code. It can be started again then."""
        process = self._processes[name]
        running = process.running
        assert running is not None, name
        code = await running.wait()
        assert running.stdin is not None
        await running.stdin.aclose()
        process.running = None
        return code
