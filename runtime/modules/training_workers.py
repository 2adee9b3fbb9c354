"""Who can be drawn for a slot: bonds, pauses, slashes.

Rule: every planck of a bond is reserved on its worker's account, given back, or burned. Nothing that a block does reads
all workers: what a worker costs it does not grow with how many others there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from runtime.modules.training_draws import Draws, assign_slots
from runtime.modules.training_schema import TrainingSchema
from runtime.modules.training_types import (
    MISSING_BLOCKS,
    SEATS_LOOKED_AT_MAX,
    SEATS_SWEPT,
    RoundState,
    Seats,
    SlashReason,
)


def activate(training: TrainingSchema, account: bytes, capacity: int) -> None:
    """Let a worker be drawn, with a seat for each slot of its capacity."""
    seats, count = training.seats[account], training.seat_count.get()
    places = range(count, count + capacity - len(seats.places))
    for place in places:
        training.seat_owners[place] = account
    training.seat_count.put(count + len(places))
    training.seats[account] = replace(seats, places=(*seats.places, *places), missing_since=0)


def deactivate(training: TrainingSchema, account: bytes) -> None:
    """Let a worker not be drawn: the last seats take the places of its seats."""
    seats, count = training.seats[account], training.seat_count.get()
    for place in sorted(seats.places, reverse=True):
        count -= 1
        if place != count:
            mover = training.seat_owners[count]
            theirs = training.seats[mover]
            moved = tuple(place if each == count else each for each in theirs.places)
            training.seats[mover] = replace(theirs, places=moved)
            training.seat_owners[place] = mover
        training.seat_owners.remove(count)
    training.seat_count.put(count)
    _put(training, account, replace(seats, places=()))


def _forget_pauses(training: TrainingSchema, account: bytes) -> None:
    """Keep nothing of who has no bond: there is nothing for it to resume."""
    _put(training, account, replace(training.seats[account], paused=(), missing_since=0))


def _put(training: TrainingSchema, account: bytes, seats: Seats) -> None:
    """Store what a draw has to know of a worker, if there is anything."""
    if seats.places or seats.taken or seats.paused:
        training.seats[account] = seats
    else:
        training.seats.remove(account)


@dataclass(frozen=True, slots=True)
class Drawn:
    """Who was drawn for the slots of a round, and how many of those that were looked at would ever take one."""

    workers: list[bytes]
    willing: int


def draw(
    training: TrainingSchema,
    task: int,
    draws: Draws,
    given_back: Sequence[bytes],
    kept: Sequence[bytes | None],
    slots_max: Callable[[bytes], int],
    silos: Sequence[bytes] | None,
) -> Drawn:
    """Draw the worker of each slot of a round that is not `kept` for one: among all, or `silos` alone.

    A round is drawn while the one before is audited: the slots that this one gives back count as free. `slots_max` says
    how many slots of a round of this task an account may have. What this costs follows from the slots: of however many
    seats it looks at SEATS_LOOKED_AT_MAX.
    """
    returned = Counter(given_back)
    known: dict[bytes, tuple[Seats, int]] = {}
    willing: set[bytes] = set()

    def look(account: bytes) -> tuple[Seats, int]:
        """A worker's seats, and how many of them are free for this task."""
        found = known.get(account)
        if found is None:
            seats, free = training.seats[account], 0
            if seats.places and task not in seats.paused and (most := slots_max(account)):
                willing.add(account)
                free = max(0, min(most, len(seats.places) - seats.taken + returned[account]))
            found = known[account] = seats, free
        return found

    def owner(place: int) -> tuple[bytes, int]:
        if silos is not None:
            return silos[place], 0
        account = training.seat_owners[place]
        return account, look(account)[0].places.index(place)

    def free(account: bytes) -> int:
        return look(account)[1]

    count = training.seat_count.get() if silos is None else len(silos)
    slots = training.tasks[task].policy.slots
    workers = assign_slots(draws, count, owner, free, slots, kept, SEATS_LOOKED_AT_MAX)
    return Drawn(workers, len(willing))


def take(training: TrainingSchema, workers: Sequence[bytes]) -> None:
    """Count slots that were given to workers."""
    for account, count in sorted(Counter(workers).items()):
        seats = training.seats[account]
        training.seats[account] = replace(seats, taken=seats.taken + count)


def release(training: TrainingSchema, workers: Sequence[bytes]) -> None:
    """Count slots that are over."""
    for account, count in sorted(Counter(workers).items()):
        seats = training.seats[account]
        _put(training, account, replace(seats, taken=seats.taken - count))


def hear(training: TrainingSchema, accounts: Iterable[bytes]) -> None:
    """Note that workers are not missing."""
    for account in sorted(set(accounts)):
        seats = training.seats[account]
        if seats.missing_since:
            _put(training, account, replace(seats, missing_since=0))


def sweep(training: TrainingSchema) -> None:
    """Retire one who has been missing for long, if there is one at the next few seats."""
    count, cursor = training.seat_count.get(), training.seat_cursor.get()
    for place in ((cursor + index) % count for index in range(min(SEATS_SWEPT, count))):
        training.seat_cursor.put((place + 1) % count)
        account = training.seat_owners[place]
        if _is_missing(training, training.seats[account]):
            retire(training, account)
            return


def _is_missing(training: TrainingSchema, seats: Seats) -> bool:
    """Whether a worker has had long enough to resume, or to have a slot accepted, and has done neither.

    What comes of a slot that it has is still to be seen; and nobody resumes for a task that is over.
    """
    if not seats.missing_since or seats.taken or training.system.height - seats.missing_since < MISSING_BLOCKS:
        return False
    return bool(_paused(training, seats))


def _paused(training: TrainingSchema, seats: Seats) -> list[int]:
    """The running tasks for which a worker is not drawn."""
    active = training.active_tasks.get()
    return [task for task in seats.paused if task in active]


def is_sound(training: TrainingSchema, account: bytes) -> bool:
    """Whether a worker's bond covers what it may be drawn for, though it may be about to leave."""
    worker = training.workers[account]
    return bool(worker.bond) and worker.bond >= training.worker_bond_min * worker.capacity


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
    _forget_pauses(training, account)
    training.emit(training.WorkerDeregistered(account, worker.bond))


def pause(training: TrainingSchema, accounts: Iterable[bytes], task: int, round_: int) -> None:
    """Draw workers for this task no more until they resume.

    A dead worker must cost one round's slots and not every round's; and a task that nobody can compute must not take
    its workers away from the others.
    """
    for account in dict.fromkeys(accounts):
        seats = training.seats[account]
        # One that left has nothing to resume.
        if task in seats.paused or not training.workers[account].bond:
            continue
        before = _paused(training, seats)
        since = (seats.missing_since if before else 0) or training.system.height
        training.seats[account] = replace(seats, paused=tuple(sorted((task, *before))), missing_since=since)
        training.emit(training.WorkerPaused(account, task, round_))


def resume(training: TrainingSchema, account: bytes, task: int) -> None:
    """Let a paused worker be drawn for a task again."""
    seats = training.seats[account]
    paused = tuple(each for each in seats.paused if each != task)
    _put(training, account, replace(seats, paused=paused, missing_since=0))
    training.emit(training.WorkerResumed(account, task))


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
    if amount == worker.bond:
        _forget_pauses(training, account)
    return amount
