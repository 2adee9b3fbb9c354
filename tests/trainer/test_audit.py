"""Audits pass what honest machines differ by, and fail the mildest cheats."""

from __future__ import annotations

import numpy as np
import pytest

from trainer import audit
from trainer.arrays import Float32s
from trainer.audit import Tolerance
from trainer.codecs import INT8, INT16, Codec, blocks
from trainer.codecs.blocks import BLOCK, PICO
from trainer.codecs.memory import EMPTY
from trainer.codecs.topk import TopK
from trainer.codecs.updates import DenseUpdate

TOLERANCE = Tolerance(micro_steps=510_000, outliers_ppm=20)
LENGTH = 20_000


def gradient(seed: int) -> Float32s:
    """Values over nine decades, as layers have them, a tenth of them exactly zero."""
    rng = np.random.default_rng(seed)
    scale = np.repeat(10.0 ** rng.uniform(-9, 0, -(-LENGTH // 500)), 500)[:LENGTH]
    values = rng.standard_normal(LENGTH) * scale
    values[rng.random(LENGTH) < 0.1] = 0
    return values.astype(np.float32)


each_codec = pytest.mark.parametrize(
    "codec", [INT8, INT16, TopK(100_000), TopK(10_000), TopK(1_000)], ids=["int8", "int16", "10 %", "1 %", "0.1 %"]
)


def judged(codec: Codec, revealed: Float32s, own: Float32s) -> bool:
    return audit.compare(codec.quantise(revealed, 0), own, tolerance_of(codec)).right


def tolerance_of(codec: Codec) -> Tolerance:
    """Sixteen bits resolve what machines differ by: there honest results are two steps apart."""
    return Tolerance(4_000_000, 20) if codec == INT16 else TOLERANCE


def noisy(values: Float32s, seed: int) -> Float32s:
    """What another machine gets: other roundings, in proportion to each value and, faintly, to the largest."""
    rng = np.random.default_rng(seed)
    relative = values * (1 + 1e-6 * rng.standard_normal(values.size))
    absolute = 1e-7 * float(np.abs(values).max()) * rng.uniform(-1, 1, values.size)
    return np.asarray(relative + absolute, np.float32)


def mean_of(rows: list[Float32s]) -> Float32s:
    return np.asarray(np.stack(rows).mean(axis=0, dtype=np.float64), np.float32)


@each_codec
@pytest.mark.parametrize("seed", range(5))
def test_an_honest_update_is_right_on_another_machine(codec: Codec, seed: int) -> None:
    own = gradient(seed)
    assert judged(codec, own, own)
    assert judged(codec, noisy(own, seed + 100), own)


@each_codec
def test_mild_cheats_are_wrong(codec: Codec) -> None:
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
        "without a layer": np.where(np.arange(LENGTH) // 500 == np.abs(mean).argmax() // 500, np.float32(0), mean),
    }
    assert judged(codec, mean, mean)
    assert [name for name, cheat in cheats.items() if judged(codec, cheat, mean)] == []


@each_codec
def test_nothing_is_right_when_nothing_is_meant(codec: Codec) -> None:
    zeros = np.zeros(LENGTH, np.float32)
    assert judged(codec, zeros, zeros)
    assert not judged(codec, gradient(1), zeros)


@each_codec
def test_what_diverged_is_right_when_it_diverged_here_too(codec: Codec) -> None:
    own = gradient(1)
    own[:3] = [np.nan, np.inf, -np.inf]
    assert judged(codec, own, own)
    assert not judged(codec, np.nan_to_num(own, posinf=1, neginf=1), own)


def test_outliers_are_forgiven_up_to_their_share_and_not_beyond() -> None:
    own = np.linspace(-1, 1, LENGTH, dtype=np.float32)
    # 20 in a million of 20,000 is nothing; at 100 in a million two values may differ.
    tolerance = Tolerance(micro_steps=510_000, outliers_ppm=100)
    for wrong, right in ((0, True), (2, True), (3, False)):
        values = INT8.quantise(own, 0)
        integers = values.values.copy()
        integers[1000 : 1000 + wrong] += 2
        changed = DenseUpdate(integers, values.exponents)
        verdict = audit.compare(changed, own, tolerance)
        assert (verdict.right, verdict.outliers) == (right, wrong)


def test_a_choice_of_smaller_values_is_wrong_and_one_of_equal_values_is_right() -> None:
    own = gradient(1)
    order = np.argsort(-np.abs(own), kind="stable")
    own[order[150:250]] = own[order[150]]
    codec = TopK(10_000)
    assert codec.count(LENGTH, 0) == 200
    for others, right in ((order[200:250], True), (order[250:300], False)):
        indices = np.sort(np.concatenate([order[:150], others])).astype(np.int64)
        masked = np.zeros_like(own)
        masked[indices] = own[indices]
        update = codec.quantise(masked, 0)
        assert update.indices.tolist() == indices.tolist()
        verdict = audit.compare(update, own, TOLERANCE)
        # Fifty that are too small are sent. Those that should have been are as large as others that are sent, so that
        # none of them is missed.
        assert (verdict.right, verdict.outliers, verdict.length) == (right, 0 if right else 50, 200)


def test_a_value_that_is_large_and_not_sent_is_an_outlier() -> None:
    own = gradient(1)
    largest = int(np.abs(own).argmax())
    masked = own.copy()
    masked[largest] = 0
    verdict = audit.compare(TopK(10_000).quantise(masked, 0), own, TOLERANCE)
    # It is missed, what came in its place is too small, and in its block steps are finer.
    assert not verdict.right
    assert verdict.outliers >= 2


def test_an_auditor_who_recomputes_a_slots_rounds_knows_what_its_worker_remembers() -> None:
    codec = TopK(10_000, momentum=9 * PICO // 10, warmup_rounds=3)
    worker, auditor = EMPTY, EMPTY
    for round_index in range(12):
        own = gradient(round_index)
        taken = codec.take(worker, noisy(own, round_index))
        update = codec.quantise(taken.meant, round_index)
        worker = codec.give(taken, update)
        remembered = codec.take(auditor, own)
        assert audit.compare(update, remembered.meant, TOLERANCE).right
        # A worker that forgets, or takes another's gradient, is found though everything before was right.
        if round_index:
            forgot = codec.quantise(codec.take(EMPTY, own).meant, round_index)
            assert not audit.compare(forgot, remembered.meant, TOLERANCE).right
        # What was revealed counts, as it was rounded there.
        auditor = codec.give(remembered, update)


@pytest.mark.parametrize("length", [1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK - 1, 2 * BLOCK, 1000])
@pytest.mark.parametrize("codec", [INT8, INT16], ids=["int8", "int16"])
def test_what_is_rounded_and_compared_in_parts_is_what_it_is_as_a_whole(
    codec: Codec, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-45, -3e38], np.float32)
    own = np.array(gradient(length)[: 2 * length : 2])
    places = np.random.default_rng(length).integers(0, length, length // 100)
    own[places] = np.resize(strange, places.size)
    turned = own[::-1]  # Nor need it lie together.

    def found(at_once: int) -> tuple[bytes, list[audit.Verdict]]:
        monkeypatch.setattr(blocks, "ROUNDED_AT_ONCE", at_once)
        monkeypatch.setattr(audit, "CHECKED_AT_ONCE", at_once)
        update = codec.quantise(own, 0)
        return update.encode(), [audit.compare(update, other, tolerance_of(codec)) for other in (own, turned)]

    whole = found(BLOCK * 64)
    assert found(BLOCK) == whole
    assert found(2 * BLOCK) == whole
    assert whole[1][0].right
    assert length == 1 or whole[1][1].outliers
