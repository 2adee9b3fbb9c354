"""One WebSocket connection's subscriptions and outbox: bounded, so that a slow client costs itself its connection."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field
from typing import TypeVar

import trio

from chain.pace import Turns
from chain.pile import Share
from chain.rpc import protocol
from chain.rpc.broadcast import Lagged
from chain.rpc.errors import Code, RpcError
from chain.rpc.params import quote
from chain.rpc.protocol import Limits
from chain.rpc.registry import Allowance, Dialogue, Items, Pace, Reader, Terms

Opener = Callable[[], AbstractAsyncContextManager[Items]]
D = TypeVar("D", bound=Dialogue)


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
            if self._room.is_set():
                self._room = trio.Event()
            await self._room.wait()
        self.push(text)

    def hold(self, count: int) -> None:
        """So many bytes more are in memory for the client, or fewer, beside what waits here."""
        self._share.grow(count)

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


class Underway:
    """How many calls of one connection are being answered at the same time; one task waits for them."""

    def __init__(self) -> None:
        self._count = 0
        self._fewer = trio.Event()

    def begin(self) -> None:
        """One more."""
        self._count += 1

    def end(self) -> None:
        """One less."""
        self._count -= 1
        self._fewer.set()

    async def at_most(self, count: int) -> None:
        """Return when no more than so many are left."""
        while self._count > count:
            self._fewer = trio.Event()
            await self._fewer.wait()


class Places:
    """What the connections of a server share: how many subscriptions there are, and the turns in which they speak."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.taken = 0


@dataclass(slots=True)
class _Open:
    """One subscription."""

    terms: Terms
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    items: Items | None = None


class Connection:
    """The subscriptions of one connection; each is a task that pushes into the connection's outbox."""

    def __init__(self, nursery: trio.Nursery, outbox: Outbox, limits: Limits, places: Places) -> None:
        self._nursery = nursery
        self._outbox = outbox
        self._limits = limits
        self._places = places
        self._open: dict[str, _Open] = {}
        self._after_answer: list[Callable[[], None]] = []
        self._allowance = Allowance(outbox.hold, trio.Lock())
        self._paging = trio.Lock()
        self.slow: str | None = None

    def answered(self) -> None:
        """The answer that carries new ids is on its way: what is sent under them may follow."""
        waiting, self._after_answer = self._after_answer, []
        for follow_up in waiting:
            follow_up()

    def cut_off(self) -> None:
        """End the connection: of all that waits for clients to read, most waits for this one."""
        self.slow = "too much waits unread here while others wait for memory"
        self._nursery.cancel_scope.cancel()

    async def subscribe(self, terms: Terms, opener: Opener, held_bytes: int) -> str | None:
        """Open a subscription, which holds so much of its request; its id, or None where the terms say so.

        Raises `RpcError` when it is refused.
        """
        if terms.most is not None and self._count(terms) >= terms.most:
            if terms.full is None:
                return None
            raise terms.full()
        if len(self._open) >= self._limits.subscriptions_max:
            reason = f"this connection has {len(self._open)}, at most {self._limits.subscriptions_max}: end some first"
            raise RpcError(Code.TOO_MANY_SUBSCRIPTIONS, "Too many subscriptions on the connection", reason)
        if self._places.taken >= self._limits.subscriptions_total_max:
            reason = (
                f"all connections together have {self._places.taken}, the most that this node serves: try again later"
            )
            raise RpcError(Code.TOO_MANY_SUBSCRIPTIONS, "Too many subscriptions", reason)
        number = secrets.token_urlsafe(12)
        refused = await self._nursery.start(self._run, number, terms, opener, held_bytes)
        if refused is not None:
            raise refused
        return number

    def _count(self, terms: Terms) -> int:
        return sum(each.terms is terms for each in self._open.values())

    async def _send(self, terms: Terms, number: str, item: object) -> None:
        await self._places.turns.take()
        text = protocol.notification(terms.notification, number, item)
        if terms.pace is Pace.LIVE:
            self._outbox.push(text)
        else:
            await self._outbox.put(text)

    async def _send_pages(self, terms: Terms, number: str, pages: Items) -> None:
        """One page in memory for all of the connection's paged subscriptions."""
        while True:
            async with self._paging:
                async with self._allowance.reading:
                    page = await anext(pages, None)
                if page is None:
                    return
                assert isinstance(page, list)
                for item in page:
                    await self._send(terms, number, item)

    def unsubscribe(self, notification: str, number: object) -> bool:
        """End a subscription whose items go out under `notification`; whether there was one."""
        if not isinstance(number, str | int):
            raise RpcError(Code.INVALID_PARAMS, "Invalid params", f"expected a subscription id, got {quote(number)}")
        found = self._open.get(str(number))
        if found is None or found.terms.notification != notification:
            return False
        del self._open[str(number)]
        found.scope.cancel()
        return True

    def dialogue(self, of: type[D], number: str) -> D | None:
        """The open subscription of this id and kind, for a method to act on; it will hear when that is answered."""
        found = self._open.get(number)
        if found is None or not isinstance(found.items, of):
            return None
        self._after_answer.append(found.items.answered)
        return found.items

    async def _run(
        self,
        number: str,
        terms: Terms,
        opener: Opener,
        held_bytes: int,
        task_status: trio.TaskStatus[RpcError | None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        started = False
        here = self._open[number] = _Open(terms)
        self._places.taken += 1
        self._outbox.hold(held_bytes)
        try:
            with here.scope:
                async with opener() as items, aclosing(items):
                    here.items = items
                    if isinstance(items, Reader):
                        items.allowance = self._allowance
                    answered = trio.Event()
                    self._after_answer.append(answered.set)
                    task_status.started(None)
                    started = True
                    await answered.wait()
                    if terms.pace is Pace.PAGED:
                        await self._send_pages(terms, number, items)
                    else:
                        async for item in items:
                            await self._send(terms, number, item)
        except RpcError as error:
            if not started:
                task_status.started(error)
                return
            self.slow = f"subscription {number} cannot go on: {error}"
            self._nursery.cancel_scope.cancel()
        except (SlowClient, Lagged) as error:
            self.slow = f"slow subscriber: {error}"
            self._nursery.cancel_scope.cancel()
        finally:
            self._outbox.hold(-held_bytes)
            self._places.taken -= 1
            self._open.pop(number, None)
