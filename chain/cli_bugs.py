"""What a person is told of a bug of ours: two lines, and the traceback where it is asked for or would be lost."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from chain import __version__
from chain.printable import printable

DEBUG: Final = "--debug"
# What runs for days has its output kept, and nobody can ask it again: nodes, whose words begin with options, and these.
LASTING: Final = ("worker", "auditor", "aggregator")
TEXT_MAX: Final = 200
_ROOT: Final = Path(__file__).resolve().parent.parent


def without_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """The words of a command line without `--debug`, which may stand anywhere before a `--`, and whether it did."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    left = [word for place, word in enumerate(arguments) if place >= end or word != DEBUG]
    return left, len(left) < len(arguments)


def tell(error: BaseException, arguments: Sequence[str], *, debug: bool) -> None:
    """Say on standard error that this is a bug, which, and how to report it."""
    is_told = debug or not arguments or arguments[0].startswith("-") or arguments[0] in LASTING
    if is_told:
        traceback.print_exception(error)
    leaf = error
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    reason = " ".join(f"{type(leaf).__name__}: {leaf}".split())
    print(f"error: a bug in potchain {__version__}: {printable(reason[:TEXT_MAX])} ({_where(leaf)})", file=sys.stderr)
    how = "what is above" if is_told else f"what the same command with {DEBUG} prints"
    print(f"The fault is not yours: please report it with {how}", file=sys.stderr)


def _where(error: BaseException) -> str:
    """The innermost line of ours that an error passed."""
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        path = Path(frame.filename)
        if path.is_relative_to(_ROOT) and "site-packages" not in path.parts:
            return f"{path.relative_to(_ROOT)}:{frame.lineno} in {frame.name}"
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "nowhere that is known"
