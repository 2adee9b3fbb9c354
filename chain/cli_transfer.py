"""`potchain transfer`: send tokens and wait until the block with them is final."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import trio
import typer

from chain.cli_common import DEFAULT_RPC, EXIT_FAILED, NodeOption, UserError, key_of, token_of
from chain.primitives import ss58
from chain.primitives.keys import Keypair, Scheme
from chain.primitives.types import Id
from chain.rpc.client import Client


def transfer(
    to: Annotated[str, typer.Argument(help="Address of the receiver (SS58).")],
    amount: Annotated[str, typer.Argument(help="How many tokens, such as 1.5.")],
    key: Annotated[str, typer.Option("--from", help="Sender: a key file, or a secret such as //Alice.")],
    scheme: Annotated[str, typer.Option(help="The sender's signature scheme: ed25519 or sr25519.")] = "ed25519",
    rpc: NodeOption = DEFAULT_RPC,
) -> None:
    """Send tokens to an address."""
    if scheme.upper() not in Scheme.__members__:
        raise UserError(f"--scheme: expected ed25519 or sr25519, got {scheme!r}")
    trio.run(partial(_transfer, rpc, key_of(key, Scheme[scheme.upper()]), to, amount))


async def _transfer(rpc: str, sender: Keypair, to: str, amount: str) -> None:
    async with Client.connect(rpc) as client:
        token, prefix = await token_of(client)
        try:
            value = token.parse(amount)
        except ValueError as error:
            raise UserError(str(error)) from None
        receiver = ss58.decode(to, prefix)
        print(f"sending {token.format(value)} from {ss58.encode(sender.public, prefix)} to {to} …", flush=True)
        receipt = await client.transact(sender, "balances.transfer_keep_alive", dest=Id(receiver), value=value)
        where = f"block {receipt.height} (0x{receipt.block_hash.hex()}), transaction 0x{receipt.extrinsic_hash.hex()}"
        if not receipt.ok:
            print(f"failed: {receipt.error} in {where}; only the fee was paid")
            raise typer.Exit(EXIT_FAILED)
        print(f"final in {where}")
        account = await client.account(sender.public)
        print(f"the sender has {token.format(account.free)} left")
