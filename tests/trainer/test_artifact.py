"""Program artifacts are read strictly, and carry nothing of the machine that built them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from chain.primitives.blob import blob_root
from tests.trainer.kit import small_task
from trainer import artifact, export, model, optimizers, packing
from trainer.artifact import ArtifactError


def test_a_program_survives_its_blob() -> None:
    program = small_task().program
    assert artifact.parse(artifact.encode(program)) == program


def test_a_program_says_nothing_about_who_built_it() -> None:
    for exported in (small_task().program.gradient, small_task().program.evaluate):
        assert b"kit" not in exported
        assert b"site-packages" not in exported


def changed(**changes: object) -> bytes:
    return packing.pack({**packing.unpack(artifact.encode(small_task().program)), **changes})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        changed(version=2),
        changed(parameters=649),
        changed(parameters=True),
        changed(batch=0),
        changed(batch=artifact.BATCH_MAX + 1),
        changed(inputs={"shape": [64], "dtype": "object"}),
        changed(inputs={"shape": [-1], "dtype": "uint8"}),
        changed(inputs={"shape": [1] * 9, "dtype": "uint8"}),
        changed(inputs={"shape": [2**12, 2**13], "dtype": "uint8"}),
        changed(layout=[]),
        changed(layout=[["b", [10], 0], ["w", [64, 10], 11]]),
        changed(layout=[["b", [10], 0], ["b", [64, 10], 10]]),
        changed(layout=[["b\n", [10], 0], ["w", [64, 10], 10]]),
        changed(layout=[["b", [10], 0, 0], ["w", [64, 10], 10]]),
        changed(gradient="text"),
        changed(more=1),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ArtifactError):
        artifact.parse(data)


def test_a_model_is_written_with_its_names_and_shapes(tmp_path: Path) -> None:
    task = small_task()
    file = tmp_path / "model.safetensors"
    program, params = task.blobs[task.program_root], task.blobs[task.params_root]
    assert model.write_safetensors(file, program, params) == 2
    tensors = load_file(file)
    layout, theta = export.flatten({name: tensors[name] for name in ("b", "w")})
    assert layout == task.program.layout
    assert blob_root(optimizers.encode_params(theta)) == task.params_root
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors"]


def test_a_model_that_is_no_model_leaves_no_file(tmp_path: Path) -> None:
    task = small_task()
    nan = np.full(task.theta.size, np.nan, np.float32).tobytes()
    for params in (b"", nan):
        with pytest.raises(optimizers.OptimizerError):
            model.write_safetensors(tmp_path / "model", task.blobs[task.program_root], params)
    assert list(tmp_path.iterdir()) == []
