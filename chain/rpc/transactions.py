"""Sending transactions over RPC: build, sign, hand out nonces, watch to finality, read the outcome from the events.

A receipt is read from the finalised block itself, never guessed from what the node said on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import trio

from chain.primitives.hashing import blake2_256
from chain.primitives.keys import Keypair
from chain.primitives.types import Mortal, sign_extrinsic
from chain.rpc.errors import ClientError, Code, ConnectionLost, RequestTimeout, RpcError, TransactionDropped
from runtime.potchain import RUNTIME
from runtime.types import ApplyExtrinsic, FaultModule

# A transaction can be included for a minute of one-second blocks: longer than any view change, shorter than patience.
ERA_BLOCKS = 64
# Era blocks, with headroom for blocks that take longer than a second.
FINAL_SECONDS = 240.0
# Another program that sends from the same account takes a nonce at most as often as we look.
NONCE_TRIES = 5
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


class Transport(Protocol):
    """What is needed of the client: requests and subscriptions, and whether it follows a node over restarts."""

    reconnects: bool

    async def request(self, method: str, *params: object) -> Any: ...

    def subscribe(self, method: str, *params: object) -> Any: ...


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

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._locks: dict[bytes, trio.Lock] = {}
        self._genesis: bytes | None = None

    async def transact(self, keypair: Keypair, call: str, arguments: Mapping[str, object]) -> Receipt:
        call_bytes = RUNTIME.encode_call(RUNTIME.call(call, **arguments))
        deadline = trio.current_time() + FINAL_SECONDS
        # One nonce at a time: the node's next index counts its pool, so it is right once the submission was answered.
        lock = self._locks.setdefault(keypair.public, trio.Lock())
        refused: RpcError | None = None
        for _ in range(NONCE_TRIES):
            async with lock:
                raw, birth = await self._sign(keypair, call_bytes)
                subscription = self._transport.subscribe("author_submitAndWatchExtrinsic", "0x" + raw.hex())
                try:
                    updates = await subscription.__aenter__()
                except RpcError as error:
                    if not _nonce_was_taken(error):
                        raise
                    refused = error
                    continue
                except (ConnectionLost, RequestTimeout):
                    if not self._transport.reconnects:
                        raise
                    return await self._search(raw, birth, deadline, submit=True)
            try:
                block_hash = await self._watch(updates, call, deadline)
            except ConnectionLost:
                if not self._transport.reconnects:
                    raise
                return await self._search(raw, birth, deadline, submit=True)
            finally:
                await subscription.__aexit__(None, None, None)
            return await self._receipt(raw, block_hash)
        assert refused is not None
        raise refused

    async def _sign(self, keypair: Keypair, call_bytes: bytes) -> tuple[bytes, int]:
        """A signed extrinsic with the account's next nonce, and the height at which its life begins."""
        if self._genesis is None:
            version = await self._transport.request("state_getRuntimeVersion")
            ours = (RUNTIME.version.spec_name, RUNTIME.spec_version, RUNTIME.transaction_version)
            theirs = (version["specName"], version["specVersion"], version["transactionVersion"])
            if ours != theirs:
                raise ClientError(f"the node runs {theirs}, this program knows {ours}: use the same release for both")
            self._genesis = unhex(await self._transport.request("chain_getBlockHash", 0))
        head = await self._transport.request("chain_getHeader")
        height = int(head["number"], 16)
        era_hash = unhex(await self._transport.request("chain_getBlockHash", height))
        nonce = int(await self._transport.request("system_accountNextIndex", "0x" + keypair.public.hex()))
        sign = partial(
            sign_extrinsic,
            keypair,
            call_bytes,
            nonce=nonce,
            spec_version=RUNTIME.spec_version,
            transaction_version=RUNTIME.transaction_version,
            genesis_hash=self._genesis,
            era=Mortal.at(ERA_BLOCKS, height),
            era_hash=era_hash,
        )
        return await trio.to_thread.run_sync(sign), height

    async def _watch(self, updates: Any, call: str, deadline: float) -> bytes:
        """The hash of the finalised block that includes the transaction."""
        try:
            with trio.fail_at(deadline):
                async for update in updates:
                    if isinstance(update, dict) and "finalized" in update:
                        return unhex(update["finalized"])
                    if isinstance(update, dict) and "usurped" in update:
                        raise TransactionDropped(f"{call}: replaced by {update['usurped']} with the same nonce")
                    if update in ("invalid", "dropped"):
                        reason = "check nonce and balance, and send again"
                        raise TransactionDropped(f"{call}: left the pool as {update}: {reason}")
        except trio.TooSlowError:
            pass
        raise TransactionDropped(f"{call}: not final within {FINAL_SECONDS:.0f} s: is the chain making blocks?")

    async def _search(self, raw: bytes, birth: int, deadline: float, *, submit: bool) -> Receipt:
        """Find a transaction whose watch was cut off, block by block from its birth; submits it once more."""
        height = birth + 1
        text = "0x" + raw.hex()
        if submit:
            # A refusal says that it is known or included already: the blocks tell.
            with suppress(RpcError, ConnectionLost, RequestTimeout):
                await self._transport.request("author_submitExtrinsic", text)
        while height <= birth + ERA_BLOCKS and trio.current_time() < deadline:
            block_hash = await self._transport.request("chain_getBlockHash", height)
            if block_hash is None:
                await trio.sleep(0.25)  # The next block is under way.
                continue
            block = await self._transport.request("chain_getBlock", block_hash)
            if text in block["block"]["extrinsics"]:
                return await self._receipt(raw, unhex(block_hash))
            height += 1
        looked = f"blocks {birth + 1} to {height - 1}, in which it was valid"
        raise TransactionDropped(f"not in any of {looked}: send it again")

    async def _receipt(self, raw: bytes, block_hash: bytes) -> Receipt:
        at = "0x" + block_hash.hex()
        block = (await self._transport.request("chain_getBlock", at))["block"]
        index = block["extrinsics"].index("0x" + raw.hex())
        records = await self.read(lambda chain: chain.system.events.get(), at)
        events = tuple(record.event for record in records if record.phase == ApplyExtrinsic(index))
        error = failure(events)
        height = int(block["header"]["number"], 16)
        return Receipt(blake2_256(raw), block_hash, height, index, error is None, error, events)

    # --- State

    async def read(self, look: Callable[[Any], T], at: str | None) -> T:
        """Run `look` over the runtime's modules at one block, fetching the storage that it turns out to need."""
        if at is None:
            at = str(await self._transport.request("chain_getBlockHash"))
        state = RemoteState()
        for _ in range(READS_MAX):
            try:
                return look(RUNTIME.at(state))
            except _Needed as needed:
                missing = needed
            if missing.listing:
                state.listings[missing.key] = await self._keys(missing.key, at)
            else:
                value = await self._transport.request("state_getStorage", "0x" + missing.key.hex(), at)
                state.values[missing.key] = None if value is None else unhex(value)
        raise ClientError(f"a read needed more than {READS_MAX} storage values: read less at once")

    async def _keys(self, prefix: bytes, at: str) -> list[bytes]:
        keys: list[bytes] = []
        after: str | None = None
        while True:
            page = await self._transport.request("state_getKeysPaged", "0x" + prefix.hex(), PAGE, after, at)
            keys += [unhex(key) for key in page]
            if len(page) < PAGE:
                return keys
            after = page[-1]


def failure(events: tuple[Any, ...]) -> str | None:
    """The dispatch error among an extrinsic's events, in words; None when it succeeded."""
    for event in events:
        if type(event).__name__ == "ExtrinsicFailed":
            fault = event.dispatch_error
            if isinstance(fault, FaultModule):
                for module in RUNTIME.modules:
                    if module.index == fault.error.index and fault.error.error[0] in module.errors:
                        return f"{module.name}.{module.errors[fault.error.error[0]].name}"
            return RUNTIME.explain(fault)
    return None


def unhex(text: str) -> bytes:
    """The bytes of a 0x-prefixed hex string from a node."""
    return bytes.fromhex(text.removeprefix("0x"))


def _nonce_was_taken(error: RpcError) -> bool:
    """Whether another transaction of this account got in between our look at the nonce and our submission."""
    if error.code in (Code.PRIORITY_TOO_LOW,):
        return True
    return error.code == Code.INVALID_TRANSACTION and any(
        word in f"{error.message} {error.data}".lower() for word in ("stale", "outdated", "future")
    )
