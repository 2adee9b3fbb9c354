"""`chainHead_v1_*`: follow the head of the chain, and ask about the blocks that it reports.

One task serves a follow: between two pages of one operation it looks for new blocks and for other operations. A
connection holds one of the reading threads at most, whatever it has asked for on its follows. All that is said goes
through the follow's own queue, a slow reader is waited for, and one that misses blocks meanwhile is told to start over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, assert_never

from chain.ledger import StatePruned
from chain.log import Log
from chain.primitives.hashing import Hash
from chain.primitives.types import HEADER, Header
from chain.rpc.broadcast import Lagged, Receiver
from chain.rpc.context import Context, hexed
from chain.rpc.errors import Code, RpcError
from chain.rpc.follow import (
    INITIAL_BLOCKS_MAX,
    OPERATIONS_MAX,
    PINNED_MAX,
    Body,
    Call,
    Event,
    Follow,
    Operation,
    Storage,
    Work,
)
from chain.rpc.methods_state import runtime_call, version_json
from chain.rpc.params import BlockHash, HexBytes, OneOrMore, quote
from chain.rpc.protocol import Encoded, encode
from chain.rpc.queries import Queries, QueriesDecoder, Query, in_state, read_page
from chain.rpc.registry import Dialogue, Pace, Registry, nothing
from runtime.composition import Runtime, View

log = Log("rpc")

registry = Registry()

# The specification wants two; Substrate grants four.
FOLLOWS_MAX = 4
LIMIT_REACHED = {"result": "limitReached"}

PinnedHashes = Annotated[list[bytes], OneOrMore(PINNED_MAX)]
# What cannot be looked up now is not read either: the client asks for it again.
StorageQueries = Annotated[Queries, QueriesDecoder(OPERATIONS_MAX, counts_rest=True)]


class Following(Dialogue):
    """One open follow: the events that go to its client."""

    def __init__(
        self, context: Context, receiver: Receiver[Header], newest: Sequence[Header], runtime: Event | None
    ) -> None:
        self.follow = Follow(runtime)
        self._context = context
        self._receiver = receiver
        self._height = newest[-1].height
        self._events: deque[Event | Encoded] = deque(self.follow.begin(newest))
        self._held_bytes = 0  # as the connection was told

    async def __anext__(self) -> object:
        while not self._events:
            if self.follow.stopped:
                raise StopAsyncIteration
            await self._advance()
            self._count()
        event = self._events.popleft()
        self.allowance.hold(-_size(event))
        return event

    async def _advance(self) -> None:
        """Do the next thing that there is to do, or wait for it."""
        try:
            header = self._receiver.take()
        except Lagged:
            self._events += self.follow.stop()
            return
        if header is not None:
            if header.height > self._height:
                self._events += self.follow.advance(header, self._context.backend.ledger.oldest_state)
        elif (operation := self.follow.next_operation()) is not None:
            async with self.allowance.reading:
                said, left = await self._context.in_thread(_perform, self._context, operation)
            if self.follow.is_under_way(operation):
                self._events += [*said, *self.follow.progress(operation, left)]
                self.allowance.hold(sum(map(_size, said)))
        else:
            await self._receiver.wait()

    def _count(self) -> None:
        """Tell the connection what the operations under way take of memory."""
        held_bytes = self.follow.held_bytes
        self.allowance.hold(held_bytes - self._held_bytes)
        self._held_bytes = held_bytes

    def answered(self) -> None:
        self.follow.announced()
        self._count()
        self._receiver.wake()

    async def aclose(self) -> None:
        self.follow.stop()
        self._count()
        self.allowance.hold(-sum(map(_size, self._events)))


def _size(event: Event | Encoded) -> int:
    """How much it counts as memory: what an operation brought. All else is short."""
    return len(event) if isinstance(event, Encoded) else 0


def _perform(context: Context, operation: Operation) -> tuple[list[Encoded], tuple[Query, ...]]:
    """Take an operation as far as one visit to a thread takes it: its events as JSON, and the queries left."""
    left: tuple[Query, ...] = ()
    try:
        said, left = _results(context, operation)
    except StatePruned:
        said = [operation.event("operationInaccessible")]
    except RpcError as error:
        said = [operation.event("operationError", error=str(error.data))]
    except Exception as error:
        what = quote(operation.work.function) if isinstance(operation.work, Call) else type(operation.work).__name__
        log.exception(f"{what} failed: this is a bug in the node, not in the request", method=what)
        said = [operation.event("operationError", error=f"{type(error).__name__}: see the node's log")]
    return [Encoded(encode(event)) for event in said], left


def _results(context: Context, operation: Operation) -> tuple[list[Event], tuple[Query, ...]]:
    ledger = context.backend.ledger
    match operation.work:
        case Body():
            block = ledger.block(operation.block)
            assert block is not None, "a block that was reported stays in the ledger"
            return [operation.event("operationBodyDone", value=[hexed(raw) for raw in block.extrinsics])], ()
        case Call(function, arguments):
            with ledger.state(operation.block) as state:
                output = runtime_call(context, state, function, arguments)
            return [operation.event("operationCallDone", output=hexed(output))], ()
        case Storage(queries):
            with ledger.state(operation.block) as state:
                items, left = read_page(in_state(state), queries)
            said = [operation.event("operationStorageItems", items=items)] if items else []
            if not left:
                said.append(operation.event("operationStorageDone"))
            return said, tuple(left)
        case _:
            assert_never(operation.work)


def _full() -> RpcError:
    return RpcError(
        Code.TOO_MANY_FOLLOWS,
        "Maximum number of chainHead_follow has been reached",
        f"this connection has {FOLLOWS_MAX}, the most that it may have: end one with chainHead_v1_unfollow",
    )


@registry.subscription(
    "chainHead_v1_follow",
    ends=("chainHead_v1_unfollow",),
    notification="chainHead_v1_followEvent",
    pace=Pace.PATIENT,
    most=FOLLOWS_MAX,
    full=_full,
    ended=nothing,
)
@asynccontextmanager
async def chain_head_v1_follow(context: Context, with_runtime: bool) -> AsyncIterator[Following]:
    """The newest blocks, then every block; operations that this connection starts report here."""
    with context.backend.heads.subscribe() as receiver:
        newest = await context.in_thread(_newest, context)
        yield Following(context, receiver, newest, _runtime_json(context.runtime) if with_runtime else None)


def _newest(context: Context) -> list[Header]:
    """The headers to begin with: of the newest blocks whose states will stay for a while."""
    ledger = context.backend.ledger
    header = ledger.head
    count = INITIAL_BLOCKS_MAX if ledger.history is None else min(INITIAL_BLOCKS_MAX, ledger.history // 2)
    found = [header]
    while header.height > ledger.oldest_state and len(found) < count:
        parent = ledger.header(header.parent_hash)
        assert parent is not None
        header = parent
        found.append(header)
    return found[::-1]


def _runtime_json(runtime: Runtime[View]) -> Event:
    """The runtime's version in the specification's form."""
    version = version_json(runtime)
    names = ("specName", "implName", "specVersion", "implVersion", "transactionVersion")
    return {"type": "valid", "spec": {**{name: version[name] for name in names}, "apis": dict(version["apis"])}}


@registry.within(Following, "chainHead_v1_header")
def chain_head_v1_header(following: Following | None, hash: BlockHash) -> str | None:
    """A pinned block's header, SCALE-encoded."""
    return None if following is None else hexed(HEADER.encode(following.follow.pinned(hash)))


