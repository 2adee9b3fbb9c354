"""The one way into the ledger: blocks are executed and committed in their order, whoever brought them.

Committing publishes the headers to everybody who follows the chain. The event loop never waits for the disk: execution
and the commit run in threads, and only one commit runs at a time.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import TypeVar

import trio

from chain.ledger import ExecutedBlock, Ledger, SealedBlock
from chain.primitives.hashing import Hash
from chain.primitives.seal import Seal, ValidatorSet
from chain.primitives.spread import Spread
from chain.primitives.types import Block, Header
from chain.rpc.backend import Sealing
from chain.rpc.broadcast import Broadcast
from consensus.gadget import run_in_thread
from consensus.host import RunInThread
from runtime.panic import Exhausted
from runtime.types import InvalidBlock

# One height sees a proposal a view; the next heights start afresh. More are executed again when they are needed.
EXECUTED_MAX = 8
# Consensus may still be about to begin a height that sync has passed meanwhile.
SETS_KEPT = 256
# Full blocks that come together are half a minute's work when there are 32 of them: who stops a node does not wait for
# that, nor does anybody see any of it before.
TOGETHER_SECONDS_MAX = 1.0

T = TypeVar("T")


class CannotFollow(Exception):
    """A quorum has decided on a block that this node cannot execute to the same end: one of them runs other code."""


@dataclass(frozen=True, slots=True)
class Times:
    """How long blocks take, in seconds, with what they wait for a thread.

    Blocks that are imported together count as imported alone, each with its part of the time.
    """

    executed: Spread = field(default_factory=Spread)
    committed: Spread = field(default_factory=Spread)
    imported: Spread = field(default_factory=Spread)


@dataclass(frozen=True, slots=True)
class Imported:
    """A block that has just become the head."""

    executed: ExecutedBlock
    validators: ValidatorSet  # who sealed it


class Importer:
    """Owns the ledger's head. All methods belong to one event loop."""

    def __init__(
        self,
        ledger: Ledger,
        validators_after: Callable[[Hash], ValidatorSet],
        on_imported: Callable[[Imported], None],
        run: RunInThread = run_in_thread,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        """`validators_after(hash)` reads who decides the block after this one; called in a thread.

        `on_imported` is called on the loop, in the order of heights, before anybody else hears of the block.
        `stopwatch` is seconds that pass, for a thread to read.
        """
        self.ledger = ledger
        self.heads: Broadcast[Header] = Broadcast()
        self.seals: Broadcast[Sealing] = Broadcast()
        self._validators_after = validators_after
        self._on_imported = on_imported
        self._run = run
        self._stopwatch = stopwatch
        self._working = 0
        self._at_rest = trio.Event()
        self._imported_at = inf
        self.times = Times()
        self._turn = trio.Lock()
        self._executed: OrderedDict[Hash, ExecutedBlock] = OrderedDict()
        self._best: tuple[int, Hash] = ledger.head.height, ledger.head_hash
        self._validators = {ledger.head.height + 1: validators_after(ledger.head_hash)}

    def best(self) -> tuple[int, Hash]:
        """Height and hash of the newest sealed block: moves on the event loop, together with `validators`."""
        return self._best

    def validators(self, height: int) -> ValidatorSet:
        """Who decides `height`: the next one, or one of the last few; LookupError for any other."""
        try:
            return self._validators[height]
        except KeyError:
            raise LookupError(f"expected height {self._best[0] + 1}, the next one, got {height}") from None

    async def run(self, work: Callable[[], T], /) -> T:
        """Do in a thread what a block waits for: while it lasts, `at_rest` does not return."""
        self._working += 1
        try:
            return await self._run(work)
        finally:
            self._working -= 1
            if not self._working:
                self._at_rest.set()
                self._at_rest = trio.Event()

    async def at_rest(self, pause_s: float = inf) -> None:
        """Return when no block is being built, executed or committed, nor due: the last one is no older than `pause_s`.

        What can wait leaves blocks the interpreter, and the machine.
        """
        while self._working or trio.current_time() >= self._imported_at + pause_s:
            await self._at_rest.wait()

    async def execute(self, block: Block) -> ExecutedBlock:
        """Execute the next block, or recall that it was; InvalidBlock if it is wrong, Exhausted if that stays open."""
        known = self._executed.get(block.hash)
        if known is not None:
            return known
        with self._timed(self.times.executed):
            executed = await self.run(partial(self.ledger.execute, block))
        self.remember(executed)
        return executed

    def remember(self, executed: ExecutedBlock) -> None:
        """Keep a block that was executed, so that committing it does not execute it again."""
        self._executed[executed.hash] = executed
        while len(self._executed) > EXECUTED_MAX:
            self._executed.popitem(last=False)

    async def import_block(self, block: Block, seal: Seal) -> None:
        """Commit a block whose seal was checked; nothing happens when it is in the chain already.

        Raises CannotFollow where this node finds wrong what a quorum sealed: it has to stop.
        """
        async with self._turn:
            if block.header.height <= self._best[0]:
                return
            began_at = trio.current_time()
            with _following(block):
                executed = await self.execute(block)
            with self._timed(self.times.committed):
                sealed_by, decides_next = await self.run(partial(self._commit, executed, seal))
            self._move([executed], sealed_by, decides_next)
            self.times.imported.add(trio.current_time() - began_at)
        self._tell([executed], [seal], sealed_by)

    async def import_blocks(self, blocks: Sequence[SealedBlock]) -> None:
        """Execute and commit blocks that follow from each other, with one wait for the disk.

        All were found to be sealed by the set that their seals name. What is in the chain already is passed over; what
        another set decides is left, and what has not begun after TOGETHER_SECONDS_MAX. Raises CannotFollow, as
        `import_block`, where the first that is new does not execute; one further on is met again by whoever goes on
        from the head.
        """
        async with self._turn:
            fresh = [sealed for sealed in blocks if sealed.block.header.height > self._best[0]]
            if not fresh or fresh[0].seal.set_id != self._validators[self._best[0] + 1].set_id:
                return  # Consensus was faster, and maybe past the end of the set that has sealed them.
            began_at = trio.current_time()
            with _following(fresh[0].block):
                added, sealed_by, decides_next = await self.run(partial(self._extend, fresh))
            self._move(added, sealed_by, decides_next)
            for _ in added:
                self.times.imported.add((trio.current_time() - began_at) / len(added))
        self._tell(added, [sealed.seal for sealed in fresh], sealed_by)

    def _move(self, added: Sequence[ExecutedBlock], sealed_by: ValidatorSet, decides_next: ValidatorSet) -> None:
        """Take the last of these blocks for the head."""
        self._imported_at = trio.current_time()
        for executed in added:
            self._best = executed.height, executed.hash
            self._validators[executed.height] = sealed_by
            self._validators.pop(executed.height - SETS_KEPT, None)
        self._validators[self._best[0] + 1] = decides_next

    def _tell(self, added: Sequence[ExecutedBlock], seals: Sequence[Seal], sealed_by: ValidatorSet) -> None:
        """Tell everybody of new blocks. Of those that were executed ahead, only what may still come is kept."""
        self._executed = OrderedDict((k, v) for k, v in self._executed.items() if v.height > added[-1].height)
        for executed, seal in zip(added, seals, strict=False):
            self._on_imported(Imported(executed, sealed_by))
            self.seals.publish(Sealing(seal, sealed_by))
            self.heads.publish(executed.block.header)

    @staticmethod
    @contextmanager
    def _timed(spread: Spread) -> Iterator[None]:
        """Count how long the block takes, unless it raises."""
        began_at = trio.current_time()
        yield
        spread.add(trio.current_time() - began_at)

    def _commit(self, executed: ExecutedBlock, seal: Seal) -> tuple[ValidatorSet, ValidatorSet]:
        self.ledger.commit(executed, seal)
        sealed_by = self._validators[executed.height]
        return sealed_by, self._decides_after(executed, sealed_by)

    def _extend(self, blocks: Sequence[SealedBlock]) -> tuple[list[ExecutedBlock], ValidatorSet, ValidatorSet]:
        deadline = self._stopwatch() + TOGETHER_SECONDS_MAX
        added = self.ledger.extend(blocks, stop=lambda: self._stopwatch() > deadline)
        sealed_by = self._validators[added[0].height]
        return added, sealed_by, self._decides_after(added[-1], sealed_by)

    def _decides_after(self, executed: ExecutedBlock, sealed_by: ValidatorSet) -> ValidatorSet:
        """Who decides the block after one that was just committed: who has sealed it, unless their time is up."""
        return self._validators_after(executed.hash) if self.ledger.ends_set(executed) else sealed_by


@contextmanager
def _following(block: Block) -> Iterator[None]:
    """CannotFollow where a block that a quorum sealed is found wrong."""
    try:
        yield
    except (InvalidBlock, Exhausted) as error:
        raise CannotFollow(
            f"a quorum sealed block {block.header.height}, and this node cannot follow: {error}; see that it "
            "runs the same runtime and Python as the validators"
        ) from error
