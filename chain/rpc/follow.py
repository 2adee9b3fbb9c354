"""What one `chainHead_v1_follow` may see and do, as pure functions of blocks and requests: pins, operations, limits.

A block of this chain is final when it is known: it is new, best and finalized at once, and none is ever pruned from
the chain. What a node forgets is the state of old blocks: a follow that still pins one is stopped, since it was
promised that a pinned block stays within reach, and its client starts a new one. Operations that outlive the pin of
their block are told that it is inaccessible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from chain.primitives.hashing import Hash
from chain.primitives.types import Header
from chain.rpc.context import hexed
from chain.rpc.errors import Code, RpcError
from chain.rpc.queries import Query

Event = dict[str, Any]

# As many states as a node keeps by default: four minutes of one-second blocks. Pins share the headers that they hold.
PINNED_MAX: Final = 256
# Substrate's number: clients that start over find the blocks in between, and those that look for a parent have one.
INITIAL_BLOCKS_MAX: Final = 16
# The specification wants 16 at least, where each storage query counts; a wallet asks for its accounts at once.
OPERATIONS_MAX: Final = 64
# A call counts once more for each of these, so that what waits for a thread is a mebibyte at most, or one larger call.
ARGUMENT_BYTES_PER_SLOT: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Body:
    """Fetch a block's extrinsics."""

    @property
    def slots(self) -> int:
        """How many operations it counts as."""
        return 1


