"""A raw WebSocket to a node: what is asked, and everything that comes, in the order in which it came."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from trio_websocket import WebSocketConnection, open_websocket_url

from tests.rpc.kit import Served

SECONDS_MAX = 60.0


class Line:
    """One connection."""

    def __init__(self, connection: WebSocketConnection) -> None:
        self._connection = connection
        self._notes: deque[dict[str, Any]] = deque()

    async def send(self, *calls: tuple[str, list[Any] | dict[str, Any]]) -> None:
        """Send calls, each a method and its parameters, as one batch; do not wait."""
        batch = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            for number, (method, params) in enumerate(calls)
        ]
        await self._connection.send_message(json.dumps(batch))

    async def answers(self) -> list[Any]:
        """The results of the batch that was sent last; an error as its code."""
        with trio.fail_after(SECONDS_MAX):
            while isinstance(message := json.loads(await self._connection.get_message()), dict):
                self._notes.append(message)
        return [answer["error"]["code"] if "error" in answer else answer["result"] for answer in message]

    async def batch(self, *calls: tuple[Any, ...]) -> list[Any]:
        """The answers to calls, each a method and its parameters, that are sent as one batch."""
        await self.send(*((method, params) for method, *params in calls))
        return await self.answers()

    async def ask(self, method: str, *params: Any, **named: Any) -> Any:
        """A result, or the code of an error."""
        await self.send((method, named or list(params)))
        (answer,) = await self.answers()
        return answer

    async def any_note(self) -> tuple[str, Any]:
        """The next notification, with the subscription that it belongs to."""
        if not self._notes:
            with trio.fail_after(SECONDS_MAX):
                self._notes.append(json.loads(await self._connection.get_message()))
        params = self._notes.popleft()["params"]
        return params["subscription"], params["result"]

    async def note(self, subscription: str) -> Any:
        """The next notification, which belongs to the subscription."""
        found, result = await self.any_note()
        assert found == subscription
        return result

    async def notes(self, subscription: str, count: int) -> list[Any]:
        """The next notifications."""
        return [await self.note(subscription) for _ in range(count)]

    async def is_quiet(self) -> bool:
        """Whether nothing has come but what was asked for: what the node sent before this answer is here before it."""
        assert await self.ask("system_name") == "potchain"
        return not self._notes

    async def hang_up(self) -> None:
        """End it in the middle of whatever happens."""
        await trio.aclose_forcefully(self._connection._stream)


@asynccontextmanager
async def line(it: Served) -> AsyncIterator[Line]:
    """A connection for as long as the scope lasts."""
    async with open_websocket_url(it.url, max_message_size=32 << 20) as connection:
        one = Line(connection)
        try:
            yield one
        finally:
            await one.hang_up()
