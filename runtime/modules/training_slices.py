"""Aggregates that validators check slice by slice: who checks what, when one is proven, and who loses by a dispute.

Rule: an aggregate is proven when each of its slices was found right by all f + 1 validators that were drawn for it and
disputed by nobody, or found right by a quorum, whoever was drawn. As at most f validators are faulty, one of any f + 1
is honest; and as sums are exact, an honest validator finds a slice right if and only if it is. That is the one place
where validators rely on others than themselves: attesting takes a quorum as ever.

One aggregate is on trial at a time, in the order in which they were said; where that takes long, others have a turn.
One is refuted when a quorum disputes it, each some slice; a dispute is refuted when a quorum finds its slice right. Who
is silent is replaced by anybody, since a quorum proves as well; what cannot be fetched is never proven, and validators
add up everything themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from chain.primitives.seal import bitmap, read_bitmap
from runtime.modules import training_aggregators, training_challenges, validators_offences
from runtime.modules.training_draws import Draws
from runtime.modules.training_rounds import Outcome, revealed
from runtime.modules.training_schema import TrainingSchema
from runtime.modules.training_sizes import slice_count
from runtime.modules.training_types import (
    ABSENCE_BLOCKS,
    AGGREGATES_MAX,
    Aggregate,
    Dispute,
    Model,
    RoundState,
    SliceWord,
    Trial,
)

_LABEL: Final = b"slices"
# Of an audit's time, how long an aggregate is on trial while another one waits: what is not served is not waited for.
# Validators add up everything themselves after half of it.
TURN_SHARE: Final = 4
# Of an audit's time, after how long others look at what was drawn for a validator that has not spoken.
SILENCE_SHARE: Final = 8


def count_of(training: TrainingSchema, task: int) -> int:
    """In how many slices a task's aggregates are checked; 0 where every validator adds up all."""
    return slice_count(training.storage[task].claim, training.tasks[task].policy)


def hear(training: TrainingSchema, task: int, state: RoundState) -> None:
    """Put the first aggregate on trial that is not proven, unless one is on trial already."""
    if count_of(training, task) and task not in training.trials:
        waiting = _waiting(training, task, state)
        if waiting:
            _open(training, task, state, waiting[0])


def draw(training: TrainingSchema) -> None:
    """Draw who checks the aggregates that the block before this one put on trial; let others have their turns."""
    height = training.system.height
    for task in training.active_tasks.get():
        trial = training.trials.get(task)
        if trial is None:
            continue
        state = training.rounds[task]
        if trial.order:
            another = _another(training, task, state, trial)
            if another is None:
                continue
            drop_disputes(training, trial)
            trial = _open(training, task, state, another)
        validators = training.validator_accounts()
        present = [account for account in validators if training.absent_auditors[account] < height]
        if len(present) < trial.checkers:
            present = list(validators)
        draws = Draws(training.validators.randomness(), task, state.round, state.attempt, _LABEL)
        training.trials[task] = replace(trial, order=tuple(draws.sample(present, len(present))))


def trial_of(training: TrainingSchema, task: int, said: tuple[bytes, bytes, bytes]) -> Trial:
    """The trial of an aggregate, once it is drawn who checks it."""
    trial = training.trials.get(task)
    if trial is None or not trial.order or claim_of(trial.aggregate) != said:
        raise training.NotOnTrial
    return trial


def find(
    training: TrainingSchema,
    task: int,
    state: RoundState,
    trial: Trial,
    validator: bytes,
    right: bytes,
    wrong: int | None,
) -> None:
    """Take a validator's word on slices, and end the trial if it decides it. Guards come before anything is written."""
    count = count_of(training, task)
    try:
        found = read_bitmap(right, count)
    except ValueError as error:
        raise training.InvalidBitmap(str(error)) from error
    if wrong is not None and wrong >= count:
        raise training.UnknownSlice
    before = next((word.right for word in trial.words if word.validator == validator), bytes(len(right)))
    known = read_bitmap(before, count)
    disputed = [dispute.slice for dispute in trial.disputes if dispute.validator == validator]
    if any(each in found or each in known for each in (*disputed, *(() if wrong is None else (wrong,)))):
        raise training.Contradiction
    news = [index for index in found if index not in known]
    current = training.validator_accounts()
    quorum = training.validators.validator_set().quorum
    if wrong is None and not news:
        raise training.AlreadyChecked
    if wrong is not None and (disputed or len(_finders(trial, wrong, current)) >= quorum):
        raise training.AlreadyChecked
    if wrong is not None:
        training_challenges.stake(training, validator)
        trial = replace(trial, disputes=(*trial.disputes, Dispute(validator, wrong)))
        training.emit(training.SliceDisputed(task, state.round, wrong, validator))
    if news:
        others = tuple(word for word in trial.words if word.validator != validator)
        trial = replace(trial, words=(*others, SliceWord(validator, bitmap((*known, *news), count))))
        training.emit(training.SlicesFound(task, state.round, validator, len(news)))
    _decide(training, task, state, trial, count)


