"""Seconds a round on digits, four contributions of a batch of 256: Flower's simulation, and a network of ours.

One after the other on the same cores:

    python3 -m venv FOLDER && FOLDER/bin/pip install "flwr[simulation]"
    .venv/bin/python scripts/bench/flower.py --flower FOLDER/bin/python [--rounds 20]

Flower's four clients are actors of one machine that trust each other. Ours are processes of a network: two workers with
two slots each, four validators, each with an auditor, and an aggregator; one validator recomputes each slot.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from figures import machine, record
from models import task_of, train_of
from training import Case, run

APP = Path(__file__).with_name("flower_app.py")
BATCH = 256
SLOTS = 4
# The rounds in which Flower starts its actors.
WARM_UP_ROUNDS = 1


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flower", type=Path, required=True, metavar="PYTHON", help="of an environment with flwr")
    parser.add_argument("--rounds", type=int, default=20, help="how many Flower trains")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long our network is watched at least")
    parser.add_argument("--short", action="store_true", help="few rounds, to see that the benchmark works")
    options = parser.parse_args()
    if options.short:
        options.rounds, options.seconds = 3, 2.0
    print(machine())
    with tempfile.TemporaryDirectory(prefix="potchain-bench-") as folder:
        version, seconds, accuracy = flower(options.flower, Path(folder), options.rounds)
    print(
        f"Flower {version}, simulation: {statistics.median(seconds):.2f} s a round "
        f"({min(seconds):.2f} to {max(seconds):.2f}), held-out accuracy {accuracy:.1%} after {options.rounds}",
        flush=True,
    )
    record("Flower, simulation, a round", seconds, "s")
    with tempfile.TemporaryDirectory(prefix="potchain-bench-") as folder:
        ours = run(
            Case("digits", 1, validators=4, audited=1.0, slots=SLOTS, batch=BATCH), Path(folder), options.seconds
        )
    print(
        f"potchain, {ours.rounds} rounds: {ours.wall / ours.rounds:.2f} s a round, "
        f"{ours.accepted} slots accepted, {ours.rejected} not"
    )
    record("potchain, a round", [ours.wall / ours.rounds], "s", peers={f"Flower {version}": statistics.median(seconds)})


def flower(python: Path, folder: Path, rounds: int) -> tuple[str, list[float], float]:
    """Flower's version, what each round took, and how well the model did in the end."""
    task = task_of("digits", BATCH)
    x, y = train_of(task)
    np.savez(folder / "digits.npz", x=x, y=y, held_x=task.held_out[0], held_y=task.held_out[1])
    # Telemetry is for who agreed to it.
    environment = {**os.environ, "FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        [python, APP, folder / "digits.npz", str(rounds)], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        raise RuntimeError(f"Flower ended with {done.returncode}: {done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return found["version"], found["seconds"][WARM_UP_ROUNDS:], found["accuracy"]


if __name__ == "__main__":
    main()
