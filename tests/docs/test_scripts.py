"""The scripts that README, docs/develop.md and docs/benchmarks.md name start, and take the options that are shown.

What each does is tested where it belongs, such as a benchmark's short form in tests/test_benchmarks.py.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from tests.docs.pages import ROOT, commands

# One process for all, since importing JAX takes longer than everything else. What a script sets for itself, such as
# flags of XLA's, is the process's alone.
HELP = """
import contextlib, io, json, os, runpy, sys
sys.path.insert(1, os.getcwd())
for words in json.load(sys.stdin):
    sys.argv[:], printed, code = [*words, "--help"], io.StringIO(), "it went on"
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            if words[0] == "-m":
                sys.argv[:2] = [words[1]]
                runpy.run_module(words[1], run_name="__main__", alter_sys=True)
            else:
                sys.path[0] = words[0].rpartition("/")[0]
                runpy.run_path(words[0], run_name="__main__")
        except SystemExit as ended:
            code = ended.code or 0
    print(json.dumps([code, printed.getvalue()]))
"""


def helps(lines: list[list[str]]) -> list[str]:
    """What each prints with `--help` behind its words, the types and choices of which are then checked, too."""
    done = subprocess.run(
        [sys.executable, "-c", HELP],
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    for words, (code, printed) in zip(lines, answers, strict=True):
        assert code == 0, (words, printed)
        assert "usage:" in printed.lower(), words
    return [printed for _, printed in answers]


def test_the_benchmarks_commands_are_of_scripts_that_run_with_such_options() -> None:
    shown = commands("docs/benchmarks.md") + commands("docs/training-numerics.md", "What drives honest machines apart")
    lines = [re.sub(r"^taskset -c \d+ ", "", command) for command in shown]
    assert all(line.startswith(".venv/bin/python scripts/bench/") for line in lines)
    asked = [shlex.split(line)[1:] for line in lines]
    run = "".join(path.read_text() for path in (ROOT / "tests").glob("test_benchmark*.py"))
    # That of Flower needs Flower, which no environment of the tests has.
    assert [script for script, *_ in asked if f'"{Path(script).name}"' not in run] == ["scripts/bench/flower.py"]
    for (script, *words), printed in zip(asked, helps(asked), strict=True):
        options = {word for word in words if word.startswith("--")}
        assert options <= set(re.findall(r"--[\w-]+", printed)), script


def test_whatever_the_page_for_developers_names_explains_itself() -> None:
    text = (ROOT / "docs" / "develop.md").read_text()
    (rows,) = re.findall(r"^\|---\|---\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    named = re.findall(r"`([^`]+)`", "".join(row.split("|")[1] for row in rows.splitlines()))
    asked = [name.split() for name in named if name != "scripts/bench/"]
    assert len(asked) >= 10
    helps(asked)


def test_the_first_command_runs_potchain_on_the_testnet_with_the_readers_arguments(tmp_path: Path) -> None:
    """In a checkout whose environment is set up; tests/test_testnet.py says what the network does that it starts."""
    (command,) = commands("README.md", "Start")
    for name in ("scripts", "genesis", "pyproject.toml", "requirements.txt"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    lock = subprocess.run("cat pyproject.toml requirements.txt | cksum", shell=True, cwd=tmp_path, capture_output=True)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "requirements.txt.stamp").write_bytes(lock.stdout)
    (tmp_path / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    words = [str(tmp_path / command), "--base-path", "/tmp/net", "--rpc-port", "9900", "config", "show", "--json"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    shown = json.loads(done.stdout)
    assert [shown[key]["value"] for key in ("genesis", "base-path", "rpc-port")] == [
        str(tmp_path / "genesis" / "testnet.json"),
        "/tmp/net",
        "9900",
    ]
