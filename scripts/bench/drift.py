"""How far honest machines drift apart over local steps, by the model's kinks and the inner optimiser.

    .venv/bin/python scripts/bench/drift.py digits|fashion [--steps 1 8 16 32 64] [--slots 4] [--lines NAME …]

The same slots of the same convolutional network are computed by processes with other instructions and threads. What
they say after so many steps is compared as an audit of int8 compares it: "needed" is the tolerance under which each
passes the audit of each other, 0.5 being what rounding alone needs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from figures import heading, machine, record
from models import task_of, train_of

from chain.primitives.hashing import blake2_256
from trainer import descent
from trainer.arrays import Float32s
from trainer.batches import slot_rows
from trainer.calibration import MICRO_STEPS_MIN as LEAST
from trainer.calibration import Trial, calibrate
from trainer.child import ONE_THREAD
from trainer.codecs import INT8
from trainer.descent import Descent
from trainer.optimizers import FRESH, PICO, Adam, Sgd
from trainer.packing import pack, unpack

BATCH = {"digits": 32, "fashion": 64}
MACHINES = {
    "one thread": {"XLA_FLAGS": ONE_THREAD},
    "eight threads": {"XLA_FLAGS": "", "NPROC": "8"},
    "AVX2": {"XLA_FLAGS": f"--xla_cpu_max_isa=AVX2 {ONE_THREAD}"},
    "SSE4.2": {"XLA_FLAGS": f"--xla_cpu_max_isa=SSE4_2 {ONE_THREAD}"},
}


def sgd(rate: float, momentum: float = 0.9) -> Descent:
    """The heavy ball, or without momentum plain descent."""
    return Descent(Sgd(round(rate * PICO), round(momentum * PICO)))


def adam(rate: float) -> Descent:
    """Adam with the usual moments."""
    return Descent(Adam(round(rate * PICO), 9 * PICO // 10, 999 * PICO // 1000, PICO // 10**8))


@dataclass(frozen=True)
class Line:
    """A network, by its activation and pooling, and how a slot trains it."""

    activation: str
    pool: str
    inner: Descent


LINES = {
    "relu, maximum, heavy ball 0.03": Line("relu", "max_pool", sgd(0.03)),
    "relu, mean, heavy ball 0.03": Line("relu", "avg_pool", sgd(0.03)),
    "gelu, maximum, heavy ball 0.03": Line("gelu", "max_pool", sgd(0.03)),
    "gelu, mean, heavy ball 0.03": Line("gelu", "avg_pool", sgd(0.03)),
    "silu, mean, heavy ball 0.03": Line("silu", "avg_pool", sgd(0.03)),
    "relu, maximum, heavy ball 0.003": Line("relu", "max_pool", sgd(0.003)),
    "relu, maximum, sgd 0.03": Line("relu", "max_pool", sgd(0.03, 0)),
    "relu, maximum, sgd 0.3": Line("relu", "max_pool", sgd(0.3, 0)),
    "gelu, mean, sgd 0.3": Line("gelu", "avg_pool", sgd(0.3, 0)),
    "relu, maximum, adam 0.001": Line("relu", "max_pool", adam(0.001)),
    "gelu, mean, adam 0.001": Line("gelu", "avg_pool", adam(0.001)),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=tuple(BATCH), nargs="?", default="digits", help="what is trained on")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 8, 16, 32, 64], help="numbers of local steps")
    parser.add_argument("--slots", type=int, default=4, help="how many slots are computed, each from its own start")
    parser.add_argument("--lines", nargs="+", metavar="NAME", choices=tuple(LINES), help="some of the lines")
    parser.add_argument("--machines", nargs="+", choices=tuple(MACHINES), help="some of the machines, two at least")
    parser.add_argument("--short", action="store_true", help="one line, few steps, one slot, two machines")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.lines = options.lines or list(LINES)
    options.machines = options.machines or list(MACHINES)
    if options.short:
        options.lines, options.machines = ["gelu, mean, heavy ball 0.03"], ["one thread", "SSE4.2"]
        options.steps, options.slots = [1, 4], 1
    if len(options.machines) < 2:
        parser.error("--machines: expected two at least, got one: nothing to compare it with")
    steps = sorted(set(options.steps))
    if options.into:
        compute(options.into, options.data, options.lines, steps, options.slots)
        return
    print(machine())
    print(f"{options.data}, batches of {BATCH[options.data]}, {options.slots} slots; {', '.join(options.machines)}")
    machines = computed_by_all(options, steps)
    for name in options.lines:
        report(name, machines, steps, options.slots)


def computed_by_all(options: argparse.Namespace, steps: Sequence[int]) -> list[dict[str, Float32s]]:
    """What each machine's slots say, by `key_of`; all of them at once, since what is measured is no speed."""
    words = [options.data, "--steps", *map(str, steps), "--slots", str(options.slots), "--lines", *options.lines]
    with tempfile.TemporaryDirectory(prefix="potchain-bench-") as folder:
        files = [Path(folder) / kind for kind in options.machines]
        processes = [
            subprocess.Popen(
                [sys.executable, __file__, *words, "--into", str(file)], env={**os.environ, **MACHINES[file.name]}
            )
            for file in files
        ]
        # Each is waited for, whatever became of the others.
        statuses = [process.wait() for process in processes]
        if any(statuses):
            sys.exit("a machine's process failed, and said why above")
        return [
            {key: np.frombuffer(data, np.float32) for key, data in unpack(file.read_bytes()).items()} for file in files
        ]


