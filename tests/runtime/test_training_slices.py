"""Aggregates that validators check slice by slice: who is drawn, what proves one, and who pays for a dispute."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest

from chain.primitives.keys import Keypair
from chain.primitives.seal import bitmap
from runtime.modules.training import Training
from runtime.modules.training_policy import Policy, Slices
from runtime.modules.training_sizes import SLICES_MAX
from runtime.modules.training_types import (
    ABSENCE_BLOCKS,
    ZERO_HASH,
    Aggregate,
    Dispute,
    Phase,
    SliceWord,
    Trial,
)
from runtime.testing import ALICE, BOB, CHARLIE, DAVE, EVE, FERDIE, POT
from tests.runtime.training_kit import CLAIM, PEOPLE, POLICY, VALIDATORS, Story

SLICED: Policy = replace(POLICY, checks=Slices(1), audit_blocks=20)
COUNT = 7
BOND = 100 * POT  # an aggregator's
STAKE_FINE = 60 * POT


class SliceStory(Story):
    """A story whose aggregates have seven slices; EVE and FERDIE are aggregators, too."""

    def __init__(self, **changes: object) -> None:
        claim = replace(CLAIM, parameters=COUNT * 16_384 - 5)
        super().__init__(**{"policy": SLICED, "storage": claim, **changes})  # type: ignore[arg-type]
        for aggregator in (EVE, FERDIE):
            self.chain.call(aggregator, "training.register_aggregator")

    @property
    def trial(self) -> Trial:
        return self.training.trials[0]

    def drawn(self, validator: Keypair) -> list[int]:
        return [index for index in range(COUNT) if validator.public in self.trial.drawn(index, COUNT)]

    def find(self, validator: Keypair, found: Collection[int], false: int | None = None, **changes: object) -> None:
        """A validator's word on the aggregate that is on trial."""
        claim = self.training.trials.get(0)
        aggregate = claim.aggregate if claim else Aggregate(EVE.public, b"\x0f", ZERO_HASH, ZERO_HASH)
        arguments = {
            "accepted": aggregate.accepted,
            "params_root": aggregate.params_root,
            "optimizer_root": aggregate.optimizer_root,
            "right": bitmap(found, COUNT),
            "wrong": false,
            **changes,
        }
        self.chain.call(validator, "training.find_slices", **self.attempt(), **arguments)

    def to_trial(self, *, word: object = "") -> None:
        """Everything revealed, an aggregate said, and drawn who checks it."""
        self.to_audit()
        self.aggregate(EVE, word=word)
        self.next()
        assert self.trial.order

    def prove(self, *by: Keypair) -> None:
        """Validators (by default all) find right what was drawn for them."""
        for validator in by or VALIDATORS:
            self.find(validator, self.drawn(validator))


@pytest.mark.parametrize("absent", [(), (BOB,), (BOB, DAVE)])
def test_every_slice_is_for_f_and_one_distinct_validators_that_are_present(absent: tuple[Keypair, ...]) -> None:
    story = SliceStory()
    for validator in absent:
        story.training.absent_auditors[validator.public] = 1_000
    story.to_trial()
    assert sorted(story.trial.order) == sorted(each.public for each in VALIDATORS if each not in absent)
    for index in range(COUNT):
        assert (
            len(set(story.trial.drawn(index, COUNT)))
            == len(story.trial.drawn(index, COUNT))
            == story.trial.checkers
            == 2
        )
    shares = sorted(len(story.drawn(each)) for each in VALIDATORS if each not in absent)
    assert sum(shares) == 2 * COUNT
    assert shares[-1] - shares[0] <= 1
    # Whoever checks neighbours reads hardly more than they are.
    for validator in VALIDATORS:
        mine = story.drawn(validator)
        breaks = [index for index in mine if (index + 1) % COUNT not in mine]
        assert len(breaks) <= 1


def test_where_too_few_are_present_every_validator_may_be_drawn() -> None:
    story = SliceStory()
    for validator in (BOB, CHARLIE, DAVE):
        story.training.absent_auditors[validator.public] = 1_000
    story.to_trial()
    assert len(story.trial.order) == 4


def test_checkers_are_drawn_by_a_beacon_that_came_after_the_aggregate() -> None:
    story = SliceStory()
    story.to_audit()
    story.aggregate(EVE)
    assert story.trial.order == ()
    with story.chain.unchanged(Training.NotOnTrial):
        story.find(ALICE, [0])
    before = story.chain.modules.validators.randomness()
    story.next()
    assert story.chain.modules.validators.randomness() != before
    assert len(story.trial.order) == 4


