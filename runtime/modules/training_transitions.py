"""How rounds move on: what a block opens when it begins and closes when it ends.

Rule: a draw uses the beacon of a block that begins after what the draw is about was fixed, so that no proposer knows it
when it chooses what to include. Work is bounded by the active tasks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from runtime.modules import training_workers
from runtime.modules.training_draws import Draws, assign_slots, draw_auditors
from runtime.modules.training_rounds import (
    Outcome,
    agreement_is_impossible,
    all_committed,
    all_revealed,
    auditors_heard,
    has_spoken,
    idle,
    opened,
    outcome,
)
from runtime.modules.training_schema import TrainingSchema
from runtime.modules.training_types import (
    Phase,
    ReopenReason,
    RoundRecord,
    RoundState,
    SlashReason,
    SlotRecord,
    TaskStatus,
)

# How many audit times beyond the deadline a quorum that disagrees waits for those who are silent: one may be dead.
PATIENCE: Final = 2
# Purposes of draws: each has its own stream.
_SLOTS = b"slots"
_AUDITORS = b"auditors"


def begin_block(training: TrainingSchema) -> None:
    """Open rounds and audits with this block's beacon."""
    height = training.system.height
    for task in training.active_tasks.get():
        state = training.rounds[task]
        if state.phase is Phase.IDLE:
            _open_round(training, task, state, height)
        elif state.phase is Phase.REVEAL and (height > state.deadline or all_revealed(state)):
            _close_reveal(training, task, state, height)


def end_block(training: TrainingSchema) -> None:
    """Close commit phases and audits that this block completed."""
    height = training.system.height
    for task in training.active_tasks.get():
        state = training.rounds[task]
        if state.phase is Phase.COMMIT and (height >= state.deadline or all_committed(state)):
            _close_commit(training, task, state, height)
        elif state.phase is Phase.AUDIT:
            _close_audit(training, task, state, height)


def _open_round(training: TrainingSchema, task: int, state: RoundState, height: int) -> None:
    workers = training.active_workers.get()
    if not workers:
        return
    policy = training.tasks[task].policy
    draws = Draws(training.validators.randomness(), task, state.round, state.attempt, _SLOTS)
    deadline = height + policy.commit_blocks
    training.rounds[task] = replace(
        state,
        phase=Phase.COMMIT,
        opened_at=height,
        deadline=deadline,
        slots=opened(assign_slots(draws, workers, policy.slots)),
    )
    training.emit(training.RoundOpened(task, state.round, state.attempt, deadline))


def _close_commit(training: TrainingSchema, task: int, state: RoundState, height: int) -> None:
    for worker in dict.fromkeys(slot.worker for slot in state.slots if slot.commitment is None):
        training_workers.pause(training, worker, task, state.round)
    if all(slot.commitment is None for slot in state.slots):
        _reopen(training, task, state, height, ReopenReason.NO_COMMITMENT)
        return
    deadline = height + training.tasks[task].policy.reveal_blocks
    training.rounds[task] = replace(state, phase=Phase.REVEAL, deadline=deadline)
    training.emit(training.RevealOpened(task, state.round, deadline))


def _close_reveal(training: TrainingSchema, task: int, state: RoundState, height: int) -> None:
    for slot in state.slots:
        if slot.commitment is not None and slot.update_root is None:
            training_workers.pause(training, slot.worker, task, state.round)
            training_workers.slash(training, slot.worker, task, state.round, SlashReason.NOT_REVEALED)
    if all(slot.update_root is None for slot in state.slots):
        _reopen(training, task, state, height, ReopenReason.NO_REVEAL)
        _open_round(training, task, training.rounds[task], height)
        return
    policy = training.tasks[task].policy
    validators = training.validator_accounts()
    draws = Draws(training.validators.randomness(), task, state.round, state.attempt, _AUDITORS)
    slots = tuple(
        slot
        if slot.update_root is None
        else replace(slot, auditors=tuple(draw_auditors(draws, validators, slot.worker, policy.auditors_per_slot)))
        for slot in state.slots
    )
    deadline = height + policy.audit_blocks
    training.rounds[task] = replace(state, phase=Phase.AUDIT, deadline=deadline, slots=slots)
    training.emit(training.AuditOpened(task, state.round, deadline))


