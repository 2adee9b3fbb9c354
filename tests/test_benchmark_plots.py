"""The plots of the benchmarks: those of the page are what its table draws, whenever somebody draws them again."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="scripts/setup requirements-dev.txt installs it")

ROOT = Path(__file__).resolve().parent.parent
PLOTS = ROOT / "docs" / "plots"


def test_the_pages_plots_are_its_tables_and_drawn_again_to_the_same_bytes(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "bench" / "plots.py"
    for table in ("growth.json", "breakdown.json"):
        command = [sys.executable, "-W", "error", str(script), str(PLOTS / table), f"--into={tmp_path}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, done.stderr) == (0, "")
    drawn = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_bytes() for path in PLOTS.glob("*.svg")}
    assert drawn.keys() == kept.keys()
    assert [name for name in drawn if drawn[name] != kept[name]] == []
    shown = re.findall(r"]\(plots/([\w-]+\.svg)\)", (ROOT / "docs" / "benchmarks.md").read_text())
    assert sorted(shown) == sorted(kept)
