"""A ledger in memory that keeps the real one's contract with consensus and sync, and executes nothing.

Its blocks are real ones, encoded, hashed and linked; a block holds one parcel of random bytes, and its state root is
the hash of all parcels so far, so that a block which does not follow from the one before is as invalid as it should be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from random import Random
from typing import TYPE_CHECKING, Final

from chain.author import DRIFT_MS_MAX
from chain.ledger import SealedBlock
from chain.primitives import bls
from chain.primitives.hashing import Hash, blake2_256
from chain.primitives.merkle import ordered_root
from chain.primitives.scale import BYTES, ScaleError
from chain.primitives.seal import Authority, Seal, ValidatorSet, beacon_message, verify_seal
from chain.primitives.types import Block, ConsensusDigest, Header, genesis_header
from consensus.host import InvalidProposal, Premature, Superseded, Timing
from consensus.tally import Equivocation
from runtime.modules.validators_sessions import elect, seat, session_of

if TYPE_CHECKING:
    from chain.simulation.node import Node

GENESIS: Final = genesis_header(bytes(32))
GENESIS_HASH: Final = GENESIS.hash
SET_ID: Final = 7  # Not the first: sets before it have signed, too.
GENESIS_TIME_MS: Final = 1_700_000_000_000
PERIOD_MS_MIN: Final = 100  # between the times of two blocks
SESSION_BLOCKS: Final = 4  # Where the set changes, it does so six times in thirty heights.


@dataclass(frozen=True, slots=True)
class _Read:
    """A block and what takes long to find out about it: shared, since all nodes read the same bytes."""

    block: Block
    hash: Hash
    time_ms: int
    root: Hash  # of the extrinsics


@lru_cache(maxsize=1024)
def _read(payload: bytes) -> _Read:
    """Read a block, or raise ScaleError."""
    block = Block.decode(payload)
    if len(block.extrinsics) != 1 or len(parcel := BYTES.decode(block.extrinsics[0])) != 16:
        raise ScaleError("expected one parcel of a time and 8 random bytes")
    return _Read(block, block.hash, int.from_bytes(parcel[:8], "little"), ordered_root(block.extrinsics))


def _parcel(time_ms: int, rng: Random) -> bytes:
    return BYTES.encode(time_ms.to_bytes(8, "little") + rng.randbytes(8))


class MemoryWorld:
    """A chain of nothing but consensus: n validators with made-up keys, and whoever may take a place of one of them."""

    genesis_hash = GENESIS_HASH
    genesis_time_ms = GENESIS_TIME_MS

    def __init__(self, n: int, timing: Timing, spares: int = 0, rng: Random | None = None) -> None:
        """With spares, the set changes from session to session; `rng` draws how."""
        self.timing = timing
        self.secrets = tuple(_secret(index) for index in range(n + spares))
        self._keys = [bls.public_key(secret) for secret in self.secrets]  # By account.
        self._resigned = set(range(n, n + spares))
        self._spares = spares
        self._rng = rng if rng is not None else Random(0)
        authorities = tuple(Authority(_account(i), key) for i, key in enumerate(self._keys[:n]))
        self.validators = ValidatorSet(SET_ID, authorities)
        self._sets = [self.validators]  # By session.

    def ledger(self, node: Node) -> MemoryLedger:
        """An empty one."""
        return MemoryLedger(self, node)

    def deciding(self, height: int) -> ValidatorSet:
        """Who decides a height: the same for everybody, as if the blocks before it said so."""
        if not self._spares:
            return self.validators
        session = session_of(height, SESSION_BLOCKS)
        while session >= len(self._sets):
            self._sets.append(self._next(self._sets[-1]))
        return self._sets[session]

    def _next(self, validators: ValidatorSet) -> ValidatorSet:
        """The set after another: some come, some go, keys change hands; elected as the runtime does it."""
        rng, seated = self._rng, {authority.account for authority in validators.authorities}
        if rng.random() < 0.5 and len(self._resigned) < self._spares:
            self._resigned.add(rng.choice([i for i in range(len(self._keys)) if i not in self._resigned]))
        if rng.random() < 0.5 and self._resigned:
            self._resigned.remove(rng.choice(sorted(self._resigned)))
        unseated = [i for i in sorted(self._resigned) if _account(i) not in seated]
        if rng.random() < 0.3 and unseated:
            # The account goes on with a key on another machine, which has followed so far.
            one, other = rng.choice(unseated), rng.randrange(len(self._keys))
            self._keys[one], self._keys[other] = self._keys[other], self._keys[one]
        stakes = {_account(i): rng.randrange(1, 100) for i in range(len(self._keys)) if i not in self._resigned}
        elected = elect([authority.account for authority in validators.authorities], stakes)
        keys = {account: self._keys[int.from_bytes(account)] for account in elected}
        authorities = tuple(seat(validators.authorities, elected, keys))
        changed = authorities != validators.authorities
        return ValidatorSet(validators.set_id + changed, authorities)


def _account(index: int) -> bytes:
    return index.to_bytes(32)


@cache
def _secret(index: int) -> bytes:
    return bls.keygen(blake2_256(b"simulated validator %d" % index))


class MemoryLedger:
    """Implements `consensus.host.Host`, and holds what its node has on disk."""

    genesis_hash = GENESIS_HASH

    def __init__(self, world: MemoryWorld, node: Node) -> None:
        self.chain: list[SealedBlock] = []
        self._heads: list[tuple[Hash, Hash, int]] = [(GENESIS_HASH, GENESIS.state_root, GENESIS_TIME_MS)]
        self._world = world
        self._node = node

    def restart(self) -> None:
        """All that it holds survives."""

    async def run(self) -> None:
        """There is nothing to do beside consensus."""

    def accuse(self, found: Equivocation) -> None:
        """Nothing is at stake here."""

    def best(self) -> tuple[int, Hash]:
        """Height and hash of the newest sealed block."""
        return len(self.chain), self._heads[-1][0]

    def validators(self, height: int) -> ValidatorSet:
        """Who decides the next height, or did decide an earlier one."""
        if height > len(self.chain) + 1:
            raise LookupError(f"expected height {len(self.chain) + 1} at most, got {height}")
        return self._world.deciding(height)

    def sealed_blocks(self, start: int, count: int) -> list[bytes]:
        """Encoded sealed blocks from a height on."""
        return [sealed.encode() for sealed in self.chain[max(start, 1) - 1 : max(start, 1) - 1 + count]]

    async def build(self, height: int, view: int, parent_seal: Seal | None) -> bytes:
        """A block that nobody else could have built, so that a vote forgotten in a crash shows as a contradiction."""
        if height != len(self.chain) + 1:
            raise Superseded
        parent_hash, state_root, parent_time = self._heads[-1]
        if parent_seal is not None and not (
            parent_seal.block_hash == parent_hash
            and verify_seal(self._world.deciding(height - 1), GENESIS_HASH, parent_seal)
        ):
            raise AssertionError(f"consensus gave a seal of the parent that proves nothing: {parent_seal}")
        time_ms = max(self._node.clock(), parent_time + PERIOD_MS_MIN)
        extrinsics = [_parcel(time_ms, self._node.rng)]
        beacon = bls.sign(self._node.secret, beacon_message(GENESIS_HASH, height))
        root = ordered_root(extrinsics)
        digest = ConsensusDigest(view, beacon).item()
        return Block(Header(parent_hash, height, blake2_256(state_root + root), root, [digest]), extrinsics).encode()

    def variant(self, payload: bytes) -> bytes:
        """Another valid block for the same place, for who proposes two."""
        header = Block.decode(payload).header
        extrinsics = [_parcel(max(self._node.clock(), self._heads[-1][2] + PERIOD_MS_MIN), self._node.rng)]
        root = ordered_root(extrinsics)
        state_root = blake2_256(self._heads[-1][1] + root)
        return Block(replace(header, state_root=state_root, extrinsics_root=root), extrinsics).encode()

    async def check(self, height: int, view: int, payload: bytes, *, decided: bool) -> bytes:
        """The hash of a block that follows from the head, made by the primary of this view or an earlier one."""
        if height != len(self.chain) + 1:
            raise Superseded
        try:
            read = _read(payload)
            digest = read.block.header.consensus
        except ScaleError as error:
            raise InvalidProposal(f"malformed: {error}") from None
        header = read.block.header
        parent_hash, state_root, parent_time = self._heads[-1]
        wanted = (height, parent_hash, read.root, blake2_256(state_root + read.root))
        if (header.height, header.parent_hash, header.extrinsics_root, header.state_root) != wanted:
            raise InvalidProposal("it does not follow from the block before it")
        primary = self._world.deciding(height).primary(height, digest.view)
        if digest.view > view or not bls.verify(primary.bls_key, beacon_message(GENESIS_HASH, height), digest.beacon):
            raise InvalidProposal(f"its beacon is not that of the primary of view {digest.view}")
        if read.time_ms < parent_time + PERIOD_MS_MIN:
            raise InvalidProposal("its time is too early")
        if not decided and self._node.clock() + DRIFT_MS_MAX < read.time_ms > parent_time + PERIOD_MS_MIN:
            raise Premature("its time is too late")
        return read.hash

    async def commit(self, height: int, payload: bytes, seal: Seal) -> None:
        """Keep a sealed block."""
        await self._keep(Block.decode(payload), seal)

    async def import_blocks(self, blocks: Sequence[SealedBlock]) -> None:
        """Keep the next sealed blocks one by one, as far as the set that has sealed them decides."""
        for sealed in blocks:
            if sealed.seal.set_id == self.validators(len(self.chain) + 1).set_id:
                await self._keep(sealed.block, sealed.seal)

    async def _keep(self, block: Block, seal: Seal) -> None:
        """Keep the next sealed block: whole or, if the power is cut, not at all. One that is here is no error."""
        if block.header.height <= len(self.chain):
            return
        self._node.hazard()
        self._node.disk.expect_health()
        payload = block.encode()
        read = _read(payload)
        await self.check(block.header.height, seal.view, payload, decided=True)
        sealed = SealedBlock(read.block, seal)
        self.chain.append(sealed)
        self._heads.append((read.hash, block.header.state_root, read.time_ms))
        self._node.on_committed(sealed)
        self._node.hazard()
