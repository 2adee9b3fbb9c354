"""What worker, auditor and aggregator see of the chain: tasks and running rounds, read from the RPC's JSON.

Rule: text becomes bytes and integers here and nowhere else; an answer of another shape is a ViewError.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from chain.primitives import ss58
from chain.primitives.hashing import Hash
from chain.primitives.seal import read_bitmap
from trainer import choices
from trainer.audit import Tolerance
from trainer.choices import ChoiceError
from trainer.codecs import Codec
from trainer.descent import Descent
from trainer.local import LocalSteps
from trainer.robust import Aggregation
from trainer.scoring import Scored

ZERO_HASH = bytes(32)
# What reading JSON of another shape raises: no such field, no container, no text, no number, a number without end.
WRONG_SHAPE = (LookupError, TypeError, ValueError, AttributeError, OverflowError)


class ViewError(ValueError):
    """The node answered in a shape that this program does not know: their versions differ."""


@dataclass(frozen=True, slots=True)
class Claim:
    """How long the owner says the task's blobs are, and has paid for: nobody trains with longer ones.

    The data set is its manifest and its arrays together.
    """

    program_bytes: int
    dataset_bytes: int
    parameters: int


@dataclass(frozen=True, slots=True)
class TaskView:
    """What never changes of a task."""

    id: int
    program_root: Hash
    dataset_root: Hash
    seed: Hash
    claim: Claim
    descent: Descent
    codec: Codec
    local_steps: LocalSteps | None
    aggregation: Aggregation
    scored: Scored | None  # none: auditors compute slots again
    slice_chunks: int | None  # of a slice that validators check; none: they add up everything
    rounds: int
    slots: int
    tolerance: Tolerance
    audit_blocks: int
    evaluate_rounds: int

    @property
    def batches(self) -> int:
        """How many batches a slot takes."""
        return self.local_steps.count if self.local_steps else 1

    def is_evaluated(self, round_: int) -> bool:
        """Whether validators say how good the model is that this round makes."""
        return round_ % self.evaluate_rounds == 0 or round_ + 1 == self.rounds


@dataclass(frozen=True, slots=True)
class SlotView:
    """One contribution of a running round; accounts are public keys."""

    worker: bytes
    commitment: Hash | None
    update_root: Hash | None
    auditors: tuple[bytes, ...]
    challenged: bool
    planted: bool  # wrong, as its worker has shown
    weight: int  # in the mean


@dataclass(frozen=True, slots=True)
class AttestationView:
    """What a validator said of the round."""

    validator: bytes
    accepted: tuple[int, ...]
    params_root: Hash
    optimizer_root: Hash


@dataclass(frozen=True, slots=True)
class AggregateView:
    """What an aggregator said the model becomes if these slots count."""

    accepted: tuple[int, ...]
    params_root: Hash
    optimizer_root: Hash


@dataclass(frozen=True, slots=True)
class TrialView:
    """An aggregate whose slices are being checked; of validators it has public keys."""

    aggregate: AggregateView
    since: int
    checkers: int  # of each slice: one of so many is honest
    order: tuple[bytes, ...]  # empty until it is drawn who checks what
    found: Mapping[bytes, tuple[int, ...]]  # the slices that each validator found right
    disputes: Mapping[bytes, int]  # the slice that each validator found wrong

    def drawn(self, validator: bytes, slices: int) -> tuple[int, ...]:
        """The slices that a validator is to check, as the chain draws them."""
        return tuple(index for index in range(slices) if validator in self._checkers_of(index, slices))

    def is_found_by_drawn(self, index: int, slices: int) -> bool:
        """Whether all validators that were drawn for one of so many slices have found it right."""
        return all(index in self.found.get(account, ()) for account in self._checkers_of(index, slices))

    def _checkers_of(self, index: int, slices: int) -> list[bytes]:
        count = len(self.order)
        first = index * count // slices
        return [self.order[(first + place) % count] for place in range(min(self.checkers, count))]


@dataclass(frozen=True, slots=True)
class RoundView:
    """A task's running round, or with phase "final" its last one. Roots are those that the round starts from.

    `ahead` is the round that has begun from what validators confirmed of this one; `before`, in that round, is this
    one as if all of it were accepted already.
    """

    round: int
    attempt: int
    phase: str
    opened_at: int
    deadline: int
    # The beacon that opened it says which slots are planted; they may be shown when validators agree on the round.
    plant_beacon: Hash | None
    is_agreed: bool
    params_root: Hash
    optimizer_root: Hash
    slots: tuple[SlotView, ...]
    attestations: tuple[AttestationView, ...]
    aggregates: tuple[AggregateView, ...]
    trial: TrialView | None = None
    # Of which every slice was found right: as good as what this program added up itself.
    proven: tuple[AggregateView, ...] = ()
    confirmed_by: tuple[bytes, ...] = ()
    ahead: RoundView | None = None
    before: PastRound | None = None

    @property
    def is_fixed(self) -> bool:
        """Whether all is revealed that is going to be: what the slots make together is a fixed sum."""
        if self.phase != "reveal":
            return self.phase == "audit"
        return all(slot.update_root is not None for slot in self.slots if slot.commitment is not None)

    @property
    def revealed(self) -> tuple[int, ...]:
        """The slots whose updates were revealed."""
        return tuple(index for index, slot in enumerate(self.slots) if slot.update_root is not None)

    @property
    def left_out(self) -> tuple[int, ...]:
        """The slots that are wrong, as their workers have shown, and that nobody audits."""
        return tuple(
            index for index, slot in enumerate(self.slots) if slot.planted and not slot.auditors and not slot.challenged
        )

    def assigned(self, worker: bytes) -> tuple[int, ...]:
        """The slots that were drawn for a worker."""
        return tuple(index for index, slot in enumerate(self.slots) if slot.worker == worker)


@dataclass(frozen=True, slots=True)
class PastRound:
    """A final round: what recomputing it takes. `start_root` names the parameters that it started from."""

    round: int
    attempt: int
    start_root: Hash
    accepted: Mapping[int, tuple[bytes, Hash]]  # by slot: worker and update

    def accepted_of(self, slot: int, worker: bytes) -> Hash | None:
        """The update of a slot, if it was this worker's and accepted."""
        found = self.accepted.get(slot)
        return found[1] if found is not None and found[0] == worker else None


