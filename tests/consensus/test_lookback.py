"""A validator whose log was lost, or is older than its votes, or whose key runs twice: it never contradicts itself."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from chain.primitives import bls
from chain.primitives.hashing import Hash
from chain.primitives.seal import Phase
from consensus.lookback import LookBack, Past
from consensus.messages import Inquiry, Message, PrePrepare, Standing, Vote, encode
from consensus.proof import Verifier
from tests.consensus.network import GENESIS, Network, digest_of, peer_id, secret, validator_set
from tests.consensus.test_gadget import signed_vote

NONCE = bytes(32)
SIGNATURE = bytes(bls.SIGNATURE_BYTES)


@pytest.fixture
async def nursery() -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as nursery:
        yield nursery
        nursery.cancel_scope.cancel()


def asked(n: int, heights: dict[int, int], forgetful: frozenset[int] = frozenset()) -> LookBack:
    """Who asked and was answered with these heights, by validator."""
    lookback = LookBack(NONCE, validator_set(n), remembers=False)
    for voter, height in heights.items():
        lookback.note(Standing(height, NONCE, voter not in forgetful, voter, SIGNATURE))
    return lookback


def votes_of(network: Network, index: int) -> list[tuple[int, int, Phase, Hash]]:
    """All that a validator has signed to prepare or commit, each once; an AssertionError where two contradict."""
    found: dict[tuple[int, int, Phase], Hash] = {}
    for message in said(network, index):
        phase = message.phase if isinstance(message, Vote) else Phase.PREPARE
        place = (message.height, message.view, phase)
        assert found.setdefault(place, message.digest) == message.digest
    return [(*place, digest) for place, digest in found.items()]


def said(network: Network, index: int, since: int = 0) -> list[Vote | PrePrepare]:
    """What a validator has sent that holds a vote, after so many messages of all."""
    return [m for sender, m in network.sent[since:] if sender == index and isinstance(m, Vote | PrePrepare)]


def test_p27_nothing_is_known_before_n_minus_f_that_remember_have_answered() -> None:
    assert asked(4, {0: 9, 1: 9}).signed_up_to is None
    assert asked(4, {0: 9, 1: 9, 2: 9}, frozenset({2})).signed_up_to is None
    assert asked(4, {0: 9, 1: 9, 2: 9}).signed_up_to == 10
    assert asked(3, {0: 9, 1: 9}).signed_up_to is None


def test_p27_liars_can_neither_put_the_bound_off_nor_below_what_honest_answers_make_of_it() -> None:
    # A seal of height 20 that the key has seen has five votes of seven: its own, a liar's, and three honest ones.
    honest = {0: 20, 1: 20, 2: 20, 3: 5, 4: 5}
    for claim in (1, 10**9):
        assert asked(7, honest | {5: claim}).signed_up_to == 21
    assert asked(4, {0: 20, 1: 20, 2: 1}).signed_up_to == 21


def test_p27_a_chain_that_has_yet_to_begin_needs_a_quorum_to_say_so() -> None:
    assert asked(1, {}).votes_from(1, me=0) == 1
    assert asked(4, {0: 1}, frozenset({0})).votes_from(1, me=3) is None
    assert asked(4, {0: 1, 1: 1}, frozenset({0, 1})).votes_from(1, me=3) == 1
    assert asked(4, {0: 1, 1: 1}, frozenset({0, 1})).votes_from(2, me=3) is None
    assert asked(4, {0: 1, 1: 1, 2: 1}, frozenset({0, 1, 2})).votes_from(2, me=None) == 3
    # One liar cannot make a validator that lost everything begin a chain again that has begun long ago.
    assert asked(4, {0: 1, 1: 90, 2: 90}).votes_from(1, me=3) is None


def test_p27_answers_count_once_their_set_has_decided_one_more_height() -> None:
    answers = {0: 9, 1: 9, 2: 8}
    assert asked(4, answers).votes_from(9, me=3) is None
    assert asked(4, answers).votes_from(10, me=3) == 11


def test_p27_another_set_is_asked_anew() -> None:
    lookback = asked(4, {0: 9, 1: 9, 2: 9})
    lookback.turn_to(validator_set(4, set_id=1))
    assert lookback.signed_up_to is None


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
async def test_p27_a_new_network_begins_without_a_word_from_its_operators(
    n: int, nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, n)
    await network.start(*range(n), past=Past.UNKNOWN)
    with trio.fail_after(5):
        await network.reach(3)
    assert all(node.notices == [] and node.gadget.silence is None for node in network.nodes.values())


async def test_p27_a_validator_that_is_first_started_late_follows_for_some_blocks_and_then_votes(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    await network.start(0, 1, 2, past=Past.UNKNOWN)
    with trio.fail_after(60):
        await network.reach(5)
        await network.start(3, past=Past.UNKNOWN)
        await network.reach(14)
    first = min(height for height, *_ in votes_of(network, 3))
    lacks, may = network.nodes[3].notices
    assert lacks.startswith("this validator has no vote log, so its key may have signed")
    assert may == f"this validator may vote from height {first} on: its key has signed nothing there"
    assert first == 6 + 2  # The others were deciding 6 when it asked.


async def test_p27_a_validator_that_lost_its_log_signs_nothing_at_heights_that_it_may_have_signed(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    await network.start(0, 1, 2, 3, past=Past.UNKNOWN)
    with trio.fail_after(60):
        # It is lost right after a vote that nobody heard, at a height that is not decided.
        await network.reach(6)
        network.lost = lambda sender, *_: sender == 3
        await trio.sleep(1.02)
        network.kill(3)
        (tmp_path / "3.wal").unlink()
        network.lost = lambda *_: False
        last = max(height for height, *_ in votes_of(network, 3))
        assert last == 7 == network.hosts[3].head + 1
        before = len(network.sent)
        await network.start(3, past=Past.UNKNOWN)
        await network.reach(20)
    assert min(message.height for message in said(network, 3, before)) > last
    votes_of(network, 3)


async def test_p27_a_validator_whose_data_folder_is_restored_from_a_backup_finds_its_own_seals_and_waits(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    await network.start(0, 1, 2, 3)
    with trio.fail_after(60):
        await network.reach(2)
        backup, head = (tmp_path / "3.wal").read_bytes(), network.hosts[3].head
        await network.reach(8)
        network.kill(3)
        last = max(height for height, *_ in votes_of(network, 3))
        (tmp_path / "3.wal").write_bytes(backup)
        del network.hosts[3].blocks[head:]
        before = len(network.sent)
        await network.start(3, past=Past.UNKNOWN)
        await network.reach(20)
    old, may = network.nodes[3].notices
    assert old.startswith("this validator's key has signed block ")
    assert may.startswith("this validator may vote from height ")
    # What the old log knows of is cast again at first.
    assert min(message.height for message in said(network, 3, before) if message.height > head) > last
    votes_of(network, 3)


async def test_p27_where_too_few_remember_the_operator_decides(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Two of four have lost their logs: no rule can tell what they have signed, and their chain waits for a word."""
    network = Network(nursery, tmp_path, 4)
    await network.start(0, 1, 2, 3)
    with trio.fail_after(120):
        await network.reach(3)
        for index in (2, 3):
            network.kill(index)
            (tmp_path / f"{index}.wal").unlink()
        await network.start(2, 3, past=Past.UNKNOWN)
        await trio.sleep(60)
        assert network.hosts[0].head <= 4
        assert network.nodes[3].gadget.silence is not None
        network.kill(2)
        await network.start(2, past=Past.KNOWN)
        await network.reach(12)
    assert network.nodes[3].gadget.silence is None


