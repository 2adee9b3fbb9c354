"""Beginning with a recent state: over real networks and ledgers, from honest peers, liars, sleepers, the forgetful."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
import trio

from chain.adoption import Handover, StateChunk, WrongState
from chain.ledger import Ledger, SealedBlock, StatePruned, UnknownBlock
from chain.net import handler
from chain.net.messages import Role
from chain.primitives import bls
from chain.primitives.hashing import Hash
from chain.primitives.merkle_chunks import verify_chunk
from chain.primitives.scale import BYTES
from chain.primitives.types import Block
from chain.store import StorageFailed
from chain.sync import planner, warp
from chain.sync.progress import Phase
from chain.sync.warp import Warp
from runtime.executive import Executive
from runtime.potchain import RUNTIME
from runtime.testing import DAVE as VALIDATOR_DAVE
from runtime.testing import EVE as VALIDATOR_EVE
from runtime.testing import STAKE, TestChain, bls_secret, genesis_config
from tests.net.kit import ALICE, BOB, CHARLIE, HOST, Node, Running, arena, start, until_peers

SHORT = {"sessionBlocks": 5, "unbondingSessions": 4}
LENGTH = 44


@cache
def blocks() -> tuple[SealedBlock, ...]:
    """A chain of three validator sets: Eve comes, and later Dave leaves."""
    found: list[SealedBlock] = []

    class Recorded(TestChain):
        def seal(self):  # type: ignore[no-untyped-def]
            seal = super().seal()
            found.append(SealedBlock(Block(*self.blocks[-1]), seal))
            return seal

    chain, secret = Recorded(sessions=SHORT), bls_secret(VALIDATOR_EVE)
    chain.submit(VALIDATOR_EVE, "validators.bond", value=2 * STAKE)
    proof = bls.prove_possession(secret, VALIDATOR_EVE.public)
    chain.submit(VALIDATOR_EVE, "validators.set_keys", bls_key=bls.public_key(secret), proof=proof)
    chain.submit(VALIDATOR_EVE, "validators.validate")
    chain.run_to(23)
    chain.submit(VALIDATOR_DAVE, "validators.chill")
    chain.run_to(LENGTH + 1)
    return tuple(found)


@contextmanager
def opened(path: Path, height: int = 0, history: int = 256) -> Iterator[Ledger]:
    """The chain's ledger in a folder, brought to a height block by block."""
    executive = Executive(RUNTIME)
    ledger = Ledger.open(
        path,
        executive=executive,
        genesis_state=executive.genesis(genesis_config(sessions=SHORT)),
        genesis_name="test",
        history=history,
        map_bytes=1 << 20,
    )
    try:
        extend(ledger, height)
        yield ledger
    finally:
        ledger.close()


def extend(ledger: Ledger, height: int) -> None:
    for sealed in blocks()[ledger.head.height : height]:
        ledger.commit(ledger.execute(sealed.block), sealed.seal)


@dataclass
class Source(Node):
    """A peer that serves a ledger."""

    ledger: Ledger | None = None

    @property
    def its(self) -> Ledger:
        assert self.ledger is not None
        return self.ledger

    def blocks(self, start: int, count: int, bytes_max: int) -> list[bytes]:
        return self.its.sealed_blocks(start, count, bytes_max)

    def handovers(self, set_id: int, count: int) -> list[Handover]:
        return self.its.handovers(set_id, count)

    def state_chunk(self, block_hash: Hash, after: bytes | None, bytes_max: int) -> StateChunk | None:
        return self.its.state_chunk(block_hash, after, bytes_max)


@dataclass
class Beginner(Node):
    """A node whose warp hears of its peers' blocks."""

    warp: Warp | None = None

    def on_status(self, peer: bytes, height: int, block_hash: Hash) -> None:
        super().on_status(peer, height, block_hash)
        if self.warp is not None:
            self.warp.on_status(peer, height, block_hash)


