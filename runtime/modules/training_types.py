"""What the training protocol stores and signs: tasks, rounds, slots, attestations, workers.

Every field is an integer of stated unit or bytes of bounded length: nothing here is a float, and nothing grows without
a bound that this file names.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from chain.primitives.hashing import Hash, blake2_256
from chain.primitives.scale import (
    H256,
    AccountId,
    Balance,
    codec_of,
    scale_path,
    u16,
    u32,
    u64,
)
from chain.primitives.seal import BlsPublicKey
from runtime.modules.training_policy import SLOTS_MAX, Descent, Policy
from runtime.modules.training_sizes import Claim

TaskId = u32
Round = u32
Slot = u16

# A record a round stays in state for ever; the escrow pays for it, and this bounds what one task may leave behind.
ROUNDS_MAX: Final = 1_000_000
# A name is shown in one line of a terminal.
NAME_BYTES_MAX: Final = 64
# Every block looks at every running round twice (when it begins and when it ends).
ACTIVE_TASKS_MAX: Final = 16
# When every place is taken, a task that nobody has trained for ten minutes makes room for a new one.
STUCK_BLOCKS: Final = 600
# Nothing reads all of them; but the look for who is missing comes by each of them, within five hours.
SEATS_MAX: Final = 131_072
# How many seats one draw looks at, of which some are taken: four for each slot of a full round, 3 ms.
SEATS_LOOKED_AT_MAX: Final = 256
# A worker that missed a slot, and of which nothing was heard for ten minutes, makes room for others.
MISSING_BLOCKS: Final = 600
# How many seats each block looks at for such ones.
SEATS_SWEPT: Final = 8
# A machine that trains more slots of a round than this at once is better run as several workers: what one failure
# costs a round stays bounded.
CAPACITY_MAX: Final = 16
# Rounds are over in far less. What is proven of a worker within this time after it left still costs its bond.
LEAVE_BLOCKS: Final = 600
# One aggregator is enough; the others are there for when it is not.
AGGREGATORS_MAX: Final = 64
# How many are heard in one attempt: a false word costs most of a bond, so that keeping the others out is dear.
AGGREGATES_MAX: Final = 8
# A validator may challenge every slot of every task at once; one that cries wolf runs out, and gets a challenge back
# with each that is upheld and with time. A false alarm costs a round up to three blocks: 3 % of them in the long run.
CHALLENGES_MAX: Final = ACTIVE_TASKS_MAX * SLOTS_MAX
CHALLENGE_REFILL_BLOCKS: Final = 100
# A refuted one counts as so many: a machine that computes what no other does is out of challenges after sixteen, and
# has one more every other hour. Its operator loses a few bonds by it and never a stake.
CHALLENGE_REFUTED: Final = 64
# A plant key decides from rounds on that open so long after it was set: whoever has as many turns in a row as a third
# of a full set, and knows the beacon as far ahead, must not choose the key by it.
PLANT_KEY_BLOCKS: Final = 40
# How long a round on which validators agree waits for planted slots to be shown, if it was audited: a worker learns of
# it with one block, and its word is in the next or the one after.
PLANT_BLOCKS: Final = 3
# The same where a challenged slot is rejected: its worker would lose most of a bond.
REJECTED_PLANT_BLOCKS: Final = 10
# A drawn auditor that is silent costs a round its whole audit time. For ten minutes it is not drawn again, so that
# one dead validator slows one round in hundreds.
ABSENCE_BLOCKS: Final = 600
# What each of a block's two hooks pays and slashes at most, in slots of 0.4 ms (SLOT_SETTLED): 100 ms. Rounds beyond
# that wait for the next block.
SETTLED_SLOTS_MAX: Final = 256
# Each can have a slot in every round. The list is read whenever a round is drawn: 64 are 2.6 kB.
SILOS_MAX: Final = SLOTS_MAX
# Accuracy in parts per million.
ACCURACY_PPM_MAX: Final = 1_000_000

ZERO_HASH: Final = bytes(32)


@scale_path("potchain_training::TaskStatus")
class TaskStatus(IntEnum):
    """Whether rounds follow. A task that was cancelled finishes what has begun, which is paid."""

    ACTIVE = 0
    COMPLETED = 1
    CANCELLED = 2


@scale_path("potchain_training::Task")
@dataclass(frozen=True, slots=True)
class Task:
    """A model being trained. `round` rounds are final, so it is also the index of the running one."""

    owner: AccountId
    name: bytes
    status: TaskStatus
    program_root: H256
    dataset_root: H256
    params_root: H256
    optimizer_root: H256  # zero: the optimiser has no state yet
    optimizer: Descent
    policy: Policy
    seed: H256
    round: Round
    rounds: Round
    price_per_slot: Balance
    escrow: Balance
    minted: Balance

    def is_evaluated(self, round_: int) -> bool:
        """Whether validators evaluate what this round makes."""
        return self.policy.is_evaluated(round_, self.rounds)

    @property
    def last_evaluated(self) -> int | None:
        """The newest of its final rounds that was evaluated."""
        if not self.round:
            return None
        newest = self.round - 1
        return newest if self.is_evaluated(newest) else newest - newest % self.policy.evaluate_rounds


@scale_path("potchain_training::Phase")
class Phase(IntEnum):
    """Where a running round is. A final round is a RoundRecord."""

    IDLE = 0  # waits for the next block's beacon and an active worker
    COMMIT = 1
    REVEAL = 2
    AUDIT = 3


@scale_path("potchain_training::SlotState")
@dataclass(frozen=True, slots=True)
class SlotState:
    """One contribution of a running round."""

    worker: AccountId
    commitment: H256 | None
    update_root: H256 | None
    auditors: tuple[AccountId, ...]
    challenger: AccountId | None

    @property
    def challenged(self) -> bool:
        return self.challenger is not None


@scale_path("potchain_training::Evaluation")
@dataclass(frozen=True, slots=True)
class Evaluation:
    """How good a model is on the held-out rows: its mean loss in 1e-6, and right answers in parts per million."""

    loss_micro: u64
    accuracy_ppm: u32


@scale_path("potchain_training::Attestation")
@dataclass(frozen=True, slots=True)
class Attestation:
    """A validator's word on a round: which slots it accepts (bitmap) and what the model became.

    How good that is it says after the rounds that the policy has evaluated, and after no other.
    """

    validator: AccountId
    accepted: bytes
    params_root: H256
    optimizer_root: H256
    evaluation: Evaluation | None


@scale_path("potchain_training::Model")
@dataclass(frozen=True, slots=True)
class Model:
    """Parameters and the optimiser's state, each by the root of its blob."""

    params_root: H256
    optimizer_root: H256


