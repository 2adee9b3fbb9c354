"""Sending transactions over RPC: build, sign, hand out nonces, watch to finality, read the outcome from the events.

A receipt is read from the finalised block itself, never guessed from what the node said on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import trio

from chain.primitives.hashing import blake2_256
from chain.primitives.keys import Keypair
from chain.primitives.types import Mortal, sign_extrinsic
from chain.rpc.errors import (
    ClientError,
    Code,
    ConnectionLost,
    OtherChain,
    RequestTimeout,
    RpcError,
    TransactionDropped,
)
from chain.rpc.link import Stream
from runtime.composition import Runtime
from runtime.faults import FaultModule
from runtime.types import ApplyExtrinsic

# A transaction can be included for a minute of one-second blocks: longer than any view change, shorter than patience.
ERA_BLOCKS = 64
# Its life begins so far behind the head that nodes which are a few blocks behind know the block that it names.
BIRTH_DEPTH = 4
# Era blocks, with headroom for blocks that take longer than a second.
FINAL_SECONDS = 240.0
# Another program that sends from the same account takes a nonce at most as often as we look.
NONCE_TRIES = 5
# A node that restarted catches up in seconds; ten of them are as long as anybody waits for an answer.
BEHIND_TRIES = 40
# A read through the modules looks at a handful of values; a walk over a map of thousands belongs in the node.
READS_MAX = 2048
PAGE = 1000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where a transaction became final, and what came of it: `error` is "Module.ErrorName" when it failed."""

    extrinsic_hash: bytes
    block_hash: bytes
    height: int
    index: int
    ok: bool
    error: str | None
    events: tuple[Any, ...]


class Updates(Protocol):
    """An open subscription."""

    @property
    def stream(self) -> Stream: ...

    async def release(self) -> None: ...


class Transport(Protocol):
    """What is needed of the client: requests and subscriptions, and whether it follows a node over restarts."""

    @property
    def reconnects(self) -> bool: ...

    @property
    def url(self) -> str: ...

    async def request(self, method: str, *params: object) -> Any: ...

    async def open_subscription(self, method: str, *params: object) -> Updates: ...


class _Needed(Exception):
    """A storage value or a list of keys that a read asked for and that is not here yet."""

    def __init__(self, key: bytes, *, listing: bool) -> None:
        super().__init__(key)
        self.key = key
        self.listing = listing


