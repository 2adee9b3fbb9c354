"""A thousand mutated task artifacts in a real engine: each runs, is refused, or ends a child; the parent goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.artifacts import fuzz


@pytest.mark.slow
async def test_mutants_run_are_refused_or_end_a_child_and_nothing_else(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    count = 20_000 if request.config.getoption("--sweep") else 1_000
    result = await fuzz(count, seed=20, folder=tmp_path)
    print(result)
    outcomes = {outcome for _, outcome in result.counts}
    assert sum(result.counts.values()) == count
    assert outcomes <= {"ran", "refused", "crashed", "hung"}
    # Some get as far as to compute, so that the whole way is walked.
    assert result.counts["rewritten", "ran"] > 0
