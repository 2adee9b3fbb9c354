"""Metrics of training: what the chain says of the tasks that run, and what rounds came to while this node looked on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import Metric as Family

from chain.ledger import Ledger
from chain.metrics.metric import Kind, Metric
from chain.seen import Seen
from runtime.modules.training import Training
from runtime.modules.training_types import Phase

ACTIVE: Final = Metric("potchain_training_tasks_active", Kind.GAUGE, "Tasks whose rounds run.")
ROUND: Final = Metric("potchain_training_round", Kind.GAUGE, "The round that runs, from 0.", ("task",))
ROUND_AGE: Final = Metric(
    "potchain_training_round_age_blocks", Kind.GAUGE, "How many blocks ago the running round was opened.", ("task",)
)
PHASE: Final = Metric(
    "potchain_training_phase", Kind.GAUGE, "1 for the phase that a task's running round is in.", ("task", "phase")
)
LOSS: Final = Metric("potchain_training_loss", Kind.GAUGE, "A task's last held-out loss.", ("task",))
ACCURACY: Final = Metric(
    "potchain_training_accuracy_ratio", Kind.GAUGE, "A task's last held-out accuracy, 1 for all right.", ("task",)
)
ROUNDS: Final = Metric(
    "potchain_training_rounds_final_total", Kind.COUNTER, "Rounds that became final while this process ran."
)
SLOTS: Final = Metric(
    "potchain_training_slots_total", Kind.COUNTER, "Slots of those rounds by what became of them.", ("outcome",)
)
MINTED: Final = Metric("potchain_training_minted_planck_total", Kind.COUNTER, "What was minted for those rounds.")


def collected(ledger: Ledger, seen: Seen) -> Iterator[Family]:
    """Reads the newest state: for a thread. There are at most as many tasks as the runtime lets run."""
    yield ROUNDS.of(seen.rounds)
    yield SLOTS.each({(outcome,): count for outcome, count in seen.slots.items()})
    yield MINTED.of(seen.minted)
    if not ledger.runtime.has(Training):
        return
    with ledger.state() as state:
        height, training = state.header.height, ledger.runtime.at(state).module(Training)
        rounds = {str(task): training.rounds[task] for task in training.active_tasks.get()}
    yield ACTIVE.of(len(rounds))
    yield ROUND.each({(task,): round.round for task, round in rounds.items()})
    yield ROUND_AGE.each({(task,): height - round.opened_at for task, round in rounds.items()})
    phases = {(task, phase.name.lower()): round.phase is phase for task, round in rounds.items() for phase in Phase}
    yield PHASE.each(phases)
    measured = {(task,): found for task in rounds if (found := seen.measured.get(int(task))) is not None}
    yield LOSS.each({task: loss for task, (loss, _) in measured.items()})
    yield ACCURACY.each({task: accuracy for task, (_, accuracy) in measured.items()})
