"""Builds a block that every machine can execute: with stack to spare, and without what makes a hook fail.

The ledger says how a block is made of what is offered; here is what happens where that cannot be done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from chain.panic_log import PanicLog
from runtime.panic import HookPanicked, Panicked
from runtime.types import InvalidTransaction

# A block is built with so much less of the stack than it is executed with: a call that just found room when the block
# was built finds it wherever the block is executed, from whatever depth. A tenth of Python's thousand.
STACK_FRAMES_SPARED: Final = 100

B = TypeVar("B")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rejected:
    """A transaction that a proposal left out because it is not valid on this state."""

    extrinsic: bytes
    error: InvalidTransaction


# A block of what is offered, until it is full or the function says stop, and what of it was left out.
Build = Callable[[Iterable[bytes], Callable[[], bool]], tuple[B, list[Rejected]]]


def propose(
    build: Build[B], transactions: Iterable[bytes], stop: Callable[[], bool], panics: PanicLog
) -> tuple[B, list[Rejected]]:
    """Build a block; where a hook of it fails after a transaction, the block up to that one, which is rejected.

    Raises HookPanicked when the runtime lets nobody make a block.
    """

    def build_deeper(offered: Iterable[bytes], stop: Callable[[], bool]) -> tuple[B, list[Rejected]]:
        return _from_depth(STACK_FRAMES_SPARED, partial(build, offered, stop))

    taken: list[bytes] = []
    try:
        return build_deeper(_noted(transactions, taken), stop)
    except HookPanicked as error:
        panics.tell(error)
        if not taken:
            raise
        return _without_culprit(taken, lambda offered: build_deeper(offered, lambda: False), error)


def _without_culprit(
    taken: Sequence[bytes], build: Callable[[Iterable[bytes]], tuple[B, list[Rejected]]], error: HookPanicked
) -> tuple[B, list[Rejected]]:
    """The block up to the transaction with which a hook of the same block fails, and that one rejected.

    HookPanicked where the hook fails without any. Halving takes about as long as two blocks.
    """
    low, high = 0, len(taken)  # With the first `low` a block can be made, with the first `high` none.
    executed, rejected = build(())
    while high - low > 1:
        middle = (low + high) // 2
        try:
            executed, rejected = build(taken[:middle])
            low = middle
        except HookPanicked as earlier:
            high, error = middle, earlier
    assert isinstance(error.__cause__, Exception)
    culprit = Panicked(error.where, error.__cause__)
    culprit.__cause__ = error.__cause__
    return executed, [*rejected, Rejected(taken[high - 1], culprit)]


def _noted(items: Iterable[bytes], taken: list[bytes]) -> Iterator[bytes]:
    """The same items, each noted when it is taken."""
    for item in items:
        taken.append(item)
        yield item


def _from_depth(frames: int, work: Callable[[], T]) -> T:
    """Do work so many of Python's frames further down the stack."""
    return work() if frames == 0 else _from_depth(frames - 1, work)
