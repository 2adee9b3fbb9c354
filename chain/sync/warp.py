"""Beginning with a recent state instead of genesis: asks peers for what the plan wants, and has the ledger adopt it.

The rule: whatever peers do, the ledger stays at genesis until the whole state is here and has the root of a block that
the validators have sealed. Peers are chosen, replaced and scored as the synchroniser does it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from random import Random

import trio

from chain.ledger import Ledger
from chain.light.checkpoint import Checkpoint
from chain.log import Log
from chain.net.errors import PeerGone, PeerUnavailable
from chain.net.peer import PeerInfo
from chain.primitives.hashing import Hash
from chain.sync.peers import WarpPeers
from chain.sync.planner import NEWCOMER_S, PROVEN_S, FalseAnswer, Standing
from chain.sync.progress import NEWS_EVERY_S, STALL_S, Pace, Phase, SyncStatus
from chain.sync.warp_plan import WarpPlan
from consensus.gadget import run_in_thread
from consensus.host import RunInThread
from runtime.modules.validators import Validators

log = Log("sync")

# Peers that all are at genesis for so long are a chain that begins: there is nothing to fetch.
NEW_CHAIN_S = 5.0
# Without news peers are looked at again so often.
LOOK_S = 1.0


class Warp:
    """One warp. `run` it once, on a ledger that is at genesis; everything else is synchronous.

    `may_be_first`: this node may be one of those that begin the chain, and is not to wait for others who have blocks.
    """

    def __init__(
        self,
        *,
        network: WarpPeers,
        ledger: Ledger,
        may_be_first: bool = False,
        rng: Random | None = None,
        run: RunInThread = run_in_thread,
        tell: Callable[[str], None] = log.info,
    ) -> None:
        self._network = network
        self._ledger = ledger
        self._may_be_first = may_be_first
        self._rng = rng if rng is not None else Random()
        self._run = run
        self._tell = tell
        self._standing = Standing()
        with ledger.state() as state:
            validators = ledger.runtime.at(state).module(Validators).validator_set()
        genesis_hash = ledger.genesis_hash
        self.plan = WarpPlan(
            ledger.runtime, Checkpoint(genesis_hash, 0, genesis_hash, ledger.head.state_root, 0, validators)
        )
        self._chosen_from = b""  # Who gave the block that is to be begun with.
        self._lacking: set[bytes] = set()  # Who does not have its state.
        self._wake = trio.Event()
        self._blocks, self._keys = Pace(), Pace()
        self._told_at = self._progress_at = inf  # Until it runs.

    @property
    def status(self) -> SyncStatus:
        """Where it stands."""
        state = self.plan.state
        target = max([self.plan.at.height, *(peer.best_height for peer in self._proven_or_all())])
        stalled = self.why_waiting() if trio.current_time() - self._progress_at >= STALL_S else None
        if state is None:
            return SyncStatus(self.plan.at.height, target, self._blocks.per_second, stalled, Phase.HANDOVERS)
        return SyncStatus(self.plan.at.height, target, self._keys.per_second, stalled, Phase.STATE, state)

    @property
    def is_far_behind(self) -> bool:
        return True

    def why_waiting(self) -> str:
        """What is waited for."""
        peers = self._network.peers()
        if not peers:
            return "no peers are connected: see that this machine reaches the bootnodes, or give others with --bootnode"
        state = self.plan.state
        what = "any block" if state is None else f"the state of block {state.block}"
        able = [peer for peer in peers if peer.best_height >= (1 if state is None else state.block)]
        if not able:
            return f"none of the {len(peers)} peers has {what}"
        names = ", ".join(f"{peer.name} at {peer.address}" for peer in able[:5])
        return f"peers that should have {what} gave no answer, or a false one: {names}"

    def on_status(self, peer: bytes, height: int, block_hash: Hash) -> None:  # noqa: ARG002
        """A peer told its best block (`Handler.on_status`)."""
        self._standing.forgive(peer)
        self._wake.set()

    async def run(self) -> bool:
        """Return when the ledger has adopted a state, True; or False where there is none: the chain begins just now."""
        self._told_at = self._progress_at = trio.current_time()
        await self._run(self._ledger.clear_staged)
        while not self.plan.is_complete:
            peer = await self._next_peer()
            if peer is None:
                return False
            try:
                if self.plan.block is None:
                    await self._choose_block(peer)
                else:
                    await self._fetch_state(peer, self.plan.block.block.hash)
            except PeerGone:
                self._standing.leave_alone(peer.id, trio.current_time())
            except (PeerUnavailable, FalseAnswer) as error:
                points = self._standing.failed(peer.id, error, trio.current_time())
                self._network.penalise(peer.id, points, str(error))
        block = self.plan.block
        assert block is not None
        await self._run(partial(self._ledger.adopt, block, self.plan.handovers))
        return True

    # --- whom to ask ---

    async def _next_peer(self) -> PeerInfo | None:
        """Who can be asked for what is wanted now; None when there is nothing that anybody could have."""
        since = trio.current_time()
        while True:
            able = self._able()
            if able:
                return self._choose(able)
            if self.plan.block is not None and self._lacking and self._usable():
                await self._begin_anew()
                continue
            if trio.current_time() - since >= NEW_CHAIN_S and self._begins_now():
                return None
            with trio.move_on_after(LOOK_S):
                await self._wake.wait()
            self._wake = trio.Event()

    def _able(self) -> list[PeerInfo]:
        block = self.plan.block
        wanted = max(1, self.plan.at.height) if block is None else block.block.header.height
        return [peer for peer in self._usable() if peer.best_height >= wanted and peer.id not in self._lacking]

    def _choose(self, able: Sequence[PeerInfo]) -> PeerInfo:
        """Of who has delivered, else whom we dialled, else whoever dialled us, one that has the newest block."""
        trusted = [peer for peer in able if peer.id in self._standing.delivered]
        candidates = trusted or [peer for peer in able if peer.dialled] or able
        best = max(peer.best_height for peer in candidates)
        return self._rng.choice([peer for peer in candidates if peer.best_height == best])

    def _begins_now(self) -> bool:
        """Whether nobody has a block that could be begun with, and it is not for us to wait for one."""
        peers = self._network.peers()
        return all(peer.best_height == 0 for peer in peers) and (bool(peers) or self._may_be_first)

    def _usable(self) -> list[PeerInfo]:
        return self._standing.usable(self._network.peers(), trio.current_time())

    def _proven_or_all(self) -> list[PeerInfo]:
        peers = self._network.peers()
        return [peer for peer in peers if peer.id in self._standing.delivered] or peers

    def _deadline(self, peer: PeerInfo) -> float:
        return PROVEN_S if peer.id in self._standing.delivered else NEWCOMER_S

    # --- what to ask ---

    async def _choose_block(self, peer: PeerInfo) -> None:
        """Follow the sets with a peer to the newest, and choose its best block; raises what it does wrong."""
        while await self._follow_sets(peer):
            pass
        best = next((each.best_height for each in self._network.peers() if each.id == peer.id), peer.best_height)
        encoded = await self._network.request_blocks(peer.id, best, 1, self._deadline(peer))
        if not encoded:
            raise PeerUnavailable(f"says that it is at height {best} and does not give that block")
        if await self._run(partial(self.plan.take_block, encoded[0], best)):
            self._chosen_from = peer.id
            self._credit(peer)
        elif not await self._follow_sets(peer):  # Else a set has ended meanwhile.
            raise PeerUnavailable(f"shows a block of a set after {self.plan.at.validators.set_id}, and not how it came")

    async def _follow_sets(self, peer: PeerInfo) -> bool:
        """Ask for the next handovers; whether there were any."""
        answer = await self._network.request_handovers(peer.id, self.plan.at.validators.set_id, self._deadline(peer))
        if not answer.handovers:
            return False
        await self._run(partial(self.plan.take_handovers, answer))
        self._blocks.note(trio.current_time(), self.plan.at.height)
        self._credit(peer)
        return True

    async def _fetch_state(self, peer: PeerInfo, block_hash: Hash) -> None:
        """Ask for the next part of the state, and lay it aside; raises what the peer does wrong."""
        answer = await self._network.request_state(peer.id, block_hash, self.plan.after, self._deadline(peer))
        if not answer.nodes:
            self._lacking.add(peer.id)
            if peer.id == self._chosen_from:
                raise PeerUnavailable("gave its best block and not the state after it")
            return
        entries = await self._run(partial(self.plan.take_state, answer))
        await self._run(partial(self._ledger.stage, entries))
        self._credit(peer)

    async def _begin_anew(self) -> None:
        """Nobody has the state any more, or nobody gives it: take that of a newer block."""
        self.plan.begin_anew()
        self._lacking.clear()
        self._keys = Pace()
        await self._run(self._ledger.clear_staged)

    def _credit(self, peer: PeerInfo) -> None:
        self._standing.delivered.add(peer.id)
        self._network.note_helper(peer.id)
        now = trio.current_time()
        self._progress_at = now
        if self.plan.state is not None:
            self._keys.note(now, self.plan.state.keys)
        if now - self._told_at >= NEWS_EVERY_S:
            self._told_at = now
            self._tell(str(self.status))
