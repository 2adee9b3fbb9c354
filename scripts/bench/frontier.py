"""What fewer bytes cost: what a worker sends for each batch against held-out loss, over codecs, shares and local steps.

    .venv/bin/python scripts/bench/frontier.py [--batches 512] [--seeds 3]

The digits task with four workers and batches of 32. Every line trains on as many samples. Learning rates were chosen by
hand among 0.1 and 0.3 (Adam: 0.002 and 0.004), the baseline's as the best of them. "Tenure" is how many rounds a slot
stays with a worker, which remembers what it has not sent; with a tenure of one nothing is remembered, and an audit
recomputes one round.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

from figures import machine

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))  # the digits in this process are the tests'

from tests.trainer.digits import Trained, Training, train  # noqa: E402
from trainer import aggregate  # noqa: E402
from trainer.codecs import INT8, INT16  # noqa: E402
from trainer.codecs.topk import TopK  # noqa: E402
from trainer.descent import Descent  # noqa: E402
from trainer.local import LocalSteps  # noqa: E402
from trainer.optimizers import PICO, Adam, Nesterov, Sgd  # noqa: E402

GOAL = 100.0
FLOAT32_BYTES = 4 * 19_210
MOMENTUM = 9 * PICO // 10


def sgd(rate: float, momentum: int = MOMENTUM) -> Descent:
    """Stochastic gradient descent with the heavy ball."""
    return Descent(Sgd(round(rate * PICO), momentum))


def adam(rate: float) -> Descent:
    """Adam with the usual coefficients."""
    return Descent(Adam(round(rate * PICO), MOMENTUM, 999 * PICO // 1000, PICO // 10**8))


# The outer step to the mean of where the workers ended.
AVERAGE = sgd(1, 0)
OUTER = Descent(Nesterov(7 * PICO // 10, PICO // 2))
BASELINE = "float32"
LINES: dict[str, Training] = {
    BASELINE: Training(sgd(0.3)),
    "float32, Adam": Training(adam(0.004)),
    "int16": Training(sgd(0.3), INT16),
    "int8": Training(sgd(0.3), INT8),
    "int8, Adam": Training(adam(0.004), INT8),
    "10 %": Training(sgd(0.3, 0), TopK(100_000, MOMENTUM)),
    "1 %": Training(sgd(0.3, 0), TopK(10_000, MOMENTUM)),
    "1 %, plain feedback": Training(sgd(0.1), TopK(10_000)),
    "1 %, warm-up 64": Training(sgd(0.3, 0), TopK(10_000, MOMENTUM, 64)),
    "1 %, tenure 64": Training(sgd(0.3, 0), TopK(10_000, MOMENTUM), tenure=64),
    "1 %, tenure 16": Training(sgd(0.3, 0), TopK(10_000, MOMENTUM), tenure=16),
    "1 %, tenure 1": Training(sgd(0.1), TopK(10_000), tenure=1),
    "0.1 %": Training(sgd(0.1, 0), TopK(1_000, MOMENTUM)),
    "0.1 %, warm-up 64": Training(sgd(0.1, 0), TopK(1_000, MOMENTUM, 64)),
    **{
        f"{name}, H = {steps}": Training(AVERAGE, codec, LocalSteps(steps, sgd(0.3)), tenure=tenure)
        for steps in (8, 32)
        for name, codec, tenure in (
            ("int8", INT8, None),
            ("10 %", TopK(100_000), None),
            ("10 %, tenure 1", TopK(100_000), 1),
            ("1 %", TopK(10_000), None),
            ("1 %, tenure 1", TopK(10_000), 1),
        )
    },
    "int8, H = 32, Adam": Training(AVERAGE, INT8, LocalSteps(32, adam(0.004))),
    "int8, H = 32, Nesterov": Training(OUTER, INT8, LocalSteps(32, sgd(0.3))),
    "10 %, tenure 1, H = 32, Nesterov": Training(OUTER, TopK(100_000), LocalSteps(32, sgd(0.3)), tenure=1),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=512, help="how many each worker trains on")
    parser.add_argument("--seeds", type=int, default=3, help="how often each line is trained")
    parser.add_argument("--short", action="store_true", help="few batches, two seeds and a few lines")
    options = parser.parse_args()
    lines = LINES
    if options.short:
        options.batches, options.seeds = 32, 2
        lines = {name: LINES[name] for name in (BASELINE, "int8", "1 %", "10 %, tenure 1, H = 32")}
    print(machine())
    print(f"{options.batches} batches a worker, {options.seeds} seeds: mean and standard deviation over the seeds")
    print(f"  {'':<34} {'bytes a batch':>13} {'fewer':>8}  {'held-out loss':<18} {'accuracy':>8}  cpu seconds")
    baseline: list[Trained] = []
    best = 0.0
    for name, training in lines.items():
        started = time.process_time()
        found = [train(training, seed, options.batches, aggregate.mean) for seed in range(options.seeds)]
        baseline = baseline or found
        fewer, equal = FLOAT32_BYTES / found[0].bytes_per_step, is_equal(found, baseline)
        best = max(best, fewer if equal else 0)
        loss = statistics.mean(one.loss for one in found)
        spread = statistics.stdev(one.loss for one in found)
        accuracy = statistics.mean(one.accuracy for one in found)
        print(
            f"  {name:<34} {found[0].bytes_per_step:13,.1f} {fewer:7,.0f}x  {loss:.4f} +- {spread:.4f}   "
            f"{accuracy:8.4f}  {time.process_time() - started:6.1f}{'  equal loss' if equal else ''}",
            flush=True,
        )
    print(f"fewest bytes at equal loss: {best:,.0f}x fewer   goal {GOAL:g}x: {'met' if best >= GOAL else 'MISSED'}")


def is_equal(found: list[Trained], baseline: list[Trained]) -> bool:
    """Whether the mean loss is no worse than the baseline's by more than the baseline's standard deviation."""
    ours, theirs = [one.loss for one in found], [one.loss for one in baseline]
    return statistics.mean(ours) <= statistics.mean(theirs) + statistics.stdev(theirs)


if __name__ == "__main__":
    main()
