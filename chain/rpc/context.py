"""What every RPC method works with: the node, threads to read in, states and blocks by hash with Substrate's errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from chain.ledger import StatePruned, UnknownBlock
from chain.ledger_state import LedgerState
from chain.pace import Threads
from chain.primitives.hashing import Hash
from chain.primitives.types import Block, Header
from chain.rpc.backend import Backend
from chain.rpc.errors import Code, RpcError
from runtime.composition import Runtime, View

T = TypeVar("T")

# Reads share the interpreter with the node: more threads would only take turns, and each gives back what it took.
READ_THREADS = 2
READ_REST = 1.0
# What all clients together may watch: at every block each key is read, a hundred in a millisecond.
WATCHED_KEYS_MAX = 8192


class Context:
    """The first argument of every method."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.runtime: Runtime[View] = backend.ledger.runtime
        self.starting_height = backend.ledger.head.height
        self._threads = Threads(READ_THREADS, READ_REST)
        self._watched_keys = 0

    async def in_thread(self, call: Callable[..., T], *arguments: object) -> T:
        """Run a call that reads the ledger or executes the runtime in one of the RPC's own few threads."""
        return await self._threads.run(call, *arguments)

    @contextmanager
    def watching(self, keys: int) -> Iterator[None]:
        """Watch so many storage keys; raises `RpcError` when all clients together would watch too many."""
        if self._watched_keys + keys > WATCHED_KEYS_MAX:
            reason = f"clients watch {self._watched_keys} keys of at most {WATCHED_KEYS_MAX}: try again later"
            raise RpcError(Code.TOO_MANY_SUBSCRIPTIONS, "Too many subscriptions", reason)
        self._watched_keys += keys
        try:
            yield
        finally:
            self._watched_keys -= keys

    @contextmanager
    def state(self, at: Hash | None) -> Iterator[LedgerState]:
        """The state after a block, the head's for None; for threads."""
        try:
            with self.backend.ledger.state(at) as state:
                yield state
        except UnknownBlock as error:
            raise unknown_block(error) from None
        except StatePruned as error:
            raise RpcError(Code.STATE_CLIENT, "Client error: State already discarded", str(error)) from None

    def header(self, at: Hash | None) -> Header | None:
        """A header by hash, the head's for None."""
        ledger = self.backend.ledger
        return ledger.head if at is None else ledger.header(at)

    def ensure_known(self, at: Hash | None) -> None:
        """Refuse a hash that no block of the chain has; for threads."""
        if self.header(at) is None:
            assert at is not None
            raise unknown_block(UnknownBlock(at))

    def block(self, at: Hash | None) -> Block | None:
        """A block by hash, the head for None."""
        ledger = self.backend.ledger
        return ledger.block(ledger.head_hash if at is None else at)


def unknown_block(error: UnknownBlock) -> RpcError:
    """Substrate's words for a hash that no block has."""
    return RpcError(Code.STATE_CLIENT, "Client error: UnknownBlock", str(error))


def hexed(data: bytes) -> str:
    """Bytes as JSON-RPC shows them."""
    return "0x" + data.hex()


def hexed_or_none(data: bytes | None) -> str | None:
    """Bytes that may be absent."""
    return None if data is None else hexed(data)
