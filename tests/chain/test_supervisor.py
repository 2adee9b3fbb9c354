"""The supervisor: real child processes that die, refuse, hang and lose their parent."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from chain.supervisor import LOG_BYTES_MAX, SECRET, Child, Misconfigured, RotatingLog, Supervisor

WAITS = "import sys; print('up', flush=True); sys.stdin.read()"


class Watched:
    """A supervisor whose restarts a test can wait for."""

    def __init__(self, tmp_path: Path) -> None:
        self.pids = tmp_path / "processes.json"
        self.tmp_path = tmp_path
        self.restarts: list[tuple[str, str]] = []
        self.lines: list[tuple[str, str]] = []
        self.supervisor = Supervisor(self.pids, self._on_line, self._on_restart)

    def _on_line(self, name: str, line: str) -> None:
        self.lines.append((name, line))

    def _on_restart(self, name: str, end: str) -> None:
        self.restarts.append((name, end))

    def child(self, code: str, *arguments: str, secret: str | None = None) -> Child:
        return Child("one", ("-c", code, *arguments), self.tmp_path / "one.log", secret)

    async def pid(self, other_than: int = 0) -> int:
        """The child's pid once it has one (and a new one, after a restart), and has written its first line."""
        with trio.fail_after(60):
            while True:
                pids = json.loads(self.pids.read_text()) if self.pids.exists() else {}
                if pids.get("one", other_than) != other_than and "up" in (self.tmp_path / "one.log").read_text():
                    return int(pids["one"])
                await trio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_killed_child_comes_back(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.supervisor.run, watched.child(WAITS))
        first = await watched.pid()
        os.kill(first, signal.SIGKILL)
        second = await watched.pid(other_than=first)
        assert watched.restarts == [("one", "was killed by SIGKILL")]
        nursery.cancel_scope.cancel()
    assert not alive(second)
    assert json.loads(watched.pids.read_text()) == {}


async def test_a_child_reads_its_secret_at_each_start_and_nobody_sees_it_in_the_process_list(tmp_path: Path) -> None:
    code = "import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], 'rb').read()).hexdigest()); " + WAITS
    watched, secret = Watched(tmp_path), "correct horse battery staple"
    child = watched.child(code, SECRET, secret=secret)
    assert secret not in repr(child)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.supervisor.run, child)
        first = await watched.pid()
        shown = b"".join((Path("/proc") / str(first) / name).read_bytes() for name in ("cmdline", "environ"))
        assert b"/dev/fd/" in shown
        assert secret.encode() not in shown
        os.kill(first, signal.SIGKILL)
        await watched.pid(other_than=first)
        with trio.fail_after(60):
            while len(watched.lines) < 4:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    digest = hashlib.sha256(secret.encode()).hexdigest()
    assert [line for _, line in watched.lines] == [digest, "up", digest, "up"]


async def test_every_line_that_a_child_writes_is_passed_on(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    with pytest.raises(Misconfigured), trio.fail_after(60):
        await watched.supervisor.run(watched.child("import sys; print('one\\n\\ntwo'); sys.exit(2)"))
    assert watched.lines == [("one", "one"), ("one", "two")]
    assert (tmp_path / "one.log").read_text() == "one\n\ntwo\n"


async def test_a_child_that_ignores_its_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chain.supervisor.STOP_SECONDS", 0.2)
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    watched = Watched(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.supervisor.run, watched.child(stubborn))
        pid = await watched.pid()
        nursery.cancel_scope.cancel()
    assert not alive(pid)


async def test_a_child_that_refuses_to_start_is_quoted(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    with pytest.raises(Misconfigured, match="one: port 1 is taken"), trio.fail_after(60):
        await watched.supervisor.run(watched.child("import sys; print('port 1 is taken'); sys.exit(2)"))


async def test_children_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    code = f"""
import trio, sys
from pathlib import Path
from chain.supervisor import Child, Supervisor
child = Child("one", ("-c", {WAITS!r}), Path({str(tmp_path / "one.log")!r}))
ignore = lambda name, text: None
trio.run(Supervisor(Path({str(tmp_path / "processes.json")!r}), ignore, ignore).run, child)
"""
    watched = Watched(tmp_path)
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        pid = await watched.pid()
    finally:
        parent.kill()
        parent.wait()
    with trio.fail_after(60):
        while alive(pid):
            await trio.sleep(0.01)


def test_a_log_never_grows_past_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "one.log"
    line = b"x" * (LOG_BYTES_MAX // 4)
    with RotatingLog(path) as log:
        for _ in range(11):
            log.write(line)
    sizes = {file.name: file.stat().st_size for file in tmp_path.iterdir()}
    assert sizes.keys() == {"one.log", "one.log.1"}
    assert max(sizes.values()) <= LOG_BYTES_MAX


async def test_a_full_disk_costs_log_lines_and_no_child(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.supervisor = Supervisor(Path("/dev/full/processes.json"), watched._on_line, watched._on_restart)
    child = Child("one", ("-c", "print('up', flush=True); exit('error: the disk is full')"), Path("/dev/full"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.supervisor.run, child)
        with trio.fail_after(60):
            while len(watched.restarts) < 2:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert watched.lines[:3] == [("one", "up"), ("one", "error: the disk is full"), ("one", "up")]
    assert watched.restarts[:2] == [("one", "ended (error: the disk is full)")] * 2


async def test_a_child_that_refuses_after_it_once_ran_is_tried_again(tmp_path: Path) -> None:
    """Its port may have been taken meanwhile: no reason to end the others."""
    marker = tmp_path / "ran"
    code = f"""
import pathlib, sys
marker = pathlib.Path({str(marker)!r})
if marker.exists():
    print("port 1 is taken")
    sys.exit(2)
marker.touch()
sys.exit(1)
"""
    watched = Watched(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.supervisor.run, watched.child(code))
        with trio.fail_after(60):
            while len(watched.restarts) < 3:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    refused = ("one", "refused to start (port 1 is taken)")
    assert watched.restarts[:3] == [("one", "ended with exit code 1"), refused, refused]


def test_a_log_that_could_not_be_renewed_goes_on_when_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chain.supervisor.LOG_BYTES_MAX", 8)
    folder = tmp_path / "logs"
    folder.mkdir()
    with RotatingLog(folder / "one.log") as log:
        log.write(b"first\n")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            log.write(b"lost\n")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        log.write(b"second\n")
    assert {file.name: file.read_text() for file in folder.iterdir()} == {"one.log": "second\n", "one.log.1": "first\n"}


HELD_UP = """
import trio, trio.testing
from chain.supervisor import cancel_when_told

async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel_when_told, nursery.cancel_scope, False)
        await trio.testing.wait_all_tasks_blocked()
        print("up", flush=True)
        try:
            await trio.sleep_forever()
        finally:
            print("ending", flush=True)
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(__import__("time").sleep, 60)

trio.run(main)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_in_order_and_the_second_at_once(number: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-c", HELD_UP], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process, process.stdout:
        assert process.stdout.readline() == "up\n"
        process.send_signal(number)
        assert process.stdout.readline() == "ending\n"
        process.send_signal(number)
        assert process.wait(60) == -number
