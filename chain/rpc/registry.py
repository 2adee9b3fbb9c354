"""The table of RPC methods: what each is called, where it runs, and how its parameters are read.

`sync` handlers only touch memory and run on the event loop; `thread` handlers read the ledger or execute the runtime.
`unsafe` ones change the node, tell what its operator may not want known, or cost far more than they take to ask: they
are answered only where `Access` says so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, TypeVar

import trio

from chain.rpc.errors import RpcError
from chain.rpc.params import SUBSCRIPTION_ID, Parameter, parameters_of

Handler = TypeVar("Handler", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a connection grants all of its subscriptions together."""

    # Called with how many bytes more, or fewer, are in memory for the client.
    hold: Callable[[int], None]
    # One of them at a time takes a place in the queue for the reading threads: who has many is not served more often.
    reading: trio.Lock


class Reader(ABC):
    """The items of a subscription that reads the ledger for them."""

    allowance: Allowance  # Set by whoever opens it.

    def __aiter__(self) -> Reader:
        return self

    @abstractmethod
    async def __anext__(self) -> object:
        """The next item to send; StopAsyncIteration after the last."""

    @abstractmethod
    async def aclose(self) -> None:
        """Nobody asks for items any more."""


class Dialogue(Reader):
    """One that methods of the same connection act on."""

    @abstractmethod
    def answered(self) -> None:
        """The answer to a method that acted on this is on its way: what follows from it may be sent."""


Items = AsyncGenerator[object] | Reader


@dataclass(frozen=True, slots=True)
class Sync:
    """Answers from memory, on the event loop."""

    call: Callable[..., object]
    parameters: tuple[Parameter, ...]
    unsafe: bool = False


@dataclass(frozen=True, slots=True)
class Threaded:
    """Answers in a worker thread."""

    call: Callable[..., object]
    parameters: tuple[Parameter, ...]
    unsafe: bool = False


@dataclass(frozen=True, slots=True)
class Async:
    """Waits for the node. Calls that come `together` on one connection, with no other between, wait together."""

    call: Callable[..., Awaitable[object]]
    parameters: tuple[Parameter, ...]
    unsafe: bool = False
    together: bool = False


class Pace(Enum):
    """What a client that reads slowly does to a subscription."""

    LIVE = auto()  # It loses its connection.
    PATIENT = auto()  # It is waited for.
    PAGED = auto()  # The same; items are lists, made and sent one after the other over all of the connection.


@dataclass(frozen=True, slots=True)
class Terms:
    """On which a connection has subscriptions of one kind; `notification` is the method name that items go out under.

    It may have `most` of them (None: as many as of all kinds together), and is answered `full` when it wants one more:
    null, or an error, made anew each time, since one that is raised again and again collects what raised it.
    """

    notification: str
    pace: Pace = Pace.LIVE
    most: int | None = None
    full: Callable[[], RpcError] | None = None


@dataclass(frozen=True, slots=True)
class Subscription:
    """Opens a subscription: entering may refuse."""

    open: Callable[..., AbstractAsyncContextManager[Items]]
    parameters: tuple[Parameter, ...]
    terms: Terms


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Ends a subscription of the same connection; `answer` is what to say if there was one, and if there was not."""

    notification: str
    answer: Callable[[bool], object]


@dataclass(frozen=True, slots=True)
class Within:
    """Acts on a `Dialogue` of the same connection, None if there is none of the id given first; from memory."""

    of: type[Dialogue]
    call: Callable[..., object]
    parameters: tuple[Parameter, ...]


Method = Sync | Threaded | Async | Subscription | Unsubscribe | Within


def nothing(ended: bool) -> None:
    """The answer null of what ends a subscription, whether there was one or not."""
    del ended


class Registry:
    """Methods by name; a name is given once."""

    def __init__(self) -> None:
        self.methods: dict[str, Method] = {}

    def sync(self, *names: str, unsafe: bool = False) -> Callable[[Handler], Handler]:
        """Register a handler that answers from memory."""
        return lambda handler: self._add(names, Sync(handler, parameters_of(handler), unsafe), handler)

    def thread(self, *names: str, unsafe: bool = False) -> Callable[[Handler], Handler]:
        """Register a handler that reads the ledger or executes the runtime."""
        return lambda handler: self._add(names, Threaded(handler, parameters_of(handler), unsafe), handler)

    def awaits(self, *names: str, unsafe: bool = False, together: bool = False) -> Callable[[Handler], Handler]:
        """Register an async handler."""
        return lambda handler: self._add(names, Async(handler, parameters_of(handler), unsafe, together), handler)

    def subscription(
        self,
        *names: str,
        ends: tuple[str, ...],
        notification: str,
        pace: Pace = Pace.LIVE,
        most: int | None = None,
        full: Callable[[], RpcError] | None = None,
        ended: Callable[[bool], object] = bool,
    ) -> Callable[[Handler], Handler]:
        """Register an async context manager whose value is the items, with the methods that end it."""
        terms = Terms(notification, pace, most, full)

        def register(handler: Handler) -> Handler:
            for name in ends:
                self._add((name,), Unsubscribe(notification, ended), handler)
            return self._add(names, Subscription(handler, parameters_of(handler), terms), handler)

        return register

    def within(self, of: type[Dialogue], *names: str) -> Callable[[Handler], Handler]:
        """Register a handler whose first argument is the subscription that the request names, None for an unknown."""

        def register(handler: Handler) -> Handler:
            return self._add(names, Within(of, handler, (SUBSCRIPTION_ID, *parameters_of(handler))), handler)

        return register

    def _add(self, names: tuple[str, ...], method: Method, handler: Handler) -> Handler:
        for name in names:
            if name in self.methods:
                raise ValueError(f"two RPC methods are called {name}")
            self.methods[name] = method
        return handler

    def include(self, other: Registry) -> None:
        """Take over the methods of another table."""
        for name, method in other.methods.items():
            if name in self.methods:
                raise ValueError(f"two RPC methods are called {name}")
            self.methods[name] = method