def source(ledger: Ledger, kind: type[Source] = Source) -> Source:
    return kind(best=ledger.best, ledger=ledger)


@asynccontextmanager
async def beginning(ledger: Ledger, *peers: tuple[object, Source]) -> AsyncIterator[tuple[Warp, Beginner, Running]]:
    """Alice, at genesis, connected with peers: whoever comes first is dialled first."""
    async with arena() as nursery:
        running = []
        for keys, node in peers:
            running.append(
                await start(nursery, keys, node, genesis_hash=ledger.genesis_hash, role=Role.FULL)  # type: ignore[arg-type]
            )
        alice = Beginner(best=ledger.best)
        boot = [(HOST, peer.port, peer.network.id) for peer in running]
        alone = await start(nursery, ALICE, alice, boot, genesis_hash=ledger.genesis_hash, role=Role.FULL)
        alice.warp = Warp(network=alone.network, ledger=ledger)
        await until_peers(alone, len(peers))
        yield alice.warp, alice, alone


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of the tests' chain is small: have it come in parts all the same."""
    monkeypatch.setattr(handler, "STATE_BYTES_WISHED", 3000)


def whole_state(ledger: Ledger) -> dict[bytes, bytes | None]:
    with ledger.state() as state:
        return {key: state.get(key) for key in state.keys(b"")}


def check_begun_at(path: Path, full: Ledger, height: int) -> None:
    """What a node that began with the state of a block has, and goes on with, against one that executed all blocks."""
    with opened(path) as ledger:
        assert ledger.best == (height, blocks()[height - 1].block.hash)
        assert (ledger.lowest_block, ledger.oldest_state) == (height, height)
        assert whole_state(ledger) == whole_state(full)
        assert [ledger.handover(set_id) for set_id in range(4)] == [full.handover(set_id) for set_id in range(4)]
        sealed = blocks()[height - 1]
        assert ledger.block(ledger.head_hash) == sealed.block
        assert ledger.seal(ledger.head_hash) == sealed.seal
        # It says of older blocks that it does not have them.
        ends = {handover.header.height for handover in ledger.handovers(0, 10)} - {height}
        assert {each for each in range(1, height) if ledger.hash_at(each) is not None} == ends
        for lower in range(1, height):
            block_hash = blocks()[lower - 1].block.hash
            assert ledger.block(block_hash) is None
            assert ledger.sealed_blocks(lower, 10, 10**6) == []
            with pytest.raises((UnknownBlock, StatePruned)), ledger.state(block_hash):
                pass
        with pytest.raises(StatePruned), ledger.state(ledger.genesis_hash):
            pass
        extend(ledger, LENGTH)
        assert ledger.head == blocks()[-1].block.header
        assert ledger.sealed_blocks(height, 100, 10**6) == [each.encode() for each in blocks()[height - 1 :]]
        # Others can begin with its state.
        part = ledger.state_chunk(ledger.head_hash, None, 10**6)
        assert part is not None
        chunk = verify_chunk(ledger.head.state_root, None, part.nodes)
        assert (dict(chunk.entries), chunk.is_last) == (whole_state(ledger), True)


# 10 is the last block of its set, 15 the last of a session alone.
@pytest.mark.parametrize("height", [1, 9, 10, 11, 15, 43])
async def test_a_node_begins_with_the_state_of_its_peers_newest_block(tmp_path: Path, height: int) -> None:
    with opened(tmp_path / "full", height) as full:
        with opened(tmp_path / "new") as ledger:
            async with beginning(ledger, (BOB, source(full))) as (warp_, alice, _):
                assert await warp_.run()
                assert alice.disconnected == []
            assert ledger.head.height == 0, "a ledger that is open stays as it was opened"
        check_begun_at(tmp_path / "new", full, height)


def test_the_chain_of_these_tests_has_three_sets() -> None:
    ids = [sealed.seal.set_id for sealed in blocks()]
    assert [ids.index(set_id) + 1 for set_id in (0, 1, 2)] == [1, 11, 31]