@dataclass(frozen=True, slots=True)
class Call:
    """Call a runtime API on a block's state."""

    function: str
    arguments: bytes

    @property
    def slots(self) -> int:
        """How many operations it counts as."""
        return min(1 + len(self.arguments) // ARGUMENT_BYTES_PER_SLOT, OPERATIONS_MAX)


@dataclass(frozen=True, slots=True)
class Storage:
    """Look up storage; `queries` are those that are not answered yet."""

    queries: tuple[Query, ...]

    @property
    def slots(self) -> int:
        """How many operations it counts as."""
        return max(1, len(self.queries))


Work = Body | Call | Storage


class Phase(Enum):
    """Where an operation stands."""

    ANNOUNCED = auto()  # the client is not told its id yet
    READY = auto()
    WAITING = auto()  # for the client to say that it wants more


@dataclass(slots=True)
class Operation:
    """Work on one block that the client waits for."""

    id: str
    block: Hash
    work: Work
    slots: int
    phase: Phase = Phase.ANNOUNCED

    def event(self, name: str, **fields: object) -> Event:
        """Something about this operation."""
        return {"event": name, "operationId": self.id, **fields}


class Follow:
    """One client's follow. After `stopped` it is only to be forgotten."""

    def __init__(self, runtime: Event | None) -> None:
        self.stopped = False
        self._runtime = runtime
        self._pins: dict[Hash, Header] = {}  # by ascending height
        self._operations: dict[str, Operation] = {}  # those whose turn it is first
        self._operations_started = 0

    # --- blocks

    def begin(self, headers: Sequence[Header]) -> list[Event]:
        """Start with the newest blocks, at least one, by ascending height."""
        self._pins = {header.hash: header for header in headers}
        hashes = [hexed(block) for block in self._pins]
        initialized: Event = {"event": "initialized", "finalizedBlockHashes": hashes}
        if self._runtime is not None:
            initialized["finalizedBlockRuntime"] = self._runtime
        return [initialized, {"event": "bestBlockChanged", "bestBlockHash": hashes[-1]}]

    def advance(self, header: Header, oldest_state: int) -> list[Event]:
        """The next block; `oldest_state` is the lowest height whose state the node keeps."""
        self._pins[header.hash] = header
        oldest = next(iter(self._pins.values()))
        if oldest.height < oldest_state or len(self._pins) > PINNED_MAX:
            return self.stop()
        block = hexed(header.hash)
        new: Event = {"event": "newBlock", "blockHash": block, "parentBlockHash": hexed(header.parent_hash)}
        if self._runtime is not None:
            new["newRuntime"] = None  # One release of this program knows one runtime.
        return [
            new,
            {"event": "bestBlockChanged", "bestBlockHash": block},
            {"event": "finalized", "finalizedBlockHashes": [block], "prunedBlockHashes": []},
        ]

    def stop(self) -> list[Event]:
        """Release everything: the client missed blocks, or holds too many."""
        self.stopped = True
        self._pins.clear()
        self._operations.clear()
        return [{"event": "stop"}]

    def pinned(self, block: Hash) -> Header:
        """A pinned block's header; raises `RpcError`."""
        found = self._pins.get(block)
        if found is None:
            reason = f"this subscription does not pin 0x{block.hex()}: it was unpinned, or never reported"
            raise RpcError(Code.NOT_PINNED, "Invalid block hash", reason)
        return found

    def unpin(self, blocks: Sequence[Hash]) -> None:
        """Let go of all of these blocks, or of none; raises `RpcError`."""
        if len(set(blocks)) < len(blocks):
            raise RpcError(Code.DUPLICATE_HASHES, "Received duplicate hashes", "expected each block hash once")
        for block in blocks:
            self.pinned(block)
        for block in blocks:
            del self._pins[block]

    # --- operations

    @property
    def free_slots(self) -> int:
        """How many operations, or storage queries, may be started now."""
        return OPERATIONS_MAX - sum(operation.slots for operation in self._operations.values())

    @property
    def held_bytes(self) -> int:
        """How much memory the arguments of calls take that are under way. All else is short."""
        works = (operation.work for operation in self._operations.values())
        return sum(len(work.arguments) for work in works if isinstance(work, Call))

    def start(self, block: Hash, work: Work) -> Operation | None:
        """Begin work on a pinned block, None when too much is under way; raises `RpcError`."""
        self.pinned(block)
        if isinstance(work, Call) and self._runtime is None:
            reason = "expected a subscription that was started with withRuntime = true"
            raise RpcError(Code.FOLLOWS_NO_RUNTIME, "The subscription was started without the runtime", reason)
        if self.free_slots < work.slots:
            return None
        self._operations_started += 1
        operation = Operation(str(self._operations_started), block, work, work.slots)
        self._operations[operation.id] = operation
        return operation

    def announced(self) -> None:
        """The client is told the ids of what it started: the work may begin."""
        for operation in self._operations.values():
            if operation.phase is Phase.ANNOUNCED:
                operation.phase = Phase.READY

    def next_operation(self) -> Operation | None:
        """The operation whose turn it is, if any can go on; the others come before it again."""
        ready = (operation for operation in self._operations.values() if operation.phase is Phase.READY)
        found = next(ready, None)
        if found is not None:
            del self._operations[found.id]
            self._operations[found.id] = found
        return found

    def is_under_way(self, operation: Operation) -> bool:
        """Whether the client still waits for it."""
        return operation.id in self._operations

    def progress(self, operation: Operation, left: tuple[Query, ...]) -> list[Event]:
        """An operation has said what it could, but for what is `left`; what is to be said about that."""
        if not left:
            del self._operations[operation.id]
            return []
        operation.work = Storage(left)
        if any(query.iterates for query in left):
            operation.phase = Phase.WAITING
            return [operation.event("operationWaitingForContinue")]
        return []

    def resume(self, operation_id: str) -> None:
        """The client wants more of an operation that waits; raises `RpcError` if that does not wait."""
        operation = self._operations.get(operation_id)
        if operation is None:
            return
        if operation.phase is not Phase.WAITING:
            reason = f"operation {operation_id} has not said operationWaitingForContinue"
            raise RpcError(Code.NOT_WAITING, "Wait for continue event was not generated for the subscription", reason)
        operation.phase = Phase.READY

    def abandon(self, operation_id: str) -> None:
        """The client does not want an operation any more."""
        self._operations.pop(operation_id, None)
