"""Following the chain: fetches sealed blocks from peers that are ahead and hands the proven ones to the node.

The rule: nothing reaches the node but a block whose body fits its header and whose header a quorum sealed; a peer that
sends anything else, or promises and does not deliver, is replaced by the next.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Protocol

import trio

from chain.ledger import SealedBlock
from chain.net.errors import PeerGone, PeerUnavailable
from chain.net.peer import PeerInfo
from chain.primitives.hashing import Hash
from chain.primitives.merkle import ordered_root
from chain.primitives.scale import ScaleError
from chain.primitives.seal import Seal, ValidatorSet, verify_seal
from chain.primitives.types import Block
from consensus.gadget import run_in_thread
from consensus.host import RunInThread

log = logging.getLogger("potchain.sync")

# A range that a peer can answer in one message at typical block sizes, and that is imported in about a second.
RANGE_BLOCKS = 64
# Who has not delivered yet is asked for little, and soon given up: it may be one of many who only claim to have blocks.
NEWCOMER_BLOCKS = 8
NEWCOMER_S = 2.0
# A peer that failed is asked again only after so long, unless it says that it has a new block.
FAILED_PEER_S = 5.0
# What a stalled answer, one of a peer that never delivered and a false one cost of the 100 points that ban.
STALLED_POINTS = 25.0
NEVER_DELIVERED_POINTS = 50.0
FALSE_POINTS = 100.0
# Fewer missing blocks than this are everyday life and no news.
NEWS_BLOCKS = 5
NEWS_EVERY_S = 2.0
# How much weight the newest measurement of the rate has.
RATE_WEIGHT = 0.3


class Peers(Protocol):
    """What the synchroniser needs of the network (`chain.net.network.Network`)."""

    def peers(self) -> list[PeerInfo]:
        """Everyone connected."""

    async def request_blocks(self, peer: bytes, start: int, count: int, deadline_s: float = ...) -> list[bytes]:
        """Sealed blocks; `PeerUnavailable` when the peer does not answer."""

    def note_helper(self, peer: bytes) -> None:
        """A peer gave what it promised."""

    def penalise(self, peer: bytes, points: float, reason: str) -> None:
        """Hold something against a peer."""


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """`target` is the best height that a peer claims, ours when nobody claims more."""

    height: int
    target: int
    blocks_per_second: float

    @property
    def syncing(self) -> bool:
        """Whether we are behind by more than the block that is being sealed right now."""
        return self.target > self.height + 1

    @property
    def seconds_left(self) -> float | None:
        """None while there is no rate yet."""
        return (self.target - self.height) / self.blocks_per_second if self.blocks_per_second > 0 else None


class _FalseBlock(Exception):
    """The peer sent what no honest node sends."""


class Synchroniser:
    """Follows the best peer. `run` it once; everything else is synchronous.

    `best()` is our newest sealed block; `validators(height)` the set that seals this height, known once the block below
    is ours (`LookupError` while that one is still being committed); `import_block(block, seal)` executes and commits,
    and does nothing for a block that is ours already. What `import_block` raises ends `run`: a block that a quorum
    sealed and that we cannot execute is never a peer's fault.

    `patience_s` is how long a node that takes part in consensus lets it finish the one block that it is behind by.
    """

    def __init__(
        self,
        *,
        network: Peers,
        genesis_hash: Hash,
        best: Callable[[], tuple[int, Hash]],
        validators: Callable[[int], ValidatorSet],
        import_block: Callable[[Block, Seal], Awaitable[None]],
        patience_s: float = 0.0,
        rng: Random | None = None,
        run: RunInThread = run_in_thread,
    ) -> None:
        self._network = network
        self._genesis_hash = genesis_hash
        self._best = best
        self._validators = validators
        self._import_block = import_block
        self._patience_s = patience_s
        self._rng = rng if rng is not None else Random()
        self._run = run
        self._wake = trio.Event()
        self._failed_until: dict[bytes, float] = {}
        self._delivered: set[bytes] = set()
        self._asking_newcomer = trio.CancelScope()
        self._wanted_height = 0
        self._rate = 0.0
        self._told_at = float("-inf")

    @property
    def status(self) -> SyncStatus:
        """Where we are, where the others say that they are (the proven ones, if any), and how fast we go."""
        height, _ = self._best()
        peers = self._usable()
        proven = [peer for peer in peers if peer.id in self._delivered]
        return SyncStatus(height, max([height, *(peer.best_height for peer in proven or peers)]), self._rate)

    def on_status(self, peer: bytes, height: int, block_hash: Hash) -> None:  # noqa: ARG002
        """A peer told its best block (`Handler.on_status`)."""
        if height > self._best()[0]:
            self._failed_until.pop(peer, None)
            self._wake.set()
            if peer in self._delivered:
                self._asking_newcomer.cancel()

    def on_behind(self, height: int) -> None:
        """Consensus saw that the others are at `height`: do not wait for their status."""
        self._wanted_height = max(self._wanted_height, height)
        self._wake.set()

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            if await self._patiently_behind() and await self._advance():
                continue
            # Without news look again anyway: a peer that failed may be well, a status may have been lost.
            with trio.move_on_after(FAILED_PEER_S):
                await self._wake.wait()
            self._wake = trio.Event()

    async def _patiently_behind(self) -> bool:
        """Whether blocks are missing that consensus will not bring by itself."""
        height, _ = self._best()
        with trio.move_on_after(self._patience_s):
            while self._target() == height + 1 and self._wanted_height <= height and self._best()[0] == height:
                await self._wake.wait()
                self._wake = trio.Event()
        return self._target() > self._best()[0]

    def _target(self) -> int:
        return max([self._wanted_height, *(peer.best_height for peer in self._usable())])

    def _usable(self) -> list[PeerInfo]:
        """Peers that did not fail us lately."""
        now = trio.current_time()
        self._failed_until = {peer: until for peer, until in self._failed_until.items() if until > now}
        return [peer for peer in self._network.peers() if peer.id not in self._failed_until]

    async def _advance(self) -> bool:
        """Fetch and import one range from one peer; False when there is nobody to ask."""
        height, _ = self._best()
        ahead = [peer for peer in self._usable() if peer.best_height > height]
        if not ahead:
            return False
        peer = self._choose(ahead)
        # Strangers can make consensus believe in any height: its word ends one wait, and is said again where it holds.
        self._wanted_height = 0
        started = trio.current_time()
        try:
            encoded = await self._ask(peer, height)
            if encoded is None:
                return True
            if not encoded:
                raise PeerUnavailable(f"says that it is at height {peer.best_height} and has no block {height + 1}")
            imported = await self._import(encoded, height + 1)
        except PeerGone:
            self._leave_alone(peer)
        except PeerUnavailable as error:
            self._leave_alone(peer)
            points = STALLED_POINTS if peer.id in self._delivered else NEVER_DELIVERED_POINTS
            self._delivered.discard(peer.id)
            self._network.penalise(peer.id, points, str(error))
        except _FalseBlock as error:
            self._leave_alone(peer)
            self._network.penalise(peer.id, FALSE_POINTS, str(error))
        else:
            if imported:
                self._delivered.add(peer.id)
                self._network.note_helper(peer.id)
            elapsed = max(trio.current_time() - started, 1e-3)
            rate = imported / elapsed
            self._rate = rate if self._rate == 0.0 else self._rate + RATE_WEIGHT * (rate - self._rate)
            self._tell()
        return True

    def _choose(self, ahead: Sequence[PeerInfo]) -> PeerInfo:
        """Who has delivered, else whom we dialled, else whoever dialled us: liars shall waste little of our time."""
        self._delivered &= {peer.id for peer in self._network.peers()}
        return self._rng.choice(
            [peer for peer in ahead if peer.id in self._delivered] or [peer for peer in ahead if peer.dialled] or ahead
        )

    async def _ask(self, peer: PeerInfo, height: int) -> Sequence[bytes] | None:
        """The blocks above `height` from a peer; None when a better one had news before this one had answered."""
        count = peer.best_height - height
        if peer.id in self._delivered:
            return await self._network.request_blocks(peer.id, height + 1, min(count, RANGE_BLOCKS))
        with trio.CancelScope() as self._asking_newcomer:
            return await self._network.request_blocks(peer.id, height + 1, min(count, NEWCOMER_BLOCKS), NEWCOMER_S)
        return None

    async def _import(self, encoded: Sequence[bytes], start: int) -> int:
        """Prove and import blocks that should be those from `start` on; how many were new to us."""
        imported = 0
        for height, data in enumerate(encoded, start):
            sealed = _decode(data, height)
            best_height, best_hash = self._best()
            if height <= best_height:
                # Consensus was faster.
                continue
            if sealed.block.header.parent_hash != best_hash:
                raise _FalseBlock(f"block {height} does not follow our block {best_height}")
            try:
                validators = self._validators(height)
            except LookupError:
                # Consensus is in the middle of committing the block below; what follows is fetched again.
                return imported
            if not await self._run(partial(_is_sealed, sealed, validators, self._genesis_hash)):
                raise _FalseBlock(f"the seal of block {height} does not prove it")
            await self._import_block(sealed.block, sealed.seal)
            if self._best()[0] < height:
                raise AssertionError(f"import_block returned and block {height} is not ours")
            imported += 1
        return imported

    def _leave_alone(self, peer: PeerInfo) -> None:
        self._failed_until[peer.id] = trio.current_time() + FAILED_PEER_S

    def _tell(self) -> None:
        """One line of progress at most every `NEWS_EVERY_S` while far behind."""
        status, now = self.status, trio.current_time()
        if status.target - status.height < NEWS_BLOCKS or now - self._told_at < NEWS_EVERY_S:
            return
        self._told_at = now
        left = status.seconds_left
        log.info(
            "sync   %d of %d   %.0f blocks/s%s",
            status.height,
            status.target,
            status.blocks_per_second,
            "" if left is None else f"   {left:.0f} s left",
        )


def _decode(data: bytes, height: int) -> SealedBlock:
    try:
        sealed = SealedBlock.decode(data)
    except ScaleError as error:
        raise _FalseBlock(f"block {height} is malformed: {error}") from error
    if sealed.block.header.height != height:
        raise _FalseBlock(f"asked for block {height}, got block {sealed.block.header.height}")
    return sealed


def _is_sealed(sealed: SealedBlock, validators: ValidatorSet, genesis_hash: Hash) -> bool:
    """Whether the body is the header's and the header what a quorum committed to. A pairing: for a thread."""
    block, seal = sealed.block, sealed.seal
    return (
        seal.height == block.header.height
        and seal.block_hash == block.hash
        and ordered_root(block.extrinsics) == block.header.extrinsics_root
        and verify_seal(validators, genesis_hash, seal)
    )
