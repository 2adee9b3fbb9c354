"""Slots that remember what they have not said: what is lost is computed again, and who forgets is slashed."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import trio

from chain.primitives.blob import blob_root
from tests.trainer.cheats import cheat
from tests.trainer.kit import small_task
from tests.trainer.network import EVE, FERDIE, Choice, Lines, Network, audit_and_aggregate, network, reporter
from tests.trainer.test_rounds import training_rows
from trainer import aggregate, audit, batches, optimizers
from trainer.arrays import Float32s
from trainer.audit import Tolerance
from trainer.codecs import INT8
from trainer.codecs.dense import Dense
from trainer.codecs.memory import EMPTY, Memory
from trainer.codecs.topk import TopK
from trainer.codecs.updates import SparseUpdate
from trainer.files import MemoryFiles
from trainer.optimizers import PICO
from trainer.sandbox import open_engine
from trainer.worker import run_worker

PATIENCE_SECONDS = 240
TENURE = 5
SHARE_PPM = 50_000
MOMENTUM = 9 * PICO // 10
FEEDBACK: Choice = (
    {"codec": {"topKFeedback": {"sharePpm": SHARE_PPM, "warmupRounds": 0, "momentum": MOMENTUM, "tenure": TENURE}}},
    {"rule": {"sgd": {"learningRate": PICO // 10, "momentum": 0}}},
)


@pytest.mark.slow
async def test_a_lost_memory_is_computed_again_and_a_worker_that_forgets_is_slashed(tmp_path: Path) -> None:
    lines: Lines = []
    tried: dict[str, tuple[int, int]] = {}
    with trio.fail_after(PATIENCE_SECONDS):
        async with network(tmp_path / "node", rounds=1000, choices=(FEEDBACK,)) as chain:
            async with trio.open_nursery() as nursery:
                await audit_and_aggregate(nursery, chain, tmp_path, lines)
                run = partial(run_worker, [chain.url], EVE, tmp_path / "eve", report=reporter(lines, "eve"), capacity=2)
                nursery.start_soon(run)
                # In the middle of a tenure the worker and an auditor lose what they kept.
                await chain.until(lambda modules: modules.training.tasks[0].round == TENURE - 2)
                for kept in [*tmp_path.glob("eve/memories/*"), *tmp_path.glob("auditor0/memories/*")]:
                    kept.unlink()
                await chain.until(lambda modules: modules.training.tasks[0].round == TENURE + 1)
                report = reporter(lines, "ferdie")
                nursery.start_soon(cheat, chain.url, FERDIE, tmp_path / "ferdie", ["forgetful"], tried, report)
                await chain.until(lambda modules: modules.training.workers[FERDIE.public].rejected)
                nursery.cancel_scope.cancel()
            honest, cheater = chain.modules(
                lambda modules: [modules.training.workers[key.public] for key in (EVE, FERDIE)]
            )
            said = await recomputed(chain, tmp_path / "here")

    assert (honest.rejected, cheater.rejected) == (0, 1)
    assert honest.accepted >= 2 * TENURE
    assert list(tried) == ["forgetful"]
    tolerance = Tolerance(510_000, 20)
    assert len(said) == TENURE
    for update, meant, gradient in said:
        assert audit.compare(update, meant, tolerance).right
        # What a worker says within a tenure is not what it found in this round alone.
        assert audit.compare(update, gradient, tolerance).right == (update is said[0][0])


async def recomputed(chain: Network, folder: Path) -> list[tuple[SparseUpdate, Float32s, Float32s]]:
    """For each round of slot 0's first tenure: what was said, what was to be said, and the gradient, computed here."""
    task, codec, (x, y) = small_task(), TopK(SHARE_PPM), training_rows()
    seed = chain.modules(lambda modules: modules.training.tasks[0].seed)
    theta, unsent, velocity = task.theta, np.zeros_like(task.theta), np.zeros_like(task.theta)
    found = []
    async with open_engine(folder) as engine:
        await engine.load(task.program_root, task.program, task.blobs[task.program_root])
        for round_ in range(TENURE):
            record = chain.modules(lambda modules, r=round_: modules.training.history[0, r])
            assert record.slots[0].worker == EVE.public
            size = task.program.batch
            rows = batches.permutation(batches.attempt_seed(seed, round_, record.attempt), len(y))[:size]
            values = (await engine.gradient(task.program_root, theta, x[rows].tobytes(), y[rows].tobytes())).values
            velocity = velocity * np.float32(0.9) + values
            unsent = unsent + velocity
            data = chain.node.blobs.get(record.slots[0].update_root)
            assert data is not None
            update = codec.decode(data, theta.size, round_)
            found.append((update, unsent, values))
            sent = update.scaled().astype(np.float32)
            unsent, velocity = unsent - sent, np.where(sent == 0, velocity, np.float32(0))
            made = chain.node.blobs.get(record.params_root)
            assert made is not None
            theta = optimizers.decode_params(made, theta.size)
    return found


def test_a_dense_codec_with_momentum_says_an_average_that_begins_at_zero() -> None:
    codec = Dense(8, PICO // 2, 4)
    gradients = [np.full(3, value, np.float32) for value in (8, 4, 2)]
    memory, said = EMPTY, []
    for gradient in gradients:
        taken = codec.take(memory, gradient)
        update = codec.quantise(taken.meant, 0)
        said.append(aggregate.mean([update]).tolist())
        memory = codec.give(taken, update)
    assert said == [[4] * 3, [4] * 3, [3] * 3]
    assert INT8.give(INT8.take(EMPTY, gradients[0]), update) == EMPTY


def test_a_memory_that_is_gone_or_damaged_is_none_and_later_ones_replace_it(tmp_path: Path) -> None:
    files, root = MemoryFiles(tmp_path / "memories"), blob_root(b"an update")
    memory = Memory(np.arange(5, dtype=np.float32), np.ones(5, np.float32))
    for round_ in range(3):
        files.put((7, round_, 0, 1), root, memory)
    kept = files.get((7, 2, 0, 1), root, 5)
    assert kept is not None
    assert kept.velocity is not None
    assert kept.meant.tolist() == [0, 1, 2, 3, 4]
    assert kept.velocity.tolist() == [1] * 5
    assert files.get((7, 0, 0, 1), root, 5) is None
    assert files.get((7, 2, 0, 0), root, 5) is None
    assert files.get((7, 2, 0, 1), root, 6) is None
    path = next((tmp_path / "memories").glob("7-2-*"))
    for data in (b"", path.read_bytes()[:-1], bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]):
        path.write_bytes(data)
        assert files.get((7, 2, 0, 1), root, 5) is None


def test_a_task_that_is_over_leaves_no_memory_behind(tmp_path: Path) -> None:
    files, root = MemoryFiles(tmp_path / "memories"), blob_root(b"an update")
    for task in (7, 71):
        files.put((task, 0, 0, 1), root, Memory(np.ones(5, np.float32)))
    files.forget(7)
    assert [path.name.split("-")[0] for path in (tmp_path / "memories").iterdir()] == ["71"]
