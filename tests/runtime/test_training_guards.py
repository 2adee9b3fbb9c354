"""Calls that the training protocol refuses: each leaves the state root as it was."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from runtime.modules import training_workers
from runtime.modules.training import Training
from runtime.modules.training_policy import (
    BOUNDS,
    Adam,
    CenteredClip,
    ClipNorm,
    ClipValue,
    Constant,
    Cosine,
    Descent,
    Int8,
    Int8Momentum,
    Int16,
    Krum,
    Linear,
    LocalSteps,
    Mean,
    Median,
    MultiKrum,
    Nesterov,
    Recompute,
    Schedule,
    Scored,
    Sgd,
    Slices,
    Staircase,
    TopK,
    TopKFeedback,
    TrimmedMean,
    Whole,
)
from runtime.modules.training_types import (
    LEAVE_BLOCKS,
    SEATS_MAX,
    ZERO_HASH,
    Aggregate,
    ChallengeCount,
    Phase,
    TaskStatus,
    Worker,
    commitment_of,
)
from runtime.testing import ALICE, BOB, CHARLIE, DAVE, ENDOWMENT, EVE, FERDIE, POT, STAKE, TestChain
from tests.runtime.training_kit import (
    ADAM,
    CLAIM,
    POLICY,
    PRICE,
    SALT,
    Story,
    root,
    terms,
)

BOND = 200 * POT  # of two seats
MISSING_BLOCKS = 60


@pytest.fixture(autouse=True)
def _minute_for_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is missed for ten minutes is given up after one: a block is executed and all of the state looked at."""
    monkeypatch.setattr(training_workers, "MISSING_BLOCKS", MISSING_BLOCKS)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"name": b""}, Training.InvalidName),
        ({"name": b"x" * 65}, Training.InvalidName),
        ({"name": b"\xff"}, Training.InvalidName),
        ({"name": b"red \x1b[31m"}, Training.InvalidName),
        ({"policy": replace(POLICY, auditors_per_slot=5)}, Training.InvalidPolicy),
        ({"rounds": 0}, Training.InvalidRounds),
        ({"rounds": 1_000_001}, Training.InvalidRounds),
        ({"price_per_slot": POT // 1000 - 1}, Training.PriceTooLow),
    ],
)
def test_a_task_outside_the_bounds_is_refused(changes: dict[str, object], error: type[Exception]) -> None:
    chain = TestChain()
    with chain.unchanged(error):  # type: ignore[arg-type]
        chain.call(ALICE, "training.create_task", **terms(**changes))


# A right one of each record that an owner can choose, and where in a task's terms it belongs.
CHOICES: list[object] = [
    *(Sgd(1, 0), Adam(1, 0, 0, 1), Nesterov(1, 0)),
    *(Constant(), Linear(1, 0), Cosine(1, 0), Staircase(1, 0), Schedule(0), ClipValue(1), ClipNorm(1)),
    *(Descent(Sgd(1, 0)), Int8(), Int16(), TopK(1, 0), TopKFeedback(1, 0, 0, 2), Int8Momentum(1, 2)),
    LocalSteps(1, Descent(Sgd(1, 0))),
    *(Mean(), Median(), TrimmedMean(0), Krum(0), MultiKrum(0), CenteredClip(1, 1)),
    *(Recompute(), Scored(1_000, 0, 1, 1), Whole(), Slices(1), POLICY),
]


