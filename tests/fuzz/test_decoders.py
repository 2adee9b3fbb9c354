"""Every decoder of untrusted bytes, fuzzed for a few seconds: no crash, one spelling, memory in proportion.

`scripts/fuzz.py` runs the same targets for as long as one likes, guided by coverage.
"""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.samples import mutated
from tests.fuzz.target import Target, check
from tests.fuzz.targets import TARGETS

ids = [target.name for target in TARGETS]
seeds = st.integers(0, 2**64 - 1)
EXAMPLES, EXAMPLES_SLOW = 60, 12
DENSE_BYTES = 16 * 1024
# The libraries' own buffers, whatever the input.
GROWTH_FREE_BYTES = 512 * 1024


@pytest.mark.parametrize("target", TARGETS, ids=ids)
def test_what_it_writes_it_reads(target: Target) -> None:
    taken = [check(target, target.sample(Random(seed))) for seed in range(8 if target.slow else 40)]
    assert any(taken)


@pytest.mark.parametrize("target", TARGETS, ids=ids)
def test_changed_bytes_are_refused_in_words_or_mean_something_else(target: Target) -> None:
    @settings(max_examples=EXAMPLES_SLOW if target.slow else EXAMPLES)
    @given(seeds)
    def fuzz(seed: int) -> None:
        rng = Random(seed)
        check(target, mutated(rng, target.sample(rng), target.sample(rng)))

    fuzz()


@pytest.mark.parametrize("target", TARGETS, ids=ids)
def test_any_bytes_are_refused_in_words_or_are_what_is_meant(target: Target) -> None:
    @settings(max_examples=EXAMPLES_SLOW if target.slow else EXAMPLES)
    @given(st.binary(max_size=200))
    def fuzz(data: bytes) -> None:
        check(target, data)

    fuzz()


@pytest.mark.parametrize("target", TARGETS, ids=ids)
def test_what_is_read_takes_memory_in_proportion_to_its_bytes(target: Target) -> None:
    for data in target.dense(DENSE_BYTES):
        tracemalloc.start()
        try:
            with suppress(*target.errors):
                target.decode(data)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        bound = target.growth * len(data) + GROWTH_FREE_BYTES
        assert peak <= bound, f"{target.name}: {len(data)} bytes took {peak}: {data[:64].hex()}…"
