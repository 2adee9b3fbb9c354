"""The pool keeps the best valid transactions within its limits and hands them out in an order that can be included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from chain.net.messages import TRANSACTION_BYTES_MAX, Transactions, pack, unpack
from chain.pool import (
    AlreadyImported,
    Departure,
    Fate,
    ImmediatelyDropped,
    Pool,
    PoolLimits,
    TemporarilyBanned,
    TooLowPriority,
    _Queue,
)
from chain.primitives.hashing import Hash, blake2_256
from chain.primitives.types import Ed25519Signature, ExtrinsicSignature, Id, encode_extrinsic
from runtime.types import InvalidReason, InvalidTransaction, ValidTransaction, Weight

ALICE, BOB, CHARLIE = (bytes([number]) * 32 for number in (1, 2, 3))
NOW_MS = 1_000_000


def transaction(sender: bytes, nonce: int, tip: int = 0, size: int = 10) -> bytes:
    signature = ExtrinsicSignature(Id(sender), Ed25519Signature(bytes(64)), None, nonce, tip)
    return encode_extrinsic(bytes(size), signature)


def tag(sender: bytes, nonce: int) -> bytes:
    return sender + nonce.to_bytes(4, "little")


def verdict(
    sender: bytes, nonce: int, priority: int = 1, account_nonce: int = 0, longevity: int = 64
) -> ValidTransaction:
    return ValidTransaction(
        sender=sender,
        nonce=nonce,
        account_nonce=account_nonce,
        priority=priority,
        requires=(tag(sender, nonce - 1),) if nonce > account_nonce else (),
        provides=(tag(sender, nonce),),
        longevity=longevity,
        fee=1,
        tip=0,
        weight=Weight(1),
    )


def submit(pool: Pool, sender: bytes, nonce: int, priority: int = 1, *, size: int = 10, **valid: Any) -> bytes:
    raw = transaction(sender, nonce, priority, size)
    assert pool.submit(raw, verdict(sender, nonce, priority, **valid), NOW_MS) == blake2_256(raw)
    return raw


def order(pool: Pool) -> list[tuple[bytes, int]]:
    return [(item.valid.sender, item.valid.nonce) for item in pool.ready()]


class Removals(list[tuple[Hash, Fate]]):
    def __call__(self, departure: Departure) -> None:
        assert (departure.usurper is None) == (departure.fate is not Fate.USURPED)
        self.append((departure.hash, departure.fate))


def test_ready_transactions_come_by_priority_and_each_senders_by_nonce() -> None:
    pool = Pool()
    submit(pool, ALICE, 1, priority=9)
    submit(pool, BOB, 0, priority=5)
    submit(pool, ALICE, 0, priority=1)
    submit(pool, CHARLIE, 0, priority=5)
    assert order(pool) == [(BOB, 0), (CHARLIE, 0), (ALICE, 0), (ALICE, 1)]


def test_a_transaction_behind_a_gap_waits_as_future_until_the_gap_closes() -> None:
    pool = Pool()
    submit(pool, ALICE, 2)
    submit(pool, ALICE, 0)
    assert order(pool) == [(ALICE, 0)]
    assert pool.counts() == (1, 1)
    submit(pool, ALICE, 1)
    assert order(pool) == [(ALICE, 0), (ALICE, 1), (ALICE, 2)]
    assert pool.counts() == (3, 0)


def test_the_ready_order_is_a_copy_that_later_changes_do_not_disturb() -> None:
    pool = Pool()
    first, second = submit(pool, ALICE, 0), submit(pool, ALICE, 1)
    ready = pool.ready()
    assert next(ready).raw == first
    pool.on_block(1, [first, second])
    assert [item.raw for item in ready] == [second]
    assert list(pool.ready()) == []


def test_a_higher_priority_replaces_at_the_same_nonce() -> None:
    departures: list[Departure] = []
    pool = Pool(on_removed=departures.append)
    old = submit(pool, ALICE, 0, priority=5)
    new = submit(pool, ALICE, 0, priority=6)
    assert [item.raw for item in pool.ready()] == [new]
    assert departures == [Departure(blake2_256(old), Fate.USURPED, blake2_256(new))]
    assert pool.bytes_used == len(new)


@pytest.mark.parametrize("priority", [5, 4])
def test_no_higher_priority_is_refused_with_both_priorities(priority: int) -> None:
    pool = Pool()
    old = submit(pool, ALICE, 0, priority=5)
    with pytest.raises(TooLowPriority, match=rf"^Priority is too low: \(5 vs {priority}\)") as caught:
        submit(pool, ALICE, 0, priority=priority, size=11)
    assert caught.value.code == 1014
    assert [item.raw for item in pool.ready()] == [old]


def test_the_same_transaction_is_taken_once() -> None:
    pool = Pool()
    raw = submit(pool, ALICE, 0)
    with pytest.raises(AlreadyImported, match=blake2_256(raw).hex()) as caught:
        submit(pool, ALICE, 0)
    assert caught.value.code == 1013


def test_a_banned_transaction_is_refused_until_the_ban_ends() -> None:
    pool = Pool()
    raw = submit(pool, ALICE, 0)
    pool.ban(blake2_256(raw), NOW_MS - 59_000, "the balance is 0")
    assert len(pool) == 0
    with pytest.raises(TemporarilyBanned, match="refused: the balance is 0; it can be sent again in 1000 ms") as caught:
        pool.precheck(raw, NOW_MS)
    assert caught.value.code == 1012
    assert pool.precheck(raw, NOW_MS + 1000) == blake2_256(raw)


def test_bans_are_forgotten_oldest_first_when_there_are_too_many() -> None:
    pool = Pool(PoolLimits(ban_count_max=2))
    raws = [transaction(ALICE, nonce) for nonce in range(3)]
    for raw in raws:
        pool.ban(blake2_256(raw), NOW_MS, "the balance is 0")
    pool.precheck(raws[0], NOW_MS)
    for raw in raws[1:]:
        with pytest.raises(TemporarilyBanned):
            pool.precheck(raw, NOW_MS)


def test_a_full_pool_lets_a_better_transaction_push_out_the_worst() -> None:
    removals = Removals()
    pool = Pool(PoolLimits(count_max=3), removals)
    submit(pool, ALICE, 0, priority=3)
    worst = submit(pool, ALICE, 1, priority=2)
    submit(pool, BOB, 0, priority=4)
    with pytest.raises(ImmediatelyDropped, match=r"has priority 2; this one has priority 1") as caught:
        submit(pool, CHARLIE, 0, priority=1)
    assert caught.value.code == 1016
    submit(pool, CHARLIE, 0, priority=3)
    assert removals == [(blake2_256(worst), Fate.DROPPED)]
    assert order(pool) == [(BOB, 0), (ALICE, 0), (CHARLIE, 0)]


def test_a_future_transaction_never_pushes_out_a_ready_one_and_goes_first() -> None:
    pool = Pool(PoolLimits(count_max=2))
    submit(pool, ALICE, 0, priority=1)
    submit(pool, BOB, 7, priority=100)
    submit(pool, CHARLIE, 0, priority=1)
    assert order(pool) == [(ALICE, 0), (CHARLIE, 0)]
    with pytest.raises(ImmediatelyDropped):
        submit(pool, BOB, 7, priority=100)


def test_a_full_pool_takes_and_refuses_without_looking_at_every_sender() -> None:
    pool = Pool(PoolLimits(count_max=4000))
    for number in range(4000):
        submit(pool, number.to_bytes(32, "big"), 0, priority=number)
    looked_at = 0
    worth = _Queue.worth

    def counted(queue: _Queue, nonce: int) -> tuple[bool, int, int]:
        nonlocal looked_at
        looked_at += 1
        return worth(queue, nonce)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Queue, "worth", counted)
        for number in range(100):
            submit(pool, (5000 + number).to_bytes(32, "big"), 0, priority=10_000)
            with pytest.raises(ImmediatelyDropped, match="the least of them has priority"):
                submit(pool, ALICE, 0, priority=0)
    assert looked_at < 2000


def test_the_byte_limit_makes_room_for_one_large_transaction_by_several_small() -> None:
    size = len(transaction(ALICE, 0, size=100))
    pool = Pool(PoolLimits(bytes_max=4 * size))
    for nonce in range(4):
        submit(pool, ALICE, nonce, priority=1, size=100)
    submit(pool, BOB, 0, priority=2, size=100 + size)
    assert order(pool) == [(BOB, 0), (ALICE, 0), (ALICE, 1)]
    assert pool.bytes_used == 4 * size
    with pytest.raises(ImmediatelyDropped, match="the pool is full"):
        submit(pool, CHARLIE, 0, priority=100, size=4 * size)
    assert pool.counts() == (3, 0)


def test_a_transaction_that_peers_would_refuse_to_take_is_refused_here() -> None:
    pool = Pool()
    too_long = transaction(ALICE, 0, size=TRANSACTION_BYTES_MAX)
    with pytest.raises(ImmediatelyDropped, match=f"at most {TRANSACTION_BYTES_MAX} bytes.* got {len(too_long)}"):
        pool.precheck(too_long, NOW_MS)
    longest = transaction(ALICE, 0, size=TRANSACTION_BYTES_MAX - (len(too_long) - TRANSACTION_BYTES_MAX))
    assert pool.submit(longest, verdict(ALICE, 0), NOW_MS) == blake2_256(longest)
    assert unpack(pack(Transactions((longest,)))[4:]) == Transactions((longest,))


def test_a_sender_cannot_fill_the_pool_nor_push_out_its_own() -> None:
    pool = Pool(PoolLimits(sender_count_max=2))
    submit(pool, ALICE, 0)
    submit(pool, ALICE, 1)
    with pytest.raises(ImmediatelyDropped, match="the sender has 2 transactions in the pool"):
        submit(pool, ALICE, 2, priority=100)
    submit(pool, ALICE, 1, priority=2)
    small = Pool(PoolLimits(count_max=1))
    submit(small, ALICE, 0, priority=1)
    with pytest.raises(ImmediatelyDropped, match="the pool is full"):
        submit(small, ALICE, 1, priority=100)


def test_a_block_removes_what_it_includes_and_what_it_makes_stale() -> None:
    removals = Removals()
    pool = Pool(on_removed=removals)
    included = submit(pool, ALICE, 0)
    submit(pool, ALICE, 1)
    rival = submit(pool, BOB, 0)
    submit(pool, BOB, 2)
    inherent = encode_extrinsic(b"\1\0")
    elsewhere = [transaction(BOB, 0, tip=7), transaction(BOB, 1), transaction(CHARLIE, 0)]
    pool.on_block(1, [inherent, included, *elsewhere, b"\xff"])
    assert order(pool) == [(ALICE, 1), (BOB, 2)]
    assert removals == [(blake2_256(included), Fate.INCLUDED), (blake2_256(rival), Fate.INVALID)]


def test_a_verdict_expires_with_its_longevity() -> None:
    pool = Pool()
    pool.on_block(10, [])
    submit(pool, ALICE, 0, longevity=2)
    pool.on_block(11, [])
    assert order(pool) == [(ALICE, 0)]
    pool.on_block(12, [])
    assert order(pool) == []


def test_a_used_nonce_is_refused_and_the_accounts_nonce_never_moves_back() -> None:
    pool = Pool()
    submit(pool, ALICE, 5, account_nonce=5)
    with pytest.raises(ImmediatelyDropped, match="nonce 4 is used, the account's next is 5"):
        submit(pool, ALICE, 4, account_nonce=4)
    submit(pool, ALICE, 8, account_nonce=8)
    assert order(pool) == [(ALICE, 8)]


def test_a_verdict_from_before_a_block_does_not_bring_back_a_nonce_that_it_used() -> None:
    pool = Pool()
    pool.on_block(1, [transaction(ALICE, 0), transaction(ALICE, 1), transaction(BOB, 0)])
    for sender, nonce in ((ALICE, 0), (ALICE, 1), (BOB, 0)):
        with pytest.raises(ImmediatelyDropped, match=rf"nonce {nonce} is used"):
            submit(pool, sender, nonce, priority=5)
    submit(pool, ALICE, 2)
    assert order(pool) == [(ALICE, 2)]


def test_the_next_nonce_is_behind_the_ready_ones() -> None:
    pool = Pool()
    assert pool.next_nonce(ALICE, 3) == 3
    for nonce in (3, 4, 6):
        submit(pool, ALICE, nonce, account_nonce=3)
    assert pool.next_nonce(ALICE, 3) == 5
    assert pool.next_nonce(ALICE, 6) == 7
    assert pool.next_nonce(BOB, 0) == 0


def test_revalidation_drops_and_bans_the_invalid_and_renews_the_others() -> None:
    removals = Removals()
    pool = Pool(on_removed=removals)
    poor, rich = submit(pool, ALICE, 0), submit(pool, BOB, 0, longevity=2)
    after = submit(pool, ALICE, 1)
    pool.on_block(1, [])

    def validate(raw: bytes) -> ValidTransaction:
        if raw == poor:
            raise InvalidTransaction(InvalidReason.PAYMENT, "the balance is 0, the fee 1")
        return verdict(BOB, 0, longevity=2) if raw == rich else verdict(ALICE, 1)

    pool.revalidate(validate, NOW_MS)
    assert removals == [(blake2_256(poor), Fate.INVALID)]
    assert order(pool) == [(BOB, 0)]
    assert pool.counts() == (1, 1)
    assert blake2_256(after) in pool
    with pytest.raises(
        TemporarilyBanned, match="refused: the balance is 0, the fee 1; it can be sent again in 60000 ms"
    ):
        pool.precheck(poor, NOW_MS)
    pool.on_block(2, [])
    assert blake2_256(rich) in pool


def test_revalidation_goes_round_the_pool_the_oldest_verdict_first() -> None:
    pool = Pool()
    for nonce in range(5):
        submit(pool, ALICE, nonce)
    seen: list[int] = []

    def validate(raw: bytes) -> ValidTransaction:
        item = pool.get(blake2_256(raw))
        assert item is not None
        seen.append(item.valid.nonce)
        return item.valid

    for _ in range(3):
        pool.revalidate(validate, NOW_MS, count_max=2)
    assert seen == [0, 1, 2, 3, 4, 0]


def test_a_verdict_on_what_left_meanwhile_changes_nothing() -> None:
    pool = Pool()
    raw = submit(pool, ALICE, 0)
    due = pool.due(10)
    pool.on_block(1, [raw])
    pool.settle([(due[0], InvalidTransaction(InvalidReason.STALE, "nonce 0 is used"))], NOW_MS)
    assert len(pool) == 0
    pool.precheck(raw, NOW_MS)


def test_a_transaction_can_be_looked_up() -> None:
    pool = Pool()
    raw = submit(pool, ALICE, 0)
    found = pool.get(blake2_256(raw))
    assert found is not None
    assert found.raw == raw
    assert pool.hashes() == [found.hash]
    assert pool.get(bytes(32)) is None


def test_who_waits_for_a_transaction_is_told_where_in_its_block_it_is() -> None:
    departures: list[Departure] = []
    pool = Pool(on_removed=departures.append)
    first, second = submit(pool, ALICE, 0), submit(pool, BOB, 0)
    pool.on_block(1, [b"inherent", second, first])
    assert departures == [
        Departure(blake2_256(second), Fate.INCLUDED, index=1),
        Departure(blake2_256(first), Fate.INCLUDED, index=2),
    ]


class AnyHistory(RuleBasedStateMachine):
    """Whatever happens, the limits hold, and what is ready is what a dumb search finds ready."""

    limits = PoolLimits(count_max=6, bytes_max=900, sender_count_max=4)

    @initialize()
    def start(self) -> None:
        self.held: dict[Hash, ValidTransaction] = {}
        self.pool = Pool(self.limits, lambda departure: self.held.__delitem__(departure.hash))
        self.nonces = dict.fromkeys((ALICE, BOB, CHARLIE), 0)
        self.height = 0

    @rule(
        sender=st.sampled_from([ALICE, BOB, CHARLIE]),
        ahead=st.integers(0, 4),
        priority=st.integers(0, 5),
        size=st.integers(0, 200),
    )
    def submit(self, sender: bytes, ahead: int, priority: int, size: int) -> None:
        nonce = self.nonces[sender] + ahead
        raw = transaction(sender, nonce, priority, size)
        valid = verdict(sender, nonce, priority, self.nonces[sender], longevity=3)
        before = dict(self.held)
        try:
            found = self.pool.submit(raw, valid, NOW_MS)
        except (AlreadyImported, TooLowPriority, ImmediatelyDropped):
            assert self.held == before
            return
        self.held[found] = valid

    @rule(count=st.integers(0, 3))
    def seal(self, count: int) -> None:
        block = [item.raw for item, _ in zip(self.pool.ready(), range(count), strict=False)]
        for item, _ in zip(self.pool.ready(), range(count), strict=False):
            assert item.valid.nonce == self.nonces[item.valid.sender]
            self.nonces[item.valid.sender] += 1
        self.height += 1
        self.pool.on_block(self.height, block)

    @invariant()
    def the_limits_hold(self) -> None:
        assert len(self.pool) == len(self.held) <= self.limits.count_max
        sizes = [len(item.raw) for item in map(self.pool.get, self.held) if item is not None]
        assert self.pool.bytes_used == sum(sizes) <= self.limits.bytes_max

    @invariant()
    def ready_is_what_a_dumb_search_finds(self) -> None:
        expected: list[ValidTransaction] = []
        nonces = dict(self.nonces)
        while fitting := [item for item in self.held.values() if item.nonce == nonces[item.sender]]:
            best = max(fitting, key=lambda item: item.priority)
            expected.append(best)
            nonces[best.sender] += 1
        assert [item.valid.priority for item in self.pool.ready()] == [item.priority for item in expected]
        assert self.pool.counts() == (len(expected), len(self.held) - len(expected))
        for sender, nonce in nonces.items():
            assert self.pool.next_nonce(sender, self.nonces[sender]) == nonce

    @invariant()
    def evictions_go_in_the_order_that_a_dumb_search_finds(self) -> None:
        for but in (ALICE, CHARLIE):
            left = [item for found in self.held if (item := self.pool.get(found)) and item.valid.sender != but]
            expected = []
            while left:
                last = {item.valid.sender: item for item in sorted(left, key=lambda item: item.valid.nonce)}
                ready = {item.hash for item in self.pool.ready()}
                expected.append(min(last.values(), key=lambda item: (item.hash in ready, *item.rank)))
                left.remove(expected[-1])
            assert [item for _, item in self.pool._least_worthy(but)] == expected


TestAnyHistory: Callable[..., Any] = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)  # type: ignore[attr-defined]
