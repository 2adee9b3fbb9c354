"""`potchain task`: look at training tasks, watch one, and fetch the model that it trained."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import trio
import typer
from rich.console import Console
from rich.table import Table

from chain.cli_common import DEFAULT_RPC, NodeOption, UserError, token_of
from chain.display import round_line, say
from chain.rpc.client import Client

app = typer.Typer(help="Look at training tasks and fetch models.", no_args_is_help=True)

PARAMETER_BYTES_MAX = 1 << 30  # a quarter of a billion parameters
PROGRAM_BYTES_MAX = 64 << 20

TaskId = Annotated[int, typer.Argument(metavar="ID", help="The task's number, as `potchain task list` shows it.")]


@app.command("list")
def list_tasks(rpc: NodeOption = DEFAULT_RPC) -> None:
    """List the tasks of the chain."""
    trio.run(_list, rpc)


async def _list(rpc: str) -> None:
    async with Client.connect(rpc) as client:
        token, _ = await token_of(client)
        table = Table("id", "name", "status", "round", "loss", "accuracy", "minted", box=None)
        for entry in await client.request("training_tasks"):
            task = await client.request("training_task", entry["id"])
            loss, accuracy = _last(task["loss"]), _last(task["accuracy"])
            table.add_row(
                str(task["id"]),
                task["name"],
                task["status"],
                f"{task['round']}/{task['rounds']}",
                "" if loss is None else f"{loss:.4f}",
                "" if accuracy is None else f"{accuracy:.2%}",
                token.format(task["minted"]),
            )
        Console().print(table)


def _last(series: list[list[Any]]) -> float | None:
    return series[-1][1] if series else None


@app.command()
def watch(task: TaskId, rpc: NodeOption = DEFAULT_RPC) -> None:
    """Print a line for each round of a task until it is completed (or Ctrl-C)."""
    try:
        trio.run(_watch, rpc, task)
    except KeyboardInterrupt:
        raise typer.Exit from None


async def _watch(rpc: str, task_id: int) -> None:
    async with Client.reconnecting([rpc]) as client, client.finalized_heads() as heads:
        token, _ = await token_of(client)
        shown = 0
        async for _ in heads:
            task = await client.request("training_task", task_id)
            if shown == 0 and task["round"] > 1:
                shown = task["round"] - 1  # the latest round at once, then each new one
            while shown < task["round"]:
                say("round", await _round_line(client, task, shown, token.format))
                shown += 1
            if task["status"] == "completed":
                say("task", f"{task['name']} is completed: potchain task fetch {task_id} -o model.safetensors")
                return


async def _round_line(client: Client, task: dict[str, Any], round: int, amount: Any) -> str:
    record = await client.request("training_round", task["id"], round)
    accepted = sum(1 for slot in record["slots"] if slot["accepted"])
    loss, accuracy = dict(task["loss"]), dict(task["accuracy"])
    return round_line(
        task["name"],
        round,
        round_micro(loss.get(round, 0.0)),
        round_micro(accuracy.get(round, 0.0)),
        accepted,
        len(record["slots"]),
        amount(record["minted"]),
        "",
    )


def round_micro(value: float) -> int:
    """A value in millionths, as the chain keeps it."""
    return round(value * 1_000_000)


@app.command()
def fetch(
    task: TaskId,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write, in the safetensors format.")],
    rpc: NodeOption = DEFAULT_RPC,
) -> None:
    """Fetch a task's model, check it against the root on chain, and write it as safetensors."""
    if output.exists():
        raise UserError(f"{output} exists already and is left as it is; choose another name with -o")
    if not output.resolve().parent.is_dir():
        raise UserError(f"the folder {output.resolve().parent} does not exist; make it, or choose another with -o")
    trio.run(partial(_fetch, rpc, task, output))


async def _fetch(rpc: str, task_id: int, output: Path) -> None:
    # Imported here: the trainer is for who trains, and a node's command line must start quickly.
    from trainer.model import write_safetensors

    async with Client.connect(rpc) as client:
        task = await client.request("training_task", task_id)
        print(f"task {task_id} ({task['name']}): round {task['round']} of {task['rounds']}", flush=True)
        program = await client.get_blob(bytes.fromhex(task["programRoot"][2:]), PROGRAM_BYTES_MAX)
        params = await client.get_blob(bytes.fromhex(task["paramsRoot"][2:]), PARAMETER_BYTES_MAX)
        names = write_safetensors(output, program, params)
    print(f"wrote {output}: {len(params) // 4:,} parameters in {names} tensors")
    print(f"the parameters match the root on chain, {task['paramsRoot']}")
