"""Runs the benchmarks, one after the other, and writes a table of what they measured, as bench-DATE.json and .md.

    .venv/bin/python scripts/bench/all.py [execute finality …] [--short] [--against [FILE]] [--into FOLDER]

Each is a process of its own with a bounded time; what it prints is seen while it runs. One that fails leaves what it
had measured in the table and the others still run, but then this command fails, too. A goal that is missed is no
failure. Benchmarks that need what is not here are named and left out:

    --flower PYTHON, --anvil FILE, --evm PYTHON    the peers; flower.py and peers.py say how to install them
    FASHION_MNIST and BIBLE_DATA                   the examples' data; models.py says from where
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from figures import RECORDED, hardware
from tables import Incomparable, Ran, Table, comparison, markdown, read_recorded

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
SHORT_MINUTES = 3.0
# A benchmark that is told to end stops its nodes first.
STOP_SECONDS_MAX = 60.0
WELL, INTERRUPTED = "well", "when it was interrupted"


@dataclass(frozen=True)
class Benchmark:
    """How a script is called, and when it must have ended on two cores that do nothing else."""

    name: str
    minutes: float
    arguments: tuple[str, ...] = ()
    data: str = ""  # the variable that says where it finds what it reads

    @property
    def command(self) -> str:
        """What tells it from the others."""
        return shlex.join((self.name, *self.arguments))


# Where the examples look unless a variable tells them.
DATA = {"FASHION_MNIST": "/usr/share/datasets/fashion-mnist", "BIBLE_DATA": "/usr/lib/bible.data"}
FASHION_LINES = (
    "int8",
    "1 %, momentum correction, warm-up",
    "H = 32, int8",
    "H = 32, 10 %, nothing remembered, Nesterov",
)
BIBLE_LINES = ("int8", "10 %, error feedback", "1 %, error feedback, warm-up", "H = 32, int8, Nesterov")
BENCHMARKS = (
    Benchmark("execute", 10),
    Benchmark("peers", 15),
    Benchmark("state_root", 15),
    Benchmark("metadata", 5),
    Benchmark("light", 10),
    Benchmark("finality", 15),
    Benchmark("finality", 30, ("--real",)),
    Benchmark("growth", 60, ("workers", "parameters")),
    Benchmark("growth", 60, ("keys", "--full")),
    Benchmark("growth", 180, ("chain", "--full")),
    Benchmark("latency", 15),
    Benchmark("transfers", 15),
    Benchmark("transfers", 15, ("--scheme", "sr25519")),
    Benchmark("subscribers", 10),
    Benchmark("sync", 20),
    Benchmark("sync", 5, ("--transfers", "1000", "--blocks", "60")),
    Benchmark("sync", 5, ("--transfers", "1000", "--blocks", "60", "--scheme", "sr25519")),
    Benchmark("testnet", 20),
    Benchmark("soak", 75),
    Benchmark("swarm", 60),
    Benchmark("breakdown", 10),
    Benchmark("rounds", 10),
    Benchmark("slices", 10),
    Benchmark("aggregate", 20),
    Benchmark("spill", 20),
    Benchmark("tolerance", 20),
    Benchmark("drift", 10, ("digits",)),
    Benchmark("drift", 30, ("fashion",), "FASHION_MNIST"),
    Benchmark("training", 20, ("digits",)),
    Benchmark("training", 30, ("fashion",), "FASHION_MNIST"),
    Benchmark("training", 60, ("bible",), "BIBLE_DATA"),
    Benchmark("flower", 15),
    Benchmark("silos", 30),
    Benchmark("detection", 60),
    Benchmark("byzantine", 120),
    Benchmark("frontier", 60, ("digits",)),
    Benchmark("frontier", 60, ("fashion", "--lines", *FASHION_LINES), "FASHION_MNIST"),
    Benchmark("frontier", 60, ("bible", "--seeds", "1", "--lines", *BIBLE_LINES), "BIBLE_DATA"),
)
NAMES = tuple(dict.fromkeys(each.name for each in BENCHMARKS))


def main() -> None:
    """Run, gather, write, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all of them unless told")
    parser.add_argument("--short", action="store_true", help="little of each, to see that they work")
    parser.add_argument("--into", type=Path, default=ROOT / "build" / "bench", help="where the table is written")
    parser.add_argument(
        "--against", nargs="?", const="", metavar="FILE", help="an older table, or the newest of the folder"
    )
    parser.add_argument("--flower", metavar="PYTHON", help="of an environment with flwr")
    parser.add_argument("--anvil", metavar="FILE", help="Foundry's anvil")
    parser.add_argument("--evm", metavar="PYTHON", help="of an environment with py-evm")
    options = parser.parse_args()
    if unknown := sorted({*options.names} - {*NAMES}):
        parser.error(f"expected names among {', '.join(NAMES)}; got {', '.join(unknown)}")
    options.into.mkdir(parents=True, exist_ok=True)
    try:
        before = None if options.against is None else older(options.into, options.against, options.short)
    except (OSError, ValueError) as error:
        parser.error(f"--against: {error}")
    # Who is told to end ends the benchmark that runs, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    tools = {name: path for name in ("flower", "anvil", "evm") if (path := getattr(options, name))}
    table = run(chosen(options.names, options.short), options.short, tools)
    path = options.into / f"bench-{table.taken.replace(':', '')}.json"
    path.write_text(table.encode())
    path.with_suffix(".md").write_text(markdown(table))
    print(f"{path}\n{path.with_suffix('.md')}")
    if before is not None:
        print(comparison(table, before))
    if failed := [f"{ran.command}: ended {ran.ended}" for ran in table.ran if not ran.ok]:
        sys.exit("\n".join(failed))


