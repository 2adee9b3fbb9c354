"""The round ahead: begun from what a quorum says that the running one makes, then kept or thrown away by its audit.

Rule: nobody loses anything by a round that may be thrown away. Ahead of its time a round moves on only where it is
complete; who is late is waited for, and the deadlines begin when the round before is final.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from runtime.modules import training_plants, training_silos, training_slices, training_workers
from runtime.modules.training_rounds import all_committed, confirmed, idle, opened
from runtime.modules.training_schema import TrainingSchema
from runtime.modules.training_types import Model, Phase, RoundState

# Any slot may turn out to be planted, one in 64 does where all workers plant, and then what was trained ahead is lost,
# unpaid: of 16 slots in 22 % of the rounds, of 64 it would be in 63 %.
SLOTS_AHEAD_MAX: Final = 16


def find(training: TrainingSchema, task: int, round_: int) -> RoundState | None:
    """The round of this number, running or ahead; the running one where there is none of this number."""
    found = training.tasks.get(task)
    ahead = training.rounds_ahead.get(task) if found is not None and round_ == found.round + 1 else None
    return training.rounds.get(task) if ahead is None else ahead


def put(training: TrainingSchema, task: int, state: RoundState) -> None:
    """Store a round that was found."""
    rounds = training.rounds if state.round == training.tasks[task].round else training.rounds_ahead
    rounds[task] = state


def is_fixed(training: TrainingSchema, task: int, state: RoundState) -> bool:
    """Whether nothing more is revealed to a running round, so that what all of its slots make is a fixed sum."""
    return state.phase is Phase.AUDIT or (state.phase is Phase.REVEAL and task in training.first_beacons)


def begin(training: TrainingSchema, task: int, state: RoundState, height: int) -> None:
    """Open the next round, for whom it was drawn, once it is confirmed or proven what the running one makes.

    While a slot is challenged, or shown to be planted, what was confirmed is in doubt, and nothing is begun on it. Nor
    is a federated task's round: what was revealed to one that is thrown away, another silo could say again.
    """
    workers = training.next_workers[task]
    doubted = any(slot.challenged for slot in state.slots) or training.plants[task]
    if not workers or doubted or len(state.slots) > SLOTS_AHEAD_MAX or training_silos.is_federated(training, task):
        return
    quorum = training.validators.validator_set().quorum
    model = training_slices.proven_model(training, task, state) or confirmed(
        training.confirmations[task], training.validator_accounts(), quorum
    )
    if model is None or not all(training_workers.is_sound(training, account) for account in set(workers)):
        return
    training.next_workers.remove(task)
    training.provisional[task] = model
    waiting = idle(state.round + 1, training.next_attempts[task], height)
    deadline = height + training.tasks[task].policy.commit_blocks
    training.rounds_ahead[task] = opened(waiting, workers, height, deadline)
    training_plants.begin(training, task, waiting.round)
    training.emit(training.RoundOpened(task, waiting.round, waiting.attempt, deadline))


def advance(training: TrainingSchema, task: int, height: int) -> None:
    """Let a round ahead reveal once all of it is committed."""
    state = training.rounds_ahead.get(task)
    if state is not None and state.phase is Phase.COMMIT and all_committed(state):
        deadline = height + training.tasks[task].policy.reveal_blocks
        training.rounds_ahead[task] = replace(state, phase=Phase.REVEAL, deadline=deadline)
        training.emit(training.RevealOpened(task, state.round, deadline))


def promote(training: TrainingSchema, task: int, height: int) -> bool:
    """Once a round is final, let the one ahead run if it began from just that model; else throw it away."""
    state, found = training.rounds_ahead.get(task), training.tasks[task]
    if state is None or training.provisional[task] != Model(found.params_root, found.optimizer_root):
        discard(training, task)
        return False
    policy = found.policy
    blocks = policy.commit_blocks if state.phase is Phase.COMMIT else policy.reveal_blocks
    training.rounds[task] = replace(state, deadline=height + blocks)
    training.rounds_ahead.remove(task)
    training.provisional.remove(task)
    forget(training, task)
    return True


def discard(training: TrainingSchema, task: int) -> None:
    """Throw away what was confirmed of a round, and the round that began from it.

    Who had its slots is drawn for its next attempt, which opens once the round before is final.
    """
    training.confirmations.remove(task)
    state = training.rounds_ahead.get(task)
    if state is None:
        return
    training.next_workers[task] = tuple(training_workers.workers_of(state))
    training.rounds_ahead.remove(task)
    training.provisional.remove(task)
    training.plant_beacons.remove((task, state.round))
    training.next_attempts[task] = state.attempt + 1
    training.emit(training.RoundDiscarded(task, state.round, state.attempt))


def forget(training: TrainingSchema, task: int) -> None:
    """Remove what was kept for the round after one that is final, or after the last."""
    training.confirmations.remove(task)
    training.next_attempts.remove(task)