class FalseProof(Source):
    def handovers(self, set_id: int, count: int) -> list[Handover]:
        found = super().handovers(set_id, count)
        return [replace(found[0], proof=[found[0].proof[0][:-1] + b"\0", *found[0].proof[1:]]), *found[1:]]


class SkippedSet(Source):
    def handovers(self, set_id: int, count: int) -> list[Handover]:
        return super().handovers(set_id, count)[1:]


class FalseSealOfHandover(Source):
    def handovers(self, set_id: int, count: int) -> list[Handover]:
        found = super().handovers(set_id, count)
        return [replace(each, seal=found[-1].seal) for each in found]


class OtherBlockAsHandover(Source):
    """A block that the set has sealed, and that hands over to nobody."""

    def handovers(self, set_id: int, count: int) -> list[Handover]:
        true = super().handovers(set_id, count)[0]
        sealed = blocks()[true.header.height - 2]
        return [Handover(sealed.block.header, sealed.seal, true.proof)]


class FalseBody(Source):
    def blocks(self, start: int, count: int, bytes_max: int) -> list[bytes]:
        sealed = SealedBlock.decode(super().blocks(start, count, bytes_max)[0])
        return [replace(sealed, block=replace(sealed.block, extrinsics=[BYTES.encode(b"forged")])).encode()]


class FalseRoot(Source):
    def blocks(self, start: int, count: int, bytes_max: int) -> list[bytes]:
        sealed = SealedBlock.decode(super().blocks(start, count, bytes_max)[0])
        block = replace(sealed.block, header=replace(sealed.block.header, state_root=bytes(32)))
        return [SealedBlock(block, replace(sealed.seal, block_hash=block.hash)).encode()]


class OldBlock(Source):
    """A true block of an earlier set, as if it were its newest."""

    def blocks(self, start: int, count: int, bytes_max: int) -> list[bytes]:
        return super().blocks(2, 1, bytes_max)


class FalseValue(Source):
    def state_chunk(self, block_hash: Hash, after: bytes | None, bytes_max: int) -> StateChunk | None:
        part = super().state_chunk(block_hash, after, bytes_max)
        assert part is not None
        return part if after is None else replace(part, nodes=[*part.nodes[:-1], part.nodes[-1][:-1] + b"\xff"])


class OmittedKey(Source):
    def state_chunk(self, block_hash: Hash, after: bytes | None, bytes_max: int) -> StateChunk | None:
        part = super().state_chunk(block_hash, after, bytes_max)
        assert part is not None
        return replace(part, nodes=[*part.nodes[:-2], *part.nodes[-1:]])


class HugeChunk(Source):
    """True nodes, and then more than anybody has asked for."""

    def state_chunk(self, block_hash: Hash, after: bytes | None, bytes_max: int) -> StateChunk | None:
        part = super().state_chunk(block_hash, after, bytes_max)
        assert part is not None
        return replace(part, nodes=[*part.nodes, *[bytes(100_000)] * 50])


class EndlessChunks(Source):
    """The first part, again and again."""

    def state_chunk(self, block_hash: Hash, after: bytes | None, bytes_max: int) -> StateChunk | None:
        return super().state_chunk(block_hash, None, bytes_max)


class OtherState(Source):
    """A whole state, with proofs: that of an earlier block."""

    def state_chunk(self, block_hash: Hash, after: bytes | None, bytes_max: int) -> StateChunk | None:
        return super().state_chunk(blocks()[29].block.hash, after, bytes_max)


LIARS = [
    *(FalseProof, SkippedSet, FalseSealOfHandover, OtherBlockAsHandover),
    *(FalseBody, FalseRoot, OldBlock),
    *(FalseValue, OmittedKey, HugeChunk, EndlessChunks, OtherState),
]


