"""`potchain task keep`: have nodes keep a task's model longer than a week, or let a running task take longer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import trio
import typer

from chain.cli_common import DEFAULT_RPC, NodeOption, TaskId, UserError, agree
from chain.cli_connect import connected_to_sign
from chain.cli_how import GenesisOption
from chain.cli_secrets import KeyOption, takes_key
from chain.display import token_of
from chain.wallet.known import Known
from runtime.modules.training import Training

if TYPE_CHECKING:
    from chain.primitives.keys import Keypair


@takes_key
def keep_task(
    task: TaskId,
    key: KeyOption,
    days: Annotated[int, typer.Option(min=1, max=365, help="So many days more, of 86,400 blocks.")] = 30,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before paying.")] = False,
    genesis: GenesisOption = None,
    rpc: NodeOption = DEFAULT_RPC,
) -> None:
    """Have a finished task's model kept longer, whoever's it is; or let a running task of yours take longer."""
    trio.run(partial(_keep, rpc, Known.of(genesis), key.keypair(), task, days, yes=yes))


async def _keep(rpc: str, known: Known, payer: Keypair, task: int, days: int, *, yes: bool) -> None:
    from chain.tasks import TaskRefused, keep, price_of_keeping

    try:
        async with connected_to_sign(rpc, known, Training) as client:
            token, _ = await token_of(client)
            price, until = await price_of_keeping(client, task, days)
        print(f"it costs {token.format(price)} to keep what is kept of task {task} until block {until:,}")
        if not yes:
            agree("keep it?")
        async with connected_to_sign(rpc, known, Training) as client:
            paid, until = await keep(client, payer, task, days)
    except TaskRefused as error:
        raise UserError(str(error)) from None
    print(f"kept until block {until:,}, for {token.format(paid)}")
