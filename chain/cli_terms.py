"""The terms of a task as options: every row of `chain.terms` becomes one, with its bounds and default in the help."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from chain.terms import INNER, ROWS, Row, option


def with_terms(command: Callable[..., None]) -> Callable[..., None]:
    """A command that takes each term as an option, too, and gets them as keyword arguments: None where not given."""
    signature = inspect.signature(command, eval_str=True)
    own = [parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    terms = [
        inspect.Parameter(row.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_type(row)) for row in ROWS
    ]
    keyword_only = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    command.__signature__ = signature.replace(parameters=[*keyword_only, *terms])  # type: ignore[attr-defined]
    return command


def _type(row: Row) -> Any:
    return Annotated[
        str | None,
        typer.Option(
            option(row.name),
            metavar=row.metavar,
            help=row.described,
            # The same again: the option of local steps tells of them.
            hidden=row.name.startswith(INNER),
            show_default=False,
        ),
    ]
