"""Rewards: minted once a slot, from evidence, within a budget that nobody can raise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runtime.modules.rewards import Budget, PaidSlots, Rewards
from runtime.testing import ALICE, ENDOWMENT, EVE, FERDIE, POT, STAKE, TestChain
from tests.runtime.training_kit import POLICY, PRICE, Story

BUDGET = 256 * POT


def pay(chain: TestChain, *, task: int = 0, round_: int = 0, slot: int = 0, price: int = PRICE) -> int:
    """Pay a slot as the training module does."""
    return chain.modules.rewards.pay_slot(task, round_, slot, EVE.public, price)


def test_a_slot_earns_its_price_and_an_emission() -> None:
    chain = TestChain()
    assert pay(chain) == PRICE + POT
    assert chain.free(EVE) == ENDOWMENT + PRICE + POT
    assert chain.modules.rewards.minted.get() == PRICE + POT
    assert chain.modules.rewards.emitted.get() == POT
    assert chain.events_of(Rewards.SlotPaid) == [Rewards.SlotPaid(0, 0, 0, EVE.public, PRICE + POT)]


def test_the_emission_is_never_more_than_the_price() -> None:
    assert pay(TestChain(), price=POT // 1000) == 2 * (POT // 1000)


@pytest.mark.parametrize(("round_", "slot"), [(3, 1), (2, 0)])
def test_paying_a_slot_again_or_an_earlier_round_is_a_bug_and_stops_the_node(round_: int, slot: int) -> None:
    chain = TestChain()
    pay(chain, round_=3, slot=1)
    with pytest.raises(AssertionError, match="paid already"):
        pay(chain, round_=round_, slot=slot)
    assert chain.free(EVE) == ENDOWMENT + PRICE + POT


def test_other_slots_rounds_and_tasks_are_paid_for_themselves() -> None:
    chain = TestChain()
    for task, round_, slot in ((0, 0, 1), (0, 0, 0), (1, 0, 0), (0, 1, 0)):
        assert pay(chain, task=task, round_=round_, slot=slot) == PRICE + POT
    assert chain.modules.rewards.paid[0] == PaidSlots(1, (0,))
    assert chain.modules.rewards.paid[1] == PaidSlots(0, (0,))


def test_an_exhausted_budget_leaves_the_price_and_fills_with_every_block() -> None:
    story = Story()
    story.to_audit()
    story.attest()
    story.training.rewards.budget.put(Budget(5 * POT // 2, story.chain.height))
    story.next()
    paid = [event.amount for event in story.chain.events_of(Rewards.SlotPaid)]
    assert paid == [PRICE + POT, PRICE + POT, PRICE + POT // 2, PRICE]
    assert story.training.rewards.available() == 4 * POT
    story.next(2)
    assert story.training.rewards.available() == 12 * POT


def test_an_idle_chain_saves_up_no_more_than_the_budget_holds() -> None:
    chain = TestChain()
    chain.run_blocks(3)
    assert chain.modules.rewards.available() == BUDGET


def test_issuance_grows_by_the_emission_alone_and_each_slot_is_paid_once() -> None:
    story = Story(rounds=4, policy=replace(POLICY, slots=6))
    for _ in range(4):
        story.play()
    paid = story.chain.events_of(Rewards.SlotPaid)
    assert sorted((event.task, event.round, event.slot) for event in paid) == [
        (0, round_, slot) for round_ in range(4) for slot in range(6)
    ]
    minted = sum(event.amount for event in paid)
    rewards = story.chain.modules.rewards
    assert minted == rewards.minted.get() == 24 * (PRICE + POT)
    assert rewards.emitted.get() == 24 * POT
    assert minted == sum(story.worker(keypair).earned for keypair in (EVE, FERDIE))
    assert story.chain.free(ALICE) == ENDOWMENT - 24 * PRICE
    assert story.chain.modules.balances.total_issuance.get() == 6 * ENDOWMENT + 4 * STAKE + rewards.emitted.get()


def test_an_owner_who_trains_for_itself_loses_to_the_others_while_it_owns_less_than_half_of_the_workers() -> None:
    story = Story(workers=[ALICE, EVE, FERDIE], rounds=10, price_per_slot=POT, policy=replace(POLICY, slots=3))
    for _ in range(10):
        story.play()
    assert story.worker(ALICE).accepted == 10
    gained = story.chain.free(ALICE) + story.chain.modules.balances.reserved(ALICE.public) - ENDOWMENT - STAKE
    assert gained == 10 * 2 * POT - 30 * POT
    assert story.worker(EVE).earned == story.worker(FERDIE).earned == 20 * POT
