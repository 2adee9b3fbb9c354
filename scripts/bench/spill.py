"""Measures what a round's updates take in an aggregator: peak memory and processor time, in memory and from a file.

    .venv/bin/python scripts/bench/spill.py [--updates 64 256] [--parameters 1000000 10000000] [--all-rules]

Every case is a process of its own, which decodes blobs one by one, as an aggregator does, and sums them. Peak memory is
the process's resident set beyond what it was before the first update, the sum included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from figures import heading, machine, record

from trainer import robust
from trainer.codecs import INT8, Codec
from trainer.codecs.topk import TopK
from trainer.robust import PPM, Aggregation, Mean, Median, TrimmedMean
from trainer.spill import Spill, Summand

CASES: dict[str, tuple[Codec, Aggregation]] = {
    "mean of int8": (INT8, Mean()),
    "mean of top 1 %": (TopK(10_000), Mean()),
    "median of int8": (INT8, Median()),
    "trimmed mean of int8": (INT8, TrimmedMean(PPM // 4)),
}
# Sorting 256 values of each of ten million parameters takes minutes.
QUICK = ("mean of int8", "mean of top 1 %")
# Blobs that differ; more updates than these are the same ones again, decoded again.
BLOBS = 4


def main() -> None:
    """Measure each case in a process of its own, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--parameters", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--all-rules", action="store_true", help="medians of the largest rounds, too")
    parser.add_argument("--short", action="store_true", help="few updates of a small model")
    parser.add_argument("--case", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        name, parameters, count, where, folder = options.case
        child(name, int(parameters), int(count), where, Path(folder))
        return
    if options.short:
        options.updates, options.parameters = [3], [3_000]
    print(machine())
    for parameters in options.parameters:
        for count in options.updates:
            heading(f"{count} updates of {parameters:,} parameters")
            for name in CASES:
                if name in QUICK or options.all_rules or parameters * count < 10**8:
                    print(
                        f"  {name:<22}" + "   ".join(measured(name, parameters, count, at) for at in ("memory", "file"))
                    )


def measured(name: str, parameters: int, count: int, where: str) -> str:
    """One case in a new process, in a few words; recorded, too."""
    codec, _ = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        for index in range(min(BLOBS, count)):
            vector = np.random.default_rng(index).standard_normal(parameters, np.float32)
            (Path(folder) / str(index)).write_bytes(codec.quantise(vector, 0).encode())
        case = [name, str(parameters), str(count), where, folder]
        command = [sys.executable, __file__, "--case", *case]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    megabytes, decoding, summing = json.loads(done.stdout)
    record(f"{name}, {where}: peak memory", [megabytes], "MB")
    record(f"{name}, {where}: processor time", [decoding + summing], "s")
    return f"{where + ':':<8} {megabytes:8,.0f} MB, decoded in {decoding:6.2f} s, summed in {summing:6.2f} s"


def child(name: str, parameters: int, count: int, where: str, folder: Path) -> None:
    """Decode and sum, and say what that took: megabytes, and seconds of each."""
    codec, aggregation = CASES[name]
    # Peaks are counted from here on, not from what this program was made of.
    Path("/proc/self/clear_refs").write_text("5")
    before, started = peak_bytes(), time.process_time()
    spill = Spill(folder)
    updates: list[Summand] = []
    for index in range(count):
        update = codec.decode((folder / str(index % BLOBS)).read_bytes(), parameters, 0)
        updates.append(spill.add(update) if where == "file" else update)
    decoded = time.process_time()
    robust.combine(aggregation, updates)
    summed = time.process_time()
    print(json.dumps([(peak_bytes() - before) / 1e6, decoded - started, summed - decoded]))


def peak_bytes() -> int:
    """The largest resident set of this process since it was last cleared."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
