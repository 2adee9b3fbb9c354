"""Whole nodes: the real ledger on LMDB, importer, author and pool under each simulated validator, and people who pay.

A crash falls before a block's commit or after it: LMDB sees to it that there is nothing between. Pools are lost, so
whoever sent a transaction sends it again until it is final, as wallets do.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from chain.author import Author
from chain.importer import Imported, Importer
from chain.ledger import ExecutedBlock, Ledger, SealedBlock
from chain.pool import Pool, PoolError
from chain.primitives import bls, ss58
from chain.primitives.hashing import Hash
from chain.primitives.keys import Keypair, Scheme
from chain.primitives.seal import Seal, ValidatorSet
from chain.primitives.types import Block, Id, sign_extrinsic
from chain.simulation.disk import SimulatedDisk
from chain.simulation.monitor import expect
from chain.simulation.network import ANSWER_BYTES_MAX
from consensus.host import Timing
from runtime.executive import Executive
from runtime.modules.balances import Balances
from runtime.modules.system import System
from runtime.modules.validators import Validators
from runtime.potchain import RUNTIME
from runtime.types import InherentData, InvalidTransaction

if TYPE_CHECKING:
    from chain.simulation.cluster import Cluster
    from chain.simulation.node import Node

# The runtime wants half a second between blocks.
TIMING: Final = Timing(block_time_ms=1000, timeout_ms=1000, timeout_ms_max=8000, resend_ms=500)
GENESIS_TIME_MS: Final = 1_700_000_000_000
SENDERS: Final = 3
ENDOWMENT: Final = 10**18  # A thousand times the least stake.
PAID: Final = 10**12
# How often one of them pays, and how long each waits before it sends again what is not final.
PAY_MS: Final = 400
AGAIN_MS: Final = 3000
# Memory, where there is a file system for it: what is lost in a power cut is decided elsewhere.
_MEMORY: Final = Path("/dev/shm")


class FallibleLedger(Ledger):
    """A ledger whose disk is a simulated one, as far as it fails."""

    disk: SimulatedDisk | None = None

    def commit(self, executed: ExecutedBlock, seal: Seal) -> bool:
        if self.disk is not None:
            self.disk.expect_health()
        return super().commit(executed, seal)


class WholeWorld:
    """A chain of this project's runtime with n validators. `make_world` opens and closes it."""

    genesis_time_ms = GENESIS_TIME_MS
    timing = TIMING

    def __init__(self, n: int, folder: Path) -> None:
        self.folder = folder
        self.secrets = tuple(bls.keygen(sha256(b"validator %d" % index).digest()) for index in range(n))
        self.accounts = [sha256(b"account %d" % index).digest() for index in range(n)]
        self.senders = [Keypair.from_seed(sha256(b"sender %d" % i).digest(), Scheme.ED25519) for i in range(SENDERS)]
        authorities = [
            {
                "account": ss58.encode(account),
                "bls": f"0x{bls.public_key(secret).hex()}",
                "proof": f"0x{bls.prove_possession(secret).hex()}",
            }
            for account, secret in zip(self.accounts, self.secrets, strict=True)
        ]
        accounts = [*self.accounts, *(sender.public for sender in self.senders)]
        balances = [[ss58.encode(account), ENDOWMENT] for account in accounts]  # Validators stake theirs.
        self._state = Executive(RUNTIME).genesis(
            {"validators": {"authorities": authorities}, "balances": {"balances": balances}}
        )
        self.ledgers: list[Ledger] = []
        first = self._open("first")
        self.genesis_hash: Hash = first.genesis_hash
        with first.state() as state:
            self.validators: ValidatorSet = RUNTIME.at(state).module(Validators).validator_set()
            self.endowed = {who: RUNTIME.at(state).module(Balances).free(who) for who in self.accounts}

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


