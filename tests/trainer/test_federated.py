"""A federated task on a running chain: five silos with data of their own, one of which poisons the model."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import trio

from chain.primitives.keys import Keypair
from chain.rpc.client import Client
from runtime.modules.training import Training
from runtime.modules.training_types import SlashReason
from tests.trainer import silos
from tests.trainer.kit import CLASSES, PIXELS, evaluation, loss
from tests.trainer.network import CHARLIE, POT, VALIDATORS, Lines, Network, network, reporter
from trainer.auditor import attend
from trainer.market import Market, Task
from trainer.node import open_node
from trainer.sandbox import open_engines
from trainer.silo import contribute

PATIENCE_SECONDS = 240
ROUNDS, STEPS, POISONED = 3, 8, 300
SILOS = [Keypair.from_uri(f"//Silo{index}") for index in range(4)]
POISONER = Keypair.from_uri("//Poisoner")
FORFEIT = 2 * POT
# How much worse, by its held-out loss, the model may be than if only the honest had trained it.
MARGIN = 1.05
DATA, POISON = silos.by_class(), silos.mislabelled(POISONED)
TASK = Task(
    "wards",
    loss=loss,
    evaluation=evaluation,
    params={"w": np.zeros((PIXELS, CLASSES), np.float32), "b": np.zeros(CLASSES, np.float32)},
    train=None,
    held_out=silos.held_out(),
    batch=silos.BATCH,
    terms={
        "rounds": ROUNDS,
        "slots": 5,
        "local_steps": STEPS,
        "inner_optimizer": "sgd",
        "inner_learning_rate": "0.1",
        "inner_momentum": "0.9",
        "verification": "scored",
        # Beside two honest silos alone, with half of the classes, mislabelled rows of all of them do no harm.
        "silos_min": 5,
        "forfeit": 2,
        "auditors": 1,
    },
)


def trained_here(believed: int) -> float:
    """The held-out loss after as many rounds without a chain: of the honest four alone, or of all five."""
    model = silos.softmax()
    *_, (_, theta) = silos.train(model, [*DATA, POISON], silos.steps(STEPS), ROUNDS, believed)
    return model.held_out(theta)


async def admit(chain: Network, task: int) -> None:
    async with Client.connect(chain.url) as client:
        for silo in (*SILOS, POISONER):
            receipt = await client.transact(
                CHARLIE, "training.admit_silo", task=task, silo=silo.public, samples_max=1_000
            )
            assert receipt.ok, receipt.error


@pytest.mark.slow
async def test_a_poisoner_among_silos_loses_money_and_the_model_is_as_good_as_without_it(tmp_path: Path) -> None:
    lines: Lines = []
    files = [tmp_path / f"{index}.npz" for index in range(5)]
    for path, (x, y) in zip(files, [*DATA, POISON], strict=True):
        np.savez(path, x=x, y=y)
    with trio.fail_after(PATIENCE_SECONDS):
        async with network(tmp_path / "node", rounds=1, choices=(), others=[*SILOS, POISONER]) as chain:
            funds = chain.modules(lambda modules: modules.balances.total(POISONER.public))

            async with AsyncExitStack() as stack:
                market = Market(chain.url, "//Charlie")
                task = await trio.to_thread.run_sync(partial(market.create, TASK))
                await admit(chain, task)
                # One engine for all silos and one for both auditors: importing JAX takes longer than all they compute.
                engines = [await stack.enter_async_context(open_engines(tmp_path / name)) for name in ("s", "a")]
                nursery = await stack.enter_async_context(trio.open_nursery())
                for index, keys in enumerate(VALIDATORS):
                    node = await stack.enter_async_context(open_node([chain.url], keys.account))
                    report = reporter(lines, f"auditor {index}")
                    nursery.start_soon(partial(attend, node, engines[1], tmp_path / f"auditor{index}", report=report))
                for index, key in enumerate((*SILOS, POISONER)):
                    node = await stack.enter_async_context(open_node([chain.url], key))
                    folder, report = tmp_path / f"silo{index}", reporter(lines, f"silo {index}")
                    run = partial(contribute, node, engines[0], folder, {task: files[index]}, report=report)
                    nursery.start_soon(run)
                await chain.until(lambda modules: modules.training.tasks[task].round == ROUNDS)
                nursery.cancel_scope.cancel()
            history = [chain.modules(lambda modules, r=r: modules.training.history[task, r]) for r in range(ROUNDS)]
            weights = [chain.modules(lambda modules, r=r: modules.training.weights[task, r]) for r in range(ROUNDS)]
            honest = [chain.modules(lambda modules, k=key: modules.training.workers[k.public]) for key in SILOS]
            poisoner = chain.modules(lambda modules: modules.training.workers[POISONER.public])
            left = chain.modules(lambda modules: modules.balances.total(POISONER.public))

    # What each of them weighed is what it has.
    counts = {key.public: len(y) for key, (_, y) in zip((*SILOS, POISONER), (*DATA, POISON), strict=True)}
    for record, weighed in zip(history, weights, strict=True):
        assert weighed == tuple(counts[slot.worker] for slot in record.slots)
        for slot in record.slots:
            assert slot.accepted == (slot.worker != POISONER.public)
    assert [(worker.rejected, worker.earned > 0) for worker in honest] == [(0, True)] * 4
    assert (poisoner.accepted, poisoner.earned, poisoner.rejected > 0) == (0, 0, True)
    assert [event.reason for event in chain.told(Training.WorkerSlashed)] == [SlashReason.HARMFUL] * poisoner.rejected
    # Beside its forfeits it lost the fees of coming back.
    assert 0 <= funds - FORFEIT * poisoner.rejected - left < POT

    alone, believed = trained_here(4), trained_here(5)
    reached = history[-1].evaluation.loss_micro / 1e6
    print(f"held-out loss {reached:.4f}; honest alone {alone:.4f}, with the poisoner believed {believed:.4f}")
    assert reached <= alone * MARGIN < believed

    # Nothing of what a node was ever sent has a private row in it, in whatever type; of the public ones it has all.
    stored = b"".join(path.read_bytes() for path in sorted((tmp_path / "node").rglob("*")) if path.is_file())
    assert all(row.tobytes() in stored for row in silos.held_out()[0][::10])
    for x, _ in (*DATA, POISON):
        for row in x[::10]:
            for half in (row[: PIXELS // 2], row[PIXELS // 2 :]):
                assert half.tobytes() not in stored
                assert half.astype(np.float32).tobytes() not in stored
