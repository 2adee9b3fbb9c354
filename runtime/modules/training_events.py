"""What the training protocol tells of. Indexes are part of the wire schema, and never reused."""

from __future__ import annotations

from chain.primitives.scale import H256, AccountId, Balance, u16, u32, u64
from chain.primitives.seal import BlsPublicKey
from runtime.framework import event
from runtime.modules.training_types import (
    Evaluation,
    ReopenReason,
    Round,
    SlashReason,
    Slot,
    TaskId,
)


class TrainingEvents:
    """The events of `Training`."""

    @event(index=0)
    class TaskCreated:
        """A task was created and its escrow reserved; its first round opens as soon as a worker is active."""

        task: TaskId
        owner: AccountId
        escrow: Balance

    @event(index=1)
    class RoundOpened:
        """A round began: a worker was drawn for each slot; commitments count up to block `deadline`.

        While the round before is in audit that is the earliest deadline: the whole time begins when that is final.
        """

        task: TaskId
        round: Round
        attempt: u32
        deadline: u32

    @event(index=2)
    class Committed:
        """A worker committed to its update."""

        task: TaskId
        round: Round
        slot: Slot
        worker: AccountId

    @event(index=3)
    class RevealOpened:
        """Commitments are closed; reveals count up to block `deadline`, and for longer as in `RoundOpened`."""

        task: TaskId
        round: Round
        deadline: u32

    @event(index=4)
    class Revealed:
        """A worker showed what it had committed to."""

        task: TaskId
        round: Round
        slot: Slot
        worker: AccountId
        update_root: H256

    @event(index=5)
    class AuditOpened:
        """Reveals are closed and auditors drawn, who are waited for up to block `deadline`."""

        task: TaskId
        round: Round
        deadline: u32

    @event(index=6)
    class Aggregated:
        """An aggregator said what the model becomes if the slots of a bitmap count."""

        task: TaskId
        round: Round
        aggregator: AccountId
        accepted: bytes
        params_root: H256
        optimizer_root: H256

    @event(index=7)
    class Challenged:
        """A validator found a slot wrong: every validator must recompute it and attest anew."""

        task: TaskId
        round: Round
        slot: Slot
        challenger: AccountId

    @event(index=8)
    class ChallengeUpheld:
        """A challenged slot was rejected: its worker is slashed and not paid, and its challenger has a part of that."""

        task: TaskId
        round: Round
        slot: Slot
        challenger: AccountId
        reward: Balance

    @event(index=9)
    class ChallengeRefuted:
        """A challenged slot was accepted: its worker is paid, and its challenger's bond is burned."""

        task: TaskId
        round: Round
        slot: Slot
        challenger: AccountId

    @event(index=10)
    class Attested:
        """A validator attested; `accepted` is a bitmap of slots."""

        task: TaskId
        round: Round
        validator: AccountId
        accepted: bytes
        params_root: H256

    @event(index=11)
    class RoundFinalised:
        """A quorum of validators agreed: this is the model now, and `minted` was paid for it."""

        task: TaskId
        round: Round
        params_root: H256
        optimizer_root: H256
        evaluation: Evaluation | None
        minted: Balance

    @event(index=12)
    class RoundReopened:
        """The round starts again under the next attempt."""

        task: TaskId
        round: Round
        attempt: u32
        reason: ReopenReason

    @event(index=13)
    class TaskCompleted:
        """No round follows; what is left of the escrow went back to the owner."""

        task: TaskId
        params_root: H256
        released: Balance

    @event(index=14)
    class WorkerRegistered:
        """A worker reserved its bond and can be drawn for as many slots of a round as it has capacity."""

        worker: AccountId
        bond: Balance
        capacity: u16

    @event(index=15)
    class WorkerDeregistered:
        """A worker left; its bond, or what was left of it, is free again."""

        worker: AccountId
        released: Balance

    @event(index=16)
    class WorkerPaused:
        """A worker missed a slot of this task; it is not drawn for it again until it resumes."""

        worker: AccountId
        task: TaskId
        round: Round

    @event(index=17)
    class WorkerResumed:
        """A paused worker can be drawn for the task again."""

        worker: AccountId
        task: TaskId

    @event(index=18)
    class WorkerSlashed:
        """A worker lost bond, which is burned."""

        worker: AccountId
        task: TaskId
        round: Round
        amount: Balance
        reason: SlashReason

    @event(index=19)
    class AggregatorRegistered:
        """An aggregator reserved its bond."""

        aggregator: AccountId
        bond: Balance

    @event(index=20)
    class AggregatorDeregistered:
        """An aggregator left; its bond is free again."""

        aggregator: AccountId
        released: Balance

    @event(index=21)
    class WorkerRetired:
        """A worker is drawn no more, by its own wish or since its bond is too small; that can be had back later."""

        worker: AccountId
        free_at: u32

    @event(index=22)
    class TaskCancelled:
        """No round begins any more: its owner says so, or nobody trains the task. What has begun is finished, paid."""

        task: TaskId
        round: Round

    @event(index=23)
    class AggregatorSlashed:
        """An aggregator said what validators found false; what it lost is burned."""

        aggregator: AccountId
        task: TaskId
        round: Round
        amount: Balance

    @event(index=24)
    class SiloAdmitted:
        """A task's owner lets an account contribute what it learns of up to so many samples of its own."""

        task: TaskId
        silo: AccountId
        samples_max: u32

    @event(index=25)
    class SiloExpelled:
        """A silo is drawn for the task no more."""

        task: TaskId
        silo: AccountId

    @event(index=26)
    class SamplesDeclared:
        """A silo says how many samples it has: with these it takes part from the next draw on, and with none not."""

        task: TaskId
        silo: AccountId
        samples: u32

    @event(index=27)
    class StorageReserved:
        """A task's blobs are kept, `bytes` of them at most; the deposit for them lasts until this block."""

        task: TaskId
        bytes: u64
        deposit: Balance
        until: u32

    @event(index=28)
    class StoragePaid:
        """A task is over: what its blobs cost was burned, the rest of its deposit is free. Its model is kept on."""

        task: TaskId
        burned: Balance
        until: u32

    @event(index=29)
    class StorageExtended:
        """Somebody paid for a task's blobs to be kept longer, or its owner reserved for that."""

        task: TaskId
        payer: AccountId
        amount: Balance
        until: u32

    @event(index=30)
    class StorageExpired:
        """Nothing is kept of a task any more."""

        task: TaskId

    @event(index=31)
    class Confirmed:
        """A validator said what a round in audit makes if all of its slots are right."""

        task: TaskId
        round: Round
        validator: AccountId
        params_root: H256
        optimizer_root: H256

    @event(index=32)
    class RoundDiscarded:
        """A round that had begun ahead is thrown away, at nobody's cost: what it began from did not become final."""

        task: TaskId
        round: Round
        attempt: u32

    @event(index=33)
    class PlantKeySet:
        """A worker has a key that says which of its slots it may plant."""

        worker: AccountId
        key: BlsPublicKey

    @event(index=34)
    class PlantShown:
        """A worker showed that a slot of its is wrong with permission; validators attest the round anew."""

        task: TaskId
        round: Round
        slot: Slot
        worker: AccountId

    @event(index=35)
    class AuditorFined:
        """An auditor had attested a planted slot right; its worker was paid `reward` of what is burned of the stake."""

        validator: AccountId
        task: TaskId
        round: Round
        slot: Slot
        amount: Balance
        reward: Balance

    @event(index=36)
    class TrialOpened:
        """An aggregate is on trial: who checks which slices of it is drawn in the next block."""

        task: TaskId
        round: Round
        aggregator: AccountId
        params_root: H256

    @event(index=37)
    class SlicesFound:
        """A validator added up slices of the aggregate on trial and found `count` more of them right."""

        task: TaskId
        round: Round
        validator: AccountId
        count: u16

    @event(index=38)
    class SliceDisputed:
        """A validator found a slice of the aggregate on trial wrong: everybody adds it up."""

        task: TaskId
        round: Round
        slice: u16
        validator: AccountId

    @event(index=39)
    class DisputeRefuted:
        """A quorum found the disputed slice right: the bond is burned."""

        task: TaskId
        round: Round
        slice: u16
        validator: AccountId

    @event(index=40)
    class AggregateProven:
        """Every slice of an aggregate was found right by validators of whom one at least is honest."""

        task: TaskId
        round: Round
        aggregator: AccountId
        params_root: H256

    @event(index=41)
    class AggregateRefuted:
        """A quorum found the aggregate on trial wrong; who said so first was paid `reward` of what that cost."""

        task: TaskId
        round: Round
        aggregator: AccountId
        validator: AccountId
        reward: Balance

    @event(index=42)
    class CheckerFined:
        """A validator had found a slice right that was proven wrong; so much of its stake is burned."""

        validator: AccountId
        task: TaskId
        round: Round
        slice: u16
        amount: Balance
