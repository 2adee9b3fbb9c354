"""`potchain task export` and `potchain task check`: a task's files, made and tried without a node."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import trio
import typer

from chain.cli_common import UserError
from chain.display import say

if TYPE_CHECKING:
    from trainer.task import Built

FolderArgument = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="A folder that `potchain task export` wrote.", exists=True)
]


def export_task(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A Python file that defines `task`; see docs/examples.", exists=True),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder to write, which is made.")],
) -> None:
    """Make a task's files: run FILE, export its model, see that workers will admit it."""
    # Imported here: the trainer is for who trains, and a node's command line must start quickly.
    from trainer import task as tasks
    from trainer.export import ExportError

    if output.exists() and any(output.iterdir()):
        raise UserError(f"{output} is not empty and is left as it is; choose another folder with -o")
    try:
        say("task", f"running {file}")
        task = tasks.read(file)
        say("task", f"exporting {task.name} for cpu, cuda and tpu")
        built = tasks.build(task)
    except ExportError as error:
        raise UserError(str(error)) from None
    tasks.save(built, output)
    for line in _described(built):
        print(line)
    print(f"wrote {output}: {sum(map(len, built.blobs.values())):,} bytes; try it: potchain task check {output}")


def _described(built: Built) -> list[str]:
    program, costs = built.program, built.costs
    gradient, evaluate = costs.gradient, costs.evaluate
    return [
        f"program     0x{built.program_root.hex()}  {len(built.blobs[built.program_root]):,} bytes",
        f"parameters  {program.parameters:,} in {len(program.layout)} tensors",
        f"data        {built.manifest.train.count:,} rows to train on, {built.manifest.held_out.count:,} held out",
        f"a batch     {program.batch} rows: at most {gradient.flops / 1e9:.3g} GFLOP and "
        f"{gradient.memory_bytes / 2**20:,.0f} MiB",
        f"evaluation  {program.evaluate_batch} rows at once: at most {evaluate.flops / 1e9:.3g} GFLOP and "
        f"{evaluate.memory_bytes / 2**20:,.0f} MiB",
    ]


def check_task(
    folder: FolderArgument,
    platform: Annotated[str, typer.Option(metavar="PLATFORM", help="cpu, cuda or tpu.")] = "cpu",
) -> None:
    """Try a task as a worker would: in the sandbox, one batch and one evaluation."""
    from trainer import task as tasks
    from trainer.check import check
    from trainer.export import ExportError
    from trainer.sandbox import EngineError

    try:
        saved = tasks.load(folder)
        with tempfile.TemporaryDirectory() as cache:
            say("task", f"compiling {saved.name} in the sandbox")
            found = trio.run(lambda: check(saved, Path(cache), platform, warn=lambda line: say("task", line)))
    except (ExportError, EngineError) as error:
        raise UserError(f"workers would not train this task: {error}") from None
    rows = found.program.batch
    print(
        f"a batch     loss {found.loss:.4f}, gradient of norm {found.gradient_norm:.3g}, {found.batch_seconds:.2f} s: "
        f"{rows / max(found.batch_seconds, 1e-9):,.0f} rows a second here"
    )
    print(
        f"evaluation  loss {found.evaluation.loss_sum / found.held_out_rows:.4f}, "
        f"{found.evaluation.correct / found.held_out_rows:.2%} right of {found.held_out_rows:,} rows, "
        f"{found.evaluation_seconds:.2f} s"
    )
    print("workers admit this task")
