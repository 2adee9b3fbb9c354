"""`potchain genesis`: make the file that a new chain begins with, and check one."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from chain.cli_common import UserError
from chain.display import Token

app = typer.Typer(help="Make genesis files, and check them.", no_args_is_help=True)


@app.command()
def new(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="New file to write.")],
    name: Annotated[str | None, typer.Option(metavar="NAME", help="What people call the chain. Asked for.")] = None,
    chain_id: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="Name of the chain's folders. [default: the name in small letters]"),
    ] = None,
    validator: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="What a validator's operator has sent: the output of `potchain key inspect KEY` in a file. Once for "
            "each validator. Asked for.",
        ),
    ] = None,
    development: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            max=6,
            help="A chain for one machine instead: N validators whose keys everybody knows, from //Alice on.",
        ),
    ] = 0,
    bootnode: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST:PORT", help="Where a node is found at the beginning; may be given again. Asked for."
        ),
    ] = None,
    balance: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS=POT",
            help="What an account has at the beginning; may be given again. Validators have --endowment.",
        ),
    ] = None,
    endowment: Annotated[
        str, typer.Option(metavar="POT", help="What each validator has at the beginning; it bonds 1,000 of that.")
    ] = "2000",
    sudo: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Account that may do anything. [default: nobody]")
    ] = None,
    chain_type: Annotated[
        str, typer.Option("--type", metavar="TYPE", help="Live, Local or Development, as wallets show it.")
    ] = "Live",
    block_time_ms: Annotated[
        int, typer.Option(metavar="MS", min=50, max=60_000, help="How often there is a block.")
    ] = 1000,
    session_blocks: Annotated[
        int, typer.Option(metavar="N", min=1, max=100_000, help="Blocks between two elections of validators.")
    ] = 3600,
    unbonding_sessions: Annotated[
        int, typer.Option(metavar="N", min=2, max=10_000, help="Sessions until a stake that is withdrawn is free.")
    ] = 168,
) -> None:
    """Make the genesis file of a new chain; what no flag says is asked for at a terminal.

    Each validator's operator makes a key (potchain key new), sends what `potchain key inspect` prints of it, and keeps
    the secret. The file that comes out is for everybody.
    """
    from chain.new_chain import NewChainError, Plan, ValidatorEntry, write
    from chain.new_chain import development as of_development

    token = Token("POT", 12)
    try:
        asks = sys.stdin.isatty()
        if name is None:
            if not asks:
                raise UserError("--name is missing: what is the chain called?")
            name = typer.prompt("Name of the chain")
        entries = [ValidatorEntry.read(path) for path in validator or ()]
        while asks and not development and not validator:
            path = typer.prompt(
                f"File of validator {len(entries) + 1} (empty: no more)", default="", show_default=False
            )
            if not path:
                break
            try:
                entries.append(ValidatorEntry.read(Path(path)))
            except NewChainError as error:
                print(f"{error}")
        if bool(entries) == bool(development):
            raise UserError("expected validators, each with --validator FILE, or --development N; give one of them")
        if bootnode is None and asks and not development:
            given = typer.prompt("Bootnodes, HOST:PORT, separated by blanks", default="", show_default=False)
            bootnode = given.split()
        plan = Plan(
            name=name,
            id=chain_id or re.sub("[^a-z0-9]+", "_", name.lower()).strip("_") or "chain",
            chain_type=chain_type,
            validators=entries,
            balances=dict(_balance(text, token) for text in balance or ()),
            bootnodes=bootnode or (),
            sudo=sudo,
            block_time_ms=block_time_ms,
            session_blocks=session_blocks,
            unbonding_sessions=unbonding_sessions,
            endowment=_amount("--endowment", endowment, token),
        )
        checked = write(output, of_development(plan, development) if development else plan.document())
    except NewChainError as error:
        raise UserError(str(error)) from None
    print(f"{output}: {checked.spec.name}, {_count(checked.validators)}, genesis hash 0x{checked.genesis_hash.hex()}")
    if development:
        print(f"run it with:  potchain --genesis {output}")
    else:
        print(f"send the file to every operator, who runs:  potchain --genesis {output} --validator KEY")


@app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Genesis file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a genesis file as a node does: every field, every proof, the first state and the blobs beside it.

    An error says where in the file, what was expected and what came, and exits with 2.
    """
    from chain.new_chain import check as read

    checked = read(file)
    spec = checked.spec
    if as_json:
        found = {
            "name": spec.name,
            "id": spec.id,
            "genesisHash": f"0x{checked.genesis_hash.hex()}",
            "runtime": f"{spec.runtime.version.spec_name} {spec.runtime.version.spec_version}",
            "validators": checked.validators,
            "issuance": str(checked.issuance),
            "blobs": checked.blobs,
            "bootnodes": [str(address) for address in spec.bootnodes],
        }
        print(json.dumps(found, indent=2))
        return
    token = Token(spec.properties.token_symbol, spec.properties.token_decimals)
    print(f"{file}: {spec.name} ({spec.chain_type}), runtime {spec.runtime.version.spec_name}")
    print(f"genesis hash  0x{checked.genesis_hash.hex()}")
    print(f"validators    {checked.validators}, of which {(checked.validators - 1) // 3} may be faulty")
    print(f"issuance      {token.format(checked.issuance)}")
    print(f"bootnodes     {', '.join(map(str, spec.bootnodes)) or 'none: nodes need --bootnode'}")
    if checked.blobs:
        print(f"blobs         {checked.blobs}, each as its name says")
    if spec.chain_type == "Live" and spec.development is not None:
        print("warning       a live chain with development keys is everybody's")


@app.command()
def schema() -> None:
    """Print the JSON Schema of genesis files, for editors."""
    from genesis.schema import genesis_schema

    print(json.dumps(genesis_schema(), indent=2))


def _balance(text: str, token: Token) -> tuple[str, int]:
    who, _, amount = text.partition("=")
    return who, _amount("--balance", amount, token)


def _amount(flag: str, text: str, token: Token) -> int:
    try:
        return token.parse(text)
    except ValueError as error:
        raise UserError(f"{flag}: {error}") from None


def _count(validators: int) -> str:
    return f"{validators} validator{'' if validators == 1 else 's'}"
