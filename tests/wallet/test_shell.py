"""What the command line does for shells, and what it says of bugs of ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chain import cli_query, cli_rewards
from chain.cli import main
from tests.wallet.conftest import Command

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_a_shell_is_given_a_script_that_it_can_read(tmp_path: Path, potchain: Command, shell: str) -> None:
    script = await potchain("completion", shell)
    assert f"_POTCHAIN_COMPLETE=complete_{shell}" in script
    if program := shutil.which(shell):
        path = tmp_path / "script"
        path.write_text(script)
        assert subprocess.run([program, "-n", path], capture_output=True, check=False).returncode == 0


async def test_a_shell_that_is_not_known_is_refused(potchain: Command) -> None:
    message = await potchain("completion", "csh", exit_code=2)
    expected = "bash|zsh|fish: expected bash, zsh or fish, got 'csh'; see: potchain completion --help"
    assert message == f"error: {expected}\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("potchain tx tr", {"transfer"}),
        ("potchain com", {"completion"}),
        ("potchain tx transfer --dr", {"--dry-run"}),
        ("potchain tx transfer --watch ", {"none", "included", "finalized"}),
    ],
)
def test_bash_completes_commands_options_and_choices(words: str, expected: set[str]) -> None:
    place = len(words.split()) - (not words.endswith(" "))
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(place), "_POTCHAIN_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [sys.executable, "-m", "chain"],
        cwd=ROOT,
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) == expected


def buggy(*arguments: object, **named: object) -> None:
    try:
        raise ValueError("first\nand second line")
    except ValueError as error:
        raise ExceptionGroup("several", [KeyError("no such thing")]) from error


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert ended.value.code == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err


def test_a_bug_of_ours_is_named_in_two_lines_and_shown_whole_to_who_asks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli_query, "_query", buggy)
    first, second = said(capsys, "query", "System").splitlines()
    assert first.startswith("error: a bug in potchain 0.1.0: KeyError: 'no such thing' (")
    assert second == ("The fault is not yours: please report it with what the same command with --debug prints")
    for words in (("--debug", "query", "System"), ("query", "--debug", "System"), ("query", "System", "--debug")):
        whole = said(capsys, *words)
        assert "Traceback (most recent call last)" in whole
        assert "ValueError: first\nand second line" in whole
        assert whole.splitlines()[-1] == "The fault is not yours: please report it with what is above"


def test_a_bug_is_located_where_this_program_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli_rewards, "trio", None)
    first = said(capsys, "reward", "explain", "0", "1").splitlines()[0]
    assert "AttributeError: 'NoneType' object has no attribute 'run' (chain/cli_rewards.py:" in first


def test_what_runs_for_days_leaves_its_traceback_where_its_output_goes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("genesis.spec.load", buggy)
    whole = said(capsys, "--genesis", "genesis/testnet.json")
    assert "Traceback (most recent call last)" in whole
    assert whole.splitlines()[-1] == "The fault is not yours: please report it with what is above"
