"""A node in miniature: the real ledger, runtime, pool and blob store, with one validator that seals at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio

from chain.blobs import BlobChunks, BlobStore
from chain.departures import Departures
from chain.history import HISTORY
from chain.ledger import ExecutedBlock, Ledger
from chain.net.reserved import RESERVED_MAX, TooManyReserved
from chain.pool import Fate, Pool
from chain.primitives import bls, ss58
from chain.primitives.blob import CHUNK_BYTES, blob_tree, chunk_count
from chain.primitives.hashing import Hash, blake2_256
from chain.primitives.keys import Keypair, Scheme
from chain.primitives.seal import Phase, Seal, ValidatorSet, beacon_message, bitmap, vote_message
from chain.primitives.types import Header, Mortal, sign_extrinsic
from chain.rpc.access import Access
from chain.rpc.backend import KeyType, Peer, Sealing
from chain.rpc.broadcast import Broadcast
from chain.rpc.protocol import Limits
from chain.rpc.server import RpcServer
from chain.sync.progress import SyncStatus
from chain.validator_keys import ValidatorKeys
from consensus.host import GadgetState
from runtime.executive import Executive
from runtime.potchain import RUNTIME
from runtime.testing import STAKE
from runtime.types import InherentData

POT = 10**12
KEYS = ValidatorKeys.from_uri("//Alice")
ALICE = Keypair.from_uri("//Alice", Scheme.ED25519)
ALICE_SR = Keypair.from_uri("//Alice", Scheme.SR25519)
BOB = Keypair.from_uri("//Bob", Scheme.ED25519)
CHARLIE = Keypair.from_uri("//Charlie", Scheme.ED25519)  # owns nothing
GENESIS_MS = 1_700_000_000_000

ROOT = "0x" + "11" * 32
TASK: dict[str, object] = {
    "owner": ss58.encode(ALICE.public),
    "name": "digits",
    "programRoot": ROOT,
    "datasetRoot": "0x" + "22" * 32,
    "paramsRoot": "0x" + "33" * 32,
    "optimizer": {
        "rule": {"adam": {"learningRate": 20_000_000_000, "beta1": 9 * 10**11, "beta2": 999 * 10**9, "epsilon": 10**4}}
    },
    "policy": {
        "slots": 2,
        "commitBlocks": 3,
        "revealBlocks": 10,
        "auditBlocks": 10,
        "auditorsPerSlot": 1,
        "auditedPpm": 1_000_000,
        "toleranceMicroSteps": 510_000,
        "outliersPpm": 20,
        "evaluateRounds": 1,
    },
    "rounds": 3,
    "pricePerSlot": POT,
    "storage": {"programBytes": 7_000, "datasetBytes": 120_000, "parameters": 20_000},
}


def genesis_config(others: int = 0) -> dict[str, Mapping[str, object]]:
    """One validator, three rich accounts (Alice's beside its bond), `others` that nobody has the key of, one task."""
    authority = {
        "account": ss58.encode(KEYS.account.public),
        "bls": "0x" + bls.public_key(KEYS.bls_secret).hex(),
        "proof": "0x" + bls.prove_possession(KEYS.bls_secret, KEYS.account.public).hex(),
    }
    rich = [[ss58.encode(key.public), 10_000 * POT] for key in (ALICE, ALICE_SR, BOB)]
    rich[0][1] = 10_000 * POT + STAKE
    rich += [[ss58.encode(blake2_256(number.to_bytes(4))), POT] for number in range(others)]
    return {
        "balances": {"balances": rich},
        "validators": {"authorities": [authority]},
        "training": {"tasks": [TASK]},
    }


@dataclass
class PeerStub:
    """A peer as the backend tells of it."""

    id: bytes = b"\7" * 32
    address: str = "192.0.2.1:30333"
    is_validator: bool = True
    best_height: int = 12
    best_hash: bytes = b"\5" * 32


@dataclass
class MiniNode:
    """Implements `chain.rpc.backend.Backend`."""

    ledger: Ledger
    executive: Executive
    blobs: BlobStore
    heads: Broadcast[Header] = field(default_factory=Broadcast)
    seals: Broadcast[Sealing] = field(default_factory=Broadcast)
    chain_name: str = "potchain test"
    chain_type: str = "Development"
    properties: Mapping[str, object] = field(
        default_factory=lambda: {"ss58Format": 42, "tokenDecimals": 12, "tokenSymbol": "POT"}
    )
    node_roles: Sequence[str] = ("Authority",)
    local_identity: bytes = KEYS.node.public
    listen_addresses: Sequence[tuple[str, int]] = (("127.0.0.1", 30333),)
    seals_at_once: bool = True
    peer_list: list[Peer] = field(default_factory=list)
    peer_blobs: dict[Hash, bytes] = field(default_factory=dict)
    reserved: dict[bytes, tuple[str, int]] = field(default_factory=dict)

    @property
    def sync_status(self) -> SyncStatus:
        height = self.ledger.head.height
        return SyncStatus(height, max([height, *(peer.best_height for peer in self.peer_list)]), 0.0)

    def __post_init__(self) -> None:
        self.departures = Departures()
        self.pool = Pool(on_removed=self.departures.note)
        self._wake = trio.Event()
        self._turn = trio.Lock()

    def peers(self) -> Sequence[Peer]:
        return self.peer_list

    def reserve_peer(self, host: str, port: int, identity: bytes) -> None:
        if len(self.reserved) >= RESERVED_MAX:
            raise TooManyReserved("too many")
        self.reserved[identity] = host, port

    def release_peer(self, identity: bytes) -> bool:
        return self.reserved.pop(identity, None) is not None

    def reserved_peers(self) -> Sequence[bytes]:
        return sorted(self.reserved)

    def consensus_state(self) -> GadgetState | None:
        primary = self.validators(self.ledger.head.height + 1).primary(0, 0).account
        return GadgetState(self.ledger.head.height + 1, 0, "prepare", primary, voted=(), missing=(primary,))

    def validators(self, height: int) -> ValidatorSet:
        with self.ledger.state() as state:
            return RUNTIME.at(state).validators.validator_set()

    def forget(self, found: Hash) -> bool:
        if found not in self.pool:
            return False
        self.pool.ban(found, GENESIS_MS, "the operator has removed it")
        return True

    def has_key(self, public: bytes, kind: KeyType) -> bool:
        return public == (KEYS.account.public if kind is KeyType.ACCOUNT else bls.public_key(KEYS.bls_secret))

    async def fetch_blob(self, root: Hash) -> None:
        data = self.peer_blobs.get(root)
        if data is not None:
            await trio.to_thread.run_sync(self.blobs.put, data)

    async def fetch_chunks(self, root: Hash, first: int, count: int) -> BlobChunks | None:
        data = self.peer_blobs.get(root)
        if data is None or first >= chunk_count(len(data)):
            return None
        tree = blob_tree(data)
        indices = range(first, min(first + count, chunk_count(len(data))))
        chunks = ((data[at * CHUNK_BYTES : (at + 1) * CHUNK_BYTES], tuple(tree.proof(at))) for at in indices)
        return BlobChunks(len(data), tuple(chunks))

    async def submit(self, raw: bytes) -> Hash:
        now_ms = GENESIS_MS + self.ledger.head.height * 1000
        self.pool.precheck(raw, now_ms)

        def validate() -> Any:
            with self.ledger.state() as state:
                return self.executive.validate_transaction(state, raw)

        valid = await trio.to_thread.run_sync(validate)
        found = self.pool.submit(raw, valid, now_ms)
        self._wake.set()
        return found

    async def seal(self) -> Header:
        """Build, seal and commit one block of what the pool holds."""
        async with self._turn:
            head = self.ledger.head
            height = head.height + 1
            waiting = [transaction.raw for transaction in self.pool.ready()]
            executed = await trio.to_thread.run_sync(partial(self._commit, height, waiting))
            self.pool.on_block(height, executed.block.extrinsics)
            sealed = self.ledger.seal(executed.hash)
            assert sealed is not None
            self.seals.publish(Sealing(sealed, self.validators(height)))
            self.heads.publish(executed.block.header)
            return executed.block.header

    def _commit(self, height: int, waiting: list[bytes]) -> ExecutedBlock:
        ledger = self.ledger
        beacon = bls.sign(KEYS.bls_secret, beacon_message(ledger.genesis_hash, height))
        inherent = InherentData(GENESIS_MS + height * 1000, ledger.seal(ledger.head_hash))
        executed, rejected = ledger.propose(height, 0, beacon, inherent, waiting)
        assert not rejected, rejected
        vote = vote_message(ledger.genesis_hash, 0, height, 0, Phase.COMMIT, executed.hash)
        signature = bls.aggregate([bls.sign(KEYS.bls_secret, vote)])
        ledger.commit(executed, Seal(height, 0, 0, executed.hash, bitmap([0], 1), signature))
        return executed

    async def run_author(self) -> None:
        """Seal a block whenever something is ready."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self.seals_at_once and any(True for _ in self.pool.ready()):
                await self.seal()


@dataclass
class Served:
    """A node, its server, and where to reach it."""

    node: MiniNode
    server: RpcServer
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    stopped: trio.Event = field(default_factory=trio.Event)

    async def serve(self, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `stop`."""
        with self.scope:
            await self.server.run(task_status)
        self.stopped.set()

    def stop(self) -> None:
        """Stop the server, as a node does that ends."""
        self.scope.cancel()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.server.port}"

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"


