"""Answers of nodes: read whole, or refused as what another version of the program would say."""

from __future__ import annotations

from typing import Any

import pytest

from chain.primitives import ss58
from trainer.optimizers import OptimizerError, Sgd
from trainer.views import ViewError, round_of, task_of

ACCOUNT, ROOT = ss58.encode(bytes(32)), "0x" + "11" * 32
TASK: dict[str, Any] = {
    "id": 3,
    "programRoot": ROOT,
    "datasetRoot": ROOT,
    "seed": ROOT,
    "optimizer": {"sgd": {"learningRate": 1, "momentum": 0}},
    "policy": {"toleranceMicroSteps": 510_000, "outliersPpm": 20, "auditBlocks": 10},
}
SLOT = {"worker": ACCOUNT, "commitment": ROOT, "updateRoot": None, "auditors": [ACCOUNT], "challenged": False}
ROUND: dict[str, Any] = {
    "round": 1,
    "attempt": 0,
    "phase": "audit",
    "deadline": 20,
    "paramsRoot": ROOT,
    "optimizerRoot": ROOT,
    "slots": [SLOT],
    "attestations": [{"validator": ACCOUNT, "accepted": [0], "paramsRoot": ROOT, "optimizerRoot": ROOT}],
    "aggregates": [{"accepted": [0], "paramsRoot": ROOT, "optimizerRoot": ROOT}],
}


def test_a_task_and_a_round_are_read() -> None:
    task, running = task_of(TASK), round_of(ROUND)
    assert (task.id, task.optimizer, task.audit_blocks) == (3, Sgd(1, 0), 10)
    assert (running.slots[0].worker, running.attestations[0].accepted) == (bytes(32), (0,))


@pytest.mark.parametrize("wrong", [None, 5, 1.5, float("inf"), "", "0x", [], {}, [5], {"worker": 5}, True])
@pytest.mark.parametrize("name", ["programRoot", "policy", "id"])
def test_a_task_of_another_shape_is_refused(name: str, wrong: object) -> None:
    if name == "id" and wrong in (5, 1.5, True):
        return  # Whole numbers, to Python.
    with pytest.raises(ViewError, match=r"training_task: unexpected answer"):
        task_of({**TASK, name: wrong})


@pytest.mark.parametrize("wrong", [5, 1.5, float("inf"), "x", [5], {"worker": 5}, [{**SLOT, "worker": 5}], [None]])
@pytest.mark.parametrize("name", ["paramsRoot", "slots", "attestations", "aggregates"])
def test_a_round_of_another_shape_is_refused(name: str, wrong: object) -> None:
    with pytest.raises(ViewError, match=r"training_round: unexpected answer"):
        round_of({**ROUND, name: wrong})
    with pytest.raises(ViewError):
        round_of(wrong)


@pytest.mark.parametrize(
    "wrong", [None, 5, "sgd", {}, {"sgd": 5}, {"sgd": {"learningRate": float("inf"), "momentum": 0}}]
)
def test_an_optimiser_of_another_shape_is_refused(wrong: object) -> None:
    with pytest.raises(OptimizerError):
        task_of({**TASK, "optimizer": wrong})


def test_a_refusal_does_not_repeat_megabytes() -> None:
    with pytest.raises(OptimizerError) as caught:
        task_of({**TASK, "optimizer": {"sgd": "x" * 10**6}})
    assert len(str(caught.value)) < 1000
