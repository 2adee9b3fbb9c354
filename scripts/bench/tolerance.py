"""Calibrates audits of digits with 1, 8 and 32 local steps: what honest machines need, and which cheats are found.

    .venv/bin/python scripts/bench/tolerance.py [--slots 4]

The same slots are computed by processes with one thread and several, and with every instruction set that this processor
has; a cheat leaves out one sample of one batch, or a whole step, or scales its update by two per cent.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from figures import machine, record

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))  # the digits in this process are the tests'

from chain.primitives.hashing import blake2_256  # noqa: E402
from trainer.arrays import Float32s  # noqa: E402
from trainer.batches import slot_rows  # noqa: E402
from trainer.calibration import Trial, Uncalibratable, calibrate  # noqa: E402
from trainer.codecs import INT8, INT16, Codec  # noqa: E402
from trainer.codecs.topk import TopK  # noqa: E402
from trainer.descent import Descent  # noqa: E402
from trainer.local import LocalSteps, contribution  # noqa: E402
from trainer.optimizers import PICO, Adam, Sgd  # noqa: E402
from trainer.packing import pack, unpack  # noqa: E402

BATCH = 32
INNER = {
    "sgd": Descent(Sgd(3 * PICO // 10, 9 * PICO // 10)),
    "adam": Descent(Adam(2 * PICO // 1000, 9 * PICO // 10, 999 * PICO // 1000, PICO // 10**8)),
}
CODECS: dict[str, Codec] = {"int8": INT8, "int16": INT16, "top 10 %": TopK(100_000), "top 1 %": TopK(10_000)}
MACHINES = {
    "one thread": {"NPROC": "1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"},
    "two threads": {"NPROC": "2"},
    "eight threads": {"NPROC": "8"},
    "AVX2": {"XLA_FLAGS": "--xla_cpu_max_isa=AVX2"},
    "AVX": {"XLA_FLAGS": "--xla_cpu_max_isa=AVX"},
    "SSE4.2": {"XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2"},
}
KINDS = ("honest", "one sample left out", "one step left out", "scaled by two per cent")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=4, help="how many slots are computed")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 8, 32], help="numbers of local steps")
    parser.add_argument("--short", action="store_true", help="one slot, few steps, two kinds of machine")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.into:
        options.into.write_bytes(
            pack({name: v.tobytes() for name, v in computed(options.slots, options.steps).items()})
        )
        return
    machines = dict(MACHINES)
    if options.short:
        options.slots, options.steps, machines = 1, [1, 2], dict(list(MACHINES.items())[:2])
    print(machine())
    with tempfile.TemporaryDirectory(prefix="potchain-bench-") as folder:
        found = []
        for name, variables in machines.items():
            file = Path(folder) / f"{name}.vectors"
            words = [__file__, "--slots", str(options.slots), "--into", str(file), "--steps", *map(str, options.steps)]
            subprocess.run([sys.executable, *words], env={**os.environ, **variables}, check=True)
            vectors = unpack(file.read_bytes())
            found.append({name: np.frombuffer(data, np.float32) for name, data in vectors.items()})
    for steps in options.steps:
        for inner in INNER if steps > 1 else ("sgd",):
            report(found, steps, inner, options.slots)


def computed(slots: int, numbers: list[int]) -> dict[str, Float32s]:
    """What slots are to say, by the name of what it is."""
    return {
        key_of(steps, inner, slot, kind): said(steps, inner, slot, kind)
        for steps in numbers
        for inner in (INNER if steps > 1 else ("sgd",))
        for slot in range(slots)
        for kind in KINDS
    }


def said(steps: int, inner: str, slot: int, kind: str) -> Float32s:
    """The contribution of a slot at the initial parameters, honest or not."""
    # JAX is for the processes that compute: the one that compares starts without it.
    from tests.trainer.digits import digits

    task = digits()
    theta = task.start(slot)
    rows = slot_rows(blake2_256(b"tolerance"), 0, 0, slot, BATCH * steps, task.rows).reshape(steps, BATCH)

    def gradient(at: Float32s, index: int) -> Float32s:
        left_out = kind == "one sample left out" and index == steps - 1
        return task.gradient(at, rows[index][left_out:])

    count = steps - (kind == "one step left out")
    if count == 0:
        return np.zeros_like(theta)
    local = None if steps == 1 else LocalSteps(count, INNER[inner])
    values = contribution(local, theta, gradient, 0)
    return values * np.float32(0.98) if kind == "scaled by two per cent" else values


def key_of(steps: int, inner: str, slot: int, kind: str) -> str:
    """A name for one vector."""
    return f"{steps} {inner} {slot} {kind}"


def report(machines: list[dict[str, Float32s]], steps: int, inner: str, slots: int) -> None:
    """Print one line a codec."""

    def of(kind: str, slot: int) -> list[Float32s]:
        return [vectors[key_of(steps, inner, slot, kind)] for vectors in machines]

    trials = [
        Trial(
            of("honest", slot),
            lazy={kind: of(kind, slot)[0] for kind in KINDS[1:3]},
            wrong={KINDS[3]: of(KINDS[3], slot)[0]},
        )
        for slot in range(slots)
    ]
    for place, (name, codec) in enumerate(CODECS.items()):
        try:
            found = calibrate(codec, trials)
        except Uncalibratable as error:
            print(f"  {name:<10} refused: {error}")
            continue
        if place == 0:
            print(f"{steps} local steps, inner {inner}: honest results differ by {found.difference:.1e} (relative L2)")
            record(f"{steps} local steps, inner {inner}: relative L2 of honest results", [found.difference], "")
        record(f"{steps} local steps, inner {inner}, {name}: needed", [found.needed / 1e6], "steps")
        print(
            f"  {name:<10} needed {found.needed / 1e6:.6f} steps, tolerance {found.tolerance.micro_steps / 1e6:.6f}"
            f"{', refused' if found.missed else ''}; {'; '.join(map(str, found.findings))}",
            flush=True,
        )


if __name__ == "__main__":
    main()
