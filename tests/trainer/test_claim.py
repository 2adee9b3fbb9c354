"""Nobody trains with blobs that are longer than the task's owner pays for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from chain.primitives.hashing import Hash
from tests.trainer.kit import PIXELS, TRAIN, small_task
from tests.trainer.test_follow import TASK
from trainer.choices import ChoiceError
from trainer.files import BlobFiles, MemoryFiles
from trainer.job import Job
from trainer.views import Claim


class Blobs:
    """As much of a node as gives the small task's blobs."""

    async def get_blob(self, root: Hash, bytes_max: int) -> bytes:
        data = small_task().blobs[root]
        assert len(data) <= bytes_max
        return data


def job(path: Path, **changes: int) -> Job:
    made = small_task()
    sizes = {root: len(data) for root, data in made.blobs.items()}
    program, params = sizes.pop(made.program_root), sizes.pop(made.params_root)
    claim = replace(Claim(program, sum(sizes.values()), params // 4), **changes)
    task = replace(TASK, program_root=made.program_root, dataset_root=made.dataset_root, claim=claim)
    return Job(task, cast(Any, Blobs()), BlobFiles(path / "blobs"), MemoryFiles(path / "memories"))


async def test_a_task_whose_blobs_are_as_long_as_claimed_is_trained(tmp_path: Path) -> None:
    program = await job(tmp_path).program()
    assert (await job(tmp_path)._data(program)).train_x.shape == (TRAIN, PIXELS)


async def test_a_program_that_is_longer_or_has_more_parameters_than_claimed_is_refused(tmp_path: Path) -> None:
    size = len(small_task().blobs[small_task().program_root])
    words = "the owner claimed {:,} and pays for no more, got {:,}"
    with pytest.raises(ChoiceError, match="bytes in the program: " + words.format(size - 1, size)):
        await job(tmp_path, program_bytes=size - 1).program()
    with pytest.raises(ChoiceError, match="parameters: " + words.format(649, 650)):
        await job(tmp_path, parameters=649).program()


async def test_a_data_set_that_is_longer_than_claimed_is_refused(tmp_path: Path) -> None:
    whole = job(tmp_path).task.claim.dataset_bytes
    short = job(tmp_path, dataset_bytes=whole - 1)
    with pytest.raises(ChoiceError, match=f"bytes in the data set: the owner claimed {whole - 1:,} and pays"):
        await short._data(await short.program())
