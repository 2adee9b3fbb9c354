"""`potchain tx`: send tokens, or make any call of any module that the node's chain has.

What is certain to fail is refused before it is sent: a transaction that fails costs its fee.
"""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import trio
import typer

from chain.cli_calls import ANY_ARGUMENTS, arguments_of, called, explain, read_file
from chain.cli_common import UserError
from chain.cli_how import How, told_how
from chain.cli_secrets import takes_key
from chain.cli_send import FROM, FromOption, Signers, elsewhere, send, signers_of
from chain.cli_tx_files import prepare_transaction, sign_transaction, submit_transaction
from chain.cli_wallet import SchemeOption
from chain.display import Token
from chain.key_source import KeySource
from chain.primitives import ss58
from chain.wallet.codec import WordError
from chain.wallet.node import Chain
from chain.wallet.words import read_json

app = typer.Typer(help="Send transactions: transfers, and any call of any module.", no_args_is_help=True)


class OnFailure(StrEnum):
    """What becomes of a batch in which a call fails."""

    UNDO = "undo"
    STOP = "stop"
    GO_ON = "go-on"


BATCHES = {OnFailure.UNDO: "batch_all", OnFailure.STOP: "batch", OnFailure.GO_ON: "force_batch"}


# --- transfer ------------------------------------------------------------------------------------------------------


@app.command()
@takes_key
@told_how()
def transfer(
    to: Annotated[str, typer.Argument(metavar="ADDRESS", help="Address of the receiver (SS58).")],
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="How many tokens, such as 1.5, or 300mPOT.")],
    how: How,
    key: FromOption,
    scheme: SchemeOption = None,
) -> None:
    """Send tokens to an address, and wait until that is final."""
    how.check()
    to = to.strip()
    if not to.startswith(("//", "0x")):
        ss58.decode(to, None)  # Who mistyped it reads so before a password is asked for.
    signers = signers_of(key, scheme)
    send(how, signers, partial(_transfer, signers=signers, to=to, amount=amount))


async def _transfer(chain: Chain, *, signers: Signers, to: str, amount: str) -> bytes:
    """The call; UserError for a transfer that cannot succeed whatever its fee."""
    token, words, sender = chain.token, chain.codec.words, signers.chosen.public
    value, receiver = _tokens(token, amount), words.account(to)
    if value == 0:
        raise UserError(f"expected an amount above 0, got {amount!r}; nothing was sent")
    if receiver == sender:
        raise UserError(f"{to} is the sender's own address; give the receiver's")
    least = chain.constant("Balances", "ExistentialDeposit")
    least = least if isinstance(least, int) else 0
    free = (await chain.system_account(sender))["data"]["free"]
    if free < value + least:
        raise UserError(
            f"{words.address(sender)} has {token.format(free)}, too little for {token.format(value)}, the fee, and the "
            f"{token.format(least)} that an account keeps; nothing was sent"
            f"{await elsewhere(chain, signers, value + least)}"
        )
    held = (await chain.system_account(receiver))["data"]
    if value < least and held["free"] + held["reserved"] == 0:
        raise UserError(
            f"{words.address(receiver)} has no tokens yet, and an account begins with at least "
            f"{token.format(least)}, got {token.format(value)}; nothing was sent"
        )
    arguments = {"dest": words.address(receiver), "value": value}
    return chain.codec.encode(chain.metadata.call_type, {"balances.transfer_keep_alive": arguments})


def _tokens(token: Token, amount: str) -> int:
    """The planck of an amount: of tokens, where it has no unit."""
    try:
        return token.parse(amount) if amount[-1:].isdigit() or amount.endswith(".") else token.read(amount)
    except ValueError as error:
        raise UserError(str(error)) from None


# --- call ----------------------------------------------------------------------------------------------------------


@app.command(context_settings=ANY_ARGUMENTS)
@takes_key
@told_how()
def call(
    context: typer.Context,
    how: How,
    path: Annotated[
        str | None, typer.Argument(metavar="MODULE.CALL", help="The call, such as balances.transfer_keep_alive.")
    ] = None,
    key: Annotated[KeySource | None, FROM] = None,
    scheme: SchemeOption = None,
    listed: Annotated[
        bool, typer.Option("--list", help="List the calls of the chain, or of the MODULE given in place of the call.")
    ] = False,
    explained: Annotated[
        bool, typer.Option("--help", help="Show this message, or with MODULE.CALL what that call does and takes.")
    ] = False,
) -> None:
    """Make any call: potchain tx call MODULE.CALL --ARGUMENT VALUE … --from KEY

    Amounts have a unit (1.5POT, 3mPOT, 7planck), accounts are addresses, bytes are text, 0x and hex digits or @FILE,
    a variant is NAME or NAME:VALUE, and what has parts is JSON or @FILE. An argument that is named as one of the
    options below goes behind a --.
    """
    if explained and path is None:
        print(context.get_help())
        return
    if listed or explained:
        trio.run(partial(explain, how.rpc, path, as_json=how.as_json))
        return
    if path is None or path.startswith("-"):
        raise UserError("expected MODULE.CALL before its arguments; --list shows the calls that there are")
    if key is None:
        raise UserError("--from is missing: who signs? See: potchain tx call --help")
    how.check()
    make = called(path, arguments_of(context.args))
    send(how, signers_of(key, scheme), make)


# --- batch ---------------------------------------------------------------------------------------------------------


@app.command()
@takes_key
@told_how()
def batch(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help='A JSON list of calls: [{"balances.transfer_keep_alive": {"dest": "5F…", "value": "1.5POT"}}, …].',
        ),
    ],
    how: How,
    key: FromOption,
    on_failure: Annotated[
        OnFailure, typer.Option(help="Where a call fails: undo all, stop with what is done, or go on.")
    ] = OnFailure.UNDO,
    scheme: SchemeOption = None,
) -> None:
    """Make several calls in one transaction, for one fee: all of them or none, unless told otherwise."""
    how.check()
    try:
        calls = read_json(read_file(str(file)).decode())
        if not isinstance(calls, list) or not calls:
            raise WordError("expected a JSON list of calls")
    except (WordError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: {error}") from None

    async def make(chain: Chain) -> bytes:
        try:
            return chain.codec.encode(chain.metadata.call_type, {f"utility.{BATCHES[on_failure]}": {"calls": calls}})
        except WordError as error:
            raise UserError(f"{file}: {error}") from None

    send(how, signers_of(key, scheme), make)


app.command("prepare", context_settings=ANY_ARGUMENTS)(prepare_transaction)
app.command("sign")(sign_transaction)
app.command("submit")(submit_transaction)