class RemoteState:
    """A state reader over what was fetched so far: it names the first thing that is missing."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes | None] = {}
        self.listings: dict[bytes, list[bytes]] = {}

    def get(self, key: bytes) -> bytes | None:
        if key not in self.values:
            raise _Needed(key, listing=False)
        return self.values[key]

    def keys(self, prefix: bytes, after: bytes | None = None) -> Iterator[bytes]:
        if prefix not in self.listings:
            raise _Needed(prefix, listing=True)
        return (key for key in self.listings[prefix] if after is None or key > after)


class Sender:
    """Sends the transactions of one client."""

    def __init__(self, transport: Transport, runtime: Runtime[Any], genesis_hash: bytes | None) -> None:
        self._transport = transport
        self._runtime = runtime
        self._expected = genesis_hash
        self._locks: dict[bytes, trio.Lock] = {}
        self._genesis: bytes | None = None

    async def transact(self, keypair: Keypair, call: str, arguments: Mapping[str, object]) -> Receipt:
        call_bytes = self._runtime.encode_call(self._runtime.call(call, **arguments))
        deadline = trio.current_time() + FINAL_SECONDS
        # One nonce at a time: the node's next index counts its pool, so it is right once the submission was answered.
        lock = self._locks.setdefault(keypair.public, trio.Lock())
        for attempt in range(NONCE_TRIES):
            async with lock:
                raw, birth = await self._sign(keypair, call_bytes)
                try:
                    updates = await self._transport.open_subscription("author_submitAndWatchExtrinsic", hexed(raw))
                except RpcError as error:
                    if attempt + 1 == NONCE_TRIES or not _nonce_was_taken(error):
                        raise
                    continue
                except (ConnectionLost, RequestTimeout):
                    if not self._transport.reconnects:
                        raise
                    updates = None
            return await self._follow(raw, birth, updates, call, deadline)
        raise AssertionError("the last attempt returns or raises")

    async def fee(self, keypair: Keypair, call: str, arguments: Mapping[str, object]) -> int:
        raw, _ = await self._sign(keypair, self._runtime.encode_call(self._runtime.call(call, **arguments)))
        info = await self._transport.request("payment_queryInfo", hexed(raw))
        return int(info["partialFee"])

    async def _follow(self, raw: bytes, birth: int, updates: Updates | None, call: str, deadline: float) -> Receipt:
        """The receipt of a submitted transaction: from its watch, or from the blocks where the watch was cut off."""
        lost: Exception | None = None
        if updates is not None:
            try:
                block_hash = await self._watch(updates.stream, call, deadline)
            except ConnectionLost as error:
                if not self._transport.reconnects:
                    raise
                lost = error
            except TransactionDropped as error:
                lost = error
            else:
                return await self._receipt(raw, block_hash)
            finally:
                await updates.release()
        found = await self._search(raw, birth, deadline, submit=not isinstance(lost, TransactionDropped))
        if found is not None:
            return found
        if isinstance(lost, TransactionDropped):
            raise lost
        raise TransactionDropped(f"{call}: in no block since height {birth}, and refused when sent again: start over")

    async def _sign(self, keypair: Keypair, call_bytes: bytes) -> tuple[bytes, int]:
        """A signed extrinsic with the account's next nonce, and the height at which its life begins."""
        if self._genesis is None:
            version = await self._transport.request("state_getRuntimeVersion")
            known = self._runtime.version
            ours = (known.spec_name, known.spec_version, known.transaction_version)
            theirs = (version["specName"], version["specVersion"], version["transactionVersion"])
            if ours != theirs:
                remedy = "use the same release for both"
                if theirs[0] != ours[0]:
                    remedy = "give the chain's --genesis FILE"
                raise ClientError(f"the node runs {theirs}, this program knows {ours}: {remedy}. Nothing was sent")
            genesis = unhex(await self._transport.request("chain_getBlockHash", 0))
            if self._expected is not None and self._expected != genesis:
                raise OtherChain(self._transport.url, genesis, self._expected)
            self._genesis = genesis
        head = await self._transport.request("chain_getHeader")
        birth = max(0, int(head["number"], 16) - BIRTH_DEPTH)
        era_hash = await self._transport.request("chain_getBlockHash", birth)
        if era_hash is None:
            raise RequestTimeout(f"the node that answers now is behind height {birth}: ask again when it has caught up")
        nonce = int(await self._transport.request("system_accountNextIndex", hexed(keypair.public)))
        sign = partial(
            sign_extrinsic,
            keypair,
            call_bytes,
            nonce=nonce,
            spec_version=self._runtime.spec_version,
            transaction_version=self._runtime.transaction_version,
            genesis_hash=self._genesis,
            era=Mortal.at(ERA_BLOCKS, birth),
            era_hash=unhex(era_hash),
        )
        return await trio.to_thread.run_sync(sign), birth

    async def _watch(self, updates: Stream, call: str, deadline: float) -> bytes:
        """The hash of the block that includes the transaction: it is final when it is known."""
        try:
            with trio.fail_at(deadline):
                async for update in updates:
                    if isinstance(update, dict) and "inBlock" in update:
                        return unhex(update["inBlock"])
                    if isinstance(update, dict) and "usurped" in update:
                        raise TransactionDropped(f"{call}: replaced by {update['usurped']} with the same nonce")
                    if update in ("invalid", "dropped"):
                        reason = "check nonce and balance, or ask whose node it is for its log, and send again"
                        raise TransactionDropped(f"{call}: left the pool as {update}: {reason}")
        except trio.TooSlowError:
            pass
        raise TransactionDropped(f"{call}: not final within {FINAL_SECONDS:.0f} s: is the chain making blocks?")

    async def _search(self, raw: bytes, birth: int, deadline: float, *, submit: bool) -> Receipt | None:
        """Find a transaction in the blocks since its birth, after sending it once more; None when it is in none."""
        pending = submit
        if submit:
            try:
                await self._transport.request("author_submitExtrinsic", hexed(raw))
            except RpcError as error:  # In the pool or in a block already; else it never will be.
                pending = error.code == Code.ALREADY_IMPORTED
            except (ConnectionLost, RequestTimeout):
                pass
        height = birth + 1
        while height <= birth + ERA_BLOCKS and trio.current_time() < deadline:
            block_hash = await self._transport.request("chain_getBlockHash", height)
            if block_hash is None:
                if not pending:
                    return None
                await trio.sleep(0.25)  # The next block is under way.
                continue
            block = await self._block(block_hash)
            if hexed(raw) in block["extrinsics"]:
                return await self._receipt(raw, unhex(block_hash))
            height += 1
        return None

    async def _receipt(self, raw: bytes, block_hash: bytes) -> Receipt:
        at = hexed(block_hash)
        block = await self._block(at)
        index = block["extrinsics"].index(hexed(raw))
        records = await self.read(lambda chain: chain.system.events.get(), at)
        events = tuple(record.event for record in records if record.phase == ApplyExtrinsic(index))
        error = failure(self._runtime, events)
        height = int(block["header"]["number"], 16)
        return Receipt(blake2_256(raw), block_hash, height, index, error is None, error, events)

    async def _block(self, block_hash: str) -> dict[str, Any]:
        """A block that some node named: the one that answers now may be a few blocks behind that one."""
        for _ in range(BEHIND_TRIES):
            found = await self._transport.request("chain_getBlock", block_hash)
            if found is not None:
                block: dict[str, Any] = found["block"]
                return block
            await trio.sleep(0.25)
        raise RequestTimeout(f"the node that answers now does not have block {block_hash}: ask again when it has")

    # --- State

    async def read(self, look: Callable[[Any], T], at: str | None) -> T:
        """Run `look` over the runtime's modules at one block, fetching the storage that it turns out to need."""
        if at is None:
            at = str(await self._transport.request("chain_getBlockHash"))
        state = RemoteState()
        for _ in range(READS_MAX):
            try:
                return look(self._runtime.at(state))
            except _Needed as needed:
                missing = needed
            if missing.listing:
                state.listings[missing.key] = await self._keys(missing.key, at)
            else:
                value = await self._transport.request("state_getStorage", hexed(missing.key), at)
                state.values[missing.key] = None if value is None else unhex(value)
        raise ClientError(f"a read needed more than {READS_MAX} storage values: read less at once")

    async def _keys(self, prefix: bytes, at: str) -> list[bytes]:
        keys: list[bytes] = []
        after: str | None = None
        while True:
            page = await self._transport.request("state_getKeysPaged", hexed(prefix), PAGE, after, at)
            keys += [unhex(key) for key in page]
            if len(page) < PAGE:
                return keys
            after = page[-1]


