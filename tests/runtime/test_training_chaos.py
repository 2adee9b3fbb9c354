"""Rounds among participants who act, fail, cheat and return at random: every invariant holds after every block.

A failure names its seed: `pytest tests/runtime/test_training_chaos.py -k seed6` replays it.
"""

from __future__ import annotations

from random import Random

import pytest

from chain.primitives.keys import Keypair
from chain.primitives.seal import bitmap
from runtime.modules import training_challenges
from runtime.modules.rewards import Rewards
from runtime.modules.training import Training
from runtime.modules.training_types import Phase, TaskStatus, commitment_of
from runtime.testing import ALICE, BOB, CHARLIE, DAVE, ENDOWMENT, EVE, FERDIE, STAKE
from runtime.types import DispatchError
from tests.runtime.training_kit import PEOPLE, SALT, VALIDATORS, Story, root, terms

WORKERS = (CHARLIE, DAVE, EVE, FERDIE)
AGGREGATORS = (EVE, FERDIE)
BLOCKS = 70


class Chaos:
    """Participants of a story, each doing the right thing most of the time."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.story = Story(workers=WORKERS, rounds=9)
        self.story.chain.call(BOB, "training.create_task", **terms(rounds=6))
        self.refused = 0
        self.kept = 0  # rounds that began ahead and became the running ones
        self.wrong: set[bytes] = set()  # update roots that hide a wrong gradient

    def tries(self, who: Keypair, path: str, **arguments: object) -> None:
        """Make a call that the chain may refuse."""
        try:
            self.story.chain.call(who, path, **arguments)
        except DispatchError:
            self.refused += 1

    def chance(self, percent: int) -> bool:
        return self.rng.randrange(100) < percent

    def act(self) -> None:
        """What everybody does in one block."""
        for keypair in WORKERS:
            training = self.story.training
            paused = set(training.seats[keypair.public].paused) & set(training.active_tasks.get())
            if not self.story.worker(keypair).active and self.chance(40):
                self.tries(keypair, "training.register_worker", capacity=self.rng.randrange(1, 4))
            elif paused and self.chance(40):
                self.tries(keypair, "training.resume", task=self.rng.choice(sorted(paused)))
            elif self.chance(2):
                self.tries(keypair, "training.deregister_worker")
        for task in self.story.training.active_tasks.get():
            phase = self.story.newest(task).phase
            if phase is Phase.COMMIT:
                self.commit(task)
            elif phase is Phase.REVEAL:
                self.reveal(task)
            if self.story.state(task).phase in (Phase.REVEAL, Phase.AUDIT):
                self.confirm(task)
            if self.story.state(task).phase is Phase.AUDIT:
                self.audit(task)

    def update_root(self, task: int, slot: int) -> bytes:
        """The slot's honest or wrong update: decided once for each attempt."""
        state = self.story.newest(task)
        found = root("update", task, state.round, state.attempt, slot)
        if Random(found).randrange(100) < 10:
            self.wrong.add(found)
        return found

    def commit(self, task: int) -> None:
        state = self.story.newest(task)
        for index, slot in enumerate(state.slots):
            if slot.commitment is None and self.chance(60):
                update_root = self.update_root(task, index)
                made = commitment_of(slot.worker, task, state.round, state.attempt, index, SALT, update_root)
                who = PEOPLE[slot.worker] if self.chance(95) else EVE
                self.tries(who, "training.commit", **self.story.attempt(task, state), slot=index, commitment=made)

    def reveal(self, task: int) -> None:
        state = self.story.newest(task)
        for index, slot in enumerate(state.slots):
            if slot.commitment is not None and self.chance(60):
                salt = SALT if self.chance(95) else root("another")
                update_root = self.update_root(task, index)
                arguments = {**self.story.attempt(task, state), "slot": index, "salt": salt, "update_root": update_root}
                self.tries(PEOPLE[slot.worker], "training.reveal", **arguments)

    def aggregate(self, task: int, aggregator: Keypair) -> None:
        """Say what the slots make that nobody challenged; now and then something else."""
        state, before = self.story.state(task), self.story.task(task)
        slots = [
            index for index, slot in enumerate(state.slots) if slot.update_root is not None and not slot.challenged
        ]
        accepted = bitmap(slots, len(state.slots))
        words = () if self.chance(75) else ("a lie",)
        new = (root("params", task, state.round, accepted, *words), root("optimizer", task, state.round, accepted))
        params_root, optimizer_root = new if slots else (before.params_root, before.optimizer_root)
        self.tries(
            aggregator,
            "training.aggregate",
            **self.story.attempt(task),
            accepted=accepted,
            params_root=params_root,
            optimizer_root=optimizer_root,
        )

    def confirm(self, task: int) -> None:
        """Say what all revealed slots make, as `audit` does where none is wrong; now and then something else."""
        state = self.story.state(task)
        everything = bitmap([index for index, slot in enumerate(state.slots) if slot.update_root], len(state.slots))
        for validator in VALIDATORS:
            words = () if self.chance(95) else ("a lie",)
            model = {
                "params_root": root("params", task, state.round, everything, *words),
                "optimizer_root": root("optimizer", task, state.round, everything),
            }
            if self.chance(50):
                self.tries(validator, "training.confirm", **self.story.attempt(task), **model)

    def audit(self, task: int) -> None:
        for aggregator in AGGREGATORS:
            if aggregator.public not in self.story.training.aggregators:
                self.tries(aggregator, "training.register_aggregator")
            elif self.chance(40):
                self.aggregate(task, aggregator)
            elif self.chance(5):
                self.tries(aggregator, "training.deregister_aggregator")
        for validator in VALIDATORS:
            state = self.story.state(task)
            if not self.chance(50):
                continue
            revealed = {index: slot for index, slot in enumerate(state.slots) if slot.update_root is not None}
            wrong = [index for index, slot in revealed.items() if slot.update_root in self.wrong]
            for index, slot in revealed.items():
                # To recompute takes longer than to add up: what is found wrong may have been built upon.
                if not slot.challenged and self.chance(20 if index in wrong else 2):
                    self.tries(validator, "training.challenge", **self.story.attempt(task), slot=index)
            accepted = bitmap([index for index in revealed if index not in wrong], len(state.slots))
            if self.chance(5):
                accepted = self.rng.randbytes(self.rng.randrange(3))
            before = self.story.task(task)
            same = not any(accepted)
            self.tries(
                validator,
                "training.attest",
                **self.story.attempt(task),
                accepted=accepted,
                params_root=before.params_root if same else root("params", task, state.round, accepted),
                optimizer_root=before.optimizer_root if same else root("optimizer", task, state.round, accepted),
                evaluation=(self.rng.randrange(1 << 40), self.rng.randrange(1_000_001)),
            )


