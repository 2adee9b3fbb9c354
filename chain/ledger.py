"""The chain of sealed blocks on this node: checks and executes the next block, stores it whole, answers for the past.

A block, its seal, its state and the pruning of old states are one transaction of the store, so the chain on disk is at
a block's end whenever anybody looks. Executing is pure: only `commit` and `extend` move the head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Final, Self

from chain.adoption import KEPT_HANDOVER, SEAL, Handover, KeptHandover, StateChunk, adopt
from chain.history import HISTORY
from chain.ledger_state import LedgerState
from chain.panic_log import PanicLog
from chain.primitives import merkle
from chain.primitives.hashing import Hash
from chain.primitives.merkle import Update
from chain.primitives.merkle_chunks import prove_chunk
from chain.primitives.scale import Struct, codec_of, decode, u32
from chain.primitives.seal import Seal
from chain.primitives.types import BLOCK, HEADER, Block, ConsensusDigest, Header, WireExtrinsic, genesis_header
from chain.proposing import Rejected, propose
from chain.store import MAP_BYTES_FIRST, Batch, DataFolderError, Head, Sizes, Snapshot, Store
from runtime.composition import Runtime, View
from runtime.executive import Executed, Executive
from runtime.handover import handover_keys
from runtime.panic import Exhausted
from runtime.types import InherentData, InvalidBlock, InvalidReason, InvalidTransaction

# When history is shortened, old states go in parts, so that no commit takes seconds.
PRUNED_PER_COMMIT_MAX: Final = 64

BODY: Final = codec_of(list[Annotated[bytes, WireExtrinsic()]])
# A transaction that comes too early or does not fit now may be valid in a later block.
LATER: Final = frozenset({InvalidReason.FUTURE, InvalidReason.EXHAUSTS_RESOURCES})


class UnknownBlock(Exception):
    """The chain on this node has no block of this hash."""

    def __init__(self, block_hash: Hash) -> None:
        super().__init__(f"no block 0x{block_hash.hex()} is in this node's chain")


class StatePruned(Exception):
    """The block is known, but the state after it is no longer kept."""

    def __init__(self, height: int, oldest: int) -> None:
        super().__init__(
            f"the state at height {height} was pruned: the oldest that this node keeps is {oldest}; ask for a later "
            "block, or a node that keeps more history"
        )


class NotNext(ValueError):
    """The chain on this node is at another height than the one that was to be built on."""


class Conflict(Exception):
    """[P1] Two different blocks of one height are sealed: a third of the validators or more broke the rules."""


@dataclass(frozen=True, slots=True)
class SealedBlock:
    """A final block: what nodes hand to who is behind."""

    block: Block
    seal: Seal

    def encode(self) -> bytes:
        return SEALED_BLOCK.encode(self)

    @staticmethod
    def decode(data: bytes) -> SealedBlock:
        """Read exactly one sealed block; ScaleError otherwise."""
        return SEALED_BLOCK.decode(data)


SEALED_BLOCK: Final[Struct[SealedBlock]] = Struct(SealedBlock)


@dataclass(frozen=True, slots=True)
class ExecutedBlock:
    """A block that was executed on its parent's state and found right: ready to be committed once it is sealed."""

    block: Block
    hash: Hash
    executed: Executed
    update: Update

    @property
    def height(self) -> int:
        return self.block.header.height