def chosen(choice: object) -> tuple[dict[str, object], type[Exception]]:
    """Terms with this choice in them, and what is raised when it is out of bounds."""
    match choice:
        case Sgd() | Adam() | Nesterov():
            return terms(optimizer=Descent(choice)), Training.InvalidOptimizer
        case Schedule():
            return terms(optimizer=Descent(Sgd(1, 0), choice)), Training.InvalidOptimizer
        case Constant() | Linear() | Cosine() | Staircase():
            return terms(optimizer=Descent(Sgd(1, 0), Schedule(0, choice))), Training.InvalidOptimizer
        case ClipValue() | ClipNorm():
            return terms(optimizer=Descent(Sgd(1, 0), clip=choice)), Training.InvalidOptimizer
        case Descent():
            return terms(optimizer=choice), Training.InvalidOptimizer
        case Int8() | Int16() | TopK() | TopKFeedback() | Int8Momentum():
            return terms(policy=replace(POLICY, codec=choice)), Training.InvalidCodec
        case LocalSteps():
            return terms(policy=replace(POLICY, local_steps=choice)), Training.InvalidLocalSteps
        case Mean() | Median() | TrimmedMean() | Krum() | MultiKrum() | CenteredClip():
            return terms(policy=replace(POLICY, aggregation=choice)), Training.InvalidAggregation
        case Recompute() | Scored():
            return terms(policy=replace(POLICY, verification=choice)), Training.InvalidVerification
        case Whole() | Slices():
            return terms(policy=replace(POLICY, checks=choice)), Training.InvalidChecks
        case _:
            return terms(policy=choice), Training.InvalidPolicy


def test_every_number_that_an_owner_chooses_has_bounds_and_is_refused_beyond_them() -> None:
    assert {type(choice) for choice in CHOICES} == set(BOUNDS)
    chain = TestChain()
    for choice in CHOICES:
        numbers = {field.name for field in fields(choice) if type(getattr(choice, field.name)) is int}  # type: ignore[arg-type]
        assert numbers == set(BOUNDS[type(choice)])
        for name, (low, high) in BOUNDS[type(choice)].items():
            for value in (low - 1, high + 1):
                arguments, error = chosen(replace(choice, **{name: value}))  # type: ignore[type-var]
                with chain.unchanged(error):  # type: ignore[arg-type]
                    chain.call(ALICE, "training.create_task", **arguments)


def test_the_inner_optimiser_of_local_steps_keeps_the_same_bounds() -> None:
    chain = TestChain()
    for inner in (
        Descent(Sgd(0, 0)),
        Descent(Sgd(1, 0), Schedule(0, Linear(0, 0))),
        Descent(Sgd(1, 0), clip=ClipNorm(0)),
        Descent(Sgd(1, 0), weight_decay=10**12 + 1),
    ):
        policy = replace(POLICY, local_steps=LocalSteps(8, inner))
        with chain.unchanged(Training.InvalidLocalSteps):
            chain.call(ALICE, "training.create_task", **terms(policy=policy))


def test_top_k_is_for_the_mean_alone() -> None:
    chain = TestChain()
    for aggregation in (Median(), TrimmedMean(1), Krum(1), MultiKrum(1), CenteredClip(1, 1)):
        policy = replace(POLICY, codec=TopK(10_000, 0), aggregation=aggregation)
        with chain.unchanged(Training.InvalidAggregation):
            chain.call(ALICE, "training.create_task", **terms(policy=policy))
        chain.call(ALICE, "training.create_task", **terms(policy=replace(policy, codec=Int16())))
    policy = replace(POLICY, codec=TopK(10_000, 0), aggregation=Mean())
    chain.call(ALICE, "training.create_task", **terms(policy=policy))
    assert chain.modules.training.tasks[5].policy == policy


def test_slices_are_for_what_can_be_added_up_slice_by_slice_and_are_not_too_many() -> None:
    chain = TestChain()
    policy = replace(POLICY, checks=Slices(1))
    refused = [
        replace(policy, codec=TopK(10_000, 0)),
        replace(policy, codec=TopKFeedback(10_000, 0, 0, 2)),
        replace(policy, aggregation=Krum(1)),
        replace(policy, aggregation=MultiKrum(1)),
        replace(policy, aggregation=CenteredClip(1, 1)),
        replace(policy, verification=Scored(1_000, 0, 1, 1)),
    ]
    for each in refused:
        with chain.unchanged(Training.InvalidChecks):
            chain.call(ALICE, "training.create_task", **terms(policy=each))
    with chain.unchanged(Training.InvalidChecks):
        chain.call(ALICE, "training.create_task", **terms(policy=policy, optimizer=replace(ADAM, clip=ClipNorm(1))))
    too_many = replace(CLAIM, parameters=256 * 16_384 + 1)
    with chain.unchanged(Training.InvalidChecks):
        chain.call(ALICE, "training.create_task", **terms(policy=policy, storage=too_many))
    taken = [replace(policy, codec=codec) for codec in (Int8(), Int16(), Int8Momentum(1, 2))]
    taken += [replace(policy, aggregation=aggregation) for aggregation in (Median(), TrimmedMean(1))]
    for each in taken:
        chain.call(ALICE, "training.create_task", **terms(policy=each))
    chain.call(ALICE, "training.create_task", **terms(policy=replace(policy, checks=Slices(2)), storage=too_many))


