"""The arithmetic of a round: when a phase is complete, what the attestations agree on, what comes of each slot.

Pure functions of a RoundState: no storage, no events, no balances.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from chain.primitives.seal import bitmap, read_bitmap
from runtime.modules.training_types import (
    CHALLENGE_REFILL_BLOCKS,
    CHALLENGES_MAX,
    Aggregate,
    Attestation,
    ChallengeCount,
    Confirmation,
    Evaluation,
    Model,
    Phase,
    RoundState,
    SlotState,
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a quorum of validators agreed on."""

    accepted: tuple[int, ...]
    params_root: bytes
    optimizer_root: bytes
    evaluation: Evaluation | None
    attesters: tuple[bytes, ...]


AttestationKey = tuple[bytes, bytes, bytes]


def key_of(attestation: Attestation) -> AttestationKey:
    """What two validators must say alike to agree. Loss and accuracy are floats at heart: there the median decides."""
    return attestation.accepted, attestation.params_root, attestation.optimizer_root


def idle(round_: int, attempt: int, height: int) -> RoundState:
    """A round that waits for a beacon and for workers."""
    return RoundState(
        round=round_,
        attempt=attempt,
        phase=Phase.IDLE,
        opened_at=height,
        deadline=height,
        slots=(),
        attestations=(),
        aggregates=(),
    )


def opened(state: RoundState, workers: Sequence[bytes], height: int, deadline: int) -> RoundState:
    """A round that waited, once each of its slots has a worker."""
    return replace(
        state,
        phase=Phase.COMMIT,
        opened_at=height,
        deadline=deadline,
        slots=tuple(
            SlotState(worker=worker, commitment=None, update_root=None, auditors=(), challenger=None)
            for worker in workers
        ),
    )


def all_committed(state: RoundState) -> bool:
    return all(slot.commitment is not None for slot in state.slots)


def all_revealed(state: RoundState) -> bool:
    """Whether every commitment was revealed (slots without a commitment have nothing to reveal)."""
    return all(slot.update_root is not None for slot in state.slots if slot.commitment is not None)


def revealed(state: RoundState) -> list[int]:
    return [index for index, slot in enumerate(state.slots) if slot.update_root is not None]


def unchallenged(state: RoundState) -> list[int]:
    """The slots that every attestation must accept: revealed, and nobody found them wrong."""
    return [index for index in revealed(state) if state.slots[index].challenger is None]


def replace_slot(slots: Sequence[SlotState], index: int, slot: SlotState) -> tuple[SlotState, ...]:
    return (*slots[:index], slot, *slots[index + 1 :])


def outcome(state: RoundState, validators: Sequence[bytes], quorum: int) -> Outcome | None:
    """What at least `quorum` of the validators attest alike, or None. Two such groups share an honest validator."""
    groups: dict[AttestationKey, list[Attestation]] = {}
    for attestation in _current(state, validators):
        groups.setdefault(key_of(attestation), []).append(attestation)
    for (accepted, params_root, optimizer_root), group in groups.items():
        if len(group) >= quorum:
            return Outcome(
                accepted=tuple(read_bitmap(accepted, len(state.slots))),
                params_root=params_root,
                optimizer_root=optimizer_root,
                evaluation=_middle([each.evaluation for each in group if each.evaluation is not None]),
                attesters=tuple(sorted(attestation.validator for attestation in group)),
            )
    return None


def confirmed(confirmations: Sequence[Confirmation], validators: Sequence[bytes], quorum: int) -> Model | None:
    """The model that at least `quorum` of the validators confirm alike, or None."""
    voices = Counter(each.model for each in confirmations if each.validator in validators)
    return next((model for model, count in voices.items() if count >= quorum), None)


def judged_aggregates(state: RoundState, agreed: Outcome) -> tuple[bytes | None, list[bytes]]:
    """Who was the first to say what was agreed on, and who said of the same slots that they make another model.

    The sum is exact, so that of two models from the same slots one is false. A word on other slots is neither.
    """
    accepted = bitmap(agreed.accepted, len(state.slots))
    judged = [aggregate for aggregate in state.aggregates if aggregate.accepted == accepted]
    true = (agreed.params_root, agreed.optimizer_root)
    right = [each.aggregator for each in judged if _model(each) == true]
    return right[0] if right else None, [each.aggregator for each in judged if _model(each) != true]


def _model(aggregate: Aggregate) -> tuple[bytes, bytes]:
    return aggregate.params_root, aggregate.optimizer_root


def silent_auditors(state: RoundState, accepted: Sequence[int], validators: Sequence[bytes]) -> list[bytes]:
    """Auditors drawn for an accepted slot that have not attested, ascending; who left the set is not waited for."""
    heard = {attestation.validator for attestation in state.attestations}
    waited = {auditor for index in accepted for auditor in state.slots[index].auditors}
    return sorted(auditor for auditor in waited - heard if auditor in validators)


def agreement_is_impossible(state: RoundState, validators: Sequence[bytes], quorum: int) -> bool:
    """Whether no key can reach a quorum any more, even if every validator that is still silent supported it."""
    counts: dict[AttestationKey, int] = {}
    attestations = _current(state, validators)
    for attestation in attestations:
        key = key_of(attestation)
        counts[key] = counts.get(key, 0) + 1
    silent = len(validators) - len(attestations)
    return max(counts.values(), default=0) + silent < quorum


def has_spoken(state: RoundState, validators: Sequence[bytes], quorum: int) -> bool:
    """Whether a quorum of validators has attested, whatever they said."""
    return len(_current(state, validators)) >= quorum


def refilled(count: ChallengeCount, height: int) -> ChallengeCount:
    """A validator's count at a height, with the challenges that time gave back."""
    gained = (height - count.height) // CHALLENGE_REFILL_BLOCKS
    # Begun hundreds are kept, so that who challenges often is given no less.
    return replace(
        count,
        left=min(CHALLENGES_MAX, count.left + gained),
        height=count.height + gained * CHALLENGE_REFILL_BLOCKS,
    )


def upheld(count: ChallengeCount, height: int) -> ChallengeCount:
    """A validator's count after it was right: the challenge was none that a false alarm costs."""
    count = refilled(count, height)
    return replace(count, upheld=count.upheld + 1, left=min(CHALLENGES_MAX, count.left + 1))


def _current(state: RoundState, validators: Sequence[bytes]) -> list[Attestation]:
    return [attestation for attestation in state.attestations if attestation.validator in validators]


def _middle(evaluations: Sequence[Evaluation]) -> Evaluation | None:
    """The median of each figure; None of a round that is not evaluated."""
    if not evaluations:
        return None
    return Evaluation(
        _median([each.loss_micro for each in evaluations]), _median([each.accuracy_ppm for each in evaluations])
    )


def _median(values: Sequence[int]) -> int:
    """The lower median: always a value that somebody attested, and between those of honest validators."""
    return sorted(values)[(len(values) - 1) // 2]
