"""What keeping a task's blobs costs its owner: a deposit while it runs, of which only the time that it took is burned.

Rule: nothing is kept that is not paid for, and the chain never sells more bytes than `StorageBytesMax`, so that a node
with room for those keeps all of it. What is paid is burned: no proof says who keeps a blob, and a share for all
validators would pay those who do not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from runtime.modules.training_schema import TrainingSchema
from runtime.modules.training_sizes import (
    AFTER_BLOCKS,
    MODEL_BLOCKS,
    STORAGE_BLOCKS_MAX,
    Storage,
    claim_is_valid,
    cost,
    deposit_of,
    life_blocks,
    model_bytes,
    running_bytes,
)
from runtime.modules.training_types import Task, TaskStatus, Terms

# Finished tasks are looked at in turn, so many a block: of ten thousand each within the hour.
LOOKED_AT_MAX: Final = 4


def ensure_room(training: TrainingSchema, terms: Terms) -> None:
    """Raise what is wrong with a task's claim; it writes nothing."""
    if not claim_is_valid(terms.storage):
        raise training.InvalidStorage
    wanted = running_bytes(terms.storage, terms.optimizer, terms.policy)
    left = training.storage_bytes_max - training.stored_bytes.get()
    if wanted > left:
        raise training.StorageFull(f"the task's blobs take {wanted:,} bytes, {left:,} are left")


def deposit(training: TrainingSchema, terms: Terms) -> int:
    """What is reserved for a task's blobs when it is created."""
    price = training.storage_price
    return deposit_of(terms.storage, terms.optimizer, terms.policy, terms.rounds, price)


def open_account(training: TrainingSchema, task: int, terms: Terms) -> None:
    """Reserve a new task's deposit and count its bytes."""
    amount, height = deposit(training, terms), training.system.height
    training.balances.reserve(terms.owner, amount)
    until = height + life_blocks(terms.policy, terms.rounds)
    size = running_bytes(terms.storage, terms.optimizer, terms.policy)
    training.storage[task] = Storage(
        claim=terms.storage,
        params_root=terms.params_root,
        bytes=size,
        deposit=amount,
        since=height,
        ended_at=None,
        until=until,
    )
    training.stored_bytes.put(training.stored_bytes.get() + size)
    training.emit(training.StorageReserved(task, size, amount, until))


def close_account(training: TrainingSchema, task_id: int, task: Task) -> None:
    """Burn what a task that is over has used and what its model still will; the rest of the deposit is free."""
    held, height, price = training.storage[task_id], training.system.height, training.storage_price
    # What was never trained is nobody's model.
    kept_on = MODEL_BLOCKS if task.round else 0
    used = cost(held.bytes, height - held.since + AFTER_BLOCKS, price)
    used += cost(model_bytes(held.claim), kept_on, price)
    # The last round may end after the deposit's time.
    used = min(used, held.deposit)
    burned = training.balances.burn_reserved(task.owner, used)
    missing = training.balances.unreserve(task.owner, held.deposit - used)
    assert (burned, missing) == (used, 0), f"the deposit of task {task_id} lacks {used - burned + missing}"
    until = height + AFTER_BLOCKS + kept_on
    training.storage[task_id] = replace(held, deposit=0, ended_at=height, until=until)
    count = training.stored_count.get()
    training.stored_tasks[count] = task_id
    training.stored_count.put(count + 1)
    training.emit(training.StoragePaid(task_id, used, until))


def extension(training: TrainingSchema, task_id: int, blocks: int) -> tuple[int, int]:
    """What it costs to keep for so many blocks more what is kept of a task, and until when it is kept then."""
    held, height = training.storage.get(task_id), training.system.height
    if held is None:
        raise training.UnknownTask
    if height >= held.until:
        raise training.StorageOver
    if not 1 <= blocks <= STORAGE_BLOCKS_MAX or held.until + blocks > height + STORAGE_BLOCKS_MAX:
        raise training.InvalidExtension
    size = held.bytes if held.ended_at is None else model_bytes(held.claim)
    return cost(size, blocks, training.storage_price), held.until + blocks


def extend(training: TrainingSchema, payer: bytes, task_id: int, blocks: int) -> None:
    """Keep a finished task's model longer, whoever pays; or let a running one's deposit last longer."""
    amount, until = extension(training, task_id, blocks)
    held = training.storage[task_id]
    if held.ended_at is None:
        if training.tasks[task_id].owner != payer:
            raise training.NotOwner
        training.balances.reserve(payer, amount)
        held = replace(held, deposit=held.deposit + amount)
    else:
        training.balances.withdraw(payer, amount)
        training.balances.rescind(amount)
    training.storage[task_id] = replace(held, until=until)
    training.emit(training.StorageExtended(task_id, payer, amount, until))


def unpaid(training: TrainingSchema) -> list[int]:
    """The running tasks that no deposit pays for any more; they end with what has begun of them."""
    height = training.system.height
    return [
        task
        for task in training.active_tasks.get()
        if height >= training.storage[task].until and training.tasks[task].status is TaskStatus.ACTIVE
    ]


def forget_expired(training: TrainingSchema) -> None:
    """Look at a few finished tasks: count what is kept of them no more."""
    count, place, height = training.stored_count.get(), training.stored_cursor.get(), training.system.height
    for _ in range(min(LOOKED_AT_MAX, count)):
        place = place if place < count else 0
        task = training.stored_tasks[place]
        held = training.storage[task]
        assert held.ended_at is not None
        if height >= held.until:
            _count(training, task, held, 0)
            count -= 1
            training.stored_tasks[place] = training.stored_tasks[count]
            training.stored_tasks.remove(count)
            training.stored_count.put(count)
            training.emit(training.StorageExpired(task))
            if not count:
                break
        else:
            if height >= held.ended_at + AFTER_BLOCKS:
                _count(training, task, held, model_bytes(held.claim))
            place += 1
    if place != training.stored_cursor.get():
        training.stored_cursor.put(place)


def check(training: TrainingSchema) -> None:
    """Assert that bytes and finished tasks are counted as they are."""
    every = dict(training.storage.items())
    active = set(training.active_tasks.get())
    assert sorted(every) == list(range(training.next_task_id.get()))
    assert training.stored_bytes.get() == sum(held.bytes for held in every.values()) <= training.storage_bytes_max
    assert {task for task, held in every.items() if held.ended_at is None} == active
    stored = [training.stored_tasks[place] for place in range(training.stored_count.get())]
    assert sorted(stored) == sorted(training.stored_tasks.values())
    assert sorted(stored) == sorted(task for task, held in every.items() if task not in active and held.bytes)
    assert all(held.deposit == 0 for task, held in every.items() if task not in active)


def _count(training: TrainingSchema, task: int, held: Storage, size: int) -> None:
    if size != held.bytes:
        training.storage[task] = replace(held, bytes=size)
        training.stored_bytes.put(training.stored_bytes.get() - held.bytes + size)
