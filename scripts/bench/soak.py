"""Runs the testnet under a mixed load for an hour, and prints what grows meanwhile, and whether it should.

    .venv/bin/python scripts/bench/soak.py [--minutes 60] [--keep FILE]
    .venv/bin/python scripts/bench/soak.py --read FILE

Four validators with auditors, an aggregator and two workers, each a process of its own with JAX where it computes. All
at once, against all four nodes: transfers, tasks that are created, trained and finished one after the other,
subscribers, pages of the dashboard, light clients, blobs, strangers' noise, and a worker that is killed now and then.
Each process is sampled every ten seconds. The first half is left out: the 256 states that are kept and the data sets of
tasks that ended ten minutes ago come to their number, and caches fill, of which the 16 MiB of blocks that pages show
take longest. Of the rest a slope is the median of those between all pairs of thirty medians; it grows where the slope's
interval of 95 % lies above what is allowed, which is named in advance.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path
from random import Random

import trio
from figures import heading, machine, record
from mixed import ROOT, SENDER_SECONDS, Mixed, Network, Pace, testnet_without_tasks
from ports import free_run
from samples import Sample, Sampler
from slopes import Point, Slope, slope, without

from chain.light.checkpoint import Checkpoint
from chain.primitives.hashing import blake2_256
from chain.primitives.keys import Keypair
from runtime.modules.training_types import Terms

SAMPLE_SECONDS = 10.0
# Medians of so many parts of the whole run, which noise within them does not move.
PARTS = 60
# Of the run: what comes before is a start.
WARM_UP = 1 / 2
# A process that was killed again and again has starts to show, and no slope.
LIFE_SHARE_MIN = 1 / 4
# Of less nobody could say what grows.
SAYS_SECONDS_MIN = 2040.0
START_SECONDS_MAX = 120.0
STOP_SECONDS_MAX = 60.0
HOUR = 3600.0
MIB = 2.0**20
FAILURES_SHOWN = 12


@dataclass(frozen=True)
class Measure:
    """What is looked at, of which it may grow by `allowed` an hour, or grows with what it says.

    With `per` it is what `key` grew by for each that `per` grew by. What is `lasting` outlives the process. Of what is
    `slowed` the part is taken out that follows how long a block took just then: others want the machine's cores, too.
    """

    name: str
    key: str
    unit: str
    allowed: float = 0.0
    grows_with: str = ""
    per: str = ""
    scale: float = 1.0
    lasting: bool = False
    slowed: bool = False
    nodes: bool | None = None  # of them alone, or of all others alone


# The allowed growth is what an operator would not notice in a month, or what noise cannot be told from.
MEASURES = (
    Measure("memory of its own", "memory", "MiB", 2.0),
    Measure("files mapped", "mapped", "MiB", grows_with="the database's pages"),
    Measure("descriptors", "descriptors", "", 0.5),
    Measure("threads", "threads", "", 0.5),
    Measure("tasks on the loop", "loop tasks", "", 1.0),
    Measure("lag of the loop, mean", "lag seconds", "ms", 1.0, per="lag count", scale=1000, slowed=True),
    Measure("processor time a block", "cpu", "ms", 10.0, per="blocks", scale=1000, slowed=True),
    # A block's worth of them: how many wait just then depends on how long ago the last block was.
    Measure("transactions ready", "pool ready", "", 20.0, slowed=True),
    Measure("transactions that wait for a nonce", "pool future", "", 0.5),
    Measure("peers", "peers", "", 0.1),
    Measure("RPC connections", "rpc connections", "", 1.0),
    Measure("subscriptions", "rpc subscriptions", "", 1.0),
    Measure("bytes that wait for clients", "rpc waiting bytes", "kB", 1.0, scale=1e-3),
    Measure("database in use", "database bytes", "MiB", grows_with="blocks", scale=1 / MIB),
    Measure("database, file", "database file bytes", "MiB", grows_with="blocks", scale=1 / MIB),
    Measure(
        "blobs",
        "blob files bytes",
        "MiB",
        grows_with="tasks of a week, strays",
        scale=1 / MIB,
        lasting=True,
        nodes=True,
    ),
    Measure("blobs", "blob files bytes", "MiB", 0.1, scale=1 / MIB, lasting=True, nodes=False),
    Measure("other files", "files bytes", "MiB", 0.1, scale=1 / MIB, lasting=True),
    Measure("log", "log bytes", "MiB", grows_with="lines, up to 16 MiB", scale=1 / MIB, lasting=True),
    Measure("engines", "engines", "", 0.1, lasting=True),
    Measure("memory of the engines", "engines memory", "MiB", 10.0),
)
CLOCK = "clock"
BLOCK_SECONDS = Measure("seconds a block", CLOCK, "s", per="blocks")


def main() -> None:
    """Run, or read what a run kept, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long the load lasts")
    parser.add_argument("--transfers", type=float, default=20.0, help="transfers a second")
    parser.add_argument("--seed", type=int, default=1, help="of what the load draws")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="where the samples are kept, a JSON object a line")
    parser.add_argument("--read", type=Path, metavar="FILE", help="print of these samples what was printed then")
    parser.add_argument("--short", action="store_true", help="some seconds, to see that the benchmark works")
    options = parser.parse_args()
    if options.read:
        report([Sample.decode(line) for line in options.read.read_text().splitlines()])
        return
    pace, every = Pace(), SAMPLE_SECONDS
    validators, workers = 4, 2
    if options.short:
        options.minutes, options.transfers, every = 0.1, 2.0, 0.5
        pace = Pace(light=1.0, stray=1.0, junk=1.0, kill=3.0, rounds=1)
        validators, workers = 2, 1
    # Who is told to end ends the network, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(prefix="potchain-bench-") as name:
        folder = Path(name)
        keep = options.keep or folder / "samples"
        keep.parent.mkdir(parents=True, exist_ok=True)
        # And one for the wallet.
        payers = [
            Keypair.from_seed(blake2_256(b"payer %d" % i)) for i in range(round(options.transfers * SENDER_SECONDS) + 1)
        ]
        with running(folder, payers, validators, workers) as (network, metrics, launcher, terms):
            mixed = Mixed(network, terms, pace, Random(options.seed))
            sampler = Sampler(launcher.pid, network.data, metrics)
            trio.run(partial(soak, mixed, sampler, keep, 60 * options.minutes, every))
            ended = launcher.poll()
        print(machine())
        if ended is not None:
            sys.exit(f"the network ended by itself, with exit status {ended}")
        report([Sample.decode(line) for line in keep.read_text().splitlines()])
        report_load(mixed, options.minutes)


