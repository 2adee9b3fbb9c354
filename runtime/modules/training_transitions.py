"""How rounds move on: what a block opens when it begins and closes when it ends.

Rule: a draw uses the beacon of a block that begins after what the draw is about was fixed, so that no proposer knows it
when it chooses what to include; audits are drawn from those of two blocks, so that no turn decides about all of them.
Work is bounded by the active tasks, and by SETTLED_SLOTS_MAX in each hook.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from runtime.modules import (
    training_aggregators,
    training_ahead,
    training_challenges,
    training_plants,
    training_silos,
    training_slices,
    training_storage,
    training_workers,
)
from runtime.modules.training_draws import Draws, chosen_half, draw_auditors
from runtime.modules.training_rounds import (
    Outcome,
    agreement_is_impossible,
    all_committed,
    all_revealed,
    has_spoken,
    idle,
    judged_aggregates,
    opened,
    outcome,
    silent_auditors,
)
from runtime.modules.training_schema import TrainingSchema
from runtime.modules.training_types import (
    ABSENCE_BLOCKS,
    SETTLED_SLOTS_MAX,
    STUCK_BLOCKS,
    Phase,
    ReopenReason,
    RoundRecord,
    RoundState,
    SlashReason,
    SlotRecord,
    SlotState,
    TaskStatus,
)

# How many audit times beyond the deadline a quorum that disagrees waits for those who are silent: one may be dead.
PATIENCE: Final = 2
# How many a round waits for a quorum at all. The work is not lost to an outage of auditors; but a task that auditors
# cannot compute must not keep its workers and their bonds for ever.
PATIENCE_MAX: Final = 10
# Purposes of draws: each has its own stream.
_SLOTS = b"slots"
_AUDITORS = b"auditors"


def begin_block(training: TrainingSchema) -> int:
    """Open rounds and audits with this block's beacon; how many slots of closed phases this settled."""
    height = training.system.height
    training_workers.sweep(training)
    # The longest waiting first; where others have all the seats, these draw no rounds ahead until all have had a turn.
    starving = False
    for task in training.idle_tasks.get():
        starving |= _open_round(training, task, height)
    training_slices.draw(training)
    settled = 0
    for task in _in_turn(training, height):
        state = training.rounds[task]
        if state.phase is not Phase.REVEAL:
            continue
        if task in training.first_beacons:
            _open_audit(training, task, state, height)
        elif height > state.deadline or all_revealed(state):
            unrevealed = sum(slot.commitment is not None and slot.update_root is None for slot in state.slots)
            if settled + unrevealed <= SETTLED_SLOTS_MAX:
                settled += unrevealed
                _close_reveal(training, task, state, height, ahead=not starving)
    return settled


def end_block(training: TrainingSchema) -> None:
    """Close commit phases and audits that this block completed."""
    height = training.system.height
    settled = 0
    for task in _in_turn(training, height):
        state = training.rounds[task]
        if state.phase is Phase.COMMIT and (height >= state.deadline or all_committed(state)):
            _close_commit(training, task, state, height)
        elif training_ahead.is_fixed(training, task, state):
            training_ahead.advance(training, task, height)
            room = settled + len(state.slots) <= SETTLED_SLOTS_MAX
            if state.phase is Phase.AUDIT and room and _close_audit(training, task, state, height):
                settled += len(state.slots)
            elif _has_next_round(training, task):
                training_ahead.begin(training, task, state, height)


def end_task(training: TrainingSchema, task_id: int) -> None:
    """Let no round follow: the rest of the escrow is the owner's again."""
    task = training.tasks[task_id]
    missing = training.balances.unreserve(task.owner, task.escrow)
    assert not missing, f"the escrow of task {task_id} lacks {missing}"
    training_storage.close_account(training, task_id, task)
    status = TaskStatus.COMPLETED if task.status is TaskStatus.ACTIVE else task.status
    training.tasks[task_id] = replace(task, status=status, escrow=0)
    training.active_tasks.put(tuple(other for other in training.active_tasks.get() if other != task_id))
    training.rounds.remove(task_id)
    training_silos.forget(training, task_id)
    training_ahead.forget(training, task_id)
    _forget_drawn(training, task_id)
    _wait_no_more(training, task_id)
    training.emit(training.TaskCompleted(task_id, task.params_root, task.escrow))


def make_room(training: TrainingSchema) -> None:
    """End the first task that is stuck: it had workers, and now has had none that would take it for STUCK_BLOCKS."""
    for task in training.active_tasks.get():
        state = training.rounds[task]
        waited = training.system.height - state.opened_at
        if state.phase is Phase.IDLE and state.attempt and waited >= STUCK_BLOCKS:
            training.tasks[task] = replace(training.tasks[task], status=TaskStatus.CANCELLED)
            training.emit(training.TaskCancelled(task, state.round))
            end_task(training, task)
            return
    raise training.TooManyTasks