def test_an_aggregate_is_proven_once_all_drawn_validators_found_their_slices_right_and_the_next_round_begins() -> None:
    story = SliceStory(rounds=3)
    story.to_trial()
    aggregate = story.trial.aggregate
    story.prove(ALICE, BOB, CHARLIE)
    assert story.training.proven[0] == ()
    assert 0 not in story.training.rounds_ahead
    story.prove(DAVE)
    assert list(story.training.proven[0]) == [aggregate]
    assert 0 not in story.training.trials
    story.next()
    assert story.ahead().phase is Phase.COMMIT
    assert story.training.provisional[0].params_root == aggregate.params_root
    story.attest()
    story.next()
    assert (story.task().params_root, story.task().round) == (aggregate.params_root, 1)
    assert story.training.history[0, 0].aggregator == EVE.public
    assert story.training.proven[0] == ()
    assert story.state().round == 1  # kept


def test_an_aggregate_may_be_said_as_soon_as_reveals_are_closed() -> None:
    story = SliceStory()
    story.commit()
    for index in range(4):
        story.reveal_one(index)
    while 0 not in story.training.first_beacons:
        with story.chain.unchanged(Training.WrongPhase):
            story.aggregate(EVE)
        story.next()
    assert story.state().phase is Phase.REVEAL
    story.aggregate(EVE)
    story.next()
    assert story.state().phase is Phase.AUDIT
    story.prove()
    assert len(story.training.proven[0]) == 1


def test_f_validators_and_a_lying_aggregator_prove_nothing() -> None:
    story = SliceStory()
    story.to_trial(word="false")
    everything = range(COUNT)
    story.find(BOB, everything)
    # The honest ones have not spoken yet, and one of two that were drawn for each slice is one of them.
    assert story.training.proven[0] == ()
    for honest in (ALICE, CHARLIE, DAVE):
        slices = [index for index in story.drawn(honest) if index != 3]
        story.find(honest, slices, 3)
    assert story.training.proven[0] == ()
    assert story.training.trials.get(0) is None


def test_a_false_aggregate_costs_its_aggregator_and_the_first_to_say_so_earns() -> None:
    story = SliceStory()
    story.to_trial(word="false")
    free = {validator: story.chain.free(validator) for validator in VALIDATORS}
    stake = story.chain.modules.validators.stakes[BOB.public].active
    story.find(BOB, range(COUNT))
    story.find(ALICE, [], 3)
    assert story.chain.free(ALICE) == free[ALICE] - 5 * POT
    assert story.trial.disputes == (Dispute(ALICE.public, 3),)
    story.next()
    story.find(CHARLIE, [], 3)
    story.find(DAVE, [2], 3)
    assert story.training.aggregators.get(EVE.public) is None  # 40 of 100 POT are no bond
    assert story.chain.free(ALICE) == free[ALICE] + 6 * POT
    assert (story.chain.free(CHARLIE), story.chain.free(DAVE)) == (free[CHARLIE], free[DAVE])
    # Who found right what f + 1 others did not has lied.
    assert story.chain.modules.validators.stakes[BOB.public].active == stake - STAKE_FINE
    assert (story.training.trials.get(0), story.state().aggregates) == (None, ())
    story.next()
    story.aggregate(FERDIE)
    story.next()
    story.prove()
    story.attest()
    story.next()
    assert story.training.history[0, 0].aggregator == FERDIE.public
    assert story.training.aggregators[FERDIE.public] == BOND


def test_validators_that_dispute_different_slices_refute_an_aggregate_together() -> None:
    story = SliceStory()
    story.to_trial(word="false")
    stakes = {each: story.chain.modules.validators.stakes[each.public].active for each in VALIDATORS}
    story.find(ALICE, [], 0)
    story.find(BOB, [0], 1)
    story.find(CHARLIE, [], 2)
    assert story.training.aggregators.get(EVE.public) is None
    # No slice is proven wrong by f + 1, so that nobody is known to have lied.
    assert {each: story.chain.modules.validators.stakes[each.public].active for each in VALIDATORS} == stakes


