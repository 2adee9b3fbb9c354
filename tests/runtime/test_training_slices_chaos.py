"""Aggregates on trial among participants who act, lie and fall silent at random: nothing false is ever proven.

A failure names its seed: `pytest tests/runtime/test_training_slices_chaos.py -k seed6` replays it.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from chain.primitives.keys import Keypair
from chain.primitives.seal import bitmap
from runtime.modules.training import Training
from runtime.modules.training_policy import Slices
from runtime.modules.training_types import Aggregate, Phase
from runtime.testing import BOB, DAVE, ENDOWMENT, STAKE
from tests.runtime.test_training_chaos import Chaos
from tests.runtime.training_kit import CLAIM, POLICY, VALIDATORS, Story, root, terms

BLOCKS = 90
COUNT = 5
SLICED = replace(POLICY, checks=Slices(1))
LARGE = replace(CLAIM, parameters=COUNT * 16_384)
# One of four, which the network tolerates.
LIAR = DAVE


class SlicedChaos(Chaos):
    """The same people, and validators who check slices, of whom one lies."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.story = Story(rounds=9, policy=SLICED, storage=LARGE)
        self.story.chain.call(BOB, "training.create_task", **terms(rounds=6, policy=SLICED, storage=LARGE))
        self.proven: list[tuple[int, int, int, Aggregate]] = []

    def audit(self, task: int) -> None:
        super().audit(task)
        for validator in VALIDATORS:
            if task in self.story.training.trials and self.chance(60):
                self.check(task, validator)

    def is_false(self, task: int, aggregate: Aggregate) -> bool:
        state, before = self.story.state(task), self.story.task(task)
        accepted = aggregate.accepted
        if not any(accepted):
            return (aggregate.params_root, aggregate.optimizer_root) != (before.params_root, before.optimizer_root)
        return aggregate.params_root != root("params", task, state.round, accepted)

    def check(self, task: int, validator: Keypair) -> None:
        trial = self.story.training.trials[task]
        lies = self.chance(70) if validator is LIAR else False
        slices = [index for index in range(COUNT) if trial.order and validator.public in trial.drawn(index, COUNT)]
        disputed = [dispute.slice for dispute in trial.disputes]
        wrong = None
        if self.is_false(task, trial.aggregate) != lies:
            slices, wrong = [], self.rng.choice(disputed or range(COUNT))
        elif self.chance(30):
            slices = list(range(COUNT))
        else:
            slices = sorted({*slices, *disputed})
        aggregate = trial.aggregate
        self.tries(
            validator,
            "training.find_slices",
            **self.story.attempt(task),
            accepted=aggregate.accepted,
            params_root=aggregate.params_root,
            optimizer_root=aggregate.optimizer_root,
            right=bitmap(slices, COUNT),
            wrong=wrong,
        )


@pytest.mark.parametrize("seed", [6], ids="seed{}".format)
def test_whatever_one_of_four_says_nothing_false_is_proven_and_money_adds_up(seed: int) -> None:
    chaos = SlicedChaos(seed)
    story = chaos.story
    for _ in range(BLOCKS):
        chaos.act()
        for task in story.training.active_tasks.get():
            if story.state(task).phase is Phase.AUDIT:
                for aggregate in story.training.proven[task]:
                    assert not chaos.is_false(task, aggregate)
        story.next()
    chain = story.chain
    proven, refuted = chain.events_of(Training.AggregateProven), chain.events_of(Training.AggregateRefuted)
    disputes, fined = chain.events_of(Training.DisputeRefuted), chain.events_of(Training.CheckerFined)
    assert proven
    assert refuted
    assert disputes
    assert {event.validator for event in disputes} == {LIAR.public} >= {event.validator for event in fined}
    assert len(chain.events_of(Training.RoundFinalised)) >= 5, "the network came to a halt"
    slashed, liars = chain.events_of(Training.WorkerSlashed), chain.events_of(Training.AggregatorSlashed)
    upheld, false_alarms = chain.events_of(Training.ChallengeUpheld), chain.events_of(Training.ChallengeRefuted)
    burned = sum(event.amount for event in slashed) + sum(event.amount for event in liars)
    burned += sum(event.amount for event in fined)
    burned += story.training.challenge_bond * (len(disputes) + len(false_alarms))
    burned -= sum(event.reward for event in upheld) + sum(event.reward for event in refuted)
    stored = sum(event.burned for event in chain.events_of(Training.StoragePaid))
    emitted = story.training.rewards.emitted.get()
    assert chain.modules.balances.total_issuance.get() == 6 * ENDOWMENT + 4 * STAKE + emitted - burned - stored
