"""Runs child processes, restarts those that die, and stops them all together.

Each child's output goes to a log file of its own, bounded in size. A child's standard input is a pipe that this
process holds open: should this process die, even by kill -9, the pipe closes and the child stops by itself.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import trio

from chain.environment import environment_of_children

STOP_SECONDS = 4.0  # a node needs under one second to stop; what has not by then is killed
RESTART_SECONDS_MIN = 0.2
RESTART_SECONDS_MAX = 5.0  # a child that dies at once on every start must not keep a core busy
HEALTHY_SECONDS = 20.0  # a child that ran this long starts again with the shortest pause
LOG_BYTES_MAX = 8 * 1024 * 1024  # two files of this size a child: some days of a node's lines
LINE_BYTES_MAX = 4096  # what is kept of a line that never ends
SECRET = "SECRET"  # where a child's arguments name the pipe with its secret
EXIT_MISCONFIGURED = 2  # what a process exits with when starting it again cannot help


class Misconfigured(Exception):
    """A child refused to start for a reason that only its operator can mend; the message is its last line."""


@dataclass(frozen=True, slots=True)
class Child:
    """A process to keep alive. Its `secret` comes to it by a pipe, whose path stands where its arguments say SECRET."""

    name: str
    arguments: tuple[str, ...]
    log: Path
    secret: str | None = field(default=None, repr=False)


class Supervisor:
    """Starts children and keeps them running until its `run` is cancelled."""

    def __init__(self, pids: Path, on_line: Callable[[str, str], None], on_restart: Callable[[str, str], None]) -> None:
        """`pids` is the file that always names the running children.

        `on_line` is told a child's name and each line that it writes, `on_restart` its name and how it ended.
        """
        self._pids_path = pids
        self._pids: dict[str, int] = {}
        self._on_line = on_line
        self._on_restart = on_restart

    async def run(self, child: Child) -> None:
        """Keep one child running. Cancelling stops it; raises Misconfigured when it refuses its first start.

        One that refuses later (its port was taken meanwhile) is tried again: the others go on without it.
        """
        pause = RESTART_SECONDS_MIN
        is_first = True
        while True:
            started = trio.current_time()
            code, last_line = await self._run_once(child)
            if code == EXIT_MISCONFIGURED and is_first:
                raise Misconfigured(f"{child.name}: {last_line}")
            is_first = False
            if trio.current_time() - started > HEALTHY_SECONDS:
                pause = RESTART_SECONDS_MIN
            self._on_restart(child.name, _describe_end(code, last_line))
            await trio.sleep(pause)
            pause = min(2 * pause, RESTART_SECONDS_MAX)

    async def _run_once(self, child: Child) -> tuple[int, str]:
        """Run the child to its end; returns its exit code and the last line that it wrote."""
        with _piped(child.secret) as secret:
            process = await trio.lowlevel.open_process(
                [sys.executable, *(word.replace(SECRET, f"/dev/fd/{secret}") for word in child.arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment_of_children(),
                pass_fds=() if secret is None else (secret,),
                start_new_session=True,  # Ctrl-C in the terminal is for this process, which then stops its children
            )
        self._note(child.name, process.pid)
        try:
            last_line = await self._read_lines(process, child)
            code = await process.wait()
        finally:
            with trio.CancelScope(shield=True):
                await _stop(process)
            self._note(child.name, None)
        return code, last_line

    async def _read_lines(self, process: trio.Process, child: Child) -> str:
        """Copy the child's output to its log until it ends; returns the last line with anything on it."""
        assert process.stdout is not None
        rest = b""
        last = f"it ended without a word; see {child.log}"
        with RotatingLog(child.log) as log:
            async for data in process.stdout:
                log.write(bytes(data))
                *lines, rest = (rest + data).split(b"\n")
                rest = rest[-LINE_BYTES_MAX:]
                for line in lines:
                    text = line.decode(errors="replace").rstrip()
                    if text:
                        last = text
                        self._on_line(child.name, text)
        return last

    def _note(self, name: str, pid: int | None) -> None:
        if pid is None:
            self._pids.pop(name, None)
        else:
            self._pids[name] = pid
        temporary = self._pids_path.with_suffix(".new")
        with suppress(OSError):  # A full disk must not end the children: they stop and come back by themselves.
            temporary.write_text(json.dumps(self._pids, indent=1))
            os.replace(temporary, self._pids_path)


@contextmanager
def _piped(secret: str | None) -> Iterator[int | None]:
    """An open pipe that holds a secret, to be read once: neither arguments nor environment, which others may read."""
    if secret is None:
        yield None
        return
    reading, writing = os.pipe()
    try:
        os.write(writing, secret.encode())  # Far less than a pipe has room for.
        os.close(writing)
        yield reading
    finally:
        os.close(reading)


async def _stop(process: trio.Process) -> None:
    """Ask the child to end, and end it when it does not; never leaves it running."""
    if process.stdin is not None:
        await process.stdin.aclose()
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
        with trio.move_on_after(STOP_SECONDS):
            await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()
    if process.stdout is not None:
        await process.stdout.aclose()


class RotatingLog:
    """A log file that is moved aside to `NAME.1` when it has grown to LOG_BYTES_MAX. A full disk costs lines of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)

    def __enter__(self) -> RotatingLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> None:
        with suppress(OSError):
            if self._file.tell() + len(data) > LOG_BYTES_MAX:
                with suppress(FileNotFoundError):  # Moved before, when no new file could be made.
                    os.replace(self._path, self._path.with_name(self._path.name + ".1"))
                full, self._file = self._file, self._path.open("ab", buffering=0)
                full.close()
            self._file.write(data)


def _describe_end(code: int, last_line: str) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    if code == EXIT_MISCONFIGURED:
        return f"refused to start ({last_line})"
    # Whoever stops on purpose says why in its last line, which its log on a full disk has lost.
    return f"ended ({last_line})" if last_line.startswith("error: ") else f"ended with exit code {code}"


async def until_orphaned() -> str:
    """Return when standard input ends: the process that started this one is gone, or wants it to stop."""
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stdin:
        while await stdin.receive_some(1024):
            pass
    return "standard input ended"


async def until_signalled() -> str:
    """Return the name of the first SIGINT or SIGTERM that arrives."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            return signal.Signals(number).name
    raise AssertionError("the signal receiver never ends by itself")


async def cancel_when_told(scope: trio.CancelScope, supervised: bool) -> None:
    """Cancel `scope` at SIGINT, SIGTERM or, when supervised, at the end of standard input.

    A second signal ends the process at once, whatever holds up the end: whole blocks and votes are on disk already.
    """

    async def wait_for(happened: Callable[[], Awaitable[str]]) -> None:
        await happened()
        scope.cancel()

    async def wait_for_signal() -> None:
        await until_signalled()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_for_signal)
        if supervised:
            nursery.start_soon(wait_for, until_orphaned)
