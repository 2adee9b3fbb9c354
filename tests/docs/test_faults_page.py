"""docs/faults.md is true as far as a test can tell: what it names is there, and its counts are those of the suite."""

from __future__ import annotations

import re

import pytest

from chain.cli import main
from chain.simulation.faults import FAULTS
from tests.docs.pages import ROOT, commands
from tests.simulation.suite import faults_drawn

TEXT = (ROOT / "docs" / "faults.md").read_text()


def test_every_test_that_the_table_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)
    assert len(named) > 20
    for path, name in named:
        assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE), f"{path}::{name}"


def test_every_manifest_is_explained_and_every_manifest_that_is_named_is_there() -> None:
    there = {path.name for path in (ROOT / "tests" / "perturbation" / "manifests").iterdir()}
    assert set(re.findall(r"^- `([\w-]+\.toml)`: ", TEXT, re.MULTILINE)) == there
    assert set(re.findall(r"`([\w-]+\.toml)`", TEXT)) == there


def test_every_fault_of_the_simulator_has_a_row_with_how_many_seeds_draw_it() -> None:
    drawn = faults_drawn()
    rows = [line.strip("| ").split(" | ") for line in TEXT.splitlines() if line.startswith("| ")]
    told: dict[str, str] = {}
    for row in rows:
        named = [fault for fault in FAULTS if f"`{fault}`" in row[2]]
        told.update(zip(named, row[3].split(", ") if named else [], strict=True))
    assert told == {fault: f"{drawn[fault]:,}" for fault in FAULTS}


def test_the_commands_simulate_what_is_said_beside_them(capsys: pytest.CaptureFixture[str]) -> None:
    one, many, longer, some = commands("docs/faults.md", "Faults that the chain survives")
    # As many heights and chains as show that it works, and every other word as it stands.
    for command in (
        f"{one} --heights 8",
        f"{many.replace('2000', '2')} --heights 4",
        longer.replace("100000", "2").replace("50", "4"),
        f"{some} --heights 6",
    ):
        program, *words = command.split()
        assert program == "potchain"
        with pytest.raises(SystemExit) as ended:
            main(words)
        printed = capsys.readouterr()
        assert (ended.value.code or 0, printed.err) == (0, ""), printed
        assert re.search(r"^(\d) of \1 simulations held every check", printed.out, re.MULTILINE), command
