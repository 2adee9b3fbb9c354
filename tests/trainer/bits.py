"""Digests of everything that all machines must compute alike, from inputs that are integers.

`python -m tests.trainer.bits > tests/trainer/bits.txt` rewrites what test_bits.py expects: a digest changes only
where a protocol does.
"""

from __future__ import annotations

import numpy as np

from chain.primitives.hashing import blake2_256
from trainer import descent, robust
from trainer.arrays import Float32s
from trainer.codecs import INT8, INT16, Codec
from trainer.codecs.memory import EMPTY
from trainer.codecs.topk import TopK
from trainer.codecs.updates import Update
from trainer.descent import ClipNorm, ClipValue, Descent
from trainer.local import LocalSteps, contribution
from trainer.optimizers import FRESH, PICO, Adam, Nesterov, Sgd, encode_state
from trainer.robust import PPM, Aggregation, CenteredClip, Krum, Mean, Median, TrimmedMean
from trainer.schedules import Cosine, Linear, Schedule, Staircase

LENGTH = 70_000
ROUNDS = 4
WORKERS = 7

MOMENTUM = 9 * PICO // 10
ADAM = Adam(PICO // 50, MOMENTUM, 999 * PICO // 1000, PICO // 10**8)
CODECS: dict[str, Codec] = {
    "int8": INT8,
    "int16": INT16,
    "top-k": TopK(10_000),
    "top-k with momentum and warm-up": TopK(1_000, MOMENTUM, 2),
}
DESCENTS: dict[str, Descent] = {
    "sgd": Descent(Sgd(PICO // 10, 0)),
    "heavy ball, stairs, clipped values": Descent(
        Sgd(PICO // 10, MOMENTUM), Schedule(1, Staircase(1, PICO // 3)), ClipValue(PICO // 2)
    ),
    "nesterov, line, clipped norm": Descent(
        Nesterov(PICO // 10, MOMENTUM), Schedule(0, Linear(3, PICO // 7)), ClipNorm(PICO)
    ),
    "adam": Descent(ADAM),
    "adamw, cosine": Descent(ADAM, Schedule(2, Cosine(3, PICO // 9)), weight_decay=PICO // 100),
}
AGGREGATORS: dict[str, Aggregation] = {
    "mean": Mean(),
    "median": Median(),
    "trimmed mean": TrimmedMean(PPM // 4),
    "krum": Krum(PPM // 4, multi=False),
    "multi-krum": Krum(PPM // 4, multi=True),
    "centered clip": CenteredClip(PPM, 20),
}


def numbers(key: int) -> Float32s:
    """f32[LENGTH] over fourteen decades, made of a counter-based generator's integers without a rounding."""
    raw = np.random.Philox(key=key).random_raw(LENGTH)
    mantissas = (raw >> 41).astype(np.float32) - np.float32(1 << 22)
    exponents = -22 - np.repeat((raw[:: LENGTH // 100] & 31).astype(np.int32), LENGTH // 100)[:LENGTH]
    return np.asarray(np.ldexp(mantissas, exponents), np.float32)


def digest(*parts: bytes) -> str:
    """Sixteen hex digits."""
    return blake2_256(b"".join(parts)).hex()[:16]


def digests() -> dict[str, str]:
    """What comes of each codec, descent and aggregator."""
    found = {f"codec {name}": digest(*encoded(codec)) for name, codec in CODECS.items()}
    found |= {f"descent {name}": digest(*descended(plan)) for name, plan in DESCENTS.items()}
    for name, aggregator in AGGREGATORS.items():
        for codec in (INT8, INT16):
            updates: list[Update] = [codec.quantise(numbers(1) + numbers(2 + key), 0) for key in range(WORKERS)]
            found[f"{name} of int{codec.bits}"] = digest(robust.combine(aggregator, updates).tobytes())
    sparse: list[Update] = [TopK(50_000).quantise(numbers(key), 0) for key in range(WORKERS)]
    found["mean of top-k"] = digest(robust.combine(Mean(), sparse).tobytes())
    local = LocalSteps(3, Descent(ADAM))
    way = contribution(local, numbers(1), lambda theta, index: theta * numbers(index), 0)
    found["local steps"] = digest(way.tobytes())
    return found


def encoded(codec: Codec) -> list[bytes]:
    """The updates of one slot, round by round."""
    memory, blobs = EMPTY, []
    for round_index in range(ROUNDS):
        taken = codec.take(memory, numbers(round_index))
        update = codec.quantise(taken.meant, round_index)
        memory = codec.give(taken, update)
        blobs.append(update.encode())
    return blobs


def descended(plan: Descent) -> list[bytes]:
    """Parameters and state after a few steps."""
    theta, state = numbers(0), FRESH
    for key in range(1, ROUNDS + 1):
        theta, state = descent.step(plan, state, theta, numbers(key))
    return [theta.tobytes(), encode_state(plan.rule, state)]


if __name__ == "__main__":
    for name, value in digests().items():
        print(f"{value} {name}")
