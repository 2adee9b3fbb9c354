"""Tasks in a genesis file: they run from the first block, and what is wrong with one is named by its path."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from chain.primitives import ss58
from chain.rpc.plain import plain
from runtime.modules.training_policy import (
    Adam,
    CenteredClip,
    ClipNorm,
    Cosine,
    Descent,
    Int16,
    LocalSteps,
    Nesterov,
    Policy,
    Schedule,
    Scored,
    Sgd,
    Staircase,
)
from runtime.modules.training_types import Phase, TaskStatus
from runtime.testing import ALICE, ENDOWMENT, EVE, POT, TestChain
from runtime.types import GenesisError

TASK: dict[str, Any] = {
    "owner": ss58.encode(ALICE.public),
    "name": "digits",
    "programRoot": "0x" + "11" * 32,
    "datasetRoot": "0x" + "22" * 32,
    "paramsRoot": "0x" + "33" * 32,
    "optimizer": {
        "rule": {
            "adam": {
                "learningRate": 20_000_000_000,
                "beta1": 900_000_000_000,
                "beta2": 999_000_000_000,
                "epsilon": 10_000,
            }
        }
    },
    "policy": {
        "slots": 4,
        "commitBlocks": 20,
        "revealBlocks": 10,
        "auditBlocks": 30,
        "auditorsPerSlot": 2,
        "auditedPpm": 1_000_000,
        "toleranceMicroSteps": 510_000,
        "outliersPpm": 20,
        "evaluateRounds": 3,
    },
    "rounds": 200,
    "pricePerSlot": POT,
    "storage": {"programBytes": 7_000, "datasetBytes": 120_000, "parameters": 20_000},
}


def test_a_task_in_genesis_runs_from_the_first_block() -> None:
    sgd = {**TASK, "optimizer": {"rule": {"sgd": {"learningRate": 1, "momentum": 0}}}}
    chain = TestChain(training={"tasks": [TASK, sgd]})
    first, second = (chain.modules.training.tasks[index] for index in (0, 1))
    assert (first.owner, first.name, first.status) == (ALICE.public, b"digits", TaskStatus.ACTIVE)
    assert (first.program_root, first.dataset_root, first.params_root) == (b"\x11" * 32, b"\x22" * 32, b"\x33" * 32)
    assert first.optimizer == Descent(Adam(20_000_000_000, 900_000_000_000, 999_000_000_000, 10_000))
    assert first.policy == Policy(4, 20, 10, 30, 2, 1_000_000, 510_000, 20, 3)
    assert (first.round, first.rounds, first.escrow) == (0, 200, 800 * POT)
    assert second.optimizer == Descent(Sgd(1, 0))
    kept = [chain.modules.training.storage[index].deposit for index in (0, 1)]
    assert 0 < kept[1] < kept[0]  # without momentum there are no moments to keep
    assert chain.free(ALICE) == ENDOWMENT - 1_600 * POT - sum(kept)
    chain.call(EVE, "training.register_worker", capacity=1)
    chain.run_blocks(1)
    assert chain.modules.training.rounds[0].phase is Phase.COMMIT


def test_a_task_in_genesis_may_choose_all_that_others_may() -> None:
    nesterov = {"nesterov": {"learningRate": 7, "momentum": 5}}
    outer = {
        "rule": nesterov,
        "schedule": {"warmupSteps": 3, "decay": {"cosine": {"steps": 200, "final": 10}}},
        "clip": {"norm": {"limit": 4}},
        "weightDecay": 9,
    }
    inner = {
        "rule": nesterov,
        "clip": None,
        "schedule": {"warmupSteps": 0, "decay": {"staircase": {"every": 2, "factor": 6}}},
    }
    policy = {
        **TASK["policy"],
        "codec": {"int16": {}},
        "localSteps": {"count": 8, "inner": inner},
        "aggregation": {"centeredClip": {"radiusPpm": 500_000, "iterations": 10}},
        "verification": {"scored": {"harmPpm": 10_000, "forfeit": 5, "weightMax": 1, "silosMin": 2}},
    }
    chain = TestChain(training={"tasks": [{**TASK, "optimizer": outer, "policy": policy}]})
    task, rule = chain.modules.training.tasks[0], Nesterov(7, 5)
    assert task.optimizer == Descent(rule, Schedule(3, Cosine(200, 10)), ClipNorm(4), 9)
    local = LocalSteps(8, Descent(rule, Schedule(0, Staircase(2, 6))))
    clip, scored = CenteredClip(500_000, 10), Scored(10_000, 5, 1, 2)
    assert task.policy == Policy(4, 20, 10, 30, 2, 1_000_000, 510_000, 20, 3, Int16(), local, clip, scored)


def test_what_a_node_says_of_a_task_is_what_a_genesis_file_takes() -> None:
    chain = TestChain(training={"tasks": [TASK]})
    task = chain.modules.training.tasks[0]
    again = TestChain(training={"tasks": [{**TASK, "optimizer": plain(task.optimizer), "policy": plain(task.policy)}]})
    assert again.state_root() == chain.state_root()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("owner",), "nobody", "training.tasks[0].owner: expected an SS58 address"),
        (("name",), "x" * 65, "training.tasks[0].name: expected text of at most 64 bytes"),
        (("name",), "", "training.tasks[0]: A task's name is 1 to 64 bytes"),
        (("paramsRoot",), "0x11", "training.tasks[0].paramsRoot: expected 0x and 64"),
        (("optimizer",), {}, "training.tasks[0].optimizer.rule: missing"),
        (
            ("optimizer", "rule"),
            {"magic": {}},
            "training.tasks[0].optimizer.rule: expected one field of sgd, adam, nest",
        ),
        (
            ("optimizer", "rule", "adam", "beta1"),
            10**12,
            "training.tasks[0].optimizer.rule.adam.beta1: expected 0 to 9",
        ),
        (("optimizer", "schedule"), {"warmupSteps": 1}, "training.tasks[0].optimizer.schedule.decay: missing"),
        (("optimizer", "clip"), {"norm": {"limit": 0}}, "training.tasks[0].optimizer.clip.norm.limit: expected 1 to"),
        (("optimizer", "weightDecay"), -1, "training.tasks[0].optimizer.weightDecay: expected 0 to"),
        (("policy", "codec"), {"topK": {"sharePpm": 0}}, "training.tasks[0].policy.codec.topK.sharePpm: expected 1 to"),
        (("policy", "localSteps"), {"count": 2}, "training.tasks[0].policy.localSteps.inner: missing"),
        (("policy", "aggregation"), {"mean": {"of": 1}}, "training.tasks[0].policy.aggregation.mean.of: unknown field"),
        (("policy", "slots"), 65, "training.tasks[0].policy.slots: expected 1 to 64, got 65"),
        (("policy", "slots"), 1.5, "training.tasks[0].policy.slots: expected a whole number, got 1.5"),
        (("policy", "auditedPpm"), 0, "training.tasks[0].policy.auditedPpm: expected 1 to 1000000, got 0"),
        (("policy", "auditorsPerSlot"), 5, "training.tasks[0]: Slots 1-64"),
        (("policy", "speed"), 1, "training.tasks[0].policy.speed: unknown field"),
        (("rounds",), 0, "training.tasks[0].rounds: expected 1 to 1000000, got 0"),
        (("pricePerSlot",), 1, "training.tasks[0]: A task pays at least"),
        (("pricePerSlot",), ENDOWMENT, "training.tasks[0]: A slot that is worth so much needs more audits"),
        (("rounds",), 1_000_000, "training.tasks[0]: balance"),
    ],
)
def test_a_wrong_field_is_named_by_its_path(path: tuple[str, ...], value: object, message: str) -> None:
    task = copy.deepcopy(TASK)
    place = task
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(GenesisError) as caught:
        TestChain(training={"tasks": [task]})
    assert str(caught.value).startswith(message)


def test_unknown_fields_and_too_many_tasks_are_refused() -> None:
    with pytest.raises(GenesisError, match=r"training\.task: unknown field; expected tasks"):
        TestChain(training={"task": []})
    with pytest.raises(GenesisError, match=r"training\.tasks: expected at most 16 tasks"):
        TestChain(training={"tasks": [TASK] * 17})
