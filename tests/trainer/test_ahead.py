"""Two rounds at once, with real workers and auditors: trained while the one before is audited, kept or thrown away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from chain.primitives.blob import blob_root
from chain.primitives.keys import Keypair
from runtime.modules.training import Training
from runtime.modules.training_types import RoundState
from tests.trainer.cheats import Cheat
from tests.trainer.kit import small_task
from tests.trainer.network import EVE, FERDIE, VALIDATORS, Choice, Lines, Network, network, one_engine, reporter
from trainer import aggregate, optimizers
from trainer.auditor import attend
from trainer.codecs import INT8
from trainer.node import Node, RpcNode, open_node
from trainer.optimizers import FRESH, PICO, Sgd
from trainer.sandbox import Engines
from trainer.worker import MakeServant, work

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 240
RATE = PICO // 10
PLAIN_SGD: Choice = ({}, {"rule": {"sgd": {"learningRate": RATE, "momentum": 0}}})
# What an auditor says once it has recomputed what it was drawn for.
VERDICTS = ("training.attest", "training.challenge")


class Slow:
    """An auditor's node that passes verdicts on only when it may: as if it took so long to recompute a round."""

    def __init__(self, node: RpcNode, may: Callable[[], Awaitable[object]]) -> None:
        self._node = node
        self._may = may

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    async def transact(self, call: str, **arguments: object) -> str | None:
        if call in VERDICTS:
            await self._may()
        return await self._node.transact(call, **arguments)


def is_all(ahead: RoundState | None, field: str) -> bool:
    """Whether there is a round ahead, all of whose slots are committed to or revealed."""
    return ahead is not None and all(getattr(slot, field) is not None for slot in ahead.slots)


@asynccontextmanager
async def life(
    folder: Path,
    lines: Lines,
    may: Callable[[Network], Awaitable[object]],
    *,
    rounds: int,
    workers: Sequence[tuple[Keypair, MakeServant | None]],
) -> AsyncIterator[Network]:
    """A chain, its auditors and workers from one start to the next."""
    async with (
        network(folder / "node", rounds=rounds, choices=[PLAIN_SGD]) as chain,
        one_engine(folder) as engines,
        trio.open_nursery() as nursery,
    ):
        for index, keys in enumerate(VALIDATORS):
            name = f"auditor {index}"
            nursery.start_soon(audits, chain, keys.account, engines, folder / name, reporter(lines, name), may)
        for key, servant in workers:
            name = key.public.hex()[:8]
            nursery.start_soon(works, chain, key, engines, folder / name, reporter(lines, name), servant)
        yield chain
        nursery.cancel_scope.cancel()


async def audits(
    chain: Network,
    key: Keypair,
    engines: Engines,
    folder: Path,
    report: Callable[[str], None],
    may: Callable[[Network], Awaitable[object]],
) -> None:
    async with open_node([chain.url], key) as node:
        slow: Node = Slow(node, partial(may, chain))
        await attend(slow, engines, folder, report=report)


async def works(
    chain: Network,
    key: Keypair,
    engines: Engines,
    folder: Path,
    report: Callable[[str], None],
    servant: MakeServant | None,
) -> None:
    if servant is not None:  # A cheat comes where others have a slot beside it.
        await chain.until(lambda modules: modules.training.tasks[0].round)
    async with open_node([chain.url], key) as node:
        await work(node, engines, folder, report=report, capacity=1, servant=servant)


async def test_a_round_ahead_outlives_the_end_of_every_process_and_is_kept(tmp_path: Path) -> None:
    lines: Lines = []
    rounds = 3

    async def never(chain: Network) -> None:
        await trio.sleep_forever()

    async def at_once(chain: Network) -> None:
        pass

    with trio.fail_after(PATIENCE_SECONDS):
        async with life(tmp_path, lines, never, rounds=rounds, workers=[(EVE, None)]) as chain:
            await chain.until(lambda modules: is_all(modules.training.rounds_ahead.get(0), "commitment"))
            before = chain.modules(lambda modules: modules.training.rounds_ahead[0])
            assert chain.modules(lambda modules: modules.training.tasks[0].round) == 0
        async with life(tmp_path, lines, at_once, rounds=rounds, workers=[(EVE, None)]) as chain:
            await chain.until(lambda modules: modules.training.tasks[0].round == rounds)
            history = [chain.modules(lambda modules, r=r: modules.training.history[0, r]) for r in range(rounds)]
            worker = chain.modules(lambda modules: modules.training.workers[EVE.public])

    assert all(slot.accepted for record in history for slot in record.slots)
    assert [record.attempt for record in history] == [0] * rounds
    assert before.opened_at < history[0].finalised_at
    assert not chain.told(Training.RoundDiscarded)
    # What was committed to before the end was revealed after it.
    assert worker.accepted == sum(len(record.slots) for record in history)
    assert (worker.rejected, worker.bond) == (0, 100 * 10**12)


async def test_a_cheat_s_sum_is_built_upon_and_thrown_away_and_the_model_is_the_one_without_it(tmp_path: Path) -> None:
    lines: Lines = []
    tried: dict[str, tuple[int, int]] = {}

    async def once_built_upon(chain: Network) -> None:
        """Not before the round ahead is all revealed, where there is going to be one."""
        await chain.until(
            lambda modules: (
                modules.training.tasks[0].round + 1 >= modules.training.tasks[0].rounds
                or is_all(modules.training.rounds_ahead.get(0), "update_root")
                or any(slot.challenged for slot in modules.training.rounds[0].slots)
            )
        )

    servant = partial(Cheat, kinds=["scaled"], tried=tried)
    workers: list[tuple[Keypair, MakeServant | None]] = [(EVE, None), (FERDIE, servant)]
    with trio.fail_after(PATIENCE_SECONDS):
        async with life(tmp_path, lines, once_built_upon, rounds=1000, workers=workers) as chain:
            await chain.until(lambda modules: modules.training.workers[FERDIE.public].rejected)
            ((round_, attempt),) = tried.values()
            await chain.until(lambda modules: modules.training.tasks[0].round >= round_ + 2)
            record, after = (
                chain.modules(lambda modules, r=r: modules.training.history[0, r]) for r in (round_, round_ + 1)
            )
            start = chain.node.blobs.get(
                chain.modules(lambda modules: modules.training.history[0, round_ - 1].params_root)
            )
            updates = [chain.node.blobs.get(slot.update_root) for slot in record.slots if slot.accepted]
            eve, ferdie = chain.modules(lambda modules: [modules.training.workers[key.public] for key in (EVE, FERDIE)])

    assert record.attempt == attempt
    assert {slot.worker: slot.accepted for slot in record.slots} == {EVE.public: True, FERDIE.public: False}
    size = small_task().theta.size
    assert start is not None
    theta = optimizers.decode_params(start, size)
    mean = aggregate.mean([INT8.decode(update or b"", size, round_) for update in updates])
    theta, _ = optimizers.step(Sgd(RATE, 0), FRESH, theta, mean)
    assert blob_root(optimizers.encode_params(theta)) == record.params_root
    # The next round had begun from another model, was thrown away, and began anew.
    discarded = chain.told(Training.RoundDiscarded)
    assert discarded == [Training.RoundDiscarded(0, round_ + 1, 0)]
    assert (after.attempt, all(slot.accepted for slot in after.slots)) == (1, True)
    slashed = [event.worker for event in chain.told(Training.WorkerSlashed)]
    assert slashed == [FERDIE.public]
    assert (eve.rejected, eve.bond, ferdie.rejected) == (0, 100 * 10**12, 1)
    assert not chain.told(Training.WorkerPaused)
