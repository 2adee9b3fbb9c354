"""`state_*`: storage at any block that is kept, proofs, metadata, and calls into the runtime."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any

import trio

from chain.ledger import UnknownBlock
from chain.ledger_state import LedgerState
from chain.primitives.hashing import Hash, blake2_256
from chain.primitives.scale import ScaleError
from chain.primitives.types import Header
from chain.rpc.broadcast import Receiver
from chain.rpc.context import Context, hexed, hexed_or_none, unknown_block
from chain.rpc.errors import Code, RpcError
from chain.rpc.methods_chain import new_headers
from chain.rpc.params import BlockHash, HexBytes, PageSize, StorageKey, StorageKeys
from chain.rpc.protocol import Encoded, encode
from chain.rpc.registry import Reader, Registry
from runtime.api import UnknownApi
from runtime.composition import Runtime, View
from runtime.types import InvalidTransaction

registry = Registry()

# Old clients ask for metadata without a version; V14 is what all of them read.
METADATA_VERSION = 14
# Four pages' keys take some 20 ms of a thread in the head's state, and ten times that in an older one.
KEYS_MAX = 4096
# As hex, twice as many: half of the longest answer.
VALUES_BYTES_MAX = 1024 * 1024
# Keys times blocks: each costs a climb in the tree, and each block a snapshot, some 50 µs together.
BLOCK_READS_MAX = 4096


@registry.thread("state_getMetadata")
def state_get_metadata(context: Context, at: BlockHash | None = None) -> str:
    """The runtime's metadata, version 14."""
    context.ensure_known(at)
    return hexed(context.runtime.metadata(METADATA_VERSION))


@registry.thread("state_getRuntimeVersion", "chain_getRuntimeVersion")
def state_get_runtime_version(context: Context, at: BlockHash | None = None) -> dict[str, Any]:
    """The version at a block, also where its state is pruned: clients ask for it before they decode an old block."""
    context.ensure_known(at)
    return version_json(context.runtime)


def version_json(runtime: Runtime[View]) -> dict[str, Any]:
    """The runtime's version as Substrate clients read it."""
    version = runtime.version
    return {
        "specName": version.spec_name,
        "implName": version.impl_name,
        "authoringVersion": version.authoring_version,
        "specVersion": version.spec_version,
        "implVersion": version.impl_version,
        "apis": [[hexed(name), number] for name, number in version.apis],
        "transactionVersion": version.transaction_version,
        "stateVersion": version.state_version,
    }


@registry.thread("state_getStorage", "state_getStorageAt")
def state_get_storage(context: Context, key: StorageKey, at: BlockHash | None = None) -> str | None:
    """A value by its storage key, after a block; null where there is none."""
    with context.state(at) as state:
        return hexed_or_none(state.get(key))


@registry.thread("state_getStorageHash", "state_getStorageHashAt")
def state_get_storage_hash(context: Context, key: StorageKey, at: BlockHash | None = None) -> str | None:
    """A value's blake2b-256, null where there is none."""
    with context.state(at) as state:
        value = state.get(key)
        return None if value is None else hexed(blake2_256(value))


@registry.thread("state_getStorageSize", "state_getStorageSizeAt")
def state_get_storage_size(context: Context, key: StorageKey, at: BlockHash | None = None) -> int | None:
    """A value's length in bytes, null where there is none."""
    with context.state(at) as state:
        value = state.get(key)
        return None if value is None else len(value)


@registry.thread("state_queryStorageAt")
def state_query_storage_at(context: Context, keys: StorageKeys, at: BlockHash | None = None) -> list[dict[str, Any]]:
    """Several values after one block."""
    with context.state(at) as state:
        return [_change_set(state.header.hash, _values(state, keys))]


def _values(state: LedgerState, keys: Sequence[bytes]) -> dict[bytes, bytes | None]:
    """Each key's value once, as in Substrate: one that is named a thousand times is not told a thousand times."""
    return {key: state.get(key) for key in dict.fromkeys(keys)}


