"""The training protocol: who trains what, what they committed to, what validators accepted, who is paid or slashed.

Rule: a verdict on a gradient is never computed here. State only counts what validators attest, in integers, and every
draw uses the beacon of the block after the one that fixed what the draw is about.

A round runs COMMIT → REVEAL → AUDIT. As soon as a quorum has confirmed what it makes if all its slots are right, the
next one begins from there and runs COMMIT → REVEAL beside the audit (`training_ahead`); else it opens when that ends.
Hooks at the end of a block close what is complete (a commit phase; an audit that validators agree on); hooks at the
beginning of a block open what needs its fresh beacon (slots, auditors). A round that ends without an accepted slot is
opened again, with fresh draws, under the next attempt; so is one that began ahead of an audit that rejected a slot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from chain.primitives.scale import H256, AccountId, Balance, u16, u32, u64
from chain.primitives.seal import BlsPublicKey, BlsSignature, read_bitmap
from runtime.framework import call
from runtime.limits import MICROSECOND, MILLISECOND
from runtime.modules import (
    training_aggregators,
    training_ahead,
    training_challenges,
    training_genesis,
    training_invariants,
    training_plants,
    training_rounds,
    training_silos,
    training_slices,
    training_storage,
    training_transitions,
    training_workers,
)
from runtime.modules.training_policy import (
    Descent,
    Policy,
    aggregation_is_valid,
    checks_are_valid,
    codec_is_valid,
    descent_is_valid,
    local_steps_are_valid,
    policy_is_valid,
    verification_is_valid,
)
from runtime.modules.training_schema import TrainingSchema
from runtime.modules.training_sizes import SLICES_MAX, Claim, slice_count
from runtime.modules.training_types import (
    ACCURACY_PPM_MAX,
    ACTIVE_TASKS_MAX,
    AGGREGATES_MAX,
    AGGREGATORS_MAX,
    CAPACITY_MAX,
    ROUNDS_MAX,
    SEATS_MAX,
    SEATS_SWEPT,
    SETTLED_SLOTS_MAX,
    ZERO_HASH,
    Aggregate,
    Attestation,
    Confirmation,
    Evaluation,
    Model,
    Phase,
    Round,
    RoundState,
    Slot,
    SlotState,
    Task,
    TaskId,
    TaskStatus,
    Terms,
    commitment_of,
    name_is_valid,
    seed_of,
)
from runtime.types import DispatchError, GenesisError, Origin, Pays, Weight

# A full round's state (64 slots, eight auditors each) takes 0.9 ms to decode and to encode.
ROUND_ACCESS: Final = Weight(MILLISECOND)
# In an audit, a hundred validators' attestations make it twice as large.
AUDIT_ACCESS: Final = Weight(2 * MILLISECOND)
# A hundred validators' words on 256 slices: each is looked at for each slice, and its bits are counted.
TRIAL_ACCESS: Final = Weight(5 * MILLISECOND)
# A seat that comes or goes touches four storage values at most, its neighbour's included.
SEATS_ACCESS: Final = Weight(200 * MICROSECOND + CAPACITY_MAX * 100 * MICROSECOND)
# A full list of silos, and the task itself.
SILOS_ACCESS: Final = Weight(MILLISECOND)
# Each hook reads every running round; one that draws looks at seats, and most read nothing else.
ROUND_HOOKS: Final = Weight(4 * MILLISECOND)
# Paying a slot, or slashing its worker, touches some ten storage values.
SLOT_SETTLED: Final = Weight(400 * MICROSECOND)
# A pairing and its proof of possession take two pairings each.
PLANT_PROOF: Final = Weight(6 * MILLISECOND)
# Paying one validator its share of a round.
SHARE_PAID: Final = Weight(100 * MICROSECOND)
# Looking at some seats for who is missing, and retiring one such worker.
SEATS_SWEEP: Final = Weight(SEATS_SWEPT * 50 * MICROSECOND + SEATS_ACCESS.ref_time)
# Looking at a finished task, and counting its bytes anew.
STORAGE_LOOK: Final = Weight(200 * MICROSECOND)


class Training(TrainingSchema):
    """Training tasks, their rounds, and the workers that are paid for them."""

    @call(index=0, weight=Weight((ACTIVE_TASKS_MAX + 1) * MILLISECOND))
    def create_task(
        self,
        origin: Origin,
        name: bytes,
        program_root: H256,
        dataset_root: H256,
        params_root: H256,
        optimizer: Descent,
        policy: Policy,
        rounds: Round,
        price_per_slot: Balance,
        storage: Claim,
    ) -> None:
        """Have a model trained: `rounds` rounds from `params_root`. Reserves price, times slots, times rounds.

        Reserves as well what its blobs cost, whose lengths `storage` claims, for as long as the task may take.
        """
        self.create(
            Terms(
                owner=origin.ensure_signed(),
                name=name,
                program_root=program_root,
                dataset_root=dataset_root,
                params_root=params_root,
                optimizer=optimizer,
                policy=policy,
                rounds=rounds,
                price_per_slot=price_per_slot,
                storage=storage,
            )
        )

    @call(index=1, weight=SEATS_ACCESS)
    def register_worker(self, origin: Origin, capacity: u16) -> None:
        """Be drawn for up to `capacity` slots of a round from the next draw on; a larger one may follow.

        Reserves WorkerBond for each, or what is missing of it.
        """
        account = origin.ensure_signed()
        worker = self.workers[account]
        if not 1 <= capacity <= self.capacity_max:
            raise self.InvalidCapacity
        if worker.active and capacity <= worker.capacity:
            raise self.AlreadyRegistered
        wanted = capacity - len(self.seats[account].places)
        if self.seat_count.get() + wanted > SEATS_MAX:
            raise self.TooManyWorkers
        bond = max(worker.bond, self.worker_bond * capacity)
        self.balances.reserve(account, bond - worker.bond)
        self.workers[account] = replace(worker, bond=bond, capacity=capacity, active=True, free_at=0)
        training_workers.activate(self, account, capacity)
        self.emit(self.WorkerRegistered(account, bond, capacity))

    @call(index=2, weight=SEATS_ACCESS)
    def deregister_worker(self, origin: Origin) -> None:
        """Leave: be drawn no more; then, called again once LeaveBlocks have passed, get the bond back.

        A worker that has a slot, or is drawn for one, keeps it, and its bond until those are final.
        """
        account = origin.ensure_signed()
        worker = self.workers[account]
        if not worker.bond:
            raise self.NotRegistered
        if worker.active:
            training_workers.retire(self, account)
        elif self.seats[account].taken:
            raise self.WorkerAssigned
        elif self.system.height < worker.free_at:
            raise self.BondWaits
        else:
            training_workers.remove(self, account)

    @call(index=3, weight=ROUND_ACCESS)
    def commit(self, origin: Origin, task: TaskId, round: Round, attempt: u32, slot: Slot, commitment: H256) -> Pays:
        """Commit to a slot's update before anybody's is known. Free for the worker that was drawn."""
        worker = origin.ensure_signed()
        state = self._running(task, round, attempt, Phase.COMMIT)
        mine = self._assigned(state, slot, worker)
        if mine.commitment is not None:
            raise self.AlreadyCommitted
        self._put_slot(task, state, slot, replace(mine, commitment=commitment))
        self.emit(self.Committed(task, round, slot, worker))
        return Pays.NO

    @call(index=4, weight=ROUND_ACCESS)
    def reveal(
        self, origin: Origin, task: TaskId, round: Round, attempt: u32, slot: Slot, salt: H256, update_root: H256
    ) -> Pays:
        """Show what a commitment was made of: salt and the root of the update's blob. Free when it fits."""
        worker = origin.ensure_signed()
        state = self._running(task, round, attempt, Phase.REVEAL)
        if round == self.tasks[task].round and task in self.first_beacons:
            raise self.RevealsClosed
        mine = self._assigned(state, slot, worker)
        if mine.commitment is None:
            raise self.NotCommitted
        if mine.update_root is not None:
            raise self.AlreadyRevealed
        if mine.commitment != commitment_of(worker, task, round, attempt, slot, salt, update_root):
            raise self.CommitmentMismatch
        training_silos.ensure_own(self, task, state, update_root)
        self._put_slot(task, state, slot, replace(mine, update_root=update_root))
        self.emit(self.Revealed(task, round, slot, worker, update_root))
        return Pays.NO

    @call(index=5, weight=AUDIT_ACCESS)
    def aggregate(
        self,
        origin: Origin,
        task: TaskId,
        round: Round,
        attempt: u32,
        accepted: bytes,
        params_root: H256,
        optimizer_root: H256,
    ) -> Pays:
        """Say what the model becomes if these slots count (bitmap as in `attest`). The first word is free.

        The first that said what validators agree on is paid; who said something else of the same slots is slashed. An
        aggregator's later word, on other slots after a challenge, replaces its earlier one. Where validators check
        slices, the first is put on trial.
        """
        account = origin.ensure_signed()
        if account not in self.aggregators:
            raise self.NotRegistered
        if self.unheard_aggregators[account] > self.system.height:
            raise self.AggregatorUnheard
        state = self._fixed(task, round, attempt)
        self._read_accepted(task, state, accepted)
        aggregate = Aggregate(account, accepted, params_root, optimizer_root)
        if aggregate in state.aggregates:
            raise self.SameAggregate
        others = tuple(other for other in state.aggregates if other.aggregator != account)
        repeated = len(others) < len(state.aggregates)
        if len(others) >= AGGREGATES_MAX:
            raise self.TooManyAggregates
        state = replace(state, aggregates=(*others, aggregate))
        self.rounds[task] = state
        self.emit(self.Aggregated(task, round, account, accepted, params_root, optimizer_root))
        training_slices.hear(self, task, state)
        return Pays.YES if repeated else Pays.NO

    @call(index=6, weight=Weight(200 * MICROSECOND))
    def register_aggregator(self, origin: Origin) -> None:
        """Reserve AggregatorBond and be heard as an aggregator."""
        account = origin.ensure_signed()
        count = self.aggregator_count.get()
        if account in self.aggregators:
            raise self.AlreadyRegistered
        if count >= AGGREGATORS_MAX:
            raise self.TooManyAggregators
        self.balances.reserve(account, self.aggregator_bond)
        self.aggregator_count.put(count + 1)
        self.aggregators[account] = self.aggregator_bond
        self.emit(self.AggregatorRegistered(account, self.aggregator_bond))

    @call(index=7, weight=AUDIT_ACCESS)
    def attest(
        self,
        origin: Origin,
        task: TaskId,
        round: Round,
        attempt: u32,
        accepted: bytes,
        params_root: H256,
        optimizer_root: H256,
        evaluation: tuple[u64, u32] | None,
    ) -> Pays:
        """Say which slots are right (bitmap, lowest bit first) and what the model became. The first word is free.

        A slot may be left out only if it was challenged. Loss (1e-6) and accuracy (ppm) on the held-out rows belong to
        the rounds that the policy has evaluated, and to no others. A validator's later word replaces its earlier one.
        """
        validator = origin.ensure_signed()
        self._ensure_authority(validator)
        state = self._running(task, round, attempt, Phase.AUDIT)
        slots = self._read_accepted(task, state, accepted)
        before = self.tasks[task]
        if not slots and (params_root, optimizer_root) != (before.params_root, before.optimizer_root):
            raise self.RootsChanged
        if before.is_evaluated(round) != (evaluation is not None):
            raise self.WrongEvaluation
        figures = None if evaluation is None else Evaluation(*evaluation)
        if figures is not None and figures.accuracy_ppm > ACCURACY_PPM_MAX:
            raise self.InvalidAccuracy
        attestation = Attestation(validator, accepted, params_root, optimizer_root, figures)
        if attestation in state.attestations:
            raise self.AlreadyAttested
        repeated = any(other.validator == validator for other in state.attestations)
        # The word of a validator that has left the set counts no more: a round holds one attestation a validator.
        current = set(self.validator_accounts()) - {validator}
        others = tuple(other for other in state.attestations if other.validator in current)
        self.rounds[task] = replace(state, attestations=(*others, attestation))
        self.emit(self.Attested(task, round, validator, accepted, params_root))
        return Pays.YES if repeated else Pays.NO

    @call(index=8, weight=AUDIT_ACCESS)
    def challenge(self, origin: Origin, task: TaskId, round: Round, attempt: u32, slot: Slot) -> Pays:
        """Say that a slot's update is wrong or cannot be fetched: every validator recomputes it and attests anew.

        Reserves ChallengeBond until the round is settled: burned if the slot is accepted, given back with a reward if
        not. There is no deadline, so that no round waits for a blob that is gone; each slot is challenged once. A
        validator that is refuted too often has to wait.
        """
        validator = origin.ensure_signed()
        self._ensure_authority(validator)
        state = self._running(task, round, attempt, Phase.AUDIT)
        suspect = self._slot(state, slot)
        if suspect.update_root is None:
            raise self.NotRevealed
        if suspect.challenger is not None or any(plant.slot == slot for plant in self.plants[task]):
            raise self.AlreadyChallenged
        training_challenges.stake(self, validator)
        self._put_slot(task, replace(state, attestations=()), slot, replace(suspect, challenger=validator))
        self.emit(self.Challenged(task, round, slot, validator))
        return Pays.NO

    @call(index=9, weight=Weight(200 * MICROSECOND))
    def resume(self, origin: Origin, task: TaskId) -> None:
        """Be drawn for a task again after a missed slot. Not free: to miss and resume for ever delays every round."""
        account = origin.ensure_signed()
        if not self.workers[account].bond:
            raise self.NotRegistered
        if task not in self.seats[account].paused:
            raise self.AlreadyActive
        training_workers.resume(self, account, task)

    @call(index=10, weight=Weight((ACTIVE_TASKS_MAX + 1) * AUDIT_ACCESS.ref_time))
    def deregister_aggregator(self, origin: Origin) -> None:
        """Leave and get the bond back, once every round that was spoken about is final."""
        account = origin.ensure_signed()
        if account not in self.aggregators:
            raise self.NotRegistered
        if training_aggregators.is_engaged(self, account):
            raise self.AggregatorEngaged
        training_aggregators.remove(self, account)

    @call(index=11, weight=ROUND_ACCESS)
    def cancel_task(self, origin: Origin, task: TaskId) -> None:
        """Have no more rounds trained: what has begun is finished and paid, then the rest of the escrow is free."""
        owner = origin.ensure_signed()
        found = self.tasks.get(task)
        if found is None or task not in self.active_tasks.get():
            raise self.UnknownTask
        if found.owner != owner:
            raise self.NotOwner
        if found.status is TaskStatus.CANCELLED:
            raise self.AlreadyCancelled
        self._cancel(task)

    @call(index=12, weight=SILOS_ACCESS)
    def admit_silo(self, origin: Origin, task: TaskId, silo: AccountId, samples_max: u32) -> None:
        """Let an account contribute to a federated task of yours, with up to so many samples; a later word counts."""
        training_silos.ensure_owner(self, origin.ensure_signed(), task)
        training_silos.admit(self, task, silo, samples_max)

    @call(index=13, weight=SILOS_ACCESS)
    def expel_silo(self, origin: Origin, task: TaskId, silo: AccountId) -> None:
        """Let a silo contribute no more: it is drawn no more, and a round that it was drawn for ahead is drawn anew."""
        training_silos.ensure_owner(self, origin.ensure_signed(), task)
        training_silos.expel(self, task, silo)

    @call(index=14, weight=SILOS_ACCESS)
    def declare_samples(self, origin: Origin, task: TaskId, samples: u32) -> None:
        """Take part in a federated task that admitted you, with so many samples; with 0, take part no more.

        Who takes part is drawn for such tasks alone, once it is registered as a worker. From the next round on the
        samples are what it weighs, up to the policy's `weight_max`.
        """
        training_silos.declare(self, task, origin.ensure_signed(), samples)

    @call(index=15, weight=Weight(300 * MICROSECOND))
    def extend_storage(self, origin: Origin, task: TaskId, blocks: u32) -> None:
        """Have a finished task's model kept for so many blocks more; anybody may pay, and it is burned.

        The owner of a running task reserves for as much more time that it may take.
        """
        training_storage.extend(self, origin.ensure_signed(), task, blocks)

    @call(index=16, weight=AUDIT_ACCESS)
    def confirm(
        self, origin: Origin, task: TaskId, round: Round, attempt: u32, params_root: H256, optimizer_root: H256
    ) -> Pays:
        """Say what the model becomes if every revealed slot is right, before the audit says whether they are. Free.

        When a quorum says the same, the next round begins from there while this one is audited. Whoever cannot
        fetch or read one of the updates has no sum to say. A validator says one word in each attempt.
        """
        validator = origin.ensure_signed()
        self._ensure_authority(validator)
        self._fixed(task, round, attempt)
        confirmations = self.confirmations[task]
        if any(other.validator == validator for other in confirmations):
            raise self.AlreadyConfirmed
        current = set(self.validator_accounts())
        others = tuple(other for other in confirmations if other.validator in current)
        self.confirmations[task] = (*others, Confirmation(validator, Model(params_root, optimizer_root)))
        self.emit(self.Confirmed(task, round, validator, params_root, optimizer_root))
        return Pays.NO

    @call(index=17, weight=PLANT_PROOF)
    def set_plant_key(self, origin: Origin, key: BlsPublicKey, proof: BlsSignature) -> None:
        """Let this BLS key say which of a worker's slots it may plant; `proof`: whose key it is says so."""
        training_plants.set_key(self, origin.ensure_signed(), key, proof)

    @call(index=18, weight=Weight(PLANT_PROOF.ref_time + AUDIT_ACCESS.ref_time))
    def show_plant(
        self, origin: Origin, task: TaskId, round: Round, attempt: u32, slot: Slot, proof: BlsSignature
    ) -> Pays:
        """Show that a slot of the signer's is wrong with permission: at once if it is not audited, or else when it is
        challenged or validators agree on it. Everybody attests anew. Free when it is so.
        """
        worker = origin.ensure_signed()
        state = self._running(task, round, attempt, Phase.AUDIT)
        self._assigned(state, slot, worker)
        training_plants.show(self, task, state, slot, proof)
        if slot in training_plants.left_out(self, task, state):
            # What has begun from a sum with it is in vain already.
            training_ahead.discard(self, task)
        return Pays.NO

    @call(index=19, weight=AUDIT_ACCESS + TRIAL_ACCESS)
    def find_slices(
        self,
        origin: Origin,
        task: TaskId,
        round: Round,
        attempt: u32,
        accepted: bytes,
        params_root: H256,
        optimizer_root: H256,
        right: bytes,
        wrong: u16 | None,
    ) -> Pays:
        """Say which slices of the aggregate on trial are right (bitmap, lowest bit first), or that one is wrong. Free.

        Whoever was drawn for a slice is to add it up; anybody may. A dispute reserves ChallengeBond until a quorum has
        found its slice right, which burns it, or the aggregate false, which costs its aggregator SlashFalseAggregate.
        """
        validator = origin.ensure_signed()
        self._ensure_authority(validator)
        state = self._fixed(task, round, attempt)
        trial = training_slices.trial_of(self, task, (accepted, params_root, optimizer_root))
        training_slices.find(self, task, state, trial, validator, right, wrong)
        return Pays.NO

    def on_initialize(self) -> Weight:
        """Open what waited for this block's beacon; the weight is that of both hooks."""
        for task in training_storage.unpaid(self):
            self._cancel(task)
        training_storage.forget_expired(self)
        settled = training_transitions.begin_block(self)
        active = self.active_tasks.get()
        audited = [len(state.slots) for task in active if (state := self.rounds[task]).phase is Phase.AUDIT]
        return Weight(
            ROUND_HOOKS.ref_time * len(active)
            + STORAGE_LOOK.ref_time * training_storage.LOOKED_AT_MAX
            + SEATS_SWEEP.ref_time
            + ROUND_ACCESS.ref_time * len(audited)  # the rounds ahead of those
            + SLOT_SETTLED.ref_time * (settled + min(sum(audited), SETTLED_SLOTS_MAX))
            + SHARE_PAID.ref_time * len(audited) * len(self.validator_accounts())
        )

    def on_finalize(self) -> None:
        """Close what this block completed."""
        training_transitions.end_block(self)

    def genesis(self, config: Mapping[str, object]) -> None:
        """`{"tasks": […]}`: tasks whose escrow is reserved from what the balances' genesis gave their owners."""
        for path, terms in training_genesis.read_tasks(self.info.attribute, config):
            try:
                self.create(terms)
            except DispatchError as error:
                raise GenesisError(f"{path}: {error}") from error

    def check(self) -> None:
        training_invariants.check(self)

    def ensure_acceptable(self, terms: Terms) -> None:
        """Raise what is wrong with a task's terms. It writes nothing, so that tools ask it before anything is paid."""
        if not name_is_valid(terms.name):
            raise self.InvalidName
        if not descent_is_valid(terms.optimizer):
            raise self.InvalidOptimizer
        if not policy_is_valid(terms.policy, len(self.validator_accounts())):
            raise self.InvalidPolicy
        if not codec_is_valid(terms.policy.codec):
            raise self.InvalidCodec
        if not local_steps_are_valid(terms.policy.local_steps):
            raise self.InvalidLocalSteps
        if not aggregation_is_valid(terms.policy):
            raise self.InvalidAggregation
        if not verification_is_valid(terms.policy):
            raise self.InvalidVerification
        if not checks_are_valid(terms.policy, terms.optimizer):
            raise self.InvalidChecks
        if (slices := slice_count(terms.storage, terms.policy)) > SLICES_MAX:
            raise self.InvalidChecks(f"expected at most {SLICES_MAX} slices, got {slices}: take more chunks for each")
        if not 1 <= terms.rounds <= ROUNDS_MAX:
            raise self.InvalidRounds
        if terms.price_per_slot < self.price_per_slot_min:
            raise self.PriceTooLow
        worth = terms.price_per_slot + min(terms.price_per_slot, self.rewards.slot_emission)
        if worth > self.worth_max(terms.policy):
            raise self.PriceTooHigh
        training_storage.ensure_room(self, terms)

    def create(self, terms: Terms) -> TaskId:
        """Guard a task's terms, reserve its escrow and let it wait for its first round."""
        self.ensure_acceptable(terms)
        active = self.active_tasks.get()
        if len(active) >= ACTIVE_TASKS_MAX:
            training_transitions.make_room(self)
            active = self.active_tasks.get()
        escrow = terms.price_per_slot * terms.policy.slots * terms.rounds
        self.balances.reserve(terms.owner, escrow)
        task = self.next_task_id.get()
        self.next_task_id.put(task + 1)
        self.active_tasks.put((*active, task))
        self.tasks[task] = Task(
            owner=terms.owner,
            name=terms.name,
            status=TaskStatus.ACTIVE,
            program_root=terms.program_root,
            dataset_root=terms.dataset_root,
            params_root=terms.params_root,
            optimizer_root=ZERO_HASH,
            optimizer=terms.optimizer,
            policy=terms.policy,
            seed=seed_of(self.validators.randomness(), terms.owner, task, terms.params_root),
            round=0,
            rounds=terms.rounds,
            price_per_slot=terms.price_per_slot,
            escrow=escrow,
            minted=0,
        )
        training_storage.open_account(self, task, terms)
        training_transitions.wait(self, task, 0, 0)
        self.emit(self.TaskCreated(task, terms.owner, escrow))
        return task

    def _cancel(self, task: int) -> None:
        found = self.tasks[task]
        self.tasks[task] = replace(found, status=TaskStatus.CANCELLED)
        self.emit(self.TaskCancelled(task, found.round))
        if self.rounds[task].phase is Phase.IDLE:
            training_transitions.end_task(self, task)

    def _ensure_authority(self, account: bytes) -> None:
        if account not in self.validator_accounts():
            raise self.NotAuthority

    def _found(self, task: int, round_: int, attempt: int) -> RoundState:
        """The round that a call is about, running or ahead."""
        state = training_ahead.find(self, task, round_)
        if state is None:
            raise self.UnknownTask
        if state.round != round_:
            raise self.WrongRound(f"task {task} is at round {state.round}, got {round_}")
        # What was said of an attempt that failed must not be taken for something about the one that runs.
        if state.attempt != attempt:
            raise self.WrongAttempt(f"round {round_} of task {task} is at attempt {state.attempt}, got {attempt}")
        return state

    def _fixed(self, task: int, round_: int, attempt: int) -> RoundState:
        """The running round, once nothing more is revealed to it."""
        state = self._found(task, round_, attempt)
        if not training_ahead.is_fixed(self, task, state):
            raise self.WrongPhase(f"round {round_} of task {task} still takes commitments or reveals")
        return state

    def _running(self, task: int, round_: int, attempt: int, phase: Phase) -> RoundState:
        state = self._found(task, round_, attempt)
        if state.phase is not phase:
            raise self.WrongPhase(f"round {round_} of task {task} is in {state.phase.name}, expected {phase.name}")
        return state

    def _read_accepted(self, task: int, state: RoundState, accepted: bytes) -> list[int]:
        """The slots of a bitmap: all that are revealed, without any of those that were challenged or are planted."""
        try:
            slots = read_bitmap(accepted, len(state.slots))
        except ValueError as error:
            raise self.InvalidBitmap(str(error)) from error
        if any(state.slots[slot].update_root is None for slot in slots):
            raise self.NotRevealed
        if any(slot in slots for slot in training_plants.left_out(self, task, state)):
            raise self.SlotPlanted
        shown = {plant.slot for plant in self.plants[task]}
        if any(slot not in slots and slot not in shown for slot in training_rounds.unchallenged(state)):
            raise self.SlotNotChallenged
        return slots

    def _slot(self, state: RoundState, slot: int) -> SlotState:
        if slot >= len(state.slots):
            raise self.UnknownSlot(f"the round has {len(state.slots)} slots, got slot {slot}")
        return state.slots[slot]

    def _assigned(self, state: RoundState, slot: int, worker: bytes) -> SlotState:
        found = self._slot(state, slot)
        if found.worker != worker:
            raise self.NotAssigned
        return found

    def _put_slot(self, task: int, state: RoundState, index: int, slot: SlotState) -> None:
        slots = training_rounds.replace_slot(state.slots, index, slot)
        training_ahead.put(self, task, replace(state, slots=slots))