@pytest.mark.parametrize("liar", LIARS, ids=lambda liar: liar.__name__)
async def test_a_liar_is_banned_and_the_honest_peer_finishes(tmp_path: Path, liar: type[Source]) -> None:
    with opened(tmp_path / "full", 43) as full:
        with opened(tmp_path / "new") as ledger:
            async with beginning(ledger, (BOB, source(full, liar))) as (warp_, alice, running):
                done: list[bool] = []

                async def run() -> None:
                    done.append(await warp_.run())
                    alice._note()

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(run)
                    await alice.until(lambda: BOB.public in alice.disconnected)
                    assert (done, ledger.best) == ([], (0, ledger.genesis_hash))
                    honest = source(full)
                    async with trio.open_nursery() as serving:
                        boot = [(HOST, running.port, ALICE.public)]
                        peer = await start(serving, CHARLIE, honest, boot, genesis_hash=ledger.genesis_hash)
                        await alice.until(lambda: done)
                        assert [each.id for each in running.network.peers()] == [peer.network.id]
                        serving.cancel_scope.cancel()
        check_begun_at(tmp_path / "new", full, 43)


@pytest.mark.parametrize("sleeps_at", ["handovers", "block", "state"])
async def test_a_peer_that_stalls_is_replaced(tmp_path: Path, sleeps_at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warp, "NEWCOMER_S", 2.0)
    monkeypatch.setattr(warp, "PROVEN_S", 2.0)
    awake = threading.Event()

    class Sleeper(Source):
        def wait(self, what: str) -> None:
            if what == sleeps_at:
                awake.wait()

        def blocks(self, start: int, count: int, bytes_max: int) -> list[bytes]:
            self.wait("block")
            return super().blocks(start, count, bytes_max)

        def handovers(self, set_id: int, count: int) -> list[Handover]:
            self.wait("handovers")
            return super().handovers(set_id, count)

        def state_chunk(self, block_hash: Hash, after: bytes | None, bytes_max: int) -> StateChunk | None:
            self.wait("state")
            return super().state_chunk(block_hash, after, bytes_max)

    with opened(tmp_path / "full", 43) as full:
        with opened(tmp_path / "new") as ledger:
            async with beginning(ledger, (BOB, source(full, Sleeper)), (CHARLIE, source(full))) as (warp_, _, _):
                try:
                    assert await warp_.run()
                finally:
                    awake.set()  # Its thread is waited for.
        check_begun_at(tmp_path / "new", full, 43)


async def test_a_peer_that_gives_its_block_and_not_its_state_is_replaced(tmp_path: Path) -> None:
    class Stingy(Source):
        def state_chunk(self, block_hash: Hash, after: bytes | None, bytes_max: int) -> StateChunk | None:
            return None

    with opened(tmp_path / "full", 43) as full:
        with opened(tmp_path / "new") as ledger:
            async with beginning(ledger, (BOB, source(full, Stingy)), (CHARLIE, source(full))) as (warp_, _, _):
                assert await warp_.run()
        check_begun_at(tmp_path / "new", full, 43)


async def test_where_the_state_is_pruned_meanwhile_that_of_a_newer_block_is_fetched(tmp_path: Path) -> None:
    class Forgetful(Source):
        """Goes on after the first part, and keeps only its newest states."""

        def state_chunk(self, block_hash: Hash, after: bytes | None, bytes_max: int) -> StateChunk | None:
            if after is not None and self.its.head.height == 20:
                extend(self.its, 43)
                self.best = self.its.best
                trio.from_thread.run_sync(lambda: serving[0].network.announce(*self.best))
            return super().state_chunk(block_hash, after, bytes_max)

    serving: list[Running] = []
    with opened(tmp_path / "full", 20, history=2) as full:
        with opened(tmp_path / "new") as ledger:
            async with arena() as nursery:
                bob = source(full, Forgetful)
                serving.append(await start(nursery, BOB, bob, genesis_hash=ledger.genesis_hash))
                alice = Beginner(best=ledger.best)
                boot = [(HOST, serving[0].port, BOB.public)]
                running = await start(nursery, ALICE, alice, boot, genesis_hash=ledger.genesis_hash)
                alice.warp = Warp(network=running.network, ledger=ledger)
                await until_peers(running, 1)
                assert await alice.warp.run()
                nursery.cancel_scope.cancel()
        check_begun_at(tmp_path / "new", full, 43)


