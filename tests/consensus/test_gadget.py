"""The gadget, with real signatures and logs, on a virtual clock: what a network of validators is seen to do."""

from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
import trio
from trio.testing import MockClock

from chain.primitives import bls
from chain.primitives.seal import Phase, Seal, bitmap, verify_seal, vote_message
from consensus.gadget import run_in_thread
from consensus.host import Timing
from consensus.messages import (
    Certificate,
    Message,
    Payload,
    PayloadRequest,
    PrePrepare,
    ViewChange,
    Vote,
    encode,
)
from consensus.wal import WalFailed
from tests.consensus.network import GENESIS, TIMING, Network, digest_of, peer_id, secret


@pytest.fixture
async def nursery() -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as nursery:
        yield nursery
        nursery.cancel_scope.cancel()


def words(payload: bytes) -> list[int]:
    """Return the height, view and validator that a test payload names."""
    return [int(word) for word in payload.split(b" ")[:3]]


def signed_vote(signer: int, voter: int, height: int, view: int, phase: Phase, digest: bytes) -> Vote:
    signature = bls.sign(secret(signer), vote_message(GENESIS, 0, height, view, phase, digest))
    return Vote(height, view, phase, digest, voter, signature)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
async def test_p18_validators_seal_a_block_every_block_time(
    n: int, nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, n)
    await network.start(*range(n))
    with trio.fail_after(5.5):
        await network.reach(5)
    assert [words(payload) for payload in network.agreed()[:5]] == [[h, 0, h % n] for h in range(1, 6)]
    assert all(node.faults == [] for node in network.nodes.values())