@scale_path("potchain_training::Confirmation")
@dataclass(frozen=True, slots=True)
class Confirmation:
    """A validator's word on what a round makes if every revealed slot is right: an exact sum, before the audit."""

    validator: AccountId
    model: Model


@scale_path("potchain_training::Aggregate")
@dataclass(frozen=True, slots=True)
class Aggregate:
    """An aggregator's word on what the model becomes if these slots count (bitmap); nobody has to believe it."""

    aggregator: AccountId
    accepted: bytes
    params_root: H256
    optimizer_root: H256


@scale_path("potchain_training::SliceWord")
@dataclass(frozen=True, slots=True)
class SliceWord:
    """Which slices of an aggregate a validator has added up itself and found right (bitmap, lowest bit first)."""

    validator: AccountId
    right: bytes


@scale_path("potchain_training::Dispute")
@dataclass(frozen=True, slots=True)
class Dispute:
    """A validator's word that a slice of an aggregate is wrong, for which it has a bond reserved."""

    validator: AccountId
    slice: u16


@scale_path("potchain_training::Trial")
@dataclass(frozen=True, slots=True)
class Trial:
    """An aggregate whose slices are being checked.

    `order` is empty until the block after it was said draws it: of s slices, slice i is for the f + 1 of its n
    validators from place i n / s on, around its end. So each has neighbouring slices, of which it reads hardly more
    than they are.
    """

    aggregate: Aggregate
    since: u32  # the height at which its turn began
    checkers: u16  # of each slice: f + 1
    order: tuple[AccountId, ...]
    words: tuple[SliceWord, ...]
    disputes: tuple[Dispute, ...]  # in the order in which they were said

    def drawn(self, index: int, slices: int) -> list[bytes]:
        """The validators that are to check one of so many slices."""
        count = len(self.order)
        first = index * count // slices
        return [self.order[(first + place) % count] for place in range(min(self.checkers, count))]


@scale_path("potchain_training::RoundState")
@dataclass(frozen=True, slots=True)
class RoundState:
    """A task's running round, or the one ahead of it. `deadline` is the last block whose calls count for the phase.

    A slot's batch follows from (seed, round, attempt, slot): what one attempt revealed is worth nothing in the next.
    """

    round: Round
    attempt: u32
    phase: Phase
    opened_at: u32
    deadline: u32
    slots: tuple[SlotState, ...]
    attestations: tuple[Attestation, ...]
    aggregates: tuple[Aggregate, ...]  # in the order in which they were said


@scale_path("potchain_training::SlotRecord")
@dataclass(frozen=True, slots=True)
class SlotRecord:
    """What became of one slot of a final round."""

    worker: AccountId
    update_root: H256 | None
    accepted: bool
    planted: bool = False  # wrong with permission: paid, and no part of the model