async def test_peers_that_are_all_at_genesis_have_nothing_to_begin_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warp, "NEW_CHAIN_S", 0.1)
    monkeypatch.setattr(warp, "LOOK_S", 0.05)
    with opened(tmp_path / "full") as full, opened(tmp_path / "new") as ledger:
        async with beginning(ledger, (BOB, source(full))) as (warp_, _, _):
            assert await warp_.run() is False


async def test_a_warp_says_how_far_it_is_and_what_it_waits_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warp, "STALL_S", 0.0)
    monkeypatch.setattr(warp, "NEWS_EVERY_S", 0.0)
    told: list[str] = []
    with opened(tmp_path / "full", 43) as full, opened(tmp_path / "new") as ledger:
        async with beginning(ledger, (BOB, source(full))) as (warp_, _, _):
            warp_._tell = told.append
            assert await warp_.run()
            status = warp_.status
        assert status.phase is Phase.STATE
        assert status.syncing
        assert status.state is not None
        assert (status.state.block, status.state.keys) == (43, len(whole_state(full)))
    assert told[0].startswith("set changes up to block ")
    assert told[-1].startswith(f"state of block 43: {status.state.keys} of {status.state.keys} keys, ")
    async with beginning_alone(tmp_path) as alone:
        assert (alone.status.phase, alone.status.height) == (Phase.HANDOVERS, 0)
        assert "no peers are connected" in (alone.status.stalled or "")


@asynccontextmanager
async def beginning_alone(tmp_path: Path) -> AsyncIterator[Warp]:
    """A warp that nobody answers."""
    with opened(tmp_path / "alone") as ledger:
        async with beginning(ledger) as (warp_, _, _), trio.open_nursery() as nursery:
            nursery.start_soon(warp_.run)
            await trio.testing.wait_all_tasks_blocked()
            yield warp_
            nursery.cancel_scope.cancel()


# --- the disk ------------------------------------------------------------------------------------------------------


def parts_of(full: Ledger) -> list[list[tuple[bytes, bytes]]]:
    """The state of the head as a warp lays it aside."""
    parts: list[list[tuple[bytes, bytes]]] = []
    after: bytes | None = None
    while True:
        part = full.state_chunk(full.head_hash, after, 3000)
        assert part is not None
        chunk = verify_chunk(full.head.state_root, after, part.nodes)
        parts.append(chunk.entries)
        if chunk.is_last:
            return parts
        after = chunk.entries[-1][0]


def warp_and_die(path: Path, step: int) -> None:
    """Lay a state aside and adopt it, and kill this process before the step: of so many writes, or of the commit."""

    def kill_at(reached: int) -> None:
        if reached == step:
            os.kill(os.getpid(), signal.SIGKILL)

    with opened(path.parent / "full") as full, opened(path) as ledger:
        parts = parts_of(full)
        for number, part in enumerate(parts[:3]):
            kill_at(number)
            ledger.stage(part)
        ledger.clear_staged()
        for part in parts:
            ledger.stage(part)
        from chain.store import Batch

        for number, name in enumerate(
            ("clear_states", "put_sealed_header", "put_block", "put_head", "clear_staged"), 3
        ):
            write = getattr(Batch, name)

            def dying(*arguments: object, number: int = number, write: Callable[..., object] = write) -> object:
                kill_at(number)
                return write(*arguments)

            setattr(Batch, name, dying)
        ledger.adopt(blocks()[full.head.height - 1], full.handovers(0, 10))
        kill_at(8)


