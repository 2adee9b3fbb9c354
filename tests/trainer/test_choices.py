"""Whole rounds of tasks that chose other than the plain things, and cheats that only these make possible."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import trio

from tests.trainer.cheats import CHOSEN, cheat
from tests.trainer.kit import small_task
from tests.trainer.network import EVE, FERDIE, Choice, Lines, Network, audit_and_aggregate, network, reporter
from tests.trainer.test_rounds import training_rows
from trainer import audit, batches, descent, optimizers, robust
from trainer.arrays import Float32s
from trainer.audit import Tolerance
from trainer.choices import ChoiceError, check_fit
from trainer.codecs import INT16, Codec
from trainer.codecs.topk import TopK
from trainer.descent import ClipNorm, Descent
from trainer.local import LocalSteps, contribution
from trainer.optimizers import FRESH, PICO, Adam, Nesterov, Sgd
from trainer.robust import Aggregation, Mean, Median
from trainer.sandbox import open_engine
from trainer.schedules import Cosine, Schedule
from trainer.worker import run_worker

PATIENCE_SECONDS = 240
ROUNDS = 3
STEPS = LocalSteps(8, Descent(Sgd(PICO // 10, 9 * PICO // 10)))
CODEC = TopK(100_000)
OUTER = Descent(Nesterov(7 * PICO // 10, PICO // 2))
ADAMW = Descent(
    Adam(2 * 10**10, 9 * 10**11, 999 * 10**9, 10**4), Schedule(2, Cosine(100, PICO // 10)), ClipNorm(PICO), PICO // 100
)
# The same, as a genesis file says it.
LOCAL: Choice = (
    {
        "codec": {"topK": {"sharePpm": 100_000, "warmupRounds": 0}},
        "localSteps": {
            "count": 8,
            "inner": {"rule": {"sgd": {"learningRate": PICO // 10, "momentum": 9 * PICO // 10}}},
        },
    },
    {"rule": {"nesterov": {"learningRate": 7 * PICO // 10, "momentum": PICO // 2}}},
)
ROBUST: Choice = (
    {"codec": {"int16": {}}, "aggregation": {"median": {}}, "toleranceMicroSteps": 4_000_000},
    {
        "rule": {"adam": {"learningRate": 2 * 10**10, "beta1": 9 * 10**11, "beta2": 999 * 10**9, "epsilon": 10**4}},
        "schedule": {"warmupSteps": 2, "decay": {"cosine": {"steps": 100, "final": PICO // 10}}},
        "clip": {"norm": {"limit": PICO}},
        "weightDecay": PICO // 100,
    },
)


@pytest.mark.slow
async def test_local_steps_codecs_schedules_and_a_median_are_trained_as_chosen_and_their_cheats_slashed(
    tmp_path: Path,
) -> None:
    lines: Lines = []
    tried: dict[str, tuple[int, int]] = {}
    with trio.fail_after(PATIENCE_SECONDS):
        async with network(tmp_path / "node", rounds=1000, choices=(LOCAL, ROBUST)) as chain:
            async with trio.open_nursery() as nursery:
                await audit_and_aggregate(nursery, chain, tmp_path, lines)
                eve = partial(run_worker, [chain.url], EVE, tmp_path / "eve", report=reporter(lines, "eve"), capacity=4)
                nursery.start_soon(eve)
                report = reporter(lines, "ferdie")
                # With two seats it is drawn for both tasks: one alone might be kept by the other for ever.
                nursery.start_soon(cheat, chain.url, FERDIE, tmp_path / "ferdie", list(CHOSEN), tried, report, 2)
                await chain.until(
                    lambda modules: (
                        len(tried) == len(CHOSEN) and modules.training.tasks[0].round > max(tried.values())[0]
                    )
                )
                await chain.until(lambda modules: min(modules.training.tasks[t].round for t in (0, 1)) >= ROUNDS)
                nursery.cancel_scope.cancel()
            honest, cheater = chain.modules(
                lambda modules: [modules.training.workers[key.public] for key in (EVE, FERDIE)]
            )
            seed = chain.modules(lambda modules: modules.training.tasks[0].seed)
            history = chain.modules(lambda modules: dict(modules.training.history.items()))
            # Every model follows from the updates that were accepted for it, by what the task chose.
            assert_follows(chain, 0, CODEC, Mean(), OUTER)
            assert_follows(chain, 1, INT16, Median(), ADAMW)

    assert set(tried) == set(CHOSEN)
    assert (honest.rejected, cheater.rejected >= len(CHOSEN)) == (0, True)
    for round_, attempt in tried.values():
        record = history[0, round_]
        cheated = [slot for slot in record.slots if slot.worker == FERDIE.public]
        assert attempt != record.attempt or [slot.accepted for slot in cheated] == [False] * len(cheated) != []
    assert honest.accepted >= ROUNDS
    # An accepted update says where eight steps lead that are taken here.
    first = history[0, 0]
    slot = next(slot for slot, record in enumerate(first.slots) if record.accepted)
    data = chain.node.blobs.get(first.slots[slot].update_root)
    assert data is not None
    update = CODEC.decode(data, small_task().theta.size, 0)
    own = await stepped_here(tmp_path / "here", seed, first.attempt, slot)
    assert audit.compare(update, own, Tolerance(510_000, 20)).right
    assert not audit.compare(update, own * np.float32(1.05), Tolerance(510_000, 20)).right


def assert_follows(chain: Network, task: int, codec: Codec, aggregation: Aggregation, by: Descent) -> None:
    theta, state = small_task().theta, FRESH
    for round_ in range(ROUNDS):
        record = chain.modules(lambda modules, r=round_: modules.training.history[task, r])
        updates = []
        for slot in record.slots:
            if slot.accepted:
                data = chain.node.blobs.get(slot.update_root)
                assert data is not None
                updates.append(codec.decode(data, theta.size, round_))
        theta, state = descent.step(by, state, theta, robust.combine(aggregation, updates))
        assert chain.node.blobs.get(record.params_root) == optimizers.encode_params(theta)
        assert chain.node.blobs.get(record.optimizer_root) == optimizers.encode_state(by.rule, state)


async def stepped_here(folder: Path, seed: bytes, attempt: int, slot: int) -> Float32s:
    """What a slot of round 0 is to say, by gradients one at a time and an optimiser written out."""
    task, (x, y) = small_task(), training_rows()
    size = task.program.batch
    order = batches.permutation(batches.attempt_seed(seed, 0, attempt), len(y))
    theta, velocity = task.theta, np.zeros_like(task.theta)
    async with open_engine(folder) as engine:
        await engine.load(task.program_root, task.program, task.blobs[task.program_root])
        for step in range(STEPS.count):
            rows = order[(slot * STEPS.count + step) * size :][:size]
            found = await engine.gradient(task.program_root, theta, x[rows].tobytes(), y[rows].tobytes())
            velocity = velocity * np.float32(0.9) + found.values
            theta = theta - np.float32(0.1) * velocity
    return task.theta - theta


@pytest.mark.slow
async def test_the_engine_takes_the_steps_that_its_parent_would_take(tmp_path: Path) -> None:
    task, (x, y) = small_task(), training_rows()
    steps = LocalSteps(5, Descent(ADAMW.rule, Schedule(3, Cosine(90, 0)), ClipNorm(PICO // 10), PICO // 100))
    size = task.program.batch
    xs, ys = x[: 5 * size].tobytes(), y[: 5 * size].tobytes()
    async with open_engine(tmp_path) as engine:
        await engine.load(task.program_root, task.program, task.blobs[task.program_root])
        said = await engine.local_steps(task.program_root, task.theta, xs, ys, steps, 7)

        def gradient(theta: Float32s, index: int) -> Float32s:
            rows = slice(index * size, (index + 1) * size)
            answer = trio.from_thread.run(
                engine.gradient, task.program_root, theta, x[rows].tobytes(), y[rows].tobytes()
            )
            return answer.values

        own = await trio.to_thread.run_sync(contribution, steps, task.theta, gradient, 7)
    assert said.tobytes() == own.tobytes()
    assert float(np.abs(own).max()) > 1e-3


def test_the_batches_of_all_slots_have_rows_of_their_own_or_the_task_is_refused() -> None:
    program = small_task().program
    check_fit(program, 64, 2, 1)
    check_fit(program, 64, 2, 8)
    with pytest.raises(ChoiceError, match="2 slots with batches of 32 rows take 64 rows at a time, and there are 63"):
        check_fit(program, 63, 2, 1)


def test_a_slot_fits_into_one_request_or_is_refused() -> None:
    program = replace(small_task().program, batch=1 << 20)
    # 65 bytes a row, and 2,600 of parameters.
    check_fit(program, 64 << 20, 1, 47)
    with pytest.raises(ChoiceError, match="take fewer local steps or smaller batches"):
        check_fit(program, 64 << 20, 1, 48)
