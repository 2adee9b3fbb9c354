"""A node sees to it that its clients cannot take the files that its votes need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize(("soft", "hard", "expected", "warned"), [(64, 4096, 2016, False), (64, 512, 512, True)])
def test_the_soft_limit_is_raised_and_a_low_hard_one_named(soft: int, hard: int, expected: int, warned: bool) -> None:
    code = f"""
import resource
from chain.file_limit import raise_file_limit
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
raise_file_limit(256)
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert int(done.stdout) == expected
    assert ("LimitNOFILE" in done.stderr) is warned