def _in_turn(training: TrainingSchema, height: int) -> Iterator[int]:
    """The active tasks, another one first in each block: what one block cannot settle comes first soon."""
    tasks = training.active_tasks.get()
    return (tasks[(height + index) % len(tasks)] for index in range(len(tasks)))


def wait(training: TrainingSchema, task: int, round_: int, attempt: int) -> None:
    """Let a round wait for a beacon and for seats, behind those that wait already."""
    training.rounds[task] = idle(round_, attempt, training.system.height)
    training.idle_tasks.put((*training.idle_tasks.get(), task))


def _wait_no_more(training: TrainingSchema, task: int) -> None:
    waiting = training.idle_tasks.get()
    if task in waiting:
        training.idle_tasks.put(tuple(other for other in waiting if other != task))


def _open_round(training: TrainingSchema, task: int, height: int) -> bool:
    """Open a round that has waited for a beacon; True where it goes on waiting since all seats are taken."""
    state = training.rounds[task]
    before = training.history.get((task, state.round - 1)) if state.round else None
    kept = _tenured(training, task, state.round, before)
    workers, anybody = _draw_workers(training, task, state.round, state.attempt, (), kept)
    if workers:
        _wait_no_more(training, task)
        training_workers.take(training, workers)
        _begin_commit(training, task, state, workers, height)
    return anybody and not workers


def _begin_commit(
    training: TrainingSchema, task: int, state: RoundState, workers: Sequence[bytes], height: int
) -> None:
    deadline = height + training.tasks[task].policy.commit_blocks
    training.rounds[task] = opened(state, workers, height, deadline)
    training_plants.begin(training, task, state.round)
    training_silos.weigh(training, task, state.round, workers)
    training.emit(training.RoundOpened(task, state.round, state.attempt, deadline))


def _draw_workers(
    training: TrainingSchema,
    task: int,
    round_: int,
    attempt: int,
    given_back: Sequence[bytes],
    kept: Sequence[bytes | None],
) -> tuple[list[bytes], bool]:
    """The worker of each slot that is not kept for one, drawn with this block's beacon among those that were there when
    the block began; and whether enough would have been drawn if their seats were not taken.
    """
    draws = Draws(training.validators.randomness(), task, round_, attempt, _SLOTS)
    silos, needed = training_silos.candidates(training, task), training_silos.workers_min(training, task)
    slots_max = training_silos.slots_max(training, task)
    drawn = training_workers.draw(training, task, draws, given_back, kept, slots_max, silos)
    # Of a silo's round each slot has another worker: fewer slots are fewer silos.
    workers = drawn.workers if len(drawn.workers) >= needed else []
    return workers, drawn.willing >= needed


def _tenured(
    training: TrainingSchema, task: int, round_: int, before: RoundState | RoundRecord | None
) -> list[bytes | None]:
    """Within a tenure, who goes on with each slot of the round `before`: None where a slot came to nothing."""
    if before is None or round_ % training.tasks[task].policy.tenure == 0:
        return []
    return [
        slot.worker if (slot.accepted if isinstance(slot, SlotRecord) else slot.update_root is not None) else None
        for slot in before.slots
    ]


def _forget_drawn(training: TrainingSchema, task: int) -> None:
    """Give back the seats of who was drawn for a round that does not come."""
    training_workers.release(training, training.next_workers[task])
    training.next_workers.remove(task)


def _close_commit(training: TrainingSchema, task: int, state: RoundState, height: int) -> None:
    late = [slot.worker for slot in state.slots if slot.commitment is None]
    training_workers.pause(training, late, task, state.round)
    if len(late) == len(state.slots):
        _reopen(training, task, state, ReopenReason.NO_COMMITMENT)
        return
    deadline = height + training.tasks[task].policy.reveal_blocks
    training.rounds[task] = replace(state, phase=Phase.REVEAL, deadline=deadline)
    training.emit(training.RevealOpened(task, state.round, deadline))


def _close_reveal(training: TrainingSchema, task_id: int, state: RoundState, height: int, *, ahead: bool) -> None:
    """Take no more reveals: half of the audits are drawn and, `ahead` of the round's end, who trains the next."""
    late = [slot.worker for slot in state.slots if slot.commitment is not None and slot.update_root is None]
    training_workers.pause(training, late, task_id, state.round)
    for worker in late:
        training_workers.slash(training, worker, task_id, state.round, SlashReason.NOT_REVEALED)
    if all(slot.update_root is None for slot in state.slots):
        if _reopen(training, task_id, state, ReopenReason.NO_REVEAL):
            _open_round(training, task_id, height)
        return
    training.first_beacons[task_id] = training.validators.randomness()
    if ahead and _has_next_round(training, task_id):
        mine = training_workers.workers_of(state)
        kept = _tenured(training, task_id, state.round + 1, state)
        attempt = training.next_attempts[task_id]
        workers, _ = _draw_workers(training, task_id, state.round + 1, attempt, mine, kept)
        training_workers.take(training, workers)
        training.next_workers[task_id] = tuple(workers)


