"""What a command is told of sending a transaction: the same options for all that do, declared once.

Rule: nothing here reaches a node; whoever is to be asked, and is not there, is missed before a password is typed.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import wraps
from typing import Annotated, Any, Final

import typer

from chain.cli_common import DEFAULT_RPC, NodeOption, UserError
from chain.cli_wallet import JsonOption
from chain.wallet.known import ANY_CHAIN, Known


class Watch(StrEnum):
    """How long a command waits for a transaction."""

    NONE = "none"
    INCLUDED = "included"
    FINALIZED = "finalized"


def _of_the_program(context: typer.Context, given: str | None) -> str | None:
    """Which chain it is, where the program was told so before the command: `potchain --genesis FILE tx …`."""
    told = context.find_root().params.get("genesis")
    return given or (None if told is None else str(told))


YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Sign without being asked.")]
GenesisOption = Annotated[
    str | None,
    typer.Option(
        "--genesis",
        metavar="FILE|HASH",
        callback=_of_the_program,
        help="Which chain it has to be: by its genesis file, or by its genesis hash where its runtime is installed "
        "here. [default: that of potchain --genesis, else any]",
        show_default=False,
    ),
]

_OPTIONS: Final[dict[str, tuple[Any, Any]]] = {
    "yes": (YesOption, False),
    "dry_run": (
        Annotated[
            bool,
            typer.Option("--dry-run", help="Have a node of yours try it and say what would come of it; send nothing."),
        ],
        False,
    ),
    "watch": (Annotated[Watch, typer.Option("--watch", help="How long to wait for it.")], Watch.FINALIZED),
    "tip": (
        Annotated[
            str | None,
            typer.Option("--tip", metavar="AMOUNT", help="What the block's author gets besides, such as 1mPOT."),
        ],
        None,
    ),
    "nonce": (
        Annotated[
            int | None,
            typer.Option(
                "--nonce", metavar="N", help="The transaction's number. [default: the next]", min=0, max=2**32 - 1
            ),
        ],
        None,
    ),
    "era": (
        Annotated[
            str | None,
            typer.Option(
                "--era",
                metavar="BLOCKS|immortal",
                help="For how many blocks it may be included, up to 256 on most chains; for ever if immortal.",
            ),
        ],
        None,
    ),
    "genesis": (GenesisOption, None),
    "trust_node": (
        Annotated[
            bool,
            typer.Option(
                "--trust-node", help="Believe what the node says of calls and amounts where nothing here confirms it."
            ),
        ],
        False,
    ),
    "as_json": (JsonOption, False),
    "rpc": (NodeOption, DEFAULT_RPC),
}


@dataclass(frozen=True, slots=True)
class How:
    """What a command was told of sending."""

    rpc: str = DEFAULT_RPC
    yes: bool = False
    dry_run: bool = False
    watch: Watch = Watch.FINALIZED
    as_json: bool = False
    tip: str | None = None
    nonce: int | None = None
    era: str | None = None
    known: Known = ANY_CHAIN
    trust_node: bool = False

    def check(self) -> None:
        """UserError where nobody could be asked."""
        if self.yes or self.dry_run:
            return
        if self.as_json:
            raise UserError("--json asks nobody: add --yes to sign at once, or --dry-run; nothing was sent")
        if not sys.stdin.isatty():
            raise UserError("nobody is there to be asked: add --yes to sign at once, or --dry-run; nothing was sent")


def told_how(*without: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command whose parameter `how` is told on the command line, by all options of sending but some."""
    options = {name: option for name, option in _OPTIONS.items() if name not in without}

    def of(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [each for name, each in signature.parameters.items() if name != "how"]
        assert len(own) < len(signature.parameters), f"{command.__name__} sends nothing"
        told = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, (annotation, default) in options.items()
        ]

        @wraps(command)
        def run(**given: Any) -> None:
            how = {name: given.pop(name) for name in options}
            command(**given, how=How(known=Known.of(how.pop("genesis", None)), **how))

        run.__signature__ = signature.replace(parameters=[*own, *told])  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in (*own, *told)}
        return run

    return of
