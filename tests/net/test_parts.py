"""The network's parts without a network: outbox, gossip cache, reputation, identity."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path
from random import Random

import pytest

from chain.net import gossip as gossip_module
from chain.net.errors import PeerError
from chain.net.gossip import ENTRIES_MAX, ENTRY_S, WANTED_PER_PEER_MAX, WANTED_S, Gossip, Passing, batches
from chain.net.messages import TRANSACTION_BYTES_MAX, TRANSACTIONS_COUNT_MAX
from chain.net.outbox import BATCH_BYTES, BYTES_MAX, FRAMES_MAX, Lane, Outbox
from chain.net.reputation import BAN_S_FIRST, RECORDS_MAX, STRANGERS_PER_ADDRESS_MAX, Reputation, is_loopback
from chain.net.tls import identity_of, make_context
from chain.primitives.hashing import blake2_256
from tests.net.kit import ALICE, BOB, CHARLIE, certificates

TRANSFER = b"transfer"


def never() -> None:
    raise AssertionError("nobody hangs up on this stranger")


KEY = blake2_256(TRANSFER)


# --- outbox


def test_consensus_goes_before_everything_that_waits() -> None:
    outbox = Outbox()
    outbox.offer(Lane.BULK, b"blob")
    outbox.offer(Lane.CONTROL, b"ping")
    outbox.offer(Lane.CONSENSUS, b"vote 1")
    outbox.offer(Lane.CONSENSUS, b"vote 2")
    assert outbox.take() == b"vote 1vote 2pingblob"
    assert outbox.take() == b""
    assert outbox.bytes_waiting == 0


def test_a_large_frame_is_written_alone_so_that_votes_can_pass_what_follows() -> None:
    outbox = Outbox()
    for _ in range(3):
        outbox.offer(Lane.BULK, bytes(BATCH_BYTES))
    assert len(outbox.take()) == BATCH_BYTES
    outbox.offer(Lane.CONSENSUS, b"vote")
    assert outbox.take() == b"vote"
    assert len(outbox.take()) == BATCH_BYTES


def test_an_outbox_is_bounded_by_count_and_by_bytes() -> None:
    outbox = Outbox()
    assert [outbox.offer(Lane.CONTROL, b"x") for _ in range(FRAMES_MAX + 1)] == [True] * FRAMES_MAX + [False]
    outbox = Outbox()
    assert outbox.offer(Lane.BULK, bytes(BYTES_MAX))
    assert not outbox.offer(Lane.CONSENSUS, b"x")
    assert outbox.bytes_waiting == BYTES_MAX


# --- gossip


def test_a_transaction_is_handed_over_once_whoever_sends_it() -> None:
    gossip = Gossip(Random(1))
    assert gossip.received(ALICE.public, [TRANSFER, TRANSFER], 0.0) == [TRANSFER]
    assert gossip.received(BOB.public, [TRANSFER], 0.0) == []
    # Both have it, so that Charlie alone is told, who may have it from them.
    everyone = [ALICE.public, BOB.public, CHARLIE.public]
    assert gossip.publish([TRANSFER], everyone, 0.0) == Passing(told={CHARLIE.public: [KEY]})


def test_what_nobody_sent_us_is_given_to_all_of_a_few_peers() -> None:
    gossip = Gossip(Random(1))
    given = {ALICE.public: [TRANSFER], BOB.public: [TRANSFER]}
    assert gossip.publish([TRANSFER], [ALICE.public, BOB.public], 0.0) == Passing(given)


@pytest.mark.parametrize("sent_by_a_peer", [False, True])
def test_with_many_peers_the_square_root_is_pushed_to_and_the_rest_is_told(sent_by_a_peer: bool) -> None:
    peers = [bytes([i]) * 32 for i in range(100)]
    gossip = Gossip(Random(1))
    if sent_by_a_peer:
        gossip.received(peers[0], [TRANSFER], 0.0)
    passing = gossip.publish([TRANSFER], peers, 0.0)
    pushes = passing.given
    assert len(pushes) == 10
    assert passing.told == {}
    for peer, transactions in pushes.items():
        gossip.gave(peer, transactions)
    assert {peer for peer in peers if gossip.unknown_to(peer) == [KEY]} == set(peers[sent_by_a_peer:]) - set(pushes)
    assert gossip.give([KEY, bytes(32), KEY]) == [TRANSFER]


def test_what_a_peer_promised_and_did_not_give_is_asked_of_the_next_that_has_it() -> None:
    gossip = Gossip(Random(1))
    assert gossip.announced(ALICE.public, [KEY], 0.0) == [KEY]
    assert gossip.announced(BOB.public, [KEY], 0.1) == []
    assert gossip.overdue(WANTED_S / 2) == {}
    assert gossip.overdue(WANTED_S) == {BOB.public: [KEY]}
    gossip.received(BOB.public, [TRANSFER], WANTED_S)
    assert gossip.overdue(10 * WANTED_S) == {}


def test_who_tells_of_what_nobody_has_takes_no_room_of_the_others() -> None:
    gossip = Gossip(Random(1))
    invented = [i.to_bytes(32, "big") for i in range(5 * WANTED_PER_PEER_MAX)]
    assert gossip.announced(ALICE.public, invented, 0.0) == invented[:WANTED_PER_PEER_MAX]
    assert gossip.announced(BOB.public, [KEY], 0.0) == [KEY]
    # What was postponed finds room, too.
    gossip.received(BOB.public, [b"other"], 0.0)
    gossip.postpone([b"other"], 0.0)
    assert gossip.overdue(WANTED_S) == {BOB.public: [blake2_256(b"other")]}
    # Alice did not give any of it in time, and may tell again.
    assert gossip.announced(ALICE.public, invented[:1], WANTED_S) == invented[:1]


def test_what_a_peer_promised_before_it_went_is_asked_of_the_next_at_once() -> None:
    gossip = Gossip(Random(1))
    alone = blake2_256(b"other")
    assert gossip.announced(ALICE.public, [KEY, alone], 0.0) == [KEY, alone]
    for peer in (BOB, CHARLIE):
        assert gossip.announced(peer.public, [KEY], 0.1) == []
    gossip.forget_peer(BOB.public)
    gossip.forget_peer(ALICE.public)
    assert gossip.overdue(0.2) == {CHARLIE.public: [KEY]}
    assert gossip.announced(CHARLIE.public, [alone], 0.3) == [alone]


def test_of_what_a_peer_promised_before_it_went_the_next_answers_for_no_more_than_its_share() -> None:
    gossip = Gossip(Random(1))
    promised = [i.to_bytes(32, "big") for i in range(2 * WANTED_PER_PEER_MAX)]
    hers, his = promised[:WANTED_PER_PEER_MAX], promised[WANTED_PER_PEER_MAX:]
    assert gossip.announced(ALICE.public, hers, 0.0) == hers
    assert gossip.announced(BOB.public, [*hers, *his], 0.0) == his
    gossip.forget_peer(ALICE.public)
    assert gossip.overdue(WANTED_S / 2) == {}
    gossip.forget_peer(BOB.public)
    assert gossip.overdue(WANTED_S) == {}
    assert gossip.announced(CHARLIE.public, hers, WANTED_S) == hers


def test_what_we_had_no_room_for_is_asked_for_again() -> None:
    gossip = Gossip(Random(1))
    gossip.received(ALICE.public, [TRANSFER], 0.0)
    gossip.postpone([TRANSFER], 0.0)
    assert gossip.overdue(WANTED_S) == {ALICE.public: [KEY]}
    assert gossip.received(ALICE.public, [TRANSFER], WANTED_S) == [TRANSFER]


def test_a_peer_that_was_away_is_told_again_and_asked_no_more() -> None:
    gossip = Gossip(Random(1))
    gossip.received(ALICE.public, [TRANSFER], 0.0)
    gossip.publish([TRANSFER], [], 0.0)
    gossip.received(BOB.public, [b"other"], 0.0)
    assert gossip.unknown_to(ALICE.public) == []
    gossip.forget_peer(ALICE.public)
    gossip.forget_peer(BOB.public)
    gossip.forget_peer(CHARLIE.public)
    assert gossip.unknown_to(ALICE.public) == [KEY]
    gossip.postpone([b"other"], 0.0)
    assert gossip.overdue(WANTED_S) == {}


def test_who_was_told_of_all_is_told_of_what_is_published_since() -> None:
    gossip = Gossip(Random(1))
    first, second, third = (b"transfer %d" % i for i in range(3))
    gossip.publish([first, second], [], 0.0)
    told = gossip.unknown_to(ALICE.public)
    assert told == [blake2_256(second), blake2_256(first)]
    assert gossip.unknown_to(ALICE.public) == told  # There was no room to tell it.
    gossip.repaired(ALICE.public, told)
    assert gossip.unknown_to(ALICE.public) == []
    gossip.publish([third], [], 1.0)
    assert gossip.unknown_to(ALICE.public) == [blake2_256(third)]
    gossip.forget_peer(ALICE.public)
    assert len(gossip.unknown_to(ALICE.public)) == 3


def test_an_old_transaction_is_forgotten_so_that_it_may_be_valid_later() -> None:
    gossip = Gossip(Random(1))
    assert gossip.received(ALICE.public, [TRANSFER], 0.0) == [TRANSFER]
    gossip.overdue(ENTRY_S + 1.0)
    assert gossip.received(ALICE.public, [TRANSFER], ENTRY_S + 1.0) == [TRANSFER]


def test_the_gossip_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    gossip = Gossip(Random(1))
    gossip.received(ALICE.public, [i.to_bytes(4, "big") for i in range(ENTRIES_MAX + 10)], 0.0)
    assert len(gossip) == ENTRIES_MAX
    monkeypatch.setattr(gossip_module, "BODIES_BYTES_MAX", 1000)
    gossip = Gossip(Random(1))
    transactions = [bytes([i]) * 100 for i in range(20)]
    gossip.publish(transactions, [], 0.0)
    assert gossip.give([blake2_256(transaction) for transaction in transactions]) == transactions[10:]


def test_transactions_are_cut_into_parts_that_fit_a_message() -> None:
    small = [b"x"] * (TRANSACTIONS_COUNT_MAX + 1)
    assert [len(part) for part in batches(small)] == [TRANSACTIONS_COUNT_MAX, 1]
    large = [bytes(TRANSACTION_BYTES_MAX)] * 2
    assert [len(part) for part in batches(large)] == [1, 1]
    assert batches([]) == []


# --- reputation


def test_points_fade_and_a_ban_ends_and_the_next_is_longer() -> None:
    reputation = Reputation()
    assert not reputation.penalise(ALICE.public, 60, 0.0)
    assert not reputation.penalise(ALICE.public, 60, 60.0)
    assert reputation.penalise(ALICE.public, 60, 61.0)
    assert reputation.banned_for(ALICE.public, 61.0) == BAN_S_FIRST
    assert reputation.banned_for(ALICE.public, 61.0 + BAN_S_FIRST) == 0.0
    assert reputation.penalise(ALICE.public, 100, 200.0)
    assert reputation.banned_for(ALICE.public, 200.0) == 2 * BAN_S_FIRST
    assert reputation.banned_for(BOB.public, 200.0) == 0.0


def test_an_address_is_banned_but_never_a_loopback_one() -> None:
    reputation = Reputation()
    assert reputation.penalise("192.0.2.1", 100, 0.0)
    for own in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"):
        assert is_loopback(own)
        assert not reputation.penalise(own, 1000, 0.0)
    with reputation.stranger("192.0.2.1", 1.0, never) as admitted:
        assert not admitted


def test_strangers_of_one_address_are_bounded() -> None:
    reputation = Reputation()
    held = [reputation.stranger("127.0.0.1", 0.0, never) for _ in range(STRANGERS_PER_ADDRESS_MAX + 1)]
    assert [place.__enter__() for place in held] == [True] * STRANGERS_PER_ADDRESS_MAX + [False]
    with reputation.stranger("192.0.2.1", 0.0, never) as admitted:
        assert admitted
    held[0].__exit__(None, None, None)
    with reputation.stranger("127.0.0.1", 0.0, never) as admitted:
        assert admitted


def test_a_stranger_that_hangs_in_its_handshake_makes_room_for_the_next() -> None:
    reputation, hung_up = Reputation(), list[int]()
    held = [
        reputation.stranger("127.0.0.1", float(number), partial(hung_up.append, number))
        for number in range(STRANGERS_PER_ADDRESS_MAX + 3)
    ]
    assert all(place.__enter__() for place in held)
    assert hung_up == [0, 1, 2]
    now = STRANGERS_PER_ADDRESS_MAX + 2.0
    for address, admitted in (("192.0.2.1", True), ("127.0.0.1", True)):
        with reputation.stranger(address, now, never) as found:
            assert found is admitted
    assert hung_up == [0, 1, 2, 3]
    for place in held:
        place.__exit__(None, None, None)
    again = [reputation.stranger("127.0.0.1", now, never) for _ in range(STRANGERS_PER_ADDRESS_MAX + 1)]
    assert [place.__enter__() for place in again] == [True] * STRANGERS_PER_ADDRESS_MAX + [False]


def test_reputation_remembers_a_bounded_number() -> None:
    reputation = Reputation()
    for i in range(RECORDS_MAX + 1):
        reputation.penalise(i.to_bytes(32, "big"), 100, 0.0)
    assert reputation.banned_for(bytes(32), 0.0) == 0.0
    assert reputation.banned_for(RECORDS_MAX.to_bytes(32, "big"), 0.0) > 0.0


# --- identity


def test_both_sides_of_a_handshake_prove_their_keys() -> None:
    shown_by_server, shown_by_client = certificates(ALICE, BOB)
    assert identity_of(shown_by_server) == ALICE.public
    assert identity_of(shown_by_client) == BOB.public


def test_no_key_stays_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(tmp_path))
    make_context(ALICE.secret_seed, server_side=True)
    assert list(tmp_path.iterdir()) == []


def test_a_certificate_that_cannot_be_read_is_the_peers_error() -> None:
    good, _ = certificates(ALICE, BOB)
    version = b"\xa0\x03\x02\x01"
    assert good.count(version + b"\x02") == 1
    unheard_of = good.replace(version + b"\x02", version + b"\x7e")
    for certificate in (None, b"", b"\x30\x03\x02\x01\x01", bytes(500), unheard_of):
        with pytest.raises(PeerError):
            identity_of(certificate)
