"""The one way into the ledger: blocks are executed and committed one at a time, whoever brought them.

Committing publishes the header to everybody who follows the chain. The event loop never waits for the disk: execution
and the commit run in threads, and only one commit runs at a time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import trio

from chain.ledger import ExecutedBlock, Ledger
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


class CannotFollow(Exception):
    """A quorum has decided on a block that this node cannot execute to the same end: one of them runs other code."""


@dataclass(frozen=True, slots=True)
class Times:
    """How long blocks take, in seconds, with what they wait for a thread."""

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
    ) -> None:
        """`validators_after(hash)` reads who decides the block after this one; called in a thread.

        `on_imported` is called on the loop, in the order of heights, before anybody else hears of the block.
        """
        self.ledger = ledger
        self.heads: Broadcast[Header] = Broadcast()
        self.seals: Broadcast[Sealing] = Broadcast()
        self._validators_after = validators_after
        self._on_imported = on_imported
        self.run = run
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
            try:
                executed = await self.execute(block)
            except (InvalidBlock, Exhausted) as error:
                raise CannotFollow(
                    f"a quorum sealed block {block.header.height}, and this node cannot follow: {error}; see that it "
                    "runs the same runtime and Python as the validators"
                ) from error
            with self._timed(self.times.committed):
                decides_next = await self.run(partial(self._commit, executed, seal))
            sealed_by = self._validators[executed.height]
            self._best = executed.height, executed.hash
            self._validators[executed.height + 1] = decides_next
            self._validators.pop(executed.height - SETS_KEPT, None)
            self.times.imported.add(trio.current_time() - began_at)
        self._executed = OrderedDict((k, v) for k, v in self._executed.items() if v.height > executed.height)
        self._on_imported(Imported(executed, sealed_by))
        self.seals.publish(Sealing(seal, sealed_by))
        self.heads.publish(block.header)

    @staticmethod
    @contextmanager
    def _timed(spread: Spread) -> Iterator[None]:
        """Count how long the block takes, unless it raises."""
        began_at = trio.current_time()
        yield
        spread.add(trio.current_time() - began_at)

    def _commit(self, executed: ExecutedBlock, seal: Seal) -> ValidatorSet:
        self.ledger.commit(executed, seal)
        return self._validators_after(executed.hash)
