"""SPEC.md and what keeps it do not drift apart: each rule is cited by code and by a test, and has a source."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPEC = (ROOT / "consensus" / "SPEC.md").read_text()
# From a rule's name to the next rule, heading or paragraph.
RULES = dict(re.findall(r"^- \*\*\[P(\d+)\] (.*?)(?=^- \*\*\[P|^\S|\Z)", SPEC, re.MULTILINE | re.DOTALL))
# The paper's sections, as OSDI 1999 has them.
SECTIONS = {*"12345678", "4.1", "4.2", "4.3", "4.4", "4.5", "4.5.1", "4.5.2", "4.6", "5.1", "5.2", "6.1", "6.2", "6.3"}


def cited(*folders: str, without: str = "") -> Iterator[str]:
    """The rules that the sources in some folders cite: `[P4]`, `[P4, P5]`, or in a test's name."""
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            if without and (ROOT / without) in path.parents:
                continue
            source = path.read_text()
            for together in re.findall(r"\[(P\d+(?:, P\d+)*)\]", source):
                yield from re.findall(r"\d+", together)
            if folder == "tests":
                yield from re.findall(r"def test_p(\d+)_", source)


def test_rules_are_numbered_from_one_without_a_hole() -> None:
    assert [int(number) for number in RULES] == list(range(1, len(RULES) + 1))


def test_every_rule_is_cited_by_code_and_by_a_test_and_nobody_cites_another() -> None:
    code = set(cited("consensus", "chain", "runtime", without="chain/simulation"))
    tests = set(cited("tests"))
    assert {"code": RULES.keys() - code, "tests": RULES.keys() - tests} == {"code": set(), "tests": set()}
    assert code | tests | set(cited("chain/simulation")) == RULES.keys()


@pytest.mark.parametrize("number", RULES)
def test_a_rule_says_which_section_of_the_paper_it_comes_from_or_that_none_has_it(number: str) -> None:
    text = " ".join(RULES[number].split())
    # These have one sentence for all of them, above the first.
    fixed = "The paper's group is fixed, so that [P22] to [P25] have no section there." in SPEC
    assert "PBFT" in text or "Not in the paper" in text or (fixed and 22 <= int(number) <= 25)


def test_the_paper_has_the_sections_that_are_cited() -> None:
    named = re.findall(r"PBFT ((?:\d(?:\.\d)*(?:,| and)? ?)+)", SPEC)
    sections = {section for several in named for section in re.findall(r"\d(?:\.\d)*", several)}
    assert len(sections) > 8
    assert sections <= SECTIONS
