"""Planted faults: who may reveal a wrong update, when it is shown, and who pays for not having looked."""

from __future__ import annotations

from dataclasses import replace

from chain.primitives import bls
from chain.primitives.keys import Keypair
from runtime.modules.training import Training
from runtime.modules.training_plants import is_chosen, message_of
from runtime.modules.training_types import Phase, Plant, PlantKey, SlashReason, SlotRecord
from runtime.modules.validators import Validators
from runtime.modules.validators_types import ChillReason
from runtime.testing import ALICE, BOB, CHARLIE, DAVE, EVE, FERDIE, POT, STAKE, TestChain
from tests.runtime.training_kit import POLICY, PRICE, VALIDATORS, Story, root

WORTH = PRICE + POT
# Two slots' worth for each of the 64 slots of which one is planted.
FINE = 2 * WORTH * 64
REWARD = FINE // 10
PEOPLE = {keypair.public: keypair for keypair in VALIDATORS}


class Garden(Story):
    """A story in which EVE may plant slot `planted` of its four, and knows what shows it."""

    def __init__(self) -> None:
        policy = replace(POLICY, auditors_per_slot=1)
        super().__init__(policy=policy, workers=[EVE])
        # Skip the time that a key waits for, which no block of a test has to be made for.
        state = self.state()
        self.training.rounds[0] = replace(state, opened_at=self.training.plant_key_blocks)
        self.planted = self.slots_of(EVE)[0]
        self.message = message_of(
            self.training.plant_beacons[0, state.round], 0, state.round, state.attempt, self.planted
        )
        self.secret = next(secret for secret in secrets() if is_chosen(bls.sign(secret, self.message), 15_625))
        self.proof = bls.sign(self.secret, self.message)
        self.training.plant_keys[EVE.public] = PlantKey(bls.public_key(self.secret), 0)

    @property
    def auditor(self) -> Keypair:
        """Whoever has to recompute the planted slot."""
        (account,) = self.state().slots[self.planted].auditors
        return PEOPLE[account]

    def show(self, **changes: object) -> None:
        arguments = {**self.attempt(), "slot": self.planted, "proof": self.proof, **changes}
        self.chain.call(EVE, "training.show_plant", **arguments)

    def shown(self) -> tuple[Plant, ...]:
        return self.training.plants[0]

    def audit_nothing(self) -> None:
        """As the draws may say."""
        state = self.state()
        self.training.rounds[0] = replace(state, slots=tuple(replace(slot, auditors=()) for slot in state.slots))

    def agree_without(self, *slots: int) -> None:
        """Everybody attests the same; then blocks pass until nobody is waited for any more."""
        self.attest(without=slots)
        while self.task().round == 0 and self.state().attempt == 0:
            self.next()


def secrets() -> list[bytes]:
    """BLS secrets to choose from."""
    return [bls.keygen(number.to_bytes(32, "big")) for number in range(1_000)]


