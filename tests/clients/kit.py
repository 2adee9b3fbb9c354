"""A node as its users run it, and their JavaScript libraries as they install them: real processes, no stand-ins."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
POT = 10**12
NODE_MAJOR_MIN = 18  # the oldest that @polkadot/api runs on
START_SECONDS_MAX = 180  # a start takes one; machines that run the tests may be busy
STOP_SECONDS_MAX = 60  # a node stops within one
# What a node says when all is well, or the machine too busy for it.
EXPECTED = ["states"], ["dashboard"], ["ready"], ["block"], ["stall"], ["task"], ["wait"], ["round"]
INSTALL_SECONDS_MAX = 300
SCRIPT_SECONDS_MAX = 180  # as the scripts have it themselves


@dataclass(frozen=True)
class RunningNode:
    """A node that answers."""

    genesis: Path
    base: Path
    rpc_port: int

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.rpc_port}"


@contextmanager
def running_node(genesis: Path, base: Path, rpc_port: int | None = None) -> Iterator[RunningNode]:
    """The chain's only validator, from its "ready" line on; ends well, and without a word of complaint.

    Should this process die, the node stops by itself.
    """
    rpc_port = rpc_port or free_port()
    command = [sys.executable, "-m", "chain", f"--genesis={genesis}", f"--base-path={base}", "--validator=alice"]
    ports = [f"--rpc-port={rpc_port}", f"--port={free_port()}", "--no-prometheus"]
    process = subprocess.Popen(
        [*command, *ports, "--supervised"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )
    ready, lines = threading.Event(), list[str]()

    def read_on() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if "  ready  " in line:
                ready.set()
        ready.set()  # it has ended

    reader = threading.Thread(target=read_on)
    reader.start()
    try:
        ready.wait(START_SECONDS_MAX)
        assert process.poll() is None, f"the node did not start:\n{''.join(lines)}"
        assert ready.is_set(), f"the node was not ready after {START_SECONDS_MAX} s:\n{''.join(lines)}"
        yield RunningNode(genesis, base, rpc_port)
        assert process.poll() is None, f"the node stopped by itself:\n{''.join(lines)}"
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(STOP_SECONDS_MAX) == 0, "".join(lines)
        complaints = [line for line in lines if line.split()[1:2] not in EXPECTED]
        assert not complaints, "".join(complaints)
    finally:
        process.kill()
        process.wait()
        reader.join()
        assert process.stdout is not None
        process.stdout.close()


def install(folder: Path = HERE) -> None:
    """Lay the packages that a folder's lock file names beside it, unless they lie there; processes take turns.

    Without Node.js a person's run skips what needs it, with the reason; continuous integration fails.
    """
    missing = _what_is_missing()
    if missing is not None:
        reason = f"{missing}: the tests with JavaScript libraries need Node.js {NODE_MAJOR_MIN} or newer, with npm"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    with (folder / "package-lock.json").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _install(folder, hashlib.sha256(file.read()).hexdigest())


def _install(folder: Path, lock: str) -> None:
    stamp = folder / "node_modules" / ".lock-hash"
    if stamp.exists() and stamp.read_text() == lock:
        return
    done = subprocess.run(
        ["npm", "ci", "--ignore-scripts"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, f"npm ci failed in {folder}:\n{done.stdout}{done.stderr}"
    stamp.write_text(lock)


def _what_is_missing() -> str | None:
    for name in ("node", "npm"):
        if shutil.which(name) is None:
            return f"no {name} on the PATH"
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < NODE_MAJOR_MIN:
        return f"node is {version}"
    return None


def run(script: str | Path, *arguments: str) -> Any:
    """What a script of this folder tells; it must end well, and the library must have warned of nothing."""
    return finished(started(script, *arguments))


def started(script: str | Path, *arguments: str) -> subprocess.Popen[str]:
    """A script on its way: of this folder, unless it is named with its own."""
    return subprocess.Popen(
        ["node", HERE / script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NODE_NO_WARNINGS": "1"},  # of Node.js itself, which ages; the libraries' own stay
    )


def finished(script: subprocess.Popen[str], seconds: float = SCRIPT_SECONDS_MAX) -> Any:
    """What a script tells at its end, which comes within so many seconds."""
    try:
        told, warned = script.communicate(timeout=seconds)
    finally:
        script.kill()
    assert (script.returncode, warned) == (0, ""), f"{script.args!r}:\n{told}{warned}"
    return json.loads(told)
