"""What is wrong with a command line, in one line: what was expected, what came, and the help to read."""

from __future__ import annotations

import re
from enum import Enum
from typing import Any

import typer

from chain.settings import origin

# What typer raises for a command line that it cannot read; only this kind of it has a public name.
UsageError: type[Exception] = typer.BadParameter.__bases__[0]

NUMBERS = {int: "a whole number", float: "a number"}
NEGATIVE = re.compile(r"-[0-9.]")
SHOWN_MAX = 80


def usage(error: Any) -> str:
    """The line for a `UsageError`; a group without a command explains itself in full."""
    text = str(error.format_message())
    parameter = getattr(error, "param", None)
    if parameter is None and "\n" in text:
        return text
    command = "potchain" if error.ctx is None else error.ctx.command_path
    came_from = "" if error.ctx is None or parameter is None else origin(error.ctx, parameter)
    where = f" (from {came_from})" if came_from not in ("", "flag") else ""
    option = getattr(error, "option_name", None)
    if error.ctx is not None and error.ctx.parent is not None and option in _options_of(error.ctx.find_root().command):
        first, _, rest = command.partition(" ")
        where = f"; it is for the node: give it before the command, {first} {option} … {rest}"
    return f"error: {_reason(error, parameter, text)}{where}; see: {command} --help"


def _reason(error: Any, parameter: Any, text: str) -> str:
    option = getattr(error, "option_name", None)
    if option is not None and NEGATIVE.match(option):
        return f"expected no negative number, got {option}"
    found: Any = getattr(error.__context__, "errors", None)  # pydantic's, whose words are for programmers
    expected = "" if parameter is None or found is None else _expected(parameter)
    if expected:
        name = max(parameter.opts, key=len) if parameter.param_type_name == "option" else parameter.metavar
        return f"{name}: expected {expected}, got {str(found()[0]['input'])[:SHOWN_MAX]!r}"
    text = text.partition("\n")[0].removesuffix(" Choose from:")  # The argument's name says what there is to choose.
    return f"{text[:1].lower()}{text[1:].removesuffix('.')}"


def _expected(parameter: Any) -> str:
    """What a number or a choice may be, in words; empty for anything else."""
    kind = parameter.type_descriptor.annotation
    if isinstance(kind, type) and issubclass(kind, Enum):
        *others, last = (str(each.value) for each in kind)
        return f"{', '.join(others)} or {last}" if others else last
    if kind not in NUMBERS:
        return ""
    least, most = parameter.min, parameter.max
    if least is None:
        return NUMBERS[kind] if most is None else f"{NUMBERS[kind]} up to {most}"
    return f"{NUMBERS[kind]} of at least {least}" if most is None else f"{NUMBERS[kind]} from {least} to {most}"


def _options_of(command: Any) -> set[str]:
    return {word for parameter in command.params for word in parameter.opts}
