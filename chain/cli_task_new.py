"""`potchain task new` and `potchain task cancel`: have a model trained, and stop that.

Rule: what it costs is said, and agreed to, before anything leaves this machine.
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import trio
import typer

from chain.cli_common import DEFAULT_RPC, EXIT_FAILED, KeyOption, NodeOption, Progress, UserError, key_of, token_of
from chain.display import Token, say
from chain.primitives import ss58
from chain.rpc.client import Client
from runtime.modules.training_policy import PICO

if TYPE_CHECKING:
    from chain.primitives.keys import Keypair
    from chain.tasks import Offer, Quote
    from trainer.task import Built, Saved

DECIMAL = re.compile(r"[0-9]*\.?[0-9]*(e-?[0-9]{1,2})?", re.ASCII)


class OptimizerName(StrEnum):
    """The optimisers that a round's mean is given to."""

    ADAM = "adam"
    SGD = "sgd"


def new_task(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A Python file that defines `task`, or a folder of `potchain task export`.",
            exists=True,
        ),
    ],
    key: KeyOption,
    rounds: Annotated[int, typer.Option(min=1, help="How many rounds to train.")] = 100,
    slots: Annotated[int, typer.Option(min=1, max=64, help="Batches a round, each by one worker.")] = 4,
    price: Annotated[str, typer.Option(metavar="AMOUNT", help="What an accepted slot earns, in tokens.")] = "1",
    auditors: Annotated[int, typer.Option(min=1, max=8, help="How many validators recompute each slot.")] = 2,
    optimizer: Annotated[
        OptimizerName, typer.Option(help="What takes the mean of a round's gradients.")
    ] = OptimizerName.ADAM,
    learning_rate: Annotated[str, typer.Option(metavar="RATE", help="Such as 0.001 or 1e-3.")] = "0.001",
    momentum: Annotated[str, typer.Option(metavar="RATE", help="Of sgd.")] = "0.9",
    commit_blocks: Annotated[int, typer.Option(min=1, help="How long workers have to compute, in blocks.")] = 120,
    reveal_blocks: Annotated[int, typer.Option(min=10, help="How long they have to upload.")] = 20,
    audit_blocks: Annotated[int, typer.Option(min=10, help="How long auditors are waited for.")] = 120,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before paying.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and send nothing.")] = False,
    rpc: NodeOption = DEFAULT_RPC,
) -> None:
    """Have a model trained: export it, say what it costs, upload its blobs, create its task."""
    from chain.tasks import POLICY, Adam, Descent, Sgd

    owner = key_of(key)
    rate = _pico("--learning-rate", learning_rate)
    chosen: Adam | Sgd = (
        Adam(rate, 900_000_000_000, 999_000_000_000, 10_000)
        if optimizer is OptimizerName.ADAM
        else Sgd(rate, _pico("--momentum", momentum))
    )
    policy = replace(
        POLICY,
        slots=slots,
        commit_blocks=commit_blocks,
        reveal_blocks=reveal_blocks,
        audit_blocks=audit_blocks,
        auditors_per_slot=auditors,
    )
    made = _read(source, policy.slots, policy.batches)
    trio.run(partial(_new, rpc, owner, made, Descent(chosen), policy, rounds, price, yes=yes, dry_run=dry_run))


def _pico(option: str, text: str) -> int:
    """A decimal number in units of 1e-12, exactly."""
    from decimal import Decimal, InvalidOperation

    try:
        if not DECIMAL.fullmatch(text):
            raise InvalidOperation
        value = Decimal(text) * PICO
    except InvalidOperation:
        raise UserError(f"{option}: expected a number such as 0.001 or 1e-3, got {text[:40]!r}") from None
    if value != int(value):
        raise UserError(f"{option}: the chain counts in steps of 1e-12, which {text} is not a multiple of")
    return int(value)


