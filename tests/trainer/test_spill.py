"""Updates in a file are summed to the same bits as those in memory, whatever codec, rule and length."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import numpy as np
import pytest

from trainer import robust
from trainer.codecs import INT8, INT16, Codec
from trainer.codecs.topk import TopK
from trainer.codecs.updates import DenseUpdate, Update
from trainer.robust import PPM, Aggregation, CenteredClip, Krum, Mean, Median, TrimmedMean
from trainer.spill import STRIDE, Spill, StoredUpdate, load

SHARE = PPM // 4
DENSE: list[Aggregation] = [
    Mean(),
    Median(),
    TrimmedMean(SHARE),
    Krum(SHARE, multi=False),
    Krum(SHARE, multi=True),
    CenteredClip(PPM, 5),
]
CASES: list[tuple[Codec, Aggregation]] = [(codec, rule) for codec in (INT8, INT16) for rule in DENSE]
CASES += [(TopK(share), Mean()) for share in (1, 10_000, 300_000, PPM)]
# Around a block, a slice of the robust rules, a slice of the mean, and beyond.
LENGTHS = (1, 255, 257, 64 * 256, 64 * 256 + 1, STRIDE, STRIDE + 300)


def some_updates(codec: Codec, length: int, count: int, seed: int) -> list[Update]:
    """Updates whose blocks differ in size by up to 2^20, some of them alike."""
    rng = np.random.default_rng(seed)
    made: list[Update] = []
    for _ in range(count):
        if made and rng.random() < 0.2:
            made.append(made[-1])
            continue
        sizes = np.exp2(rng.integers(-10, 10, -(-length // 256))).astype(np.float32)
        vector = rng.standard_normal(length).astype(np.float32) * np.repeat(sizes, 256)[:length]
        made.append(codec.quantise(vector, 0))
    return made


def same(left: Update, right: Update) -> bool:
    assert type(left) is type(right)
    return left.encode() == right.encode()


@pytest.mark.parametrize(("codec", "rule"), CASES, ids=str)
def test_what_is_summed_from_a_file_has_the_same_bits(codec: Codec, rule: Aggregation, tmp_path: Path) -> None:
    for seed, length in enumerate(LENGTHS):
        updates = some_updates(codec, length, 6, seed)
        spill = Spill(tmp_path)
        stored = [spill.add(update) for update in updates]
        Random(seed).shuffle(stored)
        weights = None if not isinstance(rule, Mean) else [1, 2, 3, 4, 5, 6]
        expected = robust.combine(rule, updates if weights is None else [load(each) for each in stored], weights)
        found = robust.combine(rule, stored, weights)
        assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("codec", [INT8, INT16, TopK(1), TopK(10_000), TopK(PPM)], ids=str)
def test_every_slice_says_what_the_whole_says_of_it(codec: Codec, tmp_path: Path) -> None:
    for seed, length in enumerate(LENGTHS):
        (update,) = some_updates(codec, length, 1, seed)
        stored = Spill(tmp_path).add(update)
        whole = update.scaled()
        assert same(load(stored), update)
        for begin in range(0, length, 256 * 37):
            for end in {min(begin + 256, length), min(begin + 256 * 61, length), length}:
                expected = whole[begin:end].tobytes()
                assert update.slice(begin, end).scaled().tobytes() == expected
                assert stored.slice(begin, end).scaled().tobytes() == expected
                # A slice of a slice: the middle of what a sum walks over.
                inner = min(begin + 256, end)
                assert update.slice(begin, end).slice(inner - begin, end - begin).scaled().tobytes() == (
                    whole[inner:end].tobytes()
                )


def test_the_file_has_no_name_and_is_closed_with_the_last_update(tmp_path: Path) -> None:
    def held() -> int:
        return sum(str(tmp_path) in os.readlink(f"/proc/self/fd/{fd}") for fd in open_files())

    spill = Spill(tmp_path)
    stored: list[StoredUpdate] = [spill.add(INT8.quantise(np.ones(1_000, np.float32), 0)) for _ in range(2)]
    assert list(tmp_path.iterdir()) == []
    del spill
    stored.pop()
    assert held() == 1
    assert isinstance(load(stored[0]), DenseUpdate)
    stored.pop()
    assert held() == 0


def open_files() -> list[str]:
    # Listing them opens one more, which is gone at once.
    return [name for name in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{name}")]


def test_updates_of_two_codecs_are_not_summed(tmp_path: Path) -> None:
    spill = Spill(tmp_path)
    dense = spill.add(INT8.quantise(np.ones(1_000, np.float32), 0))
    sparse = spill.add(TopK(PPM).quantise(np.ones(1_000, np.float32), 0))
    with pytest.raises(ValueError, match="of one kind"):
        robust.combine(Mean(), [dense, sparse])
