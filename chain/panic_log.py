"""Tells the node's operator of the bugs of modules, with their traceback: each place once, whoever meets it how often.

Anybody may send a transaction that meets one, for nothing, as often as he likes: the log must not fill with it.
"""

from __future__ import annotations

import traceback
from typing import Final

from chain.log import Log
from runtime.panic import Exhausted, HookPanicked, Panicked
from runtime.types import InvalidBlock

log = Log("bug")

# As many places as a runtime with very many bugs has; the oldest is told again after that.
PLACES_MAX: Final = 256
# What is told of a traceback: a recursion's would be a thousand frames, and its lines may quote what a stranger sent.
FRAMES_MAX: Final = 8
TEXT_MAX: Final = 4000


class PanicLog:
    """Any thread may tell it: each step is one operation on a dictionary."""

    def __init__(self) -> None:
        self._told: dict[tuple[object, ...], None] = {}

    def tell(self, error: Exception) -> None:
        """Say what a module's code raised, where an error is about that or comes of it; else nothing."""
        panic = error.__cause__ if isinstance(error, InvalidBlock | Exhausted) else error
        if not isinstance(panic, Panicked | HookPanicked) or panic.__cause__ is None:
            return
        raised = panic.__cause__
        frames = traceback.extract_tb(raised.__traceback__)
        place = (panic.where, type(raised), frames[-1].filename, frames[-1].lineno)
        if place in self._told:
            return
        if len(self._told) >= PLACES_MAX:
            self._told.pop(next(iter(self._told)), None)
        self._told[place] = None
        lines = "".join(traceback.format_exception(type(raised), raised, raised.__traceback__, limit=-FRAMES_MAX))
        log.error(f"{_advice(panic)}\n{lines[:TEXT_MAX]}", where=panic.where)


def _advice(panic: Panicked | HookPanicked) -> str:
    if isinstance(panic, HookPanicked):
        return str(panic)
    return (
        f"{panic.message}. Such transactions are left out, blocks that have one are refused, and all others go on; who "
        "wrote the module should raise a DispatchError for what a caller can bring about. Said once; it is here:"
    )