def test_a_planted_slot_that_its_auditor_challenged_is_paid_and_costs_nobody_anything() -> None:
    garden = Garden()
    garden.to_audit()
    garden.challenge(garden.auditor, garden.planted)
    garden.show()
    assert garden.shown() == (Plant(garden.planted, ()),)
    issued = garden.chain.modules.balances.total_issuance.get()
    garden.agree_without(garden.planted)

    record = garden.training.history[0, 0]
    others = [index for index in range(4) if index != garden.planted]
    assert record.slots[garden.planted] == SlotRecord(EVE.public, root("update", 0, 0, garden.planted), False, True)
    assert [record.slots[index].accepted for index in others] == [True] * 3
    assert record.params_root == root("params", 0, 0, others, "")
    assert record.minted == 4 * WORTH
    worker = garden.worker(EVE)
    assert (worker.accepted, worker.rejected, worker.earned) == (3, 0, 4 * WORTH * 9 // 10)
    assert not garden.chain.events_of(Training.WorkerSlashed)
    assert not garden.chain.events_of(Training.AuditorFined)
    (upheld,) = garden.chain.events_of(Training.ChallengeUpheld)
    assert upheld.reward == 0
    assert garden.training.challenges[upheld.challenger].upheld == 1
    assert garden.chain.modules.balances.total_issuance.get() == issued + 4 * POT  # emission; bonds came back
    assert garden.shown() == ()
    assert 0 not in garden.training.plant_deadlines


def test_an_auditor_that_did_not_look_at_a_planted_slot_is_fined_and_its_worker_has_a_part_of_it() -> None:
    garden = Garden()
    garden.to_audit()
    lazy = garden.auditor
    garden.attest()
    garden.next()
    # All agree, and the round waits for what its worker may have to say.
    assert garden.training.plant_deadlines[0] == garden.chain.height - 1 + 3
    before = garden.chain.modules.balances.total_issuance.get()
    garden.show()
    assert garden.shown() == (Plant(garden.planted, (lazy.public,)),)
    assert garden.state().attestations == ()
    garden.agree_without(garden.planted)

    assert garden.chain.events_of(Training.AuditorFined) == [
        Training.AuditorFined(lazy.public, 0, 0, garden.planted, FINE, REWARD)
    ]
    stakes = garden.chain.modules.validators.stakes
    assert {keypair: stakes[keypair.public].active for keypair in VALIDATORS} == {
        keypair: STAKE - FINE * (keypair == lazy) for keypair in VALIDATORS
    }
    assert garden.chain.events_of(Validators.Chilled) == [Validators.Chilled(lazy.public, ChillReason.OFFENCE)]
    assert garden.chain.modules.balances.total_issuance.get() == before + 4 * POT - FINE + REWARD
    assert garden.worker(EVE).earned == 4 * WORTH * 9 // 10
    assert garden.training.history[0, 0].slots[garden.planted].planted


def test_who_calls_a_right_slot_planted_frames_nobody_and_is_slashed() -> None:
    garden = Garden()
    garden.to_audit()
    garden.attest()
    garden.next()
    garden.show()
    # Everybody recomputes the slot, and finds it right.
    garden.agree_without()
    assert garden.training.history[0, 0].slots[garden.planted].accepted
    assert not garden.chain.events_of(Training.AuditorFined)
    (slashed,) = garden.chain.events_of(Training.WorkerSlashed)
    assert (slashed.worker, slashed.amount, slashed.reason) == (EVE.public, 60 * POT, SlashReason.FALSE_PLANT)


def test_a_planted_slot_that_nobody_shows_is_a_cheat_like_any_other() -> None:
    garden = Garden()
    garden.to_audit()
    garden.challenge(garden.auditor, garden.planted)
    garden.attest(without=[garden.planted])
    garden.next()
    assert garden.training.plant_deadlines[0] == garden.chain.height - 1 + 10
    while garden.task().round == 0:
        garden.next()
    (slashed,) = garden.chain.events_of(Training.WorkerSlashed)
    assert (slashed.worker, slashed.reason) == (EVE.public, SlashReason.REJECTED)
    assert garden.training.history[0, 0].minted == 3 * WORTH


def test_nobody_learns_before_the_auditors_have_spoken_that_a_slot_is_planted() -> None:
    garden = Garden()
    garden.to_audit()
    with garden.chain.unchanged(Training.ShownTooEarly):
        garden.show()
    garden.attest(*(each for each in VALIDATORS if each != garden.auditor))
    garden.next()
    # A quorum agrees, and the auditor of the slot has not spoken.
    with garden.chain.unchanged(Training.ShownTooEarly):
        garden.show()
    garden.attest(garden.auditor)
    garden.next()
    garden.show()
    with garden.chain.unchanged(Training.AlreadyShown):
        garden.show()
    # A challenge would make everybody compute what they compute anyway, and cost nothing.
    with garden.chain.unchanged(Training.AlreadyChallenged):
        garden.challenge(ALICE, garden.planted)


def test_a_planted_slot_without_an_auditor_is_shown_at_once_and_left_out() -> None:
    garden = Garden()
    garden.to_audit()
    garden.audit_nothing()
    garden.show()
    with garden.chain.unchanged(Training.SlotPlanted):
        garden.attest(ALICE)
    garden.attest(without=[garden.planted])
    garden.next()
    record = garden.training.history[0, 0]
    assert record.slots[garden.planted].planted
    assert record.minted == 4 * WORTH
    assert not garden.chain.events_of(Training.WorkerSlashed)


def test_what_has_begun_from_a_sum_with_a_planted_slot_ends_when_that_is_shown_and_not_when_the_audit_does() -> None:
    garden = Garden()
    garden.to_audit()
    garden.confirm()
    garden.next()
    garden.audit_nothing()
    drawn = [slot.worker for slot in garden.ahead().slots]
    garden.show()
    assert garden.chain.events_of(Training.RoundDiscarded) == [Training.RoundDiscarded(0, 1, 0)]
    assert 0 not in garden.training.rounds_ahead
    # Nothing begins again before the audit is over, and then it does at once, for who had the slots.
    garden.next()
    assert (garden.state().round, list(garden.training.rounds_ahead.keys())) == (0, [])
    garden.attest(without=[garden.planted])
    garden.next()
    state = garden.state()
    assert (state.round, state.attempt, state.phase) == (1, 1, Phase.COMMIT)
    assert [slot.worker for slot in state.slots] == drawn


def test_a_round_without_audits_or_keys_waits_for_nobody() -> None:
    garden = Garden()
    garden.to_audit()
    garden.audit_nothing()
    garden.attest()
    garden.next()
    assert garden.task().round == 1
    story = Story()
    story.play()
    assert story.task().round == 1


def test_only_what_the_key_chose_before_anybody_knew_the_beacon_is_planted() -> None:
    garden = Garden()
    garden.to_audit()
    garden.attest()
    garden.next()
    other = garden.slots_of(EVE)[1]
    with garden.chain.unchanged(Training.NotPlanted):
        garden.show(slot=other)
    with garden.chain.unchanged(Training.NotPlanted):
        garden.show(proof=bls.sign(bls.keygen(b"another" * 5), garden.message))
    with garden.chain.unchanged(Training.NotAssigned):
        garden.chain.call(FERDIE, "training.show_plant", **garden.attempt(), slot=other, proof=garden.proof)
    # A key that its holder could have chosen by the beacon counts for nothing, nor one that chose another way.
    key = garden.training.plant_keys[EVE.public]
    garden.training.plant_keys[EVE.public] = replace(key, since=1)
    with garden.chain.unchanged(Training.NotPlanted):
        garden.show()
    secret = next(secret for secret in secrets() if not is_chosen(bls.sign(secret, garden.message), 15_625))
    garden.training.plant_keys[EVE.public] = PlantKey(bls.public_key(secret), 0)
    with garden.chain.unchanged(Training.NotPlanted):
        garden.show(proof=bls.sign(secret, garden.message))
    garden.training.plant_keys[EVE.public] = key
    garden.show()


def test_a_key_is_a_workers_own_and_counts_from_when_it_was_set() -> None:
    chain = TestChain()
    secret = bls.keygen(b"plants" * 6)
    key = bls.public_key(secret)
    arguments = {"key": key, "proof": bls.prove_possession(secret, EVE.public)}
    with chain.unchanged(Training.NotRegistered):
        chain.call(EVE, "training.set_plant_key", **arguments)
    for worker in (EVE, FERDIE):
        chain.call(worker, "training.register_worker", capacity=1)
    with chain.unchanged(Training.InvalidPlantKey):
        chain.call(FERDIE, "training.set_plant_key", **arguments)
    chain.call(EVE, "training.set_plant_key", **arguments)
    assert chain.modules.training.plant_keys[EVE.public] == PlantKey(key, chain.height)


def test_one_slot_in_sixty_four_is_planted() -> None:
    tries = 20_000
    expected = tries / 64
    chosen = sum(is_chosen(root("a signature", number), 15_625) for number in range(tries))
    assert abs(chosen - expected) < 4 * expected**0.5


def test_what_an_attempt_left_is_forgotten_when_it_ends() -> None:
    garden = Garden()
    garden.to_audit()
    garden.challenge(garden.auditor, garden.planted)
    garden.show()
    garden.attest(ALICE, BOB, without=[garden.planted])
    garden.attest(CHARLIE, DAVE)
    while garden.state().attempt == 0:
        garden.next()
    assert garden.state().phase is Phase.COMMIT or garden.state().phase is Phase.IDLE
    assert garden.shown() == ()
    assert garden.worker(EVE).bond == 400 * POT
