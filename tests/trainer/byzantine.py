"""Training in which some workers send whatever hurts most, knowing what the honest send: no chain, real updates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from chain.primitives.hashing import blake2_256
from tests.trainer.digits import digits
from trainer import audit, batches, optimizers, robust
from trainer.arrays import Float32s
from trainer.audit import Tolerance
from trainer.codecs import INT8
from trainer.optimizers import FRESH, PICO, Sgd
from trainer.robust import PPM, Aggregation

WORKERS = 16
WRONG = 7
# That of the digits task itself.
BATCH = 256
RATE = Sgd(3 * PICO, 0)
# The same steps where the momentum is the optimiser's, after the sum, and not each worker's before it.
OUTER = Sgd(3 * PICO // 10, 9 * PICO // 10)
# Worker momentum (Karimireddy et al. 2021): it averages away what a small bias could hide behind.
MOMENTUM = np.float32(0.9)
# As long as a slot can keep its worker, and its momentum.
TENURE = 64

# What a task is audited with that nobody calibrated.
TOLERANCE = Tolerance(510_000, 20)

# What the honest would send, f32[workers, P], what all honest workers send, f32[honest, P], and chance.
Attack = Callable[[Float32s, Float32s, np.random.Generator], Float32s]


def flipped(own: Float32s, honest: Float32s, rng: np.random.Generator) -> Float32s:
    """Each the opposite of what it should send, three times as long."""
    return np.float32(-3) * own


def noise(own: Float32s, honest: Float32s, rng: np.random.Generator) -> Float32s:
    """Each noise that is a hundred times as large as its update."""
    return np.asarray(100 * own.std() * rng.standard_normal(own.shape), np.float32)


def a_little(own: Float32s, honest: Float32s, rng: np.random.Generator) -> Float32s:
    """As far from the mean, in standard deviations, as two honest workers are who then side with them (Baruch 2019)."""
    supporters = WORKERS // 2 + 1 - WRONG
    z = NormalDist().inv_cdf((WORKERS - WRONG - supporters) / (WORKERS - WRONG))
    return np.tile(honest.mean(axis=0) - np.float32(z) * honest.std(axis=0), (len(own), 1))


def against(own: Float32s, honest: Float32s, rng: np.random.Generator) -> Float32s:
    """The opposite of the mean, as short as hides among the honest (Xie et al. 2020)."""
    return np.tile(np.float32(-0.5) * honest.mean(axis=0), (len(own), 1))


def the_same(own: Float32s, honest: Float32s, rng: np.random.Generator) -> Float32s:
    """One large value for all parameters."""
    return np.full_like(own, 100)


def mislabelled(own: Float32s, honest: Float32s, rng: np.random.Generator) -> Float32s:
    """What wrong targets give: each says what it computed, of rows whose classes are called their opposites."""
    return own


ATTACKS: dict[str, Attack] = {
    "sign flip": flipped,
    "noise": noise,
    "a little is enough": a_little,
    "inner product": against,
    "same value": the_same,
    "wrong targets": mislabelled,
}


@dataclass(frozen=True, slots=True)
class Found:
    """Held-out accuracy, how many of the wrong were caught, and how many honest updates were refused."""

    accuracy: float
    caught: int
    refused: int


def trained(
    aggregation: Aggregation,
    attack: Attack | None,
    rounds: int,
    seed: int = 0,
    *,
    momentum: np.float32 = MOMENTUM,
    tenure: int = TENURE,
    audited_ppm: int = 0,
) -> Found:
    """Train for so many rounds; without an attack, with the honest workers alone.

    With audits, a share of the slots is recomputed and compared as auditors do it: what is wrong counts no more, and
    its worker's seat goes to an honest one, whose momentum begins at nothing, as all do when a tenure begins.
    """
    task, rng = digits(), np.random.default_rng(seed)
    theta, state = task.start(seed), FRESH
    # What workers go on from, and what they should: an audit recomputes the momentum of a whole tenure.
    momenta, meant = np.zeros((2, WORKERS, theta.size), np.float32)
    row_seed = blake2_256(seed.to_bytes(4, "little"))
    # The wrong workers that are left have the first seats; without an attack these are empty.
    wrong, caught, refused = WRONG if attack is not None else 0, 0, 0
    first = 0 if attack is not None else WRONG
    for round_index in range(rounds):
        # Each worker's rows are its own, as `slot_rows` gives them.
        order = batches.permutation(batches.attempt_seed(row_seed, round_index, 0), task.rows)
        rows = np.resize(order, (WORKERS, BATCH))
        gradients = task.gradients(theta, rows, mislabelled=wrong if attack is mislabelled else 0)
        if round_index % tenure == 0:
            momenta, meant = np.zeros_like(momenta), np.zeros_like(meant)
        momenta = momentum * momenta + (1 - momentum) * gradients
        sent = honest = momenta[first + wrong :]
        if attack is not None and wrong:
            sent = np.concatenate([attack(momenta[:wrong], honest, rng), honest])
        updates = [INT8.quantise(values, round_index) for values in sent]
        if audited_ppm:
            meant = momentum * meant + (1 - momentum) * task.gradients(theta, rows)
            drawn = rng.random(len(updates)) * PPM < audited_ppm
            bad = [
                slot
                for slot, update in enumerate(updates)
                if drawn[slot] and not audit.compare(update, meant[first + slot], TOLERANCE).right
            ]
            refused += sum(slot >= wrong for slot in bad)
            updates = [update for slot, update in enumerate(updates) if slot not in bad]
            left = wrong - sum(slot < wrong for slot in bad)
            # Those that are left move up: the seats behind them are the newcomers'.
            momenta[left:wrong], meant[left:wrong] = 0, 0
            caught, wrong = caught + wrong - left, left
        rule = RATE if momentum else OUTER
        theta, state = optimizers.step(rule, state, theta, robust.combine(aggregation, updates))
    return Found(task.held_out(theta)[1], caught, refused)


def accuracy(aggregation: Aggregation, attack: Attack | None, rounds: int, seed: int = 0) -> float:
    """Held-out accuracy after so many rounds of workers with momentum, whom nobody audits."""
    return trained(aggregation, attack, rounds, seed).accuracy
