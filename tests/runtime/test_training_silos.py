"""Federated tasks on chain: who contributes, what each weighs, and what a harmful contribution costs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chain.primitives.keys import Keypair
from runtime.modules.training import Training
from runtime.modules.training_policy import SAMPLES_MAX, CenteredClip, Mean, Median, Policy, Scored, TopKFeedback
from runtime.modules.training_types import SILOS_MAX, Phase, SlashReason, commitment_of
from runtime.testing import ALICE, BOB, CHARLIE, DAVE, ENDOWMENT, EVE, FERDIE, POT, STAKE, TestChain
from tests.runtime.training_kit import POLICY, PRICE, SALT, VALIDATORS, Story, root, terms

SCORED = Scored(harm_ppm=10_000, forfeit=2 * POT, weight_max=1_000, silos_min=1)
FEDERATED: Policy = replace(POLICY, verification=SCORED)
BOND = 100 * POT


class Federation(Story):
    """A federated task of ALICE's, whose silos have declared their samples when round 0 opens."""

    def __init__(self, samples: dict[Keypair, int], *, rounds: int = 2, silos_min: int = 1) -> None:
        policy = replace(FEDERATED, verification=replace(SCORED, silos_min=silos_min))
        super().__init__(workers=samples, capacity=1, policy=policy, rounds=rounds)
        for silo, count in samples.items():
            self.admit(silo, 2_000)
            self.declare(silo, count)
        self.next()

    def admit(self, silo: Keypair, samples_max: int, task: int = 0) -> None:
        self.chain.call(ALICE, "training.admit_silo", task=task, silo=silo.public, samples_max=samples_max)

    def declare(self, silo: Keypair, samples: int, task: int = 0) -> None:
        self.chain.call(silo, "training.declare_samples", task=task, samples=samples)

    def owners(self) -> list[Keypair]:
        return [self.owner_of(slot) for slot in range(len(self.state().slots))]

    def reject(self, silo: Keypair) -> None:
        """A whole round in which validators find the model better without a silo."""
        self.to_audit()
        (slot,) = self.slots_of(silo)
        self.challenge(BOB, slot)
        self.attest(without=[slot])
        self.next()


def test_each_silo_has_one_slot_that_weighs_its_samples_up_to_the_policys_bound() -> None:
    story = Federation({CHARLIE: 300, EVE: 20, FERDIE: 1_500})
    assert story.state().phase is Phase.COMMIT
    assert set(story.owners()) == {CHARLIE, EVE, FERDIE}
    expected = {CHARLIE: 300, EVE: 20, FERDIE: 1_000}
    assert story.training.weights[0, 0] == tuple(expected[silo] for silo in story.owners())


