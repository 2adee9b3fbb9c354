"""Trains digits while 7 of 16 workers send what hurts most: held-out accuracy, for each aggregator and attack.

    .venv/bin/python scripts/bench/byzantine.py [--rounds 100] [--seeds 2]

Nobody is audited: it is what an aggregator can do alone. Workers send int8 of their momentum (0.9), batches are of 256.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from figures import machine

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))  # the digits in this process are the tests'

from tests.trainer.byzantine import ATTACKS, WORKERS, WRONG, Attack, accuracy  # noqa: E402
from trainer.robust import PPM, Aggregation, CenteredClip, Krum, Mean, Median, TrimmedMean  # noqa: E402

SHARE = WRONG * PPM // WORKERS
AGGREGATORS: dict[str, Aggregation] = {
    "mean": Mean(),
    "median": Median(),
    "trimmed mean": TrimmedMean(SHARE),
    "krum": Krum(SHARE, multi=False),
    "multi-krum": Krum(SHARE, multi=True),
    "centered clip": CenteredClip(PPM, 100),
    "centered clip, half as wide": CenteredClip(PPM // 2, 100),
}
GOAL = 0.01


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100, help="how many are trained")
    parser.add_argument("--seeds", type=int, default=2, help="how often")
    parser.add_argument("--short", action="store_true", help="two rounds, once")
    options = parser.parse_args()
    if options.short:
        options.rounds, options.seeds = 2, 1

    def mean_accuracy(aggregator: Aggregation, attack: Attack | None) -> float:
        return statistics.mean(accuracy(aggregator, attack, options.rounds, seed) for seed in range(options.seeds))

    print(machine())
    honest = mean_accuracy(Mean(), None)
    print(f"{WRONG} of {WORKERS} wrong, {options.rounds} rounds, {options.seeds} seeds; honest workers: {honest:.4f}")
    print(f"  {'':<28}" + "".join(f"{name:>20}" for name in ATTACKS))
    for name, aggregator in AGGREGATORS.items():
        print(f"  {name:<28}", end="", flush=True)
        for attack in ATTACKS.values():
            found = mean_accuracy(aggregator, attack)
            print(f"{found:>16.4f} {'met' if found >= honest - GOAL else '   '}", end="", flush=True)
        print()


if __name__ == "__main__":
    main()