def test_a_task_reserves_its_whole_escrow_or_is_refused() -> None:
    chain = TestChain()
    with chain.unchanged(type(chain.modules.balances).InsufficientBalance):
        chain.call(ALICE, "training.create_task", **terms(price_per_slot=90 * POT, rounds=1_000_000))
    with chain.unchanged(Training.PriceTooHigh):
        chain.call(ALICE, "training.create_task", **terms(price_per_slot=(1 << 128) - 1, rounds=1_000_000))
    chain.call(ALICE, "training.create_task", **terms(optimizer=Descent(Sgd(10**9, 0)), rounds=1_000))
    task = chain.modules.training.tasks[0]
    kept = chain.modules.training.storage[0].deposit
    assert task.escrow == 4 * 1_000 * PRICE == chain.modules.balances.reserved(ALICE.public) - STAKE - kept
    assert (task.round, task.optimizer_root, task.status) == (0, ZERO_HASH, TaskStatus.ACTIVE)


@pytest.mark.parametrize(
    ("auditors", "audited_ppm", "price_max"),
    [
        (1, 1_000_000, 21_500_000_000_000),
        (2, 1_000_000, 98 * POT),
        (1, 500_000, 4_755_813_953_488),
        # Below one POT the emission is as much again.
        (1, 100_000, 402_029_073_288),
    ],
)
def test_a_slot_is_worth_no_more_than_its_audits_protect(auditors: int, audited_ppm: int, price_max: int) -> None:
    chain = TestChain()
    policy = replace(POLICY, auditors_per_slot=auditors, audited_ppm=audited_ppm)
    with chain.unchanged(Training.PriceTooHigh):
        chain.call(ALICE, "training.create_task", **terms(policy=policy, price_per_slot=price_max + 1))
    chain.call(ALICE, "training.create_task", **terms(policy=policy, price_per_slot=price_max))


def test_nothing_is_revealed_once_the_first_draw_of_the_audits_was_made() -> None:
    story = Story()
    late = story.slots_of(EVE)[0]
    story.commit()
    story.reveal(without=[late])
    while 0 not in story.training.first_beacons:
        assert story.state().phase is Phase.REVEAL
        story.next()
    with story.chain.unchanged(Training.RevealsClosed):
        story.reveal_one(late)
    story.next()
    assert story.state().phase is Phase.AUDIT
    assert 0 not in story.training.first_beacons


def test_only_so_many_tasks_run_at_once() -> None:
    story = Story(tasks=16)
    with story.chain.unchanged(Training.TooManyTasks):
        story.chain.call(BOB, "training.create_task", **terms())


def test_a_worker_registers_once_with_a_bond_it_can_pay_and_has_it_back_some_time_after_it_left() -> None:
    story = Story(workers=[EVE], capacity=1)
    with story.chain.unchanged(Training.AlreadyRegistered):
        story.chain.call(EVE, "training.register_worker", capacity=1)
    with story.chain.unchanged(Training.NotRegistered):
        story.chain.call(BOB, "training.deregister_worker")
    story.chain.call(BOB, "training.register_worker", capacity=1)
    story.chain.call(BOB, "training.deregister_worker")
    with story.chain.unchanged(Training.BondWaits):
        story.chain.call(BOB, "training.deregister_worker")
    story.wait_until_free(BOB)
    story.chain.call(BOB, "training.deregister_worker")
    assert story.chain.free(BOB) == ENDOWMENT
    assert story.training.workers.get(BOB.public) is None
    poor = story.chain.free(CHARLIE) - 100 * POT
    story.chain.call(CHARLIE, "balances.transfer_keep_alive", dest=DAVE, value=poor)
    with story.chain.unchanged(type(story.chain.modules.balances).Expendability):
        story.chain.call(CHARLIE, "training.register_worker", capacity=1)


