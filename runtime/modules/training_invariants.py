"""What must hold of the training module's state after every block, over everything that it ever stored.

For tests and simulations: it reads the whole state, which no block may do.
"""

from __future__ import annotations

from collections import Counter

from chain.primitives.seal import read_bitmap
from runtime.modules import training_ahead, training_challenges, training_slices, training_storage, training_workers
from runtime.modules.training_policy import SAMPLES_MAX, Scored
from runtime.modules.training_schema import TrainingSchema
from runtime.modules.training_types import (
    ACTIVE_TASKS_MAX,
    AGGREGATES_MAX,
    SEATS_MAX,
    SILOS_MAX,
    Phase,
    RoundState,
    Task,
    TaskStatus,
)


def check(training: TrainingSchema) -> None:
    """Assert every invariant; an AssertionError says which one failed and with which values."""
    _check_tasks(training)
    _check_silos(training)
    _check_workers(training)
    _check_money(training)
    training_storage.check(training)


def _check_tasks(training: TrainingSchema) -> None:
    tasks = dict(training.tasks.items())
    active = training.active_tasks.get()
    assert sorted(tasks) == list(range(training.next_task_id.get()))
    assert set(active) >= {task for task, value in tasks.items() if value.status is TaskStatus.ACTIVE}
    assert list(active) == sorted(training.rounds.keys())
    idle = training.idle_tasks.get()
    assert len(set(idle)) == len(idle)
    assert set(idle) <= set(active)
    for task, value in tasks.items():
        records = dict(training.history.items(task))
        assert sorted(records) == [(task, round_) for round_ in range(value.round)], f"task {task} lacks a record"
        assert sum(record.minted for record in records.values()) == value.minted
        if records:
            last = records[task, value.round - 1]
            assert (last.params_root, last.optimizer_root) == (value.params_root, value.optimizer_root)
        if task not in active:
            assert value.status is not TaskStatus.ACTIVE
            assert value.status is TaskStatus.CANCELLED or value.round == value.rounds
            assert value.escrow == 0
            assert training.next_workers[task] == ()
            assert (training.confirmations[task], training.next_attempts[task]) == ((), 0)
            assert task not in training.rounds_ahead
            continue
        state = training.rounds[task]
        assert state.round == value.round < value.rounds
        assert (state.phase is Phase.IDLE) == (task in idle)
        assert not state.slots if state.phase is Phase.IDLE else 1 <= len(state.slots) <= value.policy.slots
        assert value.escrow >= value.price_per_slot * value.policy.slots * (value.rounds - value.round)
        drawn = training.next_workers[task]
        assert len(drawn) <= (value.policy.slots if training_ahead.is_fixed(training, task, state) else 0)
        assert len(state.aggregates) <= AGGREGATES_MAX
        assert state.phase is Phase.REVEAL or task not in training.first_beacons
        begun = [state] if state.phase is not Phase.IDLE else []
        begun += [ahead] if (ahead := training.rounds_ahead.get(task)) is not None else []
        assert sorted(key for key, _ in training.plant_beacons.items(task)) == [(task, each.round) for each in begun]
        plants = training.plants[task]
        assert state.phase is Phase.AUDIT or (not plants and task not in training.plant_deadlines)
        assert len({plant.slot for plant in plants}) == len(plants)
        for plant in plants:
            assert set(plant.trusted_by) <= set(state.slots[plant.slot].auditors)
        for slot in state.slots:
            assert slot.commitment is not None or slot.update_root is None
            assert slot.update_root is not None or (slot.challenger is None and not slot.auditors)
        _check_ahead(training, task, value, state)
    assert sorted(training.provisional.keys()) == sorted(training.rounds_ahead.keys())
    _check_trials(training)


def _check_trials(training: TrainingSchema) -> None:
    """What is on trial, or proven, was said of a round whose sum is fixed, and nobody calls a slice right and wrong."""
    for task in sorted((*training.trials.keys(), *training.proven.keys())):
        assert training_slices.count_of(training, task), f"task {task} has no slices"
        assert training_ahead.is_fixed(training, task, training.rounds[task])
        assert len(training.proven[task]) <= AGGREGATES_MAX
    for task, trial in training.trials.items():
        said = [word.validator for word in trial.words]
        assert len(set(said)) == len(said)
        assert len(set(trial.order)) == len(trial.order)
        assert trial.order or not trial.words
        disputed = {dispute.validator: dispute.slice for dispute in trial.disputes}
        assert len(disputed) == len(trial.disputes)
        for word in trial.words:
            found = read_bitmap(word.right, training_slices.count_of(training, task))
            assert found
            assert disputed.get(word.validator) not in found
        assert training_slices.claim_of(trial.aggregate) not in [
            training_slices.claim_of(aggregate) for aggregate in training.proven[task]
        ]