@pytest.mark.parametrize("seed", [6, 19], ids="seed{}".format)
def test_whatever_participants_do_money_and_rounds_add_up(seed: int) -> None:
    chaos = Chaos(seed)
    story = chaos.story
    for _ in range(BLOCKS):
        ahead = dict(story.training.rounds_ahead.items())
        chaos.act()
        story.next()
        running = dict(story.training.rounds.items())
        chaos.kept += sum(
            task in running and (running[task].round, running[task].attempt) == (state.round, state.attempt)
            for task, state in ahead.items()
        )
        # A seat has a slot of a running round and one of the next at most (who comes back may have fewer seats).
        assert all(taken <= 2 * max(seats, 3) for seats, taken in story.seats().values())

    chain = story.chain
    paid = chain.events_of(Rewards.SlotPaid)
    final = chain.events_of(Training.RoundFinalised)
    audits, aggregates = chain.events_of(Rewards.AuditPaid), chain.events_of(Rewards.AggregatePaid)
    slashed, liars = chain.events_of(Training.WorkerSlashed), chain.events_of(Training.AggregatorSlashed)
    assert aggregates
    assert liars
    # Rounds began ahead; some were kept, and some thrown away.
    assert chain.events_of(Training.RoundDiscarded)
    assert chaos.kept
    assert len(final) >= 5, "the network came to a halt"
    assert len({(event.task, event.round, event.slot) for event in paid}) == len(paid)
    for record in story.training.history.values():
        assert not chaos.wrong & {slot.update_root for slot in record.slots if slot.accepted}
    assert chaos.refused > 0
    assert sum(event.minted for event in final) == sum(
        event.amount for events in (paid, audits, aggregates) for event in events
    )
    burned = sum(event.amount for event in slashed) + sum(event.amount for event in liars)
    stored = sum(event.burned for event in chain.events_of(Training.StoragePaid))
    upheld, refuted = chain.events_of(Training.ChallengeUpheld), chain.events_of(Training.ChallengeRefuted)
    assert upheld
    assert refuted
    bond = story.training.challenge_bond
    burned += bond * len(refuted) - sum(event.reward for event in upheld)
    emitted = story.training.rewards.emitted.get()
    assert chain.modules.balances.total_issuance.get() == 6 * ENDOWMENT + 4 * STAKE + emitted - burned - stored
    for task in (0, 1):
        value = story.task(task)
        assert value.status is (TaskStatus.COMPLETED if value.round == value.rounds else TaskStatus.ACTIVE)
    owners = {ALICE: 0, BOB: 1}
    for owner, task in owners.items():
        value = story.task(task)
        spent = sum(value.price_per_slot for event in paid if event.task == task)
        checked = story.training.rewards.earned_by_checking[owner.public]
        rewarded = sum(event.reward for event in upheld if event.challenger == owner.public)
        standing = [who for state in story.training.rounds.values() for who in training_challenges.challengers(state)]
        bonds = bond * ([event.challenger for event in refuted] + standing).count(owner.public)
        expected = ENDOWMENT - spent - value.escrow + checked - story.storage(task) + rewarded - bonds
        assert chain.free(owner) == expected
