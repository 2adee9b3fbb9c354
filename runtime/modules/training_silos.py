"""Silos: who contributes to a federated task, with how many samples, and what a harmful contribution costs it.

Rule: a task's owner says who its silos are and how much each can weigh at most, since nobody can check samples that
stay where they are. What a silo contributes is never proven wrong, so that it never costs what a proven cheat does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from runtime.modules import training_workers
from runtime.modules.training_policy import SAMPLES_MAX, Scored
from runtime.modules.training_schema import TrainingSchema
from runtime.modules.training_types import CAPACITY_MAX, SILOS_MAX, RoundState, Silo, SlashReason


def is_federated(training: TrainingSchema, task: int) -> bool:
    """Whether a task's data stay with silos."""
    return training.tasks[task].policy.is_federated


def ensure_owner(training: TrainingSchema, account: bytes, task: int) -> None:
    """Raise unless this is the owner of a running federated task."""
    _ensure_running(training, task)
    if training.tasks[task].owner != account:
        raise training.NotOwner


def admit(training: TrainingSchema, task: int, account: bytes, samples_max: int) -> None:
    """Let an account declare up to so many samples; what it has declared beyond them counts no more."""
    if not 1 <= samples_max <= SAMPLES_MAX:
        raise training.InvalidSamples
    silos = _silos(training, task)
    if account not in silos and len(silos) >= SILOS_MAX:
        raise training.TooManySilos
    before = silos.get(account, Silo(account, samples_max, 0))
    silos[account] = Silo(account, samples_max, min(before.samples, samples_max))
    _put(training, task, silos)
    training.emit(training.SiloAdmitted(task, account, samples_max))


def expel(training: TrainingSchema, task: int, account: bytes) -> None:
    """Forget a silo."""
    silos = _silos(training, task)
    if silos.pop(account, None) is None:
        raise training.NotSilo
    _put(training, task, silos)
    training.emit(training.SiloExpelled(task, account))


def declare(training: TrainingSchema, task: int, account: bytes, samples: int) -> None:
    """Note how many samples a silo says it has."""
    _ensure_running(training, task)
    silos = _silos(training, task)
    if account not in silos:
        raise training.NotSilo
    if samples > silos[account].samples_max:
        raise training.InvalidSamples
    silos[account] = replace(silos[account], samples=samples)
    _put(training, task, silos)
    training.emit(training.SamplesDeclared(task, account, samples))


def slots_max(training: TrainingSchema, task: int) -> Callable[[bytes], int]:
    """How many slots of a round of this task an account may have: a silo one, and nobody else any.

    Other tasks are for those who take part in no federated one: a silo trains on its own data alone.
    """
    if is_federated(training, task):
        taking_part = _taking_part(training, task)
        return lambda account: int(account in taking_part)
    elsewhere = dict.fromkeys(
        account for other in training.active_tasks.get() for account in _taking_part(training, other)
    )
    return lambda account: 0 if account in elsewhere else CAPACITY_MAX


def candidates(training: TrainingSchema, task: int) -> list[bytes] | None:
    """Who alone can be drawn for a federated task; None: whoever is no silo of another."""
    return _taking_part(training, task) if is_federated(training, task) else None


def workers_min(training: TrainingSchema, task: int) -> int:
    """For how many workers a round of the task waits."""
    verification = training.tasks[task].policy.verification
    return verification.silos_min if isinstance(verification, Scored) else 1


def weigh(training: TrainingSchema, task: int, round_: int, workers: Sequence[bytes]) -> None:
    """Fix what each slot of a round that opens weighs: what its silo declares later counts in later rounds."""
    verification = training.tasks[task].policy.verification
    if isinstance(verification, Scored):
        silos, most = _silos(training, task), verification.weight_max
        training.weights[task, round_] = tuple(min(silos[account].samples, most) for account in workers)


def ensure_own(training: TrainingSchema, task: int, state: RoundState, update_root: bytes) -> None:
    """Raise where a federated task's update is another slot's. An update has one encoding: one root, the same update.

    What is new in the data of two silos is never the same; whoever commits to another's update was told it, or has it
    from the round before.
    """
    if not is_federated(training, task):
        return
    roots = [slot.update_root for slot in state.slots]
    before = training.history.get((task, state.round - 1)) if state.round else None
    if before is not None:
        roots += [slot.update_root for slot in before.slots]
    if update_root in roots:
        raise training.RepeatedUpdate


def forfeit(training: TrainingSchema, account: bytes, task: int, round_: int) -> int:
    """What a rejected contribution costs: what the policy says, and a pause, which an honest silo can end; how much.

    A silo whose data are odd, and not wrong, decides after each rejection whether it goes on; as every worker it is
    drawn no more once it has lost half of its bond.
    """
    verification = training.tasks[task].policy.verification
    assert isinstance(verification, Scored)
    burned = training_workers.burn(training, account, task, round_, verification.forfeit, SlashReason.HARMFUL)
    _pause(training, [account], task, round_)
    return burned


def pause_disputed(training: TrainingSchema, task: int, state: RoundState) -> None:
    """Draw the silos of disputed slots no more, until they resume: an attempt ended since validators did not agree.

    A score that lies on the line itself, to a millionth, is measured on both of its sides. Who aims for that, in league
    with a validator that challenges it, delays a round once for each pause.
    """
    if is_federated(training, task):
        disputed = [slot.worker for slot in state.slots if slot.challenged]
        _pause(training, disputed, task, state.round)


def _pause(training: TrainingSchema, accounts: Sequence[bytes], task: int, round_: int) -> None:
    """Draw silos for the task no more until they resume, which may take as long as they need: they are not missing."""
    training_workers.pause(training, accounts, task, round_)
    training_workers.hear(training, accounts)


def forget(training: TrainingSchema, task: int) -> None:
    """Remove what an ended task needs no more: its silos, and the weights of a round that was not final."""
    training.silos.remove(task)
    training.weights.remove((task, training.tasks[task].round))


def _ensure_running(training: TrainingSchema, task: int) -> None:
    if task not in training.active_tasks.get():
        raise training.UnknownTask
    if not is_federated(training, task):
        raise training.NotFederated


def _silos(training: TrainingSchema, task: int) -> dict[bytes, Silo]:
    return {silo.account: silo for silo in training.silos[task]}


def _taking_part(training: TrainingSchema, task: int) -> list[bytes]:
    return [silo.account for silo in training.silos[task] if silo.samples]


def _put(training: TrainingSchema, task: int, silos: dict[bytes, Silo]) -> None:
    if silos:
        training.silos[task] = tuple(silos[account] for account in sorted(silos))
    else:
        training.silos.remove(task)
