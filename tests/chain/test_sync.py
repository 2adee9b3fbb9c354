"""Catching up over real networks, from honest peers, liars and sleepers, with real seals."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from random import Random

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from chain.ledger import SealedBlock
from chain.net.errors import PeerUnavailable
from chain.net.messages import Role
from chain.net.peer import PING_S, PeerInfo
from chain.primitives import bls
from chain.primitives.hashing import Hash
from chain.primitives.merkle import ordered_root
from chain.primitives.scale import BYTES
from chain.primitives.seal import Authority, Phase, Seal, ValidatorSet, bitmap, vote_message
from chain.primitives.types import Block, ConsensusDigest, Header
from chain.sync import planner
from chain.sync.synchroniser import Synchroniser
from tests.consensus.network import inline
from tests.net.kit import ALICE, BOB, CHARLIE, DAVE, GENESIS, HOST, Node, Running, arena, start, until_peers

SECRETS = [bls.keygen(bytes([i]) * 32) for i in range(1, 5)]
VALIDATORS = ValidatorSet(
    0, tuple(Authority(bytes([i]) * 32, bls.public_key(secret)) for i, secret in enumerate(SECRETS))
)
LENGTH = 40


def sealed(
    parent: Hash, height: int, extrinsics: list[bytes], voters: tuple[int, ...] = (0, 1, 2), set_id: int = 0
) -> SealedBlock:
    header = Header(parent, height, bytes(32), ordered_root(extrinsics), [ConsensusDigest(0, bytes(96)).item()])
    message = vote_message(GENESIS, set_id, height, 0, Phase.COMMIT, header.hash)
    signature = bls.aggregate([bls.sign(SECRETS[i], message) for i in voters])
    return SealedBlock(Block(header, extrinsics), Seal(height, 0, set_id, header.hash, bitmap(voters, 4), signature))


@cache
def chain() -> tuple[SealedBlock, ...]:
    """Heights 1 to LENGTH, each with one extrinsic."""
    blocks: list[SealedBlock] = []
    parent = GENESIS
    for height in range(1, LENGTH + 1):
        blocks.append(sealed(parent, height, [BYTES.encode(b"extrinsic %d" % height)]))
        parent = blocks[-1].block.hash
    return tuple(blocks)


def best_of(blocks: int) -> tuple[int, Hash]:
    return blocks, chain()[blocks - 1].block.hash if blocks else GENESIS


def archive(blocks: int = LENGTH) -> Node:
    """A peer that has so many blocks."""
    return Node(best=best_of(blocks), chain=[block.encode() for block in chain()[:blocks]])


@dataclass
class Follower(Node):
    """A node whose chain is what its synchroniser imports."""

    imported: list[SealedBlock] = field(default_factory=list)
    synchroniser: Synchroniser | None = None

    async def import_blocks(self, blocks: Sequence[SealedBlock]) -> None:
        for sealed in blocks:
            block = sealed.block
            if block.header.height > self.best[0]:
                assert block.header.parent_hash == self.best[1]
                self.imported.append(sealed)
                self.best = (block.header.height, block.hash)
                self._note()

    def on_status(self, peer: bytes, height: int, block_hash: Hash) -> None:
        super().on_status(peer, height, block_hash)
        if self.synchroniser is not None:
            self.synchroniser.on_status(peer, height, block_hash)


async def follow(
    nursery: trio.Nursery,
    peers: list[Running],
    *,
    follower: Follower | None = None,
    patience_s: float = 0.0,
    validators: Callable[[int], ValidatorSet] = lambda _: VALIDATORS,
) -> tuple[Follower, Running]:
    """Start Alice as a follower of the peers, connected to all of them before she begins to fetch."""
    alice = follower if follower is not None else Follower(best=(0, GENESIS))
    boot = [(HOST, peer.port, peer.network.id) for peer in peers]
    running = await start(nursery, ALICE, alice, boot, role=Role.FULL)
    alice.synchroniser = Synchroniser(
        network=running.network,
        genesis_hash=GENESIS,
        best=lambda: alice.best,
        validators=validators,
        import_blocks=alice.import_blocks,
        patience_s=patience_s,
    )
    await until_peers(running, len(peers))
    nursery.start_soon(alice.synchroniser.run)
    return alice, running


async def test_a_newcomer_fetches_the_whole_chain_in_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "RANGE_BLOCKS", 7)
    async with arena() as nursery:
        alice, _ = await follow(nursery, [await start(nursery, BOB, archive())])
        await alice.until(lambda: alice.best == best_of(LENGTH))
        assert alice.imported == list(chain())
        assert alice.synchroniser is not None
        await trio.testing.wait_all_tasks_blocked()
        status = alice.synchroniser.status
        assert (status.height, status.target, status.syncing) == (LENGTH, LENGTH, False)
        assert status.per_second > 0


async def test_ranges_come_from_several_peers_at_once_and_are_imported_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(planner, "RANGE_BLOCKS", 2)
    monkeypatch.setattr(planner, "AHEAD_BLOCKS_MAX", 16)
    served: set[bytes] = set()
    all_asked = threading.Event()

    class Peer(Node):
        """Gives its ranges, but for what newcomers are asked for, when all three peers are asked for theirs."""

        name = b""

        def blocks(self, start: int, count: int, bytes_max: int) -> list[bytes]:
            if count == 2:
                served.add(self.name)
                if len(served) == 3:
                    all_asked.set()
                assert all_asked.wait(7.0)
            return super().blocks(start, count, bytes_max)

    async with arena() as nursery:
        peers = []
        for keys in (BOB, CHARLIE, DAVE):
            node = Peer(best=best_of(LENGTH), chain=archive().chain)
            node.name = keys.public
            peers.append(await start(nursery, keys, node))
        alice, _ = await follow(nursery, peers)
        await alice.until(lambda: alice.best == best_of(LENGTH))
    assert alice.imported == list(chain())


@cache
def chain_of_two_sets(change: int = 20) -> tuple[SealedBlock, ...]:
    """As `chain`, but the blocks above `change` are sealed by set 1, in which the same four have other places."""
    blocks = list(chain()[:change])
    for height in range(change + 1, LENGTH + 1):
        blocks.append(sealed(blocks[-1].block.hash, height, [BYTES.encode(b"extrinsic %d" % height)], set_id=1))
    return tuple(blocks)


def two_sets(alice: Follower, change: int = 20) -> Callable[[int], ValidatorSet]:
    """Who decides a height, known once the block below is here."""

    def validators(height: int) -> ValidatorSet:
        if height > alice.best[0] + 1:
            raise LookupError(height)
        return VALIDATORS if height <= change else dataclasses.replace(VALIDATORS, set_id=1)

    return validators


async def test_where_the_set_changes_inside_a_range_its_seals_are_proven_once_the_set_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(planner, "RANGE_BLOCKS", 6)
    blocks = chain_of_two_sets()
    bob = Node(best=(LENGTH, blocks[-1].block.hash), chain=[block.encode() for block in blocks])
    alice = Follower(best=(0, GENESIS))
    async with arena() as nursery:
        await follow(nursery, [await start(nursery, BOB, bob)], follower=alice, validators=two_sets(alice))
        await alice.until(lambda: alice.best[0] == LENGTH)
    assert alice.imported == list(blocks)


@pytest.mark.parametrize("set_id", [0, 1, 2])
async def test_a_seal_of_a_set_that_does_not_decide_the_height_is_a_lie_though_it_verifies(set_id: int) -> None:
    """The old set's after the change, the new set's before it, and one of a set that never is."""
    change, lie_at = 20, {0: 25, 1: 15, 2: 25}[set_id]
    blocks = list(chain_of_two_sets())
    true = blocks[lie_at - 1].block
    blocks[lie_at - 1] = sealed(true.header.parent_hash, lie_at, list(true.extrinsics), set_id=set_id)
    assert blocks[lie_at - 1].block == true
    liar = Node(best=(LENGTH, blocks[-1].block.hash), chain=[block.encode() for block in blocks])
    alice = Follower(best=(0, GENESIS))
    async with arena() as nursery:
        false_peer = await start(nursery, BOB, liar)
        await follow(nursery, [false_peer], follower=alice, validators=two_sets(alice, change))
        await alice.until(lambda: BOB.public in alice.disconnected)
        assert alice.best[0] < lie_at


async def test_a_peer_that_begins_to_lie_costs_its_own_ranges_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "RANGE_BLOCKS", 3)
    monkeypatch.setattr(planner, "AHEAD_BLOCKS_MAX", 9)

    class Turncoat(Node):
        def blocks(self, start: int, count: int, bytes_max: int) -> list[bytes]:
            found = super().blocks(start, count, bytes_max)
            return found if start < 12 else [other_body(chain()[start - 1]).encode(), *found[1:]]

    turncoat = Turncoat(best=best_of(LENGTH), chain=archive().chain)
    async with arena() as nursery:
        peers = [await start(nursery, BOB, turncoat), await start(nursery, CHARLIE, archive())]
        alice, running = await follow(nursery, peers)
        await alice.until(lambda: alice.best == best_of(LENGTH))
        assert alice.imported == list(chain())
        if BOB.public in alice.disconnected:
            assert [peer.id for peer in running.network.peers()] == [CHARLIE.public]


async def test_an_announced_block_is_fetched_at_once() -> None:
    bob = archive(3)
    async with arena() as nursery:
        serving = await start(nursery, BOB, bob)
        alice, _ = await follow(nursery, [serving])
        await alice.until(lambda: alice.best == best_of(3))
        bob.chain, bob.best = archive(4).chain, best_of(4)
        with trio.fail_after(PING_S / 2):  # which would tell it, too
            serving.network.announce(*bob.best)
            await alice.until(lambda: alice.best == best_of(4))


def other_body(block: SealedBlock) -> SealedBlock:
    return dataclasses.replace(block, block=dataclasses.replace(block.block, extrinsics=[BYTES.encode(b"forged")]))


def other_header(block: SealedBlock) -> SealedBlock:
    header = dataclasses.replace(block.block.header, state_root=b"\x01" * 32)
    return dataclasses.replace(block, block=dataclasses.replace(block.block, header=header))


def too_few_voters(block: SealedBlock) -> SealedBlock:
    header = block.block.header
    return sealed(header.parent_hash, header.height, block.block.extrinsics, voters=(0, 1))


def seal_of_another(block: SealedBlock) -> SealedBlock:
    return dataclasses.replace(block, seal=chain()[block.seal.height % LENGTH].seal)


def claimed_voter(block: SealedBlock) -> SealedBlock:
    return dataclasses.replace(block, seal=dataclasses.replace(block.seal, voters=bitmap((0, 1, 2, 3), 4)))


def skipped(block: SealedBlock) -> SealedBlock:
    return chain()[block.seal.height % LENGTH]


def of_another_parent(block: SealedBlock) -> SealedBlock:
    return sealed(b"\x99" * 32, block.seal.height, block.block.extrinsics)


@pytest.mark.parametrize(
    "lie",
    [other_body, other_header, too_few_voters, seal_of_another, claimed_voter, skipped, of_another_parent, None],
    ids=lambda lie: "garbage" if lie is None else lie.__name__,
)
async def test_a_lying_peer_is_banned_and_the_honest_one_finishes(
    lie: Callable[[SealedBlock], SealedBlock] | None,
) -> None:
    liar = archive()
    liar.chain = [b"garbage" if lie is None else lie(block).encode() for block in chain()]
    async with arena() as nursery:
        false_peer = await start(nursery, BOB, liar)
        alice, running = await follow(nursery, [false_peer])
        await alice.until(lambda: BOB.public in alice.disconnected)
        assert alice.best == (0, GENESIS)
        honest = await start(nursery, CHARLIE, archive(), [(HOST, running.port, ALICE.public)])
        await alice.until(lambda: alice.best == best_of(LENGTH))
        assert alice.imported == list(chain())
        assert [peer.id for peer in running.network.peers()] == [honest.network.id]


async def test_a_peer_that_promises_and_has_nothing_or_sleeps_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "NEWCOMER_S", 0.3)
    awake = threading.Event()

    class Sleeper(Node):
        def blocks(self, start: int, count: int, bytes_max: int) -> list[bytes]:
            awake.wait()
            return super().blocks(start, count, bytes_max)

    empty, sleeper = Node(best=(10**6, b"\x09" * 32)), Sleeper(best=(10**6, b"\x09" * 32))
    async with arena() as nursery:
        peers = [
            await start(nursery, BOB, empty),
            await start(nursery, CHARLIE, sleeper),
            await start(nursery, DAVE, archive()),
        ]
        try:
            alice, _ = await follow(nursery, peers)
            await alice.until(lambda: alice.best == best_of(LENGTH))
        finally:
            awake.set()


async def test_what_consensus_commits_meanwhile_is_not_imported_twice() -> None:
    alice = Follower(best=(0, GENESIS))
    taken: list[int] = []

    class Racing(Node):
        """While the answer is on its way, consensus commits the first ten blocks."""

        def blocks(self, start: int, count: int, bytes_max: int) -> list[bytes]:
            trio.from_thread.run_sync(commit)
            return super().blocks(start, count, bytes_max)

    def commit() -> None:
        if not taken:
            taken.append(10)
            alice.imported, alice.best = list(chain()[:10]), best_of(10)

    racing = Racing(best=best_of(LENGTH), chain=[block.encode() for block in chain()])
    async with arena() as nursery:
        await follow(nursery, [await start(nursery, BOB, racing)], follower=alice)
        await alice.until(lambda: alice.best == best_of(LENGTH))
        assert alice.imported == list(chain())


async def test_a_validator_leaves_the_newest_block_to_consensus_for_a_while() -> None:
    bob = archive(1)
    asked: list[float] = []
    patience_s = 2.0

    async with arena() as nursery:
        serving = await start(nursery, BOB, bob)
        began = trio.current_time()
        alice, _ = await follow(nursery, [serving], patience_s=patience_s)
        await alice.until(lambda: alice.best == best_of(1))
        asked.append(trio.current_time() - began)
        # Consensus itself says that it missed something: no more patience.
        assert alice.synchroniser is not None
        bob.chain, bob.best = archive(2).chain, best_of(2)
        serving.network.announce(*bob.best)
        alice.synchroniser.on_behind(2)
        began = trio.current_time()
        await alice.until(lambda: alice.best == best_of(2))
        asked.append(trio.current_time() - began)
        # It believed a stranger: that ends one wait, and not every later one.
        alice.synchroniser.on_behind(1_000_000)
        for blocks in (3, 4):
            bob.chain, bob.best = archive(blocks).chain, best_of(blocks)
            serving.network.announce(*bob.best)
            began = trio.current_time()
            await alice.until(lambda: alice.best == bob.best)
            asked.append(trio.current_time() - began)
    assert asked[0] >= patience_s
    assert asked[1] < patience_s
    assert asked[3] >= patience_s


async def test_a_sealed_block_that_cannot_be_imported_is_our_fault_and_ends_us() -> None:
    class Broken(Follower):
        async def import_blocks(self, blocks: Sequence[SealedBlock]) -> None:
            raise RuntimeError(f"state root of block {blocks[0].block.header.height} differs")

    async with arena() as outer:
        serving = await start(outer, BOB, archive())
        with pytest.raises(ExceptionGroup) as caught:
            async with trio.open_nursery() as nursery:
                await follow(nursery, [serving], follower=Broken(best=(0, GENESIS)))
        assert caught.group_contains(RuntimeError, match="state root of block 1 differs")


@dataclass
class Crowd:
    """Peers that dialled us: one is honest, the others claim heights that nobody has and never answer."""

    liars: int
    blocks: int = LENGTH
    alone: bool = False
    asked: list[tuple[bytes, int]] = field(default_factory=list)
    points: dict[bytes, float] = field(default_factory=dict)

    HONEST = b"\xff" * 32

    def peers(self) -> list[PeerInfo]:
        if self.alone:
            return []

        def info(peer: bytes, height: int) -> PeerInfo:
            name = "honest" if peer == self.HONEST else "liar"
            return PeerInfo(peer, HOST, 0, Role.FULL, False, height, bytes(32), 0.0, None, name)

        liars = [bytes([number]) * 32 for number in range(self.liars)]
        trusted = [peer for peer in liars if self.points.get(peer, 0.0) < 100.0]
        return [*(info(peer, 10**9) for peer in trusted), info(self.HONEST, self.blocks)]

    async def request_blocks(self, peer: bytes, start: int, count: int, deadline_s: float) -> list[bytes]:
        self.asked.append((peer, count))
        if peer != self.HONEST:
            await trio.sleep(deadline_s)
            raise PeerUnavailable("did not answer")
        return [block.encode() for block in chain()[start - 1 : start - 1 + min(count, self.blocks - start + 1)]]

    def note_helper(self, peer: bytes) -> None:
        assert peer == self.HONEST

    def penalise(self, peer: bytes, points: float, reason: str) -> None:
        assert reason
        self.points[peer] = self.points.get(peer, 0.0) + points


def among(crowd: Crowd, alice: Follower, tell: Callable[[str], None] = lambda _: None) -> Synchroniser:
    return Synchroniser(
        network=crowd,
        genesis_hash=GENESIS,
        best=lambda: alice.best,
        validators=lambda _: VALIDATORS,
        import_blocks=alice.import_blocks,
        rng=Random(1),
        run=inline,
        tell=tell,
    )


async def test_a_crowd_of_liars_is_asked_for_little_and_no_more_once_somebody_delivered(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    crowd, alice = Crowd(liars=10), Follower(best=(0, GENESIS))
    synchroniser = among(crowd, alice)
    nursery.start_soon(synchroniser.run)
    await alice.until(lambda: alice.best == best_of(LENGTH))
    assert trio.current_time() <= 20 * planner.NEWCOMER_S
    honest = crowd.asked.index((Crowd.HONEST, planner.NEWCOMER_BLOCKS))
    assert {count for _, count in crowd.asked[:honest]} <= {planner.NEWCOMER_BLOCKS}
    assert crowd.asked[honest + 1] == (Crowd.HONEST, LENGTH - planner.NEWCOMER_BLOCKS)
    assert (synchroniser.status.target, synchroniser.status.syncing) == (LENGTH, False)


async def test_news_of_a_proven_peer_ends_the_wait_for_a_liar(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    crowd, alice = Crowd(liars=0, blocks=LENGTH - 1), Follower(best=(0, GENESIS))
    synchroniser = among(crowd, alice)
    nursery.start_soon(synchroniser.run)
    await alice.until(lambda: alice.best == best_of(LENGTH - 1))
    crowd.liars = 1
    synchroniser.on_status(bytes(32), 10**9, bytes(32))
    while crowd.asked[-1][0] == Crowd.HONEST:
        await trio.sleep(0.1)
    began, crowd.blocks = trio.current_time(), LENGTH
    synchroniser.on_status(Crowd.HONEST, LENGTH, best_of(LENGTH)[1])
    await alice.until(lambda: alice.best == best_of(LENGTH))
    assert trio.current_time() - began < planner.NEWCOMER_S / 2
    assert crowd.points == {}


async def test_a_stall_names_its_reason(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    crowd, alice = Crowd(liars=0, blocks=0), Follower(best=(0, GENESIS))
    told: list[str] = []
    synchroniser = among(crowd, alice, told.append)
    nursery.start_soon(synchroniser.run)

    def stalled() -> str | None:
        return synchroniser.status.stalled

    await trio.sleep(2 * planner.FAILED_PEER_S)
    assert stalled() is None, "nobody has more: there is nothing to wait for"
    assert synchroniser.why_waiting() == "none of the 1 peers has block 1, the highest is at 0"
    # Somebody says that it has blocks, and never answers.
    crowd.liars = 1
    synchroniser.on_status(bytes(32), 10**9, bytes(32))
    await trio.sleep(1.0)
    assert stalled() is None, "a second is no stall"
    assert synchroniser.why_waiting().startswith("peer liar at 127.0.0.1:0 was asked for block 1 1 s ago and has not")
    await trio.sleep(4.0)
    assert stalled() == ("those that say they have block 1 gave no answer, or a false one: liar at 127.0.0.1:0")
    # It is banned in the end; then nobody is there at all.
    crowd.points[bytes(32)] = 100.0
    crowd.alone = True
    await trio.sleep(10.0)
    assert "no peers are connected" in (stalled() or "")
    assert told == []


async def test_progress_is_told_every_two_seconds_with_rate_and_rest(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    class Slow(Follower):
        async def import_blocks(self, blocks: Sequence[SealedBlock]) -> None:
            await trio.sleep(0.5)
            await super().import_blocks(blocks[:1])

    crowd, alice = Crowd(liars=0), Slow(best=(0, GENESIS))
    told: list[tuple[float, str]] = []
    synchroniser = among(crowd, alice, lambda line: told.append((trio.current_time(), line)))
    nursery.start_soon(synchroniser.run)
    await alice.until(lambda: alice.best == best_of(LENGTH))
    times = [at for at, _ in told]
    assert all(later - earlier >= 2.0 for earlier, later in pairwise(times))
    assert len(told) > 5
    assert told[2][1] == "17 of 40   2 blocks/s   12 s left"
    assert not synchroniser.is_far_behind


async def test_a_strangers_claims_do_not_make_the_blocks_of_a_chain_no_news(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    crowd, alice = Crowd(liars=3, blocks=0), Follower(best=(0, GENESIS))
    synchroniser = among(crowd, alice)
    nursery.start_soon(synchroniser.run)
    await trio.sleep(1.0)
    assert synchroniser.status.target == 10**9
    assert not synchroniser.is_far_behind
