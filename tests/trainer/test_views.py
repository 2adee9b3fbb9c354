"""Answers of nodes: read whole, or refused as what another version of the program would say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from chain.primitives import ss58
from chain.rpc.plain import plain
from runtime.modules import training_policy as on_chain
from runtime.modules.training_types import Aggregate, Trial
from trainer.choices import (
    ChoiceError,
    aggregation_of,
    codec_of,
    descent_of,
    local_steps_json,
    local_steps_of,
    scored_of,
    slice_chunks_of,
)
from trainer.codecs import INT8, INT16
from trainer.codecs.dense import Dense
from trainer.codecs.topk import TopK
from trainer.descent import ClipNorm, ClipValue, Descent
from trainer.local import LocalSteps
from trainer.optimizers import Adam, Nesterov, Sgd
from trainer.robust import CenteredClip, Krum, Mean, Median, TrimmedMean
from trainer.schedules import Constant, Cosine, Linear, Schedule, Staircase
from trainer.scoring import Scored
from trainer.views import PastRound, ViewError, round_of, task_of

ACCOUNT, ROOT = ss58.encode(bytes(32)), "0x" + "11" * 32
TASK: dict[str, Any] = {
    "id": 3,
    "programRoot": ROOT,
    "datasetRoot": ROOT,
    "seed": ROOT,
    "rounds": 10,
    "storage": {"programBytes": 7_000, "datasetBytes": 120_000, "parameters": 20_000},
    "optimizer": {
        "rule": {"sgd": {"learningRate": 1, "momentum": 0}},
        "schedule": {"warmupSteps": 0, "decay": {"constant": {}}},
        "clip": None,
        "weightDecay": 0,
    },
    "policy": {
        "slots": 2,
        "toleranceMicroSteps": 510_000,
        "outliersPpm": 20,
        "evaluateRounds": 1,
        "auditBlocks": 10,
        "codec": {"int8": {}},
        "localSteps": None,
        "aggregation": {"mean": {}},
        "verification": {"recompute": {}},
        "checks": {"whole": {}},
    },
}
SLOT = {
    "worker": ACCOUNT,
    "commitment": ROOT,
    "updateRoot": None,
    "auditors": [ACCOUNT],
    "challenged": False,
    "planted": False,
    "weight": 1,
}
ROUND: dict[str, Any] = {
    "round": 1,
    "attempt": 0,
    "phase": "audit",
    "openedAt": 7,
    "deadline": 20,
    "plantBeacon": ROOT,
    "plantDeadline": None,
    "paramsRoot": ROOT,
    "optimizerRoot": ROOT,
    "slots": [SLOT],
    "attestations": [{"validator": ACCOUNT, "accepted": [0], "paramsRoot": ROOT, "optimizerRoot": ROOT}],
    "aggregates": [{"accepted": [0], "paramsRoot": ROOT, "optimizerRoot": ROOT}],
    "trial": None,
    "proven": [],
    "confirmations": [{"validator": ACCOUNT, "paramsRoot": ROOT, "optimizerRoot": ROOT}],
    "ahead": None,
}
# What had begun from what that round makes.
AHEAD = {**ROUND, "round": 2, "attempt": 3, "phase": "commit", "paramsRoot": "0x" + "22" * 32, "confirmations": []}


def test_a_task_and_a_round_are_read() -> None:
    task, running = task_of(TASK), round_of(ROUND)
    assert (task.id, task.audit_blocks) == (3, 10)
    assert (task.descent, task.codec, task.local_steps, task.aggregation) == (Descent(Sgd(1, 0)), INT8, None, Mean())
    assert (running.slots[0].worker, running.attestations[0].accepted) == (bytes(32), (0,))
    assert (running.confirmed_by, running.ahead, running.before) == ((bytes(32),), None, None)


def test_a_round_ahead_goes_on_from_the_running_one_as_if_all_of_it_were_accepted() -> None:
    shown = {**SLOT, "updateRoot": "0x" + "33" * 32}
    running = round_of({**ROUND, "slots": [SLOT, shown], "ahead": AHEAD})
    ahead = running.ahead
    assert ahead is not None
    assert (ahead.round, ahead.attempt, ahead.phase, ahead.params_root) == (2, 3, "commit", b"\x22" * 32)
    assert ahead.before == PastRound(1, 0, b"\x11" * 32, {1: (bytes(32), b"\x33" * 32)})
    assert (running.before, ahead.ahead) == (None, None)


def test_a_trial_is_read_and_every_slice_of_it_is_for_as_many_as_the_chain_draws() -> None:
    accounts = [bytes([number]) * 32 for number in range(5)]
    said = {"accepted": [0], "paramsRoot": ROOT, "optimizerRoot": ROOT}
    trial = {
        **said,
        "since": 9,
        "slices": 7,
        "checkers": 2,
        "order": [ss58.encode(account) for account in accounts],
        "found": [{"validator": ACCOUNT, "right": "0x12"}],
        "disputes": [{"validator": ss58.encode(accounts[1]), "slice": 3}],
    }
    running = round_of({**ROUND, "trial": trial, "proven": [said]})
    assert running.proven == running.aggregates
    found = running.trial
    assert found is not None
    assert (found.aggregate, found.found, found.disputes) == (
        running.aggregates[0],
        {bytes(32): (1, 4)},
        {accounts[1]: 3},
    )
    on_the_chain = Trial(Aggregate(bytes(32), b"", bytes(32), bytes(32)), 9, 2, tuple(accounts), (), ())
    for account in accounts:
        drawn = [index for index in range(7) if account in on_the_chain.drawn(index, 7)]
        assert list(found.drawn(account, 7)) == drawn
    found_right = replace(found, found={accounts[0]: (0, 6), accounts[1]: (0,)})
    assert [found_right.is_found_by_drawn(index, 7) for index in range(7)] == [True] + 6 * [False]
    assert found.drawn(b"\x09" * 32, 7) == ()


def test_a_sum_is_fixed_once_whatever_was_committed_is_revealed() -> None:
    shown, never = {**SLOT, "updateRoot": ROOT}, {**SLOT, "commitment": None}
    for phase, slots, is_fixed in (
        ("commit", [shown], False),
        ("reveal", [shown, SLOT], False),
        ("reveal", [shown, never], True),
        ("audit", [shown, SLOT], True),
    ):
        assert round_of({**ROUND, "phase": phase, "slots": slots}).is_fixed == is_fixed


@pytest.mark.parametrize("wrong", [None, 5, 1.5, float("inf"), "", "0x", [], {}, [5], {"worker": 5}, True])
@pytest.mark.parametrize("name", ["programRoot", "policy", "id"])
def test_a_task_of_another_shape_is_refused(name: str, wrong: object) -> None:
    if name == "id" and wrong in (5, 1.5, True):
        return  # Whole numbers, to Python.
    with pytest.raises(ViewError, match=r"training_task: unexpected answer"):
        task_of({**TASK, name: wrong})


@pytest.mark.parametrize("wrong", [5, 1.5, float("inf"), "x", [5], {"worker": 5}, [{**SLOT, "worker": 5}], [None]])
@pytest.mark.parametrize(
    "name", ["paramsRoot", "slots", "attestations", "aggregates", "confirmations", "trial", "proven", "ahead"]
)
def test_a_round_of_another_shape_is_refused(name: str, wrong: object) -> None:
    with pytest.raises(ViewError, match=r"training_round: unexpected answer"):
        round_of({**ROUND, name: wrong})
    with pytest.raises(ViewError):
        round_of(wrong)


RULE: dict[str, Any] = {"sgd": {"learningRate": 1, "momentum": 0}}


@pytest.mark.parametrize(
    "wrong", [None, 5, "sgd", {}, {"sgd": 5}, {"sgd": {"learningRate": float("inf"), "momentum": 0}}]
)
def test_a_choice_of_another_shape_is_refused(wrong: Any) -> None:
    for optimizer in (wrong, {**TASK["optimizer"], "rule": wrong}, {**TASK["optimizer"], "schedule": wrong}):
        with pytest.raises(ChoiceError):
            task_of({**TASK, "optimizer": optimizer})
    for name in ("codec", "aggregation", "verification", "checks", *(["localSteps"] if wrong is not None else [])):
        with pytest.raises(ChoiceError):
            task_of({**TASK, "policy": {**TASK["policy"], name: wrong}})


@pytest.mark.parametrize(
    ("read", "wrong"),
    [
        (descent_of, {**TASK["optimizer"], "rule": {"adam": {}}}),
        (descent_of, {**TASK["optimizer"], "rule": {"lamb": {"learningRate": 1}}}),
        (descent_of, {**TASK["optimizer"], "rule": {"sgd": {"learningRate": 0, "momentum": 0}}}),
        (descent_of, {**TASK["optimizer"], "rule": {"sgd": {"learningRate": 1, "momentum": 0, "nesterov": 1}}}),
        (descent_of, {**TASK["optimizer"], "rule": {**RULE, "nesterov": {"learningRate": 1, "momentum": 0}}}),
        (
            descent_of,
            {**TASK["optimizer"], "schedule": {"warmupSteps": 0, "decay": {"linear": {"steps": 0, "final": 0}}}},
        ),
        (descent_of, {**TASK["optimizer"], "clip": {"norm": {"limit": 0}}}),
        (descent_of, {**TASK["optimizer"], "weightDecay": -1}),
        (codec_of, {"int4": {}}),
        (codec_of, {"topK": {"sharePpm": 0, "warmupRounds": 0}}),
        (codec_of, {"topK": {"sharePpm": 1}}),
        (local_steps_of, {"count": 0, "inner": TASK["optimizer"]}),
        (local_steps_of, {"count": 1, "inner": {}}),
        (slice_chunks_of, {"slices": {"chunks": 0}}),
        (slice_chunks_of, {"slices": {}}),
        (aggregation_of, {"trimmedMean": {"byzantinePpm": 500_001}}),
        (aggregation_of, {"centeredClip": {"radiusPpm": 0, "iterations": 1}}),
    ],
)
def test_choices_without_sense_are_refused(read: Callable[[Any], object], wrong: object) -> None:
    with pytest.raises(ChoiceError):
        read(wrong)


def test_a_refusal_does_not_repeat_megabytes() -> None:
    with pytest.raises(ChoiceError) as caught:
        task_of({**TASK, "optimizer": {"sgd": "x" * 10**6}})
    assert len(str(caught.value)) < 1000


def test_the_engine_reads_the_local_steps_that_were_read_from_the_chain() -> None:
    for rule, decay, clip in (
        (Sgd(1, 0), Constant(), None),
        (Adam(4, 3, 2, 1), Linear(5, 6), ClipNorm(7)),
        (Nesterov(3, 2), Cosine(9, 8), ClipValue(6)),
        (Sgd(5, 4), Staircase(3, 2), None),
    ):
        steps = LocalSteps(8, Descent(rule, Schedule(11, decay), clip, 12))
        assert local_steps_of(local_steps_json(steps)) == steps


def test_programs_read_every_choice_that_the_chain_takes_as_the_chain_says_it() -> None:
    read = {
        on_chain.Int8(): INT8,
        on_chain.Int16(): INT16,
        on_chain.TopK(10_000, 7): TopK(10_000, warmup_rounds=7),
        on_chain.TopKFeedback(10_000, 7, 5 * 10**11, 16): TopK(10_000, 5 * 10**11, 7, 16),
        on_chain.Int8Momentum(5 * 10**11, 16): Dense(8, 5 * 10**11, 16),
        on_chain.Mean(): Mean(),
        on_chain.Median(): Median(),
        on_chain.TrimmedMean(200_000): TrimmedMean(200_000),
        on_chain.Krum(300_000): Krum(300_000, multi=False),
        on_chain.MultiKrum(300_000): Krum(300_000, multi=True),
        on_chain.CenteredClip(500_000, 9): CenteredClip(500_000, 9),
    }
    assert {type(choice) for choice in read} == {*on_chain.CODECS, *on_chain.AGGREGATIONS}
    for choice, expected in read.items():
        of = codec_of if type(choice) in on_chain.CODECS else aggregation_of
        assert of(plain(choice)) == expected
    assert scored_of(plain(on_chain.Recompute())) is None
    assert scored_of(plain(on_chain.Scored(10_000, 7, 2_000, 3))) == Scored(10_000, 7, 2_000, 3)
    assert slice_chunks_of(plain(on_chain.Whole())) is None
    assert slice_chunks_of(plain(on_chain.Slices(16))) == 16
    rules: list[tuple[Any, Any]] = [
        (on_chain.Sgd(1, 2), Sgd(1, 2)),
        (on_chain.Adam(1, 2, 3, 4), Adam(1, 2, 3, 4)),
        (on_chain.Nesterov(1, 2), Nesterov(1, 2)),
    ]
    decays: list[tuple[Any, Any]] = [
        (on_chain.Constant(), Constant()),
        (on_chain.Linear(1, 2), Linear(1, 2)),
        (on_chain.Cosine(1, 2), Cosine(1, 2)),
        (on_chain.Staircase(1, 2), Staircase(1, 2)),
    ]
    clips = [(None, None), (on_chain.ClipValue(1), ClipValue(1)), (on_chain.ClipNorm(1), ClipNorm(1))]
    for (rule, own), (decay, own_decay), (clip, own_clip) in product(rules, decays, clips):
        said = on_chain.Descent(rule, on_chain.Schedule(3, decay), clip, 4)
        meant = Descent(own, Schedule(3, own_decay), own_clip, 4)
        assert descent_of(plain(said)) == meant
        assert local_steps_of(plain(on_chain.LocalSteps(8, said))) == LocalSteps(8, meant)
