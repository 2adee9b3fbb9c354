"""What becomes of code that raises what nothing in a runtime may raise: a module's bug, in a transaction or a hook.

Rule: whatever a call raises beside a DispatchError costs its sender the transaction and nobody the node: the author of
a block leaves it out, and a block that has it is invalid, on every node alike. A hook has nobody to leave out.
"""

from __future__ import annotations

from typing import Final, TypeGuard

from runtime.types import InvalidReason, InvalidTransaction

# What a machine may raise where another does not: how much memory there is, and how many frames Python and whoever
# called had on the stack already. It says nothing of a block.
EXHAUSTION: Final = (MemoryError, RecursionError)

# What is kept of a message: a KeyError quotes its key, which may be an argument of a megabyte.
_TEXT_MAX: Final = 160


class Panicked(InvalidTransaction):
    """The module's fault: its code raised what no call may raise. The state is as if the transaction never came.

    `__cause__` is what it raised.
    """

    def __init__(self, where: str, error: Exception) -> None:
        notes: list[str] = getattr(error, "__notes__", [])
        self.where = notes[0] if notes else where
        super().__init__(
            InvalidReason.CALL, f"{self.where} raised {_words(error)}: a bug in the module, not in the call"
        )


class HookPanicked(Exception):
    """The module's fault: a hook or an inherent raised, so that no block can be made on this state."""

    def __init__(self, where: str, height: int, error: Exception) -> None:
        self.where = where
        super().__init__(
            f"no block {height} can be made: {where} raised {_words(error)}; that is a bug in the chain's runtime, and "
            "starting again meets it again: its validators need a runtime in which the module is mended"
        )


class Exhausted(Exception):
    """This machine ran out of stack or memory while it executed a block, which says nothing of the block."""

    def __init__(self, height: int, panic: Panicked | HookPanicked) -> None:
        super().__init__(
            f"this machine cannot execute block {height}: {panic.where} raised {type(panic.__cause__).__name__}; that "
            "says nothing of the block: run the Python version that the other validators run, with as much memory"
        )


def is_exhaustion(error: Exception) -> TypeGuard[Panicked | HookPanicked]:
    """Whether this came of a stack or a memory that ended, which another machine's may not."""
    return isinstance(error, Panicked | HookPanicked) and isinstance(error.__cause__, EXHAUSTION)


def note_call(error: Exception, path: str) -> None:
    """Note on what a call raised which call that was; what it went through after that is not noted."""
    if not getattr(error, "__notes__", None):
        error.add_note(path)


def _words(error: Exception) -> str:
    """What was raised, in one bounded line."""
    text = " ".join(Exception.__str__(error)[:_TEXT_MAX].split())  # an exception's own __str__ may raise again
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
