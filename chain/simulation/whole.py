"""Whole nodes: the real ledger on LMDB, importer, author, pool and witness under each simulated validator.

A crash falls before a block's commit or after it: LMDB sees to it that there is nothing between.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from chain.author import Author
from chain.importer import Imported, Importer
from chain.ledger import ExecutedBlock, Ledger, SealedBlock
from chain.ledger_state import LedgerState
from chain.pool import Pool, PoolError
from chain.primitives import bls, ss58
from chain.primitives.hashing import Hash
from chain.primitives.keys import Keypair, Scheme
from chain.primitives.seal import Seal, ValidatorSet
from chain.primitives.types import Block
from chain.simulation.disk import SimulatedDisk
from chain.simulation.network import ANSWER_BYTES_MAX
from chain.witness import Witness
from consensus.host import Timing
from consensus.tally import Equivocation
from runtime.executive import Executive
from runtime.modules.balances import POT, Balances
from runtime.modules.system import System
from runtime.modules.validators import Validators
from runtime.potchain import RUNTIME
from runtime.types import InherentData, InvalidTransaction

if TYPE_CHECKING:
    from chain.simulation.node import Node

# The runtime wants half a second between blocks.
TIMING: Final = Timing(block_time_ms=1000, timeout_ms=1000, timeout_ms_max=8000, resend_ms=500)
GENESIS_TIME_MS: Final = 1_700_000_000_000
ENDOWMENT: Final = 10**18  # A thousand times the least stake.
BOND: Final = 1000 * POT  # What validators of genesis have at stake.
SENDERS: Final = 3  # Who pay others.
# Where the set changes: a newcomer of the first session votes in the third, and evidence is soon stale.
SESSION_BLOCKS: Final = 2
UNBONDING_SESSIONS: Final = 3
# Memory, where there is a file system for it: what is lost in a power cut is decided elsewhere.
_MEMORY: Final = Path("/dev/shm")


class FallibleLedger(Ledger):
    """A ledger whose disk is a simulated one, as far as it fails."""

    disk: SimulatedDisk | None = None

    def commit(self, executed: ExecutedBlock, seal: Seal) -> bool:
        if self.disk is not None:
            self.disk.expect_health()
        return super().commit(executed, seal)

    def extend(self, blocks: Sequence[SealedBlock], stop: Callable[[], bool] = lambda: False) -> list[ExecutedBlock]:
        if self.disk is not None:
            self.disk.expect_health()
        return super().extend(blocks, stop)


class WholeWorld:
    """A chain of this project's runtime with n validators, and some who may join. `make_world` opens and closes it."""

    genesis_time_ms = GENESIS_TIME_MS
    timing = TIMING
    endowment = ENDOWMENT

    def __init__(self, n: int, spares: int, folder: Path) -> None:
        self.n = n
        self.folder = folder
        self.secrets = tuple(bls.keygen(sha256(b"validator %d" % index).digest()) for index in range(n + spares))
        self.stashes = [_keypair(f"//Validator{index}") for index in range(n + spares)]
        self.senders = [_keypair(f"//Sender{number}") for number in range(SENDERS)]
        authorities = [
            {
                "account": ss58.encode(stash.public),
                "bls": f"0x{bls.public_key(secret).hex()}",
                "proof": f"0x{bls.prove_possession(secret, stash.public).hex()}",
            }
            for stash, secret in zip(self.stashes[:n], self.secrets[:n], strict=True)
        ]
        balances = [[ss58.encode(account.public), ENDOWMENT] for account in (*self.stashes, *self.senders)]
        sessions = {"sessionBlocks": SESSION_BLOCKS, "unbondingSessions": UNBONDING_SESSIONS} if spares else {}
        self._state = Executive(RUNTIME).genesis(
            {"validators": {"authorities": authorities, **sessions}, "balances": {"balances": balances}}
        )
        self.ledgers: list[Ledger] = []
        first = self._open("first")
        self.genesis_hash: Hash = first.genesis_hash
        with first.state() as state:
            validators = RUNTIME.at(state).module(Validators)
            self.validators: ValidatorSet = validators.validator_set()
            self.genesis_state_root: Hash = state.header.state_root
            rules = validators.rules.get()
            self.session_blocks, self.unbonding_sessions = rules.session_blocks, rules.unbonding_sessions
            self.slash_percent = validators.slash_percent

    def ledger(self, node: Node) -> WholeLedger:
        """A new one, on the disk."""
        ledger = self._open(str(node.name))
        ledger.disk = node.disk
        return WholeLedger(ledger, node)

    def _open(self, name: str) -> FallibleLedger:
        ledger = FallibleLedger.open(
            self.folder / name, executive=Executive(RUNTIME), genesis_state=self._state, genesis_name="simulation"
        )
        self.ledgers.append(ledger)
        return ledger


@cache
def _keypair(uri: str) -> Keypair:
    return Keypair.from_uri(uri, Scheme.ED25519)


