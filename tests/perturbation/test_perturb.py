"""Real nodes, killed, stopped, parted and wiped while they are paid with: the short manifest, by its command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trio

from scripts.perturb import EXIT_UNUSABLE, main
from tests.docs.pages import commands
from tests.perturbation.processes import ROOT
from tests.ports import free_ports

SECONDS_MAX = 240


@pytest.mark.slow
async def test_whatever_is_done_to_nodes_no_client_loses_a_final_block_or_payment(tmp_path: Path) -> None:
    (command,) = commands("docs/faults.md", "Real processes")
    python, *words = command.replace("kill-all.toml", "short.toml").split()
    assert python == ".venv/bin/python"
    words += [f"--ports={free_ports(8)}", f"--folder={tmp_path / 'run'}"]
    with trio.fail_after(SECONDS_MAX):
        done = await trio.run_process(
            [sys.executable, *words],
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
            cwd=ROOT,
        )
    printed = done.stdout.decode()
    assert done.returncode == 0, printed
    assert printed.endswith("every check holds\n")


def test_a_manifest_that_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("blocks_min = 1\n[network]\nvalidators = 0\n")
    monkeypatch.setattr(sys, "argv", ["perturb.py", str(path)])
    assert main() == EXIT_UNUSABLE
    assert capsys.readouterr() == ("", f"error: {path}: network.validators: expected 1 to 16, got 0\n")