def open_ledger(path: Path, history: int = HISTORY, others: int = 0) -> tuple[Ledger, Executive]:
    """A chain of its own in an empty folder."""
    executive = Executive(RUNTIME)
    state = executive.genesis(genesis_config(others))
    ledger = Ledger.open(path, executive=executive, genesis_state=state, genesis_name="test", history=history)
    return ledger, executive


@asynccontextmanager
async def served(
    path: Path,
    *,
    access: Access | None = None,
    limits: Limits | None = None,
    port: int = 0,
    history: int = HISTORY,
    others: int = 0,
) -> AsyncIterator[Served]:
    """A node that serves on a port of its own for as long as the scope lasts."""
    ledger, executive = open_ledger(path / "db", history, others)
    node = MiniNode(ledger, executive, BlobStore(path / "blobs", 256 * 1024 * 1024))
    server = RpcServer(node, port, access=access, limits=limits)
    try:
        async with trio.open_nursery() as nursery:
            it = Served(node, server)
            await nursery.start(it.serve)
            nursery.start_soon(node.run_author)
            yield it
            nursery.cancel_scope.cancel()
    finally:
        ledger.close()


def transfer(
    it: Served,
    nonce: int,
    value: int = 1,
    *,
    sender: Keypair = ALICE,
    tip: int = 0,
    era: Mortal | None = None,
) -> bytes:
    """A signed transfer to Bob; a mortal one is born at genesis."""
    return sign_extrinsic(
        sender,
        RUNTIME.encode_call(RUNTIME.call("balances.transfer_keep_alive", dest=BOB.public, value=value)),
        nonce=nonce,
        spec_version=RUNTIME.spec_version,
        transaction_version=RUNTIME.transaction_version,
        genesis_hash=it.node.ledger.genesis_hash,
        era=era,
        era_hash=it.node.ledger.genesis_hash,
        tip=tip,
    )


def push_out(pool: Pool, found: Hash) -> None:
    """What happens to a transaction when a full pool has better ones."""
    transaction = pool.get(found)
    assert transaction is not None
    pool._remove(transaction, Fate.DROPPED)