def test_a_worker_bonds_for_each_slot_of_its_capacity_which_may_grow() -> None:
    story = Story(workers=[EVE], capacity=2)
    for capacity in (0, 17):
        with story.chain.unchanged(Training.InvalidCapacity):
            story.chain.call(BOB, "training.register_worker", capacity=capacity)
    story.chain.call(BOB, "training.register_worker", capacity=2)
    assert story.chain.free(BOB) == ENDOWMENT - 200 * POT
    with story.chain.unchanged(Training.AlreadyRegistered):
        story.chain.call(BOB, "training.register_worker", capacity=2)
    story.chain.call(BOB, "training.register_worker", capacity=16)
    assert story.worker(BOB) == Worker(16 * 100 * POT, 16, active=True, free_at=0, accepted=0, rejected=0, earned=0)
    assert story.seats() == {EVE.public: (2, 2), BOB.public: (16, 0)}


def test_a_worker_is_drawn_no_more_once_it_lacks_half_of_its_bond_and_not_before() -> None:
    story = Story(workers=[EVE], capacity=2, rounds=9)
    for bond, active in ((140, True), (80, False)):
        story.to_audit()
        story.challenge(ALICE, 0)
        story.attest(without=[0])
        story.next(2)
        assert (story.worker(EVE).bond, story.worker(EVE).active) == (bond * POT, active)


def test_a_worker_that_leaves_finishes_the_slots_that_it_was_drawn_for() -> None:
    story = Story(workers=[EVE], rounds=5)
    story.to_audit()
    assert story.training.next_workers[0] == (EVE.public,) * 4
    story.chain.call(BOB, "training.register_worker", capacity=4)
    story.chain.call(EVE, "training.deregister_worker")
    free_at = story.chain.height + 600
    assert story.worker(EVE) == Worker(2 * BOND, 4, active=False, free_at=free_at, accepted=0, rejected=0, earned=0)
    assert story.seats() == {BOB.public: (4, 0)}
    story.attest()
    story.next()
    # It was drawn for this round before it wanted to leave: nobody draws again because of it.
    assert story.slots_of(EVE) == [0, 1, 2, 3]
    with story.chain.unchanged(Training.WorkerAssigned):
        story.chain.call(EVE, "training.deregister_worker")
    story.play()
    assert story.slots_of(BOB) == [0, 1, 2, 3]
    assert story.worker(EVE).accepted == 8
    before = story.chain.free(EVE)
    story.wait_until_free(EVE)
    story.chain.call(EVE, "training.deregister_worker")
    assert story.chain.free(EVE) == before + 2 * BOND


def test_a_worker_that_wanted_to_leave_may_stay_and_makes_its_bond_whole() -> None:
    story = Story(workers=[EVE, FERDIE])
    story.commit()
    story.reveal(without=story.slots_of(EVE)[:1])
    while story.state().phase is Phase.REVEAL:
        story.next()
    story.chain.call(EVE, "training.deregister_worker")
    assert story.worker(EVE).bond == BOND - 5 * POT
    story.chain.call(EVE, "training.register_worker", capacity=2)
    assert story.worker(EVE) == Worker(BOND, capacity=2, active=True, free_at=0, accepted=0, rejected=0, earned=0)
    assert set(story.seats()) == {EVE.public, FERDIE.public}


