"""The RPC client of workers, the launcher and the command line: one WebSocket, typed errors, every wait bounded.

`Client.connect(url)` fails at once when there is no node and for good when the connection ends;
`Client.reconnecting(urls)` waits for a node, follows it over restarts, and retries whatever is safe to ask twice.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import trio

from chain.primitives.keys import Keypair
from chain.rpc import blob_client
from chain.rpc.errors import (
    BlobError,
    BlobNotFound,
    BlobTooLarge,
    CannotConnect,
    ClientError,
    ConnectionLost,
    OtherChain,
    RequestTimeout,
    RpcError,
    SlowSubscriber,
    TransactionDropped,
)
from chain.rpc.link import STREAM_ITEMS_MAX, Link, Stream, open_link, sole
from chain.rpc.transactions import Receipt, Sender
from runtime.composition import Runtime
from runtime.potchain import RUNTIME

__all__ = [
    "Account",
    "BlobError",
    "BlobNotFound",
    "BlobTooLarge",
    "CannotConnect",
    "Client",
    "ClientError",
    "ConnectionLost",
    "OtherChain",
    "Receipt",
    "RequestTimeout",
    "RpcError",
    "SlowSubscriber",
    "Stream",
    "TransactionDropped",
]

REQUEST_SECONDS = 30.0
# A node restarts in two seconds: retry soon, and never let a waiting worker be seconds late for a round.
RETRY_SECONDS_MIN = 0.1
RETRY_SECONDS_MAX = 2.0
T = TypeVar("T")

UNSUBSCRIBE = {"author_submitAndWatchExtrinsic": "author_unwatchExtrinsic"}


@dataclass(frozen=True, slots=True)
class Account:
    """Nonce and balances (planck) of one account."""

    nonce: int
    free: int
    reserved: int


@dataclass(frozen=True, slots=True)
class Subscription:
    """An open subscription and its items."""

    link: Link
    id: str
    stream: Stream

    async def release(self) -> None:
        """End it, at the node too."""
        method = self.stream.name
        await self.link.release(self.id, UNSUBSCRIBE.get(method, method.replace("_subscribe", "_unsubscribe")))


class Client:
    """A client of one node (or of the first of several that answers) whose chain has a runtime that it knows."""

    def __init__(
        self,
        urls: Sequence[str],
        runtime: Runtime[Any] = RUNTIME,
        genesis_hash: bytes | None = None,
        *,
        reconnects: bool,
    ) -> None:
        self.urls = tuple(urls)
        self.reconnects = reconnects
        self._link: Link | None = None
        self._changed = trio.Event()
        self._failure: ConnectionLost | None = None
        self.runtime = runtime
        self._sender = Sender(self, runtime, genesis_hash)

    # --- Connecting

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, url: str, runtime: Runtime[Any] = RUNTIME, genesis_hash: bytes | None = None
    ) -> AsyncIterator[Self]:
        """A client over one connection; raises `CannotConnect` when no node answers at `url` (`ws://HOST:PORT`).

        It signs for the chain with this genesis alone; for whichever the node has, where none is given.
        """
        client = cls([url], runtime, genesis_hash, reconnects=False)
        async with open_link(url) as link:
            client._link = link
            yield client

    @classmethod
    @asynccontextmanager
    async def reconnecting(
        cls, urls: Sequence[str], runtime: Runtime[Any] = RUNTIME, genesis_hash: bytes | None = None
    ) -> AsyncIterator[Self]:
        """A client that connects in the background to the first of `urls` that answers, again whenever it is lost."""
        if not urls:
            raise ValueError("reconnecting: expected at least one node address, got none")
        client = cls(urls, runtime, genesis_hash, reconnects=True)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client._stay_connected)
                try:
                    yield client
                finally:
                    nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise sole(group) from None

    async def _stay_connected(self) -> None:
        wait = RETRY_SECONDS_MIN
        while True:
            for url in self.urls:
                try:
                    async with open_link(url) as link:
                        wait = RETRY_SECONDS_MIN
                        self._set(link)
                        await link.ended.wait()
                except ConnectionLost as error:
                    self._failure = error
                else:
                    self._failure = link.lost
                self._set(None)
            await trio.sleep(wait * random.uniform(0.5, 1.0))  # Spread out, so that workers do not knock all at once.
            wait = min(wait * 2, RETRY_SECONDS_MAX)

    def _set(self, link: Link | None) -> None:
        self._link = link
        self._changed.set()
        self._changed = trio.Event()

    @property
    def url(self) -> str:
        """The node that is connected, or would be asked next."""
        return self._link.url if self._link is not None else self.urls[0]

    @property
    def connected(self) -> bool:
        return self._link is not None and self._link.lost is None

    async def _live(self) -> Link:
        """The live connection; waits for one when this client reconnects."""
        while True:
            link = self._link
            if link is not None and link.lost is None:
                return link
            if not self.reconnects:
                assert link is not None
                assert link.lost is not None
                raise link.lost
            await self._changed.wait()

    # --- Requests

    async def request(self, method: str, *params: object, timeout: float = REQUEST_SECONDS) -> Any:
        """The result of one call (JSON as Python values).

        Raises `RpcError` for the node's refusal, `ConnectionLost` when the connection ends, `RequestTimeout` otherwise.
        A reconnecting client asks again on the next connection, but for `author_*`, which might act twice.
        """
        try:
            with trio.fail_after(timeout):
                while True:
                    link = await self._live()
                    try:
                        return await link.request(method, list(params))
                    except ConnectionLost:
                        if not self.reconnects or method.startswith("author_"):
                            raise
        except trio.TooSlowError:
            raise self._too_slow(method, timeout) from None

    def _too_slow(self, method: str, timeout: float) -> ClientError:
        if not self.connected and self._failure is not None:
            return CannotConnect(f"{method}: no node for {timeout:g} s: {self._failure}")
        return RequestTimeout(f"{method}: {self.url} did not answer in {timeout:g} s: is the node overloaded?")

    @asynccontextmanager
    async def subscribe(
        self, method: str, *params: object, latest: bool = False, items_max: int = STREAM_ITEMS_MAX
    ) -> AsyncIterator[Stream]:
        """The notifications of a subscription: `async with client.subscribe("chain_subscribeFinalizedHeads") as heads`.

        With `latest` only the newest unread item is kept. A lost connection ends the stream with `ConnectionLost`.
        """
        subscription = await self.open_subscription(method, *params, latest=latest, items_max=items_max)
        try:
            yield subscription.stream
        finally:
            await subscription.release()

    async def open_subscription(
        self, method: str, *params: object, latest: bool = False, items_max: int = STREAM_ITEMS_MAX
    ) -> Subscription:
        """As `subscribe`, for who cannot use a scope: `release` has to be called."""
        stream = Stream(method, latest=latest, items_max=items_max)
        try:
            with trio.fail_after(REQUEST_SECONDS):
                link = await self._live()
                return Subscription(link, str(await link.request(method, list(params), stream)), stream)
        except trio.TooSlowError:
            raise self._too_slow(method, REQUEST_SECONDS) from None

    @asynccontextmanager
    async def finalized_heads(self) -> AsyncIterator[Heads]:
        """The newest finalised header, again and again: skips heads rather than lag, and survives reconnections."""
        heads = Heads(self)
        try:
            yield heads
        finally:
            await heads.release()

    # --- Transactions and state

    async def transact(self, keypair: Keypair, call: str, /, **arguments: object) -> Receipt:
        """Sign, submit and watch one call to finality: `await client.transact(alice, "training.commit", task=1, …)`.

        A call that was included but failed gives `receipt.ok == False` and `receipt.error == "Module.ErrorName"`.
        Raises `RpcError` when the pool refuses it and `TransactionDropped` when it never gets into a block. Several
        transactions of one account may be in flight: nonces are handed out one at a time.
        """
        return await self._sender.transact(keypair, call, arguments)

    async def fee(self, keypair: Keypair, call: str, /, **arguments: object) -> int:
        """What `transact` with the same arguments would pay at most, in planck, as the node reckons."""
        return await self._sender.fee(keypair, call, arguments)

    async def read(self, look: Callable[[Any], T], at: str | None = None) -> T:
        """What `look` sees in the runtime's modules: `await client.read(lambda chain: chain.training.tasks[1])`.

        `at` is a block hash (0x-hex), the head when None. `look` must be pure: it runs again as its storage arrives.
        """
        return await self._sender.read(look, at)

    async def account(self, public: bytes) -> Account:
        """Nonce and balances of an account, at the head."""
        info = await self.read(lambda chain: chain.system.account[public])
        return Account(info.nonce, info.data.free, info.data.reserved)

    # --- Blobs

    async def put_blob(self, data: bytes) -> bytes:
        """Store `data` at the node; its root (32 bytes), which is checked against the node's."""
        return await blob_client.put(self.url, data)

    async def has_blob(self, root: bytes) -> bool:
        """Whether the node has a blob, or found it at a peer."""
        try:
            await self.get_blob(root, 0)
        except BlobNotFound:
            return False
        except BlobTooLarge:
            pass  # It is there: one byte of it is more than was asked for.
        return True

    async def get_blob(self, root: bytes, size_max: int) -> bytes:
        """The blob under `root`, verified; raises `BlobNotFound`, `BlobTooLarge` above `size_max`, or `BlobError`."""
        return await blob_client.get(self.url, root, size_max)

    async def get_chunks(self, root: bytes, first: int, count: int) -> tuple[int, bytes]:
        """A blob's length, and its bytes from chunk `first` on (64 KiB each; 16 chunks at most), each verified."""
        return await blob_client.get_chunks(self.url, root, first, count)


class Heads:
    """Finalised headers as JSON objects, the newest when several wait; subscribes anew after a lost connection."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._open: Subscription | None = None

    def __aiter__(self) -> Heads:
        return self

    async def __anext__(self) -> dict[str, Any]:
        while True:
            try:
                if self._open is None:
                    self._open = await self._client.open_subscription("chain_subscribeFinalizedHeads", latest=True)
                head: dict[str, Any] = await anext(self._open.stream)
                return head
            except (ConnectionLost, RequestTimeout):
                self._open = None
                if not self._client.reconnects:
                    raise

    async def release(self) -> None:
        """End the subscription."""
        if self._open is not None:
            await self._open.release()
