"""Amounts are shown and read exactly; lines stay aligned."""

from __future__ import annotations

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.display import (
    TEXT_COLUMN,
    Names,
    Token,
    block_line,
    folded,
    print_anything,
    round_line,
    say,
    states_line,
    waiting_line,
)
from consensus.host import Awaited, GadgetState

POT = Token("POT", 12)


@given(st.integers(0, 2**128 - 1))
def test_every_amount_that_is_shown_can_be_read_back(planck: int) -> None:
    assert POT.parse(POT.format(planck).removesuffix(" POT")) == planck


@pytest.mark.parametrize(
    ("text", "planck"),
    [
        ("1", 10**12),
        ("1.5", 15 * 10**11),
        ("1,000", 10**15),
        ("12,345.5", 123455 * 10**11),
        (".5", 5 * 10**11),
        ("0.000000000001", 1),
        ("340,282,366,920,938,463,463,374,607.431768211455", 2**128 - 1),
    ],
)
def test_an_amount_is_read_exactly(text: str, planck: int) -> None:
    assert POT.parse(text) == planck


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "-1",
        "1,5",
        "1,50",
        ",5",
        "1,",
        "1,2,3",
        "1234,567",
        "1.000,5",
        "1e3",
        "1.2.3",
        "abc",
        "0.0000000000001",
        "١",
        "340282366920938463463374607.431768211456",  # one planck more than a u128 holds
        "9" * 5000,
    ],
)
def test_what_is_no_amount_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected an amount|decimals"):
        POT.parse(text)


def test_lines_are_aligned() -> None:
    one = block_line(1, bytes(32), "alice", [], 4, 0, 1)
    two = block_line(1234567, b"\xff" * 32, "bob", [], 4, 2, 12)
    assert one.index("parent is genesis  1") == two.index("parent sealed 4/4  12") - 1
    assert two.endswith("parent sealed 4/4  12 tx  view 2")
    three = block_line(9, bytes(32), "bob", ["alice", "dave"], 7, 0, 0)
    assert three.endswith("parent sealed 5/7 without alice, dave  0 tx")
    first = round_line("digits", 1, (2.302585, 0.098), 4, 0, 4, "4 POT")
    second = round_line("digits", 12, (0.171, 0.955555), 3, 1, 4, "4 POT")
    other = round_line("digits", 13, None, 4, 0, 4, "4 POT")
    assert first.index("accuracy") == second.index("accuracy")
    assert second.endswith("  4/4 paid 4 POT, 1 planted")
    assert first.index("paid") == second.index("paid") == other.index("paid")


def test_everyday_lines_fit_a_terminal_of_eighty_columns_and_others_are_folded_under_their_text() -> None:
    everyday = [
        block_line(999_999, b"\xff" * 32, "charlie", [], 4, 0, 99),
        round_line("digits", 199, (0.073, 1.0), 4, 0, 4, "8 POT"),
    ]
    assert [len(line) for line in everyday if TEXT_COLUMN + len(line) > 80] == []
    line = "12:00:00  stall    " + " ".join(["word"] * 20)
    folds = folded(line, 80).split("\n")
    assert folds == ["12:00:00  stall    " + " ".join(["word"] * 12), " " * TEXT_COLUMN + " ".join(["word"] * 8)]
    assert folded(line, 30) == line
    event = "    Balances.Transfer  from " + "5" * 48 + ", to " + "5" * 48
    assert folded(event, 80, 8).split("\n") == [event[:80], "        " + "5" * 48]
    block = "12:00:00  block    " + block_line(1_234_567, bytes(32), "alice", ["bob"], 4, 1, 3)
    assert " ".join(folded(block, 80).split()) == " ".join(block.split())
    assert "  by alice  " in folded(block, 80)


@pytest.mark.parametrize(
    ("phase", "missing", "line"),
    [
        ("proposal", ("bob",), "view 3 waits for bob to propose"),
        ("commit", ("alice", "bob"), "view 3 waits for alice, bob to commit"),
        ("view-change", ("alice",), "view 3 waits for alice to change to it"),
        ("sealing", (), "view 3 waits for the block that a quorum has decided on, and for nobody's vote"),
    ],
)
def test_a_stall_names_who_is_missing_and_what_for(phase: Awaited, missing: tuple[str, ...], line: str) -> None:
    accounts = tuple(name.encode() for name in missing)
    names = Names({b"alice": "alice", b"bob": "bob"}, 42)
    assert waiting_line(GadgetState(9, 3, phase, b"bob", (), accounts), names) == line


def test_an_account_without_a_name_shows_the_head_of_its_address() -> None:
    names = Names({b"\x01" * 32: "alice"}, 42)
    assert names[b"\x01" * 32] == "alice"
    assert names[b"\x02" * 32] == "5C7LYpP2…"


def test_a_line_for_a_full_disk_is_lost_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w", buffering=1) as full:
        monkeypatch.setattr(sys, "stdout", full)
        say("block", "nobody reads this")
        monkeypatch.undo()
        with pytest.raises(OSError, match="No space left"):
            full.close()


def test_a_line_that_the_terminal_has_no_letters_for_is_printed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    latin = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", latin)
    print_anything()
    say("block", "0x12…89")
    assert latin.buffer.getvalue().endswith(b"block    0x12?89\n")


@pytest.mark.parametrize(
    ("history", "oldest", "head", "words"),
    [
        (None, 0, 900, "those after all blocks are kept"),
        (None, 645, 900, "those after all blocks are kept, from height 645 on: earlier ones were pruned"),
        (256, 0, 3, "those after the last 256 blocks are kept"),
        (256, 645, 900, "those after the last 256 blocks are kept"),
        (512, 645, 900, "those after the last 512 blocks are kept, from height 645 on: earlier ones were pruned"),
        (64, 645, 900, "those after the last 64 blocks are kept; 192 older ones go with the next blocks"),
    ],
)
def test_what_a_node_keeps_is_told_with_what_is_different_for_now(
    history: int | None, oldest: int, head: int, words: str
) -> None:
    assert states_line(history, oldest, head).removesuffix(" and do not come back") == words
