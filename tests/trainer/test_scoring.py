"""Scores: who makes a model worse goes, one after the other, and nobody who does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, combinations

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.scoring import (
    LOSS_MICRO_MAX,
    Score,
    Scored,
    eliminate,
    harm_ppm,
    in_micro,
    is_suspicious,
    limit_ppm,
    score,
)

SCORED = Scored(harm_ppm=10_000, forfeit=0, weight_max=1, silos_min=1)
START = 1_000_000
Losses = Mapping[tuple[int, ...], int]


class Measured:
    """Losses that are looked up; how many models were measured is counted."""

    def __init__(self, losses: Losses) -> None:
        self.losses = {(): START, **losses}
        self.asked: set[tuple[int, ...]] = set()

    async def __call__(self, slots: tuple[int, ...]) -> int:
        self.asked.add(slots)
        return self.losses[slots]


def subsets(count: int) -> Iterator[tuple[int, ...]]:
    return chain.from_iterable(combinations(range(count), size) for size in range(1, count + 1))


def additive(effects: list[int]) -> Measured:
    """Contributions that each add the same to the loss, in whatever company."""
    return Measured({slots: START + sum(effects[slot] for slot in slots) for slots in subsets(len(effects))})


async def test_who_is_asked_about_is_scored_against_all_others() -> None:
    loss = additive([-50_000, 0, 11_000, -20_000])
    assert await score(SCORED, range(4), [0, 2], loss) == {0: Score(True, -50_000), 2: Score(False, 11_000)}
    # The model with all, without each that was asked about, and as it was.
    assert loss.asked == {(), (0, 1, 2, 3), (1, 2, 3), (0, 1, 3)}


async def test_the_most_harmful_goes_first_and_who_only_seemed_harmful_beside_it_stays() -> None:
    # 0 is honest: where 2 pulls the same way, both together go too far.
    loss = Measured(
        {
            **dict.fromkeys(subsets(3), START),
            (0, 1, 2): 2_000_000,
            (1, 2): 1_500_000,
            (0, 1): 800_000,
            (0,): 850_000,
            (1,): 950_000,
            (0, 2): 1_900_000,
        }
    )
    assert (await score(SCORED, range(3), [0], loss))[0].right is False
    found = await eliminate(SCORED, range(3), [], loss)
    assert found == {0: Score(True, -150_000), 1: Score(True, -50_000), 2: Score(False, 1_200_000)}


async def test_two_that_hide_behind_one_another_are_found_since_all_together_make_the_model_worse() -> None:
    # With both the loss is as high as it gets: without one of them it is as high.
    losses = {slots: 3_000_000 if {0, 1} & set(slots) else 700_000 for slots in subsets(4)}
    loss = Measured(losses | {slots: 2_999_999 for slots in subsets(4) if len({0, 1} & set(slots)) == 1})
    assert {each.right for each in (await score(SCORED, range(4), range(4), loss)).values()} == {True}
    assert await is_suspicious(SCORED, range(4), loss)
    # Nothing tells who of them it is: this is what robust aggregations are for.
    assert {each.right for each in (await eliminate(SCORED, range(4), [], loss)).values()} == {True}


async def test_a_verdict_forgives_less_than_a_challenge_so_that_those_who_confirm_one_agree() -> None:
    loss = additive([10_300, 0])
    assert (await score(SCORED, range(2), [0], loss))[0].right
    assert (await eliminate(SCORED, range(2), [], loss))[0].right
    assert not (await eliminate(SCORED, range(2), [0], loss))[0].right
    assert [limit_ppm(SCORED, challenged=challenged) for challenged in (False, True)] == [10_625, 10_000]


@given(st.lists(st.integers(-200_000, 200_000), min_size=1, max_size=5), st.sets(st.integers(0, 4)), st.data())
@settings(max_examples=50, deadline=None)
def test_honest_machines_whose_measurements_differ_a_little_agree_on_what_was_challenged(
    effects: list[int], challenged: set[int], data: st.DataObject
) -> None:
    """One challenges what is beyond its limit; then both reject it, whoever of them it was."""
    noise = data.draw(st.lists(st.integers(-30, 30), min_size=len(effects), max_size=len(effects)))
    slots, suspects = range(len(effects)), {slot for slot in challenged if slot < len(effects)}
    one, other = additive(effects), additive([e + n for e, n in zip(effects, noise, strict=True)])
    # Whoever stands on the line itself does so in league with a validator; the chain pauses it.
    if any(abs(effect - SCORED.harm_ppm) < 100 for effect in effects):
        return

    async def verdicts(loss: Measured, seen: set[int]) -> set[int]:
        return {slot for slot, each in (await eliminate(SCORED, slots, seen, loss)).items() if not each.right}

    async def settle() -> None:
        seen = set(suspects)
        while news := (await verdicts(one, seen) | await verdicts(other, seen)) - seen:
            seen |= news
        assert await verdicts(one, seen) == await verdicts(other, seen)

    trio.run(settle)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [(0.5, 500_000), (0.0, 0), (-1.0, 0), (float("nan"), LOSS_MICRO_MAX), (float("inf"), LOSS_MICRO_MAX)],
)
def test_a_loss_that_is_no_number_is_as_bad_as_any(loss: float, expected: int) -> None:
    assert in_micro(loss) == expected


def test_harm_is_a_share_of_the_loss_before_the_round_and_defined_where_that_is_zero() -> None:
    assert harm_ppm(1_100_000, 1_000_000, 2_000_000) == 50_000
    assert harm_ppm(5, 0, 0) == 5_000_000
    assert harm_ppm(LOSS_MICRO_MAX, 0, 1) == 10**24
