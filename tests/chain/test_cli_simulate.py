"""`potchain simulate`: exit codes and words."""

from __future__ import annotations

import re

import pytest

from chain.cli import main
from chain.simulation import monitor


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["simulate", *arguments])
    return int(ended.value.code or 0)


def test_a_simulation_that_holds_says_what_it_went_through(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--seed", "3", "--heights", "20", "--faults", "loss,crash") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert re.match(
        r"1 of 1 simulations held every check: 2\d heights, 0 changes of the set, highest view \d+, \d+ cr", first
    )
    assert second == "faults, with how many simulations had each: loss 1, crash 1"


def test_a_simulation_that_fails_ends_with_1_and_the_command_that_replays_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> bool:
        return False

    monkeypatch.setattr(monitor, "verify_seal", never)
    assert run("--seed", "3", "--heights", "8", "--faults", "none", "--ledger", "real") == 1
    out = capsys.readouterr().out
    assert "potchain simulate --seed 3 --validators 4 --heights 8 --faults none --ledger real\n" in out
    assert "0 of 1 simulations held every check" in out


def test_an_unknown_fault_is_named_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--faults", "loss,rain") == 2
    assert capsys.readouterr().err.startswith(
        "error: --faults: 'rain' is no fault; expected all, none, or some of loss,"
    )