def _change_set(block_hash: Hash, values: Mapping[bytes, bytes | None]) -> dict[str, Any]:
    """Some keys' values after a block, as clients read them."""
    return {
        "block": hexed(block_hash),
        "changes": [[hexed(key), hexed_or_none(value)] for key, value in values.items()],
    }


@registry.thread("state_queryStorage", unsafe=True)
def state_query_storage(
    context: Context, keys: StorageKeys, from_block: BlockHash, to_block: BlockHash | None = None
) -> list[dict[str, Any]]:
    """The values of some keys after a block, then whichever of them each later block up to another has changed."""
    changes: list[dict[str, Any]] = []
    known: dict[bytes, bytes | None] = {}
    size = 0
    for block_hash in _block_range(context, from_block, to_block, BLOCK_READS_MAX // max(1, len(keys))):
        with context.state(block_hash) as state:
            values = _values(state, keys)
        changed = {key: value for key, value in values.items() if key not in known or known[key] != value}
        size += sum(len(value or b"") for value in changed.values())
        if size > VALUES_BYTES_MAX and changes:
            reason = f"more than {VALUES_BYTES_MAX} bytes of values: ask for fewer blocks at once"
            raise RpcError(Code.OVERSIZED_RESPONSE, "Response is too big", reason)
        if changed:
            changes.append(_change_set(block_hash, changed))
        known = values
    return changes


def _block_range(context: Context, first: Hash, last: Hash | None, most: int) -> list[Hash]:
    """The hashes of the blocks from one to another, the head for None; for threads."""
    ledger = context.backend.ledger
    ends = [context.header(first), context.header(last)]
    if ends[0] is None or ends[1] is None:
        raise unknown_block(UnknownBlock(first if ends[0] is None else last or first))
    start, end = ends[0].height, ends[1].height
    if not 0 <= end - start < most:
        wrong = "it ends before it begins" if start > end else f"at most {most} blocks for so many keys"
        raise RpcError(Code.BLOCK_RANGE, f"Cannot resolve a block range [{start} ... {end}]: {wrong}")
    found = [ledger.hash_at(height) for height in range(start, end + 1)]
    return [block_hash for block_hash in found if block_hash is not None]


@registry.thread("state_getKeys")
def state_get_keys(context: Context, prefix: HexBytes, at: BlockHash | None = None) -> list[str]:
    """All keys with a prefix, ascending. Where there are too many for one answer, `state_getKeysPaged` has them."""
    with context.state(at) as state:
        return [hexed(key) for key in _keys(state, prefix)]


@registry.thread("state_getPairs", unsafe=True)
def state_get_pairs(context: Context, prefix: HexBytes, at: BlockHash | None = None) -> list[list[str]]:
    """All keys with a prefix, ascending, with their values, within the same bounds."""
    pairs: list[list[str]] = []
    size = 0
    with context.state(at) as state:
        for key in _keys(state, prefix):
            value = state.get(key) or b""
            size += len(key) + len(value)
            if size > VALUES_BYTES_MAX:
                raise _too_much(f"more than {VALUES_BYTES_MAX} bytes")
            pairs.append([hexed(key), hexed(value)])
    return pairs


def _keys(state: LedgerState, prefix: bytes) -> list[bytes]:
    keys = list(islice(state.keys(prefix), KEYS_MAX + 1))
    if len(keys) > KEYS_MAX:
        raise _too_much(f"more than {KEYS_MAX} keys")
    return keys


def _too_much(what: str) -> RpcError:
    reason = f"{what} begin with this prefix: give a longer one, or page through them with state_getKeysPaged"
    return RpcError(Code.OVERSIZED_RESPONSE, "Response is too big", reason)


@registry.thread("state_getKeysPaged", "state_getKeysPagedAt")
def state_get_keys_paged(
    context: Context,
    prefix: HexBytes | None,
    count: PageSize,
    start_key: HexBytes | None = None,
    at: BlockHash | None = None,
) -> list[str]:
    """Up to `count` keys with a prefix, ascending, those after `start_key`."""
    with context.state(at) as state:
        return [hexed(key) for key in islice(state.keys(prefix or b"", start_key), count)]


@registry.thread("state_getReadProof")
def state_get_read_proof(context: Context, keys: StorageKeys, at: BlockHash | None = None) -> dict[str, Any]:
    """The tree nodes that prove each key's value, or its absence, under the block's state root."""
    with context.state(at) as state:
        return {"at": hexed(state.header.hash), "proof": [hexed(node) for node in state.prove(keys)]}


@registry.thread("state_call", "state_callAt")
def state_call(context: Context, name: str, data: HexBytes, at: BlockHash | None = None) -> str:
    """Call a runtime API on a block's state."""
    with context.state(at) as state:
        return hexed(runtime_call(context, state, name, data))


def runtime_call(context: Context, state: LedgerState, name: str, data: bytes) -> bytes:
    """A runtime API's answer; what it refuses is the caller's fault."""
    try:
        return context.backend.executive.call_api(state, name, data)
    except (UnknownApi, ScaleError, InvalidTransaction) as error:
        context.backend.ledger.panics.tell(error)
        raise RpcError(Code.STATE_CLIENT, f"Client error: Execution failed: {name}", str(error)) from None


@registry.subscription(
    "state_subscribeRuntimeVersion",
    "chain_subscribeRuntimeVersion",
    ends=("state_unsubscribeRuntimeVersion", "chain_unsubscribeRuntimeVersion"),
    notification="state_runtimeVersion",
)
@asynccontextmanager
async def state_subscribe_runtime_version(context: Context) -> AsyncIterator[AsyncGenerator[object]]:
    """The runtime's version, once: it does not change while the node runs."""
    yield _versions(context)


async def _versions(context: Context) -> AsyncGenerator[object]:
    yield version_json(context.runtime)
    await trio.sleep_forever()  # One release of this program knows one runtime.


class _Changes(Reader):
    """The values of some keys, then whichever of them a block changes."""

    def __init__(self, context: Context, receiver: Receiver[Header], keys: list[bytes]) -> None:
        self._context = context
        self._headers = new_headers(context, receiver)
        self._keys = keys
        self._known: dict[bytes, Hash | None] | None = None

    async def __anext__(self) -> object:
        async for header in self._headers:
            async with self.allowance.reading:
                changes, self._known = await self._context.in_thread(
                    _changes, self._context, header.hash, self._keys, self._known
                )
            if changes is not None:
                return changes
        raise StopAsyncIteration

    async def aclose(self) -> None:
        await self._headers.aclose()


def _changes(
    context: Context, at: Hash, keys: list[bytes], known: dict[bytes, Hash | None] | None
) -> tuple[Encoded | None, dict[bytes, Hash | None]]:
    """What a block changed of the keys as JSON, None if nothing, and the hashes of their values for the next block.

    Hashes, since the values themselves, of every subscription, would be memory that nobody counts.
    """
    with context.state(at) as state:
        values = _values(state, keys)
    hashes = {key: None if value is None else blake2_256(value) for key, value in values.items()}
    changed = {key: value for key, value in values.items() if known is None or known[key] != hashes[key]}
    is_told = bool(changed) or known is None
    return Encoded(encode(_change_set(at, changed))) if is_told else None, hashes


@registry.subscription("state_subscribeStorage", ends=("state_unsubscribeStorage",), notification="state_storage")
@asynccontextmanager
async def state_subscribe_storage(context: Context, keys: StorageKeys) -> AsyncIterator[_Changes]:
    """The values under some keys, then those that a block changed."""
    with context.watching(len(keys)), context.backend.heads.subscribe() as receiver:
        yield _Changes(context, receiver, keys)
