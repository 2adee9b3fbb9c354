"""Rounds of training, told as stories: what each honest or faulty participant does, and what it gets for it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from chain.primitives.seal import bitmap
from runtime.modules import training_transitions
from runtime.modules.training import Training
from runtime.modules.training_types import (
    AGGREGATES_MAX,
    Aggregate,
    ChallengeCount,
    Evaluation,
    Phase,
    ReopenReason,
    RoundRecord,
    SlashReason,
    SlotRecord,
    TaskStatus,
    Worker,
)
from runtime.testing import ALICE, BOB, CHARLIE, DAVE, ENDOWMENT, EVE, FERDIE, POT, STAKE
from tests.runtime.training_kit import (
    EVALUATION,
    POLICY,
    PRICE,
    VALIDATORS,
    Story,
    root,
    terms,
)

BOND = 200 * POT  # of two seats
WORTH = PRICE + POT  # the price and the full emission
EARNED = WORTH * 9 // 10  # without the auditors' share


# --- the whole protocol ---


def test_a_round_in_which_all_are_honest_takes_four_blocks_and_pays_every_slot() -> None:
    story = Story()
    opened = story.state()
    assert (opened.phase, opened.round, opened.attempt) == (Phase.COMMIT, 0, 0)
    assert Counter(slot.worker for slot in opened.slots) == {EVE.public: 2, FERDIE.public: 2}
    height = story.chain.height

    story.commit()
    assert story.state().phase is Phase.REVEAL
    assert all(slot.auditors == () for slot in story.state().slots)
    story.reveal()
    assert story.state().phase is Phase.AUDIT
    assert all(len(slot.auditors) == 2 for slot in story.state().slots)
    story.attest()
    story.next()

    assert story.chain.height == height + 4
    # The next round has begun for those who were drawn while this one was audited.
    assert (story.state().phase, story.state().round, story.state().opened_at) == (Phase.COMMIT, 1, height + 3)
    new_params, new_optimizer = root("params", 0, 0, [0, 1, 2, 3], ""), root("optimizer", 0, 0, [0, 1, 2, 3])
    assert story.training.history[0, 0] == RoundRecord(
        attempt=0,
        params_root=new_params,
        optimizer_root=new_optimizer,
        evaluation=Evaluation(*EVALUATION),
        minted=4 * WORTH,
        emission=POT,
        finalised_at=height + 3,
        slots=tuple(
            SlotRecord(slot.worker, root("update", 0, 0, index), True) for index, slot in enumerate(opened.slots)
        ),
        attesters=tuple(sorted(keypair.public for keypair in VALIDATORS)),
        aggregator=None,
    )
    task = story.task()
    assert (task.round, task.params_root, task.optimizer_root) == (1, new_params, new_optimizer)
    assert (task.escrow, task.minted) == (4 * PRICE, 4 * WORTH)
    for keypair in (EVE, FERDIE):
        assert story.worker(keypair) == Worker(
            BOND, capacity=2, active=True, free_at=0, accepted=2, rejected=0, earned=2 * EARNED
        )
        assert story.chain.free(keypair) == ENDOWMENT - BOND + 2 * EARNED
    assert story.chain.modules.balances.total_issuance.get() == 6 * ENDOWMENT + 4 * STAKE + 4 * POT
    assert (story.state().phase, story.state().round) == (Phase.COMMIT, 1)


def test_the_last_round_completes_the_task_and_releases_what_the_escrow_still_holds() -> None:
    story = Story()
    story.commit(without=[0])
    story.next(5)  # slot 0 is missing: the commit phase lasts to its deadline, and its worker is paused
    story.reveal()
    story.attest()
    story.next()
    story.play()
    task = story.task()
    assert (task.status, task.round, task.escrow, task.minted) == (TaskStatus.COMPLETED, 2, 0, 5 * WORTH)
    assert story.training.active_tasks.get() == ()
    assert story.training.rounds.get(0) is None
    # It is one of four auditors, too.
    assert story.chain.free(ALICE) == ENDOWMENT - 5 * PRICE + 5 * WORTH // 40 - story.storage()
    (completed,) = story.chain.events_of(Training.TaskCompleted)
    assert completed == Training.TaskCompleted(0, task.params_root, 3 * PRICE)
    with story.chain.unchanged(Training.UnknownTask):
        story.chain.call(EVE, "training.commit", task=0, round=2, attempt=0, slot=0, commitment=root())
    story.next(3)


def test_without_a_worker_a_round_waits_and_opens_when_one_comes() -> None:
    story = Story(workers=())
    story.next(20)
    assert (story.state().phase, story.state().attempt) == (Phase.IDLE, 0)
    story.chain.call(EVE, "training.register_worker", capacity=4)
    story.next()
    assert story.state().phase is Phase.COMMIT
    assert story.slots_of(EVE) == [0, 1, 2, 3]
    assert story.state().deadline == story.chain.height + POLICY.commit_blocks


def test_two_tasks_run_at_once_and_do_not_touch_each_other() -> None:
    story = Story(tasks=2)
    story.to_audit(task=1)
    assert (story.state(0).phase, story.state(1).phase) == (Phase.COMMIT, Phase.AUDIT)
    story.attest(task=1)
    story.commit(task=0)
    assert (story.task(0).round, story.task(1).round) == (0, 1)
    story.reveal(task=0)
    story.attest(task=0)
    story.next()
    assert (story.task(0).round, story.task(1).round) == (1, 1)
    assert story.task(0).seed != story.task(1).seed
    assert story.chain.modules.rewards.minted.get() == 8 * WORTH


def test_a_round_has_only_as_many_slots_as_workers_have_seats() -> None:
    story = Story(workers=[EVE], capacity=1)
    assert story.slots_of(EVE) == [0]
    story.chain.call(FERDIE, "training.register_worker", capacity=16)
    story.play()
    # Both were there when the next round was drawn, ahead of its time: EVE with her seat, which she has back by then.
    assert [len(story.slots_of(keypair)) for keypair in (EVE, FERDIE)] == [1, 3]


def test_tasks_that_want_the_same_seats_take_turns() -> None:
    story = Story(workers=[EVE], capacity=1, tasks=3, rounds=4)
    turns = []
    for _ in range(6):
        (task,) = (task for task in range(3) if story.state(task).phase is Phase.COMMIT)
        turns.append(task)
        story.play(task=task)
        story.next()
    assert turns == [0, 1, 2, 0, 1, 2]
    assert [story.task(task).round for task in range(3)] == [2, 2, 2]


def test_a_task_that_nobody_wants_keeps_no_other_from_drawing_ahead() -> None:
    story = Story(tasks=2)
    while not story.paused(1):  # nobody commits to task 1
        if story.state(0).phase is Phase.COMMIT and story.state(0).slots[0].commitment is None:
            story.commit(task=0)
        else:
            story.next()
    assert story.state(1).phase is Phase.IDLE
    story.reveal(task=0)
    assert len(story.training.next_workers[0]) == 4


def test_protocol_calls_that_succeed_are_free_and_those_that_fail_are_not() -> None:
    story = Story()
    slot = story.slots_of(EVE)[0]
    arguments = {**story.attempt(), "slot": slot, "commitment": root()}
    assert story.chain.submit(EVE, "training.commit", **arguments).fee == 0
    again = story.chain.submit(EVE, "training.commit", **arguments)
    assert isinstance(again.error, Training.AlreadyCommitted)
    assert again.fee > 0


def test_what_is_too_much_for_one_block_is_settled_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_transitions, "SETTLED_SLOTS_MAX", 16)
    story = Story(tasks=5, policy=replace(POLICY, commit_blocks=10))
    for task in range(5):
        story.commit(task=task)
    for task in range(5):
        story.reveal(task=task)
    for task in range(5):
        story.attest(task=task)
    story.next()
    assert sorted(story.task(task).round for task in range(5)) == [0, 1, 1, 1, 1]
    story.next()
    assert [story.task(task).round for task in range(5)] == [1] * 5


# --- owners who change their minds ---


def test_a_cancelled_task_ends_with_its_running_round_and_releases_the_rest() -> None:
    story = Story(rounds=10)
    story.commit()
    story.chain.call(ALICE, "training.cancel_task", task=0)
    story.reveal()
    assert story.training.next_workers[0] == ()
    story.attest()
    story.next()
    task = story.task()
    assert (task.status, task.round, task.escrow, task.minted) == (TaskStatus.CANCELLED, 1, 0, 4 * WORTH)
    assert story.chain.events_of(Training.TaskCompleted) == [Training.TaskCompleted(0, task.params_root, 36 * PRICE)]
    assert story.chain.free(ALICE) == ENDOWMENT - 4 * PRICE + 4 * WORTH // 40 - story.storage()
    assert story.training.active_tasks.get() == ()
    story.next(3)


def test_a_task_without_workers_is_cancelled_at_once() -> None:
    story = Story(workers=())
    story.next(5)
    story.chain.call(ALICE, "training.cancel_task", task=0)
    assert (story.task().status, story.task().round) == (TaskStatus.CANCELLED, 0)
    assert story.chain.free(ALICE) == ENDOWMENT - story.storage()
    story.next(2)


def test_a_cancelled_task_is_not_opened_again_when_its_round_fails() -> None:
    story = Story()
    story.commit()
    story.chain.call(ALICE, "training.cancel_task", task=0)
    while story.training.active_tasks.get():
        story.next()
    assert story.chain.events_of(Training.RoundReopened) == [Training.RoundReopened(0, 0, 1, ReopenReason.NO_REVEAL)]
    assert (story.task().status, story.task().escrow) == (TaskStatus.CANCELLED, 0)
    assert story.chain.free(ALICE) == ENDOWMENT - story.storage()
    assert story.worker(EVE).bond == BOND - 10 * POT


def test_when_every_place_is_taken_a_task_that_nobody_trains_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_transitions, "STUCK_BLOCKS", 3)
    story = Story(workers=[EVE], tasks=16, policy=replace(POLICY, slots=1))
    story.next(POLICY.commit_blocks + 1)
    # Fifteen tasks have workers again; task 3 is one that they cannot compute.
    for task in range(16):
        if task != 3:
            story.chain.call(EVE, "training.resume", task=task)
    with story.chain.unchanged(Training.TooManyTasks):
        story.chain.call(BOB, "training.create_task", **terms())
    story.next(3)
    story.chain.call(BOB, "training.create_task", **terms())
    assert (story.task(3).status, story.task(3).escrow) == (TaskStatus.CANCELLED, 0)
    assert story.training.active_tasks.get() == (*range(3), *range(4, 17))
    kept = sum(story.storage(task) for task in range(16) if task != 3)
    assert story.chain.modules.balances.reserved(ALICE.public) == STAKE + 15 * 2 * PRICE + kept
    story.next()


# --- workers that fail ---


def test_a_missing_commitment_costs_the_slot_and_pauses_the_worker_until_it_resumes() -> None:
    story = Story()
    missing = story.slots_of(EVE)
    story.commit(without=missing)
    while story.state().phase is Phase.COMMIT:
        story.next()
    assert story.chain.height == story.chain.events_of(Training.RoundOpened)[0].deadline + 1
    assert story.worker(EVE) == Worker(BOND, capacity=2, active=True, free_at=0, accepted=0, rejected=0, earned=0)
    assert story.paused() == {EVE.public}
    story.reveal()
    story.attest()
    story.next()
    assert [slot.accepted for slot in story.training.history[0, 0].slots] == [
        index not in missing for index in range(4)
    ]
    assert story.slots_of(FERDIE) == [0, 1]

    story.chain.call(EVE, "training.resume", task=0)
    with story.chain.unchanged(Training.AlreadyActive):
        story.chain.call(EVE, "training.resume", task=0)
    with story.chain.unchanged(Training.NotRegistered):
        story.chain.call(BOB, "training.resume", task=0)
    assert not story.paused()


def test_a_task_that_nobody_can_compute_does_not_take_its_workers_away_from_others() -> None:
    story = Story(tasks=2)
    while not story.paused(1):
        if story.state(0).phase is Phase.COMMIT and story.state(0).slots[0].commitment is None:
            story.commit(task=0)
        else:
            story.next()
    assert story.paused(1) == {EVE.public, FERDIE.public}
    story.reveal(task=0)
    story.attest(task=0)
    story.next()
    assert (story.task(0).round, story.state(0).phase, story.state(1).phase) == (1, Phase.COMMIT, Phase.IDLE)
    assert len(story.slots_of(EVE)) == len(story.slots_of(FERDIE)) == 2


def test_a_round_that_nobody_commits_to_opens_again_once_a_worker_resumes() -> None:
    story = Story()
    story.next(POLICY.commit_blocks + 1)
    assert (story.state().phase, story.state().attempt) == (Phase.IDLE, 1)
    assert story.chain.events_of(Training.RoundReopened) == [
        Training.RoundReopened(0, 0, 1, ReopenReason.NO_COMMITMENT)
    ]
    assert story.paused() == {EVE.public, FERDIE.public}
    story.next(3)
    story.chain.call(FERDIE, "training.resume", task=0)
    story.next()
    assert (story.state().phase, story.state().attempt, story.slots_of(FERDIE)) == (Phase.COMMIT, 1, [0, 1])
    assert story.worker(EVE).bond == BOND


def test_a_missing_reveal_costs_bond_and_the_slot_but_not_the_round() -> None:
    story = Story()
    story.commit()
    missing = story.slots_of(EVE)[:1]
    story.reveal(without=missing)
    assert story.state().phase is Phase.REVEAL
    while story.state().phase is Phase.REVEAL:
        story.next()
    assert story.worker(EVE) == Worker(
        BOND - 5 * POT, capacity=2, active=True, free_at=0, accepted=0, rejected=0, earned=0
    )
    assert story.paused() == {EVE.public}
    assert story.chain.events_of(Training.WorkerSlashed) == [
        Training.WorkerSlashed(EVE.public, 0, 0, 5 * POT, SlashReason.NOT_REVEALED)
    ]
    story.attest()
    story.next()
    assert story.task().round == 1
    assert story.worker(EVE).accepted == 1
    assert story.chain.modules.balances.total_issuance.get() == 6 * ENDOWMENT + 4 * STAKE + 3 * POT - 5 * POT


def test_a_round_that_nobody_reveals_opens_again_in_the_same_block() -> None:
    story = Story()
    story.commit()
    story.chain.call(BOB, "training.register_worker", capacity=4)
    while story.state().phase is Phase.REVEAL:
        story.next()
    assert (story.state().phase, story.state().attempt, story.slots_of(BOB)) == (Phase.COMMIT, 1, [0, 1, 2, 3])
    assert [story.worker(keypair).bond for keypair in (EVE, FERDIE)] == [BOND - 10 * POT] * 2


def test_a_worker_that_often_does_not_reveal_is_drawn_no_more_when_its_bond_runs_low() -> None:
    story = Story(workers=[EVE], capacity=1)
    for _ in range(11):
        story.commit()
        while story.state().phase is Phase.REVEAL:
            story.next()
        if story.worker(EVE).active:
            story.chain.call(EVE, "training.resume", task=0)
            story.next()
    free_at = story.chain.height + 600
    assert story.worker(EVE) == Worker(45 * POT, 1, active=False, free_at=free_at, accepted=0, rejected=0, earned=0)
    assert story.seats() == {}
    assert story.chain.events_of(Training.WorkerRetired) == [Training.WorkerRetired(EVE.public, free_at)]
    story.wait_until_free(EVE)
    story.chain.call(EVE, "training.deregister_worker")
    assert story.chain.free(EVE) == ENDOWMENT - 55 * POT
    assert story.chain.events_of(Training.WorkerDeregistered) == [Training.WorkerDeregistered(EVE.public, 45 * POT)]


# --- cheats, challenges, audits ---


def test_a_wrong_gradient_is_challenged_recomputed_by_all_and_slashed() -> None:
    story = Story(capacity=1)
    story.to_audit()
    (wrong,) = story.slots_of(FERDIE)
    story.attest(BOB, CHARLIE)
    story.challenge(DAVE, wrong)
    assert story.state().attestations == ()
    assert story.state().slots[wrong].challenged
    story.attest(without=[wrong])
    story.next()

    record = story.training.history[0, 0]
    assert [slot.accepted for slot in record.slots] == [index != wrong for index in range(2)]
    assert record.minted == WORTH
    assert story.training.challenges[DAVE.public] == ChallengeCount(upheld=1, refuted=0, left=1024, height=0)
    assert story.chain.events_of(Training.ChallengeUpheld) == [
        Training.ChallengeUpheld(0, 0, wrong, DAVE.public, 6 * POT)
    ]
    assert story.chain.events_of(Training.WorkerSlashed) == [
        Training.WorkerSlashed(FERDIE.public, 0, 0, 60 * POT, SlashReason.REJECTED)
    ]
    # Its bond is too low now: it is drawn no more.
    free_at = record.finalised_at + 600
    left = Worker(40 * POT, 1, active=False, free_at=free_at, accepted=0, rejected=1, earned=0)
    assert story.worker(FERDIE) == left
    assert story.chain.free(FERDIE) == ENDOWMENT - 100 * POT
    # It was drawn for the next round, which begins at once without it.
    assert (story.state().phase, story.slots_of(EVE)) == (Phase.COMMIT, [0])
    assert story.state().opened_at == record.finalised_at
    assert story.task().escrow == 7 * PRICE  # the rejected slot's price stays for the owner


def test_a_cheat_who_comes_back_needs_a_whole_new_bond() -> None:
    story = Story(capacity=1)
    story.to_audit()
    story.challenge(ALICE, story.slots_of(EVE)[0])
    story.attest(without=story.slots_of(EVE))
    story.next()
    assert not story.worker(EVE).active
    story.chain.call(EVE, "training.register_worker", capacity=2)
    assert story.worker(EVE) == Worker(BOND, capacity=2, active=True, free_at=0, accepted=0, rejected=1, earned=0)
    assert story.chain.free(EVE) == ENDOWMENT - BOND - 60 * POT


def test_a_refuted_challenge_counts_against_its_challenger_and_the_slot_is_paid() -> None:
    story = Story()
    story.to_audit()
    story.challenge(DAVE, 0)
    story.attest()
    story.next()
    assert story.training.challenges[DAVE.public] == ChallengeCount(upheld=0, refuted=1, left=960, height=0)
    assert story.chain.events_of(Training.ChallengeRefuted) == [Training.ChallengeRefuted(0, 0, 0, DAVE.public)]
    assert all(slot.accepted for slot in story.training.history[0, 0].slots)
    assert story.worker(EVE).bond == story.worker(FERDIE).bond == BOND


def test_when_all_cheat_all_are_slashed_and_the_round_opens_again() -> None:
    story = Story()
    story.to_audit()
    for slot in range(4):
        story.challenge(VALIDATORS[slot], slot)
    story.attest(without=range(4))
    story.next()
    assert (story.task().round, story.state().attempt, story.state().phase) == (0, 1, Phase.IDLE)
    assert story.chain.events_of(Training.RoundReopened) == [
        Training.RoundReopened(0, 0, 1, ReopenReason.NOTHING_ACCEPTED)
    ]
    for keypair in (EVE, FERDIE):
        free_at = story.worker(keypair).free_at
        assert story.worker(keypair) == Worker(
            80 * POT, 2, active=False, free_at=free_at, accepted=0, rejected=2, earned=0
        )
        assert story.chain.free(keypair) == ENDOWMENT - BOND
    assert story.chain.modules.rewards.minted.get() == 0
    assert story.task().escrow == 8 * PRICE
    assert story.training.history.get((0, 0)) is None


def test_drawn_auditors_are_waited_for_until_the_deadline() -> None:
    story = Story(policy=replace(POLICY, auditors_per_slot=3))
    story.to_audit()
    absent = next(
        keypair for keypair in VALIDATORS if any(keypair.public in slot.auditors for slot in story.state().slots)
    )
    story.attest(*[keypair for keypair in VALIDATORS if keypair is not absent])
    deadline = story.state().deadline
    story.chain.run_to(deadline)
    assert (story.state().phase, story.task().round) == (Phase.AUDIT, 0)
    story.next()
    assert story.task().round == 1
    assert story.training.history[0, 0].finalised_at == deadline
    assert story.training.history[0, 0].attesters == tuple(
        sorted(keypair.public for keypair in VALIDATORS if keypair is not absent)
    )


def test_a_silent_auditor_is_not_drawn_again_for_ten_minutes() -> None:
    story = Story(policy=replace(POLICY, audit_blocks=12), rounds=100)
    story.to_audit()
    absent = next(
        keypair for keypair in VALIDATORS if any(keypair.public in slot.auditors for slot in story.state().slots)
    )
    others = [keypair for keypair in VALIDATORS if keypair is not absent]
    story.attest(*others)
    story.chain.run_to(story.state().deadline + 1)
    until = story.training.absent_auditors[absent.public]
    assert until == story.training.history[0, 0].finalised_at + 600
    for _ in range(5):
        story.to_audit()
        assert not any(absent.public in slot.auditors for slot in story.state().slots)
        story.attest(*others)
        round_, height = story.task().round, story.chain.height
        story.next()
        assert story.training.history[0, round_].finalised_at == height
    assert story.training.absent_auditors.get(others[0].public) is None
    story.training.absent_auditors[absent.public] = story.chain.height  # as if the ten minutes were over
    drawn = set()
    for _ in range(5):
        story.to_audit()
        drawn |= {auditor for slot in story.state().slots for auditor in slot.auditors}
        story.attest()
        story.next()
    assert absent.public in drawn


def test_a_challenge_near_the_deadline_makes_nobody_absent() -> None:
    story = Story(policy=replace(POLICY, auditors_per_slot=3))
    story.to_audit()
    story.chain.run_to(story.state().deadline)
    story.challenge(ALICE, 0)
    story.attest(ALICE, BOB, CHARLIE)
    story.next()
    assert story.task().round == 1
    assert list(story.training.absent_auditors.keys()) == []


def test_an_audit_that_never_comes_to_a_quorum_lets_its_workers_go() -> None:
    story = Story()
    story.to_audit()
    deadline = story.state().deadline
    story.attest(ALICE)
    story.chain.run_to(deadline + 10 * POLICY.audit_blocks)
    assert story.state().phase is Phase.AUDIT
    story.next()
    assert (story.state().phase, story.state().attempt) == (Phase.COMMIT, 1)
    assert story.worker(EVE).bond == story.worker(FERDIE).bond == BOND


def test_without_a_quorum_a_round_waits_beyond_its_deadline() -> None:
    story = Story()
    story.to_audit()
    story.attest(ALICE, BOB)
    story.next(POLICY.audit_blocks + 10)
    assert story.state().phase is Phase.AUDIT
    story.attest(CHARLIE)
    story.next()
    assert story.task().round == 1


def test_a_split_vote_opens_the_round_again_after_the_deadline_and_punishes_nobody() -> None:
    story = Story()
    story.to_audit()
    deadline = story.state().deadline
    story.attest(ALICE, BOB)
    story.attest(CHARLIE, DAVE, word="another model")
    story.chain.run_to(deadline)
    assert story.state().phase is Phase.AUDIT
    story.next()
    assert story.chain.events_of(Training.RoundReopened) == [Training.RoundReopened(0, 0, 1, ReopenReason.NO_AGREEMENT)]
    assert story.worker(EVE).bond == story.worker(FERDIE).bond == BOND


def test_a_quorum_that_disagrees_waits_for_the_silent_only_so_long() -> None:
    story = Story()
    story.to_audit()
    deadline = story.state().deadline
    story.attest(ALICE, BOB)
    story.attest(CHARLIE, word="another model")
    story.chain.run_to(deadline + 2 * POLICY.audit_blocks)
    assert story.state().phase is Phase.AUDIT
    story.next()
    assert story.chain.events_of(Training.RoundReopened) == [Training.RoundReopened(0, 0, 1, ReopenReason.NO_AGREEMENT)]


def test_an_update_that_is_gone_is_challenged_even_after_the_deadline() -> None:
    story = Story()
    story.to_audit()
    story.chain.run_to(story.state().deadline + 10)
    story.challenge(ALICE, 2)
    story.attest(without=[2])
    story.next()
    assert [slot.accepted for slot in story.training.history[0, 0].slots] == [True, True, False, True]


def test_a_validator_may_change_its_word_which_then_costs_a_fee() -> None:
    story = Story()
    story.to_audit()
    story.attest(DAVE, word="a mistake")
    story.attest(DAVE)
    assert len(story.state().attestations) == 1
    with story.chain.unchanged(Training.AlreadyAttested):
        story.attest(DAVE)
    accepted = bitmap(range(4), 4)
    arguments = {**story.attempt(), "accepted": accepted, "optimizer_root": root(), "evaluation": (1, 1)}
    first = story.chain.submit(BOB, "training.attest", params_root=root(1), **arguments)
    second = story.chain.submit(BOB, "training.attest", params_root=root(2), **arguments)
    assert (first.error, second.error) == (None, None)
    assert first.fee == 0 < second.fee


def test_loss_and_accuracy_are_the_lower_median_of_those_who_agreed() -> None:
    story = Story()
    story.to_audit()
    for validator, loss, accuracy in ((ALICE, 5, 10), (BOB, 7, 0), (CHARLIE, 6, 1_000_000), (DAVE, 1 << 60, 11)):
        story.attest(validator, evaluation=(loss, accuracy))
    story.next()
    assert story.training.history[0, 0].evaluation == Evaluation(6, 10)


def test_the_first_round_every_so_many_and_the_last_are_evaluated_and_no_others() -> None:
    story = Story(policy=replace(POLICY, evaluate_rounds=3), rounds=6)
    evaluated = []
    assert story.task().last_evaluated is None
    for round_ in range(6):
        story.to_audit()
        wrong = None if story.task().is_evaluated(round_) else EVALUATION
        with story.chain.unchanged(Training.WrongEvaluation):
            story.attest(ALICE, evaluation=wrong)
        story.attest()
        story.next()
        evaluated.append(story.training.history[0, round_].evaluation is not None)
        newest = max(number for number, is_evaluated in enumerate(evaluated) if is_evaluated)
        assert story.task().last_evaluated == newest
    assert evaluated == [True, False, False, True, False, True]


def test_a_silent_aggregator_delays_nothing_and_a_lying_one_decides_nothing_and_is_slashed() -> None:
    story = Story()
    story.chain.call(BOB, "training.register_aggregator")
    story.play()
    assert story.task().round == 1  # nobody aggregated
    story.to_audit()
    story.aggregate(BOB, word="a lie")
    story.attest()
    story.next()
    assert story.task().params_root == root("params", 0, 1, [0, 1, 2, 3], "")
    assert story.training.history[0, 1].aggregator is None
    assert story.chain.events_of(Training.AggregatorSlashed) == [Training.AggregatorSlashed(BOB.public, 0, 1, 60 * POT)]
    # What is left of the bond is too little to be heard again.
    assert BOB.public not in story.training.aggregators
    assert story.chain.modules.balances.reserved(BOB.public) == STAKE


def test_of_many_aggregators_the_first_that_said_what_is_agreed_on_is_paid() -> None:
    story = Story()
    for aggregator in (BOB, CHARLIE, DAVE):
        story.chain.call(aggregator, "training.register_aggregator")
    story.to_audit()
    story.aggregate(BOB, word="a lie")
    story.aggregate(CHARLIE)
    story.aggregate(DAVE)
    story.attest()
    story.next()
    record = story.training.history[0, 0]
    assert (record.aggregator, record.minted) == (CHARLIE.public, 4 * WORTH)
    rewards = story.chain.modules.rewards
    share, total = record.minted // 20, record.minted // 40
    earned = [rewards.earned_by_checking[keypair.public] for keypair in (ALICE, BOB, CHARLIE, DAVE)]
    assert earned == [total, total, total + share, total]
    assert story.worker(EVE).earned == story.worker(FERDIE).earned == record.minted * 85 // 100 // 2


def test_after_a_challenge_an_aggregator_says_anew_what_the_other_slots_make() -> None:
    story = Story()
    for aggregator in (BOB, CHARLIE):
        story.chain.call(aggregator, "training.register_aggregator")
    story.to_audit()
    for aggregator in (BOB, CHARLIE):
        story.aggregate(aggregator)
    story.challenge(ALICE, 2)
    story.aggregate(CHARLIE, without=[2])
    story.attest(without=[2])
    story.next()
    # BOB spoke of other slots, and truly: that is worth nothing, and no lie.
    assert story.training.history[0, 0].aggregator == CHARLIE.public
    assert story.training.aggregators[BOB.public] == 100 * POT


def test_an_attempt_hears_as_many_aggregators_as_it_has_room_for() -> None:
    story = Story()
    full = tuple(Aggregate(bytes((index,)) * 32, b"\x0f", root(), root()) for index in range(AGGREGATES_MAX))
    story.chain.call(BOB, "training.register_aggregator")
    story.to_audit()
    story.training.rounds[0] = replace(story.state(), aggregates=full)
    with story.chain.unchanged(Training.TooManyAggregates):
        story.aggregate(BOB)


def test_a_validator_that_trains_never_audits_its_own_slots() -> None:
    story = Story(workers=[DAVE], policy=replace(POLICY, slots=16, auditors_per_slot=4))
    story.to_audit()
    for slot in story.state().slots:
        assert sorted(slot.auditors) == sorted(keypair.public for keypair in (ALICE, BOB, CHARLIE))


def test_draws_differ_between_rounds_because_the_beacon_does() -> None:
    story = Story(workers=(BOB, CHARLIE, EVE, FERDIE), policy=replace(POLICY, slots=12), rounds=3)
    drawn = []
    for _ in range(3):
        drawn.append(tuple(slot.worker for slot in story.state().slots))
        story.play()
    assert len(set(drawn)) > 1
