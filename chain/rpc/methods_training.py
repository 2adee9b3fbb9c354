"""`training_*`: tasks, rounds and workers as JSON. Roots are 0x-hex, accounts SS58, amounts integers in planck."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Any

from chain.primitives import ss58
from chain.primitives.hashing import Hash
from chain.primitives.seal import read_bitmap
from chain.rpc.context import Context, hexed, hexed_or_none
from chain.rpc.errors import Code, RpcError
from chain.rpc.params import Index32
from chain.rpc.plain import plain
from chain.rpc.registry import Registry
from runtime.modules.training import Training
from runtime.modules.training_sizes import Storage, slice_count
from runtime.modules.training_types import (
    Aggregate,
    Confirmation,
    Evaluation,
    Model,
    RoundRecord,
    RoundState,
    Task,
    Trial,
)

registry = Registry()

# A curve is for drawing: a screen has no more columns, and each point is a storage read.
CURVE_POINTS_MAX = 500
# Final rounds never change, so their figures are kept: 20,000 are ~3 MB and forty full curves.
KEPT_ROUNDS_MAX = 20_000
# The active list itself is bounded; the memory of workers that left is not, so that an answer has to be.
WORKERS_MAX = 2048
TASKS_MAX = 1024


class _Figures:
    """Loss and accuracy after rounds that were evaluated, the oldest forgotten first.

    Threads share it: a race only computes twice.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[Hash, int, int], tuple[float, float]] = {}

    def of(self, genesis: Hash, training: Any, task: int, round_: int) -> tuple[float, float]:
        key = (genesis, task, round_)
        known = self._known.get(key)
        if known is None:
            found: Evaluation | None = training.history[task, round_].evaluation
            assert found is not None, f"round {round_} of task {task} is final and was not evaluated"
            known = self._known[key] = (found.loss_micro / 1e6, found.accuracy_ppm / 1e6)
            while len(self._known) > KEPT_ROUNDS_MAX:
                self._known.pop(next(iter(self._known)), None)
        return known


_figures = _Figures()


@registry.thread("training_tasks")
def training_tasks(context: Context) -> list[dict[str, Any]]:
    """All tasks in short, the newest last."""
    with context.state(None) as state:
        training = context.runtime.at(state).module(Training)
        count, active = training.next_task_id.get(), training.active_tasks.get()
        genesis = context.backend.ledger.genesis_hash
        return [
            _short_task(task_id, task, task_id in active, *_latest(training, genesis, task_id, task))
            for task_id in range(max(0, count - TASKS_MAX), count)
            if (task := training.tasks.get(task_id)) is not None
        ]


@registry.thread("training_task")
def training_task(context: Context, task: Index32) -> dict[str, Any]:
    """One task with its loss and accuracy curves (held out, 0 to 1), a point for each round that was evaluated."""
    with context.state(None) as state:
        training = context.runtime.at(state).module(Training)
        found = task_of(training, task)
        genesis = context.backend.ledger.genesis_hash
        is_active = task in training.active_tasks.get()
        kept = _storage(training.storage[task], state.header.height)
        points = [(number, *_figures.of(genesis, training, task, number)) for number in curve_rounds(found)]
        silos = training.silos[task]
    latest = points[-1][1:] if points else (None, None)
    return {
        **_short_task(task, found, is_active, *latest),
        "loss": [[number, loss] for number, loss, _ in points],
        "accuracy": [[number, accuracy] for number, _, accuracy in points],
        "paramsRoot": hexed(found.params_root),
        "optimizerRoot": hexed(found.optimizer_root),
        "programRoot": hexed(found.program_root),
        "datasetRoot": hexed(found.dataset_root),
        "optimizer": plain(found.optimizer),
        "policy": plain(found.policy),
        "seed": hexed(found.seed),
        "silos": [
            {"account": ss58.encode(silo.account), "samplesMax": silo.samples_max, "samples": silo.samples}
            for silo in silos
        ],
        "storage": kept,
    }


@registry.thread("training_round")
def training_round(context: Context, task: Index32, round: Index32 | None = None) -> dict[str, Any]:
    """A round of a task: the running one when none is named, or of the last, once the task is complete.

    The running one has in `ahead` the round that has begun from what validators confirmed of it, if there is one.
    """
    with context.state(None) as state:
        training = context.runtime.at(state).module(Training)
        found = task_of(training, task)
        running: RoundState | None = training.rounds.get(task)
        ahead = _round_ahead(training, task)
        if running is not None and round in (None, running.round):
            model = Model(found.params_root, found.optimizer_root)
            return {**_begun_round(training, task, model, running), "ahead": ahead}
        if ahead is not None and round == ahead["round"]:
            return ahead
        number = found.round - 1 if round is None else round
        record: RoundRecord | None = training.history.get((task, number)) if number >= 0 else None
        if record is None:
            reason = f"task {task} has no round {number}: {found.round} of {found.rounds} rounds are final"
            raise RpcError(Code.TRAINING_NOT_FOUND, "Unknown round", reason)
        start = training.history[task, number - 1].params_root if number else training.storage[task].params_root
        return _final_round(task, number, record, training.weights[task, number], start)