def test_a_worker_of_which_nothing_was_heard_for_ten_minutes_after_a_miss_makes_room() -> None:
    story = Story(workers=[EVE], tasks=2)
    while not story.paused() & story.paused(1):
        story.next()
    missing_since = story.training.seats[EVE.public].missing_since
    story.chain.run_to(missing_since + MISSING_BLOCKS - 1)
    assert story.worker(EVE).active
    story.next()
    free_at = missing_since + MISSING_BLOCKS + LEAVE_BLOCKS
    bond, capacity = 8 * 100 * POT, 8
    assert story.worker(EVE) == Worker(bond, capacity, active=False, free_at=free_at, accepted=0, rejected=0, earned=0)
    assert (story.seats(), story.training.seat_count.get()) == ({}, 0)
    assert story.chain.events_of(Training.WorkerRetired) == [Training.WorkerRetired(EVE.public, free_at)]
    # Back again it is paused as it was, and has as long as before to say that it is there.
    story.chain.call(EVE, "training.register_worker", capacity=capacity)
    assert EVE.public in story.paused() & story.paused(1)
    story.next(MISSING_BLOCKS)
    assert story.worker(EVE).active


def test_who_resumes_or_has_a_slot_accepted_is_not_missing() -> None:
    story = Story(workers=[EVE, FERDIE], tasks=2)
    story.commit(without=story.slots_of(EVE))
    story.commit(task=1)
    while not story.paused():
        story.next()
    assert story.training.seats[EVE.public].missing_since
    story.reveal(task=1)
    story.attest(task=1)
    story.next()
    assert story.task(1).round == 1
    # It is paused for the task that it could not do, and is there for the other.
    assert story.paused() == {EVE.public}
    assert story.training.seats[EVE.public].missing_since == 0
    story.chain.call(EVE, "training.resume", task=0)
    assert story.training.seats[EVE.public].paused == ()


def test_nobody_is_missing_for_a_task_that_is_over() -> None:
    story = Story(workers=[EVE])
    while not story.paused():
        story.next()
    story.chain.call(ALICE, "training.cancel_task", task=0)
    story.next(MISSING_BLOCKS + 1)
    assert story.worker(EVE).active
    # A miss in another task is the first since: what was missed before is of no account.
    story.chain.call(ALICE, "training.create_task", **terms())
    while not story.paused(1):
        story.next()
    assert story.training.seats[EVE.public].paused == (1,)
    assert story.training.seats[EVE.public].missing_since == story.chain.height - 1
    assert story.worker(EVE).active


def test_who_has_a_slot_is_not_missing_before_the_round_is_over() -> None:
    policy = replace(POLICY, reveal_blocks=MISSING_BLOCKS + 50)
    story = Story(workers=[EVE, FERDIE], policy=policy)
    first, second = story.slots_of(EVE)
    story.commit(without=[first])
    while not story.paused():
        story.next()
    story.next(MISSING_BLOCKS + 10)
    assert story.worker(EVE).active
    story.reveal()
    story.attest()
    story.next()
    assert story.training.history[0, 0].slots[second].accepted
    assert story.training.seats[EVE.public].missing_since == 0


def test_nothing_is_left_of_the_seats_and_pauses_of_who_left() -> None:
    story = Story(workers=[EVE], tasks=2)
    while not story.paused() & story.paused(1):
        story.next()
    for task in range(2):
        story.chain.call(ALICE, "training.cancel_task", task=task)
    story.chain.call(EVE, "training.deregister_worker")
    story.wait_until_free(EVE)
    story.chain.call(EVE, "training.deregister_worker")
    story.next()
    assert dict(story.training.seats.items()) == {}
    assert EVE.public not in story.training.workers


def test_the_last_seats_take_the_places_of_those_that_go() -> None:
    story = Story(workers=[EVE, FERDIE])
    story.chain.call(BOB, "training.register_worker", capacity=3)
    story.chain.call(EVE, "training.deregister_worker")
    assert {account: sorted(seats.places) for account, seats in story.training.seats.items() if seats.places} == {
        FERDIE.public: [2, 3],
        BOB.public: [0, 1, 4],
    }
    story.chain.call(BOB, "training.deregister_worker")
    assert story.seats() == {FERDIE.public: (2, 2)}
    assert dict(story.training.seat_owners.items()) == {0: FERDIE.public, 1: FERDIE.public}
    # Who comes back still has the slots that it was drawn for.
    story.chain.call(EVE, "training.register_worker", capacity=1)
    assert story.seats() == {FERDIE.public: (2, 2), EVE.public: (1, 2)}