def _check_ahead(training: TrainingSchema, task: int, value: Task, state: RoundState) -> None:
    """What began ahead, or is going to, belongs to a round whose sum is fixed and whose audit is not over."""
    is_fixed = training_ahead.is_fixed(training, task, state)
    said = [confirmation.validator for confirmation in training.confirmations[task]]
    assert len(set(said)) == len(said)
    assert not said or is_fixed
    ahead = training.rounds_ahead.get(task)
    if ahead is None:
        return
    assert is_fixed
    assert training.next_workers[task] == ()
    assert ahead.round == value.round + 1 < value.rounds
    assert ahead.attempt == training.next_attempts[task]
    assert ahead.phase in (Phase.COMMIT, Phase.REVEAL)
    assert 1 <= len(ahead.slots) <= value.policy.slots
    assert (ahead.attestations, ahead.aggregates) == ((), ())
    for slot in ahead.slots:
        assert (slot.auditors, slot.challenger) == ((), None)
        assert slot.update_root is None or (slot.commitment is not None and ahead.phase is Phase.REVEAL)


def _check_silos(training: TrainingSchema) -> None:
    for task, silos in training.silos.items():
        assert task in training.active_tasks.get()
        assert isinstance(training.tasks[task].policy.verification, Scored)
        accounts = [silo.account for silo in silos]
        assert 1 <= len(silos) <= SILOS_MAX
        assert accounts == sorted(set(accounts))
        assert all(0 <= silo.samples <= silo.samples_max <= SAMPLES_MAX for silo in silos)
    weighed = {
        (task, round_): _workers_of_round(training, task, value, round_)
        for task, value in training.tasks.items()
        if isinstance(value.policy.verification, Scored)
        for round_ in range(value.round + 1)
    }
    for place, workers in weighed.items():
        weights = training.weights[place]
        if not workers:  # A round that waits: what an earlier attempt weighed is of no account.
            continue
        assert len(weights) == len(workers) == len(set(workers)), f"round {place}: {weights} of {workers}"
        assert all(weight >= 1 for weight in weights)
    assert set(training.weights.keys()) <= set(weighed)


def _workers_of_round(training: TrainingSchema, task: int, value: Task, round_: int) -> list[bytes]:
    if round_ < value.round:
        return [slot.worker for slot in training.history[task, round_].slots]
    return training_workers.workers_of(training.rounds[task]) if task in training.active_tasks.get() else []


def _check_workers(training: TrainingSchema) -> None:
    workers = dict(training.workers.items())
    active = {account: worker for account, worker in sorted(workers.items()) if worker.active}
    slots = Counter[bytes]()
    for task in training.active_tasks.get():
        slots.update(training_workers.slots_of(training, task))
    seats = dict(training.seats.items())
    owners = dict(training.seat_owners.items())
    assert training.seat_count.get() == len(owners) <= SEATS_MAX
    assert sorted(owners) == list(range(len(owners)))
    assert owners == {place: account for account, each in seats.items() for place in each.places}
    assert {account: len(each.places) for account, each in seats.items() if each.places} == {
        account: worker.capacity for account, worker in active.items()
    }
    assert {account: each.taken for account, each in seats.items() if each.taken} == dict(slots)
    assert training.seat_cursor.get() < SEATS_MAX
    for account, each in seats.items():
        assert each.places or each.taken or each.paused, f"0x{account.hex()} has an entry of nothing"
        assert not each.paused or workers[account].bond, f"0x{account.hex()} is paused without a bond"
        assert len(each.paused) <= ACTIVE_TASKS_MAX
        assert list(each.paused) == sorted(set(each.paused))
        assert each.missing_since <= training.system.height
        assert each.paused or not each.missing_since
    for account, worker in active.items():
        assert 1 <= worker.capacity <= training.capacity_max
        assert worker.bond >= training.worker_bond_min * worker.capacity, f"0x{account.hex()} is drawn without a bond"
    assert all(worker.free_at > 0 for worker in workers.values() if worker.bond and not worker.active)
    assert training.aggregator_count.get() == len(list(training.aggregators.keys()))
    assert all(bond >= training.aggregator_bond_min for bond in training.aggregators.values())
    accepted = sum(slot.accepted for record in training.history.values() for slot in record.slots)
    assert sum(worker.accepted for worker in workers.values()) == accepted


def _check_money(training: TrainingSchema) -> None:
    minted = training.rewards.minted.get()
    by_work = sum(worker.earned for worker in training.workers.values())
    assert minted == by_work + sum(training.rewards.earned_by_checking.values())
    assert minted == sum(task.minted for task in training.tasks.values())
    for account, amount in bound(training).items():
        held = training.balances.reserved(account)
        assert held >= amount, f"0x{account.hex()} has {held} reserved, its tasks and bonds say {amount}"


def bound(training: TrainingSchema) -> dict[bytes, int]:
    """What tasks and bonds have reserved, by account; other modules may have reserved more."""
    reserved: dict[bytes, int] = {}
    for number, task in training.tasks.items():
        reserved[task.owner] = reserved.get(task.owner, 0) + task.escrow + training.storage[number].deposit
    for account, worker in training.workers.items():
        reserved[account] = reserved.get(account, 0) + worker.bond
    for account, bond in training.aggregators.items():
        reserved[account] = reserved.get(account, 0) + bond
    for state in training.rounds.values():
        for account in training_challenges.challengers(state):
            reserved[account] = reserved.get(account, 0) + training.challenge_bond
    for trial in training.trials.values():
        for dispute in trial.disputes:
            reserved[dispute.validator] = reserved.get(dispute.validator, 0) + training.challenge_bond
    return reserved
