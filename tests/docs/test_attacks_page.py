"""docs/attacks.md is true as far as a test can tell: what it names is there, and every way to cheat has its row."""

from __future__ import annotations

import re
from pathlib import Path

from tests.attacks.table import HEADINGS, TRIED
from tests.trainer.cheats import KINDS, WITHIN_TOLERANCE

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "attacks.md").read_text()


def test_every_test_that_the_table_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)
    assert len(named) > 20
    for path, name in named:
        assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE), f"{path}::{name}"


def test_every_way_to_attack_has_a_row_of_what_became_of_it() -> None:
    printed = TEXT.split("## On a running chain")[1].split("\n## ")[0]
    told = re.findall(r"^\| ([^|:]+): ", printed, re.MULTILINE)
    assert sorted(told) == sorted({*KINDS, *WITHIN_TOLERANCE, *TRIED})
    assert f"| {' | '.join(HEADINGS)} |" in printed