def test_there_are_no_more_seats_than_the_chain_has_room_for() -> None:
    story = Story(workers=[EVE, FERDIE])
    story.training.seat_count.put(SEATS_MAX - 1)
    with story.chain.unchanged(Training.TooManyWorkers):
        story.chain.call(BOB, "training.register_worker", capacity=2)
    story.chain.call(BOB, "training.register_worker", capacity=1)


def test_only_its_owner_cancels_a_task_and_once() -> None:
    story = Story()
    with story.chain.unchanged(Training.NotOwner):
        story.chain.call(EVE, "training.cancel_task", task=0)
    with story.chain.unchanged(Training.UnknownTask):
        story.chain.call(ALICE, "training.cancel_task", task=1)
    story.chain.call(ALICE, "training.cancel_task", task=0)
    with story.chain.unchanged(Training.AlreadyCancelled):
        story.chain.call(ALICE, "training.cancel_task", task=0)
    story.play()
    with story.chain.unchanged(Training.UnknownTask):
        story.chain.call(ALICE, "training.cancel_task", task=0)


def test_a_validator_that_cries_wolf_loses_its_bonds_and_runs_out_of_challenges() -> None:
    story = Story(workers=[EVE], rounds=9)
    free, issued = story.chain.free(DAVE), story.chain.modules.balances.total_issuance.get()
    bond = story.training.challenge_bond
    for _ in range(4):
        story.to_audit()
        for slot in range(4):
            story.challenge(DAVE, slot)
        assert story.chain.modules.balances.reserved(DAVE.public) == STAKE + 4 * bond
        story.attest()
        story.next()
    rewards = story.training.rewards
    assert story.training.challenges[DAVE.public] == ChallengeCount(upheld=0, refuted=16, left=0, height=0)
    assert story.chain.free(DAVE) == free - 16 * bond + rewards.earned_by_checking[DAVE.public]
    assert story.chain.modules.balances.total_issuance.get() == issued + rewards.emitted.get() - 16 * bond
    story.to_audit()
    with story.chain.unchanged(Training.TooManyChallenges):
        story.challenge(DAVE, 0)
    # Another one who is right is not held up, and gets its challenge back.
    story.challenge(BOB, 0)
    story.attest(without=[0])
    story.next()
    assert story.training.challenges[BOB.public].left == 1024


def test_a_validator_without_money_challenges_nothing_and_keeps_its_stake() -> None:
    story = Story()
    story.to_audit()
    rest = story.training.challenge_bond - 1
    story.chain.call(DAVE, "balances.transfer_keep_alive", dest=EVE.public, value=story.chain.free(DAVE) - rest)
    with story.chain.unchanged(type(story.chain.modules.balances).InsufficientBalance):
        story.challenge(DAVE, 0)
    assert story.chain.modules.balances.reserved(DAVE.public) == STAKE
    story.attest()
    story.next()
    assert story.task().round == 1


def test_bonds_come_back_where_validators_do_not_agree() -> None:
    story = Story()
    story.to_audit()
    free = story.chain.free(ALICE)
    story.challenge(ALICE, 0)
    assert story.chain.free(ALICE) == free - story.training.challenge_bond
    story.attest(ALICE, BOB, without=[0])
    story.attest(CHARLIE, DAVE)
    while story.state().attempt == 0:
        story.next()
    assert story.chain.free(ALICE) == free
    assert story.chain.modules.balances.reserved(ALICE.public) == STAKE + story.task().escrow + story.storage()


def test_a_commitment_is_taken_once_from_the_worker_that_was_drawn_in_the_phase_that_runs() -> None:
    story = Story()
    slot = story.slots_of(EVE)[0]
    arguments = {**story.attempt(), "slot": slot, "commitment": root()}
    for changes, error in (
        ({"task": 1}, Training.UnknownTask),
        ({"round": 1}, Training.WrongRound),
        ({"attempt": 1}, Training.WrongAttempt),
        ({"slot": 4}, Training.UnknownSlot),
        ({"slot": story.slots_of(FERDIE)[0]}, Training.NotAssigned),
    ):
        with story.chain.unchanged(error):
            story.chain.call(EVE, "training.commit", **{**arguments, **changes})
    with story.chain.unchanged(Training.WrongPhase):
        story.reveal_one(slot)
    with story.chain.unchanged(Training.WrongPhase):
        story.attest(ALICE)
    story.chain.call(EVE, "training.commit", **arguments)
    with story.chain.unchanged(Training.AlreadyCommitted):
        story.chain.call(EVE, "training.commit", **arguments)