@registry.within(Following, "chainHead_v1_unpin")
def chain_head_v1_unpin(following: Following | None, hash_or_hashes: PinnedHashes) -> None:
    """Let go of blocks: of all that are named, or of none."""
    if following is not None:
        following.follow.unpin(hash_or_hashes)


@registry.within(Following, "chainHead_v1_body")
def chain_head_v1_body(following: Following | None, hash: BlockHash) -> dict[str, Any]:
    """Start an operation that tells the extrinsics of a block."""
    return _started(following, hash, Body())


@registry.within(Following, "chainHead_v1_call")
def chain_head_v1_call(
    following: Following | None, hash: BlockHash, function: str, call_parameters: HexBytes
) -> dict[str, Any]:
    """Start an operation that calls a function of the runtime's API after a block."""
    return _started(following, hash, Call(function, call_parameters))


@registry.within(Following, "chainHead_v1_storage")
def chain_head_v1_storage(
    following: Following | None, hash: BlockHash, items: StorageQueries, child_trie: HexBytes | None = None
) -> dict[str, Any]:
    """Look up as many of the queries as there is room for. There are no child tries: they hold nothing."""
    taken = () if following is None else items.asked[: following.follow.free_slots]
    answer = _started(following, hash, Storage(taken if child_trie is None else ()))
    return answer if answer == LIMIT_REACHED else {**answer, "discardedItems": items.count - len(taken)}


def _started(following: Following | None, block: Hash, work: Work) -> dict[str, Any]:
    operation = None if following is None else following.follow.start(block, work)
    return LIMIT_REACHED if operation is None else {"result": "started", "operationId": operation.id}


@registry.within(Following, "chainHead_v1_continue")
def chain_head_v1_continue(following: Following | None, operation_id: str) -> None:
    """Let an operation go on that waits for that after every few items."""
    if following is not None:
        following.follow.resume(operation_id)


@registry.within(Following, "chainHead_v1_stopOperation")
def chain_head_v1_stop_operation(following: Following | None, operation_id: str) -> None:
    """Say nothing more of an operation."""
    if following is not None:
        following.follow.abandon(operation_id)