@scale_path("potchain_training::RoundRecord")
@dataclass(frozen=True, slots=True)
class RoundRecord:
    """A final round, won at its attempt `attempt`; `attesters` are the validators whose agreement made it final.

    With the task's price per slot it holds all that `rewards.split` made of it: who was paid what, and why.
    """

    attempt: u32
    params_root: H256
    optimizer_root: H256
    evaluation: Evaluation | None
    minted: Balance
    emission: Balance  # beyond the task's price, for each accepted slot
    finalised_at: u32
    slots: tuple[SlotRecord, ...]
    attesters: tuple[AccountId, ...]
    aggregator: AccountId | None  # the first that had said this model


@scale_path("potchain_training::Seats")
@dataclass(frozen=True, slots=True)
class Seats:
    """What a draw has to know of a worker.

    `taken` are the slots that it has, of running rounds and of those ahead, and those that it is drawn for.
    """

    places: tuple[u32, ...]  # of its seats among all seats, one for each slot of its capacity; none: it is not active
    taken: u16
    paused: tuple[TaskId, ...]  # running tasks of which it missed a slot, until it resumes
    missing_since: u32  # the height of the first miss since anything was heard of it; 0: it is not missing


@scale_path("potchain_training::Silo")
@dataclass(frozen=True, slots=True)
class Silo:
    """Who may contribute to a federated task. The owner knows it, and says how many samples it can have at most."""

    account: AccountId
    samples_max: u32
    samples: u32  # that it says it has; 0: it takes no part


@scale_path("potchain_training::Worker")
@dataclass(frozen=True, slots=True)
class Worker:
    """A worker; an active one can be drawn. Without a bond it is only the memory of one that left."""

    bond: Balance
    capacity: u16
    active: bool
    free_at: u32  # the height from which on one that is not active can have its bond back
    accepted: u32
    rejected: u32
    earned: Balance


@scale_path("potchain_training::ChallengeCount")
@dataclass(frozen=True, slots=True)
class ChallengeCount:
    """How a validator's challenges ended, and how many it might make at a height."""

    upheld: u32
    refuted: u32
    left: u32
    height: u32


@scale_path("potchain_training::PlantKey")
@dataclass(frozen=True, slots=True)
class PlantKey:
    """Whose signatures say which slots a worker may plant, and the height at which it was set."""

    key: BlsPublicKey
    since: u32


@scale_path("potchain_training::Plant")
@dataclass(frozen=True, slots=True)
class Plant:
    """A planted slot that its worker has shown, and the auditors drawn for it that had attested it right."""

    slot: Slot
    trusted_by: tuple[AccountId, ...]


@scale_path("potchain_training::SlashReason")
class SlashReason(IntEnum):
    """Why a worker lost bond."""

    REJECTED = 0
    NOT_REVEALED = 1
    HARMFUL = 2  # of a federated task: the model is better without the slot, and nobody can know why
    FALSE_PLANT = 3  # a right slot, of which its worker said that it was planted


@scale_path("potchain_training::ReopenReason")
class ReopenReason(IntEnum):
    """Why a round starts again with fresh draws."""

    NO_COMMITMENT = 0
    NO_REVEAL = 1
    NOTHING_ACCEPTED = 2
    NO_AGREEMENT = 3


_COMMITMENT = codec_of(tuple[AccountId, TaskId, Round, u32, Slot, H256, H256])


def commitment_of(
    worker: bytes, task: int, round_: int, attempt: int, slot: int, salt: bytes, update_root: bytes
) -> Hash:
    """What a worker commits to: bound to itself and its slot, so that a copied commitment is worth nothing."""
    return blake2_256(_COMMITMENT.encode((worker, task, round_, attempt, slot, salt, update_root)))


def name_is_valid(name: bytes) -> bool:
    """Whether a task's name is one line of UTF-8 text that a terminal can show."""
    if not 1 <= len(name) <= NAME_BYTES_MAX:
        return False
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return False
    return not any(ord(letter) < 0x20 or 0x7F <= ord(letter) < 0xA0 for letter in text)


@dataclass(frozen=True, slots=True)
class Terms:
    """What an owner asks for: a task before it runs."""

    owner: bytes
    name: bytes
    program_root: bytes
    dataset_root: bytes
    params_root: bytes
    optimizer: Descent
    policy: Policy
    rounds: int
    price_per_slot: int
    storage: Claim


_SEED = codec_of(tuple[H256, AccountId, TaskId, H256])


def seed_of(beacon: bytes, owner: bytes, task: int, params_root: bytes) -> Hash:
    """The seed of a task's batches: nobody, its owner included, knows it before the task is created."""
    return blake2_256(_SEED.encode((beacon, owner, task, params_root)))