def _close_audit(training: TrainingSchema, task: int, state: RoundState, height: int) -> None:
    validators = training.validator_accounts()
    quorum = training.validators.validator_set().quorum
    agreed = outcome(state, validators, quorum)
    late = height >= state.deadline
    if agreed is None:
        # Before the deadline a validator may still change its word; after it, a split vote would wait for ever.
        very_late = height >= state.deadline + PATIENCE * training.tasks[task].policy.audit_blocks
        if (late and agreement_is_impossible(state, validators, quorum)) or (
            very_late and has_spoken(state, validators, quorum)
        ):
            _reopen(training, task, state, height, ReopenReason.NO_AGREEMENT)
        return
    if not late and not auditors_heard(state, agreed.accepted, validators):
        return
    _settle_challenges(training, task, state, agreed)
    if agreed.accepted:
        _finalise(training, task, state, agreed, height)
    else:
        _reopen(training, task, state, height, ReopenReason.NOTHING_ACCEPTED)


def _settle_challenges(training: TrainingSchema, task: int, state: RoundState, agreed: Outcome) -> None:
    """Count each challenge for or against its challenger, and slash the workers of rejected slots."""
    for index, slot in enumerate(state.slots):
        if slot.challenger is None:
            continue
        count = training.challenges[slot.challenger]
        if index in agreed.accepted:
            training.challenges[slot.challenger] = replace(count, refuted=count.refuted + 1)
            training.emit(training.ChallengeRefuted(task, state.round, index, slot.challenger))
            continue
        training.challenges[slot.challenger] = replace(count, upheld=count.upheld + 1)
        training.emit(training.ChallengeUpheld(task, state.round, index, slot.challenger))
        worker = training.workers[slot.worker]
        training.workers[slot.worker] = replace(worker, rejected=worker.rejected + 1)
        training_workers.slash(training, slot.worker, task, state.round, SlashReason.REJECTED)


def _finalise(training: TrainingSchema, task_id: int, state: RoundState, agreed: Outcome, height: int) -> None:
    task = training.tasks[task_id]
    burned = task.price_per_slot * len(agreed.accepted)
    spent = training.balances.burn_reserved(task.owner, burned)
    assert spent == burned, f"the escrow of task {task_id} lacks {burned - spent}"
    minted = 0
    for index in agreed.accepted:
        account = state.slots[index].worker
        paid = training.rewards.pay_slot(task_id, state.round, index, account, task.price_per_slot)
        worker = training.workers[account]
        training.workers[account] = replace(worker, accepted=worker.accepted + 1, earned=worker.earned + paid)
        minted += paid
    training.history[task_id, state.round] = RoundRecord(
        attempt=state.attempt,
        params_root=agreed.params_root,
        optimizer_root=agreed.optimizer_root,
        loss_micro=agreed.loss_micro,
        accuracy_ppm=agreed.accuracy_ppm,
        minted=minted,
        finalised_at=height,
        slots=tuple(
            SlotRecord(slot.worker, slot.update_root, index in agreed.accepted)
            for index, slot in enumerate(state.slots)
        ),
        attesters=agreed.attesters,
    )
    training.tasks[task_id] = replace(
        task,
        params_root=agreed.params_root,
        optimizer_root=agreed.optimizer_root,
        round=task.round + 1,
        escrow=task.escrow - burned,
        minted=task.minted + minted,
    )
    training.emit(
        training.RoundFinalised(
            task_id,
            state.round,
            agreed.params_root,
            agreed.optimizer_root,
            agreed.loss_micro,
            agreed.accuracy_ppm,
            minted,
        )
    )
    if task.round + 1 < task.rounds:
        training.rounds[task_id] = idle(task.round + 1, 0, height)
    else:
        _complete(training, task_id)


def _complete(training: TrainingSchema, task_id: int) -> None:
    task = training.tasks[task_id]
    missing = training.balances.unreserve(task.owner, task.escrow)
    assert not missing, f"the escrow of task {task_id} lacks {missing}"
    training.tasks[task_id] = replace(task, status=TaskStatus.COMPLETED, escrow=0)
    training.active_tasks.put(tuple(other for other in training.active_tasks.get() if other != task_id))
    training.rounds.remove(task_id)
    training.emit(training.TaskCompleted(task_id, task.params_root, task.escrow))


def _reopen(training: TrainingSchema, task: int, state: RoundState, height: int, reason: ReopenReason) -> None:
    """Let the same round wait for a fresh beacon: whoever failed it may not be drawn again."""
    attempt = state.attempt + 1
    training.rounds[task] = idle(state.round, attempt, height)
    training.emit(training.RoundReopened(task, state.round, attempt, reason))
