"""What consensus asks of the ledger: build a block, check one, keep a sealed one.

A proposal is accepted when it executes to what its header says, was made in the view that it says, and is not from the
future; why one is refused is said in the exception. What a quorum has decided is not judged by this machine's clock:
a node whose clock is wrong follows, and is told so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf

import trio

from chain.importer import CannotFollow, Importer
from chain.ledger import ExecutedBlock, NotNext
from chain.log import Log
from chain.pool import Pool
from chain.primitives import bls, ss58
from chain.primitives.hashing import Hash, blake2_256
from chain.primitives.scale import ScaleError
from chain.primitives.seal import Seal, ValidatorSet, beacon_message
from chain.primitives.spread import Spread
from chain.primitives.types import Block, decode_extrinsic, is_signed
from chain.proposing import Rejected
from consensus.host import InvalidProposal, Premature, Superseded
from runtime.composition import Runtime, View
from runtime.modules.timestamp import Timestamp
from runtime.panic import Exhausted
from runtime.types import InherentData, InvalidBlock

# A proposer's clock may be this far ahead of ours: Substrate's MAX_TIMESTAMP_DRIFT_MILLIS.
DRIFT_MS_MAX = 30_000
# How long a proposer fills its block before it sends what it has: a part of the second that a block takes.
BUILD_SECONDS = 0.4
# A clock stays wrong for hours and a block comes every second: the operator is told once in a while.
CLOCK_NEWS_SECONDS = 60.0

log = Log("clock")


def now_ms() -> int:
    """Wall-clock time, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class _Refused:
    """A proposal that was refused for its time alone."""

    height: int
    hash: Hash
    proposer: bytes
    ahead_ms: int


class Author:
    """Implements `consensus.host.Host` over the importer and the pool. `clock` is this machine's, in milliseconds.

    `stopwatch` is seconds that pass, to bound a build with.
    """

    def __init__(
        self,
        importer: Importer,
        pool: Pool,
        bls_secrets: Sequence[bytes],
        clock: Callable[[], int] = now_ms,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._importer = importer
        self._ledger = importer.ledger
        self._pool = pool
        self._bls_secrets = {bls.public_key(secret): secret for secret in bls_secrets}
        self._clock = clock
        self._stopwatch = stopwatch
        self.built = Spread()  # in seconds
        self.built_transactions = 0
        self._refused: _Refused | None = None
        self._clock_news_at = -inf

    @property
    def genesis_hash(self) -> bytes:
        """The hash that binds every vote to this chain."""
        return self._ledger.genesis_hash

    def validators(self, height: int) -> ValidatorSet:
        """Who decides `height`."""
        return self._importer.validators(height)

    async def build(self, height: int, view: int, parent_seal: Seal | None) -> bytes:
        """The best block that the pool allows; Superseded when the chain has moved on."""
        # A copy: the thread that builds takes from it, best first, as many as the block has room for.
        candidates = (transaction.raw for transaction in self._pool.ready())
        began_at = trio.current_time()
        try:
            secret = self._bls_secrets[self.validators(height).primary(height, view).bls_key]
            work = partial(self._propose, height, view, secret, parent_seal, candidates)
            executed, rejected = await self._importer.run(work)
        except NotNext:
            raise Superseded from None
        for refused in rejected:
            self._pool.refuse(blake2_256(refused.extrinsic), self._clock(), refused.error)
        self.built.add(trio.current_time() - began_at)
        self.built_transactions = sum(map(is_signed, executed.block.extrinsics))
        self._importer.remember(executed)
        return executed.block.encode()

    def _propose(
        self, height: int, view: int, secret: bytes, parent_seal: Seal | None, candidates: Iterable[bytes]
    ) -> tuple[ExecutedBlock, list[Rejected]]:
        beacon = bls.sign(secret, beacon_message(self.genesis_hash, height))
        if parent_seal is None:
            parent_seal = self._ledger.seal(self._ledger.head_hash)
        deadline = self._stopwatch() + BUILD_SECONDS
        return self._ledger.propose(
            height,
            view,
            beacon,
            InherentData(self._clock(), parent_seal),
            candidates,
            stop=lambda: self._stopwatch() > deadline,
        )

    async def check(self, height: int, view: int, payload: bytes, *, decided: bool) -> bytes:
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
        except NotNext:
            raise Superseded from None
        except InvalidBlock as error:
            raise InvalidProposal(str(error)) from None
        except Exhausted as error:
            if decided:
                raise CannotFollow(str(error)) from error
            # Not to vote is always safe. What all others can execute they decide without this machine.
            raise InvalidProposal(str(error)) from None
        ahead_ms = timestamp_of(self._ledger.runtime, block) - self._clock()
        if ahead_ms > DRIFT_MS_MAX:
            await self._judge_time(executed, ahead_ms, decided)
        return executed.hash

    async def commit(self, height: int, payload: bytes, seal: Seal) -> None:
        """Make the sealed block durable and the head."""
        refused, self._refused = self._refused, None
        if refused is not None and refused.height == height and refused.hash != seal.block_hash:
            self._tell_of_clocks(
                f"validator {ss58.encode(refused.proposer)} proposed a block that is {refused.ahead_ms // 1000} s "
                "ahead of this machine's clock and was not decided on: one of the two clocks is wrong"
            )
        await self._importer.import_block(Block.decode(payload), seal)

    async def _judge_time(self, executed: ExecutedBlock, ahead_ms: int, decided: bool) -> None:
        """What to do about a block that is too far ahead of this clock; Premature unless it must be taken."""
        height, block = executed.height, executed.block
        if decided:
            self._tell_of_clocks(
                f"block {height}, which a quorum decided, is {ahead_ms // 1000} s ahead of this machine's clock: set "
                "the clock; until then this validator follows the others, and its proposals carry late times"
            )
        elif timestamp_of(self._ledger.runtime, block) > await self._importer.run(self._earliest):
            proposer = self.validators(height).primary(height, block.header.consensus.view)
            self._refused = _Refused(height, executed.hash, proposer.account, ahead_ms)
            raise Premature(f"its timestamp is {ahead_ms} ms ahead of this clock; at most {DRIFT_MS_MAX} allowed")

    def _earliest(self) -> int:
        """The least time that the next block may have: no clock that is right can hold that against it."""
        with self._ledger.state() as state:
            timestamp = self._ledger.runtime.at(state).module(Timestamp)
            return timestamp.now.get() + timestamp.minimum_period

    def _tell_of_clocks(self, news: str) -> None:
        if trio.current_time() >= self._clock_news_at + CLOCK_NEWS_SECONDS:
            self._clock_news_at = trio.current_time()
            log.warning(news)


def parent_seal_of(runtime: Runtime[View], block: Block) -> Seal | None:
    """The seal of its parent that a block carries; None in the first block, and in one that does not execute."""
    if block.header.height < 2 or len(block.extrinsics) < 2:
        return None
    try:
        call = decode_extrinsic(block.extrinsics[1], runtime.call_codec).call
    except ScaleError:
        return None
    seal = call.args[0] if len(call.args) == 1 else None
    return seal if isinstance(seal, Seal) else None


def timestamp_of(runtime: Runtime[View], block: Block) -> int:
    """The time that a block which executes sets: its first extrinsic is `Timestamp.set`."""
    (moment,) = decode_extrinsic(block.extrinsics[0], runtime.call_codec).call.args
    return int(moment)
