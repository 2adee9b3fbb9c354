"""Builds the runtime's metadata, each time in a process that has never built any, and prints what that takes.

Such a process has imported what a node imports before it is ready, and nothing of the metadata exists yet: it is what
the first client waits for.

    taskset -c 1 .venv/bin/python scripts/bench/metadata.py [--samples 15] [--profile]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from figures import Figures, machine, profiled, show, show_value

GOAL_MS = 20.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=15, help="how many processes for each version")
    parser.add_argument("--profile", action="store_true", help="print where the time goes, too")
    parser.add_argument("--short", action="store_true", help="two processes, to see that the benchmark works")
    parser.add_argument("--once", type=int, metavar="VERSION", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once is not None:
        build(options.once, options.profile)
        return
    print(machine())
    for version in (14, 15):
        figures = Figures()
        for _ in range(2 if options.short else options.samples):
            wall, cpu, size = map(float, _in_a_fresh_process(version).split())
            figures["first"].wall.append(wall)
            figures["first"].cpu.append(cpu)
        show(f"metadata V{version}", figures["first"], GOAL_MS)
        show_value(f"metadata V{version}, size", [size / 1000], "kB")
        if options.profile:
            print(_in_a_fresh_process(version, "--profile"))


def build(version: int, profile: bool) -> None:
    """Build it once and print seconds by the wall clock, seconds of the processor, and bytes."""
    from runtime.executive import Executive
    from runtime.potchain import RUNTIME

    Executive(RUNTIME)
    if profile:
        with profiled(f"metadata V{version}"):
            RUNTIME.metadata(version)
        return
    figures = Figures()
    with figures.sample("first"):
        metadata = RUNTIME.metadata(version)
    print(figures["first"].seconds, figures["first"].cpu_seconds, len(metadata))


def _in_a_fresh_process(version: int, *options: str) -> str:
    command = [sys.executable, str(Path(__file__)), f"--once={version}", *options]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    main()