def test_a_reveal_must_be_what_was_committed() -> None:
    story = Story()
    missing, mine = story.slots_of(EVE)
    story.commit(without=[missing])
    while story.state().phase is Phase.COMMIT:
        story.next()
    with story.chain.unchanged(Training.NotCommitted):
        story.reveal_one(missing)
    with story.chain.unchanged(Training.CommitmentMismatch):
        story.reveal_one(mine, salt=root("another"))
    with story.chain.unchanged(Training.CommitmentMismatch):
        story.reveal_one(mine, update_root=root("another"))
    with story.chain.unchanged(Training.NotAssigned):
        arguments = {**story.attempt(), "slot": mine, "salt": SALT, "update_root": story.update_root(mine)}
        story.chain.call(FERDIE, "training.reveal", **arguments)
    story.reveal_one(mine)
    with story.chain.unchanged(Training.AlreadyRevealed):
        story.reveal_one(mine)


def test_a_copied_commitment_cannot_be_revealed() -> None:
    story = Story(policy=replace(POLICY, slots=2))
    original, copied = story.slots_of(EVE)[0], story.slots_of(FERDIE)[0]
    story.commit(without=[copied])
    commitment = story.state().slots[original].commitment
    story.chain.call(FERDIE, "training.commit", **story.attempt(), slot=copied, commitment=commitment)
    story.next()
    with story.chain.unchanged(Training.CommitmentMismatch):
        story.reveal_one(copied, update_root=story.update_root(original))


def test_what_was_meant_for_an_earlier_attempt_is_refused_in_the_next() -> None:
    story = Story(workers=[EVE])
    story.to_audit()
    old = story.attempt()
    slot, roots = {"slot": 0}, {"params_root": root(1), "optimizer_root": root(2)}
    update_root = story.update_root(0)
    for each in range(4):
        story.challenge(ALICE, each)
    story.attest(without=range(4))
    story.next()
    story.chain.call(EVE, "training.register_worker", capacity=4)
    story.next()
    assert story.attempt() == {"task": 0, "round": 0, "attempt": 1}
    commitment = commitment_of(EVE.public, 0, 0, 0, 0, SALT, update_root)
    with story.chain.unchanged(Training.WrongAttempt):
        story.chain.call(EVE, "training.commit", **old, **slot, commitment=commitment)
    # A commitment that was made for the earlier attempt cannot be revealed in this one.
    story.chain.call(EVE, "training.commit", **story.attempt(), **slot, commitment=commitment)
    story.commit(without=[0])
    with story.chain.unchanged(Training.WrongAttempt):
        story.chain.call(EVE, "training.reveal", **old, **slot, salt=SALT, update_root=update_root)
    with story.chain.unchanged(Training.CommitmentMismatch):
        story.reveal_one(0, update_root=update_root)
    while story.state().phase is Phase.REVEAL:
        if story.state().slots[1].update_root is None:
            story.reveal_one(1)
        story.next()
    story.chain.call(BOB, "training.register_aggregator")
    with story.chain.unchanged(Training.WrongAttempt):
        story.chain.call(BOB, "training.aggregate", **old, **roots, accepted=b"\x02")
    with story.chain.unchanged(Training.WrongAttempt):
        story.chain.call(BOB, "training.challenge", **old, slot=1)
    with story.chain.unchanged(Training.WrongAttempt):
        said = {"accepted": b"\x02", "evaluation": (1, 1)}
        story.chain.call(BOB, "training.attest", **old, **roots, **said)


