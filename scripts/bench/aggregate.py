"""Measures what aggregating a round's updates takes: processor time and memory, for each aggregator and codec.

    .venv/bin/python scripts/bench/aggregate.py [--updates 16 64] [--parameters 100000 1000000 10800000]

Memory is what numpy holds at once beyond the updates themselves, the result included.
"""

from __future__ import annotations

import argparse
import tracemalloc
from collections.abc import Sequence

import numpy as np
from figures import Figures, heading, machine, show, show_value

from trainer import robust
from trainer.codecs import INT8, INT16, Codec
from trainer.codecs.topk import TopK
from trainer.codecs.updates import Update
from trainer.robust import PPM, Aggregation, CenteredClip, Krum, Mean, Median, TrimmedMean

SHARE = 7 * PPM // 16
CASES: dict[str, tuple[Codec, Aggregation]] = {
    "mean of int8": (INT8, Mean()),
    "mean of int16": (INT16, Mean()),
    "mean of top 1 %": (TopK(10_000), Mean()),
    "median of int8": (INT8, Median()),
    "trimmed mean of int8": (INT8, TrimmedMean(SHARE)),
    "krum of int8": (INT8, Krum(SHARE, multi=False)),
    "multi-krum of int8": (INT8, Krum(SHARE, multi=True)),
    "centered clip of int8": (INT8, CenteredClip(PPM, 20)),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, nargs="+", default=[16, 64], help="how many updates a round has")
    parser.add_argument("--parameters", type=int, nargs="+", default=[100_000, 1_000_000, 10_800_000])
    parser.add_argument("--short", action="store_true", help="few updates of a small model")
    options = parser.parse_args()
    if options.short:
        options.updates, options.parameters = [3], [3_000]
    print(machine())
    for parameters in options.parameters:
        for count in options.updates:
            measure(parameters, count)


def measure(parameters: int, count: int) -> None:
    """Print the time and the memory of each case."""
    figures = Figures()
    heading(f"{count} updates of {parameters:,} parameters")
    made: dict[Codec, list[Update]] = {}
    for name, (codec, aggregator) in CASES.items():
        if codec not in made:
            made = {codec: some_updates(codec, parameters, count)}
        with figures.sample(name):
            robust.combine(aggregator, made[codec])
        show(name, figures[name])
        show_value(f"{name}, memory", [peak_bytes(aggregator, made[codec]) / 1e6], "MB")


def some_updates(codec: Codec, parameters: int, count: int) -> list[Update]:
    """Updates that agree in part, as gradients of one model do."""
    common = np.random.default_rng(count).standard_normal(parameters).astype(np.float32)
    updates: list[Update] = []
    for index in range(count):
        noise = np.random.default_rng(index).standard_normal(parameters, np.float32)
        updates.append(codec.quantise(common + noise, 0))
    return updates


def peak_bytes(aggregator: Aggregation, updates: Sequence[Update]) -> int:
    """The most memory that it takes."""
    tracemalloc.start()
    try:
        robust.combine(aggregator, updates)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


if __name__ == "__main__":
    main()