def failure(runtime: Runtime[Any], events: tuple[Any, ...]) -> str | None:
    """The dispatch error among an extrinsic's events, in words; None when it succeeded."""
    for event in events:
        if type(event).__name__ == "ExtrinsicFailed":
            fault = event.dispatch_error
            if isinstance(fault, FaultModule):
                for module in runtime.modules:
                    if module.index == fault.error.index and fault.error.error[0] in module.errors:
                        return f"{module.name}.{module.errors[fault.error.error[0]].name}"
            return runtime.explain(fault)
    return None


def hexed(data: bytes) -> str:
    """Bytes as a node reads them."""
    return "0x" + data.hex()


def unhex(text: str) -> bytes:
    """The bytes of a 0x-prefixed hex string from a node."""
    return bytes.fromhex(text.removeprefix("0x"))


def _nonce_was_taken(error: RpcError) -> bool:
    """Whether another transaction of this account got in between our look at the nonce and our submission."""
    if error.code in (Code.PRIORITY_TOO_LOW, Code.ALREADY_IMPORTED):  # The latter: with the very same call.
        return True
    words = f"{error.message} {error.data}".lower()
    if error.code == Code.POOL_LIMIT:
        return "nonce" in words
    return error.code == Code.INVALID_TRANSACTION and any(word in words for word in ("outdated", "in the future"))
