"""Utility: several calls in one transaction, and calls made as somebody else that the caller may speak for.

It keeps nothing and knows no other module. Calls, events and the error are those of Substrate's pallet_utility.
"""

from __future__ import annotations

from collections.abc import Sequence

from chain.primitives.hashing import blake2_256
from chain.primitives.scale import AccountId, encode, u16, u32
from runtime.calls import READ_BYTE, Call, RuntimeCall
from runtime.faults import DispatchFailed, DispatchFault, DispatchResult
from runtime.framework import Constant, Module, call, event
from runtime.limits import MICROSECOND
from runtime.types import (
    NO_WEIGHT,
    BadOrigin,
    DispatchClass,
    DispatchError,
    Origin,
    OriginCaller,
    Weight,
    origin_of,
)

# What a call costs beside the calls that it makes, and what each of those costs beside itself: its decoding, its
# transaction of storage and its event.
OVERHEAD = Weight(20 * MICROSECOND)
ITEM = Weight(30 * MICROSECOND)


def batch_weight(calls: Sequence[Call]) -> Weight:
    """All of the calls with the overhead."""
    weight = OVERHEAD + ITEM.times(len(calls))
    for item in calls:
        weight += item.dispatch_info.weight
    return weight


def batch_class(calls: Sequence[Call]) -> DispatchClass:
    """Normal as soon as one of the calls is."""
    normal = any(item.dispatch_info.class_ is DispatchClass.NORMAL for item in calls)
    return DispatchClass.NORMAL if normal else DispatchClass.OPERATIONAL


def single_weight(call: Call) -> Weight:
    """One call with the overhead."""
    return OVERHEAD + ITEM + call.dispatch_info.weight


def skipped_weight(calls: Sequence[Call]) -> Weight:
    """What calls have cost that were not made: somebody had to read them, whatever lies inside of them."""
    weight = NO_WEIGHT
    for item in calls:
        weight += READ_BYTE.times(item.size).at_most(ITEM + item.dispatch_info.weight)
    return weight


def derivative_account(who: bytes, index: int) -> bytes:
    """The account `index` that `who` speaks for, as Substrate derives it: no key signs for it."""
    return blake2_256(b"modlpy/utilisuba" + encode(tuple[AccountId, u16], (who, index)))


class Utility(Module):
    """Batches of calls, and calls in another's name."""

    # No block's weight has room for more that are normal, even of calls that weigh nothing.
    batched_calls_limit = Constant[u32](
        20_000, name="batched_calls_limit", doc="The limit on the number of batched calls."
    )

    class TooManyCalls(DispatchError):
        """Too many calls batched."""

        index = 0

    @event(index=0)
    class BatchInterrupted:
        """Batch of dispatches did not complete fully: the index of the first failing one, and its error."""

        index: u32
        error: DispatchFault

    @event(index=1)
    class BatchCompleted:
        """Batch of dispatches completed fully with no error."""

    @event(index=2)
    class BatchCompletedWithErrors:
        """Batch of dispatches completed but has errors."""

    @event(index=3)
    class ItemCompleted:
        """A single item within a batch of dispatches has completed with no error."""

    @event(index=4)
    class ItemFailed:
        """A single item within a batch of dispatches has completed with error."""

        error: DispatchFault

    @event(index=5)
    class DispatchedAs:
        """A call was dispatched."""

        result: DispatchResult

    @call(index=0, weight=batch_weight, dispatch_class=batch_class)
    def batch(self, origin: Origin, calls: list[RuntimeCall]) -> Weight:
        """Send a batch of dispatch calls, up to the first that fails.

        What succeeded before it stays, and the batch itself succeeds: the event BatchInterrupted tells that one failed.
        May be called from any origin except none.
        """
        self._ensure_batch(origin, calls)
        used = OVERHEAD
        for index, item in enumerate(calls):
            result, weight = self.attempt(item, origin)
            used += ITEM + weight
            if isinstance(result, DispatchFailed):
                self.emit(self.BatchInterrupted(index, result.error))
                return used + skipped_weight(calls[index + 1 :])
            self.emit(self.ItemCompleted())
        self.emit(self.BatchCompleted())
        return used

    @call(index=1, weight=lambda _, call: single_weight(call), dispatch_class=lambda _, call: class_of(call))
    def as_derivative(self, origin: Origin, index: u16, call: RuntimeCall) -> Weight:
        """Send a call through an indexed pseudonym of the sender."""
        pseudonym = derivative_account(origin.ensure_signed(), index)
        try:
            return OVERHEAD + ITEM + self.dispatch(call, Origin.signed(pseudonym)).weight
        except DispatchError as error:
            error.used = OVERHEAD + ITEM + error.spent
            raise

    @call(index=2, weight=batch_weight, dispatch_class=batch_class)
    def batch_all(self, origin: Origin, calls: list[RuntimeCall]) -> Weight:
        """Send a batch of dispatch calls and atomically execute them: if any of them fails, all are undone.

        May be called from any origin except none.
        """
        self._ensure_batch(origin, calls)
        used = OVERHEAD
        for index, item in enumerate(calls):
            try:
                used += ITEM + self.dispatch(item, origin).weight
            except DispatchError as error:
                error.used = used + ITEM + error.spent + skipped_weight(calls[index + 1 :])
                raise
            self.emit(self.ItemCompleted())
        self.emit(self.BatchCompleted())
        return used

    @call(index=3, weight=lambda _, call: single_weight(call), dispatch_class=lambda _, call: class_of(call))
    def dispatch_as(self, origin: Origin, as_origin: OriginCaller, call: RuntimeCall) -> None:
        """Dispatch a function call with a provided origin: root only, and no inherent, which is a block's alone."""
        origin.ensure_root()
        if class_of(call) is DispatchClass.MANDATORY:
            raise BadOrigin(f"only a block itself carries {call.path}")
        result, _ = self.attempt(call, origin_of(as_origin))
        self.emit(self.DispatchedAs(result))

    @call(index=4, weight=batch_weight, dispatch_class=batch_class)
    def force_batch(self, origin: Origin, calls: list[RuntimeCall]) -> Weight:
        """Send a batch of dispatch calls. Unlike `batch`, it allows errors and is not interrupted.

        May be called from any origin except none.
        """
        self._ensure_batch(origin, calls)
        used, failed = OVERHEAD, False
        for item in calls:
            result, weight = self.attempt(item, origin)
            used += ITEM + weight
            if isinstance(result, DispatchFailed):
                failed = True
                self.emit(self.ItemFailed(result.error))
            else:
                self.emit(self.ItemCompleted())
        self.emit(self.BatchCompletedWithErrors() if failed else self.BatchCompleted())
        return used

    def _ensure_batch(self, origin: Origin, calls: Sequence[Call]) -> None:
        origin.ensure_any()
        if len(calls) > self.batched_calls_limit:
            raise self.TooManyCalls(f"expected at most {self.batched_calls_limit} calls, got {len(calls)}")


def class_of(call: Call) -> DispatchClass:
    """The class of the call inside."""
    return call.dispatch_info.class_