def proven_model(training: TrainingSchema, task: int, state: RoundState) -> Model | None:
    """What a round makes if all that is revealed counts, where that is proven."""
    everything = bitmap(revealed(state), len(state.slots))
    for aggregate in training.proven[task]:
        if aggregate.accepted == everything:
            return Model(aggregate.params_root, aggregate.optimizer_root)
    return None


def settle(training: TrainingSchema, task: int, state: RoundState, agreed: Outcome) -> tuple[bytes | None, list[bytes]]:
    """End what is open when a round is final: who is paid for its model, and who else was found to have made one up.

    Only who served what it said is paid: an aggregate that was not proven saved nobody the work.
    """
    said = (bitmap(agreed.accepted, len(state.slots)), agreed.params_root, agreed.optimizer_root)
    paid = next((each.aggregator for each in training.proven[task] if claim_of(each) == said), None)
    trial = training.trials.get(task)
    false: list[bytes] = []
    if trial is not None:
        is_judged, is_right = trial.aggregate.accepted == said[0], claim_of(trial.aggregate) == said
        if is_judged and not is_right:
            false.append(trial.aggregate.aggregator)
        for dispute in trial.disputes if is_judged else ():
            if is_right:
                _refute(training, task, state, dispute)
            else:
                training_challenges.uphold(training, dispute.validator, 0)
        if is_judged:
            trial = replace(trial, disputes=())
            training.trials[task] = trial
        height = training.system.height
        if is_right and height >= _turn_ends(training, task, trial):
            training.unheard_aggregators[trial.aggregate.aggregator] = height + ABSENCE_BLOCKS
    drop(training, task)
    return paid, false


def drop(training: TrainingSchema, task: int) -> None:
    """Forget the trials of an attempt that is over; the bonds of disputes that nothing was found about are free."""
    trial = training.trials.get(task)
    if trial is not None:
        drop_disputes(training, trial)
    training.trials.remove(task)
    training.proven.remove(task)


def drop_disputes(training: TrainingSchema, trial: Trial) -> None:
    """Give the bonds of disputes back that ended without a verdict."""
    for dispute in trial.disputes:
        training_challenges.give_back(training, dispute.validator)


def claim_of(aggregate: Aggregate) -> tuple[bytes, bytes, bytes]:
    """What an aggregate says, whoever says it."""
    return aggregate.accepted, aggregate.params_root, aggregate.optimizer_root


def _waiting(training: TrainingSchema, task: int, state: RoundState) -> list[Aggregate]:
    """The aggregates that are not proven, in the order in which they were said."""
    proven = [claim_of(aggregate) for aggregate in training.proven[task]]
    # An attempt has no more proofs than aggregates that are heard: others would only keep validators busy.
    if len(proven) >= AGGREGATES_MAX:
        return []
    return [aggregate for aggregate in state.aggregates if claim_of(aggregate) not in proven]


def _another(training: TrainingSchema, task: int, state: RoundState, trial: Trial) -> Aggregate | None:
    """Which aggregate is next, once the one on trial had its turn: the one said after it, or the first again."""
    if training.system.height < _turn_ends(training, task, trial):
        return None
    waiting, claim = _waiting(training, task, state), claim_of(trial.aggregate)
    claims = [claim_of(aggregate) for aggregate in waiting]
    after = claims.index(claim) + 1 if claim in claims else 0
    others = [each for each in (*waiting[after:], *waiting[:after]) if claim_of(each) != claim]
    return others[0] if others else None


