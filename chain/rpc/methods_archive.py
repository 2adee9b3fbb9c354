"""`archive_v1_*`: blocks and states of any age, as the JSON-RPC interface specification has it.

Every block stays; a state that this node has pruned is an error that says so, where the specification counts on an
archive: an operator who wants to serve them all keeps them all.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

from chain.primitives.types import HEADER
from chain.rpc.context import Context, hexed
from chain.rpc.errors import Code, RpcError
from chain.rpc.methods_state import runtime_call
from chain.rpc.params import BlockHash, HexBytes, Index32
from chain.rpc.protocol import Encoded, encode
from chain.rpc.queries import (
    ALL_CHANGES,
    ChangesDecoder,
    Item,
    Queries,
    QueriesDecoder,
    Query,
    between_states,
    in_state,
    read_page,
)
from chain.rpc.registry import Pace, Registry, nothing

registry = Registry()

# Of one connection and kind at a time; their pages are read in turns.
STORAGES_MAX = 16
# Reading them takes a few milliseconds of the loop.
QUERIES_MAX = 1000
StorageQueries = Annotated[Queries, QueriesDecoder(QUERIES_MAX, starts=True)]
ChangeQueries = Annotated[tuple[Query, ...], ChangesDecoder(QUERIES_MAX)]


@registry.sync("archive_v1_genesisHash")
def archive_v1_genesis_hash(context: Context) -> str:
    """The hash of block 0."""
    return hexed(context.backend.ledger.genesis_hash)


@registry.sync("archive_v1_finalizedHeight")
def archive_v1_finalized_height(context: Context) -> int:
    """The height of the head: every block here is final."""
    return context.backend.ledger.head.height


@registry.thread("archive_v1_hashByHeight")
def archive_v1_hash_by_height(context: Context, height: Index32) -> list[str]:
    """The block at a height: one, as there are no forks, or none yet."""
    found = context.backend.ledger.hash_at(height)
    return [] if found is None else [hexed(found)]


@registry.thread("archive_v1_header")
def archive_v1_header(context: Context, hash: BlockHash) -> str | None:
    """A block's header as SCALE, null for a hash that no block has."""
    header = context.header(hash)
    return None if header is None else hexed(HEADER.encode(header))


@registry.thread("archive_v1_body")
def archive_v1_body(context: Context, hash: BlockHash) -> list[str] | None:
    """The extrinsics of a block, null for a hash that no block has."""
    block = context.block(hash)
    return None if block is None else [hexed(raw) for raw in block.extrinsics]


@registry.thread("archive_v1_call")
def archive_v1_call(
    context: Context, hash: BlockHash, function: str, call_parameters: HexBytes
) -> dict[str, Any] | None:
    """Call a runtime API on a block's state; null for an unknown block."""
    if context.header(hash) is None:
        return None
    try:
        with context.state(hash) as state:
            return {"success": True, "value": hexed(runtime_call(context, state, function, call_parameters))}
    except RpcError as error:
        return {"success": False, "error": str(error)}


def _full() -> RpcError:
    return RpcError(
        Code.TOO_MANY_SUBSCRIPTIONS,
        "Too many subscriptions of this kind on the connection",
        f"this connection has {STORAGES_MAX}, the most that it may have: wait for one to end",
    )


@registry.subscription(
    "archive_v1_storage",
    ends=("archive_v1_stopStorage",),
    notification="archive_v1_storageEvent",
    pace=Pace.PAGED,
    most=STORAGES_MAX,
    full=_full,
    ended=nothing,
)
@asynccontextmanager
async def archive_v1_storage(
    context: Context, hash: BlockHash, items: StorageQueries, child_trie: HexBytes | None = None
) -> AsyncIterator[AsyncGenerator[list[object]]]:
    """Look up storage, one event an item. There are no child tries: they hold nothing."""

    def page(queries: list[Query]) -> tuple[list[Item], list[Query]]:
        with context.state(hash) as state:
            return read_page(in_state(state), queries)

    yield _events(context, "storage", page, items.asked if child_trie is None else ())


@registry.subscription(
    "archive_v1_storageDiff",
    ends=("archive_v1_stopStorageDiff",),
    notification="archive_v1_storageDiffEvent",
    pace=Pace.PAGED,
    most=STORAGES_MAX,
    full=_full,
    ended=nothing,
)
@asynccontextmanager
async def archive_v1_storage_diff(
    context: Context, hash: BlockHash, items: ChangeQueries | None = None, previous_hash: BlockHash | None = None
) -> AsyncIterator[AsyncGenerator[list[object]]]:
    """What a block changed, or all blocks since an earlier one did, one event a key."""

    def page(queries: list[Query]) -> tuple[list[Item], list[Query]]:
        with context.state(hash) as new, context.state(previous_hash or new.header.parent_hash) as old:
            if old.header.height >= new.header.height:
                reason = f"expected a previousHash at a height below {new.header.height}, got {old.header.height}"
                raise RpcError(Code.INVALID_PARAMS, "Invalid params", reason)
            return read_page(between_states(old, new), queries)

    yield _events(context, "storageDiff", page, ALL_CHANGES if items is None else items)


Page = Callable[[list[Query]], tuple[list[Item], list[Query]]]


async def _events(context: Context, name: str, page: Page, asked: Sequence[Query]) -> AsyncGenerator[list[object]]:
    """One event for each item of all pages, and one for their end."""
    queries = list(asked)
    while True:
        try:
            found, queries = await context.in_thread(_encoded, name, page, queries)
        except RpcError as error:
            yield [{"event": f"{name}Error", "error": str(error)}]
            return
        if not queries:
            yield [*found, {"event": f"{name}Done"}]
            return
        yield [*found]


def _encoded(name: str, page: Page, queries: list[Query]) -> tuple[list[Encoded], list[Query]]:
    items, left = page(queries)
    return [Encoded(encode({"event": name, **item})) for item in items], left
