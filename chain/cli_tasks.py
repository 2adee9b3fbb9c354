"""`potchain task`: make and try tasks, look at them, watch one, and fetch the model that it trained."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import trio
import typer

from chain.cli_common import DEFAULT_RPC, NodeOption, TaskId, UserError
from chain.cli_connect import connected
from chain.cli_silos import admit_silo, expel_silo, list_silos
from chain.cli_task_files import check_task, export_task
from chain.cli_task_keep import keep_task
from chain.cli_task_new import cancel_task, new_task
from chain.cli_wallet import JsonOption, print_json
from chain.display import Pace, Progress, Token, phase_line, put, round_line, time_left, token_of, waiting
from chain.printable import printable
from chain.rpc.client import Client, ConnectionLost, Heads, RequestTimeout

app = typer.Typer(help="Make training tasks, look at them, fetch models.", no_args_is_help=True)
app.command("new")(new_task)
app.command("cancel")(cancel_task)
app.command("keep")(keep_task)
app.command("export")(export_task)
app.command("check")(check_task)
app.command("admit")(admit_silo)
app.command("expel")(expel_silo)
app.command("silos")(list_silos)

PARAMETER_BYTES_MAX = 1 << 30  # a quarter of a billion parameters
PROGRAM_BYTES_MAX = 64 << 20
# Blocks come once a second, and after a failed view some seconds later: a watcher is told of silence beyond that, and
# more and more rarely.
PATIENCE_SECONDS = 10.0
PATIENCE_SECONDS_MAX = 600.0
# A round opens in the block that settles the one before, or in the next ones; after that it waits for somebody.
IDLE_BLOCKS = 4
# What a task's summary has in planck, and --json as text.
AMOUNTS = ("pricePerSlot", "escrow", "minted")


@app.command("list")
def list_tasks(as_json: JsonOption = False, rpc: NodeOption = DEFAULT_RPC) -> None:
    """List the tasks of the chain."""
    trio.run(partial(_list, rpc, as_json=as_json))


async def _list(rpc: str, *, as_json: bool) -> None:
    # Imported here: every node loads this file, and none of them prints a table.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    async with connected(rpc) as client:
        token, _ = await token_of(client)
        tasks = await client.request("training_tasks")
    if as_json:
        print_json([_exact(task) for task in tasks])
        return
    if not tasks:
        print("this chain has no tasks")
        return
    table = Table("id", "name", "status", "round", "loss", "accuracy", "minted", box=None)
    for task in tasks:
        loss, accuracy = task["latestLoss"], task["latestAccuracy"]
        table.add_row(
            str(task["id"]),
            Text(printable(task["name"])),  # Not markup: a task may be called [/].
            task["status"],
            f"{task['round']}/{task['rounds']}",
            "" if loss is None else f"{loss:.4f}",
            "" if accuracy is None else f"{accuracy:.2%}",
            token.format(task["minted"]),
        )
    Console().print(table)


@app.command()
def watch(
    task: TaskId,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line; amounts are text.")] = False,
    rpc: NodeOption = DEFAULT_RPC,
) -> None:
    """Print a line for each round of a task until no more follow."""
    try:
        # Not in the midst of a connection's beginning, where an interrupt would leave a warning of Python's.
        trio.run(
            _watch,
            rpc,
            task,
            ForPrograms() if as_json else Progress(read_only=True),
            restrict_keyboard_interrupt_to_checkpoints=True,
        )
    except KeyboardInterrupt:
        raise typer.Exit from None


class ForPrograms:
    """A watch as programs read it: an object a line, with what happened as its `event`, and nothing in between."""

    def event(self, event: str, **told: object) -> None:
        print(json.dumps({"event": event, **told}), flush=True)

    def say(self, kind: str, text: str) -> None:
        """What a person would be told beside: programs learn of stalls, and know the rest by itself."""
        if kind == "stall":
            self.event("stall", message=text)

    def show(self, text: str) -> None:
        """What is going on meanwhile is nothing that has happened."""

    def clear(self) -> None:
        """There is never anything to be cleared."""


async def _watch(rpc: str, task_id: int, progress: Progress | ForPrograms) -> None:
    async with connected(rpc) as client:  # A wrong address or number is an error at once, and not waited for.
        token, _ = await token_of(client)
        task = await client.request("training_task", task_id)
    shown = max(0, task["round"] - 1)  # the latest round at once, then each new one
    pace = Pace(task["round"])
    idle_blocks = 0
    if isinstance(progress, ForPrograms):
        progress.event("task", **_exact(task))
    progress.say("task", f"{task['name']}: {task['round']} of {task['rounds']} rounds are final; Ctrl-C ends the watch")
    try:
        async with Client.reconnecting([rpc]) as client, client.finalized_heads() as heads:
            while task["status"] == "active" or shown < task["round"]:
                await _next_block(client, heads, progress)
                try:
                    task = await client.request("training_task", task_id, timeout=PATIENCE_SECONDS)
                    seconds = pace.seconds_left(task["round"], task["rounds"], trio.current_time())
                    left = "" if seconds is None else time_left(seconds)
                    while shown < task["round"]:
                        record = await client.request("training_round", task["id"], shown)
                        if isinstance(progress, ForPrograms):
                            progress.event("round", **_exact_round(task_id, shown, record))
                        line = _round_line(task, shown, record, token)
                        shown += 1
                        if shown == task["round"]:  # What is known of this moment belongs to the newest.
                            line += f"  {token.format(task['minted'])} in all{', ' * bool(left)}{left}"
                        progress.say("round", line)
                    if task["status"] == "active":
                        round = await client.request("training_round", task_id)
                        idle_blocks = idle_blocks + 1 if round["phase"] == "idle" else 0
                        if idle_blocks == IDLE_BLOCKS:
                            progress.say("task", _waiting_line(task, await client.request("training_workers")))
                        spent = f"{token.format(task['minted'])} paid, {token.format(task['escrow'])} of escrow left"
                        spent += f", {token.format(task['storage']['deposit'])} for storage"
                        progress.show(f"{phase_line(round)}; {left}{', ' * bool(left)}{spent}")
                except (ConnectionLost, RequestTimeout) as error:
                    progress.say("stall", f"{error}; trying again")
    finally:
        progress.clear()
    if isinstance(progress, ForPrograms):
        progress.event("end", **_exact(task))
    progress.say("task", _end_line(task, token))
    progress.say("task", f"its model: potchain task fetch {task_id} -o model.safetensors")
    progress.say("task", f"it is kept until block {task['storage']['until']:,}; longer: potchain task keep {task_id}")


async def _next_block(client: Client, heads: Heads, progress: Progress | ForPrograms) -> None:
    """Wait for a block, and do not keep it to ourselves when none comes."""
    waited, patience = 0.0, PATIENCE_SECONDS
    while True:
        with trio.move_on_after(patience):
            await anext(heads)
            return
        waited += patience
        patience = min(2 * patience, PATIENCE_SECONDS_MAX)
        what = f"no block for {waited:.0f} s" if client.connected else f"no connection to {client.url}"
        progress.say("stall", f"{what}: is the node running? Still waiting")


def _waiting_line(task: dict[str, Any], workers: list[dict[str, Any]]) -> str:
    """What a task waits for whose next round has not begun."""
    active = [worker for worker in workers if worker["active"]]
    wanted = f"round {task['round']} waits for workers"
    if not active:
        return f"{wanted}: none is registered; potchain worker --key KEY starts one"
    paused = [worker for worker in active if task["id"] in worker["paused"]]
    drawn = [worker for worker in active if worker not in paused]
    what = []
    if drawn:
        seats, taken = (sum(worker[name] for worker in drawn) for name in ("capacity", "taken"))
        what.append(f"{taken} of the {seats} seats of {_workers(len(drawn))} have other slots")
    if paused:
        what.append(f"{_workers(len(paused))} paused after a slot that came to nothing")
    return f"{wanted}: {'; '.join(what)}"


def _workers(count: int) -> str:
    return f"{count:,} worker{'s' * (count != 1)}"


def _end_line(task: dict[str, Any], token: Token) -> str:
    """What a task came to that is over."""
    figures = ""
    if task["latestLoss"] is not None:
        figures = f", loss {task['latestLoss']:.4f}, accuracy {task['latestAccuracy']:.2%}"
    after = f"after {task['round']} of {task['rounds']} rounds{figures}"
    return f"{task['name']} is {task['status']} {after}, {token.format(task['minted'])} paid in all"


def _exact(task: dict[str, Any]) -> dict[str, Any]:
    """A task for programs: not every one reads such numbers in JSON exactly."""
    return {**task, **{name: str(task[name]) for name in AMOUNTS}}


def _exact_round(task_id: int, round: int, record: dict[str, Any]) -> dict[str, Any]:
    return {
        "task": task_id,
        "round": round,
        "loss": record["loss"],
        "accuracy": record["accuracy"],
        "accepted": sum(slot["accepted"] for slot in record["slots"]),
        "planted": sum(slot["planted"] for slot in record["slots"]),
        "slots": len(record["slots"]),
        "minted": str(record["minted"]),
    }


def _round_line(task: dict[str, Any], round: int, record: dict[str, Any], token: Token) -> str:
    return round_line(
        task["name"],
        round,
        None if record["loss"] is None else (record["loss"], record["accuracy"]),
        sum(slot["accepted"] for slot in record["slots"]),
        sum(slot["planted"] for slot in record["slots"]),
        len(record["slots"]),
        token.format(record["minted"]),
    )


@app.command()
def fetch(
    task: TaskId,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="File to write, in the safetensors format.")
    ],
    rpc: NodeOption = DEFAULT_RPC,
) -> None:
    """Fetch a task's model, checked against the root on chain."""
    if output.exists():
        raise UserError(f"{output} exists already and is left as it is; choose another name with -o")
    if not output.resolve().parent.is_dir():
        raise UserError(f"the folder {output.resolve().parent} does not exist; make it, or choose another with -o")
    trio.run(partial(_fetch, rpc, task, output))


async def _fetch(rpc: str, task_id: int, output: Path) -> None:
    # Imported here: the trainer is for who trains, and a node's command line must start quickly.
    from trainer.model import write_safetensors

    async with connected(rpc) as client:
        task = await client.request("training_task", task_id)
        print(f"task {task_id} ({printable(task['name'])}): round {task['round']} of {task['rounds']}", flush=True)
        if not (kept := task["storage"])["bytes"]:
            raise UserError(f"nodes kept its model until block {kept['until']:,}, which is over; nobody paid for more")
        with waiting("fetching its program and its parameters …"):
            program = await client.get_blob(bytes.fromhex(task["programRoot"][2:]), PROGRAM_BYTES_MAX)
            params = await client.get_blob(bytes.fromhex(task["paramsRoot"][2:]), PARAMETER_BYTES_MAX)
    try:
        names = write_safetensors(output, program, params)
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror}; choose another file with -o") from error
    print(f"wrote {output}: {len(params) // 4:,} parameters in {names} tensors")
    put(f"the parameters match the root on chain, {task['paramsRoot']}")