async def test_signing_and_verifying_in_threads_seals_quickly_on_a_real_clock(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    network = Network(nursery, tmp_path, 4, Timing(block_time_ms=0), run=run_in_thread, delay=0.001)
    await network.start(0, 1, 2, 3)
    with trio.fail_after(10):
        await network.reach(10)


async def test_a_killed_primary_does_not_stop_the_chain(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    await network.start(0, 1, 2, 3)
    with trio.fail_after(60):
        await network.reach(1)
        network.kill(2)  # The primary of height 2.
        await network.reach(6)
    assert words(network.agreed()[1]) == [2, 1, 3]


async def test_what_a_height_waits_for_is_counted_with_the_views_that_failed(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    await network.start(0, 1, 2, 3)
    with trio.fail_after(60):
        await network.reach(1)
        before = network.nodes[0].gadget.counts
        assert (before.views_changed, before.phases["view-change"].count) == (0, 0)
        network.kill(2)  # The primary of height 2.
        await network.reach(2)
    counts = network.nodes[0].gadget.counts
    assert counts.views_changed == 1
    assert counts.phases["view-change"].count == 1
    assert counts.phases["proposal"].total > (TIMING.block_time_ms + TIMING.timeout_ms) / 1000
    assert counts.phases["prepare"].count == counts.phases["commit"].count == 2
    assert (counts.equivocations, counts.faults) == (0, 0)


async def test_p14_the_state_names_who_is_missing(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    await network.start(0, 2)
    await trio.sleep(10)
    state = network.nodes[0].gadget.state
    assert (state.height, state.view, state.phase) == (1, 1, "view-change")
    account = [authority.account for authority in network.set.authorities]
    assert (state.voted, state.missing) == ((account[0], account[2]), (account[1], account[3]))
    assert state.primary == account[2]


async def test_p14_once_a_quorum_has_changed_view_its_primary_is_missing(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    network.lost = lambda _, __, message: isinstance(message, PrePrepare)
    await network.start(0, 1, 2, 3)
    await trio.sleep(4)
    state = network.nodes[0].gadget.state
    primary = network.set.authorities[2].account
    assert (state.view, state.phase, state.voted, state.missing) == (1, "proposal", (), (primary,))


async def test_p9_once_a_quorum_has_committed_nobody_is_missing(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    network.lost = lambda _, receiver, message: receiver == 0 and isinstance(message, PrePrepare | Payload)
    network.syncing = False
    await network.start(0, 1, 2, 3)
    await trio.sleep(1.5)
    state = network.nodes[0].gadget.state
    assert (state.height, state.phase, len(state.voted), state.missing) == (1, "sealing", 3, ())


async def test_p13_nodes_that_start_one_by_one_begin_once_there_is_a_quorum(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    for index in (3, 1, 0):
        await network.start(index)
        await trio.sleep(15)
    await network.start(2)
    with trio.fail_after(20):
        await network.reach(3)


async def test_p17_a_third_of_all_frames_lost_delays_and_does_not_stop(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    rng = Random(1)
    network.lost = lambda *_: rng.random() < 1 / 3
    await network.start(0, 1, 2, 3)
    with trio.fail_after(120):
        await network.reach(8)
    network.agreed()


async def test_p17_a_payload_that_never_came_is_asked_for(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    network.lost = lambda _, receiver, message: (
        receiver == 0 and isinstance(message, PrePrepare) and message.payload is not None
    )
    network.syncing = False
    await network.start(0, 1, 2, 3)
    with trio.fail_after(20):
        await network.reach(1, 0)
    assert any(isinstance(message, PayloadRequest) for sender, message in network.sent if sender == 0)


async def test_p5_validators_that_restart_again_and_again_never_contradict_themselves(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    await network.start(0, 1, 2, 3)
    for step in range(60):
        await trio.sleep(0.11 + step % 7 * 0.013)
        network.kill(step % 4)
        await network.start(step % 4)
    with trio.fail_after(60):
        await network.reach(network.hosts[0].head + 2)
    network.agreed()
    cast: dict[tuple[int, int, int, Phase], bytes] = {}
    for sender, message in network.sent:
        if isinstance(message, Vote):
            assert message.voter == sender
            key = (sender, message.height, message.view, message.phase)
        elif isinstance(message, PrePrepare):
            key = (sender, message.height, message.view, Phase.PREPARE)
        else:
            continue
        assert cast.setdefault(key, message.digest) == message.digest


async def test_p5_below_the_height_of_its_log_a_validator_only_follows(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    await network.start(0, 1, 2, 3)
    with trio.fail_after(30):
        await network.reach(4)
        network.kill(1)
        del network.hosts[1].blocks[1:]  # An old copy of the ledger beside the log of today.
        network.sent.clear()
        network.syncing = False
        await network.start(1)
        await trio.sleep(5)
        assert [message for sender, message in network.sent if sender == 1] == []
        network.sync(1)
        await network.reach(network.hosts[0].head + 2)
    assert any(sender == 1 and isinstance(message, Vote) for sender, message in network.sent)


async def test_p19_a_validator_that_was_away_asks_for_blocks_and_takes_part_again(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    await network.start(0, 1, 2)
    with trio.fail_after(60):
        await network.reach(5)
        await network.start(3)
        await network.reach(7)
    behind = network.nodes[3].behind
    assert behind
    assert behind[0] >= 5
    network.agreed()


async def test_p19_a_lie_about_heights_is_forgotten_with_the_next_block(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    await network.start(0, 1, 2, 3)
    with trio.fail_after(20):
        await network.reach(1)
        for voter in range(4):
            lie = Vote(1_000_000, 0, Phase.PREPARE, bytes(32), voter, bytes(96))
            assert network.nodes[0].gadget.deliver(b"stranger", encode(lie))
        await network.reach(3)
        told = network.nodes[0].behind
        assert set(told) == {999_999}
        told.clear()
        await network.reach(6)
    assert told == []


async def test_p16_a_forged_vote_delays_nobody_and_its_bringer_is_named(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    await network.start(0, 1, 2, 3)
    with trio.fail_after(20):
        await network.reach(2)
        victim = network.nodes[0].gadget
        height = network.hosts[0].head + 1
        # A stranger is verified at once; node 1, which speaks for validator 1, when its votes contradict each other.
        for bringer, voter in ((b"stranger", 2), (peer_id(1), 1)):
            for view in range(2):
                forged = signed_vote(3, voter, height, view, Phase.PREPARE, bytes(32))
                assert victim.deliver(bringer, encode(forged))
        await network.reach(5)
    assert {peer for peer, _ in network.nodes[0].faults} - {peer_id(1)} == {b"stranger"}
    assert network.nodes[0].equivocations == []


async def test_p16_a_validator_whose_signatures_are_bad_is_left_out_of_the_seal(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    await network.start(0, 1, 2)

    async def liar() -> None:
        """Validator 3 proves who it is with one good vote, then signs rubbish, first of all."""
        for receiver in (0, 1, 2):
            good = signed_vote(3, 3, 1, 7, Phase.COMMIT, bytes(32))
            network.nodes[receiver].gadget.deliver(peer_id(3), encode(good))
        while True:
            payload = b"1 0 1 " + bytes(200)
            for receiver in (0, 1, 2):
                for phase in (Phase.PREPARE, Phase.COMMIT):
                    bad = signed_vote(2, 3, 1, 0, phase, digest_of(payload))
                    network.nodes[receiver].gadget.deliver(peer_id(3), encode(bad))
            await trio.sleep(0.3)

    nursery.start_soon(liar)
    with trio.fail_after(20):
        await network.reach(1)
    for host in network.hosts[:3]:
        assert host.blocks[0][1].voter_indices(4) == [0, 1, 2]
    for index in range(3):
        assert {peer for peer, _ in network.nodes[index].faults} == {peer_id(3)}


async def test_p16_a_forged_vote_is_held_against_who_brought_it_and_not_against_whom_it_names(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    await network.start(0, 1, 2)
    with trio.fail_after(20):
        await network.reach(1)
        # Both prove with a genuine vote that they speak for validator 3: it itself, and a stranger that passes it on.
        good = signed_vote(3, 3, 2, 7, Phase.COMMIT, bytes(32))
        victim = network.nodes[0].gadget
        assert victim.deliver(peer_id(3), encode(good))
        again = signed_vote(3, 3, 2, 8, Phase.COMMIT, bytes(32))
        assert victim.deliver(b"stranger", encode(again))
        for phase in (Phase.PREPARE, Phase.COMMIT):
            forged = signed_vote(2, 3, 2, 0, phase, digest_of(b"2 0 2 " + bytes(200)))
            assert victim.deliver(b"stranger", encode(forged))
        await network.reach(2)
    assert {peer for peer, _ in network.nodes[0].faults} == {b"stranger"}


def slow(network: Network, validator: int) -> None:
    """Let what a validator sends and gets take so long that the others decide without it."""
    carry = network.carry

    async def late(sender: int, receiver: int, frame: bytes) -> None:
        await trio.sleep(0.2 if validator in (sender, receiver) else 0)
        await carry(sender, receiver, frame)

    network.carry = late  # type: ignore[method-assign]


async def test_p20_the_slowest_validator_is_in_every_seal_that_the_next_block_carries(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    slow(network, 3)
    await network.start(0, 1, 2, 3)
    with trio.fail_after(10):
        await network.reach(6)
    assert {tuple(seal.voter_indices(4)) for _, seal in network.hosts[0].blocks} == {(0, 1, 2)}
    for height in (2, 3, 4, 5, 6):
        seal = network.hosts[height % 4].parent_seals[height]
        assert seal is not None
        assert seal.voter_indices(4) == [0, 1, 2, 3]
    assert all(node.faults == [] for node in network.nodes.values())


async def test_p20_nobody_is_waited_for_so_blocks_come_every_block_time(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    network.lost = lambda sender, _, message: sender == 3 and isinstance(message, Vote)
    await network.start(0, 1, 2, 3)
    with trio.fail_after(2.5):
        await network.reach(2)
    seal = network.hosts[2].parent_seals[2]
    assert seal is not None
    assert seal.voter_indices(4) == [0, 1, 2]


async def test_p20_the_seal_of_all_votes_is_verified_by_everybody_before_the_next_block_carries_it(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    verify_seal.cache_clear()
    await network.start(0, 1, 2, 3)
    with trio.fail_after(10):
        await network.reach(1)
        await trio.sleep(TIMING.block_time_ms / 1000 - 0.1)
    digest = digest_of(network.hosts[0].blocks[0][0])
    signatures = [signed_vote(voter, voter, 1, 0, Phase.COMMIT, digest).signature for voter in range(4)]
    everybody = Seal(1, 0, network.set.set_id, digest, bitmap(range(4), 4), bls.aggregate(signatures))
    verified = verify_seal.cache_info().misses
    assert verify_seal(network.set, GENESIS, everybody)
    assert verify_seal.cache_info().misses == verified


@pytest.mark.parametrize("bringer", [b"stranger", peer_id(3)])
async def test_p20_a_forged_late_vote_spoils_no_seal_and_its_bringer_is_named(
    bringer: bytes, nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    await network.start(0, 1, 2)
    with trio.fail_after(20):
        await network.reach(1)
        primary = network.nodes[2]
        if bringer == peer_id(3):  # It proves who it is with a genuine vote, on something else.
            good = signed_vote(3, 3, 1, 7, Phase.COMMIT, bytes(32))
            primary.gadget.deliver(bringer, encode(good))
        digest = digest_of(network.hosts[2].blocks[0][0])
        primary.gadget.deliver(bringer, encode(signed_vote(2, 3, 1, 0, Phase.COMMIT, digest)))
        await network.reach(2)
    seal = network.hosts[2].parent_seals[2]
    assert seal is not None
    assert seal.voter_indices(4) == [0, 1, 2]
    assert [peer for peer, _ in primary.faults] == [bringer]


async def test_p20_a_forged_late_vote_keeps_no_genuine_one_out(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    await network.start(0, 1, 2)
    with trio.fail_after(20):
        await network.reach(1)
        digest = digest_of(network.hosts[2].blocks[0][0])
        for bringer, signer in ((b"stranger", 2), (peer_id(3), 3)):
            vote = signed_vote(signer, 3, 1, 0, Phase.COMMIT, digest)
            network.nodes[2].gadget.deliver(bringer, encode(vote))
        await network.reach(2)
    seal = network.hosts[2].parent_seals[2]
    assert seal is not None
    assert seal.voter_indices(4) == [0, 1, 2, 3]


async def test_p21_a_validator_whose_clock_is_slow_follows_takes_its_turns_and_accuses_nobody(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    network.syncing = False
    network.hosts[3].clock_is_slow = True
    await network.start(0, 1, 2, 3)
    with trio.fail_after(9.5):
        await network.reach(9)
    assert [words(payload) for payload in network.agreed()[:9]] == [[h, 0, h % 4] for h in range(1, 10)]
    assert all(node.faults == [] for node in network.nodes.values())


async def test_p16_an_equivocating_primary_is_proven_to_be_one_and_the_chain_goes_on(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    await network.start(0, 2, 3)
    for receiver in (0, 2, 3):
        payload = f"1 0 1 {receiver % 2}".encode()
        vote = signed_vote(1, 1, 1, 0, Phase.PREPARE, digest_of(payload))
        proposal = PrePrepare(1, 0, vote.digest, vote.signature, payload, None)
        network.nodes[receiver].gadget.deliver(peer_id(1), encode(proposal))
        other = signed_vote(1, 1, 1, 0, Phase.PREPARE, digest_of(f"1 0 1 {1 - receiver % 2}".encode()))
        network.nodes[receiver].gadget.deliver(peer_id(1), encode(other))
        for more in range(3):  # However often it goes on, it is accused once.
            network.nodes[receiver].gadget.deliver(
                peer_id(1), encode(signed_vote(1, 1, 1, 0, Phase.PREPARE, bytes([more]) * 32))
            )
    with trio.fail_after(30):
        await network.reach(3)
    network.agreed()
    for node in network.nodes.values():
        assert [(found.first.voter, found.first.height) for found in node.equivocations] == [(1, 1)]


async def test_p16_a_second_proposal_is_evidence_though_the_first_was_taken_or_even_decided(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    await network.start(0, 2, 3)

    def propose(height: int, word: int) -> None:
        payload = f"{height} 0 1 {word}".encode()
        vote = signed_vote(1, 1, height, 0, Phase.PREPARE, digest_of(payload))
        proposal = encode(PrePrepare(height, 0, vote.digest, vote.signature, payload, None))
        for node in network.nodes.values():
            for _ in range(2):  # Said again, it is the same proposal.
                node.gadget.deliver(peer_id(1), proposal)

    def found() -> list[list[tuple[int, int]]]:
        return [[(e.first.voter, e.first.height) for e in node.equivocations] for node in network.nodes.values()]

    propose(1, 0)
    await trio.sleep(0.001)  # Taken, and none of the others' votes has arrived.
    assert found() == [[], [], []]
    propose(1, 1)
    await trio.sleep(0.001)
    assert found() == [[(1, 1)]] * 3
    with trio.fail_after(30):
        await network.reach(4)
    assert network.hosts[0].head == 4
    propose(5, 0)
    with trio.fail_after(1):
        await network.reach(5)
    propose(5, 1)
    await trio.sleep(0.001)
    assert found() == [[(1, 1), (1, 5)]] * 3


async def test_p8_a_hidden_lock_survives_the_crash_of_everyone_else(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Only validator 0 is prepared; it goes away, and the block that the others were about to commit is not lost."""
    network = Network(nursery, tmp_path, 4)
    hidden = True

    def lost(sender: int, receiver: int, message: Message) -> bool:
        if not hidden:
            return False
        return isinstance(message, Vote) and (receiver != 0 or message.phase is Phase.COMMIT)

    network.lost = lost
    await network.start(0, 1, 2, 3)
    await trio.sleep(1.4)
    assert [network.nodes[index].gadget.state.phase for index in range(4)] == ["commit", *["prepare"] * 3]
    for index in range(4):
        network.kill(index)
    hidden = False
    # Validators 1 and 2 alone cannot go on; with 0 there is a quorum, which holds the lock.
    await network.start(1, 2)
    await trio.sleep(20)
    await network.start(0)
    with trio.fail_after(20):
        await network.reach(1)
    assert words(network.agreed()[0]) == [1, 0, 1]


async def test_p11_a_view_change_that_claims_a_forged_lock_is_refused(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    await network.start(0)
    forged = Certificate(1, 0, bytes(32), b"\x07", bls.sign(secret(3), b"anything"))
    change = ViewChange(1, 1, 3, forged, bytes(96))
    assert network.nodes[0].gadget.deliver(peer_id(3), encode(change))
    await trio.sleep(0.1)
    assert [peer for peer, _ in network.nodes[0].faults] == [peer_id(3)]


async def test_garbage_is_turned_away_and_floods_are_bounded(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    await network.start(0, 1, 2, 3)
    gadget = network.nodes[0].gadget
    for frame in (b"", b"\xff", bytes(100), encode(Payload(1, b"x")) + b"\0", bytes(6 * 1024 * 1024 + 1)):
        assert not gadget.deliver(b"stranger", frame)
    for number in range(10_000):
        assert gadget.deliver(b"stranger", encode(PayloadRequest(1, number.to_bytes(32, "big"))))
    with trio.fail_after(10):
        await network.reach(3)


async def test_p4_when_the_log_cannot_be_written_the_gadget_ends_and_casts_nothing(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path / "is-not-there", 1)
    with pytest.RaisesGroup(WalFailed, flatten_subgroups=True, allow_unwrapped=True):
        async with trio.open_nursery() as own:
            network.nursery = own
            await network.start(0)
    assert network.sent == []