@registry.thread("training_workers")
def training_workers(context: Context) -> list[dict[str, Any]]:
    """Every worker that was ever registered, with its bond, record and earnings.

    `slashed` is what its bond lacks of what it was registered with, `taken` how many slots it has or is drawn for,
    `paused` the tasks that it is not drawn for until it resumes.
    """
    with context.state(None) as state:
        found = []
        training = context.runtime.at(state).module(Training)
        for account, worker in training.workers.items():
            seats = training.seats[account]
            found.append(
                {
                    "account": ss58.encode(account),
                    "bond": worker.bond,
                    "slashed": max(0, training.worker_bond * worker.capacity - worker.bond),
                    "capacity": worker.capacity,
                    "active": worker.active,
                    "taken": seats.taken,
                    "paused": list(seats.paused),
                    "freeAt": worker.free_at,
                    "accepted": worker.accepted,
                    "rejected": worker.rejected,
                    "earned": worker.earned,
                }
            )
            if len(found) >= WORKERS_MAX:
                break
        return found


def _round_ahead(training: Any, task: int) -> dict[str, Any] | None:
    """The round that has begun from what validators confirmed of the running one. No federated task has such a one."""
    state: RoundState | None = training.rounds_ahead.get(task)
    if state is None:
        return None
    return {**_begun_round(training, task, training.provisional[task], state), "ahead": None}


def task_of(training: Any, task: int) -> Task:
    found: Task | None = training.tasks.get(task)
    if found is None:
        reason = f"no task {task}: {training.next_task_id.get()} were created, numbered from 0"
        raise RpcError(Code.TRAINING_NOT_FOUND, "Unknown task", reason)
    return found


def _storage(kept: Storage, height: int) -> dict[str, Any]:
    """What is kept of a task: how many bytes at most, until when, and what its owner claimed and reserved."""
    expired = kept.ended_at is not None and height >= kept.until
    return {
        **plain(kept.claim),
        "paramsRoot": hexed(kept.params_root),
        "bytes": 0 if expired else kept.bytes,
        "deposit": kept.deposit,
        "endedAt": kept.ended_at,
        "until": kept.until,
    }


