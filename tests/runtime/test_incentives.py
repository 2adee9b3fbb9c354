"""What docs/incentives.md says about cheating, recomputed from the runtime's own constants and draws."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import comb, factorial
from pathlib import Path

import pytest

from chain.primitives.hashing import blake2_256
from runtime.modules.training_draws import Draws, draw_auditors
from runtime.testing import POT, TestChain
from tests.runtime.training_kit import POLICY

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "incentives.md"
SIZES = (4, 7, 16, 100)
AUDITORS = (1, 2, 3)


def faulty(n: int) -> int:
    """How many of n validators may be on a cheat's side."""
    return (n - 1) // 3


def passes(n: int, auditors: int) -> Fraction:
    """The chance that a wrong slot has no honest auditor."""
    return Fraction(comb(faulty(n), auditors), comb(n, auditors))


@pytest.mark.parametrize("n", SIZES)
def test_the_table_says_how_often_a_wrong_slot_passes(n: int) -> None:
    cells = " | ".join(str(passes(n, auditors)) for auditors in AUDITORS)
    assert f"| {n} | {faulty(n)} | {cells} |" in PAGE.read_text()


@pytest.mark.parametrize("n", [4, 7, 10])
def test_the_second_table_says_how_often_it_passes_where_a_coalition_picks_the_draw(n: int) -> None:
    outcomes = factorial(faulty(n) + 1)
    cells = " | ".join(f"{float(1 - (1 - passes(n, auditors)) ** outcomes):.3f}" for auditors in AUDITORS)
    assert f"| {n} | {faulty(n)} | {outcomes} | {cells} |" in PAGE.read_text()
    assert passes(n, faulty(n) + 1) == 0


@pytest.mark.parametrize(("n", "auditors"), [(4, 1), (7, 2), (16, 3)])
def test_the_runtime_draws_auditors_as_often_as_the_table_says(n: int, auditors: int) -> None:
    accounts = [blake2_256(bytes((index,))) for index in range(n)]
    worker, bad = blake2_256(b"worker"), set(accounts[: faulty(n)])
    tries = 20_000
    passed = 0
    for seed in range(tries):
        draws = Draws(blake2_256(seed.to_bytes(4, "little")), 0, 0, 0, b"auditors")
        passed += bad.issuperset(draw_auditors(draws, accounts, accounts, worker, auditors))
    chance = passes(n, auditors)
    # Four standard deviations: the seeds are fixed, and a draw that is off by a tenth fails.
    deviation = float(chance * (1 - chance) / tries) ** 0.5
    assert abs(passed / tries - float(chance)) < 4 * deviation


@pytest.mark.parametrize("auditors", AUDITORS)
def test_every_single_cheat_is_a_loss_at_the_highest_price_and_any_number_of_validators(auditors: int) -> None:
    training = TestChain().modules.training
    worth = training.worth_max(replace(POLICY, auditors_per_slot=auditors))
    least_loss = training.worker_bond_min // 2
    assert worth == {1: 50, 2: 200, 3: 650}[auditors] * POT
    for n in range(4, 400):
        if n > auditors:
            chance = passes(n, auditors)
            assert chance * worth < (1 - chance) * least_loss


def test_an_owner_s_own_workers_gain_nothing_below_the_share_that_the_page_names() -> None:
    rewards = TestChain().modules.rewards
    to_workers = 1 - Fraction(rewards.auditors_share_ppm, 10**6)
    # At the largest emission, which is the price again.
    assert 1 / (2 * to_workers) == Fraction(1, 1) / Fraction(18, 10)
    assert "k < 1 / 1.8" in PAGE.read_text()
