"""`potchain task export` and `potchain task check`: a task's files, made and tried without a node."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import trio
import typer

from chain.cli_calibrate import calibrated
from chain.cli_common import UserError
from chain.cli_terms import with_terms
from chain.display import LABEL_COLUMNS, put, say
from chain.terms import Terms, TermsError, by_flag, by_name, resolve
from runtime.modules.training_sizes import MIB, model_bytes, running_bytes

if TYPE_CHECKING:
    from trainer.task import Built, Saved, Task

SourceArgument = Annotated[
    Path,
    typer.Argument(
        metavar="SOURCE",
        help="A Python file that defines `task`, or a folder of `potchain task export`.",
        exists=True,
    ),
]
PlatformOption = Annotated[
    str, typer.Option(metavar="PLATFORM", help="What computes it here beside CPUs: cpu, cuda or tpu.")
]


def export_task(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A Python file that defines `task`; see docs/examples.", exists=True, dir_okay=False
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder to write, which is made.")],
) -> None:
    """Make a task's files: run FILE, export its model, see that workers will admit it."""
    # Imported here: the trainer is for who trains, and a node's command line must start quickly.
    from trainer import task as tasks

    if output.exists() and any(output.iterdir()):
        raise UserError(f"{output} is not empty and is left as it is; choose another folder with -o")
    task = read_source(file)
    assert not isinstance(task, tasks.Saved)
    terms = terms_of(task, {})
    built = _built(task)
    tasks.save(built, output)
    for line in (*_described(built), _storage_line(built, terms)):
        put(line, LABEL_COLUMNS)
    put(f"wrote {output}: {sum(map(len, built.blobs.values())):,} bytes; try it: potchain task check {output}")


def read_source(source: Path) -> Task | Saved:
    """The task of a user's file, which is run, or of a folder that was exported before."""
    from trainer import task as tasks
    from trainer.export import ExportError

    try:
        if source.is_dir():
            return tasks.load(source)
        say("task", f"running {source}")
        return tasks.read(source)
    except ExportError as error:
        raise UserError(str(error)) from None


def terms_of(task: Task | Saved, flags: Mapping[str, str | None]) -> Terms:
    """What a task is to be trained by: options first, then what its file says."""
    try:
        return resolve(by_flag(flags), by_name(task.terms, f"terms of {task.name}: "))
    except TermsError as error:
        raise UserError(str(error)) from None


def made_of(task: Task | Saved, terms: Terms) -> Built | Saved:
    """A task as it is shipped, which has rows for every slot of its rounds and no blob that nodes would not fetch."""
    from chain.tasks import TaskRefused, ensure_fetched
    from trainer import task as tasks
    from trainer.export import ExportError

    made = task if isinstance(task, tasks.Saved) else _built(task)
    try:
        policy = terms.policy
        tasks.check_fit(made, policy.slots, policy.batches, federated=policy.is_federated)
        ensure_fetched(made, terms.optimizer)
    except (ExportError, TaskRefused) as error:
        raise UserError(str(error)) from None
    return made


def _built(task: Task) -> Built:
    """A task's blobs."""
    from trainer import task as tasks
    from trainer.export import ExportError

    say("task", f"exporting {task.name} for cpu, cuda and tpu")
    try:
        return tasks.build(task)
    except ExportError as error:
        raise UserError(str(error)) from None


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


def _storage_line(made: Built | Saved, terms: Terms) -> str:
    """What nodes keep of a task by these terms, whatever their chain asks for it."""
    from chain.tasks import claim_of

    claim = claim_of(made)
    running = running_bytes(claim, terms.optimizer, terms.policy)
    return (
        f"storage     nodes keep {running / MIB:,.1f} MiB while it runs with {terms.policy.slots} slots, and "
        f"{model_bytes(claim) / MIB:,.1f} MiB after it; `potchain task new --dry-run` says what that costs"
    )


@with_terms
def check_task(
    source: SourceArgument,
    platform: PlatformOption = "cpu",
    **flags: str | None,
) -> None:
    """Try a task as a worker would, in the sandbox: a batch, an evaluation, and whether audits find who cheats.

    The options are those of `task new`, which does the same before it asks.
    """
    from trainer.check import check
    from trainer.export import ExportError
    from trainer.sandbox import EngineError

    task = read_source(source)
    terms = terms_of(task, flags)
    made = made_of(task, terms)
    try:
        with tempfile.TemporaryDirectory() as cache:
            say("task", f"compiling {made.name} in the sandbox")
            found = trio.run(lambda: check(made, Path(cache), platform, warn=lambda line: say("task", line)))
    except (ExportError, EngineError) as error:
        raise UserError(f"workers would not train this task: {error}") from None
    rows = found.program.batch
    put(
        f"a batch     loss {found.loss:.4f}, gradient of norm {found.gradient_norm:.3g}, {found.batch_seconds:.2f} s: "
        f"{rows / max(found.batch_seconds, 1e-9):,.0f} rows a second here",
        LABEL_COLUMNS,
    )
    put(
        f"evaluation  loss {found.evaluation.loss_sum / found.held_out_rows:.4f}, "
        f"{found.evaluation.correct / found.held_out_rows:.2%} right of {found.held_out_rows:,} rows, "
        f"{found.evaluation_seconds:.2f} s",
        LABEL_COLUMNS,
    )
    trio.run(calibrated, made, terms, platform)
    put(_storage_line(made, terms), LABEL_COLUMNS)
    print("workers admit this task")
