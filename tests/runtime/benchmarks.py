"""Every call of this project's own modules at its dearest: `potchain module weigh tests/runtime/benchmarks.py`.

State is laid down as the modules would leave it at their limits: a hundred validators, full rounds, full lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from chain.primitives import bls
from chain.primitives.hashing import blake2_256
from chain.primitives.keys import Keypair
from chain.primitives.offence import DoubleVote, SignedDigest, verify_double_vote
from chain.primitives.seal import Phase as VotePhase
from chain.primitives.seal import vote_message
from runtime.calls import Call
from runtime.modules import training_workers
from runtime.modules.multisig import Timepoint, multi_account
from runtime.modules.system import ITEMS_MAX
from runtime.modules.training_plants import is_chosen, message_of
from runtime.modules.training_policy import (
    AUDITORS_PER_SLOT_MAX,
    HARM_PPM_MIN,
    PICO,
    SAMPLES_MAX,
    SLOTS_MAX,
    Adam,
    CenteredClip,
    ClipNorm,
    Cosine,
    Descent,
    Int16,
    LocalSteps,
    Recompute,
    Schedule,
    Scored,
    Slices,
)
from runtime.modules.training_sizes import SLICES_MAX
from runtime.modules.training_types import (
    ACTIVE_TASKS_MAX,
    AGGREGATES_MAX,
    AGGREGATORS_MAX,
    CAPACITY_MAX,
    SILOS_MAX,
    STUCK_BLOCKS,
    Aggregate,
    Attestation,
    Confirmation,
    Evaluation,
    Model,
    Phase,
    Plant,
    PlantKey,
    RoundRecord,
    RoundState,
    Seats,
    Silo,
    SliceWord,
    SlotRecord,
    SlotState,
    Trial,
    Worker,
    commitment_of,
)
from runtime.modules.validators_types import AUTHORITIES_MAX, CANDIDATES_MAX, UNBONDING_MAX, Stake, Unbonding
from runtime.potchain import RUNTIME
from runtime.testing import ALICE, BOB, ENDOWMENT, EVE, FERDIE, POT, STAKE, Prepared, TestChain, benchmark, bls_secret
from runtime.types import Origin, SignedOrigin, SystemOrigin, Weight
from tests.runtime.training_kit import POLICY, SALT, root, terms

# The most that a task's owner can choose: it is stored with the task, which most calls read.
DEAREST = Descent(Adam(PICO, 1, 1, 1), Schedule(1, Cosine(1, 1)), ClipNorm(1), 1)
DEAREST_POLICY = replace(
    POLICY,
    codec=Int16(),
    local_steps=LocalSteps(8, DEAREST),
    aggregation=CenteredClip(1, 1),
    verification=Scored(HARM_PPM_MIN, 0, 1, 1),
)


NEW = bytes(range(32))
AMOUNT = POT
DUST = POT // 2000  # half of the existential deposit
LONG = bytes(1 << 16)
ITEMS = [(blake2_256(b"key %d" % number), bytes(32)) for number in range(ITEMS_MAX)]
REMARK = RUNTIME.call("system.remark_with_event", remark=b"a remark of thirty-two characters")


# --- balances ---------------------------------------------------------------------------------------------------------


@benchmark
def transfer_to_a_new_account() -> Prepared:
    return TestChain().prepare(ALICE, "balances.transfer_keep_alive", dest=NEW, value=AMOUNT)


@benchmark
def transfer_that_leaves_dust() -> Prepared:
    return TestChain().prepare(EVE, "balances.transfer_allow_death", dest=NEW, value=ENDOWMENT - DUST)


@benchmark
def transfer_by_force() -> Prepared:
    arguments = {"source": EVE, "dest": NEW, "value": ENDOWMENT - DUST}
    return TestChain().prepare(Origin.root(), "balances.force_transfer", **arguments)


@benchmark
def transfer_of_everything() -> Prepared:
    return TestChain().prepare(EVE, "balances.transfer_all", dest=NEW, keep_alive=False)


@benchmark
def balance_of_a_new_account() -> Prepared:
    return TestChain().prepare(Origin.root(), "balances.force_set_balance", who=NEW, new_free=AMOUNT)


@benchmark
def burn_that_leaves_dust() -> Prepared:
    return TestChain().prepare(EVE, "balances.burn", value=ENDOWMENT - DUST, keep_alive=False)


# --- system, timestamp, validators ------------------------------------------------------------------------------------


@benchmark
def bond_of_a_new_stash() -> Prepared:
    return _elected().prepare(EVE, "validators.bond", value=STAKE)


@benchmark
def more_bond() -> Prepared:
    return _unbonding().prepare(EVE, "validators.bond_extra", value=STAKE)


@benchmark
def last_part_that_unbonds() -> Prepared:
    return _unbonding().prepare(EVE, "validators.unbond", value=2 * STAKE)


@benchmark
def all_parts_withdrawn() -> Prepared:
    chain = _unbonding()
    stake = chain.modules.validators.stakes[EVE.public]
    parts = tuple(Unbonding(part.amount, 0) for part in stake.unbonding)
    chain.modules.validators.stakes[EVE.public] = Stake(stake.active, parts)
    return chain.prepare(EVE, "validators.withdraw_unbonded")


@benchmark
def session_key_in_place_of_another() -> Prepared:
    secret = bls_secret(FERDIE)
    arguments = {"bls_key": bls.public_key(secret), "proof": bls.prove_possession(secret, EVE.public)}
    return _unbonding().prepare(EVE, "validators.set_keys", **arguments)


@benchmark
def session_key_purged() -> Prepared:
    return _unbonding().prepare(EVE, "validators.purge_keys")


@benchmark
def candidate_that_displaces_another() -> Prepared:
    return _unbonding().prepare(EVE, "validators.validate")


@benchmark
def candidate_that_chills() -> Prepared:
    return _elected().prepare(ALICE, "validators.chill")


@benchmark
def double_vote_of_one_in_a_hundred_whose_stake_unbonds() -> Prepared:
    chain = _elected()
    parts = tuple(Unbonding(1000, session) for session in range(UNBONDING_MAX))
    chain.modules.balances.reserve(ALICE.public, 1000 * UNBONDING_MAX)
    chain.modules.validators.stakes[ALICE.public] = Stake(STAKE, parts)
    votes = [
        SignedDigest(
            digest, bls.sign(bls_secret(ALICE), vote_message(chain.genesis_hash, 0, 1, 0, VotePhase.PREPARE, digest))
        )
        for digest in (bytes(32), NEW)
    ]
    verify_double_vote.cache_clear()
    evidence = DoubleVote(0, 1, 0, VotePhase.PREPARE, 0, *votes)
    return chain.prepare(Origin.none(), "validators.report_double_vote", evidence=evidence)


@benchmark
def remark_of_64_kib() -> Prepared:
    return TestChain().prepare(ALICE, "system.remark", remark=LONG)


@benchmark
def remark_with_event_of_32_bytes() -> Prepared:
    return TestChain().prepare(ALICE, "system.remark_with_event", remark=bytes(32))


@benchmark
def remark_with_event_of_64_kib() -> Prepared:
    return TestChain().prepare(ALICE, "system.remark_with_event", remark=LONG)


@benchmark
def a_thousand_items_set() -> Prepared:
    return TestChain().prepare(Origin.root(), "system.set_storage", items=tuple(ITEMS))


@benchmark
def one_item_set() -> Prepared:
    return TestChain().prepare(Origin.root(), "system.set_storage", items=tuple(ITEMS[:1]))


@benchmark
def an_item_of_a_mebibyte_set() -> Prepared:
    return TestChain().prepare(Origin.root(), "system.set_storage", items=((ITEMS[0][0], bytes(1 << 20)),))


@benchmark
def a_thousand_items_killed() -> Prepared:
    return _with_items().prepare(Origin.root(), "system.kill_storage", keys=tuple(key for key, _ in ITEMS))


@benchmark
def a_thousand_items_of_a_prefix_killed() -> Prepared:
    chain = TestChain()
    for number in range(ITEMS_MAX):
        chain.builder.overlay.put(b"prefix" + blake2_256(b"%d" % number), bytes(32))
    return chain.prepare(Origin.root(), "system.kill_prefix", prefix=b"prefix", subkeys=ITEMS_MAX)


@benchmark
def time_of_the_block() -> Prepared:
    chain = TestChain()
    chain.modules.timestamp.did_update.kill()
    return chain.prepare(Origin.none(), "timestamp.set", now=chain.modules.timestamp.now.get() + 1000)


@benchmark
def seal_of_a_hundred_validators() -> Prepared:
    chain = _crowded()
    chain.run_blocks(1)
    return chain.prepare(Origin.none(), "validators.note_seal", seal=chain.seal())


# --- calls that make calls --------------------------------------------------------------------------------------------


@benchmark
def batch_of_100_remarks() -> Prepared:
    return TestChain().prepare(ALICE, "utility.batch", calls=[REMARK] * 100)


@benchmark
def batch_all_of_100_remarks() -> Prepared:
    return TestChain().prepare(ALICE, "utility.batch_all", calls=[REMARK] * 100)


@benchmark
def force_batch_of_100_that_fail() -> Prepared:
    failing = RUNTIME.call("balances.transfer_keep_alive", dest=NEW, value=10**30)
    return TestChain().prepare(ALICE, "utility.force_batch", calls=[failing] * 100)


@benchmark
def batch_of_nothing() -> Prepared:
    return TestChain().prepare(ALICE, "utility.batch", calls=[])


@benchmark
def remark_as_a_derivative() -> Prepared:
    return TestChain().prepare(ALICE, "utility.as_derivative", index=1, call=REMARK)


@benchmark
def remark_as_somebody() -> Prepared:
    somebody = SystemOrigin(SignedOrigin(BOB.public))
    return TestChain().prepare(Origin.root(), "utility.dispatch_as", as_origin=somebody, call=REMARK)


@benchmark
def remark_by_sudo() -> Prepared:
    return _with_sudo().prepare(ALICE, "sudo.sudo", call=REMARK)


@benchmark
def remark_by_sudo_with_a_weight() -> Prepared:
    return _with_sudo().prepare(ALICE, "sudo.sudo_unchecked_weight", call=REMARK, weight=REMARK.dispatch_info.weight)


@benchmark
def remark_by_sudo_as_somebody() -> Prepared:
    return _with_sudo().prepare(ALICE, "sudo.sudo_as", who=BOB, call=REMARK)


@benchmark
def sudo_key_set() -> Prepared:
    return _with_sudo().prepare(ALICE, "sudo.set_key", new=BOB)


@benchmark
def sudo_key_removed() -> Prepared:
    return _with_sudo().prepare(ALICE, "sudo.remove_key")


@benchmark
def remark_by_one_of_100() -> Prepared:
    chain, others = TestChain(), _others(ALICE)
    return chain.prepare(ALICE, "multisig.as_multi_threshold_1", other_signatories=others, call=REMARK)


@benchmark
def remark_by_the_last_of_100() -> Prepared:
    return _last_of_100(REMARK)


@benchmark
def call_of_16_kib_by_the_last_of_100() -> Prepared:
    return _last_of_100(RUNTIME.call("system.remark", remark=bytes(1 << 14)))


@benchmark
def many_small_calls_by_the_first_of_100() -> Prepared:
    """Only their hash is kept, and yet all are read; their own weight is not charged, as they are not made yet."""
    who = _signatories()[0]
    return TestChain(balances={who.public: ENDOWMENT}).prepare(
        who,
        "multisig.as_multi",
        threshold=100,
        other_signatories=_others(who),
        maybe_timepoint=None,
        call=RUNTIME.call("utility.batch", calls=[RUNTIME.call("system.remark", remark=b"")] * 5000),
        max_weight=Weight(0),
    )


@benchmark
def approval_by_the_last_but_one_of_100() -> Prepared:
    chain, when = _approved(REMARK, 98)
    return chain.prepare(
        _signatories()[98],
        "multisig.approve_as_multi",
        threshold=100,
        other_signatories=_others(_signatories()[98]),
        maybe_timepoint=when,
        call_hash=blake2_256(REMARK.encode()),
        max_weight=Weight(0),
    )


@benchmark
def cancellation_after_99_of_100() -> Prepared:
    chain, when = _approved(REMARK, 99)
    return chain.prepare(
        _signatories()[0],
        "multisig.cancel_as_multi",
        threshold=100,
        other_signatories=_others(_signatories()[0]),
        timepoint=when,
        call_hash=blake2_256(REMARK.encode()),
    )


# --- training ---------------------------------------------------------------------------------------------------------


@benchmark
def task_in_the_place_of_a_stuck_one() -> Prepared:
    chain = _full(Phase.AUDIT)
    training = chain.modules.training
    stuck = ACTIVE_TASKS_MAX - 1
    training.rounds[stuck] = RoundState(0, 1, Phase.IDLE, 0, 0, (), (), ())
    chain.modules.system.number.put(STUCK_BLOCKS)
    return chain.prepare(ALICE, "training.create_task", **terms(optimizer=DEAREST, policy=DEAREST_POLICY))


@benchmark
def worker_with_as_many_seats_as_one_may_have() -> Prepared:
    chain = _full(Phase.COMMIT)
    return chain.prepare(BOB, "training.register_worker", capacity=CAPACITY_MAX)


@benchmark
def worker_whose_seats_all_go_to_others() -> Prepared:
    chain = _full(Phase.AUDIT)
    chain.call(BOB, "training.register_worker", capacity=CAPACITY_MAX)
    training = chain.modules.training
    for account in _accounts(CAPACITY_MAX):
        training_workers.activate(training, account, 1)
    return chain.prepare(BOB, "training.deregister_worker")


@benchmark
def commitment_to_a_full_round() -> Prepared:
    chain = _full(Phase.COMMIT)
    return chain.prepare(EVE, "training.commit", **ATTEMPT, slot=SLOTS_MAX - 1, commitment=root("commitment"))


@benchmark
def reveal_to_a_full_round() -> Prepared:
    chain = _full(Phase.REVEAL)
    _after_a_full_round(chain)
    last, now = SLOTS_MAX - 1, {**ATTEMPT, "round": 1}
    return chain.prepare(EVE, "training.reveal", **now, slot=last, salt=SALT, update_root=root(last))


@benchmark
def commitment_to_a_full_round_ahead() -> Prepared:
    chain = _full(Phase.AUDIT)
    return chain.prepare(EVE, "training.commit", **NEXT, slot=SLOTS_MAX - 1, commitment=root("commitment"))


@benchmark
def reveal_to_a_full_round_ahead() -> Prepared:
    chain = _full(Phase.AUDIT, ahead=Phase.REVEAL)
    return chain.prepare(EVE, "training.reveal", **NEXT, slot=SLOTS_MAX - 1, salt=SALT, update_root=root(SLOTS_MAX - 1))


@benchmark
def aggregate_of_a_full_round() -> Prepared:
    chain = _full(Phase.AUDIT)
    chain.modules.training.aggregators[EVE.public] = POT
    accepted = b"\xff" * (SLOTS_MAX // 8)
    return chain.prepare(
        EVE, "training.aggregate", **ATTEMPT, accepted=accepted, params_root=root("p"), optimizer_root=root("o")
    )


@benchmark
def aggregator_that_fills_the_list() -> Prepared:
    chain = TestChain()
    chain.modules.training.aggregator_count.put(AGGREGATORS_MAX - 1)
    return chain.prepare(EVE, "training.register_aggregator")


@benchmark
def aggregator_that_leaves() -> Prepared:
    chain = _full(Phase.AUDIT)
    chain.call(EVE, "training.register_aggregator")
    return chain.prepare(EVE, "training.deregister_aggregator")


@benchmark
def attestation_by_the_last_of_a_hundred() -> Prepared:
    chain = _full(Phase.AUDIT)
    return chain.prepare(
        _validators()[-1],
        "training.attest",
        **ATTEMPT,
        accepted=b"\xff" * (SLOTS_MAX // 8),
        params_root=root("p"),
        optimizer_root=root("o"),
        evaluation=(1, 1),
    )


@benchmark
def confirmation_by_the_last_of_a_hundred() -> Prepared:
    chain = _full(Phase.AUDIT)
    return chain.prepare(
        _validators()[-1], "training.confirm", **ATTEMPT, params_root=root("p"), optimizer_root=root("o")
    )


@benchmark
def slices_found_right_by_the_last_of_a_hundred() -> Prepared:
    chain = _full(Phase.AUDIT)
    training = chain.modules.training
    task = training.tasks[0]
    training.tasks[0] = replace(task, policy=replace(task.policy, checks=Slices(1)))
    claim = training.storage[0].claim
    training.storage[0] = replace(training.storage[0], claim=replace(claim, parameters=SLICES_MAX * 16_384))
    accounts, all_right = tuple(each.public for each in _validators()), b"\xff" * (SLICES_MAX // 8)
    aggregate = training.rounds[0].aggregates[0]
    # All but one have found every slice but the last right, so that each is looked at, and nothing is decided before.
    words = tuple(SliceWord(account, all_right[:-1] + b"\x7f") for account in accounts[:-1])
    training.trials[0] = Trial(aggregate, 0, len(accounts) // 3 + 1, accounts, words, ())
    return chain.prepare(
        _validators()[-1],
        "training.find_slices",
        **ATTEMPT,
        accepted=aggregate.accepted,
        params_root=aggregate.params_root,
        optimizer_root=aggregate.optimizer_root,
        right=all_right,
        wrong=None,
    )


@benchmark
def challenge_after_99_attestations() -> Prepared:
    chain = _full(Phase.AUDIT)
    chain.modules.balances.mint(_validators()[-1].public, chain.modules.training.challenge_bond)
    return chain.prepare(_validators()[-1], "training.challenge", **ATTEMPT, slot=SLOTS_MAX - 1)


@benchmark
def plant_key_in_place_of_another() -> Prepared:
    chain, secret = TestChain(), bls_secret(EVE)
    chain.call(EVE, "training.register_worker", capacity=1)
    key, proof = bls.public_key(secret), bls.prove_possession(secret, EVE.public)
    chain.modules.training.plant_keys[EVE.public] = PlantKey(key, 0)
    return chain.prepare(EVE, "training.set_plant_key", key=key, proof=proof)


@benchmark
def planted_slot_shown_after_99_attestations() -> Prepared:
    chain = _full(Phase.AUDIT)
    training, slot = chain.modules.training, SLOTS_MAX - 1
    training.rounds[0] = replace(training.rounds[0], opened_at=training.plant_key_blocks)
    task = training.tasks[0]
    training.tasks[0] = replace(task, policy=replace(task.policy, verification=Recompute()))
    training.plant_beacons[0, 0], training.plant_deadlines[0] = root("beacon"), 1000
    training.plants[0] = tuple(
        Plant(other, tuple(each.public for each in _validators()[:AUDITORS_PER_SLOT_MAX])) for other in range(slot)
    )
    message = message_of(root("beacon"), 0, 0, 0, slot)
    secrets = (bls.keygen(number.to_bytes(32, "big")) for number in range(10_000))
    secret = next(each for each in secrets if is_chosen(bls.sign(each, message), training.plant_ppm))
    training.plant_keys[EVE.public] = PlantKey(bls.public_key(secret), 0)
    return chain.prepare(EVE, "training.show_plant", **ATTEMPT, slot=slot, proof=bls.sign(secret, message))


@benchmark
def worker_that_resumes_one_of_all_tasks() -> Prepared:
    chain = _full(Phase.COMMIT)
    training = chain.modules.training
    training.seats[EVE.public] = Seats(tuple(range(CAPACITY_MAX)), SLOTS_MAX, tuple(range(ACTIVE_TASKS_MAX)), 1)
    training.workers[EVE.public] = Worker(100 * POT, 1, True, 0, 1, 1, 1)
    return chain.prepare(EVE, "training.resume", task=0)


@benchmark
def silo_that_fills_the_list() -> Prepared:
    chain = _full(Phase.IDLE)
    _put_silos(chain, SILOS_MAX - 1)
    return chain.prepare(ALICE, "training.admit_silo", task=0, silo=EVE.public, samples_max=1)


@benchmark
def silo_that_is_expelled_from_a_full_list() -> Prepared:
    chain = _full(Phase.IDLE)
    _put_silos(chain, SILOS_MAX)
    return chain.prepare(ALICE, "training.expel_silo", task=0, silo=EVE.public)


@benchmark
def samples_of_one_in_a_full_list() -> Prepared:
    chain = _full(Phase.IDLE)
    _put_silos(chain, SILOS_MAX)
    return chain.prepare(EVE, "training.declare_samples", task=0, samples=SAMPLES_MAX)


@benchmark
def task_that_is_cancelled_before_a_round() -> Prepared:
    return _full(Phase.IDLE).prepare(ALICE, "training.cancel_task", task=0)


@benchmark
def model_that_is_kept_longer() -> Prepared:
    chain = _full(Phase.IDLE)
    chain.call(ALICE, "training.cancel_task", task=0)
    return chain.prepare(BOB, "training.extend_storage", task=0, blocks=1)


# --- states -----------------------------------------------------------------------------------------------------------

ATTEMPT = {"task": 0, "round": 0, "attempt": 0}
NEXT = {"task": 0, "round": 1, "attempt": 0}


def _accounts(count: int) -> list[bytes]:
    return [blake2_256(b"account %d" % number) for number in range(count)]


@cache
def _validators() -> tuple[Keypair, ...]:
    """A hundred, as many as a set may have."""
    return (ALICE, BOB, *(Keypair.from_seed(blake2_256(b"validator %d" % number)) for number in range(98)))


def _crowded() -> TestChain:
    return TestChain(validators=_validators())


def _elected() -> TestChain:
    """A hundred validators and as many other candidates."""
    chain = _crowded()
    validators = chain.modules.validators
    crowd = _accounts(CANDIDATES_MAX - AUTHORITIES_MAX)
    for account in crowd:
        validators.stakes[account] = Stake(STAKE, ())
        validators.session_keys[account] = bytes(48)
    validators.candidates.put(tuple(sorted((*validators.candidates.get(), *crowd))))
    return chain


def _unbonding() -> TestChain:
    """The same, and an account with a key whose stake unbonds in all but one of the parts that there may be."""
    chain = _elected()
    secret = bls_secret(EVE)
    parts = UNBONDING_MAX - 1
    chain.call(EVE, "validators.bond", value=2 * STAKE + parts)
    key, proof = bls.public_key(secret), bls.prove_possession(secret, EVE.public)
    chain.call(EVE, "validators.set_keys", bls_key=key, proof=proof)
    unbonding = tuple(Unbonding(1, session) for session in range(parts))
    chain.modules.validators.stakes[EVE.public] = Stake(2 * STAKE, unbonding)
    return chain


def _with_items() -> TestChain:
    chain = TestChain()
    chain.call(Origin.root(), "system.set_storage", items=tuple(ITEMS))
    return chain


def _with_sudo() -> TestChain:
    chain = TestChain()
    chain.modules.sudo.key.put(ALICE.public)
    return chain


@cache
def _signatories() -> tuple[Keypair, ...]:
    """A hundred who speak for one account, as many as may."""
    return tuple(Keypair.from_seed(blake2_256(b"signatory %d" % number)) for number in range(100))


def _others(who: Keypair) -> list[bytes]:
    crowd: Sequence[Keypair] = _signatories()
    return sorted(each.public for each in crowd if each != who)[:99]


def _approved(call: Call, count: int) -> tuple[TestChain, Timepoint]:
    """An operation of all signatories that the first `count` have approved."""
    chain = TestChain(balances={each.public: ENDOWMENT for each in (ALICE, *_signatories())})
    when = None
    for who in _signatories()[:count]:
        chain.call(
            who,
            "multisig.approve_as_multi",
            threshold=100,
            other_signatories=_others(who),
            maybe_timepoint=when,
            call_hash=blake2_256(call.encode()),
            max_weight=Weight(0),
        )
        account = multi_account(sorted(each.public for each in _signatories()), 100)
        when = chain.modules.multisig.multisigs[account, blake2_256(call.encode())].when
    assert when is not None
    return chain, when


def _last_of_100(call: Call) -> Prepared:
    chain, when = _approved(call, 99)
    who = _signatories()[99]
    return chain.prepare(
        who,
        "multisig.as_multi",
        threshold=100,
        other_signatories=_others(who),
        maybe_timepoint=when,
        call=call,
        max_weight=call.dispatch_info.weight,
    )


def _put_silos(chain: TestChain, count: int) -> None:
    """Silos of each task, EVE among them where there are as many as there may be."""
    accounts = [*_accounts(SILOS_MAX - 1), *([EVE.public] if count == SILOS_MAX else [])]
    for task in range(ACTIVE_TASKS_MAX):
        chain.modules.training.silos[task] = tuple(Silo(each, SAMPLES_MAX, 1) for each in sorted(accounts))


def _after_a_full_round(chain: TestChain) -> None:
    """Task 0 is at round 1, and the one before had as many slots as this."""
    training = chain.modules.training
    slots = tuple(SlotRecord(slot.worker, root("earlier"), True) for slot in training.rounds[0].slots)
    training.history[0, 0] = RoundRecord(0, root("p"), root("o"), Evaluation(1, 1), 1, 0, 1, slots, (), None)
    training.rounds[0] = replace(
        training.rounds[0],
        round=1,
        slots=tuple(
            replace(slot, commitment=commitment_of(slot.worker, 0, 1, 0, index, SALT, root(index)))
            for index, slot in enumerate(training.rounds[0].slots)
        ),
    )


def _full(phase: Phase, *, ahead: Phase = Phase.COMMIT) -> TestChain:
    """All tasks that there may be, each with a full round in this phase; EVE has the last slot of each.

    Beside an audit each has a full round in the phase `ahead`, too, which all but the last validator confirmed.
    """
    chain = _crowded()
    training = chain.modules.training
    for _ in range(ACTIVE_TASKS_MAX):
        chain.call(ALICE, "training.create_task", **terms(optimizer=DEAREST, policy=DEAREST_POLICY))
    for task in range(ACTIVE_TASKS_MAX):
        attestations = [
            Attestation(each.public, b"\xff" * (SLOTS_MAX // 8), root("p"), root("o"), Evaluation(1, 1))
            for each in (_validators()[:-1] if phase is Phase.AUDIT else ())
        ]
        # As many as there can be with one that is still to come, all of them false.
        aggregates = [
            Aggregate(account, b"\xff" * (SLOTS_MAX // 8), root("q"), root("o"))
            for account in (_accounts(AGGREGATES_MAX - 1) if phase is Phase.AUDIT else ())
        ]
        for aggregate in aggregates:
            training.aggregators[aggregate.aggregator] = POT
        is_open = phase is not Phase.IDLE
        slots = _full_slots(phase, task, 0) if is_open else ()
        training.rounds[task] = RoundState(0, 0, phase, 0, 1000, slots, tuple(attestations), tuple(aggregates))
        if phase is Phase.AUDIT:
            model = Model(root("p"), root("o"))
            training.confirmations[task] = tuple(Confirmation(each.public, model) for each in _validators()[:-1])
            training.provisional[task] = model
            training.rounds_ahead[task] = RoundState(1, 0, ahead, 0, 1000, _full_slots(ahead, task, 1), (), ())
    return chain


def _full_slots(phase: Phase, task: int, round_: int) -> tuple[SlotState, ...]:
    """As many slots as a round may have, all of them done but for what is to come in the last."""
    auditors = tuple(each.public for each in _validators()[:AUDITORS_PER_SLOT_MAX])
    slots = []
    for slot, account in enumerate(_accounts(SLOTS_MAX)):
        is_mine = slot == SLOTS_MAX - 1
        worker = EVE.public if is_mine else account
        commitment = commitment_of(worker, task, round_, 0, slot, SALT, root(slot))
        slots.append(
            SlotState(
                worker=worker,
                commitment=None if phase is Phase.COMMIT and is_mine else commitment,
                update_root=root(slot) if phase is Phase.AUDIT else None,
                auditors=auditors if phase is Phase.AUDIT else (),
                challenger=None,
            )
        )
    return tuple(slots)