def test_the_next_aggregate_that_was_said_is_tried_once_the_first_is_refuted() -> None:
    story = SliceStory()
    story.to_audit()
    story.aggregate(EVE, word="false")
    story.aggregate(FERDIE)
    story.next()
    for validator in (ALICE, BOB, CHARLIE):
        story.find(validator, [], 6)
    assert (story.trial.aggregate.aggregator, story.trial.order) == (FERDIE.public, ())
    story.next()
    story.prove()
    assert [each.aggregator for each in story.training.proven[0]] == [FERDIE.public]


def test_a_false_dispute_costs_its_bond_and_delays_nothing() -> None:
    story = SliceStory()
    story.to_trial()
    liar = PEOPLE[story.trial.drawn(3, COUNT)[0]]
    honest = [each for each in VALIDATORS if each is not liar]
    free = story.chain.free(liar)
    story.find(liar, [], 3)
    story.prove(*honest)
    # What is disputed is for everybody, and what the liar has not looked at is for others.
    for each in honest:
        story.find(each, [index for index in range(COUNT) if index not in known(story, each)])
    assert len(story.training.proven[0]) == 1
    story.next()
    assert story.chain.free(liar) == free - 5 * POT
    assert story.training.challenges[liar.public].refuted == 1
    assert story.training.aggregators[EVE.public] == BOND


def known(story: SliceStory, validator: Keypair) -> list[int]:
    words = [word for word in story.trial.words if word.validator == validator.public]
    return [index for index in range(COUNT) if words and words[0].right[0] >> index & 1]


def test_a_refuted_dispute_may_not_be_said_again_and_another_has_a_bond_of_its_own() -> None:
    story = SliceStory()
    story.to_trial()
    free = story.chain.free(DAVE)
    story.find(DAVE, [], 3)
    for validator in (ALICE, BOB, CHARLIE):
        story.find(validator, [3])
    assert (story.trial.disputes, story.chain.free(DAVE)) == ((), free - 5 * POT)
    with story.chain.unchanged(Training.AlreadyChecked):
        story.find(DAVE, [], 3)
    story.find(DAVE, [], 4)
    assert story.chain.free(DAVE) == free - 10 * POT


