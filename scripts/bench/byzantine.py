"""Trains digits while 7 of 16 workers send what hurts most: held-out accuracy, for each aggregator and attack.

    .venv/bin/python scripts/bench/byzantine.py [--rounds 100] [--seeds 3] [--only "centered clip"] [--ways private]

Workers send int8; batches are of 256. Four ways: `momentum`, where nobody is audited and workers send their momentum
(0.9), which begins anew after a tenure of 64 rounds, as the codec Int8Momentum has it; `private`, where nobody is
audited and they send gradients, and the momentum is the optimiser's; `audited`, where a tenth of such slots is
recomputed, and who is caught gives way to an honest worker; `whole`, the first with the audits of the third.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from statistics import mean

import numpy as np
from figures import heading, machine, record

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))  # the digits in this process are the tests'

from tests.trainer.byzantine import ATTACKS, MOMENTUM, WORKERS, WRONG, Attack, Found, trained  # noqa: E402
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
# Worker momentum, and the share of slots that is audited.
WAYS: dict[str, tuple[np.float32, int]] = {
    "momentum": (MOMENTUM, 0),
    "private": (np.float32(0), 0),
    "audited": (np.float32(0), PPM // 10),
    "whole": (MOMENTUM, PPM // 10),
}
GOAL = 0.01


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100, help="how many are trained")
    parser.add_argument("--seeds", type=int, default=3, help="how often")
    parser.add_argument("--only", action="append", choices=list(AGGREGATORS), help="these aggregators alone")
    parser.add_argument("--ways", action="append", choices=list(WAYS), help="these ways alone")
    parser.add_argument("--short", action="store_true", help="two rounds, once, the mean and a centered clip")
    options = parser.parse_args()
    if options.short:
        options.rounds, options.seeds, options.only = 2, 1, ["mean", "centered clip"]
    print(machine())
    for way in options.ways or WAYS:
        table(way, options.only or list(AGGREGATORS), options.rounds, options.seeds)


def table(way: str, aggregators: list[str], rounds: int, seeds: int) -> None:
    """Print one way's table: mean accuracy over the seeds, the worst seed's, and whether that is within the goal."""
    momentum, audited_ppm = WAYS[way]

    def found(aggregator: Aggregation, attack: Attack | None) -> list[Found]:
        each = partial(trained, aggregator, attack, rounds, momentum=momentum, audited_ppm=audited_ppm)
        return [each(seed) for seed in range(seeds)]

    honest = [one.accuracy for one in found(Mean(), None)]
    setting = f"{way}: {WRONG} of {WORKERS} wrong, {rounds} rounds, {seeds} seeds"
    heading(f"{setting}; honest workers {mean(honest):.4f}", setting)
    print(f"  {'':<28}" + "".join(f"{name:>24}" for name in ATTACKS))
    caught: Counter[str] = Counter()
    for name in aggregators:
        print(f"  {name:<28}", end="", flush=True)
        for kind, attack in ATTACKS.items():
            outcomes = found(AGGREGATORS[name], attack)
            for one in outcomes:
                caught.update(tried=WRONG, caught=one.caught, refused=one.refused)
            each = [one.accuracy for one in outcomes]
            lost = [h - one for one, h in zip(each, honest, strict=True)]
            record(f"{name}, {kind}: accuracy lost", lost, "", goal=GOAL, held=max(lost))
            met = "met" if max(lost) <= GOAL else ""
            print(f"{mean(each):>11.4f} ({min(each):.3f}) {met:<4}", end="", flush=True)
        print()
    if audited_ppm:
        print(f"  caught {caught['caught']} of {caught['tried']}, honest updates refused {caught['refused']}")


if __name__ == "__main__":
    main()
