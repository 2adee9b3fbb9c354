"""`potchain key`: make and look at keys; a secret is shown once, when it is made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chain.cli_common import secret_of
from chain.primitives import bls, ss58
from chain.primitives.keys import Keypair, Scheme, new_phrase
from chain.validator_keys import ValidatorKeys, write_secret

app = typer.Typer(help="Make keys and look at them.", no_args_is_help=True)


@app.command()
def new(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the secret to this new file, for its owner only."),
    ] = None,
    words: Annotated[int, typer.Option(metavar="N", help="Words of the phrase: 12, 15, 18, 21 or 24.")] = 12,
) -> None:
    """Make a new key: a phrase that every Substrate wallet understands."""
    try:
        phrase = new_phrase(words)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if output is None:
        print(f"secret phrase     {phrase}")
    else:
        write_secret(output, phrase)
        print(f"secret phrase     written to {output}")
    _show(phrase, 42)
    if output is None:
        print("Write the phrase down and show it to nobody: whoever has it has the account.")


@app.command()
def inspect(
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="Key file, phrase in quotes, 0x seed, or a path such as //Alice.")
    ],
    prefix: Annotated[int, typer.Option(metavar="N", help="SS58 prefix of the addresses.", min=0, max=16383)] = 42,
) -> None:
    """Show the addresses and public keys of a secret."""
    _show(secret_of(key), prefix)


def _show(secret: str, prefix: int) -> None:
    for scheme in (Scheme.ED25519, Scheme.SR25519):
        keypair = Keypair.from_uri(secret, scheme)
        print(f"{scheme.name.lower():<10} address {ss58.encode(keypair.public, prefix)}")
        print(f"{'':<10} public  0x{keypair.public.hex()}")
    keys = ValidatorKeys.from_uri(secret)
    print(f"validator  BLS     0x{bls.public_key(keys.bls_secret).hex()}")
    proof = bls.prove_possession(keys.bls_secret, keys.account.public)
    print(f"{'':<10} proof   0x{proof.hex()} (for the ed25519 account)")
    print(f"{'':<10} node    0x{keys.node.public.hex()}")
