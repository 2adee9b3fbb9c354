"""A federated task among participants who act, fail, poison and return at random, with an owner that changes its mind.

A failure names its seed: `pytest tests/runtime/test_training_silos_chaos.py -k seed7` replays it.
"""

from __future__ import annotations

from random import Random

import pytest

from runtime.modules.rewards import Rewards
from runtime.modules.training import Training
from runtime.modules.training_types import SlashReason
from runtime.testing import ALICE, BOB, ENDOWMENT, STAKE
from tests.runtime.test_training_chaos import WORKERS, Chaos
from tests.runtime.test_training_silos import FEDERATED, SCORED
from tests.runtime.training_kit import Story, terms

BLOCKS = 60


class SiloChaos(Chaos):
    """Task 0 is federated, task 1 is for whoever is no silo."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.rng = Random(seed)
        self.story = Story(workers=WORKERS, rounds=12, policy=FEDERATED)
        self.story.chain.call(BOB, "training.create_task", **terms(rounds=6))

    def act(self) -> None:
        """Admit, expel and declare now and then; then what everybody does."""
        for silo in WORKERS:
            share = self.rng.randrange(100)
            if share < 8:
                samples = self.rng.randrange(0, 3_000)
                self.tries(ALICE, "training.admit_silo", task=0, silo=silo.public, samples_max=samples)
            elif share < 10:
                self.tries(ALICE, "training.expel_silo", task=0, silo=silo.public)
            elif share < 40:
                self.tries(silo, "training.declare_samples", task=0, samples=self.rng.choice((0, 10, 500, 2_500)))
        super().act()

    def update_root(self, task: int, slot: int) -> bytes:
        """Silos poison more often than workers cheat."""
        found = super().update_root(task, slot)
        if task == 0 and Random(found).randrange(100) < 30:
            self.wrong.add(found)
        return found


@pytest.mark.parametrize("seed", [7], ids="seed{}".format)
def test_whatever_silos_and_their_owner_do_money_and_weights_add_up(seed: int) -> None:
    chaos = SiloChaos(seed)
    story = chaos.story
    for _ in range(BLOCKS):
        chaos.act()
        story.next()  # Each module's invariants hold.

    chain, training = story.chain, story.training
    rounds = [(place, record) for place, record in training.history.items() if place[0] == 0]
    assert len(rounds) >= 2, "the federated task came to a halt"
    for place, record in rounds:
        workers = [slot.worker for slot in record.slots]
        assert len(set(workers)) == len(workers) == len(training.weights[place])
        assert max(training.weights[place]) <= SCORED.weight_max
        assert record.emission == 0
        assert not chaos.wrong & {slot.update_root for slot in record.slots if slot.accepted}
    slashed, upheld = chain.events_of(Training.WorkerSlashed), chain.events_of(Training.ChallengeUpheld)
    harmful = [event for event in slashed if event.reason is SlashReason.HARMFUL]
    assert harmful
    assert {event.task for event in harmful} == {0}
    assert {event.amount for event in harmful} == {SCORED.forfeit}
    assert all(event.task == 1 for event in slashed if event.reason is SlashReason.REJECTED)
    liars = chain.events_of(Training.AggregatorSlashed)
    burned = sum(event.amount for event in slashed) + sum(event.amount for event in liars)
    burned -= sum(event.reward for event in upheld)
    burned += training.challenge_bond * len(chain.events_of(Training.ChallengeRefuted))
    burned += sum(event.burned for event in chain.events_of(Training.StoragePaid))
    emitted = training.rewards.emitted.get()
    assert chain.modules.balances.total_issuance.get() == 6 * ENDOWMENT + 4 * STAKE + emitted - burned
    assert emitted == sum(
        record.emission * sum(s.accepted for s in record.slots) for record in training.history.values()
    )
    assert chain.events_of(Rewards.SlotPaid)
