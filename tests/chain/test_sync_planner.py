"""What is asked of whom, without a network: shares, bounds, newcomers, and what is asked for again."""

from __future__ import annotations

from random import Random

from chain.net.messages import BLOCKS_BYTES_MAX, Role
from chain.net.peer import PeerInfo
from chain.sync.planner import (
    AHEAD_BLOCKS_MAX,
    FLIGHTS_A_PEER,
    FLIGHTS_MAX,
    HELD_BYTES_MAX,
    NEWCOMER_BLOCKS,
    NEWCOMER_S,
    PROVEN_S,
    RANGE_BLOCKS,
    Ask,
    Planner,
    Standing,
)

FAR = 100_000


def peer(number: int, best: int = FAR, *, dialled: bool = False) -> PeerInfo:
    return PeerInfo(bytes([number]) * 32, "127.0.0.1", 0, Role.FULL, dialled, best, bytes(32), 0.0, None)


def planner(*delivered: PeerInfo) -> Planner:
    standing = Standing()
    standing.delivered = {each.id for each in delivered}
    return Planner(standing, Random(1))


def all_asks(plan: Planner, peers: list[PeerInfo], height: int = 0, now: float = 0.0) -> list[Ask]:
    """Everything that is asked for until nothing more is."""
    found = []
    while (ask := plan.next_ask(now, height, peers)) is not None:
        found.append(ask)
    return found


def test_proven_peers_share_ranges_that_follow_from_each_other() -> None:
    peers = [peer(1), peer(2), peer(3)]
    asks = all_asks(planner(*peers), peers)
    assert [(ask.start, ask.count) for ask in asks] == [
        (1 + RANGE_BLOCKS * number, RANGE_BLOCKS) for number in range(3 * FLIGHTS_A_PEER)
    ]
    assert [[ask.peer for ask in asks].count(each.id) for each in peers] == [FLIGHTS_A_PEER] * 3
    assert {ask.deadline_s for ask in asks} == {PROVEN_S}


def test_however_many_peers_there_are_the_ranges_in_flight_are_bounded() -> None:
    peers = [peer(number) for number in range(1, 20)]
    assert len(all_asks(planner(*peers), peers)) == FLIGHTS_MAX


def test_a_range_that_did_not_come_is_asked_for_again_before_anything_else() -> None:
    peers = [peer(1), peer(2)]
    plan = planner(*peers)
    asks = all_asks(plan, peers)
    plan.ended(asks[0])
    again = plan.next_ask(1.0, 0, peers)
    assert again is not None
    assert (again.start, again.count) == (asks[0].start, asks[0].count)


def test_what_a_peer_left_out_at_the_end_of_a_range_is_asked_for_and_no_more() -> None:
    peers = [peer(1)]
    plan = planner(*peers)
    first, second = all_asks(plan, peers)
    plan.ended(first)
    plan.came(1, 10, 1000)
    rest = plan.next_ask(1.0, 0, peers)
    assert rest is not None
    assert (rest.start, rest.end) == (11, second.start)


def test_what_came_and_waits_is_bounded_in_bytes_and_the_next_to_import_is_asked_for_all_the_same() -> None:
    peers = [peer(1), peer(2)]
    plan = planner(*peers)
    plan.came(2, 1, HELD_BYTES_MAX - 1)
    asks = all_asks(plan, peers)
    assert [(ask.start, ask.count) for ask in asks] == [(1, 1)]
    assert plan.held_bytes + BLOCKS_BYTES_MAX > HELD_BYTES_MAX
    plan.released(2)
    assert all_asks(plan, peers)


def test_nothing_is_asked_for_that_is_far_ahead_of_what_is_imported() -> None:
    peers = [peer(1)]
    plan = planner(*peers)
    for start in range(2, AHEAD_BLOCKS_MAX, RANGE_BLOCKS):
        plan.came(start, RANGE_BLOCKS, 1)
    assert all(ask.end <= 1 + AHEAD_BLOCKS_MAX for ask in all_asks(plan, peers))


def test_newcomers_are_asked_one_at_a_time_for_little_and_those_that_we_dialled_first() -> None:
    plan = planner()
    (ask,) = all_asks(plan, [peer(1), peer(2, dialled=True), peer(3)])
    assert (ask.peer, ask.start, ask.count, ask.deadline_s) == (b"\2" * 32, 1, NEWCOMER_BLOCKS, NEWCOMER_S)
    assert not ask.trial


def test_beside_proven_peers_one_newcomer_at_a_time_is_tried_with_what_others_fetch_too() -> None:
    old, new = peer(1), [peer(2), peer(3)]
    plan = planner(old)
    asks = all_asks(plan, [old, *new])
    assert [ask.trial for ask in asks] == [False] * FLIGHTS_A_PEER + [True]
    assert (asks[-1].start, asks[-1].count) == (1, NEWCOMER_BLOCKS)
    plan.ended(asks[-1])
    again = plan.next_ask(0.0, 0, [old, *new])
    assert again is not None
    assert again.trial
    # Near the head there is nothing to gain by it.
    assert planner(old).next_ask(0.0, FAR, [old, *new]) is None
    assert not any(ask.trial for ask in all_asks(planner(old), [old, *new], FAR - AHEAD_BLOCKS_MAX))


def test_a_peer_is_asked_for_no_block_above_its_best() -> None:
    best = {b"\1" * 32: RANGE_BLOCKS + 3, b"\2" * 32: 2}
    peers = [peer(identity[0], height) for identity, height in best.items()]
    asks = all_asks(planner(*peers), peers)
    assert all(ask.end <= best[ask.peer] + 1 for ask in asks)
    assert max(ask.end for ask in asks) == RANGE_BLOCKS + 4
