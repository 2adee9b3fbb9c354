"""One node: puts the ledger, pool, network, consensus and RPC together and runs them in one nursery.

Whoever fails takes the node down loudly, and nothing half alive stays behind; everything that is asked of the disk or
of cryptography runs in threads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from math import inf

import trio

from chain.adoption import Handover, StateChunk
from chain.author import Author, now_ms, parent_seal_of
from chain.blob_keeper import BlobKeeper
from chain.blobs import BlobChunks, BlobStore
from chain.departures import Departures
from chain.display import waiting_line
from chain.importer import Imported, Importer
from chain.intake import Intake
from chain.ledger import Ledger, SealedBlock
from chain.log import Line, Log
from chain.metrics.node import NodeMetrics, Parts
from chain.metrics.server import MetricsServer
from chain.net.book import AddressBook
from chain.net.dialer import Bootnode
from chain.net.errors import PeerError
from chain.net.messages import Role
from chain.net.network import Network
from chain.net.peer import PeerInfo
from chain.node_config import NodeConfig, is_own, names_of_nodes, node_key
from chain.peer_keeper import PeerKeeper
from chain.pool import Pool
from chain.pool_keeper import PoolKeeper
from chain.primitives import bls
from chain.primitives.blob import FETCHED_BYTES_MAX, blob_root
from chain.primitives.hashing import Hash
from chain.primitives.seal import ValidatorSet, has_signed
from chain.primitives.types import Header
from chain.reporter import Reporter
from chain.round_news import RoundNews
from chain.rpc.backend import KeyType, Sealing
from chain.rpc.broadcast import Broadcast
from chain.rpc.server import RpcServer
from chain.sync.progress import SyncStatus
from chain.sync.synchroniser import NEWS_BLOCKS, Synchroniser
from chain.sync.warp import Warp
from chain.validator_keys import ValidatorKeys
from chain.witness import Witness
from consensus.gadget import Gadget, run_in_thread
from consensus.host import GadgetState, Timing
from consensus.voice import BlsSigner
from runtime.executive import Executive
from runtime.modules.training import Training
from runtime.modules.validators import Validators
from runtime.types import GenesisError

BLOB_STORE_BYTES_MAX = 4 * 1024 * 1024 * 1024  # what a small disk spares: three quarters for what the chain names
SERVED_BLOB_CHUNKS_MAX = 64
FALSE_VOTE_POINTS = 20  # a fifth of what bans: a restarted peer may honestly repeat itself once or twice

VOTES = "this validator is in the validator set, and votes"
FOLLOWS = "this key is not in the validator set: follows without voting (potchain validator)"

BLOB_NAME = re.compile("[0-9a-f]{64}")

log = Log("consensus")


class Node:
    """The parts of a node and what they need of each other: the network's handler and the RPC server's backend."""

    def __init__(self, config: NodeConfig, executive: Executive, ledger: Ledger, *, warps: bool = False) -> None:
        """A node that `warps` waits for a recent state, and takes no part in anything else until it is made anew."""
        self._config = config
        self.executive = executive
        self.ledger = ledger
        self.departures = Departures()
        self.pool = Pool(config.pool_limits, self.departures.note)
        self.blobs = BlobStore(config.data_path / "blobs", BLOB_STORE_BYTES_MAX)
        self._keep_genesis_blobs()
        self._importer = Importer(ledger, self._validators_after, self._on_imported)
        identity = config.role.keys.node if config.role.keys else node_key(config.data_path / "node.key")
        book = AddressBook()
        self._peer_keeper = PeerKeeper(config.data_path / "peers.dat", ledger.genesis_hash, book)
        self._peer_keeper.restore()
        self._network = Network(
            identity,
            ledger.genesis_hash,
            (config.listen_host, config.port),
            [(address.host, address.port, None) for address in config.bootnodes if not is_own(address, config)],
            self,
            self._importer.best,
            role=Role.VALIDATOR if config.role.keys else Role.FULL,
            name_of=names_of_nodes(config.spec),
            lowest=ledger.lowest_block,
            public=None if config.public is None else (config.public.host, config.public.port),
            book=book,
        )
        self._sync: Synchroniser | Warp
        self._gadget: Gadget | None = None
        self._author: Author | None = None
        if warps:
            may_be_first = config.role.keys is not None
            self._sync = Warp(network=self._network, ledger=ledger, may_be_first=may_be_first)
        else:
            self._sync = Synchroniser(
                network=self._network,
                genesis_hash=ledger.genesis_hash,
                best=self._importer.best,
                validators=self._importer.validators,
                import_blocks=self._import_from_peer,
                patience_s=2.0 if config.role.keys else 0.0,
                parent_seal_of=partial(parent_seal_of, ledger.runtime),
            )
        votes = config.role.keys is not None
        self._intake = Intake(
            ledger,
            executive,
            self.pool,
            self._network,
            is_behind=lambda: self._sync.status.syncing,
            at_rest=partial(self._importer.at_rest, config.spec.timing.block_time_ms / 1000 if votes else inf),
        )
        self._witness = Witness(ledger.runtime, self._intake.submit)
        self._bls_keys = frozenset(map(bls.public_key, config.role.keys.bls_secrets if config.role.keys else ()))
        self._is_member = True  # That is what whoever starts a validator expects, and no news.
        if config.role.keys is not None and isinstance(self._sync, Synchroniser):
            self._gadget = self._make_gadget(config.role.keys, self._sync)
        self._pool_keeper = PoolKeeper(
            config.data_path / "pool.dat", ledger.genesis_hash, self.pool, self._intake.restore
        )
        self._reporter = Reporter(config.spec, ledger, self._why_stalled)
        self._rpc = RpcServer(self, config.rpc_port, access=config.access, limits=config.limits)
        self._metrics = NodeMetrics(
            Parts(
                ledger=ledger,
                pool=self.pool,
                intake=self._intake,
                importer=self._importer,
                gadget=self._gadget,
                author=self._author,
                seen=self._reporter.seen,
                named=self._reporter.names.labels,
                rpc=self._rpc,
                blobs=self.blobs,
                network=self._network,
                sync_status=lambda: self._sync.status,
                folder=config.data_path,
                has_keys=config.role.keys is not None,
            )
        )

    def _make_gadget(self, keys: ValidatorKeys, sync: Synchroniser) -> Gadget:
        timing = self._config.spec.timing
        self._author = Author(self._importer, self.pool, keys.bls_secrets)
        return Gadget(
            host=self._author,
            transport=_Transport(self._network),
            signer=BlsSigner(keys.bls_secret, run_in_thread, past=keys.bls_past, name=keys.first),
            wal_path=self._config.data_path / "consensus.wal",
            timing=Timing(timing.block_time_ms, timing.timeout_ms, timing.timeout_ms_max),
            start_height=self.ledger.head.height + 1,
            on_behind=sync.on_behind,
            on_fault=self._on_consensus_fault,
            on_equivocation=self._witness.note,
            on_notice=_warn,
            past=self._config.past,
        )

    async def start(self, nursery: trio.Nursery) -> None:
        """Start everything in the nursery; returns when the node answers and converses."""
        await nursery.start(self._network.run)
        if self._gadget is not None:
            await nursery.start(self._gadget.run)
        await self._pool_keeper.restore()  # Before clients ask for their next nonce, which counts what waits.
        nursery.start_soon(self._pool_keeper.run)
        nursery.start_soon(self._peer_keeper.run)
        await nursery.start(self._rpc.run)
        if self._config.metrics is not None:
            nursery.start_soon(self._metrics.run)
            await nursery.start(MetricsServer(*self._config.metrics, self._metrics.scrape).run)
        if isinstance(self._sync, Synchroniser):
            nursery.start_soon(self._sync.run)
        nursery.start_soon(self._intake.run, self.heads)
        nursery.start_soon(self._witness.run)
        if self.ledger.runtime.has(Training):
            nursery.start_soon(BlobKeeper(self.ledger, self.blobs).run, self.heads)
            nursery.start_soon(RoundNews(self.ledger, self._reporter.names).run, self.heads)
        nursery.start_soon(self._reporter.watch_for_stalls)
        self._tell_membership()

    async def warp(self) -> bool:
        """Have the ledger adopt a recent state, once started; False where nobody has any: the chain begins just now."""
        assert isinstance(self._sync, Warp)
        return await self._sync.run()

    # --- blocks ---

    def _validators_after(self, block_hash: Hash) -> ValidatorSet:
        with self.ledger.state(block_hash) as state:
            return self.ledger.runtime.at(state).module(Validators).validator_set()

    async def _import_from_peer(self, blocks: Sequence[SealedBlock]) -> None:
        before, _ = self._importer.best()
        await self._importer.import_blocks(blocks)
        after, _ = self._importer.best()
        if self._gadget is None:
            return
        for seal in (sealed.seal for sealed in blocks if before < sealed.seal.height <= after):
            sealed_by = self._importer.validators(seal.height)
            signed = any(has_signed(sealed_by, seal, key) for key in self._bls_keys)
            self._gadget.advanced(seal.height, signed=signed)

    def _on_consensus_fault(self, peer: bytes | None, reason: str) -> None:
        if peer is None:
            log.error(reason)
        else:
            self._network.penalise(peer, FALSE_VOTE_POINTS, f"consensus: {reason}")

    def _on_imported(self, imported: Imported) -> None:
        executed = imported.executed
        header = executed.block.header
        self.pool.on_block(header.height, executed.block.extrinsics)
        newest = self._importer.best()[0]
        if header.height == newest:  # Of blocks that came together, the last is all that others care for.
            self._network.announce(header.height, executed.hash)
        self._tell_membership()
        quietly = self._sync.is_far_behind or newest - header.height >= NEWS_BLOCKS
        self._reporter.imported(imported, quietly=quietly)

    def _tell_membership(self) -> None:
        """Say whether this node votes, at the start and whenever that changes."""
        if not self._bls_keys:
            return
        validators = self._importer.validators(self._importer.best()[0] + 1)
        is_member = any(authority.bls_key in self._bls_keys for authority in validators.authorities)
        if is_member != self._is_member:
            self._is_member = is_member
            Log("vote").info(VOTES if is_member else FOLLOWS, votes=is_member)

    def _why_stalled(self) -> Line:
        if self._gadget is None or self._sync.is_far_behind or not self._network.peers():
            return Line(self._sync.why_waiting())
        state, names = self._gadget.state, self._reporter.names
        waiting = waiting_line(state, names)
        missing = [names[account] for account in state.missing]
        return Line(
            waiting if self._gadget.silence is None else f"{waiting}; {self._gadget.silence}",
            {"view": state.view, "phase": state.phase, "missing": missing},
        )

    # --- what the network asks (chain.net.handler.Handler) ---

    def on_connected(self, peer: bytes) -> None:
        """Votes that a peer missed are sent again."""

    def on_disconnected(self, peer: bytes) -> None:
        """Nothing depends on one peer."""

    def is_voter(self, peer: bytes) -> bool:
        """Whether consensus knows the peer for a validator's."""
        return self._gadget is not None and self._gadget.is_voter(peer)

    def on_consensus(self, peer: bytes, frame: bytes) -> None:
        """Hand a frame to consensus; a node that does not vote has no use for it."""
        if self._gadget is not None and not self._gadget.deliver(peer, frame):
            raise PeerError("malformed consensus frame")

    def on_transactions(self, peer: bytes, transactions: list[bytes]) -> None:
        """Gossip waits its turn."""
        self._intake.gossiped(peer, transactions)

    def on_status(self, peer: bytes, height: int, block_hash: Hash) -> None:
        """A peer's best block."""
        self._sync.on_status(peer, height, block_hash)

    def blocks(self, start: int, count: int, bytes_max: int) -> list[bytes]:
        """Sealed blocks for a peer that is behind."""
        return self.ledger.sealed_blocks(start, count, bytes_max)

    def handovers(self, set_id: int, count: int) -> list[Handover]:
        """Set changes for a peer that begins with a recent state."""
        return self.ledger.handovers(set_id, count)

    def state_chunk(self, block_hash: Hash, after: bytes | None, bytes_max: int) -> StateChunk | None:
        """A part of a recent state for such a peer."""
        return self.ledger.state_chunk(block_hash, after, bytes_max)

    def blob_chunks(self, root: Hash, index: int, count: int) -> BlobChunks | None:
        """Pieces of a blob for a peer."""
        return self.blobs.chunks(root, index, min(count, SERVED_BLOB_CHUNKS_MAX))

    # --- what the RPC server asks (chain.rpc.backend.Backend) ---

    @property
    def heads(self) -> Broadcast[Header]:
        return self._importer.heads

    @property
    def seals(self) -> Broadcast[Sealing]:
        return self._importer.seals

    @property
    def chain_name(self) -> str:
        return self._config.spec.name

    @property
    def chain_type(self) -> str:
        return self._config.spec.chain_type

    @property
    def properties(self) -> Mapping[str, object]:
        properties = self._config.spec.properties
        return {
            "ss58Format": properties.ss58_format,
            "tokenDecimals": properties.token_decimals,
            "tokenSymbol": properties.token_symbol,
        }

    @property
    def node_roles(self) -> Sequence[str]:
        return ["Full"] if self._gadget is None else ["Authority"]

    @property
    def local_identity(self) -> bytes:
        return self._network.id

    @property
    def listen_addresses(self) -> Sequence[tuple[str, int]]:
        public = self._config.public
        told = [] if public is None else [(public.host, public.port)]
        return [*told, (self._config.listen_host, self._config.port)]

    @property
    def sync_status(self) -> SyncStatus:
        return self._sync.status

    def peers(self) -> Sequence[PeerInfo]:
        return self._network.peers()

    def reserve_peer(self, host: str, port: int, identity: bytes) -> None:
        """Stay connected to a node."""
        self._network.reserve(Bootnode(host, port, identity))

    def release_peer(self, identity: bytes) -> bool:
        """Stay connected to a node no longer for its own sake."""
        return self._network.release(identity)

    def reserved_peers(self) -> Sequence[bytes]:
        return self._network.reserved()

    async def submit(self, raw: bytes) -> Hash:
        """Pool and gossip a client's extrinsic."""
        return await self._intake.submit(raw)

    def forget(self, found: Hash) -> bool:
        """Take a transaction out of the pool and refuse it for a while."""
        if found not in self.pool:
            return False
        self.pool.ban(found, now_ms(), "this node's operator has removed it")
        return True

    def has_key(self, public: bytes, kind: KeyType) -> bool:
        """Whether this is one of the validator's keys."""
        keys = self._config.role.keys
        if keys is None:
            return False
        return public == keys.account.public if kind is KeyType.ACCOUNT else public in self._bls_keys

    async def fetch_blob(self, root: Hash) -> None:
        """Keep a blob that a peer has."""
        named = self.blobs.length_max(root)
        data = await self._network.fetch_blob(root, FETCHED_BYTES_MAX if named is None else named)
        if data is not None:
            await trio.to_thread.run_sync(self.blobs.put, data)

    async def fetch_chunks(self, root: Hash, first: int, count: int) -> BlobChunks | None:
        """A part of a blob that a peer has, for who asked; it is not kept."""
        return await self._network.fetch_chunks(root, first, count)

    def consensus_state(self) -> GadgetState | None:
        """Where consensus stands."""
        return None if self._gadget is None else self._gadget.state

    def validators(self, height: int) -> ValidatorSet:
        """Who decides a height."""
        return self._importer.validators(height)

    # --- blobs of the genesis file ---

    def _keep_genesis_blobs(self) -> None:
        """The genesis file's blobs are part of the chain: every node has them, always."""
        folder = self._config.spec.blobs
        if folder is None:
            return
        # A folder may hold what an operating system leaves in folders; blobs are named by their roots.
        files = {bytes.fromhex(file.name): file for file in folder.iterdir() if BLOB_NAME.fullmatch(file.name)}
        self.blobs.keep("genesis", {root: file.stat().st_size for root, file in files.items()})
        for root, file in sorted(files.items()):
            if not self.blobs.has(root):
                data = file.read_bytes()
                if blob_root(data) != root:
                    raise GenesisError(f"blob {file} is damaged: its bytes have another root; fetch the file again")
                self.blobs.put(data)


def _warn(notice: str) -> None:
    log.warning(notice)


class _Transport:
    """The network as consensus sees it."""

    def __init__(self, network: Network) -> None:
        self.broadcast = network.broadcast_consensus
        self.send = network.send_consensus