def in_child(function: Callable[[Path, int], None], path: Path, argument: int) -> subprocess.Popen[bytes]:
    code = f"import sys; from pathlib import Path; from {__name__} import {function.__name__} as run; "
    code += "run(Path(sys.argv[1]), int(sys.argv[2]))"
    return subprocess.Popen([sys.executable, "-c", code, str(path), str(argument)], stdout=subprocess.PIPE)


@pytest.mark.parametrize(
    "steps", [(2, 5, 8), *(pytest.param(each, marks=pytest.mark.slow) for each in ((0, 3, 4), (6, 7)))]
)
async def test_a_kill_at_any_step_leaves_genesis_to_begin_anew_or_the_whole(
    tmp_path: Path, steps: tuple[int, ...]
) -> None:
    with opened(tmp_path / "full", 43):
        pass
    for step in steps:
        path = tmp_path / f"new {step}"
        with in_child(warp_and_die, path, step) as child:
            assert child.wait(60) == -signal.SIGKILL
        with opened(tmp_path / "full") as full:
            if step < 8:
                with opened(path) as ledger:
                    assert ledger.best == (0, ledger.genesis_hash)
                    assert ledger.lowest_block == 0
                    assert whole_state(ledger)
                    # What was left lying is in nobody's way.
                    async with beginning(ledger, (BOB, source(full))) as (warp_, _, _):
                        assert await warp_.run()
            check_begun_at(path, full, 43)


def warp_on_a_full_disk(path: Path, room: int) -> None:
    with opened(path.parent / "full") as full, opened(path) as ledger:
        parts, head = parts_of(full), full.head.height
        handovers = full.handovers(0, 10)
        size = (path / "data.mdb").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, resource.RLIM_INFINITY))
        try:
            for part in parts:
                ledger.stage(part)
            ledger.adopt(blocks()[head - 1], handovers)
        except StorageFailed as error:
            print(error, flush=True)


@pytest.mark.parametrize("room", [4096, 40_000])
async def test_a_full_disk_ends_the_node_and_leaves_it_at_genesis(tmp_path: Path, room: int) -> None:
    with opened(tmp_path / "full", 43) as full:
        pass
    with opened(tmp_path / "new"):
        pass
    with in_child(warp_on_a_full_disk, tmp_path / "new", room) as child:
        output, _ = child.communicate(timeout=60)
    assert "could not be written" in output.decode()
    with opened(tmp_path / "full") as full:
        with opened(tmp_path / "new") as ledger:
            assert ledger.best == (0, ledger.genesis_hash)
            async with beginning(ledger, (BOB, source(full))) as (warp_, _, _):
                assert await warp_.run()
        check_begun_at(tmp_path / "new", full, 43)


def test_a_state_that_lacks_a_key_or_has_one_too_many_is_not_adopted(tmp_path: Path) -> None:
    with opened(tmp_path / "full", 43) as full, opened(tmp_path / "new") as ledger:
        entries = sorted(entry for part in parts_of(full) for entry in part)
        for wrong in (entries[:-1], [*entries, (b"\xff" * 40, b"")], [*entries[:-1], (entries[-1][0], b"other")], []):
            ledger.clear_staged()
            ledger.stage(wrong)
            with pytest.raises(WrongState):
                ledger.adopt(blocks()[42], full.handovers(0, 10))
            assert ledger.best == (0, ledger.genesis_hash)
            assert whole_state(ledger)


def test_who_lacks_old_blocks_is_not_asked_for_them() -> None:
    from tests.chain.test_sync_planner import all_asks, peer
    from tests.chain.test_sync_planner import planner as planned

    old, new = peer(1), replace(peer(2), lowest_height=1000)
    asks = all_asks(planned(old, new), [old, new])
    assert {ask.peer for ask in asks} == {old.id}
    assert all_asks(planned(new), [new]) == []
    asks = all_asks(planned(old, new), [old, new], 999)
    assert {ask.peer for ask in asks} == {old.id, new.id}
    assert len(asks) == 2 * planner.FLIGHTS_A_PEER