def _read(source: Path, slots: int, batches: int) -> Built | Saved:
    """The task of a user's file or of a folder that was exported before, which has rows for so many slots."""
    # Imported here: the trainer is for who trains, and a node's command line must start quickly.
    from trainer import task as tasks
    from trainer.export import ExportError

    try:
        made = tasks.load(source) if source.is_dir() else _built(source)
        tasks.check_fit(made, slots, batches)
    except ExportError as error:
        raise UserError(str(error)) from None
    return made


def _built(source: Path) -> Built:
    from trainer import task as tasks

    say("task", f"running {source}")
    task = tasks.read(source)
    say("task", f"exporting {task.name} for cpu, cuda and tpu")
    return tasks.build(task)


async def _new(
    rpc: str,
    owner: Keypair,
    made: Built | Saved,
    optimizer: Any,
    policy: Any,
    rounds: int,
    price: str,
    *,
    yes: bool,
    dry_run: bool,
) -> None:
    from chain.tasks import Offer, create, quote, upload

    async with Client.connect(rpc) as client:
        token, prefix = await token_of(client)
        try:
            price_per_slot = token.parse(price)
        except ValueError as error:
            raise UserError(f"--price: {error}") from None
        roots = made.program_root, made.dataset_root, made.params_root
        offer = Offer(made.name, *roots, made.blobs, optimizer, policy, rounds, price_per_slot)
        costs = await quote(client, owner, offer)
        address = ss58.encode(owner.public, prefix)
        for line in _costs(offer, costs, address, token):
            print(line)
        if not costs.affordable:
            free, wanted, kept = map(token.format, (costs.free, costs.escrow + costs.fee, costs.kept))
            raise UserError(
                f"{address} has {free}, too little for {wanted} and the {kept} that an account keeps; nothing was sent"
            )
        if dry_run:
            print("nothing was sent: --dry-run")
            return
        if not yes:
            _ask()
        progress = Progress()
        await upload(client, offer, lambda done: progress.show(f"uploading: {done:,} of {offer.size:,} bytes"))
        progress.say("task", f"uploaded {offer.size:,} bytes in {len(offer.blobs)} blobs")
        task, height = await create(client, owner, offer)
        progress.say("task", f"{offer.name} is task {task}, created in block {height}")
        print(f"watch it: potchain task watch {task}")


def _costs(offer: Offer, costs: Quote, address: str, token: Token) -> list[str]:
    slots = offer.policy.slots
    lines = [
        f"owner      {address}, who has {token.format(costs.free)}",
        f"escrow     {token.format(costs.escrow)}: {offer.rounds} rounds of {slots} slots at "
        f"{token.format(offer.price_per_slot)}; what is not spent comes back",
        f"fee        {token.format(costs.fee)}",
        f"upload     {offer.size:,} bytes",
    ]
    if costs.seats < slots:
        lines.append(f"workers    offer {costs.seats} slots at this moment: rounds have no more, until others come")
    return lines


def _ask() -> None:
    if not sys.stdin.isatty():
        raise UserError("add --yes to pay without being asked; nothing was sent")
    if not typer.confirm("create it?"):
        print("nothing was sent")
        raise typer.Exit


def cancel_task(
    task: Annotated[int, typer.Argument(metavar="ID", help="The task's number, as `potchain task list` shows it.")],
    key: KeyOption,
    rpc: NodeOption = DEFAULT_RPC,
) -> None:
    """End a task of yours with its running round, which is paid; the rest of the escrow comes back."""
    trio.run(_cancel, rpc, key_of(key), task)


async def _cancel(rpc: str, owner: Keypair, task: int) -> None:
    async with Client.connect(rpc) as client:
        receipt = await client.transact(owner, "training.cancel_task", task=task)
    if not receipt.ok:
        print(f"error: cancel_task failed in block {receipt.height}: {receipt.error}", file=sys.stderr)
        raise typer.Exit(EXIT_FAILED)
    print(f"cancelled in block {receipt.height}: task {task} ends with its running round")
