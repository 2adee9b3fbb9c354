"""Try a task that lies in a folder as a worker would: admitted, compiled and computed in the sandbox, on its own data.

Rule: nothing is believed of who wrote the folder; only blobs are read, and programs only ever run in an engine.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trainer import artifact, dataset, optimizers
from trainer.artifact import ArtifactError, Program
from trainer.dataset import Dataset, DatasetError
from trainer.export import ExportError
from trainer.optimizers import OptimizerError
from trainer.sandbox import Evaluation, Warn, open_engine
from trainer.task import Built, Saved, fetch_from


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of one batch and one evaluation of the initial parameters."""

    program: Program
    train_rows: int
    held_out_rows: int
    loss: float
    gradient_norm: float
    batch_seconds: float
    evaluation: Evaluation
    evaluation_seconds: float


async def check(made: Built | Saved, cache_dir: Path, platform: str = "cpu", *, warn: Warn) -> Checked:
    """Compute a batch and an evaluation; ExportError or EngineError says why workers could not."""

    try:
        program = artifact.parse(made.blobs[made.program_root])
        data = await dataset.load(made.dataset_root, program, fetch_from(made))
        theta = optimizers.decode_params(made.blobs[made.params_root], program.parameters)
    except (ArtifactError, DatasetError, OptimizerError) as error:
        raise ExportError(str(error)) from None
    x, y = _sample(data, program)
    async with open_engine(cache_dir, platform, warn=warn) as engine:
        await engine.load(made.program_root, program, made.blobs[made.program_root])
        # What a first call prepares is not what a batch takes.
        await engine.gradient(made.program_root, theta, x, y)
        started = time.perf_counter()
        gradient = await engine.gradient(made.program_root, theta, x, y)
        computed = time.perf_counter()
        evaluation = await engine.evaluate(made.program_root, theta, data.held_out_x, data.held_out_y)
        evaluated = time.perf_counter()
    norm = float(np.linalg.norm(gradient.values.astype(np.float64)))
    if not np.isfinite([gradient.loss, norm, evaluation.loss_sum]).all():
        raise ExportError(
            f"the first batch has loss {gradient.loss} and a gradient of norm {norm}: expected finite numbers; see the "
            "initial parameters and the data's scale"
        )
    return Checked(
        program=program,
        train_rows=data.train_count,
        held_out_rows=data.held_out_count,
        loss=gradient.loss,
        gradient_norm=norm,
        batch_seconds=computed - started,
        evaluation=evaluation,
        evaluation_seconds=evaluated - computed,
    )


def _sample(data: Dataset, program: Program) -> tuple[bytes, bytes]:
    """A batch of the rows to train on, or, where those stay with silos, of held-out ones."""
    if not data.train_count:
        data = replace(
            data,
            train_x=dataset.rows_of(data.held_out_x, program.inputs),
            train_y=dataset.rows_of(data.held_out_y, program.targets),
            train_count=data.held_out_count,
        )
    return data.batch(np.arange(program.batch, dtype=np.int64) % data.train_count)