def test_a_federated_round_pays_each_silo_alike_and_emits_nothing() -> None:
    story = Federation({EVE: 10, FERDIE: 1_000}, rounds=1)
    story.play()
    record = story.training.history[0, 0]
    assert (record.minted, record.emission) == (2 * PRICE, 0)
    assert [story.worker(silo).earned for silo in (EVE, FERDIE)] == [PRICE * 9 // 10] * 2
    assert story.chain.modules.rewards.emitted.get() == 0
    # What a final round weighed stays, for who computes its model again.
    assert sorted(story.training.weights[0, 0]) == [10, 1_000]
    assert story.training.silos[0] == ()


def test_only_silos_that_declared_samples_are_drawn_and_they_are_drawn_for_nothing_else() -> None:
    story = Federation({EVE: 10, FERDIE: 0, CHARLIE: 5})
    assert set(story.owners()) == {EVE, CHARLIE}
    story.chain.call(BOB, "training.create_task", **terms())
    story.next(2)
    assert {slot.worker for slot in story.state(1).slots} == {FERDIE.public}


def test_samples_that_are_declared_while_a_round_runs_count_in_the_next() -> None:
    story = Federation({EVE: 10})
    story.declare(EVE, 30)
    story.play()
    assert (story.training.weights[0, 0], story.training.weights[0, 1]) == ((10,), (30,))


def test_a_silo_that_is_expelled_keeps_its_slot_and_has_none_in_the_next_round_though_it_was_drawn_for_it() -> None:
    story = Federation({EVE: 10, FERDIE: 10})
    story.to_audit()
    assert set(story.training.next_workers[0]) == {EVE.public, FERDIE.public}
    story.chain.call(ALICE, "training.expel_silo", task=0, silo=FERDIE.public)
    story.attest()
    story.next(2)
    assert story.worker(FERDIE).accepted == 1
    assert story.owners() == [EVE]
    with story.chain.unchanged(Training.NotSilo):
        story.declare(FERDIE, 10)


def test_an_owner_that_admits_a_silo_with_less_takes_what_it_had_declared_beyond() -> None:
    story = Federation({EVE: 1_000})
    story.admit(EVE, 40)
    assert [(silo.samples_max, silo.samples) for silo in story.training.silos[0]] == [(40, 40)]


def test_a_harmful_contribution_costs_its_silo_the_forfeit_and_a_pause_and_not_its_bond() -> None:
    story = Federation({CHARLIE: 10, EVE: 10, FERDIE: 10}, rounds=20)
    story.reject(FERDIE)
    assert story.chain.events_of(Training.WorkerSlashed) == [
        Training.WorkerSlashed(FERDIE.public, 0, 0, 2 * POT, SlashReason.HARMFUL)
    ]
    worker = story.worker(FERDIE)
    assert (worker.bond, worker.active, worker.rejected, worker.earned) == (BOND - 2 * POT, True, 1, 0)
    assert story.chain.free(FERDIE) == ENDOWMENT - BOND
    assert story.paused() == {FERDIE.public}
    # It did what it had to, and may take its time to decide whether it goes on.
    assert story.training.seats[FERDIE.public].missing_since == 0
    story.play()  # the round that it had been drawn for ahead
    assert set(story.owners()) == {CHARLIE, EVE}
    story.chain.call(FERDIE, "training.resume", task=0)
    story.play()
    assert set(story.owners()) == {CHARLIE, EVE, FERDIE}


def test_silos_on_whose_contribution_validators_cannot_agree_are_paused_and_the_round_goes_on_without_them() -> None:
    story = Federation({CHARLIE: 10, EVE: 10, FERDIE: 10})
    story.to_audit()
    (slot,) = story.slots_of(FERDIE)
    story.challenge(BOB, slot)
    story.attest(ALICE, BOB)
    story.attest(CHARLIE, DAVE, without=[slot])
    story.next(FEDERATED.audit_blocks + 2)
    assert (story.state().attempt, set(story.owners())) == (1, {CHARLIE, EVE})
    assert story.chain.events_of(Training.WorkerSlashed) == []
    assert story.training.seats[FERDIE.public].missing_since == 0


def commit_to(story: Federation, silo: Keypair, update_root: bytes) -> None:
    (slot,), now = story.slots_of(silo), story.attempt()
    made = commitment_of(silo.public, now["task"], now["round"], now["attempt"], slot, SALT, update_root)
    story.chain.call(silo, "training.commit", **now, slot=slot, commitment=made)


def test_a_silo_that_commits_to_what_another_silo_told_it_cannot_reveal_it() -> None:
    story = Federation({EVE: 10, FERDIE: 10})
    for silo in (EVE, FERDIE):
        commit_to(story, silo, root("the same"))
    story.next()
    story.reveal_one(*story.slots_of(EVE), update_root=root("the same"))
    with story.chain.unchanged(Training.RepeatedUpdate):
        story.reveal_one(*story.slots_of(FERDIE), update_root=root("the same"))


def test_a_silo_cannot_reveal_what_any_revealed_in_the_round_before() -> None:
    story = Federation({EVE: 10, FERDIE: 10}, rounds=3)
    (slot,) = story.slots_of(EVE)
    earlier = story.update_root(slot)
    story.play()
    commit_to(story, EVE, root("something new"))
    commit_to(story, FERDIE, earlier)
    story.next()
    story.reveal_one(*story.slots_of(EVE), update_root=root("something new"))
    with story.chain.unchanged(Training.RepeatedUpdate):
        story.reveal_one(*story.slots_of(FERDIE), update_root=earlier)


def test_in_other_tasks_two_workers_may_reveal_the_same_which_an_audit_judges() -> None:
    story = Story(workers=[EVE], policy=replace(POLICY, slots=2))
    now = story.attempt()
    for slot in (0, 1):
        made = commitment_of(EVE.public, 0, now["round"], now["attempt"], slot, SALT, root("the same"))
        story.chain.call(EVE, "training.commit", **now, slot=slot, commitment=made)
    story.next()
    for slot in (0, 1):
        story.reveal_one(slot, update_root=root("the same"))
    story.next(2)
    assert story.state().phase is Phase.AUDIT


@pytest.mark.parametrize("aggregation", [Median(), CenteredClip(1, 1)], ids=lambda each: type(each).__name__)
def test_only_a_mean_weighs(aggregation: Median | CenteredClip) -> None:
    chain = TestChain()
    policy = replace(FEDERATED, aggregation=aggregation)
    with chain.unchanged(Training.InvalidVerification):
        chain.call(ALICE, "training.create_task", **terms(policy=policy))
    alike = replace(policy, verification=replace(SCORED, weight_max=1))
    chain.call(ALICE, "training.create_task", **terms(policy=alike))
    chain.call(ALICE, "training.create_task", **terms(policy=replace(FEDERATED, aggregation=Mean())))


def test_a_round_waits_until_enough_silos_are_there() -> None:
    story = Federation({EVE: 10, FERDIE: 0, CHARLIE: 10}, silos_min=3)
    story.next(3)
    assert (story.state().phase, story.training.idle_tasks.get()) == (Phase.IDLE, (0,))
    story.declare(FERDIE, 10)
    story.next()
    assert set(story.owners()) == {CHARLIE, EVE, FERDIE}
    story.to_audit()
    story.declare(FERDIE, 0)  # It was drawn for the next round, and takes no part in it.
    story.attest()
    story.next(2)
    assert (story.state().phase, story.state().round) == (Phase.IDLE, 1)
    assert [taken for _, taken in story.seats().values()] == [0, 0, 0]


def test_a_round_cannot_wait_for_more_silos_than_it_has_slots() -> None:
    chain = TestChain()
    policy = replace(FEDERATED, verification=replace(SCORED, silos_min=5))
    with chain.unchanged(Training.InvalidVerification):
        chain.call(ALICE, "training.create_task", **terms(policy=policy))


def test_every_slot_of_a_silo_is_scored() -> None:
    chain = TestChain()
    with chain.unchanged(Training.InvalidVerification):
        policy = replace(FEDERATED, audited_ppm=999_999)
        chain.call(ALICE, "training.create_task", **terms(policy=policy))


def test_a_silo_has_no_slot_for_long_enough_to_remember_anything() -> None:
    chain = TestChain()
    with chain.unchanged(Training.InvalidVerification):
        policy = replace(FEDERATED, codec=TopKFeedback(10_000, 0, 0, 2))
        chain.call(ALICE, "training.create_task", **terms(policy=policy))


def test_who_may_contribute_is_the_owners_word_within_bounds() -> None:
    story = Federation({EVE: 10})
    chain = story.chain
    with chain.unchanged(Training.NotOwner):
        chain.call(BOB, "training.admit_silo", task=0, silo=BOB.public, samples_max=1)
    with chain.unchanged(Training.NotOwner):
        chain.call(BOB, "training.expel_silo", task=0, silo=EVE.public)
    with chain.unchanged(Training.NotSilo):
        chain.call(ALICE, "training.expel_silo", task=0, silo=BOB.public)
    with chain.unchanged(Training.NotSilo):
        story.declare(BOB, 1)
    for samples_max in (0, SAMPLES_MAX + 1):
        with chain.unchanged(Training.InvalidSamples):
            story.admit(BOB, samples_max)
    with chain.unchanged(Training.InvalidSamples):
        story.declare(EVE, 2_001)
    for index in range(SILOS_MAX - 1):
        chain.call(ALICE, "training.admit_silo", task=0, silo=root("silo", index), samples_max=1)
    with chain.unchanged(Training.TooManySilos):
        story.admit(BOB, 1)
    story.admit(EVE, 5)  # One that is there takes no room.
    with chain.unchanged(Training.UnknownTask):
        story.admit(BOB, 1, task=7)
    chain.call(BOB, "training.create_task", **terms())
    with chain.unchanged(Training.NotFederated):
        chain.call(BOB, "training.admit_silo", task=1, silo=EVE.public, samples_max=1)
    with chain.unchanged(Training.NotFederated):
        story.declare(EVE, 1, task=1)


def test_a_task_that_is_cancelled_forgets_its_silos() -> None:
    story = Federation({EVE: 10, FERDIE: 10})
    story.chain.call(ALICE, "training.cancel_task", task=0)
    story.commit(without=[0, 1])
    story.next(POLICY.commit_blocks)
    assert story.training.active_tasks.get() == ()
    assert (dict(story.training.silos.items()), dict(story.training.weights.items())) == ({}, {})


def test_an_owner_that_trains_for_itself_with_silos_of_its_own_gains_nothing() -> None:
    story = Federation({ALICE: 10, BOB: 10, CHARLIE: 10, DAVE: 10}, rounds=1)
    story.play()
    # Even if owner, silos and validators are one: what was minted for them is what was burned, but for the storage.
    chain = story.chain
    issued = sum(chain.free(each) + chain.modules.balances.reserved(each.public) for each in VALIDATORS)
    assert issued == 4 * (ENDOWMENT + STAKE) - story.storage()
