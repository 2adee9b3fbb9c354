"""Who can be drawn for a slot: bonds, pauses, slashes.

Rule: every planck of a bond is reserved on its worker's account, given back, or burned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from runtime.modules.training_schema import TrainingSchema
from runtime.modules.training_types import WORKERS_MAX, RoundState, Seats, SlashReason


def activate(training: TrainingSchema, account: bytes, capacity: int) -> None:
    """Let a worker be drawn, with as many seats as it has capacity and no slot."""
    seats = {each.worker: each for each in training.active_workers.get()}
    # Who comes back may still have slots from before.
    taken = seats[account].taken if account in seats else engagements(training, account)
    seats[account] = Seats(account, capacity, taken)
    training.active_workers.put(tuple(seats[worker] for worker in sorted(seats)))


def deactivate(training: TrainingSchema, account: bytes) -> None:
    """Let a worker not be drawn."""
    training.active_workers.put(tuple(other for other in training.active_workers.get() if other.worker != account))


def free_seats(
    training: TrainingSchema, task: int, given_back: Sequence[bytes], slots_max: Callable[[bytes], int]
) -> tuple[list[tuple[bytes, int]], int]:
    """Who can be drawn for a task's slots, ascending, each with its free seats; and how many ever could be.

    A round is drawn while the one before is audited: the slots that this one gives back count as free. `slots_max` says
    how many slots of a round of this task an account may have.
    """
    paused = set(training.paused_workers[task])
    returned = Counter(given_back)
    willing = [
        (seats, most)
        for seats in training.active_workers.get()
        if seats.worker not in paused and (most := slots_max(seats.worker))
    ]
    free = [(each.worker, min(most, each.capacity - each.taken + returned[each.worker])) for each, most in willing]
    return [(worker, count) for worker, count in free if count > 0], len(willing)


def take(training: TrainingSchema, workers: Sequence[bytes]) -> None:
    """Count slots that were given to workers."""
    _count(training, Counter(workers), 1)


def release(training: TrainingSchema, workers: Sequence[bytes]) -> None:
    """Count slots that are over."""
    _count(training, Counter(workers), -1)


def _count(training: TrainingSchema, slots: Counter[bytes], sign: int) -> None:
    if slots:
        training.active_workers.put(
            tuple(
                replace(seats, taken=seats.taken + sign * slots[seats.worker]) if seats.worker in slots else seats
                for seats in training.active_workers.get()
            )
        )


def is_sound(training: TrainingSchema, account: bytes) -> bool:
    """Whether a worker's bond covers what it may be drawn for, though it may be about to leave."""
    worker = training.workers[account]
    return bool(worker.bond) and worker.bond >= training.worker_bond_min * worker.capacity


def engagements(training: TrainingSchema, account: bytes) -> int:
    """How many slots a worker has, in running rounds, in those ahead and in those that it is drawn for."""
    return sum(slots_of(training, task).count(account) for task in training.active_tasks.get())


def slots_of(training: TrainingSchema, task: int) -> list[bytes]:
    """Whose seats a task has taken, once for each slot: of its running round and of the next, drawn or begun."""
    ahead = training.rounds_ahead.get(task)
    begun = [] if ahead is None else workers_of(ahead)
    return [*workers_of(training.rounds[task]), *training.next_workers[task], *begun]


def workers_of(state: RoundState) -> list[bytes]:
    """Who has the slots of a round."""
    return [slot.worker for slot in state.slots]


def retire(training: TrainingSchema, account: bytes) -> None:
    """Draw a worker no more; the slots that it was drawn for are still its own, and its bond waits."""
    free_at = training.system.height + training.leave_blocks
    training.workers[account] = replace(training.workers[account], active=False, free_at=free_at)
    deactivate(training, account)
    training.emit(training.WorkerRetired(account, free_at))


def remove(training: TrainingSchema, account: bytes) -> None:
    """Give the bond of a worker that retired back and forget it, except for what it achieved."""
    worker = training.workers[account]
    missing = training.balances.unreserve(account, worker.bond)
    assert not missing, f"0x{account.hex()} lacks {missing} of its bond"
    # Only work and slashes leave a memory, and both cost something: coming and going does not grow the state.
    if worker.accepted or worker.rejected:
        training.workers[account] = replace(worker, bond=0, capacity=0, free_at=0)
    else:
        training.workers.remove(account)
    training.emit(training.WorkerDeregistered(account, worker.bond))


def pause(training: TrainingSchema, accounts: Iterable[bytes], task: int, round_: int) -> None:
    """Draw workers for this task no more until they resume.

    A dead worker must cost one round's slots and not every round's; and a task that nobody can compute must not take
    its workers away from the others.
    """
    paused = set(training.paused_workers[task])
    # One that left has nothing to resume.
    news = [account for account in dict.fromkeys(accounts) if account not in paused and training.workers[account].bond]
    if len(paused) + len(news) > WORKERS_MAX:
        paused = {account for account in paused if training.workers[account].bond}
    if news:
        _put_paused(training, task, sorted(paused.union(news)))
    for account in news:
        training.emit(training.WorkerPaused(account, task, round_))


def resume(training: TrainingSchema, account: bytes, task: int) -> None:
    """Let a paused worker be drawn for a task again."""
    _put_paused(training, task, (other for other in training.paused_workers[task] if other != account))
    training.emit(training.WorkerResumed(account, task))


def _put_paused(training: TrainingSchema, task: int, accounts: Iterable[bytes]) -> None:
    found = tuple(sorted(accounts))
    if found:
        training.paused_workers[task] = found
    else:
        training.paused_workers.remove(task)


def slash(training: TrainingSchema, account: bytes, task: int, round_: int, reason: SlashReason) -> int:
    """Burn what a proven cheat, a false plant or a missing reveal costs; how much that was."""
    wanted = training.slash_not_revealed if reason is SlashReason.NOT_REVEALED else training.slash_rejected
    return burn(training, account, task, round_, wanted, reason)


def burn(training: TrainingSchema, account: bytes, task: int, round_: int, wanted: int, reason: SlashReason) -> int:
    """Burn a part of a worker's bond, and say how much; one that is left with too little of it is drawn no more."""
    worker = training.workers[account]
    amount = min(wanted, worker.bond)
    if not amount:
        return 0
    slashed = training.balances.slash_reserved(account, amount)
    assert slashed == amount, f"0x{account.hex()} lacks {amount - slashed} of its bond"
    training.workers[account] = replace(worker, bond=worker.bond - amount)
    training.emit(training.WorkerSlashed(account, task, round_, amount, reason))
    if worker.active and not is_sound(training, account):
        retire(training, account)
    return amount
