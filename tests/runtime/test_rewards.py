"""Rewards: minted once a round from evidence, within a budget that nobody can raise, divided to the last planck."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.modules.rewards import Budget, Rewards, RoundPay, split
from runtime.modules.training import Training
from runtime.testing import ALICE, BOB, CHARLIE, DAVE, ENDOWMENT, EVE, FERDIE, POT, STAKE, TestChain
from tests.runtime.training_kit import POLICY, PRICE, Story

BUDGET = 256 * POT


def pay(
    chain: TestChain,
    *,
    task: int = 0,
    round_: int = 0,
    price: int = PRICE,
    aggregator: bytes | None = None,
    is_emitting: bool = True,
) -> RoundPay:
    """Pay a round of two slots as the training module does."""
    return chain.modules.rewards.pay_round(
        task,
        round_,
        price,
        slots={1: EVE.public, 3: FERDIE.public},
        auditors=[ALICE.public, BOB.public],
        aggregator=aggregator,
        is_emitting=is_emitting,
    )


def test_a_round_is_worth_its_slots_prices_and_emissions_and_pays_who_made_checked_and_summed_it() -> None:
    chain = TestChain()
    assert pay(chain, aggregator=CHARLIE.public) == RoundPay(
        emission=POT, workers=(255 * POT // 100,) * 2, auditor=3 * POT // 10, aggregator=3 * POT // 10, total=6 * POT
    )
    gained = [255 * POT // 100, 255 * POT // 100, 3 * POT // 10, 3 * POT // 10, 3 * POT // 10]
    people = [EVE, FERDIE, ALICE, BOB, CHARLIE]
    before = [ENDOWMENT, ENDOWMENT, *[ENDOWMENT] * 3]
    assert [chain.free(key) for key in people] == [a + b for a, b in zip(before, gained, strict=True)]
    rewards = chain.modules.rewards
    assert (rewards.minted.get(), rewards.emitted.get()) == (6 * POT, 2 * POT)
    assert [rewards.earned_by_checking[key.public] for key in people] == [0, 0, *gained[2:]]
    assert chain.events_of(Rewards.SlotPaid) == [
        Rewards.SlotPaid(0, 0, 1, EVE.public, gained[0]),
        Rewards.SlotPaid(0, 0, 3, FERDIE.public, gained[1]),
    ]
    assert chain.events_of(Rewards.AuditPaid) == [
        Rewards.AuditPaid(0, 0, ALICE.public, gained[2]),
        Rewards.AuditPaid(0, 0, BOB.public, gained[3]),
    ]
    assert chain.events_of(Rewards.AggregatePaid) == [Rewards.AggregatePaid(0, 0, CHARLIE.public, gained[4])]


def test_without_an_aggregate_its_share_is_the_workers() -> None:
    assert pay(TestChain()) == RoundPay(POT, (27 * POT // 10,) * 2, 3 * POT // 10, 0, 6 * POT)


def test_a_round_whose_workers_were_not_drawn_among_all_is_paid_its_price_and_nothing_of_the_budget() -> None:
    chain = TestChain()
    assert pay(chain, is_emitting=False).total == 2 * PRICE
    assert (chain.modules.rewards.emitted.get(), chain.modules.rewards.available()) == (0, BUDGET)


def test_the_emission_is_never_more_than_the_price() -> None:
    assert pay(TestChain(), price=POT // 1000).total == 4 * (POT // 1000)


@given(
    price=st.integers(1, 10**30),
    emission=st.integers(0, 10**12),
    slots=st.integers(1, 64),
    auditors=st.integers(1, 100),
    aggregated=st.booleans(),
    auditors_ppm=st.integers(0, 500_000),
    aggregator_ppm=st.integers(0, 500_000),
)
def test_whatever_a_round_is_worth_is_paid_to_the_last_planck_and_evenly(
    price: int, emission: int, slots: int, auditors: int, aggregated: bool, auditors_ppm: int, aggregator_ppm: int
) -> None:
    paid = split(
        price,
        emission,
        slots,
        auditors,
        aggregated=aggregated,
        auditors_ppm=auditors_ppm,
        aggregator_ppm=aggregator_ppm,
    )
    assert sum(paid.workers) + paid.auditor * auditors + paid.aggregator == paid.total == slots * (price + emission)
    assert max(paid.workers) - min(paid.workers) <= 1
    assert sorted(paid.workers, reverse=True) == list(paid.workers)
    assert paid.auditor * auditors * 1_000_000 <= paid.total * auditors_ppm
    assert (paid.aggregator == 0) or aggregated


@pytest.mark.parametrize("round_", [3, 2])
def test_paying_a_round_again_or_an_earlier_one_is_a_bug_and_stops_the_node(round_: int) -> None:
    chain = TestChain()
    pay(chain, round_=3)
    free = chain.free(EVE)
    with pytest.raises(AssertionError, match="paid already"):
        pay(chain, round_=round_)
    assert chain.free(EVE) == free


def test_other_rounds_and_tasks_are_paid_for_themselves() -> None:
    chain = TestChain()
    for task, round_ in ((0, 0), (1, 0), (0, 1)):
        assert pay(chain, task=task, round_=round_).total == 2 * (PRICE + POT)
    assert dict(chain.modules.rewards.paid_rounds.items()) == {0: 1, 1: 0}


def test_an_exhausted_budget_leaves_the_price_and_fills_with_every_block() -> None:
    story = Story()
    story.to_audit()
    story.attest()
    story.training.rewards.budget.put(Budget(5 * POT // 2, story.chain.height))
    story.next()
    # What is left of the budget is the same for each slot.
    record = story.training.history[0, 0]
    assert (record.emission, record.minted) == (5 * POT // 8, 4 * PRICE + 5 * POT // 2)
    assert story.training.rewards.available() == 4 * POT
    story.next(2)
    assert story.training.rewards.available() == 12 * POT


def test_an_idle_chain_saves_up_no_more_than_the_budget_holds() -> None:
    chain = TestChain()
    chain.run_blocks(3)
    assert chain.modules.rewards.available() == BUDGET


def test_the_emission_halves_again_and_again_until_it_is_nothing() -> None:
    rewards = TestChain().modules.rewards
    era = rewards.halving_blocks
    assert rewards.scheduled(0, 3) == 12 * POT
    assert rewards.scheduled(era - 2, era + 3) == 2 * 4 * POT + 3 * 2 * POT
    assert rewards.scheduled(era - 1, 3 * era + 1) == 4 * POT + era * 2 * POT + era * POT + POT // 2
    # The heights of a chain end before the halvings leave nothing to halve; all of it together has a bound.
    assert 2 * era * 4 * POT * 999 // 1000 < rewards.scheduled(0, 2**32 - 1) < 2 * era * 4 * POT


def test_issuance_grows_by_the_emission_alone_and_each_slot_is_paid_once() -> None:
    story = Story(rounds=4, policy=replace(POLICY, slots=6))
    for _ in range(4):
        story.play()
    paid = story.chain.events_of(Rewards.SlotPaid)
    assert sorted((event.task, event.round, event.slot) for event in paid) == [
        (0, round_, slot) for round_ in range(4) for slot in range(6)
    ]
    rewards = story.chain.modules.rewards
    assert rewards.minted.get() == 24 * (PRICE + POT)
    assert rewards.emitted.get() == 24 * POT
    by_work = sum(event.amount for event in paid)
    assert by_work == sum(story.worker(keypair).earned for keypair in (EVE, FERDIE)) == rewards.minted.get() * 9 // 10
    checked = [rewards.earned_by_checking[keypair.public] for keypair in (ALICE, BOB, CHARLIE, DAVE)]
    assert checked == [rewards.minted.get() // 40] * 4
    # What keeping the task's blobs has cost is burned.
    (storage,) = story.chain.events_of(Training.StoragePaid)
    assert story.chain.free(ALICE) == ENDOWMENT - 24 * PRICE + checked[0] - storage.burned
    issued = story.chain.modules.balances.total_issuance.get()
    assert issued == 6 * ENDOWMENT + 4 * STAKE + rewards.emitted.get() - storage.burned


def test_an_owner_who_trains_for_itself_loses_to_the_others_while_it_owns_less_than_half_of_the_workers() -> None:
    story = Story(workers=[EVE, FERDIE, ALICE], rounds=10, price_per_slot=POT, policy=replace(POLICY, slots=3))
    for _ in range(10):
        story.play()
    assert story.worker(ALICE).accepted == 10
    gained = story.chain.free(ALICE) + story.chain.modules.balances.reserved(ALICE.public) - ENDOWMENT - STAKE
    (storage,) = story.chain.events_of(Training.StoragePaid)
    as_auditor = story.chain.modules.rewards.earned_by_checking[ALICE.public]
    by_training = gained - as_auditor + storage.burned
    assert by_training == story.worker(ALICE).earned - 30 * POT == 10 * 2 * POT * 9 // 10 - 30 * POT
    assert story.worker(EVE).earned == story.worker(FERDIE).earned == 18 * POT
