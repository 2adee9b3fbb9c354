"""What a worker says and measures of itself: lines for what changed in the books of the chain, and its metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from chain.display import Progress, Token
from tests.scrape import read
from tests.trainer.kit import BATCH
from tests.trainer.network import AGGREGATOR, EVE, VALIDATORS, OneEngine, network, one_engine, reporter
from trainer.aggregator import run_aggregator
from trainer.auditor import attend
from trainer.measured import ASK_SECONDS, BLOB_SECONDS, HEAD_SECONDS, TRANSACT_SECONDS, MeasuredNode
from trainer.metrics import COMPUTE, Meter
from trainer.node import NodeError, Standing, open_node
from trainer.sandbox import Deadlines
from trainer.status import line, show, waits_for
from trainer.worker import work

POT = Token("POT", 12)


def test_a_line_says_what_was_earned_and_judged_and_how_fast_it_went() -> None:
    before = Standing(bond=400 * 10**12, accepted=7, rejected=0, earned=10 * 10**12)
    after = Standing(bond=340 * 10**12, accepted=8, rejected=1, earned=12_500_000_000_000)
    assert line(before, after, POT, 1234.5, ("cpu", "cpu"), "slots to be drawn for") == (
        "earned 12.5 POT (+2.5 POT), bonded 340 POT (-60 POT); 8 slots accepted, 1 rejected; "
        "1,234 samples/s on 2 × cpu; waits for slots to be drawn for"
    )
    validator = Standing(bond=0, accepted=0, rejected=0, earned=10 * 10**12)
    assert line(validator, validator, POT, 0.0, (), "a round to audit") == "earned 10 POT; waits for a round to audit"


def test_what_a_process_waits_for_is_the_furthest_that_is_under_way() -> None:
    meter = Meter()
    assert waits_for(meter) == "slots to be drawn for"
    with meter.stage(COMPUTE):
        assert waits_for(meter) == "its own computing"
        with meter.stage("commit"):
            assert waits_for(meter) == "its commitments to be final"
    assert waits_for(Meter("auditor")) == "a round to audit"


class Watched(Progress):
    """A terminal whose last line is remembered."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[str] = []

    def show(self, text: str) -> None:
        self.shown.append(text)


async def test_who_watches_sees_what_is_waited_for_and_since_when(autojump_clock: trio.testing.MockClock) -> None:
    meter, progress = Meter(), Watched()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(show, meter, progress)
        await trio.sleep(2.5)
        with meter.stage(COMPUTE):
            meter.computed(1_000)
            await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert progress.shown == [
        "waits for slots to be drawn for, 0 s; 0 samples computed",
        "waits for slots to be drawn for, 1 s; 0 samples computed",
        "waits for its own computing, 0 s; 1,000 samples computed",
    ]


async def test_a_bond_that_shrinks_and_a_part_of_the_work_that_fails_are_counted() -> None:
    meter = Meter()
    for bond in (400, 340, 400):
        meter.stands(Standing(bond, 0, 0, 0), 5)
    with pytest.raises(NodeError), meter.stage("commit"):
        raise NodeError
    found = read(await meter.scrape())
    assert found["potchain_worker_slashed_planck_total", frozenset()] == 60
    assert found["potchain_worker_bonded_planck", frozenset()] == 400
    assert found["potchain_worker_height", frozenset()] == 5
    commit = frozenset({("stage", "commit")})
    assert found["potchain_worker_stage_failures_total", commit] == 1
    assert found["potchain_worker_stage_seconds_count", commit] == 1
    assert found["potchain_worker_stages_running", commit] == 0


class NoHeads:
    """A subscription that nothing ever comes on."""

    def __aiter__(self) -> AsyncIterator[int]:
        return self

    async def __anext__(self) -> int:
        await trio.sleep_forever()


class Hangs:
    """A node that takes every question and answers none."""

    account = bytes(32)

    def __getattr__(self, name: str) -> Any:
        async def never(*_: object, **__: object) -> None:
            await trio.sleep_forever()

        return never

    @asynccontextmanager
    async def heads(self) -> AsyncIterator[AsyncIterator[int]]:
        yield NoHeads()


