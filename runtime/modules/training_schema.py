"""The wire schema of the training protocol: what it stores and the constants of its rules, with its events and errors.

Behaviour is elsewhere: calls in `training`, rounds in `training_transitions`, workers in `training_workers`.
"""

from __future__ import annotations

from chain.primitives.scale import H256, AccountId, Balance, u16, u32, u64
from runtime.framework import Constant, Module
from runtime.modules import training_prices
from runtime.modules.balances import POT, Balances
from runtime.modules.rewards import Rewards
from runtime.modules.system import System
from runtime.modules.training_errors import TrainingErrors
from runtime.modules.training_events import TrainingEvents
from runtime.modules.training_policy import PPM, Policy
from runtime.modules.training_sizes import Storage
from runtime.modules.training_types import (
    CAPACITY_MAX,
    CHALLENGES_MAX,
    LEAVE_BLOCKS,
    PLANT_KEY_BLOCKS,
    Aggregate,
    ChallengeCount,
    Confirmation,
    Model,
    Plant,
    PlantKey,
    Round,
    RoundRecord,
    RoundState,
    Seats,
    Silo,
    Task,
    TaskId,
    Trial,
    Worker,
)
from runtime.modules.validators import Validators
from runtime.storage import Hasher, StorageMap, StorageValue


class TrainingSchema(TrainingErrors, TrainingEvents, Module):
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
    seats = StorageMap[AccountId, Seats](
        default=Seats(places=(), taken=0, paused=(), missing_since=0),
        doc="The seats of each worker that has some, has a slot or is paused for a task.",
    )
    seat_owners = StorageMap[u32, AccountId](
        hasher=Hasher.TWOX_64_CONCAT, doc="Whose each seat is: who can be drawn for a slot, in no order, without a gap."
    )
    seat_count = StorageValue[u32](default=0, doc="How many seats there are.")
    seat_cursor = StorageValue[u32](default=0, doc="Which seat the next block looks at first for who is missing.")
    idle_tasks = StorageValue[tuple[TaskId, ...]](
        default=(), doc="The tasks whose round waits for free seats, the longest waiting first."
    )
    aggregators = StorageMap[AccountId, Balance](doc="The bonds of the registered aggregators.")
    aggregator_count = StorageValue[u32](default=0, doc="How many aggregators are registered.")
    unheard_aggregators = StorageMap[AccountId, u32](
        default=0, doc="Until which height an aggregator whose blobs were not served is not heard."
    )
    trials = StorageMap[TaskId, Trial](
        hasher=Hasher.TWOX_64_CONCAT, doc="The aggregate of a task's running round whose slices are being checked."
    )
    proven = StorageMap[TaskId, tuple[Aggregate, ...]](
        default=(),
        hasher=Hasher.TWOX_64_CONCAT,
        doc="The aggregates of a task's running round of which every slice was found right.",
    )
    challenges = StorageMap[AccountId, ChallengeCount](
        default=ChallengeCount(upheld=0, refuted=0, left=CHALLENGES_MAX, height=0),
        doc="How each validator's challenges ended, and how many it has left.",
    )
    absent_auditors = StorageMap[AccountId, u32](
        default=0,
        doc="Until which height a validator that did not attest, or check its slices, in time is not drawn to audit.",
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
