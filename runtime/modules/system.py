"""System: accounts, the block that is being executed, the hashes of past blocks, and events.

Every other module builds on it; it knows none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Annotated, Final

from chain.primitives.hashing import Hash, blake2_256
from chain.primitives.merkle import KEY_BYTES_MAX
from chain.primitives.scale import BYTES, H256, AccountId, Tuple, Vec, compact_encode, u16, u32
from chain.primitives.types import Consensus, Digest, DigestSeal, Other, PreRuntime
from runtime.faults import DispatchFault
from runtime.framework import Constant, EventLog, Module, call, event
from runtime.limits import BLOCK_LENGTH, BLOCK_WEIGHTS, MICROSECOND, BlockLength, BlockWeights, WeightPerClass
from runtime.storage import Hasher, StorageMap, StorageValue
from runtime.types import (
    AccountInfo,
    ApplyExtrinsic,
    DispatchClass,
    DispatchError,
    DispatchInfo,
    EventRecord,
    Origin,
    RuntimeVersion,
    Weight,
)

# Substrate's for networks without one of their own: wallets show the same address for a key here as on those.
SS58_PREFIX: Final = 42

ENTRY: Final = Weight(30 * MICROSECOND)  # an item of storage: its tree node is hashed and written when the block ends
# Of items that root names in one call: what holds more objects than this is read before anybody asks who sent it.
ITEMS_MAX: Final = 1000
HASHED_BYTE: Final = 2000  # picoseconds: blake2b takes half of it, copying the bytes the rest


Items = Annotated[list[tuple[bytes, bytes]], Vec(Tuple(BYTES, BYTES), list, ITEMS_MAX)]
Keys = Annotated[list[bytes], Vec(BYTES, list, ITEMS_MAX)]


class System(Module):
    """Accounts, blocks and events."""

    account = StorageMap[AccountId, AccountInfo](default=AccountInfo(), doc="The full account information.")
    block_weight = StorageValue[WeightPerClass](
        default=WeightPerClass(), doc="The weight that the current block has used, by dispatch class."
    )
    block_hash = StorageMap[u32, H256](
        default=bytes(32), hasher=Hasher.TWOX_64_CONCAT, doc="The hashes of genesis and of the last 256 blocks."
    )
    number = StorageValue[u32](default=0, doc="The height of the block that is being, or was last, executed.")
    parent_hash = StorageValue[H256](default=bytes(32), doc="The hash of its parent.")
    digest = StorageValue[Digest](default=Digest([]), doc="Its digest.")
    events = StorageValue[list[EventRecord]](
        default=[], codec=lambda runtime: Vec(runtime.event_record_codec), doc="The events of the block."
    )
    event_count = StorageValue[u32](default=0, doc="How many events the block has.")
    event_topics = StorageMap[H256, list[tuple[u32, u32]]](
        default=[],
        doc="The block's events by topic: height and position among the block's events. Forgotten with the block.",
    )

    block_weights = Constant[BlockWeights](BLOCK_WEIGHTS, doc="How much weight a block may hold.")
    block_length = Constant[BlockLength](BLOCK_LENGTH, doc="How many bytes of extrinsics a block may hold.")
    block_hash_count = Constant[u32](256, doc="How many block hashes are kept: a mortal transaction lives no longer.")
    version = Constant[RuntimeVersion](from_runtime=lambda runtime: runtime.version, doc="The runtime's version.")
    ss58_prefix = Constant[u16](SS58_PREFIX, name="SS58Prefix", doc="The network's number in addresses.")

    @event(index=0)
    class ExtrinsicSuccess:
        """An extrinsic completed successfully."""

        dispatch_info: DispatchInfo

    @event(index=1)
    class ExtrinsicFailed:
        """An extrinsic failed: its writes were undone, its fee was charged."""

        dispatch_error: DispatchFault
        dispatch_info: DispatchInfo

    @event(index=3)
    class NewAccount:
        """A new account was created."""

        account: AccountId

    @event(index=4)
    class KilledAccount:
        """An account was removed."""

        account: AccountId

    @event(index=5)
    class Remarked:
        """An on-chain remark was made."""

        sender: AccountId
        hash_: H256

    class InvalidKey(DispatchError):
        """A storage key has 1 to 256 bytes."""

        index = 0

    @call(index=0, weight=Weight(10 * MICROSECOND))
    def remark(self, origin: Origin, remark: bytes) -> None:
        """Make some on-chain remark: bytes in a block, without any effect on the state."""
        origin.ensure_any()
        del remark

    @call(
        index=4,
        weight=lambda items: ENTRY.times(1 + len(items)) + Weight(HASHED_BYTE * sum(len(value) for _, value in items)),
        dispatch_class=DispatchClass.OPERATIONAL,
    )
    def set_storage(self, origin: Origin, items: Items) -> None:
        """Set some items of storage: root only.

        What a module stored is overwritten unasked: a value that its module cannot read stops the chain.
        """
        origin.ensure_root()
        for key, _ in items:
            self._ensure_key(key)
        for key, value in items:
            self.state.put(key, value)

    @call(
        index=5,
        weight=lambda keys: ENTRY.times(1 + len(keys)),
        dispatch_class=DispatchClass.OPERATIONAL,
    )
    def kill_storage(self, origin: Origin, keys: Keys) -> None:
        """Kill some items from storage: root only."""
        origin.ensure_root()
        for key in keys:
            self._ensure_key(key)
        for key in keys:
            self.state.remove(key)

    @call(
        index=6,
        weight=lambda _, subkeys: ENTRY.times(1 + subkeys),
        dispatch_class=DispatchClass.OPERATIONAL,
    )
    def kill_prefix(self, origin: Origin, prefix: bytes, subkeys: u32) -> None:
        """Kill the first items of storage, at most `subkeys` of them, whose keys begin with a prefix: root only."""
        origin.ensure_root()
        for key in list(islice(self.state.keys(prefix), subkeys)):
            self.state.remove(key)

    @call(index=7, weight=lambda remark: Weight(30 * MICROSECOND + HASHED_BYTE * len(remark)))
    def remark_with_event(self, origin: Origin, remark: bytes) -> None:
        """Make some on-chain remark and emit an event with its hash."""
        sender = origin.ensure_signed()
        self.emit(self.Remarked(sender, blake2_256(remark)))

    def _ensure_key(self, key: bytes) -> None:
        if not 1 <= len(key) <= KEY_BYTES_MAX:
            raise self.InvalidKey(f"a storage key has 1 to {KEY_BYTES_MAX} bytes, got {len(key)}")

    @property
    def extrinsic_index(self) -> int | None:
        """The position in the block of the extrinsic that is being applied; None before and after them."""
        phase = self._log.phase
        return phase.index if isinstance(phase, ApplyExtrinsic) else None

    @property
    def height(self) -> int:
        """The height of the block that is being, or was last, executed."""
        return self.number.get()

    def begin_block(
        self, height: int, parent_hash: Hash, digest: Sequence[PreRuntime | Consensus | DigestSeal | Other]
    ) -> None:
        """Write what the block is, and forget its parent's events and the oldest hash."""
        self.number.put(height)
        self.parent_hash.put(parent_hash)
        self.digest.put(Digest(list(digest)))
        self.block_hash[height - 1] = parent_hash
        oldest = height - 1 - self.block_hash_count
        if oldest > 0:  # genesis stays: every transaction signs its hash
            self.block_hash.remove(oldest)
        self.events.kill()
        self.event_count.kill()
        self.event_topics.clear()
        self.block_weight.kill()

    def end_block(self, log: EventLog, weight: WeightPerClass) -> None:
        """Write the block's events and the weight it used."""
        if log.encoded:
            self.state.put(self.events.key, compact_encode(len(log.encoded)) + b"".join(log.encoded))
            self.event_count.put(len(log.encoded))
        height = self.height
        topics: dict[bytes, list[tuple[int, int]]] = {}
        for position, record in enumerate(log.records):
            for topic in record.topics:
                topics.setdefault(topic, []).append((height, position))
        for topic, places in topics.items():
            self.event_topics[topic] = places
        self.block_weight.put(weight)

    def genesis_hash(self) -> Hash:
        """The hash of the genesis block, from height 1 on."""
        return self.block_hash[0]

    def check(self) -> None:
        """An account exists as long as something provides for it, and the events are as many as counted."""
        for who, info in self.account.items():
            assert info.providers > 0, f"account {who.hex()} exists without a provider"
        height, events = self.height, self.events.get()
        assert len(events) == self.event_count.get(), "event count"
        found = {topic: [place[1] for place in places] for topic, places in self.event_topics.items()}
        for topic, positions in found.items():
            assert all(topic in events[position].topics for position in positions), f"topic {topic.hex()}"
        assert sum(map(len, found.values())) == sum(len(record.topics) for record in events), "topics"
        kept = sorted(self.block_hash.keys())
        expected = range(max(1, height - self.block_hash_count), height)
        assert kept == ([0, *expected] if height else []), f"block hashes kept at {height}: {kept}"
