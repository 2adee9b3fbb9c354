"""The same bits on every machine: with other instruction sets, BLAS kernels, threads and hash seeds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.bits import digests

GOLDEN = Path(__file__).with_name("bits.txt")
ROOT = GOLDEN.parent.parent.parent
# What numpy can do without: all that it compiles beside its baseline.
FEATURES = " ".join(np._core._multiarray_umath.__cpu_dispatch__)  # type: ignore[attr-defined]
MACHINES = {
    "an old processor": {"NPY_DISABLE_CPU_FEATURES": FEATURES, "OPENBLAS_CORETYPE": "Nehalem", "PYTHONHASHSEED": "1"},
    "many threads": {"OPENBLAS_NUM_THREADS": "7", "OMP_NUM_THREADS": "7", "PYTHONHASHSEED": "2"},
}


def expected() -> dict[str, str]:
    """The digests of the golden file by name."""
    return {name: value for value, name in (line.split(" ", 1) for line in GOLDEN.read_text().splitlines())}


def test_this_process_computes_the_bits_that_everybody_does() -> None:
    assert digests() == expected()


@pytest.mark.parametrize("variables", MACHINES.values(), ids=MACHINES.keys())
def test_so_does(variables: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.trainer.bits"],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == GOLDEN.read_text()
