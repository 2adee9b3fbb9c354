"""Who sums a round's updates: bonds, and what a false sum costs.

Rule: every planck of a bond is reserved on its aggregator's account, given back, or burned.
"""

from __future__ import annotations

from runtime.modules.training_schema import TrainingSchema


def is_engaged(training: TrainingSchema, account: bytes) -> bool:
    """Whether an aggregator has a word in a running round, or on trial, which may yet be found false."""
    for task in training.active_tasks.get():
        trial = training.trials.get(task)
        if trial is not None and trial.aggregate.aggregator == account:
            return True
        if any(aggregate.aggregator == account for aggregate in training.rounds[task].aggregates):
            return True
    return False


def remove(training: TrainingSchema, account: bytes) -> None:
    """Give an aggregator's bond back and forget it."""
    bond = training.aggregators[account]
    missing = training.balances.unreserve(account, bond)
    assert not missing, f"0x{account.hex()} lacks {missing} of its bond"
    training.aggregators.remove(account)
    training.aggregator_count.put(training.aggregator_count.get() - 1)
    training.emit(training.AggregatorDeregistered(account, bond))


def slash(training: TrainingSchema, account: bytes, task: int, round_: int) -> int:
    """Burn a part of an aggregator's bond, and return how much; one that is left with too little of it is removed."""
    bond = training.aggregators.get(account)
    if bond is None:  # Removed by another task's round in this block.
        return 0
    amount = min(training.slash_false_aggregate, bond)
    slashed = training.balances.slash_reserved(account, amount)
    assert slashed == amount, f"0x{account.hex()} lacks {amount - slashed} of its bond"
    training.aggregators[account] = bond - amount
    training.emit(training.AggregatorSlashed(account, task, round_, amount))
    if bond - amount < training.aggregator_bond_min:
        remove(training, account)
    return amount
