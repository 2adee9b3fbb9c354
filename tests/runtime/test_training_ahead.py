"""Two rounds of a task at once: one is audited while the next is trained, and thrown away if the audit says so."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from runtime.modules import training_ahead, training_workers
from runtime.modules.training import Training
from runtime.modules.training_policy import Policy
from runtime.modules.training_types import Model, Phase, ReopenReason, RoundState, SlashReason, TaskStatus
from runtime.testing import ALICE, BOB, CHARLIE, DAVE, ENDOWMENT, EVE, FERDIE, POT
from tests.runtime.test_staking import join
from tests.runtime.test_training import BOND, WORTH
from tests.runtime.test_training_silos import Federation
from tests.runtime.training_kit import POLICY, PRICE, VALIDATORS, Story, root, terms

PATIENT = replace(POLICY, audit_blocks=100)


def begun(*, capacity: int | None = None, policy: Policy = PATIENT) -> Story:
    """A story whose round 0 is in audit while round 1 has begun."""
    story = Story(capacity=capacity, rounds=10, policy=policy)
    story.to_audit()
    story.confirm()
    story.next()
    assert (story.state().phase, story.ahead().phase) == (Phase.AUDIT, Phase.COMMIT)
    return story


def seats(story: Story) -> dict[bytes, int]:
    return {account: taken for account, (_, taken) in story.seats().items()}


# --- what is gained ---


def test_the_next_round_is_trained_while_an_audit_lasts_and_is_audited_right_after() -> None:
    story = begun()
    opened_at = story.chain.height - 1
    ahead = story.ahead()
    assert (ahead.round, ahead.attempt, ahead.opened_at) == (1, 0, opened_at)
    assert story.training.provisional[0] == Model(
        root("params", 0, 0, [0, 1, 2, 3], ""), root("optimizer", 0, 0, [0, 1, 2, 3])
    )
    story.commit()
    story.reveal()
    assert (story.state().round, story.task().round) == (0, 0)  # all of round 1 is revealed, and round 0 is not final
    story.next(20)
    assert story.ahead().phase is Phase.REVEAL  # no audit begins before
    story.attest()
    story.next()
    assert story.training.history[0, 0].finalised_at == story.chain.height - 1
    story.next()
    state = story.state()
    assert (state.round, state.attempt, state.phase, state.opened_at) == (1, 0, Phase.AUDIT, opened_at)
    assert [slot.worker for slot in state.slots] == [slot.worker for slot in ahead.slots]
    assert all(len(slot.auditors) == 2 for slot in state.slots)
    assert 0 not in story.training.rounds_ahead
    story.attest()
    story.next()
    assert (story.task().round, story.task().minted) == (2, 8 * WORTH)


def test_rounds_that_are_confirmed_at_their_last_reveal_take_three_blocks_each() -> None:
    story = Story(rounds=10)
    story.commit()
    for slot in range(4):
        story.reveal_one(slot)
    story.next()
    heights = []
    for _ in range(4):
        # Half of the audits are drawn, and nothing more is revealed.
        assert story.state().phase is Phase.REVEAL
        story.confirm()
        story.next()
        assert (story.state().phase, story.ahead().phase) == (Phase.AUDIT, Phase.COMMIT)
        story.commit()
        story.attest()
        for slot in range(4):
            story.reveal_one(slot)
        story.next()
        heights.append(story.training.history[0, story.task().round - 1].finalised_at)
    assert [after - before for before, after in itertools.pairwise(heights)] == [3, 3, 3]


def test_what_all_confirm_and_attest_in_one_block_is_followed_by_an_ordinary_round() -> None:
    story = Story(rounds=10)
    story.to_audit()
    story.confirm()
    story.attest()
    story.next()
    assert (story.state().round, story.state().attempt, story.state().phase) == (1, 0, Phase.COMMIT)
    assert (story.training.confirmations[0], list(story.training.rounds_ahead.keys())) == ((), [])


def test_without_confirmations_the_next_round_opens_when_the_audit_ends() -> None:
    story = Story(rounds=10, policy=PATIENT)
    story.to_audit()
    story.confirm(ALICE, BOB)  # the others cannot fetch an update
    story.next(30)
    assert 0 not in story.training.rounds_ahead
    story.attest()
    story.next()
    assert (story.state().round, story.state().phase) == (1, Phase.COMMIT)


def test_a_last_round_has_none_after_it() -> None:
    story = Story(rounds=1, policy=PATIENT)
    story.to_audit()
    story.confirm()
    story.next()
    assert 0 not in story.training.rounds_ahead
    story.attest()
    story.next()
    assert story.task().status is TaskStatus.COMPLETED


# --- what is thrown away ---


def test_a_rejected_slot_throws_the_round_ahead_away_and_costs_only_who_cheated() -> None:
    story = begun(capacity=4)
    wrong = story.slots_of(FERDIE)[0]
    rest = [slot for slot in range(4) if slot != wrong]
    drawn = [slot.worker for slot in story.ahead().slots]
    story.commit()
    story.reveal(without=[1])
    story.challenge(DAVE, wrong)
    story.attest(without=[wrong])
    story.next()

    # The model is the one of those who did their work, recomputed from the parameters before.
    task, record = story.task(), story.training.history[0, 0]
    assert task.params_root == record.params_root == root("params", 0, 0, rest, "")
    assert [slot.accepted for slot in record.slots] == [slot != wrong for slot in range(4)]
    assert story.chain.events_of(Training.RoundDiscarded) == [Training.RoundDiscarded(0, 1, 0)]
    assert story.chain.events_of(Training.WorkerSlashed) == [
        Training.WorkerSlashed(FERDIE.public, 0, 0, 60 * POT, SlashReason.REJECTED)
    ]
    assert not story.paused()
    assert (story.worker(EVE).bond, story.worker(FERDIE).bond) == (400 * POT, 340 * POT)
    # Round 1 begins anew in the same block, with data of its own, for who had its slots and has a bond.
    state = story.state()
    assert (state.round, state.attempt, state.phase) == (1, 1, Phase.COMMIT)
    assert [slot.worker for slot in state.slots] == drawn
    assert story.training.next_attempts[0] == 0
    story.play()
    assert (story.task().round, story.training.history[0, 1].attempt) == (2, 1)
    assert (story.state().round, story.state().attempt) == (2, 0)
    assert story.worker(EVE).accepted + story.worker(FERDIE).accepted == 7


def test_what_was_said_to_a_round_that_was_thrown_away_means_nothing_to_the_next_attempt() -> None:
    story = begun()
    late = story.attempt(state=story.ahead())
    slot, worker = 0, story.owner_of(0)
    wrong = story.slots_of(FERDIE)[0]
    story.challenge(DAVE, wrong)
    story.attest(without=[wrong])
    story.next()
    with story.chain.unchanged(Training.WrongAttempt):
        story.chain.call(worker, "training.commit", **late, slot=slot, commitment=root())


def test_a_round_that_opens_again_throws_away_what_was_built_on_it_and_each_attempt_is_a_new_one() -> None:
    story = begun(capacity=8)
    story.commit()
    for slot in range(4):
        story.challenge(VALIDATORS[slot], slot)
    story.attest(without=range(4))
    story.next()
    assert (story.task().round, story.state().attempt, story.state().phase) == (0, 1, Phase.COMMIT)
    assert story.chain.events_of(Training.RoundReopened) == [
        Training.RoundReopened(0, 0, 1, ReopenReason.NOTHING_ACCEPTED)
    ]
    assert (story.training.confirmations[0], list(story.training.rounds_ahead.keys())) == ((), [])
    assert seats(story) == {EVE.public: 2, FERDIE.public: 2}
    story.to_audit()
    story.confirm()
    story.next()
    assert (story.ahead().round, story.ahead().attempt) == (1, 1)
    wrong = story.slots_of(FERDIE)[0]
    story.challenge(DAVE, wrong)
    story.attest(without=[wrong])
    story.next()
    assert (story.state().round, story.state().attempt) == (1, 2)
    story.play()
    assert (story.task().round, story.state().round, story.state().attempt) == (2, 2, 0)


def test_what_was_confirmed_falsely_by_a_quorum_costs_one_round_of_work_and_no_more() -> None:
    story = Story(rounds=10, policy=PATIENT)
    story.to_audit()
    story.confirm(word="a lie")
    story.next()
    story.commit()
    story.attest()
    story.next()
    assert story.task().params_root == root("params", 0, 0, [0, 1, 2, 3], "")
    assert (story.state().round, story.state().attempt) == (1, 1)
    assert story.worker(EVE).bond == story.worker(FERDIE).bond == BOND


# --- nobody loses anything in a round ahead ---


def test_who_is_late_in_a_round_ahead_is_waited_for_until_it_runs_and_then_has_the_whole_time() -> None:
    story = begun(policy=replace(PATIENT, commit_blocks=5))
    missing = story.training.rounds_ahead[0].slots[2].worker
    story.commit(without=[2])
    story.next(50)
    assert story.ahead().phase is Phase.COMMIT
    assert not story.paused()
    story.attest()
    story.next()
    final = story.chain.height - 1
    assert (story.state().round, story.state().phase, story.state().deadline) == (1, Phase.COMMIT, final + 5)
    story.chain.run_to(final + 5)
    assert not story.paused()
    story.next()
    assert story.paused() == {missing}
    assert story.state().phase is Phase.REVEAL


def test_who_does_not_reveal_in_a_round_ahead_is_slashed_only_once_it_runs() -> None:
    story = begun()
    missing = story.ahead().slots[1].worker
    story.commit()
    story.reveal(without=[1])
    story.next(50)
    assert story.training.workers[missing].bond == BOND
    story.attest()
    story.next()
    assert (story.state().phase, story.state().deadline) == (Phase.REVEAL, story.chain.height - 1 + 10)
    story.chain.run_to(story.state().deadline + 2)
    assert story.state().phase is Phase.AUDIT
    assert story.training.workers[missing].bond == BOND - 5 * POT


def test_a_worker_that_leaves_keeps_its_slots_of_both_rounds() -> None:
    story = begun()
    story.chain.call(EVE, "training.deregister_worker")
    story.wait_until_free(EVE)
    with story.chain.unchanged(Training.WorkerAssigned):
        story.chain.call(EVE, "training.deregister_worker")
    story.commit()
    story.reveal()
    story.attest()
    story.next(2)
    with story.chain.unchanged(Training.WorkerAssigned):
        story.chain.call(EVE, "training.deregister_worker")
    story.attest()
    story.next()
    story.chain.call(EVE, "training.deregister_worker")
    assert story.worker(EVE).bond == 0
    assert story.worker(EVE).accepted == 4


def test_a_worker_that_comes_back_still_has_its_slots_of_both_rounds() -> None:
    story = begun()
    story.chain.call(EVE, "training.deregister_worker")
    assert seats(story) == {FERDIE.public: 4}
    story.chain.call(EVE, "training.register_worker", capacity=2)
    assert seats(story) == {EVE.public: 4, FERDIE.public: 4}
    story.next()


def test_who_lost_its_bond_elsewhere_begins_no_round_ahead() -> None:
    story = Story(rounds=10, policy=PATIENT)
    story.to_audit()
    for round_ in range(2):
        training_workers.slash(story.training, EVE.public, 1, round_, SlashReason.REJECTED)
    story.confirm()
    story.next()
    assert 0 not in story.training.rounds_ahead
    assert len(story.training.next_workers[0]) == 4


# --- words on a sum ---


def test_less_than_a_third_can_neither_begin_a_round_on_a_lie_nor_keep_the_others_from_the_truth() -> None:
    story = Story(rounds=10, policy=PATIENT)
    story.to_audit()
    story.confirm(ALICE, word="a lie")
    story.confirm(BOB, CHARLIE)
    story.next()
    assert 0 not in story.training.rounds_ahead
    story.confirm(DAVE)
    story.next()
    assert story.training.provisional[0].params_root == root("params", 0, 0, [0, 1, 2, 3], "")


def test_a_validator_says_one_free_word_in_the_audit_of_an_attempt() -> None:
    story = Story(rounds=10)
    model = {"params_root": root("p"), "optimizer_root": root("o")}
    story.commit()
    for slot in range(4):
        with story.chain.unchanged(Training.WrongPhase):
            story.chain.call(ALICE, "training.confirm", **story.attempt(), **model)
        story.reveal_one(slot)
    story.next()
    with story.chain.unchanged(Training.NotAuthority):
        story.chain.call(EVE, "training.confirm", **story.attempt(), **model)
    with story.chain.unchanged(Training.WrongRound):
        story.chain.call(ALICE, "training.confirm", task=0, round=1, attempt=0, **model)
    assert story.chain.submit(ALICE, "training.confirm", **story.attempt(), **model).fee == 0
    again = story.chain.submit(ALICE, "training.confirm", **story.attempt(), **model)
    assert isinstance(again.error, Training.AlreadyConfirmed)
    assert again.fee > 0


def test_nothing_begins_while_a_slot_is_challenged() -> None:
    story = Story(rounds=10, policy=PATIENT)
    story.to_audit()
    story.challenge(DAVE, 0)
    story.confirm()
    story.next()
    assert 0 not in story.training.rounds_ahead


def test_words_count_only_as_long_as_who_said_them_is_a_validator() -> None:
    story = Story(workers=[FERDIE], rounds=10, policy=PATIENT, sessions={"sessionBlocks": 4, "unbondingSessions": 2})
    join(story.chain, EVE)
    story.to_audit()
    story.confirm(ALICE, BOB)
    story.chain.call(ALICE, "validators.chill")
    story.next(8)
    assert set(story.training.validator_accounts()) == {each.public for each in (BOB, CHARLIE, DAVE, EVE)}
    story.confirm(CHARLIE)
    story.next()
    assert 0 not in story.training.rounds_ahead  # ALICE's word is gone, and two of four are no quorum
    assert [each.validator for each in story.training.confirmations[0]] == [BOB.public, CHARLIE.public]
    with story.chain.unchanged(Training.NotAuthority):
        story.confirm(ALICE)
    story.confirm(EVE)
    story.next()
    assert story.ahead().round == 1
    # What has begun goes on, whoever is a validator when the audit ends.
    story.chain.call(ALICE, "validators.validate")
    story.commit()
    story.next(8)
    assert len(story.training.validator_accounts()) == 5
    story.attest(ALICE, BOB, CHARLIE, DAVE, EVE)
    story.next()
    assert (story.state().round, story.state().attempt, story.state().phase) == (1, 0, Phase.REVEAL)


def test_calls_about_a_round_that_has_not_begun_are_refused() -> None:
    story = begun()
    with story.chain.unchanged(Training.WrongRound):
        story.chain.call(EVE, "training.commit", task=0, round=2, attempt=0, slot=0, commitment=root())
    attempt = story.attempt(state=story.ahead())
    with story.chain.unchanged(Training.WrongPhase):
        story.chain.call(ALICE, "training.challenge", **attempt, slot=0)


# --- owners who change their minds ---


@pytest.mark.parametrize("rejects", [False, True], ids=["audited", "discarded"])
def test_a_cancelled_task_finishes_and_pays_what_has_begun(rejects: bool) -> None:
    story = begun()
    story.commit()
    story.chain.call(ALICE, "training.cancel_task", task=0)
    wrong = story.slots_of(FERDIE)[:1] if rejects else []
    for slot in wrong:
        story.challenge(DAVE, slot)
    story.attest(without=wrong)
    story.next()
    if not rejects:
        assert story.state().round == 1
        story.reveal()
        story.confirm()  # says nothing that anything could follow from
        story.attest()
        story.next()
    task = story.task()
    assert (task.status, task.escrow) == (TaskStatus.CANCELLED, 0)
    assert (task.round, task.minted) == ((1, 3 * WORTH) if rejects else (2, 8 * WORTH))
    assert story.training.active_tasks.get() == ()
    assert [list(each.keys()) for each in (story.training.rounds_ahead, story.training.provisional)] == [[], []]
    spent = (3 if rejects else 8) * PRICE + story.storage()
    assert story.chain.free(ALICE) == ENDOWMENT - spent + task.minted // 40
    story.next(3)


def test_a_task_that_is_cancelled_before_its_next_round_has_begun_ends_with_the_running_one() -> None:
    story = Story(rounds=10, policy=PATIENT)
    story.to_audit()
    story.chain.call(ALICE, "training.cancel_task", task=0)
    story.confirm()
    story.next()
    assert 0 not in story.training.rounds_ahead
    story.attest()
    story.next()
    assert (story.task().status, story.task().round) == (TaskStatus.CANCELLED, 1)


def test_tasks_go_ahead_each_on_its_own() -> None:
    story = Story(tasks=2, rounds=10, policy=PATIENT, capacity=8)
    story.to_audit(task=0)
    story.to_audit(task=1)
    story.confirm(task=1)
    story.next()
    states: list[RoundState | None] = [story.training.rounds_ahead.get(task) for task in (0, 1)]
    assert [state and state.round for state in states] == [None, 1]
    story.chain.call(BOB, "training.create_task", **terms())
    story.commit(task=1)
    story.attest(task=0)
    story.next()
    assert [story.task(task).round for task in (0, 1)] == [1, 0]


def test_a_federated_task_runs_one_round_at_a_time() -> None:
    story = Federation({EVE: 10, FERDIE: 10}, rounds=3)
    story.to_audit()
    story.confirm()
    story.next()
    assert (len(story.training.next_workers[0]), list(story.training.rounds_ahead.keys())) == (2, [])


def test_after_a_round_of_many_slots_any_of_which_may_be_planted_none_begins_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training_ahead, "SLOTS_AHEAD_MAX", 3)
    story = Story(rounds=10, policy=PATIENT)
    story.to_audit()
    story.confirm()
    story.next()
    assert (len(story.state().slots), list(story.training.rounds_ahead.keys())) == (4, [])