def task_of(value: Any) -> TaskView:
    """The task in an answer of `training_task`; ChoiceError when its owner chose what this program does not know."""
    try:
        policy = value["policy"]
        return TaskView(
            id=int(value["id"]),
            program_root=_hash(value["programRoot"]),
            dataset_root=_hash(value["datasetRoot"]),
            seed=_hash(value["seed"]),
            claim=_claim(value["storage"]),
            descent=choices.descent_of(value["optimizer"]),
            codec=choices.codec_of(policy["codec"]),
            local_steps=choices.local_steps_of(policy["localSteps"]),
            aggregation=choices.aggregation_of(policy["aggregation"]),
            scored=choices.scored_of(policy["verification"]),
            slice_chunks=choices.slice_chunks_of(policy["checks"]),
            rounds=int(value["rounds"]),
            slots=int(policy["slots"]),
            tolerance=Tolerance(
                micro_steps=int(policy["toleranceMicroSteps"]), outliers_ppm=int(policy["outliersPpm"])
            ),
            audit_blocks=int(policy["auditBlocks"]),
            evaluate_rounds=max(1, int(policy["evaluateRounds"])),
        )
    except ChoiceError:
        raise
    except WRONG_SHAPE as error:
        raise _unknown("training_task", error) from None


def round_of(value: Any) -> RoundView:
    """The round in an answer of `training_round`."""
    try:
        if value["phase"] == "final":
            return RoundView(
                round=int(value["round"]),
                attempt=0,
                phase="final",
                opened_at=0,
                deadline=0,
                plant_beacon=None,
                is_agreed=True,
                params_root=_hash(value["paramsRoot"]),
                optimizer_root=_hash(value["optimizerRoot"]),
                slots=(),
                attestations=(),
                aggregates=(),
            )
        running = _begun_round(value)
        if value["ahead"] is None:
            return running
        return replace(running, ahead=replace(_begun_round(value["ahead"]), before=_as_accepted(running)))
    except WRONG_SHAPE as error:
        raise _unknown("training_round", error) from None


