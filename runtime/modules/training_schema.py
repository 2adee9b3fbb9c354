"""The wire schema of the training protocol: what it stores, which events and errors it has, the constants of its rules.

Indexes are never reused. Behaviour is elsewhere: calls in `training`, rounds in `training_transitions`, workers in
`training_workers`.
"""

from __future__ import annotations

from chain.primitives.scale import H256, AccountId, Balance, u16, u32, u64
from chain.primitives.seal import BlsPublicKey
from runtime.framework import Constant, Module, event
from runtime.modules import training_prices
from runtime.modules.balances import POT, Balances
from runtime.modules.rewards import Rewards
from runtime.modules.system import System
from runtime.modules.training_policy import PPM, Policy
from runtime.modules.training_sizes import Storage
from runtime.modules.training_types import (
    CAPACITY_MAX,
    CHALLENGES_MAX,
    LEAVE_BLOCKS,
    PLANT_KEY_BLOCKS,
    ChallengeCount,
    Confirmation,
    Model,
    Plant,
    PlantKey,
    ReopenReason,
    Round,
    RoundRecord,
    RoundState,
    Seats,
    Silo,
    SlashReason,
    Slot,
    Task,
    TaskId,
    Worker,
)
from runtime.modules.validators import Validators
from runtime.storage import Hasher, StorageMap, StorageValue
from runtime.types import DispatchError