async def test_p27_a_vote_in_ones_own_name_that_one_has_not_cast_ends_ones_votes_at_once(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    await network.start(0, 1, 2, 3)
    node = network.nodes[3]
    with trio.fail_after(60):
        await network.reach(3)
        digest = digest_of(b"of the other node")
        forged = Vote(4, 0, Phase.PREPARE, digest, 3, SIGNATURE)
        await trio.sleep(1.02)
        own = next(message for message in said(network, 3) if message.height == 4)
        for known in (forged, own):
            node.gadget.deliver(peer_id(0), encode(known))
        await network.reach(4)
        assert node.notices == []
        node.gadget.deliver(peer_id(0), encode(signed_vote(3, 3, 5, 0, Phase.PREPARE, digest)))
        await trio.sleep(0.1)
        before = len(network.sent)
        await network.reach(9)
    (notice,) = node.notices
    assert notice.startswith(
        "another node with this validator's key has cast a PREPARE at height 5. This one casts no "
    )
    assert said(network, 3, before) == []


async def test_p27_a_second_node_with_the_key_of_one_that_runs_never_votes(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    await network.start(0, 1, 2, 3)
    verifier = Verifier(GENESIS, validator_set(4))

    def answered_by_the_first(sender: int, receiver: int, message: Message) -> bool:
        if isinstance(message, Inquiry) and (sender, receiver) == (3, 0):
            height = network.hosts[0].head + 1
            signature = bls.sign(secret(3), verifier.standing_message(height, message.nonce, True))
            answer = Standing(height, message.nonce, True, 3, signature)
            nursery.start_soon(network.carry, 0, 3, encode(answer))
        return False

    with trio.fail_after(60):
        await network.reach(3)
        network.kill(3)
        (tmp_path / "3.wal").unlink()
        network.lost = answered_by_the_first
        before = len(network.sent)
        await network.start(3, past=Past.UNKNOWN)
        await network.reach(12)
    assert network.nodes[3].notices[-1].startswith("another node with this validator's key answers at height ")
    assert said(network, 3, before) == []


async def test_p27_where_a_validator_stands_is_told_each_peer_once_in_a_while(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    network = Network(nursery, tmp_path, 4)
    await network.start(0)
    for number in range(20):
        network.nodes[0].gadget.deliver(peer_id(1), encode(Inquiry(1, bytes([number]) * 32)))
    await trio.sleep(0.3)
    assert len([message for _, message in network.sent if isinstance(message, Standing)]) == 1
