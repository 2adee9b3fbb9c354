"""What the RPC server needs of the node, and nothing more: the node implements it, tests build a small one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from chain.primitives.hashing import Hash
from chain.primitives.seal import Seal, ValidatorSet
from chain.primitives.types import Header
from chain.rpc.broadcast import Broadcast

if TYPE_CHECKING:
    from chain.blobs import BlobChunks, BlobStore
    from chain.departures import Departures
    from chain.ledger import Ledger
    from chain.pool import Pool
    from chain.sync.progress import SyncStatus
    from consensus.host import GadgetState
    from runtime.executive import Executive


class KeyType(StrEnum):
    """What one of a validator's keys is for."""

    ACCOUNT = "acco"
    PBFT = "pbft"


@dataclass(frozen=True, slots=True)
class Sealing:
    """A block's seal and the set whose validators made it."""

    seal: Seal
    validators: ValidatorSet


class Peer(Protocol):
    """A connected node."""

    @property
    def id(self) -> bytes:
        """Its ed25519 public key."""

    @property
    def address(self) -> str:
        """host:port as this node sees it."""

    @property
    def is_validator(self) -> bool:
        """Whether it says that it votes."""

    @property
    def best_height(self) -> int:
        """The height that it last announced."""

    @property
    def best_hash(self) -> bytes:
        """The hash of its block at that height."""


class Backend(Protocol):
    """The node behind the server. Sync members answer from memory in microseconds and are called on the loop."""

    @property
    def ledger(self) -> Ledger:
        """Blocks and states; read in threads."""

    @property
    def executive(self) -> Executive:
        """The runtime's entry points; called in threads."""

    @property
    def pool(self) -> Pool:
        """Transactions that wait for a block; only looked at here."""

    @property
    def departures(self) -> Departures:
        """What leaves the pool, before the header of the block that made it leave is published."""

    @property
    def blobs(self) -> BlobStore:
        """This node's own blobs; read and written in threads."""

    @property
    def heads(self) -> Broadcast[Header]:
        """Every sealed header, published once the ledger holds its block."""

    @property
    def seals(self) -> Broadcast[Sealing]:
        """The seal of each of these headers, published before it."""

    @property
    def chain_name(self) -> str:
        """As in the genesis file, such as `potchain testnet`."""

    @property
    def chain_type(self) -> str:
        """`Development`, `Local` or `Live`."""

    @property
    def properties(self) -> Mapping[str, object]:
        """ss58Format, tokenDecimals, tokenSymbol."""

    @property
    def node_roles(self) -> Sequence[str]:
        """`Authority` or `Full`."""

    @property
    def local_identity(self) -> bytes:
        """This node's ed25519 public key."""

    @property
    def listen_addresses(self) -> Sequence[tuple[str, int]]:
        """Where this node listens for peers: host and port."""

    @property
    def sync_status(self) -> SyncStatus:
        """How far behind its peers it is, and why it does not get on if it does not."""

    def peers(self) -> Sequence[Peer]:
        """The nodes that are connected now."""

    def reserve_peer(self, host: str, port: int, identity: bytes) -> None:
        """Stay connected to a node until it is released; raises `TooManyReserved`."""

    def release_peer(self, identity: bytes) -> bool:
        """Reserve a node no longer; whether it was."""

    def reserved_peers(self) -> Sequence[bytes]:
        """Whom the operator wants to stay connected to."""

    async def submit(self, raw: bytes) -> Hash:
        """Pool and gossip an extrinsic; its hash. Raises InvalidTransaction, UnknownTransaction or PoolError."""

    def forget(self, found: Hash) -> bool:
        """Take a transaction out of the pool and refuse it for a while; whether it was there."""

    def has_key(self, public: bytes, kind: KeyType) -> bool:
        """Whether this node acts with a key."""

    async def fetch_blob(self, root: Hash) -> None:
        """Look for a blob at the peers and put it into `blobs`. Raises `BlobStoreFull`, or OSError from the disk."""

    async def fetch_chunks(self, root: Hash, first: int, count: int) -> BlobChunks | None:
        """Proven chunks of a blob from a peer, which are not kept; None when none has them."""

    def consensus_state(self) -> GadgetState | None:
        """Where agreement on the next block stands; None where no gadget runs."""

    def validators(self, height: int) -> ValidatorSet:
        """Who decides a height, the next or one of the last few; LookupError for any other."""
