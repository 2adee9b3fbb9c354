"""Which rows a slot trains on is fixed for ever by the seed."""

from __future__ import annotations

import numpy as np

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


def test_rows_wrap_around_when_slots_need_more_than_there_are() -> None:
    rows = np.concatenate([batches.slot_rows(SEED, 0, 0, slot, 6, 10) for slot in range(5)])
    assert np.bincount(rows, minlength=10).tolist() == [3] * 10


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