def _open_audit(training: TrainingSchema, task_id: int, state: RoundState, height: int) -> None:
    """Begin the audit of a round whose reveals are closed, the other half of it drawn with this block's beacon."""
    task, first = training.tasks[task_id], training.first_beacons[task_id]
    training.first_beacons.remove(task_id)
    halves = [
        Draws(beacon, task_id, state.round, state.attempt, _AUDITORS)
        for beacon in (first, training.validators.randomness())
    ]
    validators = training.validator_accounts()
    present = tuple(account for account in validators if training.absent_auditors[account] < height)

    def audited(slot: SlotState) -> SlotState:
        draws = chosen_half(halves, task.policy.audited_ppm)
        if draws is None:
            return slot
        wanted = task.policy.auditors_per_slot
        return replace(slot, auditors=tuple(draw_auditors(draws, present, validators, slot.worker, wanted)))

    slots = tuple(slot if slot.update_root is None else audited(slot) for slot in state.slots)
    deadline = height + task.policy.audit_blocks
    training.rounds[task_id] = replace(state, phase=Phase.AUDIT, deadline=deadline, slots=slots)
    training.emit(training.AuditOpened(task_id, state.round, deadline))


def _close_audit(training: TrainingSchema, task: int, state: RoundState, height: int) -> bool:
    """Settle a round on which a quorum agrees, or open it again; whether that was done."""
    validators = training.validator_accounts()
    quorum = training.validators.validator_set().quorum
    agreed = outcome(state, validators, quorum)
    if agreed is None:
        training.plant_deadlines.remove(task)
        # Before the deadline a validator may still change its word; after it, a split vote would wait for ever.
        times_late = (height - state.deadline) // training.tasks[task].policy.audit_blocks
        if (
            (height >= state.deadline and agreement_is_impossible(state, validators, quorum))
            or (times_late >= PATIENCE and has_spoken(state, validators, quorum))
            or times_late >= PATIENCE_MAX
        ):
            training_silos.pause_disputed(training, task, state)
            training_challenges.drop(training, state)
            _reopen(training, task, state, ReopenReason.NO_AGREEMENT)
            return True
        return False
    silent = silent_auditors(state, agreed.accepted, validators)
    if silent and height < state.deadline:
        return False
    # A challenge makes everybody attest anew, which may take longer than there was time.
    if not any(slot.challenged for slot in state.slots) and not training.plants[task]:
        for account in silent:
            training.absent_auditors[account] = height + ABSENCE_BLOCKS
    if training_plants.waits(training, task, state, agreed):
        return False
    _settle_challenges(training, task, state, agreed)
    training_plants.settle(training, task, state, agreed)
    if agreed.accepted:
        training_workers.hear(training, (state.slots[index].worker for index in agreed.accepted))
        _finalise(training, task, state, agreed, height)
    else:
        _reopen(training, task, state, ReopenReason.NOTHING_ACCEPTED)
    return True


def _settle_challenges(training: TrainingSchema, task: int, state: RoundState, agreed: Outcome) -> None:
    """Settle each challenge for or against its challenger, and slash the workers of rejected slots not planted."""
    planted = training_plants.rejected(training, task, agreed)
    for index, slot in enumerate(state.slots):
        if slot.challenger is None:
            continue
        if index in agreed.accepted:
            training_challenges.refute(training, slot.challenger)
            training.emit(training.ChallengeRefuted(task, state.round, index, slot.challenger))
            continue
        if index not in planted:
            worker = training.workers[slot.worker]
            training.workers[slot.worker] = replace(worker, rejected=worker.rejected + 1)
        if index in planted:
            slashed = 0
        elif training_silos.is_federated(training, task):
            slashed = training_silos.forfeit(training, slot.worker, task, state.round)
        else:
            slashed = training_workers.slash(training, slot.worker, task, state.round, SlashReason.REJECTED)
        reward = training_challenges.uphold(training, slot.challenger, slashed)
        training.emit(training.ChallengeUpheld(task, state.round, index, slot.challenger, reward))