@pytest.mark.parametrize(
    ("ask", "seconds", "waited_for"),
    [
        (lambda node: node.task_ids(), ASK_SECONDS, "the list of tasks"),
        (lambda node: node.task(3), ASK_SECONDS, "task 3"),
        (lambda node: node.round(3), ASK_SECONDS, "the running round of task 3"),
        (lambda node: node.past_round(3, 7), ASK_SECONDS, "round 7 of task 3"),
        (lambda node: node.worker_capacity(), ASK_SECONDS, "the account's registration"),
        (lambda node: node.is_paused(3), ASK_SECONDS, "who is paused for task 3"),
        (lambda node: node.is_aggregator(), ASK_SECONDS, "the account's registration"),
        (lambda node: node.is_validator(), ASK_SECONDS, "the validator set"),
        (lambda node: node.silo(3), ASK_SECONDS, "the account's part in task 3"),
        (lambda node: node.standing(), ASK_SECONDS, "the account's bond and earnings"),
        (lambda node: node.token(), ASK_SECONDS, "the chain's token"),
        (lambda node: node.transact("training.commit"), TRANSACT_SECONDS, "training.commit to become final"),
        (lambda node: node.get_blob(bytes(32), 9), BLOB_SECONDS, "blob 0x0000"),
        (lambda node: node.has_blob(bytes(32)), BLOB_SECONDS, "whether there is blob 0x0000"),
        (lambda node: node.put_blob(bytes(4096)), BLOB_SECONDS, "a blob of 4,096 bytes to be stored"),
        (lambda node: _next_head(node), HEAD_SECONDS, "the next final block"),
    ],
)
async def test_whatever_a_node_does_not_answer_is_given_up_with_its_name(
    ask: Any, seconds: float, waited_for: str, autojump_clock: trio.testing.MockClock
) -> None:
    node, begun = MeasuredNode(Hangs(), Meter()), trio.current_time()
    with pytest.raises(NodeError, match=f"waited {seconds:g} s for {waited_for}.*, in vain: is the node overloaded"):
        await ask(node)
    assert trio.current_time() - begun == seconds


async def _next_head(node: MeasuredNode) -> int:
    async with node.heads() as heads:
        return await anext(heads)


def test_nothing_that_a_node_is_asked_is_left_without_a_bound() -> None:
    from trainer.node import Node

    questions = {name for name in vars(Node) if not name.startswith("_")} - {"account"}
    assert questions == {name for name in vars(MeasuredNode) if not name.startswith("_")}


@pytest.mark.slow
async def test_a_workers_metrics_and_line_say_what_the_chain_says_of_it(tmp_path: Path) -> None:
    lines: list[str] = []
    with trio.fail_after(90):
        async with (
            network(tmp_path, rounds=2) as chain,
            one_engine(tmp_path) as engines,
            open_node([chain.url], EVE) as eve,
            trio.open_nursery() as nursery,
        ):
            meter = engines.meter
            await engines.require_devices()
            # The auditors compute in the same child, and have books of their own.
            others = OneEngine(tmp_path / "engine", "cpu", Deadlines(), print, meter=Meter("auditor"))
            others._engines = engines._engines
            for keys in VALIDATORS:
                node = await nursery.start(_opened, chain.url, keys.account)
                audits = partial(
                    attend, node, engines, tmp_path / node.account.hex(), report=reporter(lines, "auditor")
                )
                nursery.start_soon(audits)
            aggregates = partial(run_aggregator, [chain.url], AGGREGATOR, tmp_path / "sum", report=print)
            nursery.start_soon(aggregates)
            node = MeasuredNode(eve, meter)
            nursery.start_soon(
                partial(work, node, engines, tmp_path / "eve", report=reporter(lines, "eve"), capacity=4)
            )
            await chain.until(lambda chain: chain.training.tasks[0].round == 2)
            told = await node.standing()
            while meter.standing != told:
                await trio.sleep(0.05)
            found = read(await meter.scrape())
            nursery.cancel_scope.cancel()
    books = told
    assert (books.accepted, books.rejected) == (4, 0)
    assert books.earned > 0
    plain = {name: value for (name, labels), value in found.items() if not labels}
    assert plain["potchain_worker_earned_planck"] == books.earned
    assert plain["potchain_worker_bonded_planck"] == books.bond
    assert found["potchain_worker_slots_judged", frozenset({("outcome", "accepted")})] == 4
    # Two rounds of two slots, each computed by the worker and by an auditor, whose engine is the same here.
    assert plain["potchain_worker_samples_total"] >= 4 * BATCH
    assert plain["potchain_worker_engine_starts"] == 1
    for stage in ("fetch", "compute", "encode", "upload", "commit", "reveal"):
        assert found["potchain_worker_stage_seconds_count", frozenset({("stage", stage)})] >= 1
    assert any(" POT), bonded " in each and "slots accepted, 0 rejected; " in each for each in lines)


async def _opened(url: str, key: Any, task_status: trio.TaskStatus[Any]) -> None:
    async with open_node([url], key) as node:
        task_status.started(node)
        await trio.sleep_forever()
