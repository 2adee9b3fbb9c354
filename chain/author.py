"""What consensus asks of the ledger: build a block, check one, keep a sealed one.

A block is accepted when it executes to what its header says, was made in the view that it says, and is not from the
future; why one is refused is said in the exception.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import trio

from chain.importer import Importer
from chain.ledger import ExecutedBlock, Rejected
from chain.pool import Pool
from chain.primitives import bls
from chain.primitives.hashing import blake2_256
from chain.primitives.scale import ScaleError
from chain.primitives.seal import Seal, ValidatorSet, beacon_message
from chain.primitives.types import Block
from consensus.host import InvalidProposal, Superseded
from runtime.types import InherentData, InvalidBlock

# A proposer's clock may be this far ahead of ours: Substrate's MAX_TIMESTAMP_DRIFT_MILLIS.
DRIFT_MS_MAX = 30_000
# How long a proposer fills its block before it sends what it has: a part of the second that a block takes.
BUILD_SECONDS = 0.4


def now_ms() -> int:
    """Wall-clock time, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Author:
    """Implements `consensus.host.Host` over the importer and the pool."""

    def __init__(self, importer: Importer, pool: Pool, bls_secret: bytes, timestamp_of: Callable[[Block], int]) -> None:
        self._importer = importer
        self._ledger = importer.ledger
        self._pool = pool
        self._bls_secret = bls_secret
        self._timestamp_of = timestamp_of

    @property
    def genesis_hash(self) -> bytes:
        """The hash that binds every vote to this chain."""
        return self._ledger.genesis_hash

    def validators(self, height: int) -> ValidatorSet:
        """Who decides `height`."""
        return self._importer.validators(height)

    async def build(self, height: int, view: int) -> bytes:
        """The best block that the pool allows; Superseded when the chain has moved on."""
        candidates = [transaction.raw for transaction in self._pool.ready()]
        try:
            executed, rejected = await trio.to_thread.run_sync(partial(self._propose, height, view, candidates))
        except ValueError:
            if self._ledger.head.height >= height:
                raise Superseded from None
            raise
        for refused in rejected:
            self._pool.ban(blake2_256(refused.extrinsic), now_ms())
        self._importer.remember(executed)
        return executed.block.encode()

    def _propose(self, height: int, view: int, candidates: list[bytes]) -> tuple[ExecutedBlock, list[Rejected]]:
        beacon = bls.sign(self._bls_secret, beacon_message(self.genesis_hash, height))
        parent_seal = self._ledger.seal(self._ledger.head_hash)
        deadline = time.monotonic() + BUILD_SECONDS
        return self._ledger.propose(
            height,
            view,
            beacon,
            InherentData(now_ms(), parent_seal),
            candidates,
            stop=lambda: time.monotonic() > deadline,
        )

    async def check(self, height: int, view: int, payload: bytes) -> bytes:
        """The hash of a block that may be sealed at `height`, in `view` or, carried over, from an earlier one."""
        if self._ledger.head.height >= height:
            raise Superseded
        try:
            block = Block.decode(payload)
            made_in = block.header.consensus.view
        except ScaleError as error:
            raise InvalidProposal(f"malformed block: {error}") from None
        if block.header.height != height:
            raise InvalidProposal(f"expected height {height}, got {block.header.height}")
        if made_in > view:
            raise InvalidProposal(f"expected a block made in view {view} or earlier, got view {made_in}")
        try:
            executed = await self._importer.execute(block)
        except InvalidBlock as error:
            if self._ledger.head.height >= height:
                raise Superseded from None
            raise InvalidProposal(str(error)) from None
        ahead_ms = self._timestamp_of(block) - now_ms()
        if ahead_ms > DRIFT_MS_MAX:
            raise InvalidProposal(f"its timestamp is {ahead_ms} ms ahead of this clock; at most {DRIFT_MS_MAX} allowed")
        return executed.hash

    async def commit(self, height: int, payload: bytes, seal: Seal) -> None:  # noqa: ARG002  (the protocol's shape)
        """Make the sealed block durable and the head."""
        await self._importer.import_block(Block.decode(payload), seal)
