"""Audits pass what honest machines differ by, and fail the mildest cheats."""

from __future__ import annotations

import numpy as np
import pytest

from trainer import audit, codec
from trainer.audit import Tolerance
from trainer.codec import Float32s

TOLERANCE = Tolerance(micro_steps=510_000, outliers_ppm=20)
LENGTH = 20_000


def gradient(seed: int) -> Float32s:
    """Values over nine decades, as layers have them, a tenth of them exactly zero."""
    rng = np.random.default_rng(seed)
    scale = np.repeat(10.0 ** rng.uniform(-9, 0, -(-LENGTH // 500)), 500)[:LENGTH]
    values = rng.standard_normal(LENGTH) * scale
    values[rng.random(LENGTH) < 0.1] = 0
    return values.astype(np.float32)


def judged(revealed: Float32s, own: Float32s) -> bool:
    return audit.compare(codec.quantise(revealed), own, TOLERANCE).right


def noisy(values: Float32s, seed: int) -> Float32s:
    """What another machine gets: other roundings, in proportion to each value and, faintly, to the largest."""
    rng = np.random.default_rng(seed)
    relative = values * (1 + 1e-6 * rng.standard_normal(values.size))
    absolute = 1e-7 * float(np.abs(values).max()) * rng.uniform(-1, 1, values.size)
    return np.asarray(relative + absolute, np.float32)


def mean_of(rows: list[Float32s]) -> Float32s:
    return np.asarray(np.stack(rows).mean(axis=0, dtype=np.float64), np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_an_honest_update_is_right_on_another_machine(seed: int) -> None:
    own = gradient(seed)
    assert judged(own, own)
    assert judged(noisy(own, seed + 100), own)


def test_mild_cheats_are_wrong() -> None:
    own = gradient(1)
    rows = [gradient(seed) for seed in range(2, 130)]
    mean = mean_of([own, *rows])
    cheats: dict[str, Float32s] = {
        "one of 129 rows left out": mean_of(rows),
        "scaled by five per cent": mean * np.float32(1.05),
        "shrunk by two per cent": mean * np.float32(0.98),
        "another's": rows[0],
        "nothing": np.zeros_like(mean),
        "its negative": -mean,
        "noise added": mean + np.float32(0.01) * rows[3],
        "half precision": mean.astype(np.float16).astype(np.float32),
        "without its last layer": np.concatenate([mean[:-500], np.zeros(500, np.float32)]),
    }
    assert judged(mean, mean)
    assert [name for name, cheat in cheats.items() if judged(cheat, mean)] == []


def test_nothing_is_right_when_nothing_is_meant() -> None:
    zeros = np.zeros(LENGTH, np.float32)
    assert judged(zeros, zeros)
    assert not judged(gradient(1), zeros)


def test_what_diverged_is_right_when_it_diverged_here_too() -> None:
    own = gradient(1)
    own[:3] = [np.nan, np.inf, -np.inf]
    assert judged(own, own)
    assert not judged(np.nan_to_num(own, posinf=1, neginf=1), own)


def test_outliers_are_forgiven_up_to_their_share_and_not_beyond() -> None:
    own = np.linspace(-1, 1, LENGTH, dtype=np.float32)
    # 20 in a million of 20,000 is nothing; at 100 in a million two values may differ.
    tolerance = Tolerance(micro_steps=510_000, outliers_ppm=100)
    for wrong, right in ((0, True), (2, True), (3, False)):
        values = codec.quantise(own)
        integers = values.values.copy()
        integers[1000 : 1000 + wrong] += 2
        changed = codec.Update(integers, values.exponents)
        verdict = audit.compare(changed, own, tolerance)
        assert (verdict.right, verdict.outliers) == (right, wrong)
