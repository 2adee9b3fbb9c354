"""`potchain task admit`, `expel` and `silos`, and the files of a worker that is a silo: who trains a federated task.

Rule: of a silo's file the command line knows the name alone; it is opened by the worker that trains on it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import trio
import typer

from chain.cli_common import DEFAULT_RPC, EXIT_FAILED, NodeOption, TaskId, UserError
from chain.cli_connect import connected, connected_to_sign
from chain.cli_how import GenesisOption
from chain.cli_secrets import KeyOption, takes_key
from chain.display import token_of
from chain.primitives import ss58
from chain.primitives.keys import Keypair
from chain.wallet.known import Known
from runtime.modules.training import Training
from runtime.modules.training_policy import SAMPLES_MAX
from runtime.modules.training_types import CAPACITY_MAX

Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="Address of the silo's account (SS58).")]
Data = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TASK=FILE",
        help="Train a federated task on the arrays x and y of a .npz file, which stays on this machine, and nothing "
        "else. May be given for several tasks.",
        show_default=False,
    ),
]


def silo_files(given: Sequence[str]) -> dict[int, Path]:
    """The file for each task, of `--data TASK=FILE` options."""
    found: dict[int, Path] = {}
    for text in given:
        number, _, name = text.partition("=")
        if not (number.isascii() and number.isdecimal() and len(number) < 10 and name):
            raise UserError(f"--data: expected a task's number and a file, such as 3=clinic.npz, got {text[:80]!r}")
        if int(number) in found:
            raise UserError(f"--data: task {number} is given two files; expected one")
        found[int(number)] = Path(name)
        if not found[int(number)].is_file():
            raise UserError(f"--data: there is no file {name}")
    if len(found) > CAPACITY_MAX:
        raise UserError(f"--data: a worker serves at most {CAPACITY_MAX} tasks at once, got {len(found)}: run another")
    return found


@takes_key
def admit_silo(
    task: TaskId,
    address: Address,
    key: KeyOption,
    samples: Annotated[int, typer.Option(min=1, max=SAMPLES_MAX, help="How many samples it may say it has, at most.")],
    genesis: GenesisOption = None,
    node: NodeOption = DEFAULT_RPC,
) -> None:
    """Let an account contribute to a federated task of yours, or change how many samples it may have."""
    done = f"is admitted to task {task} with up to {samples:,} samples"
    tell = partial(_tell, node, Known.of(genesis), key.keypair())
    trio.run(partial(tell, "training.admit_silo", task, address, done, samples_max=samples))


@takes_key
def expel_silo(
    task: TaskId, address: Address, key: KeyOption, genesis: GenesisOption = None, node: NodeOption = DEFAULT_RPC
) -> None:
    """Let a silo contribute to a federated task of yours no more."""
    done = f"is expelled from task {task}: it has no slot in the rounds that follow"
    trio.run(partial(_tell, node, Known.of(genesis), key.keypair(), "training.expel_silo", task, address, done))


async def _tell(
    node: str, known: Known, owner: Keypair, call: str, task: int, address: str, done: str, **more: Any
) -> None:
    async with connected_to_sign(node, known, Training) as client:
        _, prefix = await token_of(client)
        silo = ss58.decode(address.strip(), prefix)
        receipt = await client.transact(owner, call, task=task, silo=silo, **more)
    if not receipt.ok:
        print(f"error: {call} failed in block {receipt.height}: {receipt.error}", file=sys.stderr)
        raise typer.Exit(EXIT_FAILED)
    print(f"{address} {done}")


def list_silos(task: TaskId, node: NodeOption = DEFAULT_RPC) -> None:
    """List who may contribute to a federated task, and what became of what each contributed to all its tasks."""
    trio.run(_list, node, task)


async def _list(node: str, task: int) -> None:
    # Imported here: every node loads this file, and none of them prints a table.
    from rich.console import Console
    from rich.table import Table

    async with connected(node) as client:
        found = await client.request("training_task", task)
        token, prefix = await token_of(client)
        accounts = [ss58.decode(silo["account"], None) for silo in found["silos"]]
        workers = await client.read(lambda chain: [chain.training.workers[account] for account in accounts])
    if "scored" not in found["policy"]["verification"]:
        raise UserError(f"task {task} is none whose data stay with silos: whoever is registered as a worker trains it")
    if not accounts:
        print(f"task {task} has no silos: admit one by `potchain task admit {task} ADDRESS --samples NUMBER`")
        return
    table = Table("silo", "samples", "at most", "accepted", "rejected", "earned", "bond", box=None)
    for silo, account, worker in zip(found["silos"], accounts, workers, strict=True):
        table.add_row(
            ss58.encode(account, prefix),
            f"{silo['samples']:,}",
            f"{silo['samplesMax']:,}",
            str(worker.accepted),
            str(worker.rejected),
            token.format(worker.earned),
            token.format(worker.bond),
        )
    Console().print(table)