class Ledger:
    """The chain on disk and what it says. Any thread may call anything, but `commit` and `extend` one at a time."""

    def __init__(self, store: Store, executive: Executive, history: int | None) -> None:
        self._store = store
        self._executive = executive
        self._history = history
        self.panics = PanicLog()
        self._handover_keys = handover_keys(executive.runtime)
        with store.read() as snapshot:
            place = snapshot.head()
            genesis_hash = snapshot.hash_at(0)
            assert genesis_hash is not None
            self.genesis_hash: Hash = genesis_hash
            self._lowest_block = snapshot.lowest()
            header = snapshot.header(place.hash)
            if header is None or (head := HEADER.decode(header)).hash != place.hash:
                raise DataFolderError(
                    f"the database in {store.path} is damaged: block {place.height} is not what its hash says; move "
                    "the folder away and start again, and the node fetches the chain from its peers"
                )
        # One value, so that whoever reads it while another thread commits never sees parts of two blocks.
        self._head = (head, place.hash)
        self._oldest_state = place.oldest_state

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        executive: Executive,
        genesis_state: dict[bytes, bytes],
        genesis_name: str,
        history: int | None = HISTORY,
        map_bytes: int = MAP_BYTES_FIRST,
    ) -> Self:
        """Open the chain in a folder, or start it there from its genesis state.

        `history` is how many recent states stay readable, the head's included; None keeps all. Where it is less than
        the folder holds, each block takes some of the old ones away; where it is more, those that are gone stay gone.
        Raises DataFolderError, GenesisMismatch or DataFolderLocked, having written nothing.
        """
        if history is not None and history < 1:
            raise ValueError(f"expected a history of at least one state, got {history}")
        store = open_store(path, genesis_state, genesis_name, map_bytes=map_bytes)
        try:
            return cls(store, executive, history)
        except BaseException:
            store.close()
            raise

    @property
    def migrated(self) -> str | None:
        """What was done to a folder of an older release when it was opened, for the operator."""
        return self._store.migrated

    def close(self) -> None:
        """Let what runs in other threads end, then close the database. No method may be called after it."""
        self._store.close()

    @property
    def runtime(self) -> Runtime[View]:
        """What executes the blocks."""
        return self._executive.runtime

    @property
    def head(self) -> Header:
        """The newest sealed block's header."""
        return self._head[0]

    @property
    def head_hash(self) -> Hash:
        return self._head[1]

    @property
    def best(self) -> tuple[int, Hash]:
        """Height and hash of one and the same block, the newest."""
        header, block_hash = self._head
        return header.height, block_hash

    @property
    def history(self) -> int | None:
        """How many recent states are to be kept; None for all."""
        return self._history

    @property
    def oldest_state(self) -> int:
        """The lowest height whose state is readable."""
        return self._oldest_state

    @property
    def lowest_block(self) -> int:
        """The lowest height from which on every block is here: above 0 where the chain began with a peer's state."""
        return self._lowest_block

    @property
    def size_bytes(self) -> int:
        """How much of the disk the chain takes."""
        return self._store.size_bytes

    def sizes(self) -> Sizes:
        """How large the database is; for a thread."""
        return self._store.sizes()

    def header(self, block_hash: Hash) -> Header | None:
        with self._store.read() as snapshot:
            header = snapshot.header(block_hash)
        return None if header is None else HEADER.decode(header)

    def hash_at(self, height: int) -> Hash | None:
        with self._store.read() as snapshot:
            return snapshot.hash_at(height)

    def block(self, block_hash: Hash) -> Block | None:
        with self._store.read() as snapshot:
            header, body = snapshot.header(block_hash), snapshot.body(block_hash)
        return None if header is None or body is None else BLOCK.decode(header + body)

    def seal(self, block_hash: Hash) -> Seal | None:
        """Return a block's seal; genesis has none."""
        with self._store.read() as snapshot:
            seal = snapshot.seal(block_hash)
        return None if seal is None else SEAL.decode(seal)

    def handover(self, set_id: int) -> Handover | None:
        """Return the last block of a validator set, with what proves who came after it; None while it decides.

        It is kept when the state itself is pruned. A folder from before there were handovers lacks those of that time.
        """
        with self._store.read() as snapshot:
            stored = snapshot.handover(set_id)
            if stored is None:
                return None
            kept = KEPT_HANDOVER.decode(stored)
            block_hash = snapshot.hash_at(kept.height)
            assert block_hash is not None
            header, seal = snapshot.header(block_hash), snapshot.seal(block_hash)
        assert header is not None
        assert seal is not None
        return Handover(HEADER.decode(header), SEAL.decode(seal), kept.proof)

    def handovers(self, set_id: int, count: int) -> list[Handover]:
        """Return what is kept of up to `count` sets from one on, fewer when later ones have not ended."""
        found: list[Handover] = []
        while len(found) < count and (handover := self.handover(set_id + len(found))) is not None:
            found.append(handover)
        return found

    def state_chunk(self, block_hash: Hash, after: bytes | None, bytes_max: int) -> StateChunk | None:
        """Return a part of the state after a block, the keys after one; None when that state is not kept."""
        with self._store.read() as snapshot:
            encoded = snapshot.header(block_hash)
            if encoded is None:
                return None
            try:
                root = snapshot.root_at(HEADER.decode(encoded).height)
            except KeyError:
                return None
            return StateChunk(snapshot.state_keys(), prove_chunk(snapshot, root, after, bytes_max))

    def stage(self, entries: Sequence[tuple[bytes, bytes]]) -> None:
        """Lay aside a part of a state that is to be adopted; keys ascend, over all parts. For a thread."""
        self._store.write(lambda batch: batch.put_staged(entries))

    def clear_staged(self) -> None:
        """Forget what was laid aside. For a thread."""
        self._store.write(Batch.clear_staged)

    def adopt(self, sealed: SealedBlock, handovers: Sequence[Handover]) -> None:
        """Begin at a block with what was staged as its state; the ledger has to be opened anew. For a thread.

        Raises WrongState when the state is not the block's, and StorageFailed; the chain is then at genesis, as before.
        """
        body = BODY.encode(sealed.block.extrinsics)
        self._store.write(
            lambda batch: adopt(batch, sealed.block.header, body, sealed.seal, handovers, self._handover_keys)
        )

    def sealed_blocks(self, start: int, count: int, bytes_max: int) -> list[bytes]:
        """Return up to `count` encoded sealed blocks from a height on, at least one if there is one, within a size."""
        found: list[bytes] = []
        size = 0
        if start < self._lowest_block:
            return found
        with self._store.read() as snapshot:
            for height in range(max(start, 1), start + count):
                block_hash = snapshot.hash_at(height)
                if block_hash is None:
                    break
                parts = (snapshot.header(block_hash), snapshot.body(block_hash), snapshot.seal(block_hash))
                sealed = b"".join(part for part in parts if part is not None)
                size += len(sealed)
                if found and size > bytes_max:
                    break
                found.append(sealed)
        return found

    @contextmanager
    def state(self, block_hash: Hash | None = None) -> Iterator[LedgerState]:
        """Open the state after a block, the head if none is named, for as long as the `with` lasts.

        Raises UnknownBlock, or StatePruned when the block is older than the history that is kept.
        """
        with self._store.read() as snapshot:
            place = snapshot.head()
            wanted = place.hash if block_hash is None else block_hash
            encoded = snapshot.header(wanted)
            if encoded is None:
                raise UnknownBlock(wanted)
            header = HEADER.decode(encoded)
            if header.height < place.oldest_state:
                raise StatePruned(header.height, place.oldest_state)
            yield LedgerState(snapshot, header, snapshot.root_at(header.height), wanted == place.hash)

    def execute(self, block: Block) -> ExecutedBlock:
        """Execute the next block on the head's state; InvalidBlock, with what was expected and found, if it is wrong,
        Exhausted if this machine cannot tell, NotNext if the chain has passed it.

        Pure CPU: call it in a thread.
        """
        with self._store.read() as snapshot:
            return self._execute(snapshot, block)

    def _execute(self, snapshot: Snapshot, block: Block) -> ExecutedBlock:
        header = block.header
        place, state = _head_state(snapshot)
        if header.height <= place.height:
            raise NotNext(f"expected to execute height {place.height + 1}, got {header.height}")
        _expect("parent", place.hash, header.parent_hash)
        if header.height != place.height + 1:
            raise InvalidBlock(f"expected height {place.height + 1}, got {header.height}")
        _expect("extrinsics root", merkle.ordered_root(block.extrinsics), header.extrinsics_root)
        try:
            executed = self._executive.execute(state, header, block.extrinsics)
        except (InvalidBlock, Exhausted) as error:
            self.panics.tell(error)
            raise
        update = merkle.update(snapshot, snapshot.root_at(place.height), executed.changes, place.next_node)
        _expect("state root", update.root_hash, header.state_root)
        return ExecutedBlock(block, header.hash, executed, update)

    def execute_again(self, height: int) -> bool:
        """Execute a block of the chain on its parent's state, which has to be kept still: whether it ends as it did.

        InvalidBlock, or Exhausted, where it does not end. Pure CPU: call it in a thread.
        """
        with self._store.read() as snapshot:
            parent_hash, block_hash = snapshot.hash_at(height - 1), snapshot.hash_at(height)
            assert parent_hash is not None
            assert block_hash is not None
            block, parent = self.block(block_hash), self.header(parent_hash)
            assert block is not None
            assert parent is not None
            root = snapshot.root_at(height - 1)
            state = LedgerState(snapshot, parent, root, False)
            executed = self._executive.execute(state, block.header, block.extrinsics)
            update = merkle.update(snapshot, root, executed.changes, snapshot.head().next_node)
        return update.root_hash == block.header.state_root

    def runtime_mark(self) -> bytes | None:
        """What was kept of the runtime that this folder was last opened with (`chain/runtime_mark.py`)."""
        with self._store.read() as snapshot:
            return snapshot.runtime_mark()

    def keep_runtime_mark(self, mark: bytes) -> None:
        """Keep it, durably; raises StorageFailed."""
        self._store.write(lambda batch: batch.put_runtime_mark(mark))

    def propose(
        self,
        height: int,
        view: int,
        beacon: bytes,
        inherent: InherentData,
        transactions: Iterable[bytes],
        stop: Callable[[], bool] = lambda: False,
    ) -> tuple[ExecutedBlock, list[Rejected]]:
        """Build the next block from what is offered, in its order, until it is full or `stop` says so.

        Returns it executed, and the transactions that are not valid on this state, or after which a hook of the block
        fails, for the pool to drop. Raises NotNext when `height` is not the next, and HookPanicked when the runtime
        lets nobody make a block. Pure CPU: call it in a thread.
        """

        return propose(partial(self._build, height, view, beacon, inherent), transactions, stop, self.panics)

    def _build(
        self,
        height: int,
        view: int,
        beacon: bytes,
        inherent: InherentData,
        transactions: Iterable[bytes],
        stop: Callable[[], bool],
    ) -> tuple[ExecutedBlock, list[Rejected]]:
        digest = ConsensusDigest(view, beacon)
        rejected: list[Rejected] = []
        with self._store.read() as snapshot:
            place, state = _head_state(snapshot)
            if height != place.height + 1:
                raise NotNext(f"expected to propose height {place.height + 1}, got {height}")
            builder = self._executive.begin(state, height=height, parent_hash=place.hash, digest=[digest.item()])
            for extrinsic in builder.inherents(inherent):
                builder.apply(extrinsic)
            for extrinsic in transactions:
                if builder.full or stop():
                    break
                try:
                    builder.apply(extrinsic)
                except InvalidTransaction as error:
                    self.panics.tell(error)
                    if error.reason not in LATER:
                        rejected.append(Rejected(extrinsic, error))
            executed = builder.finish()
            update = merkle.update(snapshot, snapshot.root_at(place.height), executed.changes, place.next_node)
        extrinsics = list(executed.extrinsics)
        header = Header(place.hash, height, update.root_hash, merkle.ordered_root(extrinsics), [digest.item()])
        return ExecutedBlock(Block(header, extrinsics), header.hash, executed, update), rejected

    def commit(self, executed: ExecutedBlock, seal: Seal) -> bool:
        """Make a sealed block the head; when this returns, the disk holds it. False if it was there already.

        Takes as long as the disk: call it in the one thread for it. Whoever calls has checked the seal's signature.
        Raises StorageFailed, after which the node has to stop, and Conflict if another block of this height is sealed.
        """
        header = executed.block.header
        if (seal.height, seal.block_hash) != (header.height, executed.hash):
            raise ValueError(
                f"expected a seal of block {header.height} 0x{executed.hash.hex()}, got one of {seal.height} "
                f"0x{seal.block_hash.hex()}"
            )

        def change(batch: Batch) -> int | None:
            place = batch.head()
            if header.height <= place.height:
                stored = batch.hash_at(header.height)
                if stored != executed.hash:
                    raise Conflict(
                        f"block {header.height} is sealed twice: 0x{(stored or b'').hex()} is stored, "
                        f"0x{executed.hash.hex()} came; the validators that signed both have to be found"
                    )
                return None
            if header.parent_hash != place.hash:
                raise ValueError(
                    f"expected a block on the head 0x{place.hash.hex()}, got one on 0x{header.parent_hash.hex()}"
                )
            return self._put(batch, place, executed, seal)

        oldest_state = self._store.write(change)
        if oldest_state is None:
            return False
        self._move(executed, oldest_state)
        return True

    def extend(self, blocks: Sequence[SealedBlock], stop: Callable[[], bool] = lambda: False) -> list[ExecutedBlock]:
        """Execute the next blocks and make the last of them the head, in one transaction: all of them wait for the disk
        once. When this returns, it holds them; whatever ends the process before leaves the chain as it was.

        Returns those that were taken: up to the one with which a validator set ends, since another decides the rest, or
        after which `stop` says so, and up to the first that does not execute, which raises, as `execute` does, where it
        is the first of all.
        Whoever calls has checked the seals, by the set that decides the first. Takes as long as the disk, and all of
        the processor time: call it in the one thread for committing. Raises StorageFailed, as `commit`.
        """

        def change(batch: Batch) -> tuple[list[ExecutedBlock], int]:
            added: list[ExecutedBlock] = []
            oldest_state = self._oldest_state
            for sealed in blocks:
                try:
                    executed = self._execute(batch, sealed.block)
                except (InvalidBlock, Exhausted):
                    if not added:
                        raise
                    break
                oldest_state = self._put(batch, batch.head(), executed, sealed.seal)
                added.append(executed)
                if self.ends_set(executed) or stop():
                    break
            return added, oldest_state

        added, oldest_state = self._store.write(change)
        if added:
            self._move(added[-1], oldest_state)
        return added

    def ends_set(self, executed: ExecutedBlock) -> bool:
        """Whether another validator set decides the block after this one."""
        return self._handover_keys[0] in executed.executed.changes

    def _put(self, batch: Batch, place: Head, executed: ExecutedBlock, seal: Seal) -> int:
        """Write a block that follows the head, and return the oldest height whose state is then kept."""
        header, update = executed.block.header, executed.update
        body = BODY.encode(executed.block.extrinsics)
        batch.put_block(header.height, executed.hash, HEADER.encode(header), body, SEAL.encode(seal))
        ended = self._ended_set(batch, executed)
        batch.put_state(executed.executed.changes)
        batch.put_tree(header.height, update.root, update.new_nodes, update.stale)
        if ended is not None:
            proof = merkle.prove(batch, update.root, self._handover_keys)
            batch.put_handover(ended, KEPT_HANDOVER.encode(KeptHandover(header.height, proof)))
        oldest = self._prune(batch, place.oldest_state, header.height)
        batch.put_head(Head(header.height, executed.hash, place.next_node + len(update.new_nodes), oldest))
        return oldest

    def _ended_set(self, batch: Batch, executed: ExecutedBlock) -> int | None:
        """The number of the validator set whose last block this is, which is not written yet; None for any other."""
        if not self.ends_set(executed):
            return None
        before = batch.value(self._handover_keys[0])
        return 0 if before is None else decode(u32, before)

    def _move(self, executed: ExecutedBlock, oldest_state: int) -> None:
        """Let everybody see the head that the disk holds now."""
        self._head = (executed.block.header, executed.hash)
        self._oldest_state = oldest_state

    def _prune(self, batch: Batch, oldest: int, height: int) -> int:
        """Forget the states that fall out of the history now, and return the oldest height that keeps one."""
        if self._history is None:
            return oldest
        keep_from = min(height - self._history + 1, oldest + PRUNED_PER_COMMIT_MAX)
        for old in range(oldest, keep_from):
            batch.forget_state(old)
        return max(oldest, keep_from)


