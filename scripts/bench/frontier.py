"""What fewer bytes cost: what a worker sends for each batch against held-out loss, over codecs, shares and local steps.

    .venv/bin/python scripts/bench/frontier.py digits|fashion|bible [--batches 512] [--seeds 3]

Every line trains on as many samples as the others, with four workers. Each line has three learning rates to choose
from, a factor of three apart; the first seed tries them all, and the best (by held-out loss) is what the other seeds
train with: the baseline's as every other's. "Tenure" is how many rounds a slot stays with a worker, which remembers
what it has not sent (for ever, unless told); where nothing is remembered, an audit recomputes one round.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

# One thread, as an engine computes: processor time then is what a line costs.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

from figures import heading, machine, record
from models import NAMES, Learner

from tests.trainer.digits import Trained, Training, train
from trainer import aggregate
from trainer.codecs import INT8, INT16, Codec
from trainer.codecs.topk import TopK
from trainer.descent import ClipNorm, Descent
from trainer.local import LocalSteps
from trainer.optimizers import PICO, Adam, Nesterov, Sgd
from trainer.schedules import Schedule

GOAL = 100.0
MOMENTUM = 9 * PICO // 10
STEPS_LOCAL = (8, 32)

# What makes a step, by its learning rate.
Rule = Callable[[float], Descent]


@dataclass(frozen=True)
class Line:
    """A way to train by its learning rate, and the rates that are tried."""

    make: Callable[[float], Training]
    rates: tuple[float, ...]


def sgd(rate: float, momentum: int = MOMENTUM) -> Descent:
    """Stochastic gradient descent with the heavy ball."""
    return Descent(Sgd(round(rate * PICO), momentum))


def plain(rate: float) -> Descent:
    """The same without momentum: where workers keep that, or none is to be had."""
    return sgd(rate, 0)


def adam(rate: float) -> Descent:
    """Adam with the usual coefficients."""
    return Descent(Adam(round(rate * PICO), MOMENTUM, 999 * PICO // 1000, PICO // 10**8))


def clipped_adam(rate: float) -> Descent:
    """What transformers are trained with: a gradient of norm one at most, and a rate that rises to what it stays at."""
    return replace(adam(rate), clip=ClipNorm(PICO), schedule=Schedule(warmup_steps=8))


# The outer step to the mean of where the workers ended, and DiLoCo's beyond it.
AVERAGE = sgd(1, 0)
OUTER = Descent(Nesterov(7 * PICO // 10, PICO // 2))
MLP_RATES = (0.03, 0.1, 0.3)
CNN_RATES = (0.01, 0.03, 0.1)
ADAM_RATES = (0.001, 0.003, 0.01)
BASELINE = "float32"


def every_round(outer: Rule, codec: Codec | None, tenure: int | None = None) -> Callable[[float], Training]:
    """A worker speaks after each batch."""
    return lambda rate: Training(outer(rate), codec, tenure=tenure)


def after_steps(
    count: int, inner: Rule, codec: Codec | None, tenure: int | None = None, outer: Descent = AVERAGE
) -> Callable[[float], Training]:
    """A worker speaks after so many batches."""
    return lambda rate: Training(outer, codec, LocalSteps(count, inner(rate)), tenure=tenure)


def lines(
    base: Rule,
    base_rates: tuple[float, ...],
    other: Rule,
    other_rates: tuple[float, ...],
    sgd_rates: tuple[float, ...],
    warm_up: int,
) -> dict[str, Line]:
    """The frontier of a model that is trained with `base`; `other` is shown beside it. A warm-up is in rounds."""
    found = {
        BASELINE: Line(every_round(base, None), base_rates),
        f"float32, {other.__name__}": Line(every_round(other, None), other_rates),
        "int16": Line(every_round(base, INT16), base_rates),
        "int8": Line(every_round(base, INT8), base_rates),
        "10 %, error feedback": Line(every_round(base, TopK(100_000)), base_rates),
        "10 %, momentum correction": Line(every_round(plain, TopK(100_000, MOMENTUM)), sgd_rates),
        "1 %, momentum correction": Line(every_round(plain, TopK(10_000, MOMENTUM)), sgd_rates),
        "1 %, momentum correction, warm-up": Line(every_round(plain, TopK(10_000, MOMENTUM, warm_up)), sgd_rates),
        "1 %, momentum correction, tenure 16": Line(every_round(plain, TopK(10_000, MOMENTUM), 16), sgd_rates),
        "1 %, error feedback": Line(every_round(base, TopK(10_000)), base_rates),
        "1 %, error feedback, warm-up": Line(every_round(base, TopK(10_000, 0, warm_up)), base_rates),
        "1 %, nothing remembered": Line(every_round(base, TopK(10_000), 1), base_rates),
        "0.1 %, momentum correction, warm-up": Line(every_round(plain, TopK(1_000, MOMENTUM, warm_up)), sgd_rates),
    }
    for steps in STEPS_LOCAL:
        local = partial(after_steps, steps, base)
        found |= {
            f"H = {steps}, int8": Line(local(INT8), base_rates),
            f"H = {steps}, int8, Nesterov": Line(local(INT8, outer=OUTER), base_rates),
            f"H = {steps}, 10 %, error feedback": Line(local(TopK(100_000)), base_rates),
            f"H = {steps}, 10 %, nothing remembered": Line(local(TopK(100_000), 1), base_rates),
            f"H = {steps}, 10 %, nothing remembered, Nesterov": Line(local(TopK(100_000), 1, OUTER), base_rates),
            f"H = {steps}, 1 %, error feedback": Line(local(TopK(10_000)), base_rates),
            f"H = {steps}, 1 %, error feedback, Nesterov": Line(local(TopK(10_000), outer=OUTER), base_rates),
        }
    return found


@dataclass(frozen=True)
class Setting:
    """How a model is trained here: rows a batch, batches a worker, and the lines."""

    batch: int
    batches: int
    lines: dict[str, Line]


SETTINGS = {
    "digits": Setting(32, 512, lines(sgd, MLP_RATES, adam, ADAM_RATES, MLP_RATES, 64)),
    "fashion": Setting(32, 256, lines(sgd, CNN_RATES, adam, ADAM_RATES, CNN_RATES, 32)),
    "bible": Setting(4, 64, lines(clipped_adam, ADAM_RATES, sgd, MLP_RATES, MLP_RATES, 16)),
}
SHORT_LINES = (BASELINE, "int8", "1 %, momentum correction", "H = 32, 10 %, nothing remembered")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", choices=NAMES, default=NAMES[0], help="what is trained")
    parser.add_argument("--batches", type=int, help="how many each worker trains on")
    parser.add_argument("--seeds", type=int, default=3, help="how often each line is trained")
    parser.add_argument("--lines", nargs="+", metavar="NAME", help="the baseline and these lines alone")
    parser.add_argument("--short", action="store_true", help="few batches, two seeds, one rate and a few lines")
    options = parser.parse_args()
    setting = SETTINGS[options.model]
    chosen = setting.lines
    if options.short:
        options.batches, options.seeds, options.lines = 32, 2, SHORT_LINES
        chosen = {name: Line(line.make, line.rates[-1:]) for name, line in chosen.items()}
    if options.lines:
        unknown = set(options.lines) - set(chosen)
        if unknown:
            sys.exit(f"expected lines among {', '.join(map(repr, chosen))}; got {', '.join(map(repr, unknown))}")
        chosen = {name: line for name, line in chosen.items() if name in (BASELINE, *options.lines)}
    run(options.model, replace(setting, batches=options.batches or setting.batches, lines=chosen), options.seeds)


def run(model: str, setting: Setting, seeds: int) -> None:
    """Train all lines of a model, each as its best rate is found."""
    learner = Learner(model)
    float32_bytes = 4 * learner.start(0).size
    print(machine())
    trained_on = f"{model}: {setting.batches} batches of {setting.batch} rows for each of four workers, {seeds} seeds"
    heading(f"{trained_on}: mean and standard deviation over the seeds", trained_on)
    print(
        f"  {'':<46} {'rate':>6} {'bytes a batch':>13} {'fewer':>8}  {'held-out loss':<18} {'accuracy':>8}  cpu seconds"
    )
    baseline: list[Trained] = []
    best = 0.0
    for name, line in setting.lines.items():
        started = time.process_time()

        def trained(rate: float, seed: int, line: Line = line) -> Trained:
            training = replace(line.make(rate), batch=setting.batch)
            return train(training, seed, setting.batches, aggregate.mean, learner)

        tried = {rate: trained(rate, 0) for rate in line.rates}
        # Where training diverged there is no loss to compare.
        rate = min(tried, key=lambda rate: (not math.isfinite(tried[rate].loss), tried[rate].loss))
        found = [tried[rate], *(trained(rate, seed) for seed in range(1, seeds))]
        baseline = baseline or found
        fewer, equal = float32_bytes / found[0].bytes_per_step, is_equal(found, baseline)
        best = max(best, fewer if equal else 0)
        loss = statistics.mean(one.loss for one in found)
        spread = statistics.stdev(one.loss for one in found) if seeds > 1 else 0.0
        accuracy = statistics.mean(one.accuracy for one in found)
        print(
            f"  {name:<46} {rate:6g} {found[0].bytes_per_step:13,.1f} {fewer:7,.0f}x  {loss:.4f} +- {spread:.4f}   "
            f"{accuracy:8.4f}  {time.process_time() - started:6.1f}{'  equal loss' if equal else ''}",
            flush=True,
        )
        record(f"{name}: bytes a batch", [found[0].bytes_per_step], "")
        record(f"{name}: held-out loss", [one.loss for one in found], "")
    record("fewer bytes at equal loss", [best], "x", better="more", goal=GOAL)
    print(f"fewest bytes at equal loss: {best:,.0f}x fewer   goal {GOAL:g}x: {'met' if best >= GOAL else 'MISSED'}")


def is_equal(found: list[Trained], baseline: list[Trained]) -> bool:
    """Whether the mean loss is no worse than the baseline's by more than the baseline's standard deviation."""
    ours, theirs = [one.loss for one in found], [one.loss for one in baseline]
    spread = statistics.stdev(theirs) if len(theirs) > 1 else 0.0
    return statistics.mean(ours) <= statistics.mean(theirs) + spread


if __name__ == "__main__":
    main()