def chosen(names: Sequence[str], short: bool) -> list[Benchmark]:
    """Those of these names; a short form is one for each, which needs no words to say what it measures."""
    found = [each for each in BENCHMARKS if each.name in (names or NAMES)]
    return [Benchmark(name, SHORT_MINUTES) for name in dict.fromkeys(each.name for each in found)] if short else found


def older(folder: Path, file: str, short: bool) -> Table:
    """The table of a file, or the newest of a folder; ValueError where this run would be incomparable with it."""
    files = [Path(file)] if file else sorted(folder.glob("bench-*.json"))
    if not files:
        raise ValueError(f"expected tables in {folder}; got none: name a file, or run without --against first")
    table = Table.decode(files[-1].read_text())
    if table.short != short:
        raise Incomparable(f"{files[-1]} has the {'short' if table.short else 'long'} form; run that, or name another")
    return table


def run(benchmarks: Sequence[Benchmark], short: bool, tools: Mapping[str, str]) -> Table:
    """Run them in their order; Ctrl-C ends the one that runs, and the table has what there is."""
    taken = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ran: list[Ran] = []
    for each in benchmarks:
        ran.append(run_one(each, short, tools))
        if ran[-1].ended == INTERRUPTED:
            break
    return Table(taken, commit(), hardware(), versions(), short, tuple(ran))


def run_one(benchmark: Benchmark, short: bool, tools: Mapping[str, str]) -> Ran:
    """Run one, as long as it may."""
    print(f"--- {benchmark.command}", flush=True)
    options = {"flower": ("flower",), "peers": ("anvil", "evm")}.get(benchmark.name, ())
    given = [word for name in options if name in tools for word in (f"--{name}", tools[name])]
    variable = benchmark.data
    missing = ""
    if benchmark.name == "flower" and not given:
        missing = "--flower PYTHON"
    elif variable and not Path(os.environ.get(variable, DATA[variable])).exists():
        missing = f"{variable}, or {DATA[variable]}"
    if missing:
        print(f"not run: it needs {missing}", flush=True)
        return Ran(benchmark.command, True, f"before it began: it needs {missing}", 0, (0, 0), ())
    command = [sys.executable, str(FOLDER / f"{benchmark.name}.py"), *benchmark.arguments, *given, *["--short"] * short]
    seconds_max = 60 * benchmark.minutes
    began, load = time.monotonic(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="potchain-bench-") as folder:
        file = Path(folder) / "recorded"
        # A session of its own: what it started ends with it.
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, RECORDED: str(file)}, start_new_session=True)
        try:
            status = process.wait(seconds_max)
            ended = WELL if status == 0 else f"with exit status {status}"
        except subprocess.TimeoutExpired:
            stop(process)
            ended = f"by force, since it was not through after {seconds_max / 60:g} minutes"
        except KeyboardInterrupt:
            stop(process)
            ended = INTERRUPTED
        figures = read_recorded(file)
    if ended == WELL and not figures:
        ended = "without a figure"
    seconds = time.monotonic() - began
    print(f"ended {ended} after {seconds:.0f} s", flush=True)
    return Ran(benchmark.command, ended == WELL, ended, seconds, (load, os.getloadavg()[0]), figures)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Have a benchmark end what it started and itself, or end all of it."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def commit() -> str:
    """Of what is measured, with a mark where files differ from it."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def versions() -> dict[str, str]:
    """Of what the project is made of."""
    names = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    bare = (re.match(r"[\w.-]+", name) for name in names)
    return {found[0]: version(found[0]) for found in bare if found}


if __name__ == "__main__":
    main()
