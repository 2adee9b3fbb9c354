"""Following the chain: fetches sealed blocks from peers that are ahead and hands the proven ones to the node, in order.

The rule: nothing reaches the node but a block whose body fits its header and whose header a quorum sealed; a peer that
sends anything else, or promises and does not deliver, is replaced by the next.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from random import Random

import trio

from chain.ledger import SealedBlock
from chain.log import Log
from chain.net.errors import PeerGone, PeerUnavailable
from chain.net.peer import PeerInfo
from chain.primitives.hashing import Hash
from chain.primitives.seal import Seal, ValidatorSet
from chain.primitives.types import Block
from chain.rpc.broadcast import BACKLOG
from chain.sync.peers import Peers
from chain.sync.planner import FAILED_PEER_S, Ask, FalseAnswer, Planner, Standing
from chain.sync.progress import NEWS_EVERY_S, STALL_S, Pace, SyncStatus
from chain.sync.proving import Range, prove_blocks, read_range
from consensus.gadget import run_in_thread
from consensus.host import RunInThread

log = Log("sync")

# Seals are proven in threads beside the one that executes: a second keeps a machine of few cores busy, more wait.
PROVERS = 2
# What is imported together waits for the disk once. Half of what a subscriber to heads may be behind by.
TOGETHER_BLOCKS_MAX = BACKLOG // 2
# Two thousand transfers, half a second's work: nobody sees any of these blocks before all are done.
TOGETHER_BYTES_MAX = 256 * 1024
# Fewer missing blocks than this are everyday life and no news.
NEWS_BLOCKS = 5


class Synchroniser:
    """Follows the best peers. `run` it once; everything else is synchronous.

    `best()` is our newest sealed block; `validators(height)` the set that seals this height, known once the block below
    is ours (`LookupError` while that one is still being committed); `import_blocks(blocks)` executes and commits blocks
    that one set has sealed, and passes over those that are ours already. It may leave some from one on, at least where
    another set decides that one. What it raises ends `run`: a block that a quorum sealed and that we cannot execute is
    never a peer's fault.

    `patience_s` is how long a node that takes part in consensus lets it finish the one block that it is behind by.
    `tell` is given a line of progress at most every `NEWS_EVERY_S` while far behind. `parent_seal_of(block)` is the
    seal that a block carries, if it is known how to find it: it can then be verified together with others.
    """

    def __init__(
        self,
        *,
        network: Peers,
        genesis_hash: Hash,
        best: Callable[[], tuple[int, Hash]],
        validators: Callable[[int], ValidatorSet],
        import_blocks: Callable[[Sequence[SealedBlock]], Awaitable[None]],
        patience_s: float = 0.0,
        rng: Random | None = None,
        run: RunInThread = run_in_thread,
        tell: Callable[[str], None] = log.info,
        parent_seal_of: Callable[[Block], Seal | None] = lambda _: None,
    ) -> None:
        self._network = network
        self._genesis_hash = genesis_hash
        self._best = best
        self._validators = validators
        self._import_blocks = import_blocks
        self._patience_s = patience_s
        self._run = run
        self._tell = tell
        self._parent_seal_of = parent_seal_of
        self._standing = Standing()
        self._planner = Planner(self._standing, rng if rng is not None else Random())
        self._ranges: dict[int, Range] = {}  # What has come, by first height.
        self._scopes: dict[Ask, trio.CancelScope] = {}
        self._proving = trio.CapacityLimiter(PROVERS)
        self._wake = trio.Event()
        self._came = trio.Event()
        self._wanted_height = 0
        self._pace = Pace()
        self._told_at = 0.0
        self._waiting: tuple[int, float] | None = None  # For a block above which height, and since when.

    @property
    def status(self) -> SyncStatus:
        """Where we are, where the others say that they are (the proven ones, if any), and how fast we go."""
        height, _ = self._best()
        peers = self._usable()
        proven = [peer for peer in peers if peer.id in self._standing.delivered]
        target = max([height, *(peer.best_height for peer in proven or peers)])
        stalled = self.why_waiting() if self._waited_s(height) >= STALL_S else None
        return SyncStatus(height, target, self._pace.per_second, stalled)

    @property
    def is_far_behind(self) -> bool:
        """Whether so much is missing that single blocks are no news: by the word of who has delivered."""
        delivered = self._standing.delivered
        best = max((peer.best_height for peer in self._usable() if peer.id in delivered), default=0)
        return best - self._best()[0] >= NEWS_BLOCKS

    def why_waiting(self) -> str:
        """What the next block is waited for."""
        height, _ = self._best()
        peers = self._network.peers()
        if not peers:
            return "no peers are connected: see that this machine reaches the bootnodes, or give others with --bootnode"
        able = [peer for peer in peers if peer.best_height > height]
        if not able:
            highest = max(peer.best_height for peer in peers)
            return f"none of the {len(peers)} peers has block {height + 1}, the highest is at {highest}"
        usable = {peer.id for peer in self._usable()}
        names = {peer.id: f"{peer.name} at {peer.address}" for peer in able}
        now = trio.current_time()
        for ask in self._planner.flights:
            if ask.start == height + 1 and not ask.trial:
                name = names.get(ask.peer, "that is gone")
                return f"peer {name} was asked for block {height + 1} {now - ask.since:.0f} s ago and has not answered"
        if any(start <= height + 1 for start in self._ranges):
            return f"block {height + 1} has come and is being executed"
        if not any(peer.id in usable for peer in able):
            return f"those that say they have block {height + 1} gave no answer, or a false one: " + ", ".join(
                sorted(names.values())
            )
        return f"{len(able)} of {len(peers)} peers have block {height + 1}, and will be asked now"

    def on_status(self, peer: bytes, height: int, block_hash: Hash) -> None:  # noqa: ARG002
        """A peer told its best block (`Handler.on_status`)."""
        if height > self._best()[0]:
            self._standing.forgive(peer)
            self._wake.set()
            if not self._planner.is_newcomer(peer):
                # What newcomers were asked for, because nobody else had it, this one has.
                for ask, scope in self._scopes.items():
                    if self._planner.is_newcomer(ask.peer) and not ask.trial:
                        scope.cancel()

    def on_behind(self, height: int) -> None:
        """Consensus saw that the others are at `height`: do not wait for their status."""
        self._wanted_height = max(self._wanted_height, height)
        self._wake.set()

    async def run(self) -> None:
        """Follow until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._import_in_order, nursery)
            while True:
                if await self._patiently_behind():
                    self._ask_for_more(nursery)
                self._waited_s(self._best()[0])
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
        return self._standing.usable(self._network.peers(), trio.current_time())

    # --- fetching ---

    def _ask_for_more(self, nursery: trio.Nursery) -> None:
        """Ask for all that can be under way at once."""
        while True:
            height, _ = self._best()
            self._drop_below(height)
            ask = self._planner.next_ask(trio.current_time(), height, self._network.peers())
            if ask is None:
                return
            # Strangers can make consensus believe in any height: its word ends one wait, and is said again where it
            # holds.
            self._wanted_height = 0
            self._scopes[ask] = trio.CancelScope()
            nursery.start_soon(self._fetch, ask)

    async def _fetch(self, ask: Ask) -> None:
        """Have a peer answer, prove what can be proven of it, and leave it to the importer."""
        try:
            with self._scopes[ask]:
                encoded = await self._network.request_blocks(ask.peer, ask.start, ask.count, ask.deadline_s)
                if not encoded:
                    raise PeerUnavailable(f"says that it has block {ask.start} and does not give it")
                found = await self._run(partial(read_range, ask.peer, encoded, ask.start))
                await self._prove(found)
                self._keep(ask, found)
        except PeerGone:
            self._standing.leave_alone(ask.peer, trio.current_time())
        except (PeerUnavailable, FalseAnswer) as error:
            self._blame(ask.peer, error)
        finally:
            del self._scopes[ask]
            self._planner.ended(ask)
            self._wake.set()

    def _keep(self, ask: Ask, found: Range) -> None:
        if ask.trial:
            if found.proven:
                self._credit(ask.peer)
        else:
            self._ranges[found.start] = found
            self._planner.came(found.start, len(found.blocks), found.size)
            self._came.set()

    async def _prove(self, found: Range) -> None:
        """Prove the blocks of a range that the newest set which we know has sealed; raises FalseAnswer."""
        try:
            validators = self._validators(self._best()[0] + 1)
        except LookupError:  # Consensus is in the middle of committing a block.
            return
        start = found.proven
        rest = found.blocks[start:]
        if rest and rest[0].seal.set_id == validators.set_id:
            async with self._proving:
                proven = await self._run(
                    partial(prove_blocks, rest, validators, self._genesis_hash, self._parent_seal_of)
                )
            # The importer and `_prove_ahead` may be at one range: who comes second adds what the first has not.
            found.sealed_by += [validators.set_id] * (start + proven - found.proven)

    def _blame(self, peer: bytes, error: PeerUnavailable | FalseAnswer) -> None:
        points = self._standing.failed(peer, error, trio.current_time())
        self._network.penalise(peer, points, str(error))

    def _credit(self, peer: bytes) -> None:
        self._standing.delivered.add(peer)
        self._network.note_helper(peer)

    # --- importing ---

    async def _import_in_order(self, nursery: trio.Nursery) -> None:
        while True:
            height, _ = self._best()
            self._drop_below(height)
            found = next((found for start, found in sorted(self._ranges.items()) if start <= height + 1), None)
            if found is None:
                await self._came.wait()
                self._came = trio.Event()
                continue
            try:
                if await self._import(found, nursery):
                    self._credit(found.peer)
            except FalseAnswer as error:
                self._blame(found.peer, error)
            self._release(found)
            self._wake.set()

    async def _import(self, found: Range, nursery: trio.Nursery) -> int:
        """Import the blocks of a range; how many were new to us. Raises FalseAnswer at the first that is not true."""
        imported = 0
        for index, sealed in enumerate(found.blocks):
            height = sealed.block.header.height
            best_height, best_hash = self._best()
            if height <= best_height:
                # Consensus was faster, so this is proven. It may be of an older set, and what follows of a newer one.
                if found.proven == index:
                    found.sealed_by.append(sealed.seal.set_id)
                continue
            if sealed.block.header.parent_hash != best_hash:
                raise FalseAnswer(f"block {height} does not follow our block {best_height}")
            try:
                validators = self._validators(height)
            except LookupError:
                # Consensus is in the middle of committing the block below; what follows is fetched again.
                return imported
            if found.proven <= index:
                self._prove_ahead(found, nursery)
                await self._prove(found)
            if found.proven <= index or found.sealed_by[index] != validators.set_id:
                raise FalseAnswer(f"the seal of block {height} is not of set {validators.set_id}, which decides it")
            await self._import_together(_together(found, index))
            imported += self._best()[0] - best_height
        return imported

    def _prove_ahead(self, found: Range, nursery: trio.Nursery) -> None:
        """The set has changed: what came before it was known can be proven now, beside what is executed."""

        async def prove(later: Range) -> None:
            try:
                await self._prove(later)
            except FalseAnswer as error:
                if self._ranges.get(later.start) is later:
                    self._release(later)
                    self._blame(later.peer, error)
                    self._wake.set()

        for later in list(self._ranges.values()):
            if later is not found and not later.proven:
                nursery.start_soon(prove, later)

    async def _import_together(self, blocks: Sequence[SealedBlock]) -> None:
        await self._import_blocks(blocks)
        height, _ = self._best()
        if height < blocks[0].block.header.height:
            raise AssertionError(f"import_blocks returned and block {blocks[0].block.header.height} is not ours")
        now = trio.current_time()
        self._pace.note(now, height)
        if now - self._told_at >= NEWS_EVERY_S and self.is_far_behind:
            self._told_at = now
            self._tell(str(self.status))

    def _release(self, found: Range) -> None:
        if self._ranges.get(found.start) is found:
            del self._ranges[found.start]
            self._planner.released(found.start)

    def _drop_below(self, height: int) -> None:
        """Forget ranges that consensus has passed."""
        for found in list(self._ranges.values()):
            if found.start + len(found.blocks) <= height + 1:
                self._release(found)

    def _waited_s(self, height: int) -> float:
        """How long we have been seen to miss the block after this one, or anybody who could have it."""
        peers = self._network.peers()
        if peers and self._wanted_height <= height and all(peer.best_height <= height for peer in peers):
            self._waiting = None
            return 0.0
        if self._waiting is None or self._waiting[0] != height:
            if self._waiting is None:
                self._told_at = trio.current_time()  # What takes no longer than that is no news.
            self._waiting = (height, trio.current_time())
        return trio.current_time() - self._waiting[1]


def _together(found: Range, start: int) -> Sequence[SealedBlock]:
    """The blocks of a range from one on that go into one transaction of the database: of one set, within a size."""
    size, end = 0, start
    limit = min(found.proven, start + TOGETHER_BLOCKS_MAX)
    while end < limit and found.sealed_by[end] == found.sealed_by[start]:
        size += sum(map(len, found.blocks[end].block.extrinsics))
        if size > TOGETHER_BYTES_MAX and end > start:
            break
        end += 1
    return found.blocks[start:end]