class TrainingSchema(Module):
    """What `Training` declares, without its behaviour."""

    system: System
    balances: Balances
    validators: Validators
    rewards: Rewards

    # A worker that cheats loses most of this; who is drawn more often, under one name or many, has bonded for it.
    worker_bond = Constant[Balance](100 * POT, doc="What a worker reserves for each slot of its capacity.")
    worker_bond_min = Constant[Balance](50 * POT, doc="A worker with less than this for each slot is drawn no more.")
    capacity_max = Constant[u16](
        CAPACITY_MAX, doc="The most slots of a round that a worker can offer to train at once."
    )
    leave_blocks = Constant[u32](LEAVE_BLOCKS, doc="How long a bond stays when its worker is drawn no more.")
    aggregator_bond = Constant[Balance](100 * POT, doc="What an aggregator reserves while it is registered.")
    aggregator_bond_min = Constant[Balance](50 * POT, doc="An aggregator with less bond than this is removed.")
    # What a price needs to be safe follows from the bond that is left (training_prices); this also ends the worker.
    slash_rejected = Constant[Balance](60 * POT, doc="What a rejected slot costs its worker.")
    # A worker that dies loses its reward as well; the eleventh such death ends it.
    slash_not_revealed = Constant[Balance](5 * POT, doc="What a commitment without a reveal costs its worker.")
    # A false alarm makes every validator recompute a slot, some of which are worth a POT.
    challenge_bond = Constant[Balance](5 * POT, doc="What a challenge reserves, and costs if it is refuted.")
    # Whoever looks finds the wrong slot, in league with its worker or not: what it earns is no longer a cheat's loss.
    challenge_reward_ppm = Constant[u32](
        100_000, doc="The share of what a rejected slot cost its worker that its challenger is paid."
    )
    plant_key_blocks = Constant[u32](PLANT_KEY_BLOCKS, doc="How long after it was set a plant key decides.")
    # Two slots' worth by plant_ppm is what an auditor pays for one planted slot that it did not look at: in the mean it
    # costs more to look away than to compute. Nothing of a planted slot trains anything.
    plant_ppm = Constant[u32](15_625, doc="The share of slots whose worker may reveal a wrong update.")
    # Sums are exact: who says another one made it up, or runs on broken memory.
    slash_false_aggregate = Constant[Balance](60 * POT, doc="What a false aggregate costs its aggregator.")
    # A record stays in state for every slot and round: a price of nothing would give that space away.
    price_per_slot_min = Constant[Balance](POT // 1000, doc="The least that a task pays for an accepted slot.")

    # A task of 20,000 parameters keeps four mebibytes: 0.4 POT a day, in which each of its slots earns one every few
    # seconds. To take all that is sold costs 300 POT a day.
    storage_price = Constant[Balance](POT // 10, doc="What a mebibyte costs for a day, which is 86,400 blocks.")
    # What nodes keep without being asked for more disk (chain/node.py): three quarters of four gibibytes.
    storage_bytes_max = Constant[u64](3 << 30, doc="The most bytes that are kept of all tasks.")

    next_task_id = StorageValue[TaskId](default=0, doc="The id of the next task.")
    active_tasks = StorageValue[tuple[TaskId, ...]](default=(), doc="The tasks whose rounds run, ascending.")
    tasks = StorageMap[TaskId, Task](hasher=Hasher.TWOX_64_CONCAT, doc="Every task.")
    rounds = StorageMap[TaskId, RoundState](hasher=Hasher.TWOX_64_CONCAT, doc="The running round of an active task.")
    history = StorageMap[tuple[TaskId, Round], RoundRecord](
        hasher=Hasher.TWOX_64_CONCAT, doc="Every final round of every task."
    )
    next_workers = StorageMap[TaskId, tuple[AccountId, ...]](
        default=(),
        hasher=Hasher.TWOX_64_CONCAT,
        doc="Who trains each slot of a task's next round: drawn while this one is audited, so that it opens at once.",
    )
    first_beacons = StorageMap[TaskId, H256](
        hasher=Hasher.TWOX_64_CONCAT,
        doc="The beacon of the block after a task's reveals: with the next one it says which slots are audited.",
    )
    confirmations = StorageMap[TaskId, tuple[Confirmation, ...]](
        default=(),
        hasher=Hasher.TWOX_64_CONCAT,
        doc="What validators say that a round in audit makes if all of its slots are right.",
    )
    rounds_ahead = StorageMap[TaskId, RoundState](
        hasher=Hasher.TWOX_64_CONCAT, doc="The round after one in audit, which commits and reveals meanwhile."
    )
    provisional = StorageMap[TaskId, Model](
        hasher=Hasher.TWOX_64_CONCAT, doc="What the round ahead began from: confirmed by a quorum, not audited yet."
    )
    next_attempts = StorageMap[TaskId, u32](
        default=0,
        hasher=Hasher.TWOX_64_CONCAT,
        doc="How often a task's next round began ahead and was thrown away: the attempt that it begins with.",
    )
    plant_keys = StorageMap[AccountId, PlantKey](doc="The keys that say which slots each worker may plant.")
    plant_beacons = StorageMap[tuple[TaskId, Round], H256](
        hasher=Hasher.TWOX_64_CONCAT, doc="The beacon of the block in which a round opened that is not final."
    )
    plants = StorageMap[TaskId, tuple[Plant, ...]](
        default=(), hasher=Hasher.TWOX_64_CONCAT, doc="The planted slots of a task's running round that were shown."
    )
    plant_deadlines = StorageMap[TaskId, u32](
        hasher=Hasher.TWOX_64_CONCAT,
        doc="Until which height a round on which validators agree waits for planted slots to be shown.",
    )
    workers = StorageMap[AccountId, Worker](
        default=Worker(bond=0, capacity=0, active=False, free_at=0, accepted=0, rejected=0, earned=0),
        doc="Workers, and what they achieved.",
    )
    active_workers = StorageValue[tuple[Seats, ...]](default=(), doc="Who can be drawn for a slot, ascending.")
    idle_tasks = StorageValue[tuple[TaskId, ...]](
        default=(), doc="The tasks whose round waits for free seats, the longest waiting first."
    )
    paused_workers = StorageMap[TaskId, tuple[AccountId, ...]](
        default=(),
        hasher=Hasher.TWOX_64_CONCAT,
        doc="Workers that missed a slot of a running task, ascending: they are not drawn for it until they resume.",
    )
    aggregators = StorageMap[AccountId, Balance](doc="The bonds of the registered aggregators.")
    aggregator_count = StorageValue[u32](default=0, doc="How many aggregators are registered.")
    challenges = StorageMap[AccountId, ChallengeCount](
        default=ChallengeCount(upheld=0, refuted=0, left=CHALLENGES_MAX, height=0),
        doc="How each validator's challenges ended, and how many it has left.",
    )
    absent_auditors = StorageMap[AccountId, u32](
        default=0, doc="Until which height a validator that did not attest in time is not drawn as an auditor."
    )
    storage = StorageMap[TaskId, Storage](
        hasher=Hasher.TWOX_64_CONCAT, doc="What is kept of every task, how long, and what was reserved for it."
    )
    stored_bytes = StorageValue[u64](default=0, doc="What is kept of all tasks at most.")
    stored_tasks = StorageMap[u32, TaskId](
        hasher=Hasher.TWOX_64_CONCAT, doc="The finished tasks of which something is kept, in no order."
    )
    stored_count = StorageValue[u32](default=0, doc="How many finished tasks something is kept of.")
    stored_cursor = StorageValue[u32](default=0, doc="Which of those the next block looks at first.")

    silos = StorageMap[TaskId, tuple[Silo, ...]](
        default=(), hasher=Hasher.TWOX_64_CONCAT, doc="Who may contribute to a running federated task, ascending."
    )
    weights = StorageMap[tuple[TaskId, Round], tuple[u32, ...]](
        default=(),
        hasher=Hasher.TWOX_64_CONCAT,
        doc="What each slot of a federated task's round weighs, in samples: of the running one, and of final ones.",
    )

    class InvalidName(DispatchError):
        """A task's name is 1 to 64 bytes of UTF-8 text without control characters."""

        index = 0

    class InvalidOptimizer(DispatchError):
        """In 1e-12: rates and clips are 1 to 1e15, momentum and betas below 1e12, epsilon 1 to 1e12, shares to 1e12."""

        index = 1

    class InvalidPolicy(DispatchError):
        """Slots 1-64, phases 10 (commit 1) to 14,400 blocks, auditors 1-8; ppm audited 1-10^6, outlying 20-10^5."""

        index = 2

    class InvalidRounds(DispatchError):
        """A task has 1 to 1,000,000 rounds."""

        index = 3

    class PriceTooLow(DispatchError):
        """A task pays at least PricePerSlotMin for a slot."""

        index = 4

    class TooManyTasks(DispatchError):
        """As many tasks run as this chain runs at once; try again when one has completed."""

        index = 5

    class UnknownTask(DispatchError):
        """No such task is running: it never was created, or it is over."""

        index = 6

    class WrongRound(DispatchError):
        """The task is at another round: the call came too early or too late."""

        index = 7

    class WrongPhase(DispatchError):
        """The round is in another phase: it takes commitments first, then reveals, then challenges and attestations."""

        index = 8

    class UnknownSlot(DispatchError):
        """The round has no such slot."""

        index = 9

    class NotAssigned(DispatchError):
        """The slot was drawn for another worker."""

        index = 10

    class AlreadyCommitted(DispatchError):
        """The slot has a commitment already, which nothing replaces."""

        index = 11

    class NotCommitted(DispatchError):
        """The slot has no commitment to reveal."""

        index = 12

    class AlreadyRevealed(DispatchError):
        """The slot is revealed already."""

        index = 13

    class CommitmentMismatch(DispatchError):
        """The salt and the update root are not what the worker committed to."""

        index = 14

    class AlreadyRegistered(DispatchError):
        """The signer is registered already."""

        index = 15

    class NotRegistered(DispatchError):
        """The signer is not registered as what this call is for."""

        index = 16

    class WorkerAssigned(DispatchError):
        """The worker has a slot, or is drawn for one; it is not drawn again and can leave when those are final."""

        index = 17

    class AlreadyActive(DispatchError):
        """The worker is not paused for this task: there is nothing to resume."""

        index = 18

    class TooManyWorkers(DispatchError):
        """As many workers can be drawn as this chain has room for."""

        index = 19

    class TooManyAggregators(DispatchError):
        """As many aggregators are registered as this chain has room for."""

        index = 20

    class SameAggregate(DispatchError):
        """The aggregator has said exactly this already."""

        index = 21

    class NotAuthority(DispatchError):
        """Only a validator of the current set attests and challenges."""

        index = 22

    class InvalidBitmap(DispatchError):
        """The bitmap is one bit for each of the round's slots, in whole bytes, with no bit set beyond the last slot."""

        index = 23

    class NotRevealed(DispatchError):
        """The slot was not revealed: there is nothing to accept or to challenge."""

        index = 24

    class SlotNotChallenged(DispatchError):
        """A revealed slot is left out although nobody challenged it; challenge it first."""

        index = 25

    class RootsChanged(DispatchError):
        """Nothing is accepted, so the model and the optimiser must stay as they are."""

        index = 26

    class InvalidAccuracy(DispatchError):
        """An accuracy is at most 1,000,000 parts per million."""

        index = 27

    class AlreadyAttested(DispatchError):
        """The validator has attested exactly this already."""

        index = 28

    class AlreadyChallenged(DispatchError):
        """The slot is challenged already, or shown to be planted: once is enough for everybody to recompute it."""

        index = 29

    class WrongAttempt(DispatchError):
        """The round was opened again: what is said of an earlier attempt does not count for this one."""

        index = 30

    class NotOwner(DispatchError):
        """Only its owner cancels a task."""

        index = 31

    class AlreadyCancelled(DispatchError):
        """The task is cancelled already: it ends with what has begun."""

        index = 32

    class TooManyChallenges(DispatchError):
        """The validator has challenged too much that was right; try again in a hundred blocks."""

        index = 33

    class TooManyAggregates(DispatchError):
        """As many aggregators have been heard in this attempt as it has room for."""

        index = 34

    class AggregatorEngaged(DispatchError):
        """The aggregator has a word in a running round, and can leave when that is final."""

        index = 35

    class InvalidCapacity(DispatchError):
        """A worker offers to train 1 to CapacityMax slots of a round at once."""

        index = 36

    class BondWaits(DispatchError):
        """A bond is free LeaveBlocks after its worker was drawn no more; `workers` says from which height on."""

        index = 37

    class PriceTooHigh(DispatchError):
        """A slot that is worth so much needs more audits: less than a bond protects would be worth a cheat."""

        index = 38

    class InvalidCodec(DispatchError):
        """Top-k sends a share of 1 to 1,000,000 ppm, after a warm-up of at most 1,000,000 rounds."""

        index = 39

    class InvalidLocalSteps(DispatchError):
        """A slot takes 1 to 4,096 local steps, with an inner optimiser that keeps the bounds of InvalidOptimizer."""

        index = 40

    class InvalidAggregation(DispatchError):
        """Only the mean takes top-k. Wrong shares to 500,000 ppm, a radius of 1 to 10^9 ppm, iterations 1 to 100."""

        index = 41

    class InvalidVerification(DispatchError):
        """Harm 10^3-10^9 ppm, forfeit to 5 POT, weight to 2^24 (mean) or 1, silos to slots; audit all, no feedback."""

        index = 42

    class NotFederated(DispatchError):
        """The task is none whose data stay with silos: whoever is registered as a worker trains it."""

        index = 43

    class NotSilo(DispatchError):
        """The task's owner has not admitted this account as a silo."""

        index = 44

    class TooManySilos(DispatchError):
        """The task has as many silos as it has room for; its owner can expel one."""

        index = 45

    class InvalidSamples(DispatchError):
        """A silo has at most 2^24 samples, and says that it has no more than the task's owner admitted it with."""

        index = 46

    class RepeatedUpdate(DispatchError):
        """The same update was revealed for another slot of this round, or of the one before."""

        index = 47

    class InvalidStorage(DispatchError):
        """A program has 1 to 16,777,216 bytes, a data set 1 to 2^40, a model 1 to 134,217,728 parameters."""

        index = 48

    class StorageFull(DispatchError):
        """All tasks together may have StorageBytesMax kept: take a smaller model, fewer slots, or wait for others."""

        index = 49

    class StorageOver(DispatchError):
        """Nothing is kept of the task any more that could be kept longer."""

        index = 50

    class InvalidExtension(DispatchError):
        """Storage is sold for 1 block to a year, and not beyond a year from now."""

        index = 51

    class RevealsClosed(DispatchError):
        """The first of the two draws of this round's audits was made: nothing more is revealed."""

        index = 52

    class AlreadyConfirmed(DispatchError):
        """The validator has confirmed this attempt already; the sum is exact, so that there is nothing to correct."""

        index = 53

    class InvalidPlantKey(DispatchError):
        """The proof is not the key's over itself and the signer's account."""

        index = 54

    class NotPlanted(DispatchError):
        """The signer may not plant this slot: by its key's signature, or it has no key that is old enough."""

        index = 55

    class ShownTooEarly(DispatchError):
        """Auditors were drawn for the slot and have not spoken: show it when it is challenged, or when they agree."""

        index = 56

    class AlreadyShown(DispatchError):
        """The slot was shown to be planted already."""

        index = 57

    class SlotPlanted(DispatchError):
        """The slot is wrong, as its worker has shown, and nobody audits it: leave it out."""

        index = 58

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
        loss_micro: u64
        accuracy_ppm: u32
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

    def worth_max(self, policy: Policy) -> int:
        """What a slot may be worth at most, price and emission, so that each single cheat is a loss.

        A cheat that is found loses half of the least bond of a seat at least: no seat has more than two slots at once,
        one of a running round and one of the next. What its challenger earns of that may be a friend's.
        """
        least = self.worker_bond_min // 2
        least -= least * self.challenge_reward_ppm // PPM
        return training_prices.worth_max(policy.auditors_per_slot, policy.audited_ppm, least)

    def validator_accounts(self) -> tuple[bytes, ...]:
        """The validators of the current set, in its order."""
        return tuple(authority.account for authority in self.validators.authorities.get())
