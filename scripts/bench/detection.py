"""Simulates cheats of digits at several frequencies: how many are found, what they gain, and what befalls the honest.

    .venv/bin/python scripts/bench/detection.py [--honest 10000] [--slots 20000] [--cheats 500]

Gradients are real and so is the audit's verdict: workers and auditors compute in processes with other numbers of
threads, auditors with the rows of a batch in another order. Who is audited is drawn by the runtime's own draws, and as
many of the validators look away as consensus survives. A cheat that passes is paid what a slot is worth for no work;
one that is found loses what a rejected slot costs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from figures import machine, record

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))  # the digits in this process are the tests'

from chain.primitives.hashing import Hash, blake2_256  # noqa: E402
from runtime.modules.balances import POT  # noqa: E402
from runtime.modules.training_draws import Draws, chosen_half, draw_auditors  # noqa: E402
from runtime.testing import TestChain  # noqa: E402
from trainer.arrays import Float32s  # noqa: E402
from trainer.audit import Tolerance, compare  # noqa: E402
from trainer.batches import slot_rows  # noqa: E402
from trainer.codecs import INT8  # noqa: E402

BATCH = 32
# Parameters move between slots, as they do in training: every so many, a step is taken.
SLOTS_A_STEP = 50
RATE = np.float32(0.1)
TOLERANCE = Tolerance(micro_steps=510_000, outliers_ppm=20)
VALIDATORS = [blake2_256(b"validator" + bytes((index,))) for index in range(16)]
FAULTY = frozenset(VALIDATORS[: (len(VALIDATORS) - 1) // 3])
AUDITORS, AUDITED_PPM, WORTH = 1, 100_000, 8 * POT // 10
FREQUENCIES = (0.01, 0.1, 1.0)
HONEST = {
    "workers": {"NPROC": "1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"},
    "auditors": {"NPROC": "8"},
}


@dataclass(frozen=True)
class Known:
    """What a cheat of one slot can compute or get hold of, each f32[P]."""

    own: Float32s
    other: Float32s  # of another slot
    stale: Float32s  # its own at the parameters of a step before
    one: Float32s  # of the batch's first sample alone
    random: Float32s  # as long as its own


def left_out(known: Known) -> Float32s:
    """The mean without one sample."""
    return (known.own * np.float32(BATCH) - known.one) / np.float32(BATCH - 1)


CHEATS: dict[str, Callable[[Known], Float32s]] = {
    "zeros": lambda known: np.zeros_like(known.own),
    "noise": lambda known: known.random,
    "copied from another slot": lambda known: known.other,
    "half own, half copied": lambda known: (known.own + known.other) / np.float32(2),
    "stale by one step": lambda known: known.stale,
    "one of 32 samples left out": left_out,
    "one of 32 samples alone": lambda known: known.one,
    "5 % more": lambda known: known.own * np.float32(1.05),
    "2 % less": lambda known: known.own * np.float32(0.98),
    "the opposite": lambda known: -known.own,
}
# Which of the two draws a friend of the cheat has made again by letting its turn pass.
AGAIN = {"no draw made again": None, "first draw made again": 0, "second draw made again": 1}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--honest", type=int, default=10_000, help="how many honest contributions are audited")
    parser.add_argument("--slots", type=int, default=20_000, help="how many slots each cheat has at each frequency")
    parser.add_argument("--cheats", type=int, default=500, help="how many wrong updates of each kind are computed")
    parser.add_argument("--short", action="store_true", help="a few of each")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--who", choices=list(HONEST), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.short:
        options.honest, options.slots, options.cheats = 40, 200, 10
    if options.into:
        compute(options.into, options.who, options.honest, options.cheats)
        return
    print(machine())
    with tempfile.TemporaryDirectory(prefix="potchain-bench-") as folder:
        for who, variables in HONEST.items():
            words = [__file__, "--who", who, "--into", folder, "--honest", str(options.honest)]
            words += ["--cheats", str(options.cheats), *["--short"] * options.short]
            subprocess.run([sys.executable, *words], env={**os.environ, **variables}, check=True)
        found = judge(Path(folder), options.honest, options.cheats)
    simulate(found, options.slots)


# --- gradients --------------------------------------------------------------------------------------------------------


def compute(folder: Path, who: str, honest: int, cheats: int) -> None:
    """Write what workers, or auditors, compute of each slot; workers also what cheats send."""
    # JAX is for the processes that compute: the one that compares starts without it.
    from tests.trainer.digits import digits

    task, rng = digits(), np.random.default_rng(7)
    theta = before = task.start(0)
    count = max(honest, cheats)
    vectors = np.lib.format.open_memmap(folder / f"{who}.npy", "w+", np.float32, (count, theta.size))
    wrong = {}
    if who == "workers":
        shape = (cheats, theta.size)
        wrong = {
            name: np.lib.format.open_memmap(folder / f"{number}.npy", "w+", np.float32, shape)
            for number, name in enumerate(CHEATS)
        }

    def rows(slot: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        return slot_rows(blake2_256(b"detection"), slot // SLOTS_A_STEP, 0, slot % SLOTS_A_STEP, BATCH, task.rows)

    for slot in range(count):
        mine = rows(slot)
        if slot % SLOTS_A_STEP == 0:
            # Both kinds of process have to be at the same parameters: a step is that of whole numbers.
            step = INT8.quantise(task.gradient(theta, mine), 0).values.astype(np.float32)
            before, theta = theta, theta - RATE * np.float32(2**-7) * step
        vectors[slot] = task.gradient(theta, mine if who == "workers" else mine[::-1])
        if slot < cheats and wrong:
            own = vectors[slot]
            known = Known(
                own=own,
                other=task.gradient(theta, rows(slot + 1)),
                stale=task.gradient(before, mine),
                one=task.gradient(theta, np.repeat(mine[:1], BATCH)),
                random=_noise(own, rng),
            )
            for name, cheat in CHEATS.items():
                wrong[name][slot] = cheat(known)


def _noise(own: Float32s, rng: np.random.Generator) -> Float32s:
    drawn = rng.standard_normal(own.size)
    return np.asarray(drawn * np.linalg.norm(own) / np.linalg.norm(drawn), np.float32)


def judge(folder: Path, honest: int, cheats: int) -> dict[str, list[bool]]:
    """Audit everything; whether each wrong update of each kind was found wrong."""
    workers, auditors = np.load(folder / "workers.npy", "r"), np.load(folder / "auditors.npy", "r")

    def is_wrong(sent: Float32s, slot: int) -> bool:
        return not compare(INT8.quantise(np.asarray(sent), 0), np.asarray(auditors[slot]), TOLERANCE).right

    same = sum(bool(np.array_equal(workers[slot], auditors[slot])) for slot in range(honest))
    rejected = sum(is_wrong(workers[slot], slot) for slot in range(honest))
    print(f"honest contributions rejected: {rejected} of {honest:,} ({honest - same:,} differ in some bit)", flush=True)
    record(f"honest contributions rejected, of {honest:,}", [rejected], "")
    found = {}
    for number, name in enumerate(CHEATS):
        sent = np.load(folder / f"{number}.npy", "r")
        found[name] = [is_wrong(sent[slot], slot) for slot in range(cheats)]
        print(f"  {name:<28} found wrong by an audit: {sum(found[name]):,} of {cheats:,}", flush=True)
        record(f"{name}: share found wrong by an audit", [sum(found[name]) / cheats], "", better="more")
    return found


# --- draws ------------------------------------------------------------------------------------------------------------


def beacon(*words: object) -> Hash:
    """A value that nobody picks."""
    return blake2_256(repr(words).encode())


def has_honest_auditor(seed: object, again: int | None) -> bool:
    """Whether a slot is recomputed by somebody honest, after a friend of its worker has picked the better of two draws.

    The second draw is not known when the first is made again: no draw at all is better than one by friends then only
    where the second is.
    """

    def drawn(first: Hash, second: Hash) -> bool | None:
        """None: the slot is not audited; else whether somebody honest does it."""
        halves = [Draws(value, 0, 0, 0, b"auditors") for value in (first, second)]
        draws = chosen_half(halves, AUDITED_PPM)
        if draws is None:
            return None
        chosen = draw_auditors(draws, VALIDATORS, VALIDATORS, beacon("worker"), AUDITORS)
        return not FAULTY.issuperset(chosen)

    first, second = [(beacon(seed, half, 0), beacon(seed, half, 1)) for half in (0, 1)]
    if again == 1:
        return all(bool(drawn(first[0], each)) for each in second)
    if again == 0:
        # By friends alone is safe, honest is found; where neither draw chose the slot, the second one decides.
        outcomes = [_first_draw(each) for each in first]
        best = min(outcomes, key=("friends", "none", "honest").index)
        return bool(drawn(first[outcomes.index(best)], second[0]))
    return bool(drawn(first[0], second[0]))


def _first_draw(value: Hash) -> str:
    """What a first draw alone says of a slot."""
    draws = Draws(value, 0, 0, 0, b"auditors")
    if draws.below(2_000_000) >= AUDITED_PPM:
        return "none"
    chosen = draw_auditors(draws, VALIDATORS, VALIDATORS, beacon("worker"), AUDITORS)
    return "friends" if FAULTY.issuperset(chosen) else "honest"


def expected(again: int | None) -> float:
    """The formulas of docs/incentives.md."""
    share = AUDITED_PPM / 1_000_000
    h, r, e = share / 2, share / (2 - share), len(FAULTY) / len(VALIDATORS)
    c = 1 - e
    if again is None:
        return share * c
    if again == 1:
        return h * c + (1 - h) * (r * c) ** 2
    return float((h * c) ** 2 + ((1 - h * e) ** 2 - (h * c) ** 2) * r * c)


def simulate(found: dict[str, list[bool]], slots: int) -> None:
    """Print what becomes of each kind of cheat at each frequency."""
    slash: int = TestChain().modules.training.slash_rejected
    print(
        f"{len(VALIDATORS)} validators, {len(FAULTY)} of them faulty; {AUDITED_PPM / 10_000:g} % of slots audited by "
        f"{AUDITORS}, each worth {WORTH / POT:g} POT; {slots:,} slots a line"
    )
    for title, again in AGAIN.items():
        chance = expected(again)
        print(f"{title}: a wrong slot is found with {chance:.4f}")
        for name, verdicts in found.items():
            for frequency in FREQUENCIES:
                gains, tried, caught = [], 0, 0
                rng = np.random.default_rng(int.from_bytes(beacon(title, name, frequency)[:8], "little"))
                for slot in range(slots):
                    if rng.random() >= frequency:
                        gains.append(0.0)
                        continue
                    tried += 1
                    is_caught = (
                        has_honest_auditor((title, name, frequency, slot), again) and verdicts[slot % len(verdicts)]
                    )
                    caught += is_caught
                    gains.append(-slash / POT if is_caught else WORTH / POT)
                record(f"{name}, {frequency:.0%} of slots, {title}: gain a slot", [statistics.mean(gains)], "POT")
                print(
                    f"  {name:<28} {frequency:>4.0%} of slots: found {caught:>5,} of {tried:>6,}"
                    f" ({caught / max(1, tried):.4f});  gain a slot {_interval(gains)} POT,"
                    f" expected {frequency * ((1 - chance) * WORTH - chance * slash) / POT:+.4f}",
                    flush=True,
                )


def _interval(values: list[float]) -> str:
    """A mean with its 95 % confidence interval."""
    half = 1.96 * statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values):+.4f} ± {half:.4f}"


if __name__ == "__main__":
    main()
