"""One WebSocket connection's subscriptions and outbox: bounded, so that a slow client costs itself its connection."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing

import trio

from chain.pace import Turns
from chain.pile import Share
from chain.rpc import protocol
from chain.rpc.broadcast import Lagged
from chain.rpc.errors import Code, RpcError
from chain.rpc.params import quote
from chain.rpc.protocol import Limits

Opener = Callable[[], AbstractAsyncContextManager[AsyncGenerator[object]]]


class SlowClient(Exception):
    """The client does not take what it asked for; the message says how much waits."""


class Outbox:
    """Texts that wait to be sent to one client, in order."""

    def __init__(self, limits: Limits, share: Share) -> None:
        self._texts: deque[str] = deque()
        self._bytes = 0
        self._sending = 0
        self._limits = limits
        self._share = share
        self._changed = trio.Event()
        self._room = trio.Event()

    def push(self, text: str) -> None:
        """Queue one text; raises `SlowClient` when too much waits already."""
        self._texts.append(text)
        self._bytes += len(text)
        self._share.grow(len(text))
        limits = self._limits
        # One text alone always fits: the largest answer is bounded on its own.
        if len(self._texts) > limits.outbox_messages_max or (
            len(self._texts) > 1 and self._bytes > limits.outbox_bytes_max
        ):
            raise SlowClient(f"{len(self._texts)} messages ({self._bytes} bytes) wait unread")
        self._changed.set()

    async def put(self, text: str) -> None:
        """Queue one text once there is room: whoever asks faster than it reads is answered at its own pace."""
        while len(self._texts) >= self._limits.outbox_messages_max // 2 or (
            self._texts and self._bytes + len(text) > self._limits.outbox_bytes_max // 2
        ):
            self._room = trio.Event()
            await self._room.wait()
        self.push(text)

    async def next(self) -> str:
        """The next text to send; asking for it says that the one before was taken."""
        self._share.grow(-self._sending)
        self._sending = 0
        while not self._texts:
            self._changed = trio.Event()
            await self._changed.wait()
        text = self._texts.popleft()
        self._bytes -= len(text)
        self._sending = len(text)
        self._room.set()
        return text


class Places:
    """What the sessions of a server share: how many subscriptions there are, and the turns in which they speak."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.taken = 0


class Session:
    """The subscriptions of one connection; each is a task that pushes into the connection's outbox."""

    def __init__(self, nursery: trio.Nursery, outbox: Outbox, limits: Limits, places: Places) -> None:
        self._nursery = nursery
        self._outbox = outbox
        self._limits = limits
        self._places = places
        self._scopes: dict[str, trio.CancelScope] = {}
        self._answered = trio.Event()
        self.slow: str | None = None

    def answered(self) -> None:
        """The answer that carries the new subscriptions' ids is on its way: their items may follow."""
        self._answered.set()
        self._answered = trio.Event()

    def cut_off(self) -> None:
        """End the connection: of all that waits for clients to read, most waits for this one."""
        self.slow = "too much waits unread here while others wait for memory"
        self._nursery.cancel_scope.cancel()

    async def subscribe(self, notification: str, opener: Opener) -> str:
        """Open a subscription; its id. Raises `RpcError` when it is refused."""
        if len(self._scopes) >= self._limits.subscriptions_max:
            reason = (
                f"this connection has {len(self._scopes)}, at most {self._limits.subscriptions_max}: end some first"
            )
            raise RpcError(Code.TOO_MANY_SUBSCRIPTIONS, "Too many subscriptions on the connection", reason)
        if self._places.taken >= self._limits.subscriptions_total_max:
            reason = (
                f"all connections together have {self._places.taken}, the most that this node serves: try again later"
            )
            raise RpcError(Code.TOO_MANY_SUBSCRIPTIONS, "Too many subscriptions", reason)
        number = secrets.token_urlsafe(12)
        scope = self._scopes[number] = trio.CancelScope()
        refused = await self._nursery.start(self._run, number, scope, notification, opener)
        if refused is not None:
            raise refused
        return number

    def unsubscribe(self, number: object) -> bool:
        """End a subscription; whether there was one."""
        if not isinstance(number, str | int):
            raise RpcError(Code.INVALID_PARAMS, "Invalid params", f"expected a subscription id, got {quote(number)}")
        scope = self._scopes.pop(str(number), None)
        if scope is None:
            return False
        scope.cancel()
        return True

    async def _run(
        self,
        number: str,
        scope: trio.CancelScope,
        notification: str,
        opener: Opener,
        task_status: trio.TaskStatus[RpcError | None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        started = False
        self._places.taken += 1
        try:
            with scope:
                async with opener() as items, aclosing(items):
                    answered = self._answered
                    task_status.started(None)
                    started = True
                    await answered.wait()
                    async for item in items:
                        await self._places.turns.take()
                        self._outbox.push(protocol.notification(notification, number, item))
        except RpcError as error:
            if not started:
                task_status.started(error)
        except (SlowClient, Lagged) as error:
            self.slow = f"slow subscriber: {error}"
            self._nursery.cancel_scope.cancel()
        finally:
            self._places.taken -= 1
            self._scopes.pop(number, None)