async def soak(mixed: Mixed, sampler: Sampler, keep: Path, seconds: float, every: float) -> None:
    """The load for so long, and a sample each time, written at once."""
    with keep.open("w") as file, trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mixed.run)
            while True:
                next_at = trio.current_time() + every
                file.write((await trio.to_thread.run_sync(sampler.sample)).encode() + "\n")
                file.flush()
                await trio.sleep_until(next_at)


# --- the network


@contextmanager
def running(
    folder: Path, payers: Sequence[Keypair], validators: int, workers: int
) -> Iterator[tuple[Network, dict[str, int], subprocess.Popen[bytes], Terms]]:
    """The testnet with money for the payers and no task: where it is, its nodes' ports for metrics, what runs it.

    Last the terms of the task that its genesis file had.
    """
    spec, terms = testnet_without_tasks(folder, payers, validators, workers, None)
    assert spec.development is not None
    names = [key.name for key in spec.development.validators]
    first = free_run(3 * len(names))
    rpc_ports, ports, metrics = (range(first + i * len(names), first + (i + 1) * len(names)) for i in range(3))
    command = [sys.executable, "-m", "chain", f"--genesis={spec.path}", f"--base-path={folder / 'data'}"]
    command += [f"--rpc-port={rpc_ports[0]}", f"--port={ports[0]}", f"--prometheus-port={metrics[0]}"]
    with (folder / "terminal").open("wb") as terminal:
        launcher = subprocess.Popen(command, stdout=terminal, stderr=terminal, cwd=ROOT)
    try:
        trio.run(until_ready, launcher, folder / "terminal")
        network = Network(
            spec, folder / "data", tuple(rpc_ports), tuple(ports), tuple(payers[:-1]), payers[-1], Checkpoint.of(spec)
        )
        yield network, dict(zip(names, metrics, strict=True)), launcher, terms
    except BaseException:
        print((folder / "terminal").read_text()[-2000:], file=sys.stderr)
        raise
    finally:
        launcher.send_signal(signal.SIGINT)
        launcher.wait(STOP_SECONDS_MAX)


async def until_ready(launcher: subprocess.Popen[bytes], terminal: Path) -> None:
    """Wait until every validator is."""
    with trio.fail_after(START_SECONDS_MAX):
        while "; Ctrl-C stops them all" not in terminal.read_text():
            if launcher.poll() is not None:
                raise RuntimeError("the network ended before it was ready")
            await trio.sleep(0.1)


# --- what came of it


def role(name: str) -> str:
    """What a process is called in the table: with others that do the same."""
    if name.endswith("-auditor"):
        return "auditors"
    return {"aggregator": "aggregator", "eve": "worker, killed", "ferdie": "worker", "launcher": "launcher"}.get(
        name, "clients" if name == "clients" else "nodes"
    )


@dataclass(frozen=True)
class Growth:
    """How a process's value went: what it was at the end, and its slope in an hour."""

    level: float
    slope: Slope


