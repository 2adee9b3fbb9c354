"""Who can be drawn for a slot: bonds, pauses, slashes.

Rule: every planck of a bond is reserved on its worker's account, given back, or burned.
"""

from __future__ import annotations

from dataclasses import replace

from runtime.modules.training_schema import TrainingSchema
from runtime.modules.training_types import SlashReason


def activate(training: TrainingSchema, account: bytes) -> None:
    """Let a worker be drawn."""
    training.active_workers.put(tuple(sorted((*training.active_workers.get(), account))))


def deactivate(training: TrainingSchema, account: bytes) -> None:
    """Let a worker not be drawn."""
    training.active_workers.put(tuple(other for other in training.active_workers.get() if other != account))


def remove(training: TrainingSchema, account: bytes) -> None:
    """Give a worker's bond back and forget it, except for what it achieved."""
    worker = training.workers[account]
    missing = training.balances.unreserve(account, worker.bond)
    assert not missing, f"0x{account.hex()} lacks {missing} of its bond"
    training.worker_count.put(training.worker_count.get() - 1)
    if worker.active:
        deactivate(training, account)
    # Only work and slashes leave a memory, and both cost something: coming and going does not grow the state.
    if worker.accepted or worker.rejected:
        training.workers[account] = replace(worker, bond=0, active=False)
    else:
        training.workers.remove(account)
    training.emit(training.WorkerDeregistered(account, worker.bond))


def pause(training: TrainingSchema, account: bytes, task: int, round_: int) -> None:
    """Draw a worker no more until it resumes: a dead one must cost one round's slots and not every round's."""
    worker = training.workers[account]
    if not worker.active:
        return
    training.workers[account] = replace(worker, active=False)
    deactivate(training, account)
    training.emit(training.WorkerPaused(account, task, round_))


def slash(training: TrainingSchema, account: bytes, task: int, round_: int, reason: SlashReason) -> None:
    """Burn a part of a worker's bond; a worker that is left with too little of it is removed."""
    worker = training.workers[account]
    wanted = training.slash_rejected if reason is SlashReason.REJECTED else training.slash_not_revealed
    amount = min(wanted, worker.bond)
    if not amount:
        return
    slashed = training.balances.slash_reserved(account, amount)
    assert slashed == amount, f"0x{account.hex()} lacks {amount - slashed} of its bond"
    training.workers[account] = replace(worker, bond=worker.bond - amount)
    training.emit(training.WorkerSlashed(account, task, round_, amount, reason))
    if worker.bond - amount < training.worker_bond_min:
        remove(training, account)
