"""The same blocks give the same states in every process."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.runtime.story import state_roots


def test_the_state_does_not_depend_on_the_hash_seed() -> None:
    expected = state_roots()
    # The stories have nothing but their genesis in common.
    assert len(set(expected)) == len(expected) - 1
    for seed in ("1", "2"):
        told = subprocess.run(
            [sys.executable, "-m", "tests.runtime.story"],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert told.stdout.split() == expected
