"""`potchain task new` and `potchain task cancel`: have a model trained, and stop that.

Rule: what it costs is said, and agreed to, before anything leaves this machine.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated

import trio
import typer

from chain.cli_calibrate import calibrated
from chain.cli_common import DEFAULT_RPC, EXIT_FAILED, NodeOption, TaskId, UserError, agree, ensure_somebody
from chain.cli_connect import connected_to_sign
from chain.cli_how import GenesisOption
from chain.cli_secrets import KeyOption, takes_key
from chain.cli_task_files import PlatformOption, SourceArgument, made_of, read_source, terms_of
from chain.cli_terms import with_terms
from chain.display import LABEL_COLUMNS, Progress, put, token_of
from chain.primitives import ss58
from chain.rpc.client import Client
from chain.wallet.known import Known
from runtime.modules.training import Training

if TYPE_CHECKING:
    from chain.primitives.keys import Keypair
    from chain.tasks import Offer
    from chain.terms import Terms
    from trainer.task import Built, Saved


@takes_key
@with_terms
def new_task(
    source: SourceArgument,
    key: KeyOption,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before paying.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and send nothing.")] = False,
    platform: PlatformOption = "cpu",
    genesis: GenesisOption = None,
    rpc: NodeOption = DEFAULT_RPC,
    **flags: str | None,
) -> None:
    """Have a model trained: export it, measure its audits, say what it costs, upload its blobs, create its task.

    An option counts before what the task's file says with `terms`, and that before the defaults below.
    """
    if not (yes or dry_run):
        ensure_somebody()
    known, owner = Known.of(genesis), key.keypair()
    task = read_source(source)
    terms = terms_of(task, flags)
    made = made_of(task, terms)
    trio.run(partial(_new, rpc, known, owner, made, terms, platform, yes=yes, dry_run=dry_run))


async def _new(
    rpc: str,
    known: Known,
    owner: Keypair,
    made: Built | Saved,
    terms: Terms,
    platform: str,
    *,
    yes: bool,
    dry_run: bool,
) -> None:
    from chain.tasks import create, upload

    # What the chain refuses, or nobody can pay, is not worth measuring.
    async with connected_to_sign(rpc, known, Training) as client:
        await _quoted(client, owner, made, terms)
    terms = await calibrated(made, terms, platform)
    async with connected_to_sign(rpc, known, Training) as client:
        offer, lines = await _quoted(client, owner, made, terms)
        for line in lines:
            put(line, LABEL_COLUMNS)
    if dry_run:
        print("nothing was sent: --dry-run")
        return
    if not yes:
        agree("create it?")
    async with connected_to_sign(rpc, known, Training) as client:
        progress = Progress()
        await upload(client, offer, lambda done: progress.show(f"uploading: {done:,} of {offer.size:,} bytes"))
        progress.say("task", f"uploaded {offer.size:,} bytes in {len(offer.blobs)} blobs")
        task, height = await create(client, owner, offer)
        progress.say("task", f"{offer.name} is task {task}, created in block {height}")
        if offer.policy.is_federated:
            print(f"admit its silos: potchain task admit {task} ADDRESS --samples NUMBER --key KEY")
        print(f"watch it: potchain task watch {task}")


async def _quoted(client: Client, owner: Keypair, made: Built | Saved, terms: Terms) -> tuple[Offer, list[str]]:
    """What is offered, and what it costs in words; UserError where the owner cannot pay it."""
    from chain.tasks import offered
    from chain.terms import TermsError

    token, prefix = await token_of(client)
    try:
        offer, costs = await offered(client, owner, made, terms, token)
    except TermsError as error:
        raise UserError(str(error)) from None
    address = ss58.encode(owner.public, prefix)
    if not costs.affordable:
        free, wanted, kept = map(token.format, (costs.free, costs.wanted, costs.kept))
        raise UserError(
            f"{address} has {free}, too little for {wanted} and the {kept} that an account keeps; nothing was sent"
        )
    return offer, [f"owner       {address}, who has {token.format(costs.free)}", *offer.described(costs, token)]


@takes_key
def cancel_task(
    task: TaskId,
    key: KeyOption,
    genesis: GenesisOption = None,
    rpc: NodeOption = DEFAULT_RPC,
) -> None:
    """End a task of yours with the rounds that have begun, which are paid; the rest of the escrow comes back."""
    trio.run(_cancel, rpc, Known.of(genesis), key.keypair(), task)


async def _cancel(rpc: str, known: Known, owner: Keypair, task: int) -> None:
    async with connected_to_sign(rpc, known, Training) as client:
        receipt = await client.transact(owner, "training.cancel_task", task=task)
    if not receipt.ok:
        print(f"error: cancel_task failed in block {receipt.height}: {receipt.error}", file=sys.stderr)
        raise typer.Exit(EXIT_FAILED)
    print(f"cancelled in block {receipt.height}: task {task} ends with what has begun of it")