def _begun_round(value: Mapping[str, Any]) -> RoundView:
    return RoundView(
        round=int(value["round"]),
        attempt=int(value["attempt"]),
        phase=str(value["phase"]),
        opened_at=int(value["openedAt"]),
        deadline=int(value["deadline"]),
        plant_beacon=_hash_or_none(value["plantBeacon"]),
        is_agreed=value["plantDeadline"] is not None,
        params_root=_hash(value["paramsRoot"]),
        optimizer_root=_hash(value["optimizerRoot"]),
        slots=tuple(_slot(slot) for slot in value["slots"]),
        attestations=tuple(_attestation(attestation) for attestation in value["attestations"]),
        aggregates=tuple(_aggregate(each) for each in value["aggregates"]),
        trial=None if value["trial"] is None else _trial(value["trial"]),
        proven=tuple(_aggregate(each) for each in value["proven"]),
        confirmed_by=tuple(ss58.decode(each["validator"], None) for each in value["confirmations"]),
    )


def _as_accepted(view: RoundView) -> PastRound:
    """A round as it is going to be once it is final, if nothing of it is rejected."""
    slots = ((index, slot.worker, slot.update_root) for index, slot in enumerate(view.slots))
    accepted = {index: (worker, root) for index, worker, root in slots if root is not None}
    return PastRound(view.round, view.attempt, view.params_root, accepted)


def past_round_of(value: Any) -> PastRound:
    """The final round in an answer of `training_round`."""
    try:
        return PastRound(
            round=int(value["round"]),
            attempt=int(value["attempt"]),
            start_root=_hash(value["startParamsRoot"]),
            accepted={
                int(slot["slot"]): (ss58.decode(slot["worker"], None), _hash(slot["updateRoot"]))
                for slot in value["slots"]
                if slot["accepted"]
            },
        )
    except WRONG_SHAPE as error:
        raise _unknown("training_round", error) from None


def _claim(value: Mapping[str, Any]) -> Claim:
    return Claim(int(value["programBytes"]), int(value["datasetBytes"]), int(value["parameters"]))


def _slot(value: Mapping[str, Any]) -> SlotView:
    return SlotView(
        worker=ss58.decode(value["worker"], None),
        commitment=_hash_or_none(value["commitment"]),
        update_root=_hash_or_none(value["updateRoot"]),
        auditors=tuple(ss58.decode(auditor, None) for auditor in value["auditors"]),
        challenged=bool(value["challenged"]),
        planted=bool(value["planted"]),
        weight=int(value["weight"]),
    )


def _attestation(value: Mapping[str, Any]) -> AttestationView:
    return AttestationView(ss58.decode(value["validator"], None), _accepted(value), *_roots(value))


def _aggregate(value: Mapping[str, Any]) -> AggregateView:
    return AggregateView(_accepted(value), *_roots(value))


def _trial(value: Mapping[str, Any]) -> TrialView:
    slices = int(value["slices"])
    return TrialView(
        aggregate=_aggregate(value),
        since=int(value["since"]),
        checkers=int(value["checkers"]),
        order=tuple(ss58.decode(account, None) for account in value["order"]),
        found={
            ss58.decode(word["validator"], None): tuple(read_bitmap(_octets(word["right"]), slices))
            for word in value["found"]
        },
        disputes={ss58.decode(each["validator"], None): int(each["slice"]) for each in value["disputes"]},
    )


def _accepted(value: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(sorted(int(slot) for slot in value["accepted"]))


def _roots(value: Mapping[str, Any]) -> tuple[Hash, Hash]:
    return _hash(value["paramsRoot"]), _hash(value["optimizerRoot"])


def _hash_or_none(text: str | None) -> Hash | None:
    return None if text is None else _hash(text)


def _octets(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def _hash(text: str) -> Hash:
    data = _octets(text)
    if len(data) != 32:
        raise ValueError(f"expected 32 bytes in hex, got {text[:80]!r}")
    return data


def _unknown(method: str, error: Exception) -> ViewError:
    reason = f"{type(error).__name__}: {error}"
    return ViewError(f"{method}: unexpected answer ({reason}): do the node and this program have the same version?")