def growth(measure: Measure, name: str, samples: Sequence[Sample]) -> Growth | None:
    """Of one process; None where it has no such value, or not for long enough."""
    if measure.nodes is not None and measure.nodes != (role(name) == "nodes"):
        return None
    span = samples[-1].time
    found = [sample for sample in samples if measure.key in sample.values.get(name, {})]
    parts = [list(group) for _, group in groupby(found, key=lambda sample: int(PARTS * sample.time / span))]
    points = list(_increments(measure, name, parts) if measure.per else _medians(measure, name, parts))
    if measure.slowed:
        points = without(points, list(_increments(BLOCK_SECONDS, name, parts)))
    points = [point for point in points if point.time * HOUR >= WARM_UP * span]
    lives = Counter(point.life for point in points)
    points = [point for point in points if lives[point.life] >= LIFE_SHARE_MIN * len(points)]
    steady = slope(points)
    return None if steady is None else Growth(statistics.median(point.value for point in points[-5:]), steady)


def _medians(measure: Measure, name: str, parts: Sequence[Sequence[Sample]]) -> Iterator[Point]:
    for part in parts:
        last = part[-1].pids[name]
        values = [sample.values[name][measure.key] for sample in part if measure.lasting or sample.pids[name] == last]
        life = 0 if measure.lasting else last
        yield Point(part[0].time / HOUR, measure.scale * statistics.median(values), life)


def _increments(measure: Measure, name: str, parts: Sequence[Sequence[Sample]]) -> Iterator[Point]:
    for (before, *_), (after, *_) in pairwise(parts):
        more, each = (_value(after, name, key) - _value(before, name, key) for key in (measure.key, measure.per))
        if each > 0 and before.pids[name] == after.pids[name]:
            yield Point(before.time / HOUR, measure.scale * more / each, before.pids[name])


def _value(sample: Sample, name: str, key: str) -> float:
    return sample.time if key == CLOCK else sample.values[name].get(key, 0.0)


def report(samples: Sequence[Sample]) -> None:
    """Print a line for each measure and role: the slopes of its processes, and what is to be thought of them."""
    names = list(dict.fromkeys(name for sample in samples for name in sample.values))
    heading(
        f"{samples[-1].time / 60:.0f} minutes, {len(samples)} samples of {len(names)} processes; the first half is "
        "left out",
        "everything at once",
    )
    print(f"  {'':<52}{'at the end':>14}{'grows an hour by':>22}{'(95 %)':>24}")
    long = samples[-1].time >= SAYS_SECONDS_MIN
    wrong: list[str] = []
    for measure in MEASURES:
        for each in dict.fromkeys(map(role, names)):
            own = [found for name in names if role(name) == each and (found := growth(measure, name, samples))]
            if own and not show(measure, each, own, long=long):
                wrong.append(f"{measure.name} of {each}")
    if not long:
        print(f"less than {SAYS_SECONDS_MIN / 60:g} minutes say nothing of what grows")
        return
    print("nothing grows that should not" if not wrong else f"grows, and should not: {'; '.join(wrong)}")
    record("series that grow and should not", [len(wrong)], "", goal=0)


def show(measure: Measure, whose: str, found: Sequence[Growth], *, long: bool) -> bool:
    """Print the one that grows most, by the middle of its slope; whether none grows that should not."""
    most = max(found, key=lambda each: each.slope.median)
    grows = not measure.grows_with and any(each.slope.exceeds(measure.allowed) for each in found)
    verdict = f"with {measure.grows_with}" if measure.grows_with else "GROWS" if grows else "flat"
    if not long:
        verdict = ""
    print(
        f"  {measure.name + ', ' + whose:<52}{most.level:>10,.2f} {measure.unit:<3}"
        f"{most.slope.median:>+18,.3f} {measure.unit:<3}{f'({most.slope.low:+,.3f} to {most.slope.high:+,.3f})':>24}"
        f"   {verdict}",
        flush=True,
    )
    name = f"{measure.name}, {whose}"
    record(name, [each.level for each in found], measure.unit)
    record(f"{name}, grows an hour by", [each.slope.median for each in found], measure.unit)
    return not grows


def report_load(mixed: Mixed, minutes: float) -> None:
    """Print what was done meanwhile, and what went wrong of it."""
    print("the load: " + ", ".join(f"{number:,} {kind}" for kind, number in sorted(mixed.done.items())))
    for kind, number in sorted(mixed.done.items()):
        record(f"load: {kind}", [number / minutes], "a minute", better="more")
    if mixed.final_seconds:
        waits = sorted(mixed.final_seconds)
        print(
            f"a wallet's transfer was final after {statistics.median(waits):.2f} s (p50), "
            f"{waits[len(waits) * 99 // 100]:.2f} s (p99)"
        )
        record("a wallet's transfer is final after", waits, "s")
    print(f"failed: {mixed.failed.total():,}")
    for words, number in mixed.failed.most_common(FAILURES_SHOWN):
        print(f"  {number:,} x {words}")


if __name__ == "__main__":
    main()