def report(name: str, machines: Sequence[dict[str, Float32s]], steps: Sequence[int], slots: int) -> None:
    """Print what came of one line, after each number of steps."""
    heading(name)
    for count in steps:
        found = [
            calibrate(INT8, [Trial([said[key_of(name, count, slot)] for said in machines], {}, {})], said=LEAST)
            for slot in range(slots)
        ]
        differences, needed = [each.difference for each in found], [each.needed / 1e6 for each in found]
        losses = [float(machines[0][key_of(name, count, slot, "loss")][0]) for slot in range(slots)]
        within = sum(each.needed <= LEAST for each in found)
        print(
            f"  {count:>4} steps: relative L2 {statistics.median(differences):.1e} ({min(differences):.1e} to "
            f"{max(differences):.1e}), needed {min(needed):.3f} to {max(needed):.3f}, {within} of {slots} within "
            f"{LEAST / 1e6}; loss {statistics.mean(losses):.3f}",
            flush=True,
        )
        record(f"{count} steps: relative L2 of honest results", differences, "")
        record(f"{count} steps: needed", needed, "steps")


def key_of(name: str, count: int, slot: int, what: str = "said") -> str:
    """A name for one vector."""
    return f"{name} {count} {slot} {what}"


def compute(into: Path, data: str, lines: Sequence[str], steps: Sequence[int], slots: int) -> None:
    """Write what the slots say after each number of steps, and the mean loss of the last four."""
    x, y = train_of(task_of(data, BATCH[data]))
    if data == "digits":
        x = x.reshape(-1, 8, 8) * 15  # sixteen shades, as bytes
    found: dict[str, Float32s] = {}
    for name in lines:
        inner = LINES[name].inner
        start, gradient = functions(LINES[name], x.shape[1:])
        for slot in range(slots):
            theta = start(slot)
            at, state = theta, FRESH
            losses: list[float] = []
            for index in range(steps[-1]):
                rows = slot_rows(blake2_256(b"drift"), index, 0, slot, BATCH[data], len(x))
                loss, slope = gradient(at, x[rows], y[rows])
                losses.append(float(loss))
                at, state = descent.step(inner, state, at, np.asarray(slope, np.float32), scheduled=index)
                if index + 1 in steps:
                    found[key_of(name, index + 1, slot)] = theta - at
                    found[key_of(name, index + 1, slot, "loss")] = np.array([statistics.mean(losses[-4:])], np.float32)
    into.write_bytes(pack({key: values.tobytes() for key, values in found.items()}))


def functions(line: Line, shape: tuple[int, ...]) -> tuple[Callable[[int], Float32s], Callable[..., Any]]:
    """Initial parameters f32[P] by seed, and the loss and gradient f32[P] of a batch."""
    # JAX is for the processes that compute: the one that compares starts without it.
    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    from jax.flatten_util import ravel_pytree

    activation, pool = getattr(nn, line.activation), getattr(nn, line.pool)

    class Network(nn.Module):
        """The example for Fashion-MNIST but for what a line chooses."""

        @nn.compact
        def __call__(self, images: Any) -> Any:
            x = images.astype(jnp.float32)[..., None] / 255
            for features in (16, 32):
                x = activation(nn.GroupNorm(num_groups=4)(nn.Conv(features, (3, 3))(x)))
                x = pool(x, (2, 2), strides=(2, 2))
            x = activation(nn.Dense(64)(x.reshape(len(x), -1)))
            return nn.Dense(10)(x)

    network = Network()
    initial = jax.jit(lambda seed: network.init(jax.random.key(seed), jnp.zeros((1, *shape), jnp.uint8)))
    _, unravel = ravel_pytree(initial(0))

    def start(seed: int) -> Float32s:
        return np.asarray(ravel_pytree(initial(seed))[0], np.float32)

    def loss(theta: Any, x: Any, y: Any) -> Any:
        logits: Any = network.apply(unravel(theta), x)
        return -(jax.nn.log_softmax(logits) * jax.nn.one_hot(y, 10)).sum(-1).mean()

    return start, jax.jit(jax.value_and_grad(loss))


if __name__ == "__main__":
    main()
