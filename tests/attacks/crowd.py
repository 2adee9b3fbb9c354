"""One connection for a crowd: what one of many keys asked about a head, the others are told.

Rule: what is sent is each key's own; only what the chain says is shared, and forgotten at the next head.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import trio

from chain.primitives.keys import Keypair
from chain.rpc.client import Client
from trainer.node import RpcNode
from trainer.views import RoundView, TaskView

T = TypeVar("T")


class Crowd:
    """What was asked since the newest head."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._lock = trio.Lock()
        self._height = 0
        self._known: dict[Hashable, Any] = {}

    def advance(self, height: int) -> None:
        """Forget what is not of the newest head."""
        if height > self._height:
            self._height = height
            self._known.clear()

    async def once(self, what: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer to a question, asked by whoever comes first."""
        async with self._lock:
            if what not in self._known:
                height = self._height
                answer = await ask()
                if height != self._height:
                    return answer
                self._known[what] = answer
            return cast(T, self._known[what])


class CrowdNode(RpcNode):
    """The node as one of the crowd sees it."""

    def __init__(self, crowd: Crowd, keypair: Keypair) -> None:
        super().__init__(crowd.client, keypair)
        self._crowd = crowd

    async def task_ids(self) -> list[int]:
        return await self._crowd.once("tasks", super().task_ids)

    async def task(self, task: int) -> TaskView:
        ask = super().task
        return await self._crowd.once(("task", task), lambda: ask(task))

    async def round(self, task: int) -> RoundView:
        ask = super().round
        return await self._crowd.once(("round", task), lambda: ask(task))

    @asynccontextmanager
    async def heads(self) -> AsyncIterator[AsyncIterator[int]]:
        async with super().heads() as heads:
            yield self._noted(heads)

    async def _noted(self, heads: AsyncIterator[int]) -> AsyncIterator[int]:
        async for height in heads:
            self._crowd.advance(height)
            yield height
