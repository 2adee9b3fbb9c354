"""What a command says while a task's audits are measured, and of what came of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from chain.cli_common import UserError
from chain.display import LABEL_COLUMNS, Progress, put, say, time_left
from chain.terms import Terms

if TYPE_CHECKING:
    from trainer.task import Built, Saved


async def calibrated(made: Built | Saved, terms: Terms, platform: str) -> Terms:
    """Terms with a tolerance that was measured; UserError says why the task cannot be audited, or not be computed."""
    # Imported here: the trainer is for who trains, and a node's command line must start quickly.
    from trainer.calibration import Uncalibratable
    from trainer.export import ExportError
    from trainer.sandbox import EngineError
    from trainer.settling import described, settle

    progress = Progress()
    if not terms.policy.is_federated:
        say("task", f"measuring how far honest workers of {made.name} differ, and whether audits find cheats")
    started: list[float] = []

    def show(done: int, total: int) -> None:
        if not done:
            started.append(time.monotonic())
            progress.show("compiling in the sandbox")
            return
        left = (time.monotonic() - started[-1]) / done * (total - done)
        progress.show(f"computed {done:,} of {total:,} batches, {time_left(left)}")

    try:
        terms, found = await settle(made, terms, platform, warn=lambda line: progress.say("task", line), progress=show)
    except (ExportError, EngineError) as error:
        raise UserError(f"workers would not train this task: {error}") from None
    except Uncalibratable as error:
        raise UserError(f"this task cannot be audited: {error}, or choose --tolerance yourself") from None
    finally:
        progress.clear()
    for line in described(found, terms, platform):
        put(line, LABEL_COLUMNS)
    return terms