def open_store(
    path: Path, genesis_state: dict[bytes, bytes], genesis_name: str, *, map_bytes: int = MAP_BYTES_FIRST
) -> Store:
    """The database of the chain with this genesis state, begun with that if there is none; raises as `Ledger.open`."""
    update = merkle.update(_NoNodes(), None, dict(genesis_state), 0)
    header = genesis_header(update.root_hash)

    def write_genesis(batch: Batch) -> None:
        batch.put_block(0, header.hash, HEADER.encode(header), BODY.encode([]), None)
        batch.put_state(dict(genesis_state))
        batch.put_tree(0, update.root, update.new_nodes, [])
        batch.put_head(Head(0, header.hash, len(update.new_nodes), 0))

    return Store.open(path, header.hash, genesis_name, write_genesis, map_bytes=map_bytes)


class _NoNodes:
    """The reader of the tree before genesis."""

    def node(self, node_id: int) -> bytes:
        raise KeyError(node_id)


def _head_state(snapshot: Snapshot) -> tuple[Head, LedgerState]:
    place = snapshot.head()
    encoded = snapshot.header(place.hash)
    assert encoded is not None
    return place, LedgerState(snapshot, HEADER.decode(encoded), snapshot.root_at(place.height), True)


def _expect(what: str, expected: Hash, got: Hash) -> None:
    if expected != got:
        raise InvalidBlock(f"expected {what} 0x{expected.hex()}, got 0x{got.hex()}")
