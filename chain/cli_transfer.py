"""`potchain transfer`: send tokens and wait until the block with them is final.

What is certain to fail is refused before it is sent: a transaction that fails costs its fee.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import trio
import typer

from chain.cli_common import DEFAULT_RPC, EXIT_FAILED, NodeOption, UserError
from chain.cli_secrets import KEY_HELP, scheme_of, takes_key
from chain.display import Token, token_of
from chain.key_source import KeySource
from chain.primitives import ss58
from chain.primitives.keys import Keypair, Scheme
from chain.primitives.types import Id
from chain.rpc.client import Client, Receipt
from runtime.composition import Runtime
from runtime.modules.system import System
from runtime.modules.transaction_payment import TransactionPayment
from runtime.potchain import RUNTIME

# Blocks come once a second: who waits for longer is told that the chain is slow, and that we still wait.
WAIT_SECONDS = 4.0


@takes_key
def transfer(
    to: Annotated[str, typer.Argument(metavar="ADDRESS", help="Address of the receiver (SS58).")],
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="How many tokens, such as 1.5.")],
    key: Annotated[KeySource, typer.Option("--from", metavar="KEY", help=f"Sender: {KEY_HELP}")],
    scheme: Annotated[
        str | None,
        typer.Option(
            metavar="SCHEME",
            help="Which of the secret's two accounts sends: that of ed25519, or of sr25519 as in wallets. "
            "[default: the key's own, ed25519 for one that has none]",
        ),
    ] = None,
    rpc: NodeOption = DEFAULT_RPC,
    genesis: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Genesis file of a chain with a runtime of its own. [default: this project's]"
        ),
    ] = None,
) -> None:
    """Send tokens to an address, and wait until that is final."""
    chosen = scheme_of(scheme)
    secret = key.open()
    chosen = secret.scheme if chosen is None else chosen
    senders = {chosen: secret.keypair(chosen), **secret.accounts()}
    runtime: Runtime[Any] = RUNTIME
    if genesis is not None:
        from genesis.spec import load  # late: most who send tokens do so on this project's own chains

        runtime = load(genesis).runtime
    trio.run(partial(_transfer, rpc, runtime, senders, chosen, to.strip(), amount))


async def _transfer(
    rpc: str, runtime: Runtime[Any], senders: dict[Scheme, Keypair], scheme: Scheme, to: str, amount: str
) -> None:
    sender = senders[scheme]
    async with Client.connect(rpc, runtime) as client:
        token, prefix = await token_of(client)
        try:
            value = token.parse(amount)
        except ValueError as error:
            raise UserError(str(error)) from None
        receiver = ss58.decode(to, prefix)
        if value == 0:
            raise UserError(f"expected an amount above 0, got {amount!r}; nothing was sent")
        if receiver == sender.public:
            raise UserError(f"{to} is the sender's own address; give the receiver's")
        await _ensure_possible(client, token, prefix, senders, scheme, receiver, value)
        print(f"sending {token.format(value)} from {ss58.encode(sender.public, prefix)} to {to} …", flush=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_tell_waiting, client)
            receipt = await client.transact(sender, "balances.transfer_keep_alive", dest=Id(receiver), value=value)
            nursery.cancel_scope.cancel()
        _show(receipt, token, client.runtime)
        account = await client.account(sender.public)
        print(f"the sender has {token.format(account.free)} left")


async def _ensure_possible(
    client: Client,
    token: Token,
    prefix: int,
    senders: dict[Scheme, Keypair],
    scheme: Scheme,
    receiver: bytes,
    value: int,
) -> None:
    """UserError for a transfer that cannot succeed whatever its fee."""
    least: int = await client.read(lambda chain: chain.balances.existential_deposit)
    free = (await client.account(senders[scheme].public)).free
    if free < value + least:
        hint = ""
        for other, keypair in senders.items():
            elsewhere = (await client.account(keypair.public)).free
            if other is not scheme and elsewhere >= value + least:
                name, address = other.name.lower(), ss58.encode(keypair.public, prefix)
                hint = f". This secret's {name} account {address} has {token.format(elsewhere)}: add --scheme {name}"
        raise UserError(
            f"{ss58.encode(senders[scheme].public, prefix)} has {token.format(free)}, too little for "
            f"{token.format(value)}, the fee, and the {token.format(least)} that an account keeps; nothing was sent"
            f"{hint}"
        )
    held = await client.account(receiver)
    if value < least and held.free + held.reserved == 0:
        raise UserError(
            f"{ss58.encode(receiver, prefix)} has no tokens yet, and an account begins with at least "
            f"{token.format(least)}, got {token.format(value)}; nothing was sent"
        )


async def _tell_waiting(client: Client) -> None:
    started = trio.current_time()
    while True:
        await trio.sleep(WAIT_SECONDS)
        height = int((await client.request("chain_getHeader"))["number"], 16)
        waited = trio.current_time() - started
        print(f"in no block after {waited:.0f} s, with the chain at height {height}; waiting …", flush=True)


def _show(receipt: Receipt, token: Token, runtime: Runtime[Any]) -> None:
    """Where it became final and what it cost; Exit where it failed there."""
    fee = sum(event.actual_fee for event in receipt.events if isinstance(event, TransactionPayment.TransactionFeePaid))
    block = f"block {receipt.height} (0x{receipt.block_hash.hex()})"
    if not receipt.ok:
        (failed,) = (event for event in receipt.events if isinstance(event, System.ExtrinsicFailed))
        reason = runtime.explain(failed.dispatch_error)
        print(f"error: failed in {block}: {reason} Only the fee of {token.format(fee)} was paid", file=sys.stderr)
        raise typer.Exit(EXIT_FAILED)
    print(f"final in {block}")
    print(f"transaction 0x{receipt.extrinsic_hash.hex()}, fee {token.format(fee)}")
