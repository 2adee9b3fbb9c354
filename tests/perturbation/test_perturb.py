"""Real nodes, killed, stopped, parted and wiped while they are paid with: the short manifest, by its command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tests.perturbation.processes import ROOT
from tests.ports import free_ports

pytestmark = pytest.mark.slow

SHORT = ROOT / "tests" / "perturbation" / "manifests" / "short.toml"
SECONDS_MAX = 240


async def perturb(*words: str) -> tuple[int, str]:
    """The exit code of the command and what it printed."""
    with trio.fail_after(SECONDS_MAX):
        done = await trio.run_process(
            [sys.executable, "scripts/perturb.py", *words],
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
            cwd=ROOT,
        )
    return done.returncode, done.stdout.decode()


async def test_whatever_is_done_to_nodes_no_client_loses_a_final_block_or_payment(tmp_path: Path) -> None:
    ports = free_ports(8)
    code, printed = await perturb(str(SHORT), f"--ports={ports}", f"--folder={tmp_path / 'run'}")
    assert code == 0, printed
    assert printed.endswith("every check holds\n")
    assert "FAILED" not in printed


async def test_a_manifest_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("blocks_min = 1\n[network]\nvalidators = 0\n")
    assert await perturb(str(tmp_path / "bad.toml")) == (
        2,
        f"error: {tmp_path / 'bad.toml'}: network.validators: expected 1 to 16, got 0\n",
    )