def _finalise(training: TrainingSchema, task_id: int, state: RoundState, agreed: Outcome, height: int) -> None:
    task = training.tasks[task_id]
    planted = training_plants.rejected(training, task_id, agreed)
    training_plants.end(training, task_id, state.round)
    paid_slots = sorted((*agreed.accepted, *planted))
    burned = task.price_per_slot * len(paid_slots)
    spent = training.balances.burn_reserved(task.owner, burned)
    assert spent == burned, f"the escrow of task {task_id} lacks {burned - spent}"
    aggregator, liars = judged_aggregates(state, agreed)
    if training_slices.count_of(training, task_id):
        aggregator, others = training_slices.settle(training, task_id, state, agreed)
        liars += [account for account in others if account not in liars]
    for account in liars:
        training_aggregators.slash(training, account, task_id, state.round)
    workers = [state.slots[index].worker for index in paid_slots]
    pay = training.rewards.pay_round(
        task_id,
        state.round,
        task.price_per_slot,
        slots=dict(zip(paid_slots, workers, strict=True)),
        auditors=agreed.attesters,
        aggregator=aggregator,
        # Whose owner chooses who trains would farm the emission.
        is_emitting=not training_silos.is_federated(training, task_id),
    )
    for index, account, paid in zip(paid_slots, workers, pay.workers, strict=True):
        worker = training.workers[account]
        accepted = worker.accepted + (index not in planted)
        training.workers[account] = replace(worker, accepted=accepted, earned=worker.earned + paid)
    training.history[task_id, state.round] = RoundRecord(
        attempt=state.attempt,
        params_root=agreed.params_root,
        optimizer_root=agreed.optimizer_root,
        evaluation=agreed.evaluation,
        minted=pay.total,
        emission=pay.emission,
        finalised_at=height,
        slots=tuple(
            SlotRecord(slot.worker, slot.update_root, index in agreed.accepted, index in planted)
            for index, slot in enumerate(state.slots)
        ),
        attesters=agreed.attesters,
        aggregator=aggregator,
    )
    training_workers.release(training, training_workers.workers_of(state))
    another = _has_next_round(training, task_id)
    training.tasks[task_id] = replace(
        task,
        params_root=agreed.params_root,
        optimizer_root=agreed.optimizer_root,
        round=task.round + 1,
        escrow=task.escrow - burned,
        minted=task.minted + pay.total,
    )
    training.emit(
        training.RoundFinalised(
            task_id,
            state.round,
            agreed.params_root,
            agreed.optimizer_root,
            agreed.evaluation,
            pay.total,
        )
    )
    # What has begun ahead is finished and paid though its task was cancelled since.
    if training_ahead.promote(training, task_id, height):
        return
    if another:
        _begin_next_round(training, task_id, height)
    else:
        end_task(training, task_id)


def _has_next_round(training: TrainingSchema, task_id: int) -> bool:
    """Whether a round follows the running one."""
    task = training.tasks[task_id]
    return task.status is TaskStatus.ACTIVE and task.round + 1 < task.rounds


def _begin_next_round(training: TrainingSchema, task: int, height: int) -> None:
    """Open the next round at once for those who were drawn for it, without who lost its bond since.

    A fresh draw where nobody is left, or nothing was drawn.
    """
    round_, attempt = training.tasks[task].round, training.next_attempts[task]
    training_ahead.forget(training, task)
    drawn = training.next_workers[task]
    slots_max, needed = training_silos.slots_max(training, task), training_silos.workers_min(training, task)
    fit = {account for account in set(drawn) if training_workers.is_sound(training, account) and slots_max(account)}
    workers = [account for account in drawn if account in fit]
    # Within a tenure a slot's place says whose memory it goes on with: none may move.
    is_movable = training.tasks[task].policy.tenure == 1
    if len(workers) >= needed and (is_movable or len(workers) == len(drawn)):
        training_workers.release(training, [account for account in drawn if account not in fit])
        training.next_workers.remove(task)
        _begin_commit(training, task, idle(round_, attempt, height), workers, height)
    else:
        _forget_drawn(training, task)
        wait(training, task, round_, attempt)


def _reopen(training: TrainingSchema, task: int, state: RoundState, reason: ReopenReason) -> bool:
    """Let the same round wait for a fresh beacon: whoever failed it may not be drawn again. False if the task ended."""
    attempt = state.attempt + 1
    training_ahead.discard(training, task)
    training_slices.drop(training, task)
    training_plants.end(training, task, state.round)
    training_workers.release(training, training_workers.workers_of(state))
    training.emit(training.RoundReopened(task, state.round, attempt, reason))
    if training.tasks[task].status is TaskStatus.CANCELLED:
        end_task(training, task)
        return False
    _forget_drawn(training, task)
    wait(training, task, state.round, attempt)
    return True
