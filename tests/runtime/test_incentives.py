"""What docs/incentives.md says about cheating, recomputed from the runtime's own constants and draws."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product
from math import comb, factorial
from pathlib import Path

import pytest

from chain.primitives.hashing import blake2_256
from runtime.modules.training_draws import Draws, chosen_half, draw_auditors
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


def found(n: int, auditors: int, share: Fraction) -> Fraction:
    """How often a wrong slot is found at least, where one of the two draws of its audit is made again.

    By going through what each draw may say of the slot: not audited, by friends alone, or by somebody honest.
    """
    friendly = passes(n, auditors)

    def draw(chance: Fraction) -> dict[str, Fraction]:
        return {"none": 1 - chance, "friends": chance * friendly, "honest": chance * (1 - friendly)}

    first, second = draw(share / 2), draw(share / (2 - share))
    # What each outcome of the first draw means to the cheat: how often it passes in the end.
    worth = {"none": 1 - second["honest"], "friends": Fraction(1), "honest": Fraction(0)}
    first_again: Fraction = sum(
        (first[a] * first[b] * max(worth[a], worth[b]) for a, b in product(first, repeat=2)), Fraction(0)
    )
    second_again = first["friends"] + first["none"] * (1 - second["honest"] ** 2)
    return 1 - max(first_again, second_again)


@pytest.mark.parametrize("percent", [1, 5, 10, 25, 50, 100])
@pytest.mark.parametrize("auditors", AUDITORS)
def test_every_single_cheat_is_a_loss_at_the_highest_price_and_any_number_of_validators(
    auditors: int, percent: int
) -> None:
    training = TestChain().modules.training
    share, least_loss = Fraction(percent, 100), training.worker_bond_min // 2 * 9 // 10
    worth = training.worth_max(replace(POLICY, auditors_per_slot=auditors, audited_ppm=percent * 10_000))
    for n in range(4, 400):
        if n > auditors:
            chance = found(n, auditors, share)
            assert (1 - chance) * worth < chance * least_loss
    # No more than that is asked for: with all of a third on its side a cheat breaks even a planck above.
    odds = Fraction(1, 3**auditors)
    assert worth == least_loss * least(odds, share) // (1 - least(odds, share))


def least(friendly: Fraction, share: Fraction) -> Fraction:
    """What docs/incentives.md says of the same, as formulas."""
    h, r, honest = share / 2, share / (2 - share), 1 - friendly
    first_again = (h * honest) ** 2 + ((1 - h * friendly) ** 2 - (h * honest) ** 2) * r * honest
    return min(first_again, h * honest + (1 - h) * (r * honest) ** 2)


@pytest.mark.parametrize("percent", [5, 10, 25, 100])
def test_the_third_table_says_what_a_slot_may_be_worth(percent: int) -> None:
    training = TestChain().modules.training
    worths = [
        training.worth_max(replace(POLICY, auditors_per_slot=auditors, audited_ppm=percent * 10_000))
        for auditors in AUDITORS
    ]
    cells = " | ".join(f"{worth / POT:.2f}" for worth in worths)
    assert f"| {percent} % | {cells} |" in PAGE.read_text()


@pytest.mark.parametrize("ppm", [100_000, 1_000_000])
def test_the_runtime_has_as_many_slots_audited_as_the_policy_says_half_by_each_draw(ppm: int) -> None:
    tries, halves = 20_000, [0, 0]
    for seed in range(tries):
        draws = [
            Draws(blake2_256(bytes((half,)) + seed.to_bytes(4, "little")), 0, 0, 0, b"auditors") for half in (0, 1)
        ]
        chosen = chosen_half(draws, ppm)
        if chosen is not None:
            halves[draws.index(chosen)] += 1
    half = ppm / 2_000_000
    deviation = (half * (1 - half) / tries) ** 0.5
    assert all(abs(count / tries - half) < 4 * deviation for count in halves)
    assert ppm < 1_000_000 or sum(halves) == tries


def test_an_owner_s_own_workers_gain_nothing_below_the_share_that_the_page_names() -> None:
    rewards = TestChain().modules.rewards
    to_workers = 1 - Fraction(rewards.auditors_share_ppm, 10**6)
    # At the largest emission, which is the price again.
    assert 1 / (2 * to_workers) == Fraction(1, 1) / Fraction(18, 10)
    assert "k < 1 / 1.8" in PAGE.read_text()