@contextmanager
def make_world(n: int) -> Iterator[WholeWorld]:
    """Make a chain in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="potchain-", dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        world = WholeWorld(n, Path(folder))
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
        self._ledger = ledger
        self._node = node
        self._told = 0
        self._executive = Executive(RUNTIME)
        self.genesis_hash: Hash = ledger.genesis_hash
        self.restart()

    def restart(self) -> None:
        """Begin with what the disk holds."""
        self.pool = Pool()
        self._importer = Importer(self._ledger, self._validators_after, self._on_imported, run=self._node.work)
        censors = self._node.liar is not None and self._node.liar.censors
        pool = Pool() if censors else self.pool
        self._author = Author(self._importer, pool, self._node.secret, self._node.clock, trio.current_time)
        self.build, self.check, self.commit = self._author.build, self._author.check, self._author.commit
        self.best, self.validators = self._importer.best, self._importer.validators
        self.import_block = self._importer.import_block
        self._tell()

    def sealed_blocks(self, start: int, count: int) -> list[bytes]:
        """Encoded sealed blocks from a height on."""
        return self._ledger.sealed_blocks(start, count, ANSWER_BYTES_MAX)

    def variant(self, payload: bytes) -> bytes:
        """Another valid block for the same place: without transactions, and with another time."""
        header = Block.decode(payload).header
        if header.height != self._ledger.head.height + 1:
            return payload
        digest = header.consensus
        data = InherentData(
            self._node.clock() + self._node.rng.randrange(1, 100), self._ledger.seal(self._ledger.head_hash)
        )
        executed, _ = self._ledger.propose(header.height, digest.view, digest.beacon, data, [])
        return executed.block.encode()

    def submit(self, raw: bytes) -> bool:
        """Take a transaction into the pool; False where it is not valid, or there already."""
        try:
            with self._ledger.state() as state:
                valid = self._executive.validate_transaction(state, raw)
            self.pool.submit(raw, valid, self._node.clock())
        except (InvalidTransaction, PoolError):
            return False
        return True

    def nonce(self, account: bytes) -> int:
        """How many transactions of an account are final."""
        with self._ledger.state() as state:
            return RUNTIME.at(state).module(System).account[account].nonce

    def free(self, account: bytes) -> int:
        """An account's free balance."""
        with self._ledger.state() as state:
            return RUNTIME.at(state).module(Balances).free(account)

    def check_invariants(self) -> None:
        """What every module says always holds."""
        with self._ledger.state() as state:
            for module in RUNTIME.at(state).modules:
                module.check()

    def _validators_after(self, block_hash: Hash) -> ValidatorSet:
        with self._ledger.state(block_hash) as state:
            return RUNTIME.at(state).module(Validators).validator_set()

    def _on_imported(self, imported: Imported) -> None:
        self.pool.on_block(imported.executed.height, imported.executed.block.extrinsics)
        self._tell()

    def _tell(self) -> None:
        """Show the monitor each block once: one whose commit a power cut followed, after the restart."""
        while self._told < self._ledger.head.height:
            self._told += 1
            block_hash = self._ledger.hash_at(self._told)
            assert block_hash is not None
            block, seal = self._ledger.block(block_hash), self._ledger.seal(block_hash)
            assert block is not None
            assert seal is not None
            self._node.on_committed(SealedBlock(block, seal))


class Traffic:
    """People who pay each other's validators, one transfer after the other, through whatever node answers."""

    def __init__(self, world: WholeWorld, cluster: Cluster) -> None:
        self._world = world
        self._cluster = cluster
        self._sent: list[list[bytes]] = [[] for _ in world.senders]  # By sender, then by nonce.
        self._last_again = 0.0

    async def run(self) -> None:
        """Pay until cancelled."""
        rng = self._cluster.rng
        while True:
            await trio.sleep(PAY_MS / 1000)
            self._pay(rng.randrange(SENDERS))
            if trio.current_time() > self._last_again + AGAIN_MS / 1000:
                self.again()

    def again(self) -> None:
        """Send what is not final to everybody."""
        self._last_again = trio.current_time()
        for sender, sent in zip(self._world.senders, self._sent, strict=True):
            nonce = self._observer.nonce(sender.public)
            for raw in sent[nonce:]:
                for node in self._cluster.nodes:
                    self._offer(node, raw)

    def check(self) -> None:
        """Whatever was sent is final, once; the paid have what they were paid; and every module's invariants hold."""
        observer = self._observer
        owed = dict(self._world.endowed)
        for index, (sender, sent) in enumerate(zip(self._world.senders, self._sent, strict=True)):
            final = observer.nonce(sender.public)
            expect(final == len(sent), f"sender {index} sent {len(sent)} transactions; {final} are final")
            owed[self._receiver(index)] += PAID * len(sent)
        for account, amount in owed.items():
            # A validator also has the fees of its blocks.
            expect(observer.free(account) >= amount, f"{account.hex()} is owed {amount}, has {observer.free(account)}")
        observer.check_invariants()

    @property
    def _observer(self) -> WholeLedger:
        """The ledger that is furthest, of those that are honest."""
        ledger = max(self._cluster.honest, key=lambda node: node.head).ledger
        assert isinstance(ledger, WholeLedger)
        return ledger

    def _receiver(self, index: int) -> bytes:
        return self._world.accounts[index % len(self._world.accounts)]

    def _pay(self, index: int) -> None:
        sender, sent = self._world.senders[index], self._sent[index]
        call = RUNTIME.call("balances.transfer_allow_death", dest=Id(self._receiver(index)), value=PAID)
        raw = sign_extrinsic(
            sender,
            RUNTIME.encode_call(call),
            nonce=len(sent),
            spec_version=RUNTIME.spec_version,
            transaction_version=RUNTIME.transaction_version,
            genesis_hash=self._world.genesis_hash,
        )
        sent.append(raw)
        # To one node, which passes it on to those that it is connected with.
        first = self._cluster.rng.choice(self._cluster.nodes)
        if self._offer(first, raw):
            for other in self._cluster.nodes:
                if self._cluster.network.connected(first, other):
                    delay = self._cluster.rng.randint(1, 50)
                    self._cluster.network.after(delay, partial(self._offer, other, raw))

    @staticmethod
    def _offer(node: Node, raw: bytes) -> bool:
        return node.answers and isinstance(node.ledger, WholeLedger) and node.ledger.submit(raw)