def test_whoever_is_silent_is_replaced_by_a_quorum_of_others() -> None:
    story = SliceStory()
    story.to_trial()
    story.prove(ALICE, BOB, CHARLIE)
    assert list(story.training.proven[0]) == []
    story.next(SLICED.audit_blocks // 8)
    for validator in (ALICE, BOB, CHARLIE):
        rest = [index for index in range(COUNT) if index not in known(story, validator)]
        story.find(validator, rest)
    assert len(story.training.proven[0]) == 1
    # It could delay every round otherwise, though it attests each of them.
    assert story.training.absent_auditors[DAVE.public] == story.chain.height + ABSENCE_BLOCKS
    assert [story.training.absent_auditors[each.public] for each in (ALICE, BOB, CHARLIE)] == [0, 0, 0]


def test_who_is_outrun_is_not_called_silent() -> None:
    story = SliceStory()
    story.to_trial()
    for validator in (ALICE, BOB, CHARLIE):
        story.find(validator, range(COUNT))
    assert len(story.training.proven[0]) == 1
    assert story.training.absent_auditors[DAVE.public] == 0


def test_a_round_that_is_final_first_settles_its_disputes_by_what_it_became() -> None:
    for word, left in (("", -5 * POT), ("false", 0)):
        story = SliceStory()
        story.to_trial(word=word)
        free = story.chain.free(DAVE)
        story.find(DAVE, [], 1)
        story.attest()
        earned = story.chain.modules.rewards.earned_by_checking[DAVE.public]
        story.next()
        earned = story.chain.modules.rewards.earned_by_checking[DAVE.public] - earned
        assert story.chain.free(DAVE) == free + left + earned
        # What was not proven saved nobody the work, and is not paid; what is false costs its bond as ever.
        assert story.training.history[0, 0].aggregator is None
        assert (EVE.public in story.training.aggregators) == (word == "")
        assert story.training.trials.get(0) is None


def test_an_attempt_that_fails_gives_the_bonds_of_disputes_back() -> None:
    story = SliceStory()
    story.to_trial()
    free = story.chain.free(DAVE)
    story.find(DAVE, [], 1)
    for number, validator in enumerate(VALIDATORS):
        story.attest(validator, word=number)
    while story.state().attempt == 0:
        story.next()
    assert story.chain.free(DAVE) == free
    assert story.training.trials.get(0) is None


def test_a_challenged_slot_has_an_aggregate_without_it_tried_and_both_stay_proven() -> None:
    story = SliceStory()
    story.to_trial()
    story.prove()
    story.challenge(ALICE, 2)
    story.aggregate(EVE, without=[2])
    story.next()
    assert story.trial.aggregate.accepted == bitmap([0, 1, 3], 4)
    story.prove()
    assert [each.accepted for each in story.training.proven[0]] == [b"\x0f", bitmap([0, 1, 3], 4)]
    story.attest(without=[2])
    story.next()
    assert story.training.history[0, 0].aggregator == EVE.public


def test_an_aggregate_that_is_right_and_was_never_proven_keeps_its_aggregator_unheard_for_a_while() -> None:
    story = SliceStory(rounds=3)
    story.to_trial()
    story.next(10)  # Nobody could fetch it, and so validators added up everything.
    story.attest()
    story.next()
    height = story.training.unheard_aggregators[EVE.public]
    assert height - ABSENCE_BLOCKS == story.training.history[0, 0].finalised_at
    story.to_audit()
    with story.chain.unchanged(Training.AggregatorUnheard):
        story.aggregate(EVE)
    story.aggregate(FERDIE)


def test_an_aggregate_that_nobody_can_check_is_tried_for_its_turn_alone_while_others_wait() -> None:
    story = SliceStory()
    story.to_audit()
    story.aggregate(EVE, word="nowhere")
    story.next()
    assert story.trial.aggregate.aggregator == EVE.public
    story.find(DAVE, [], 0)
    story.next(2 * SLICED.audit_blocks // 4)
    assert story.trial.aggregate.aggregator == EVE.public
    free = story.chain.free(DAVE)
    story.aggregate(FERDIE)
    story.next()
    assert (story.trial.aggregate.aggregator, story.trial.disputes) == (FERDIE.public, ())
    assert story.chain.free(DAVE) == free + 5 * POT
    assert story.trial.order
    story.next(SLICED.audit_blocks // 4)
    assert story.trial.aggregate.aggregator == EVE.public
    story.attest()
    story.next()
    assert EVE.public not in story.training.aggregators
    assert story.training.aggregators[FERDIE.public] == BOND


def test_an_aggregator_on_trial_cannot_leave() -> None:
    story = SliceStory()
    story.to_trial(word="false")
    story.aggregate(EVE)  # replaces its word, and not the trial
    assert story.trial.aggregate not in story.state().aggregates
    with story.chain.unchanged(Training.AggregatorEngaged):
        story.chain.call(EVE, "training.deregister_aggregator")
    story.attest()
    story.next()
    assert story.training.aggregators.get(EVE.public) is None


def test_words_that_say_nothing_or_contradict_are_refused() -> None:
    story = SliceStory()
    with story.chain.unchanged(Training.WrongPhase):
        story.find(ALICE, [0])
    story.to_trial()
    with story.chain.unchanged(Training.NotAuthority):
        story.find(EVE, [0])
    for changes, error in (
        ({"right": b""}, Training.InvalidBitmap),
        ({"right": b"\x80"}, Training.InvalidBitmap),
        ({"params_root": ZERO_HASH}, Training.NotOnTrial),
        ({"accepted": b"\x07"}, Training.NotOnTrial),
        ({"right": b"\0"}, Training.AlreadyChecked),
        ({"wrong": COUNT}, Training.UnknownSlice),
        ({"wrong": 0}, Training.Contradiction),
    ):
        with story.chain.unchanged(error):
            story.find(ALICE, [0, 1], **changes)
    story.find(ALICE, [0, 1], 2)
    for right, wrong, error in (
        ([0], None, Training.AlreadyChecked),
        ([2], None, Training.Contradiction),
        ([3], 1, Training.Contradiction),
        ([3], 4, Training.AlreadyChecked),
    ):
        with story.chain.unchanged(error):
            story.find(ALICE, right, wrong)
    story.find(ALICE, [3])
    assert story.trial.words == (SliceWord(ALICE.public, bitmap([0, 1, 3], COUNT)),)


def test_a_task_whose_validators_add_up_all_has_no_trials() -> None:
    story = Story()
    story.chain.call(EVE, "training.register_aggregator")
    story.to_audit()
    story.aggregate(EVE)
    story.next()
    assert story.training.trials.get(0) is None
    assert SLICES_MAX == 256
