"""Draws: nobody can choose them, everybody has the same chance, and work is spread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from chain.primitives.hashing import blake2_256
from runtime.modules import training_draws, training_silos, training_workers
from runtime.modules.training_draws import Draws, draw_auditors
from runtime.testing import ALICE, TestChain
from tests.runtime.training_kit import terms

ACCOUNTS = [blake2_256(bytes((index,))) for index in range(20)]


def one_seat_each(count: int) -> list[tuple[bytes, int]]:
    return [(account, 1) for account in ACCOUNTS[:count]]


def assign_slots(
    draws: Draws, free: Sequence[tuple[bytes, int]], slots: int, kept: Sequence[bytes | None] = ()
) -> list[bytes]:
    """The draw among workers all of whose seats are free."""
    owners = [(account, number) for account, count in free for number in range(count)]
    counts = dict(free)
    return training_draws.assign_slots(
        draws, len(owners), owners.__getitem__, lambda account: counts.get(account, 0), slots, kept
    )


def draws(seed: int = 0, *, task: int = 0, round_: int = 0, attempt: int = 0, label: bytes = b"slots") -> Draws:
    return Draws(blake2_256(seed.to_bytes(8, "little")), task, round_, attempt, label)


def sequence(stream: Draws) -> list[int]:
    return [stream.below(1 << 64) for _ in range(9)]


def test_a_stream_depends_on_every_one_of_its_inputs() -> None:
    streams = [
        draws(),
        draws(1),
        draws(task=1),
        draws(round_=1),
        draws(attempt=1),
        draws(label=b"auditors"),
    ]
    sequences = [sequence(stream) for stream in streams]
    assert len({tuple(values) for values in sequences}) == len(sequences)
    assert sequence(draws()) == sequences[0]


def test_a_stream_never_repeats_its_words() -> None:
    stream = draws()
    assert len({stream.below(1 << 64) for _ in range(1000)}) == 1000


@given(bound=st.integers(1, 1 << 64), seed=st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_a_draw_lies_below_its_bound(bound: int, seed: int) -> None:
    assert 0 <= draws(seed).below(bound) < bound


def test_a_bound_that_does_not_divide_the_range_is_drawn_without_bias() -> None:
    bound = 3 * (1 << 62)  # a bare modulo would draw the lowest third twice as often
    low = sum(draws(seed).below(bound) < 1 << 62 for seed in range(1500))
    assert 420 < low < 580  # expected 500, standard deviation 18


def test_every_order_of_three_is_equally_likely() -> None:
    counts = Counter(tuple(draws(seed).sample("abc", 3)) for seed in range(1200))
    assert len(counts) == 6
    assert all(140 < count < 260 for count in counts.values())  # expected 200, standard deviation 13


@given(bound=st.integers(0, 60), seed=st.integers(0, 1000), data=st.data())
@settings(max_examples=50, deadline=None)
def test_a_shuffle_that_remembers_what_was_moved_is_that_of_a_whole_list(
    bound: int, seed: int, data: st.DataObject
) -> None:
    count = data.draw(st.integers(0, bound))
    pool, stream = list(range(bound)), draws(seed)
    for index in range(count):
        other = index + stream.below(bound - index)
        pool[index], pool[other] = pool[other], pool[index]
    assert list(draws(seed).shuffled(bound, count)) == pool[:count]


def test_a_draw_looks_at_a_bounded_number_of_seats_however_many_there_are() -> None:
    looked: list[int] = []

    def owner(seat: int) -> tuple[bytes, int]:
        looked.append(seat)
        return seat.to_bytes(32), 0

    # One seat in four is free, and enough of them are found.
    assigned = training_draws.assign_slots(
        draws(), 1 << 16, owner, lambda account: int(account[-1] % 4 == 0), 32, looked_at_max=256
    )
    assert len(assigned) == len(set(assigned)) == 32
    assert len(looked) == len(set(looked)) <= 256
    looked.clear()
    assert training_draws.assign_slots(draws(), 1 << 16, owner, lambda _: 0, 32, looked_at_max=256) == []
    assert len(looked) == 256


@given(workers=st.integers(1, 20), slots=st.integers(1, 64), seed=st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_a_round_has_as_many_slots_as_there_are_seats_and_nobody_has_one_twice(
    workers: int, slots: int, seed: int
) -> None:
    assigned = assign_slots(draws(seed), one_seat_each(workers), slots)
    assert len(assigned) == len(set(assigned)) == min(workers, slots)
    assert set(assigned) <= set(ACCOUNTS[:workers])


def test_every_worker_is_drawn_for_a_slot_equally_often() -> None:
    counts = Counter(assign_slots(draws(seed), one_seat_each(4), 1)[0] for seed in range(1200))
    assert all(240 < counts[worker] < 360 for worker in ACCOUNTS[:4])  # expected 300, standard deviation 15


def test_a_worker_is_drawn_as_often_as_it_has_seats() -> None:
    seats = [(ACCOUNTS[0], 3), (ACCOUNTS[1], 1)]
    counts = Counter(assign_slots(draws(seed), seats, 1)[0] for seed in range(1200))
    assert 840 < counts[ACCOUNTS[0]] < 960  # expected 900, standard deviation 15


def test_nobody_is_drawn_more_often_for_how_it_came_by_its_seats() -> None:
    """Coming early or late, growing, leaving and coming back again and again: what counts are seats that are free."""
    chain = TestChain()
    chain.call(ALICE, "training.create_task", **terms())
    training = chain.modules.training
    steady, grown, restless, late, busy = ACCOUNTS[:5]

    def join(account: bytes, capacity: int) -> None:
        training_workers.activate(training, account, capacity)

    join(restless, 4)
    join(steady, 4)
    join(busy, 4)
    for capacity in (1, 2, 4):
        join(grown, capacity)
        training_workers.deactivate(training, restless)
        join(restless, 4)
    training_workers.deactivate(training, busy)
    join(busy, 6)
    join(late, 4)
    training_workers.take(training, [busy] * 3)
    free = {steady: 4, grown: 4, restless: 4, late: 4, busy: 4}  # of six, with one given back
    counts, slots_max = Counter[bytes](), training_silos.slots_max(training, 0)
    for seed in range(1500):
        drawn = training_workers.draw(training, 0, draws(seed), [busy], (), slots_max, None).workers
        assert len(drawn) == 4
        assert not Counter(drawn) - Counter(free)
        counts.update(drawn)
    # Expected 1200; standard deviation 29, since nobody has more than half of a round.
    assert all(1085 < counts[account] < 1315 for account in free)


@given(
    counts=st.lists(st.integers(1, 16), min_size=1, max_size=10), slots=st.integers(1, 64), seed=st.integers(0, 1000)
)
@settings(max_examples=100, deadline=None)
def test_nobody_has_more_than_its_seats_or_half_of_a_round_while_others_have_seats_left(
    counts: list[int], slots: int, seed: int
) -> None:
    seats = dict(zip(ACCOUNTS, counts, strict=False))
    assigned = Counter(assign_slots(draws(seed), list(seats.items()), slots))
    assert sum(assigned.values()) == min(slots, sum(counts))
    for account, count in assigned.items():
        assert count <= seats[account]
        others_are_taken = all(assigned[other] == seats[other] for other in seats if other != account)
        assert others_are_taken or count <= (slots + 1) // 2


@given(validators=st.integers(1, 20), count=st.integers(1, 20), seed=st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_auditors_differ_from_each_other_and_from_the_worker(validators: int, count: int, seed: int) -> None:
    worker = ACCOUNTS[0]
    everybody = ACCOUNTS[:validators]
    auditors = draw_auditors(draws(seed), everybody, everybody, worker, count)
    assert len(set(auditors)) == len(auditors) == min(count, validators - 1)
    assert worker not in auditors


def test_who_was_absent_audits_only_when_there_are_too_few_others() -> None:
    worker, absent, *others = ACCOUNTS[:4]
    everybody = ACCOUNTS[:4]
    present = [worker, *others]
    for seed in range(50):
        assert set(draw_auditors(draws(seed), present, everybody, worker, 2)) == set(others)
        assert set(draw_auditors(draws(seed), present, everybody, worker, 3)) == {absent, *others}


@given(seed=st.integers(0, 1000), slots=st.integers(1, 16), data=st.data())
@settings(max_examples=50, deadline=None)
def test_a_slot_that_is_kept_stays_with_its_worker_while_that_has_a_seat(
    seed: int, slots: int, data: st.DataObject
) -> None:
    seats = [(account, data.draw(st.integers(1, 3))) for account in ACCOUNTS[:8]]
    kept = data.draw(st.lists(st.sampled_from([None, *ACCOUNTS[:10]]), max_size=slots))
    left, stays = Counter(dict(seats)), {}
    for index, worker in enumerate(kept):
        if worker is not None and left[worker] > 0:
            left[worker] -= 1
            stays[index] = worker
    assigned = assign_slots(draws(seed), seats, slots, kept)
    assert len(assigned) == min(slots, sum(count for _, count in seats))
    if len(assigned) == slots:
        assert {index: assigned[index] for index in stays} == stays
    assert not Counter(assigned) - Counter(dict(seats))


def test_the_other_slots_of_a_round_are_drawn_beside_those_that_are_kept() -> None:
    kept = [ACCOUNTS[0], None, ACCOUNTS[2], None]
    found = Counter(tuple(assign_slots(draws(seed), one_seat_each(4), 4, kept)) for seed in range(1200))
    others = {
        (ACCOUNTS[0], ACCOUNTS[1], ACCOUNTS[2], ACCOUNTS[3]),
        (ACCOUNTS[0], ACCOUNTS[3], ACCOUNTS[2], ACCOUNTS[1]),
    }
    assert set(found) == others
    assert all(520 < count < 680 for count in found.values())  # expected 600, standard deviation 17