def test_an_attestation_is_a_validators_canonical_and_complete_word() -> None:
    story = Story()
    missing = story.slots_of(EVE)[:1]
    story.commit()
    story.reveal(without=missing)
    while story.state().phase is Phase.REVEAL:
        story.next()
    chain = story.chain
    with chain.unchanged(Training.NotAuthority):
        story.attest(EVE)
    for accepted in (b"", b"\0\0", b"\x10"):
        with chain.unchanged(Training.InvalidBitmap):
            story.attest(ALICE, accepted=accepted)
    with chain.unchanged(Training.NotRevealed):
        story.attest(ALICE, accepted=b"\x0f")
    with chain.unchanged(Training.SlotNotChallenged):
        story.attest(ALICE, accepted=b"\0")
    with chain.unchanged(Training.InvalidAccuracy):
        story.attest(ALICE, evaluation=(1, 1_000_001))
    for slot in range(4):
        if slot not in missing:
            story.challenge(ALICE, slot)
    with chain.unchanged(Training.RootsChanged):
        story.attest(ALICE, accepted=b"\0", params_root=root("another"))
    story.attest(ALICE, accepted=b"\0", params_root=story.task().params_root, optimizer_root=ZERO_HASH)


def test_a_challenge_is_a_validators_about_a_revealed_slot_and_once() -> None:
    story = Story()
    missing = story.slots_of(EVE)[0]
    with story.chain.unchanged(Training.WrongPhase):
        story.challenge(ALICE, 0)
    story.commit()
    story.reveal(without=[missing])
    while story.state().phase is Phase.REVEAL:
        story.next()
    challenged = story.slots_of(FERDIE)[0]
    with story.chain.unchanged(Training.NotAuthority):
        story.challenge(EVE, challenged)
    with story.chain.unchanged(Training.UnknownSlot):
        story.challenge(ALICE, 4)
    with story.chain.unchanged(Training.NotRevealed):
        story.challenge(ALICE, missing)
    story.challenge(ALICE, challenged)
    with story.chain.unchanged(Training.AlreadyChallenged):
        story.challenge(BOB, challenged)


def test_an_aggregator_has_a_bond_and_repeats_itself_at_its_own_cost() -> None:
    story = Story()
    arguments = {**story.attempt(), "accepted": b"\x0f", "params_root": root(1), "optimizer_root": root(2)}
    with story.chain.unchanged(Training.NotRegistered):
        story.chain.call(BOB, "training.aggregate", **arguments)
    with story.chain.unchanged(Training.NotRegistered):
        story.chain.call(BOB, "training.deregister_aggregator")
    story.chain.call(BOB, "training.register_aggregator")
    with story.chain.unchanged(Training.AlreadyRegistered):
        story.chain.call(BOB, "training.register_aggregator")
    with story.chain.unchanged(Training.WrongPhase):
        story.chain.call(BOB, "training.aggregate", **arguments)
    story.to_audit()
    assert story.chain.submit(BOB, "training.aggregate", **arguments).fee == 0
    with story.chain.unchanged(Training.SameAggregate):
        story.chain.call(BOB, "training.aggregate", **arguments)
    assert story.chain.submit(BOB, "training.aggregate", **{**arguments, "params_root": root(3)}).fee > 0
    (aggregate,) = story.state().aggregates
    assert aggregate == Aggregate(BOB.public, b"\x0f", root(3), root(2))
    with story.chain.unchanged(Training.InvalidBitmap):
        story.chain.call(BOB, "training.aggregate", **{**arguments, "accepted": b"\x1f"})
    with story.chain.unchanged(Training.SlotNotChallenged):
        story.chain.call(BOB, "training.aggregate", **{**arguments, "accepted": b"\x07"})


def test_an_aggregator_leaves_when_no_running_round_holds_its_word() -> None:
    story = Story()
    story.chain.call(BOB, "training.register_aggregator")
    story.to_audit()
    story.aggregate(BOB)
    with story.chain.unchanged(Training.AggregatorEngaged):
        story.chain.call(BOB, "training.deregister_aggregator")
    story.attest()
    story.next()
    story.chain.call(BOB, "training.deregister_aggregator")
    with story.chain.unchanged(Training.NotRegistered):
        story.chain.call(BOB, "training.deregister_aggregator")
    assert story.chain.modules.balances.reserved(BOB.public) == STAKE
