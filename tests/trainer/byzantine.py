"""Training in which some workers send whatever hurts most, knowing what the honest send: no chain, real updates."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from chain.primitives.hashing import blake2_256
from tests.trainer.digits import digits
from trainer import batches, optimizers, robust
from trainer.arrays import Float32s
from trainer.codecs import INT8
from trainer.optimizers import FRESH, PICO, Sgd
from trainer.robust import Aggregation

WORKERS = 16
WRONG = 7
# That of the digits task itself.
BATCH = 256
RATE = Sgd(3 * PICO, 0)
# Worker momentum (Karimireddy et al. 2021): it averages away what a small bias could hide behind.
MOMENTUM = np.float32(0.9)

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


ATTACKS: dict[str, Attack] = {
    "sign flip": flipped,
    "noise": noise,
    "a little is enough": a_little,
    "inner product": against,
    "same value": the_same,
}


def accuracy(aggregation: Aggregation, attack: Attack | None, rounds: int, seed: int = 0) -> float:
    """Held-out accuracy after so many rounds; without an attack, of the honest workers alone."""
    task, rng = digits(), np.random.default_rng(seed)
    theta, state = task.start(seed), FRESH
    momenta = np.zeros((WORKERS, theta.size), np.float32)
    row_seed = blake2_256(seed.to_bytes(4, "little"))
    for round_index in range(rounds):
        # Each worker's rows are its own, as `slot_rows` gives them.
        order = batches.permutation(batches.attempt_seed(row_seed, round_index, 0), task.rows)
        rows = np.resize(order, (WORKERS, BATCH))
        momenta = MOMENTUM * momenta + (1 - MOMENTUM) * task.gradients(theta, rows)
        sent = honest = momenta[WRONG:]
        if attack is not None:
            sent = np.concatenate([attack(momenta[:WRONG], honest, rng), honest])
        updates = [INT8.quantise(values, round_index) for values in sent]
        theta, state = optimizers.step(RATE, state, theta, robust.combine(aggregation, updates))
    return task.held_out(theta)[1]