def _turn_ends(training: TrainingSchema, task: int, trial: Trial) -> int:
    return trial.since + max(1, training.tasks[task].policy.audit_blocks // TURN_SHARE)


def _open(training: TrainingSchema, task: int, state: RoundState, aggregate: Aggregate) -> Trial:
    checkers = training.validators.validator_set().f + 1
    trial = Trial(aggregate, training.system.height, checkers, (), (), ())
    training.trials[task] = trial
    training.emit(training.TrialOpened(task, state.round, aggregate.aggregator, aggregate.params_root))
    return trial


def _decide(training: TrainingSchema, task: int, state: RoundState, trial: Trial, count: int) -> None:
    """Store a trial, without the disputes that a quorum refutes; or end it, proven or refuted."""
    validators = training.validator_accounts()
    quorum = training.validators.validator_set().quorum
    if sum(dispute.validator in validators for dispute in trial.disputes) >= quorum:
        _strike(training, task, state, trial)
        return
    voices = [(word.validator, int.from_bytes(word.right, "little")) for word in trial.words]
    current = [(account, bits) for account, bits in voices if account in validators]
    for dispute in trial.disputes:
        if sum(bits >> dispute.slice & 1 for _, bits in current) >= quorum:
            _refute(training, task, state, dispute)
            trial = replace(trial, disputes=tuple(each for each in trial.disputes if each != dispute))
    disputed = [dispute.slice for dispute in trial.disputes]
    found = dict(current)
    for index in range(count):
        by_drawn = index not in disputed and all(found.get(each, 0) >> index & 1 for each in trial.drawn(index, count))
        if not by_drawn and sum(bits >> index & 1 for _, bits in current) < quorum:
            training.trials[task] = trial
            return
    # Whatever was disputed has a quorum by now, so that no bond is left.
    _note_silent(training, task, trial, found, count)
    training.trials.remove(task)
    training.proven[task] = (*training.proven[task], trial.aggregate)
    aggregate = trial.aggregate
    training.emit(training.AggregateProven(task, state.round, aggregate.aggregator, aggregate.params_root))
    hear(training, task, state)


def _note_silent(training: TrainingSchema, task: int, trial: Trial, found: Mapping[bytes, int], count: int) -> None:
    """Draw those no more for a while whose slices others had to look at: else they could delay every round."""
    height = training.system.height
    if height < trial.since + max(1, training.tasks[task].policy.audit_blocks // SILENCE_SHARE):
        return
    for index in range(count):
        for account in trial.drawn(index, count):
            if not found.get(account, 0) >> index & 1:
                training.absent_auditors[account] = height + ABSENCE_BLOCKS


def _strike(training: TrainingSchema, task: int, state: RoundState, trial: Trial) -> None:
    """Slash who said what a quorum found false, fine who found a slice right that is not, and try the next one."""
    claim = claim_of(trial.aggregate)
    said = [each.aggregator for each in state.aggregates if claim_of(each) == claim]
    liars = said if trial.aggregate.aggregator in said else [trial.aggregate.aggregator, *said]
    slashed = sum(training_aggregators.slash(training, account, task, state.round) for account in liars)
    first, *others = trial.disputes
    reward = training_challenges.uphold(training, first.validator, slashed)
    for dispute in others:
        training_challenges.uphold(training, dispute.validator, 0)
    training.emit(training.AggregateRefuted(task, state.round, trial.aggregate.aggregator, first.validator, reward))
    _fine_liars(training, task, state, trial)
    training.trials.remove(task)
    left = replace(state, aggregates=tuple(each for each in state.aggregates if claim_of(each) != claim))
    training.rounds[task] = left
    hear(training, task, left)


def _fine_liars(training: TrainingSchema, task: int, state: RoundState, trial: Trial) -> None:
    """Fine each validator for one slice that it found right and f + 1 others did not, of whom one is honest."""
    disputed = [dispute.slice for dispute in trial.disputes]
    wrong = [index for index in sorted(set(disputed)) if disputed.count(index) >= trial.checkers]
    for word in trial.words:
        bits = int.from_bytes(word.right, "little")
        lies = [index for index in wrong if bits >> index & 1]
        if lies:
            fined = validators_offences.fine(training.validators, word.validator, training.slash_false_aggregate)
            training.emit(training.CheckerFined(word.validator, task, state.round, lies[0], fined))


def _refute(training: TrainingSchema, task: int, state: RoundState, dispute: Dispute) -> None:
    training_challenges.refute(training, dispute.validator)
    training.emit(training.DisputeRefuted(task, state.round, dispute.slice, dispute.validator))


def _finders(trial: Trial, index: int, validators: Sequence[bytes]) -> list[bytes]:
    """The validators of the set that found a slice right."""
    return [
        word.validator
        for word in trial.words
        if word.validator in validators and int.from_bytes(word.right, "little") >> index & 1
    ]
