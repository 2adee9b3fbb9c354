"""Following a chain: whatever a node could not do is tried again at the next head, and never ends the process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio

from chain.display import Token
from trainer.audit import Tolerance
from trainer.auditor import TaskAuditor
from trainer.codecs import INT8
from trainer.descent import Descent
from trainer.files import BlobFiles, MemoryFiles, PendingFiles
from trainer.follow import follow
from trainer.job import Job
from trainer.node import BlobMissing, Node, NodeError, Standing, TaskOver
from trainer.optimizers import Sgd
from trainer.plants import PlantRules
from trainer.robust import Mean
from trainer.sandbox import EngineCrashed, ProgramRefused, open_engine
from trainer.views import Claim, PastRound, RoundView, SlotView, TaskView
from trainer.worker import TaskWorker

SILENT = NodeError("ws://127.0.0.1:9944 was silent for too long while a blob was on its way")
TASK = TaskView(
    id=0,
    program_root=bytes(32),
    dataset_root=bytes(32),
    seed=bytes(32),
    claim=Claim(1, 1, 1),
    descent=Descent(Sgd(1, 0)),
    codec=INT8,
    local_steps=None,
    aggregation=Mean(),
    scored=None,
    slice_chunks=None,
    rounds=10,
    slots=2,
    tolerance=Tolerance(510_000, 20),
    audit_blocks=20,
    evaluate_rounds=1,
)


def round_view(phase: str) -> RoundView:
    return RoundView(
        round=0,
        attempt=0,
        phase=phase,
        opened_at=1,
        deadline=9,
        plant_beacon=None,
        is_agreed=False,
        params_root=bytes(32),
        optimizer_root=bytes(32),
        slots=(),
        attestations=(),
        aggregates=(),
    )


class Heads:
    """A node with one task, whose heads the test makes; it refuses to be followed as often as it is told to."""

    account = bytes(32)

    def __init__(self, *, refusals: int = 0) -> None:
        self.send, self._receive = trio.open_memory_channel[int](100)
        self.phase = "audit"
        self.over = False
        self.elected = True
        self._refusals = refusals

    async def task_ids(self) -> list[int]:
        return [0]

    async def task(self, task: int) -> TaskView:
        assert task == 0
        return TASK

    async def round(self, task: int) -> RoundView:
        assert task == 0
        if self.over:
            raise TaskOver("over before its first round")
        return round_view(self.phase)

    async def past_round(self, task: int, number: int) -> PastRound:
        raise AssertionError(f"nobody asks about round {number} of task {task}")

    @asynccontextmanager
    async def heads(self) -> AsyncIterator[AsyncIterator[int]]:
        if self._refusals:
            self._refusals -= 1
            raise NodeError("Too many subscriptions (code -32006)")
        yield self._receive

    async def worker_capacity(self) -> int:
        raise AssertionError("nobody asks")

    async def plant_rules(self) -> PlantRules:
        raise AssertionError("nobody asks")

    async def silo(self, task: int) -> tuple[int, int] | None:
        raise AssertionError(f"nobody asks about task {task}")

    async def is_paused(self, task: int) -> bool:
        raise AssertionError(f"nobody asks about task {task}")

    async def is_validator(self) -> bool:
        return self.elected

    async def standing(self) -> Standing:
        return Standing(0, 0, 0, 0)

    async def token(self) -> Token:
        return Token("POT", 12)

    async def is_aggregator(self) -> bool:
        raise AssertionError("nobody asks")

    async def transact(self, call: str, **arguments: object) -> str | None:
        raise AssertionError(f"nobody sends {call} {arguments}")

    async def get_blob(self, root: bytes, bytes_max: int) -> bytes:
        raise AssertionError(f"nobody asks for {bytes_max} bytes of {root.hex()}")

    async def get_chunks(self, root: bytes, first: int, count: int) -> tuple[int, bytes]:
        raise AssertionError(f"nobody asks for {count} chunks from {first} on of {root.hex()}")

    async def has_blob(self, root: bytes) -> bool:
        raise AssertionError(f"nobody asks for {root.hex()}")

    async def put_blob(self, data: bytes) -> bytes:
        raise AssertionError(f"nobody sends {len(data)} bytes")


class NoBlobs(Heads):
    """A node that has no blobs."""

    async def get_blob(self, root: bytes, bytes_max: int) -> bytes:
        raise BlobMissing(f"no {root.hex()} of up to {bytes_max} bytes")


class Troubled:
    """A servant that does several things at once at each step, all of which fail as the list says."""

    def __init__(self, failures: list[list[Exception]]) -> None:
        self.failures = failures
        self.steps: list[int] = []
        self.stepped = trio.Event()

    async def step(self, view: RoundView, height: int) -> None:
        assert view.phase == "audit"
        self.steps.append(height)
        self.stepped.set()
        self.stepped = trio.Event()
        if len(self.steps) <= len(self.failures):
            async with trio.open_nursery() as nursery:
                for failure in self.failures[len(self.steps) - 1]:
                    nursery.start_soon(_fail, failure)


async def _fail(error: Exception) -> None:
    raise error


async def serve(node: Heads, servant: Troubled, heights: int, lines: list[str]) -> None:
    """Follow the node over so many heads, one at a time, waiting for a step after each that comes."""
    seen: Node = node
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow, seen, lambda _: servant, lines.append)
        for height in range(1, heights + 1):
            stepped = servant.stepped
            await node.send.send(height)
            await stepped.wait()
        nursery.cancel_scope.cancel()


async def test_what_fails_among_things_done_at_once_is_tried_again_at_the_next_head(
    autojump_clock: trio.testing.MockClock,
) -> None:
    assert autojump_clock is not None
    lines: list[str] = []
    servant = Troubled([[SILENT], [SILENT, EngineCrashed("the engine died")], []])
    with trio.fail_after(60):
        await serve(Heads(), servant, 3, lines)
    assert servant.steps == [1, 2, 3]
    assert lines[0] == f"task 0: trying again at the next block: {SILENT}"


async def test_a_node_that_refuses_to_be_followed_is_asked_again(autojump_clock: trio.testing.MockClock) -> None:
    assert autojump_clock is not None
    lines: list[str] = []
    servant = Troubled([])
    with trio.fail_after(60):
        await serve(Heads(refusals=2), servant, 1, lines)
    assert servant.steps == [1]
    assert lines == ["cannot follow the chain, trying again: Too many subscriptions (code -32006)"] * 2


async def test_a_program_that_is_refused_among_other_trouble_is_left_alone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    assert autojump_clock is not None
    lines: list[str] = []
    servant = Troubled([[ProgramRefused("a custom call"), SILENT]])
    node = Heads()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow, node, lambda _: servant, lines.append)
            for height in range(1, 20):
                await node.send.send(height)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert len(servant.steps) == 1
    assert lines == ["task 0: refused, and left alone from now on: a custom call"]


async def test_what_a_task_used_is_released_when_it_is_over(autojump_clock: trio.testing.MockClock) -> None:
    assert autojump_clock is not None
    for over in (False, True):
        node, released = Heads(), trio.Event()
        lines: list[str] = []
        node.phase, node.over = "final", over

        async def release(task: int, released: trio.Event = released) -> None:
            assert task == 0
            released.set()

        seen: Node = node
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(follow, seen, lambda _: Troubled([]), lines.append, release=release))
                await node.send.send(1)
                await released.wait()
                nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("phase", "over", "trouble", "kept"),
    [
        ("final", False, [], False),
        # Cancelled before its first round.
        ("final", True, [], True),
        # What was committed to can be revealed by the next start.
        ("audit", False, [[ProgramRefused("a custom call")]], True),
    ],
    ids=["complete", "cancelled", "refused"],
)
async def test_what_is_kept_of_a_task_goes_when_it_is_complete_and_not_before(
    phase: str, over: bool, trouble: list[list[Exception]], kept: bool
) -> None:
    node, forgotten = Heads(), list[int]()
    node.phase, node.over = phase, over
    released = trio.Event()

    async def release(_: int) -> None:
        released.set()

    lines: list[str] = []
    served: Node = node
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            following = partial(
                follow, served, lambda _: Troubled(trouble), lines.append, release=release, forget=forgotten.append
            )
            nursery.start_soon(following)
            await node.send.send(1)
            await released.wait()
            # A thread that has begun is waited for.
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert forgotten == ([] if kept else [0])


async def test_a_mistake_of_ours_is_not_tried_again(autojump_clock: trio.testing.MockClock) -> None:
    assert autojump_clock is not None
    with trio.fail_after(60), pytest.RaisesGroup(pytest.RaisesExc(KeyError), flatten_subgroups=True):
        await serve(Heads(), Troubled([[KeyError("slot")]]), 2, [])


async def test_an_auditor_outside_the_validator_set_waits_until_it_is_elected(tmp_path: Path) -> None:
    """What it said would fail, and cost it a fee in every block."""
    node, lines = NoBlobs(), list[str]()
    node.elected = False
    async with open_engine(tmp_path) as engine:
        job = Job(TASK, node, BlobFiles(tmp_path / "blobs"), MemoryFiles(tmp_path / "memories"))
        auditor = TaskAuditor(TASK, node, engine, job, lines.append)
        for height in (1, 2):
            with suppress(BlobMissing):  # It prepares itself meanwhile, and asks for the program.
                await auditor.step(round_view("audit"), height)
    assert lines == ["task 0 round 0: this account is not in the validator set: waits until it is elected"]


class Discards(Heads):
    """A node whose round ahead was thrown away: the round after the running one begins anew."""

    async def round(self, task: int) -> RoundView:
        return replace(round_view("commit"), round=1, attempt=1)


async def test_nothing_is_computed_for_or_sent_to_a_round_that_was_thrown_away(tmp_path: Path) -> None:
    node: Node = Discards()
    before = PastRound(0, 0, bytes(32), {})
    async with open_engine(tmp_path) as engine:
        job = Job(TASK, node, BlobFiles(tmp_path / "blobs"), MemoryFiles(tmp_path / "memories"))
        worker = TaskWorker(TASK, node, engine, job, PendingFiles(tmp_path / "pending"), print)
        slots = (SlotView(node.account, None, None, (), challenged=False, planted=False, weight=1),)
        ahead = replace(round_view("commit"), round=1, slots=slots, before=before)
        await worker.step(replace(round_view("audit"), ahead=ahead), 1)
        assert list((tmp_path / "pending").iterdir()) == []


class DiscardsLater(Heads):
    """A node whose round ahead is thrown away when the test says so."""

    def __init__(self, ahead: RoundView) -> None:
        super().__init__()
        self.view = replace(round_view("audit"), ahead=ahead)

    async def round(self, task: int) -> RoundView:
        return self.view


async def test_a_slot_that_waits_for_a_device_is_not_computed_for_a_round_that_was_thrown_away(tmp_path: Path) -> None:
    mine = SlotView(bytes(32), None, None, (), challenged=False, planted=False, weight=1)
    ahead = replace(round_view("commit"), round=1, slots=(mine,) * 3, before=PastRound(0, 0, bytes(32), {}))
    node, computed, lines = DiscardsLater(ahead), list[int](), list[str]()

    class Told(TaskWorker):
        """Hears of the end while it computes the first of its slots."""

        async def contribution(self, view: RoundView, slot: int) -> bytes:
            computed.append(slot)
            await trio.testing.wait_all_tasks_blocked()
            node.view = replace(node.view, ahead=None)
            return b"update"

    async with open_engine(tmp_path) as engine:
        job = Job(TASK, node, BlobFiles(tmp_path / "blobs"), MemoryFiles(tmp_path / "memories"))
        worker = Told(TASK, node, engine, job, PendingFiles(tmp_path / "pending"), lines.append)
        await worker.step(node.view, 1)
    assert len(computed) == 1
    assert len(lines) == 3
    assert all("the round is thrown away" in line for line in lines)
