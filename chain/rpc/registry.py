"""The table of RPC methods: what each is called, where it runs, and how its parameters are read.

`sync` handlers only touch memory and run on the event loop; `thread` handlers read the ledger or execute the runtime.
`unsafe` ones change the node, tell what its operator may not want known, or cost far more than they take to ask: they
are answered only where `Access` says so.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

from chain.rpc.params import Parameter, parameters_of

Handler = TypeVar("Handler", bound=Callable[..., Any])
Items = AsyncGenerator[object]


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
    """Waits for the node."""

    call: Callable[..., Awaitable[object]]
    parameters: tuple[Parameter, ...]
    unsafe: bool = False


@dataclass(frozen=True, slots=True)
class Subscription:
    """Opens a subscription: entering may refuse, then items go out under the method name `notification`."""

    open: Callable[..., AbstractAsyncContextManager[Items]]
    parameters: tuple[Parameter, ...]
    notification: str


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Ends a subscription of the same connection."""


Method = Sync | Threaded | Async | Subscription | Unsubscribe


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

    def awaits(self, *names: str, unsafe: bool = False) -> Callable[[Handler], Handler]:
        """Register an async handler."""
        return lambda handler: self._add(names, Async(handler, parameters_of(handler), unsafe), handler)

    def subscription(self, *names: str, ends: tuple[str, ...], notification: str) -> Callable[[Handler], Handler]:
        """Register an async context manager whose value is the items, with the methods that end it."""

        def register(handler: Handler) -> Handler:
            for name in ends:
                self._add((name,), Unsubscribe(), handler)
            return self._add(names, Subscription(handler, parameters_of(handler), notification), handler)

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
