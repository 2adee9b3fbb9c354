"""A node whose every answer is waited for so long and no longer, and measured.

Rule: what is late is a NodeError that says what was waited for, so that whoever asked goes on and asks again at the
next head. The client underneath has bounds of its own for each request, with better reasons; these are for all of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

from chain.display import Token
from chain.primitives.hashing import Hash
from trainer.metrics import FETCH, UPLOAD, Meter
from trainer.node import Node, NodeError, Standing
from trainer.plants import PlantRules
from trainer.views import PastRound, RoundView, TaskView

# A handful of requests, of which each may take half a minute.
ASK_SECONDS = 90.0
# The client gives up a blob after three minutes; it may have to connect, and to hash 64 MiB on a busy machine.
BLOB_SECONDS = 210.0
# A transaction lives for 64 blocks, for which the client waits four minutes; before that it is signed with what the
# node says, behind those of the same account that are being signed.
TRANSACT_SECONDS = 420.0
# Blocks come every second. Where none has for so long, the chain stands, or the subscription is dead and the node has
# not noticed: a new one tells.
HEAD_SECONDS = 120.0


class MeasuredNode:
    """A node, bounded and measured; see `trainer.node.Node` for what each does."""

    def __init__(self, node: Node, meter: Meter) -> None:
        self._node = node
        self._meter = meter
        self.account = node.account

    async def task_ids(self) -> list[int]:
        with _within(ASK_SECONDS, "the list of tasks"):
            return await self._node.task_ids()

    async def task(self, task: int) -> TaskView:
        with _within(ASK_SECONDS, f"task {task}"):
            return await self._node.task(task)

    async def round(self, task: int) -> RoundView:
        with _within(ASK_SECONDS, f"the running round of task {task}"):
            return await self._node.round(task)

    async def past_round(self, task: int, number: int) -> PastRound:
        with _within(ASK_SECONDS, f"round {number} of task {task}"):
            return await self._node.past_round(task, number)

    async def worker_capacity(self) -> int:
        with _within(ASK_SECONDS, "the account's registration"):
            return await self._node.worker_capacity()

    async def is_paused(self, task: int) -> bool:
        with _within(ASK_SECONDS, f"who is paused for task {task}"):
            return await self._node.is_paused(task)

    async def is_aggregator(self) -> bool:
        with _within(ASK_SECONDS, "the account's registration"):
            return await self._node.is_aggregator()

    async def is_validator(self) -> bool:
        with _within(ASK_SECONDS, "the validator set"):
            return await self._node.is_validator()

    async def plant_rules(self) -> PlantRules:
        with _within(ASK_SECONDS, "the account's key for planted faults"):
            return await self._node.plant_rules()

    async def silo(self, task: int) -> tuple[int, int] | None:
        with _within(ASK_SECONDS, f"the account's part in task {task}"):
            return await self._node.silo(task)

    async def standing(self) -> Standing:
        with _within(ASK_SECONDS, "the account's bond and earnings"):
            return await self._node.standing()

    async def token(self) -> Token:
        with _within(ASK_SECONDS, "the chain's token"):
            return await self._node.token()

    async def transact(self, call: str, **arguments: object) -> str | None:
        with self._meter.stage(call.rpartition(".")[2]), _within(TRANSACT_SECONDS, f"{call} to become final"):
            return await self._node.transact(call, **arguments)

    async def get_blob(self, root: Hash, bytes_max: int) -> bytes:
        with self._meter.stage(FETCH), _within(BLOB_SECONDS, f"blob 0x{root.hex()}"):
            return await self._node.get_blob(root, bytes_max)

    async def get_chunks(self, root: Hash, first: int, count: int) -> tuple[int, bytes]:
        with self._meter.stage(FETCH), _within(BLOB_SECONDS, f"chunks of blob 0x{root.hex()}"):
            return await self._node.get_chunks(root, first, count)

    async def has_blob(self, root: Hash) -> bool:
        with _within(BLOB_SECONDS, f"whether there is blob 0x{root.hex()}"):
            return await self._node.has_blob(root)

    async def put_blob(self, data: bytes) -> Hash:
        with self._meter.stage(UPLOAD), _within(BLOB_SECONDS, f"a blob of {len(data):,} bytes to be stored"):
            return await self._node.put_blob(data)

    @asynccontextmanager
    async def heads(self) -> AsyncIterator[AsyncIterator[int]]:
        async with self._node.heads() as heads:
            yield _timely(heads)


async def _timely(heads: AsyncIterator[int]) -> AsyncIterator[int]:
    while True:
        with _within(HEAD_SECONDS, "the next final block"):
            try:
                height = await anext(heads)
            except StopAsyncIteration:
                return
        yield height


@contextmanager
def _within(seconds: float, what: str) -> Iterator[None]:
    """NodeError once it has taken so long."""
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise NodeError(
            f"waited {seconds:g} s for {what}, in vain: is the node overloaded, or the chain at rest?"
        ) from None
