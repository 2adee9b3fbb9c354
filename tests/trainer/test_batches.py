"""Which rows a slot trains on is fixed for ever by the seed."""

from __future__ import annotations

import numpy as np
import pytest

from trainer import batches

SEED = bytes(range(32))


def test_a_permutation_has_each_row_once() -> None:
    assert sorted(batches.permutation(SEED, 1437).tolist()) == list(range(1437))


def test_the_stream_is_pinned() -> None:
    # Numbers of the protocol: if these change, old rounds can no longer be audited.
    assert batches.permutation(SEED, 10).tolist() == PINNED_PERMUTATION
    assert batches.slot_rows(SEED, 3, 2, 1, 4, 1000).tolist() == PINNED_ROWS


def test_the_slots_of_a_round_share_no_row_while_rows_last() -> None:
    rows = np.concatenate([batches.slot_rows(SEED, 0, 0, slot, 128, 1437) for slot in range(4)])
    assert len(set(rows.tolist())) == 4 * 128


def test_a_round_takes_each_row_once_before_any_twice() -> None:
    rows = np.concatenate([batches.slot_rows(SEED, 0, 0, slot, 6, 10) for slot in range(5)])
    epochs = rows.reshape(3, 10)
    assert [sorted(epoch) for epoch in epochs.tolist()] == [list(range(10))] * 3
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 3


@pytest.mark.parametrize("count", [1, 4, 7, 10])
@pytest.mark.parametrize("size", [1, 3, 10, 35])
def test_a_slot_s_rows_are_those_of_the_epochs_that_it_reaches_into(size: int, count: int) -> None:
    seed = batches.attempt_seed(SEED, 5, 1)
    stream = np.random.Philox(key=np.frombuffer(seed[:16], dtype="<u8").astype(np.uint64))
    epochs = [stream.random_raw(count) for _ in range(0, 6 * size, count)]
    order = np.concatenate([np.argsort(epoch, kind="stable") for epoch in epochs])
    for slot in range(6):
        expected = order[slot * size : (slot + 1) * size]
        assert batches.slot_rows(SEED, 5, 1, slot, size, count).tolist() == expected.tolist()


def test_attempts_rounds_and_tasks_see_other_orders() -> None:
    orders = {
        tuple(batches.slot_rows(seed, round_, attempt, 0, 20, 1000))
        for seed in (SEED, bytes(32))
        for round_ in range(3)
        for attempt in range(2)
    }
    assert len(orders) == 12


PINNED_PERMUTATION = [4, 7, 2, 8, 6, 3, 0, 9, 5, 1]
PINNED_ROWS = [424, 299, 794, 900]
