"""Every attack on training that we know of, on a running chain: what became of its money, and of the model."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from chain.validator_keys import ValidatorKeys
from runtime.modules.balances import POT
from runtime.modules.training_schema import TrainingSchema
from tests.attacks.campaign import REJECTED, SYBIL_BONDS, Story, campaign
from tests.attacks.ground import AGGREGATOR, LIAR, OWNER, VALIDATORS, WORKERS
from tests.attacks.models import held_out, outcomes
from tests.attacks.table import HEADINGS, TRIED, markdown
from tests.trainer.cheats import KINDS, WITHIN_TOLERANCE
from tests.trainer.kit import small_task

PATIENCE_SECONDS = 800
FEES_MAX = POT // 10
MISSED = 5 * POT
REJECTED_SLOT = 60 * POT
# What each attack costs of a bond; what is not named costs nothing but fees.
SLASHED = {
    **dict.fromkeys(KINDS, REJECTED_SLOT),
    "sybils": SYBIL_BONDS * REJECTED_SLOT,
    "copied commitment": MISSED,
    "withholding": MISSED,
    "repeated commitment": MISSED,
    "lying aggregator": 60 * POT,
    "false challenge": 5 * POT,
    "two heads under one key": 100 * POT,
}
# Who has nothing to copy, or no older model, is honest until then, and paid for it.
LATE = {"copied", "stale"}
STALE = "Transaction is outdated"
# The round before may still be in its audit when its successor, begun ahead of time, is attacked.
AHEAD = {("repeated commitment", "Training.WrongPhase"): "Training.WrongRound"}
SAID = {
    **{kind: {"REJECTED"} for kind in KINDS},
    "nudged": {"accepted"},
    "copied commitment": {"Training.CommitmentMismatch", "NOT_REVEALED"},
    "withholding": {"NOT_REVEALED"},
    "repeated commitment": {
        "Training.WrongRound",
        "Training.WrongAttempt",
        "Training.NotAssigned",
        "Training.CommitmentMismatch",
        "NOT_REVEALED",
    },
    "sybils": {"Balances.InsufficientBalance", "REJECTED"},
    "lying aggregator": {"AggregatorSlashed"},
    "lying auditor": {"no quorum"},
    "false challenge": {"ChallengeRefuted"},
    "replay of another's transaction": {STALE},
    "replay on another chain": {"Transaction has a bad signature"},
    "votes of another height, view, block, chain": {"valid: False"},
    "a beacon of one's choice": {"InvalidBlock"},
    "hostile program": {"NO_COMMITMENT"},
    # Evidence is taken once.
    "two heads under one key": {"taken", STALE},
}


@pytest.mark.slow
async def test_every_attack_costs_its_attacker_alone_and_leaves_the_model_to_honest_updates(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        story = await campaign(tmp_path, 1)
    assert {attack.name for attack in story.attacks} == {*KINDS, *WITHIN_TOLERANCE, *TRIED}
    for attack in story.attacks:
        found = story.of(attack)
        assert found.explained, (attack.name, found)
        assert found.slashed == SLASHED.get(attack.name, 0), (attack.name, found)
        assert found.fees < FEES_MAX, (attack.name, found)
        assert found.earned == 0 or attack.name not in REJECTED - LATE, (attack.name, found)
        if attack.name == "another's reveal under one's own name":  # In which phase it came is chance.
            assert set(attack.said) <= {"Training.NotAssigned", "Training.WrongPhase", "Training.RevealsClosed"}
        else:
            said = {AHEAD.get((attack.name, each), each) for each in attack.said}
            assert said == SAID[attack.name], (attack.name, attack.said)
    assert_the_honest_lose_nothing(story)
    assert_honest_updates_alone_make_the_model(story)


def assert_the_honest_lose_nothing(story: Story) -> None:
    end = max(story.events)
    auditors = [ValidatorKeys.from_uri(f"//{name}").account for name in VALIDATORS if name != LIAR]
    for key in (*WORKERS.values(), *auditors, AGGREGATOR):
        found = story.statement([key], 0, end)
        assert found.explained, found
        assert (found.slashed, found.spent) == (0, 0), found
        assert found.after > found.before, found
    owner = story.statement([OWNER], 0, end)
    accepted = sum(slot.accepted for record in story.records.values() for slot in record.slots)
    assert owner.after == owner.before - accepted * POT
    assert owner.spent == accepted * POT
    # Each rejected slot was challenged, and nothing else was but by who cried wolf.
    events = [record.event for each in story.events.values() for record in each]
    upheld = [event for event in events if isinstance(event, TrainingSchema.ChallengeUpheld)]
    refuted = [event for event in events if isinstance(event, TrainingSchema.ChallengeRefuted)]
    assert len(upheld) == len(KINDS) + SYBIL_BONDS
    assert [event.challenger for event in refuted] == [ValidatorKeys.from_uri(f"//{LIAR}").account.public]


def assert_honest_updates_alone_make_the_model(story: Story) -> None:
    found, model, untouched = outcomes(story)
    for round_, outcome in found.items():
        assert outcome.accepted == outcome.honest != [], round_
        assert outcome.params_root == story.records[round_].params_root, round_
        # What passes as an honest machine's rounding leads no farther, however few others there are.
        assert outcome.led_astray < 5e-3, round_
    start = held_out(small_task().theta)
    assert model.loss < start.loss
    assert abs(model.loss - untouched.loss) < 0.05
    rows = list(markdown(story, found))
    assert len(rows) == 2 + len(story.attacks)
    assert {row.count(" | ") for row in rows if "---" not in row} == {len(HEADINGS) - 1}