def curve_rounds(task: Task) -> list[int]:
    """Which of the rounds that were evaluated a curve shows: all, or evenly spaced with the newest."""
    newest = task.last_evaluated
    if newest is None:
        return []
    rounds, most = range(0, newest, task.policy.evaluate_rounds), CURVE_POINTS_MAX - 1
    if len(rounds) > most:
        return [*(rounds[len(rounds) * point // most] for point in range(most)), newest]
    return [*rounds, newest]


def _latest(training: Any, genesis: Hash, task_id: int, task: Task) -> tuple[float | None, float | None]:
    newest = task.last_evaluated
    return (None, None) if newest is None else _figures.of(genesis, training, task_id, newest)


def _shares(evaluation: Evaluation | None) -> dict[str, float | None]:
    if evaluation is None:
        return {"loss": None, "accuracy": None}
    return {"loss": evaluation.loss_micro / 1e6, "accuracy": evaluation.accuracy_ppm / 1e6}


def _short_task(
    task_id: int, task: Task, is_active: bool, loss: float | None, accuracy: float | None
) -> dict[str, Any]:
    # A task that was cancelled is active until what has begun of it is final.
    return {
        "id": task_id,
        "name": task.name.decode(errors="replace"),
        "owner": ss58.encode(task.owner),
        "status": "active" if is_active else task.status.name.lower(),
        "round": task.round,
        "rounds": task.rounds,
        "latestLoss": loss,
        "latestAccuracy": accuracy,
        "pricePerSlot": task.price_per_slot,
        "escrow": task.escrow,
        "minted": task.minted,
    }


def _begun_round(training: Any, task_id: int, model: Model, state: RoundState) -> dict[str, Any]:
    """A round that is not final, with the model that it began from."""
    weights = training.weights[task_id, state.round]
    is_running = training.tasks[task_id].round == state.round
    confirmations: Sequence[Confirmation] = training.confirmations[task_id] if is_running else ()
    planted = {plant.slot for plant in training.plants[task_id]} if is_running else set()
    slices = slice_count(training.storage[task_id].claim, training.tasks[task_id].policy)
    return {
        "task": task_id,
        "round": state.round,
        "attempt": state.attempt,
        "phase": state.phase.name.lower(),
        "openedAt": state.opened_at,
        "deadline": state.deadline,
        "plantBeacon": hexed_or_none(training.plant_beacons.get((task_id, state.round))),
        "plantDeadline": training.plant_deadlines.get(task_id) if is_running else None,
        "paramsRoot": hexed(model.params_root),
        "optimizerRoot": hexed(model.optimizer_root),
        "slots": [
            {
                "slot": number,
                "worker": ss58.encode(slot.worker),
                "commitment": hexed_or_none(slot.commitment),
                "updateRoot": hexed_or_none(slot.update_root),
                "auditors": [ss58.encode(auditor) for auditor in slot.auditors],
                "challenged": slot.challenged,
                "planted": number in planted,
                "accepted": None,
                "weight": weight,
            }
            for number, (slot, weight) in enumerate(zip(state.slots, weights or repeat(1), strict=False))
        ],
        "confirmations": [
            {
                "validator": ss58.encode(confirmation.validator),
                "paramsRoot": hexed(confirmation.model.params_root),
                "optimizerRoot": hexed(confirmation.model.optimizer_root),
            }
            for confirmation in confirmations
        ],
        "aggregates": [_aggregate(aggregate, state) for aggregate in state.aggregates],
        "trial": _trial(training.trials.get(task_id), state, slices) if is_running else None,
        "proven": [_aggregate(each, state) for each in training.proven[task_id]] if is_running else [],
        "attestations": [
            {
                "validator": ss58.encode(attestation.validator),
                "accepted": read_bitmap(attestation.accepted, len(state.slots)),
                "paramsRoot": hexed(attestation.params_root),
                "optimizerRoot": hexed(attestation.optimizer_root),
                **_shares(attestation.evaluation),
            }
            for attestation in state.attestations
        ],
        "minted": 0,
    }


def _aggregate(aggregate: Aggregate, state: RoundState) -> dict[str, Any]:
    """What an aggregator said the model becomes."""
    return {
        "aggregator": ss58.encode(aggregate.aggregator),
        "accepted": read_bitmap(aggregate.accepted, len(state.slots)),
        "paramsRoot": hexed(aggregate.params_root),
        "optimizerRoot": hexed(aggregate.optimizer_root),
    }


def _trial(trial: Trial | None, state: RoundState, slices: int) -> dict[str, Any] | None:
    """The aggregate whose slices are being checked, by whom, and what was found so far."""
    if trial is None:
        return None
    return {
        **_aggregate(trial.aggregate, state),
        "since": trial.since,
        "slices": slices,
        "checkers": trial.checkers,
        "order": [ss58.encode(account) for account in trial.order],
        "found": [{"validator": ss58.encode(word.validator), "right": hexed(word.right)} for word in trial.words],
        "disputes": [
            {"validator": ss58.encode(dispute.validator), "slice": dispute.slice} for dispute in trial.disputes
        ],
    }


def _final_round(task_id: int, number: int, record: RoundRecord, weights: Sequence[int], start: Hash) -> dict[str, Any]:
    """A final round: the chain keeps its outcome, and in `attesters` the validators whose agreement made it final.

    It began with the parameters `startParamsRoot`, and made those of `paramsRoot` of them. Loss and accuracy on the
    held-out rows are null where the policy does not have the round evaluated.
    """
    return {
        "task": task_id,
        "round": number,
        "attempt": record.attempt,
        "phase": "final",
        "openedAt": None,
        "deadline": None,
        "plantBeacon": None,
        "plantDeadline": None,
        "finalisedAt": record.finalised_at,
        "startParamsRoot": hexed(start),
        "paramsRoot": hexed(record.params_root),
        "optimizerRoot": hexed(record.optimizer_root),
        **_shares(record.evaluation),
        "slots": [
            {
                "slot": position,
                "worker": ss58.encode(slot.worker),
                "commitment": None,
                "updateRoot": hexed_or_none(slot.update_root),
                "auditors": [],
                "challenged": False,
                "planted": slot.planted,
                "accepted": slot.accepted,
                "weight": weight,
            }
            for position, (slot, weight) in enumerate(zip(record.slots, weights or repeat(1), strict=False))
        ],
        "confirmations": [],
        "aggregates": [],
        "trial": None,
        "proven": [],
        "attestations": [],
        "ahead": None,
        "attesters": [ss58.encode(account) for account in record.attesters],
        "aggregator": None if record.aggregator is None else ss58.encode(record.aggregator),
        "emission": record.emission,
        "minted": record.minted,
    }
