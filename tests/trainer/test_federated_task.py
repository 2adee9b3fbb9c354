"""A task without rows to train on: what is shipped of it, what is refused, and where the line to other tasks runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.trainer.kit import CLASSES, PIXELS, evaluation, loss, small_task
from trainer import dataset
from trainer.dataset import NO_ROWS, DatasetError, Manifest
from trainer.export import ExportError
from trainer.packing import pack, unpack
from trainer.task import Task, build, check_fit

RNG = np.random.default_rng(2)
X, Y = RNG.integers(0, 17, (64, PIXELS)).astype(np.uint8), RNG.integers(0, CLASSES, 64).astype(np.uint8)
TASK = Task(
    "wards",
    loss=loss,
    evaluation=evaluation,
    params={"w": np.zeros((PIXELS, CLASSES), np.float32), "b": np.zeros(CLASSES, np.float32)},
    train=None,
    held_out=(X, Y),
    batch=1_000,
)


async def test_of_a_federated_task_the_rows_that_are_held_out_are_shipped_and_no_others() -> None:
    built = build(TASK)
    assert built.manifest.train == NO_ROWS
    assert set(built.blobs) == {
        built.program_root,
        built.dataset_root,
        built.params_root,
        built.manifest.held_out.x,
        built.manifest.held_out.y,
    }

    async def fetch(root: bytes, bytes_max: int) -> bytes:
        data = built.blobs[root]  # Nothing is asked for that is not there.
        assert len(data) <= bytes_max
        return data

    loaded = await dataset.load(built.dataset_root, built.program, fetch)
    assert (loaded.train_count, loaded.held_out_count, loaded.held_out_x) == (0, 64, X.tobytes())
    check_fit(built, 64, 4_096 // 64, federated=True)
    with pytest.raises(
        ExportError, match="wards: there are no rows to train on: expected `train`, or contributions that"
    ):
        check_fit(built, 1, 1, federated=False)
    with pytest.raises(ExportError, match="take fewer local steps or smaller batches"):
        check_fit(built, 1, 60_000, federated=True)


def test_rows_to_train_on_have_no_place_in_a_federated_task() -> None:
    built = build(replace(TASK, train=(X, Y), batch=32))
    with pytest.raises(ExportError, match="wards: there are 64 rows to train on, which would be public"):
        check_fit(built, 1, 1, federated=True)


def test_no_rows_have_one_spelling() -> None:
    held_out = dataset.parse(small_task().blobs[small_task().dataset_root]).held_out
    data = dataset.encode(Manifest(NO_ROWS, held_out))
    assert dataset.encode(dataset.parse(data)) == data
    for changes in ({"x": b"\1" * 32}, {"y": b"\1" * 32}, {"count": 1, "x": b""}):
        value = unpack(data)
        value["train"].update(changes)
        with pytest.raises(DatasetError, match=r"dataset\.train"):
            dataset.parse(pack(value))
    with pytest.raises(DatasetError, match=r"dataset\.held_out\.count: expected an integer from 1"):
        dataset.parse(dataset.encode(Manifest(held_out, NO_ROWS)))
