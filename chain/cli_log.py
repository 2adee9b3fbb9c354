"""The flags of every process that logs: how its lines are written, and which.

Rule: what is wrong with them is said before anything is started.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Annotated

import typer

from chain.cli_common import UserError
from chain.log import LEVELS, Format, Writer, logging_to, parse_levels

LogFormat = Annotated[
    Format | None,
    typer.Option(
        help="How lines are logged: text for people, or json for machines, one object a line. [default: text]",
        show_default=False,
    ),
]
LogLevels = Annotated[
    str | None,
    typer.Option(
        "--log",
        "-l",
        metavar="PART=LEVEL,…",
        help=f"How much to log of each part, such as net=warn,consensus=debug, or of all: {', '.join(LEVELS)}. "
        "[default: info]",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class LogFlags:
    """What the command line says of the log."""

    log_format: Format | None = None
    log: str | None = None

    def words(self) -> Iterator[str]:
        """The same for another command line."""
        if self.log_format is not None:
            yield f"--log-format={self.log_format}"
        if self.log is not None:
            yield f"--log={self.log}"

    @property
    def form(self) -> Format:
        return self.log_format or Format.TEXT

    @contextmanager
    def to_stdout(self) -> Iterator[Writer]:
        """Log there for as long as the block lasts; UserError for levels that there are not."""
        try:
            levels = {} if self.log is None else parse_levels(self.log)
        except ValueError as error:
            raise UserError(f"--log: expected {error}") from None
        with ExitStack() as opened:
            # Who closed it wants to hear nothing.
            stdout = sys.stdout if sys.stdout is not None else opened.enter_context(open(os.devnull, "w"))
            terminal = stdout.isatty() and self.form is Format.TEXT
            yield opened.enter_context(logging_to(stdout.fileno(), self.form, levels, terminal=terminal))
