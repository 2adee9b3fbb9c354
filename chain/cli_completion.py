"""`potchain completion`: what a shell needs to complete commands and options."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Annotated, Final

import typer
from typer.completion import completion_init, get_completion_script  # type: ignore[attr-defined]  # its only public home

PROGRAM: Final = "potchain"
VARIABLE: Final = "_POTCHAIN_COMPLETE"  # by which a shell asks this program for what may follow


class Shell(StrEnum):
    """The shells that know how to ask."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", help="Your shell.")]) -> None:
    """Print what makes a shell complete commands and options.

    In ~/.bashrc or, behind compinit, in ~/.zshrc: eval "$(potchain completion bash)", or zsh. In
    ~/.config/fish/config.fish: potchain completion fish | source
    """
    print(get_completion_script(prog_name=PROGRAM, complete_var=VARIABLE, shell=shell.value))


def prepare() -> None:
    """Have a shell's question answered, where this process is asked one."""
    if os.environ.get(VARIABLE):
        completion_init()
