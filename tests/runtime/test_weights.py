"""Every call can be weighed: no author of a call forgets what it may cost at its dearest."""

from __future__ import annotations

import gc

import pytest

from chain.weigh import unweighed, weigh
from runtime.testing import Benchmark
from tests.runtime import benchmarks

CASES = [value for value in vars(benchmarks).values() if isinstance(value, Benchmark)]

pytestmark = pytest.mark.slow


def test_every_call_has_a_benchmark_and_each_of_them_succeeds() -> None:
    prepared = [case.prepare() for case in CASES]
    assert unweighed(prepared) == []
    gc.freeze()  # each is weighed on a clean heap, and to look through what other tests have left takes longer than all
    try:
        for case, call in zip(CASES, prepared, strict=True):
            assert weigh(case.name, call, runs=2).median > 0
    finally:
        gc.unfreeze()