@contextmanager
def make_world(n: int, spares: int = 0) -> Iterator[WholeWorld]:
    """Make a chain in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="potchain-", dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        world = WholeWorld(n, spares, Path(folder))
        log = logging.getLogger("potchain")  # Its operators' news are nobody's here.
        level = log.level
        log.setLevel(logging.CRITICAL)
        try:
            yield world
        finally:
            log.setLevel(level)
            for ledger in world.ledgers:
                ledger.close()


class WholeLedger:
    """A node's host (`consensus.host.Host`), and what its synchroniser and its clients need."""

    def __init__(self, ledger: Ledger, node: Node) -> None:
        self.chain = ledger
        self._node = node
        self._told = 0
        self._executive = Executive(RUNTIME)
        self.genesis_hash: Hash = ledger.genesis_hash
        self.restart()

    def restart(self) -> None:
        """Begin with what the disk holds."""
        self.pool = Pool()
        self._importer = Importer(
            self.chain, self._validators_after, self._on_imported, run=self._node.work, stopwatch=trio.current_time
        )
        censors = self._node.liar is not None and self._node.liar.censors
        pool = Pool() if censors else self.pool
        self._author = Author(self._importer, pool, [self._node.secret], self._node.clock, trio.current_time)
        self.build, self.check, self.commit = self._author.build, self._author.check, self._author.commit
        self.best, self.validators = self._importer.best, self._importer.validators
        self.import_blocks = self._importer.import_blocks
        self._witness = Witness(RUNTIME, self._report)
        self._tell()

    async def run(self) -> None:
        """Report who voted twice, until cancelled."""
        await self._witness.run()

    def accuse(self, found: Equivocation) -> None:
        """Report a validator that voted twice."""
        self._witness.note(found)

    async def _report(self, raw: bytes) -> Hash:
        found = self._take(raw)
        gossip(self._node, raw)
        return found

    def sealed_blocks(self, start: int, count: int) -> list[bytes]:
        """Encoded sealed blocks from a height on."""
        return self.chain.sealed_blocks(start, count, ANSWER_BYTES_MAX)

    def variant(self, payload: bytes) -> bytes:
        """Another valid block for the same place: without transactions, and with another time."""
        header = Block.decode(payload).header
        if header.height != self.chain.head.height + 1:
            return payload
        digest = header.consensus
        data = InherentData(
            self._node.clock() + self._node.rng.randrange(1, 100), self.chain.seal(self.chain.head_hash)
        )
        executed, _ = self.chain.propose(header.height, digest.view, digest.beacon, data, [])
        return executed.block.encode()

    def submit(self, raw: bytes) -> bool:
        """Take a transaction into the pool; False where it is not valid, or there already."""
        try:
            self._take(raw)
        except (InvalidTransaction, PoolError):
            return False
        return True

    def _take(self, raw: bytes) -> Hash:
        with self.chain.state() as state:
            valid = self._executive.validate_transaction(state, raw)
        return self.pool.submit(raw, valid, self._node.clock())

    def state(self, block_hash: Hash | None = None) -> AbstractContextManager[LedgerState]:
        """The state after a block, the head's by default."""
        return self.chain.state(block_hash)

    def nonce(self, account: bytes) -> int:
        """How many transactions of an account are final."""
        with self.chain.state() as state:
            return RUNTIME.at(state).module(System).account[account].nonce

    def free(self, account: bytes) -> int:
        """An account's free balance."""
        with self.chain.state() as state:
            return RUNTIME.at(state).module(Balances).free(account)

    def check_invariants(self) -> None:
        """What every module says always holds."""
        with self.chain.state() as state:
            for module in RUNTIME.at(state).modules:
                module.check()

    def _validators_after(self, block_hash: Hash) -> ValidatorSet:
        with self.chain.state(block_hash) as state:
            return RUNTIME.at(state).module(Validators).validator_set()

    def _on_imported(self, imported: Imported) -> None:
        self.pool.on_block(imported.executed.height, imported.executed.block.extrinsics)
        self._tell()

    def _tell(self) -> None:
        """Show the monitor each block once: one whose commit a power cut followed, after the restart."""
        while self._told < self.chain.head.height:
            self._told += 1
            block_hash = self.chain.hash_at(self._told)
            assert block_hash is not None
            block, seal = self.chain.block(block_hash), self.chain.seal(block_hash)
            assert block is not None
            assert seal is not None
            self._node.on_committed(SealedBlock(block, seal))


def offer(node: Node, raw: bytes) -> bool:
    """Give a node a transaction; whether it took it."""
    return node.answers and isinstance(node.ledger, WholeLedger) and node.ledger.submit(raw)


def gossip(first: Node, raw: bytes) -> None:
    """Pass on what a node has taken to those that it is connected with."""
    for other in first.network.nodes:
        if other is not first and first.network.connected(first, other):
            first.network.after(first.rng.randint(1, 50), partial(offer, other, raw))
