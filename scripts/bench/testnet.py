"""Runs the testnet for a while and prints what its users feel: start, pace, learning, memory.

    .venv/bin/python scripts/bench/testnet.py [--minutes 10]

Starts a testnet of its own, twice: the second start goes on with the first one's data.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import trio
from figures import heading, machine, record, show_value

from chain.rpc.client import Client

ROOT = Path(__file__).resolve().parent.parent.parent
RPC_PORT = 18944
PORT = 32333
GOAL = 0.95


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the first run lasts")
    parser.add_argument("--short", action="store_true", help="for some seconds, to see that the benchmark works")
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory(prefix="potchain-bench-") as folder:
        starts = {"first start": options.minutes * 60, "second start": 30.0}
        for name, seconds in {"first start": 3.0}.items() if options.short else starts.items():
            heading(name)
            started = time.monotonic()
            testnet = start(Path(folder))
            try:
                show_value("ready after", [wait_until_ready(Path(folder), started)], "s")
                trio.run(watch, Path(folder), seconds, started)
            finally:
                testnet.send_signal(signal.SIGINT)
                stopping = time.monotonic()
                testnet.wait(20)
            show_value("stopped by SIGINT in", [time.monotonic() - stopping], "s")


def start(folder: Path) -> subprocess.Popen[bytes]:
    """The launcher, its terminal in a file."""
    options = (f"--rpc-port={RPC_PORT}", f"--port={PORT}", "--no-prometheus", f"--base-path={folder / 'data'}")
    with (folder / "terminal").open("wb") as terminal:
        return subprocess.Popen(
            [sys.executable, "-m", "chain", f"--genesis={ROOT / 'genesis' / 'testnet.json'}", *options],
            stdout=terminal,
            stderr=terminal,
            cwd=ROOT,
        )


def wait_until_ready(folder: Path, started: float) -> float:
    """Seconds until the launcher says that every validator is ready."""
    while "validators after" not in (folder / "terminal").read_text():
        if time.monotonic() - started > 60:
            raise TimeoutError(f"the testnet is not ready: {(folder / 'terminal').read_text()}")
        time.sleep(0.02)
    return time.monotonic() - started


async def watch(folder: Path, seconds: float, started: float) -> None:
    """Follow the chain for so long, then print the figures."""
    heights: list[tuple[float, int]] = []
    rounds: dict[int, tuple[float, int]] = {}
    reached: float | None = None
    async with Client.reconnecting([f"ws://127.0.0.1:{RPC_PORT}"]) as client:
        with trio.move_on_after(seconds):
            async with client.finalized_heads() as heads:
                async for head in heads:
                    now = time.monotonic()
                    heights.append((now, int(head["number"], 16)))
                    task: dict[str, Any] = await client.request("training_task", 0)
                    rounds.setdefault(task["round"], heights[-1])
                    if reached is None and task["accuracy"] and task["accuracy"][-1][1] > GOAL:
                        reached = now
                        print(f"held-out accuracy {task['accuracy'][-1][1]:.2%} {now - started:.0f} s after the start")
                        record(f"held-out accuracy of {GOAL:.0%} after", [now - started], "s")
        task = await client.request("training_task", 0)
    (first, low), (last, high) = heights[0], heights[-1]
    print(f"blocks: {high - low} in {last - first:.0f} s, {(high - low) / (last - first):.3f} a second")
    record("blocks", [(high - low) / (last - first)], "a second", better="more")
    ends = list(rounds.values())
    lengths = [after[0] - before[0] for before, after in itertools.pairwise(ends)]
    blocks = [after[1] - before[1] for before, after in itertools.pairwise(ends)]
    if lengths:
        print(f"rounds: {len(lengths)}, mean {statistics.mean(blocks):.2f} blocks")
        show_value("a round", lengths, "s")
        show_value("a round, in blocks", blocks, "")
    if task["accuracy"]:
        print(f"round {task['round']}: accuracy {task['accuracy'][-1][1]:.2%}, loss {task['loss'][-1][1]:.4f}")
    for name, pid in json.loads((folder / "data" / "processes.json").read_text()).items():
        show_value(f"{name}: memory", [resident_mib(pid)], "MiB")
        show_value(f"{name}: processor time", [cpu_seconds(pid)], "s")


def resident_mib(pid: int) -> float:
    """Resident memory of a process, from the kernel."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, its ended children not counted."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


if __name__ == "__main__":
    main()
