"""`potchain task new` and `potchain task cancel`: have a model trained, and stop that.

Rule: what it costs is said, and agreed to, before anything leaves this machine.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated

import trio
import typer

from chain.cli_common import DEFAULT_RPC, EXIT_FAILED, KeyOption, NodeOption, UserError, key_of
from chain.cli_task_files import SourceArgument, made_of, read_source, terms_of
from chain.cli_terms import with_terms
from chain.display import Progress, Token, token_of
from chain.primitives import ss58
from chain.rpc.client import Client
from runtime.modules.training_policy import PPM

if TYPE_CHECKING:
    from chain.primitives.keys import Keypair
    from chain.tasks import Offer, Quote
    from chain.terms import Terms
    from trainer.task import Built, Saved


@with_terms
def new_task(
    source: SourceArgument,
    key: KeyOption,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before paying.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and send nothing.")] = False,
    rpc: NodeOption = DEFAULT_RPC,
    **flags: str | None,
) -> None:
    """Have a model trained: export it, say what it costs, upload its blobs, create its task.

    An option counts before what the task's file says with `terms`, and that before the defaults below.
    """
    owner = key_of(key)
    task = read_source(source)
    terms = terms_of(task, flags)
    made = made_of(task, terms)
    trio.run(partial(_new, rpc, owner, made, terms, yes=yes, dry_run=dry_run))


async def _new(
    rpc: str,
    owner: Keypair,
    made: Built | Saved,
    terms: Terms,
    *,
    yes: bool,
    dry_run: bool,
) -> None:
    from chain.tasks import Offer, create, protected, quote, upload
    from chain.terms import TermsError

    async with Client.connect(rpc) as client:
        token, prefix = await token_of(client)
        try:
            offer = Offer.of(made, terms, token)
        except TermsError as error:
            raise UserError(str(error)) from None
        if not terms.audited_said:
            offer = await protected(client, offer)
        costs = await quote(client, owner, offer)
        address = ss58.encode(owner.public, prefix)
        for line in _costs(offer, costs, address, token):
            print(line)
        if not costs.affordable:
            free, wanted, kept = map(token.format, (costs.free, costs.wanted, costs.kept))
            raise UserError(
                f"{address} has {free}, too little for {wanted} and the {kept} that an account keeps; nothing was sent"
            )
        if dry_run:
            print("nothing was sent: --dry-run")
            return
        if not yes:
            ask("create it?")
        progress = Progress()
        await upload(client, offer, lambda done: progress.show(f"uploading: {done:,} of {offer.size:,} bytes"))
        progress.say("task", f"uploaded {offer.size:,} bytes in {len(offer.blobs)} blobs")
        task, height = await create(client, owner, offer)
        progress.say("task", f"{offer.name} is task {task}, created in block {height}")
        print(f"watch it: potchain task watch {task}")


def _costs(offer: Offer, costs: Quote, address: str, token: Token) -> list[str]:
    policy = offer.policy
    lines = [
        f"owner      {address}, who has {token.format(costs.free)}",
        f"escrow     {token.format(costs.escrow)}: {offer.rounds} rounds of {policy.slots} slots at "
        f"{token.format(offer.price_per_slot)}; what is not spent comes back",
        f"storage    {token.format(costs.deposit)} are kept ready for {costs.storage_bytes / 2**20:,.1f} MiB; the time "
        "that the task takes is paid from it, and a week for its model, the rest comes back",
        f"fee        {token.format(costs.fee)}",
        f"audits     {policy.audited_ppm / PPM:.0%} of all slots, recomputed by {policy.auditors_per_slot} each",
        f"upload     {offer.size:,} bytes",
    ]
    if costs.seats < policy.slots:
        lines.append(f"workers    offer {costs.seats} slots at this moment: rounds have no more, until others come")
    return lines


def ask(question: str) -> None:
    """Ask before something is paid; who answers no has sent nothing."""
    if not sys.stdin.isatty():
        raise UserError("add --yes to pay without being asked; nothing was sent")
    if not typer.confirm(question):
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
