"""Timestamp: the time of the block, which its author sets first of all.

Time never runs backwards, and a block that sets none, or two, is invalid.
"""

from __future__ import annotations

from chain.primitives.scale import compact64, u64
from runtime.framework import Constant, Module, call
from runtime.limits import MICROSECOND
from runtime.storage import StorageValue
from runtime.types import DispatchClass, DispatchError, InherentData, Origin, Weight


class Timestamp(Module):
    """The time of the block, in milliseconds since 1970."""

    inherent = "set"

    now = StorageValue[u64](default=0, doc="The time of the block, in milliseconds since 1970.")
    did_update = StorageValue[bool](default=False, doc="Whether this block has set its time.")

    minimum_period = Constant[u64](
        500, doc="The least time between blocks, in milliseconds: half of what is expected between them."
    )

    class AlreadySet(DispatchError):
        """The block has set its time before."""

        index = 0

    class TooEarly(DispatchError):
        """The time is not at least the minimum period after the parent's."""

        index = 1

    @call(index=0, weight=Weight(50 * MICROSECOND), dispatch_class=DispatchClass.MANDATORY)
    def set(self, origin: Origin, now: compact64) -> None:
        """Set the time of the block: the author does, once, before anything else."""
        origin.ensure_none()
        if self.did_update.get():
            raise self.AlreadySet
        previous = self.now.get()
        if previous and now < previous + self.minimum_period:
            raise self.TooEarly(f"expected a time of at least {previous + self.minimum_period} ms, got {now} ms")
        self.now.put(now)
        self.did_update.put(True)

    def create_inherent(self, data: InherentData) -> tuple[int]:
        """The author's time, or the earliest allowed where its clock is behind."""
        previous = self.now.get()
        return (max(data.timestamp_ms, previous + self.minimum_period) if previous else data.timestamp_ms,)

    def on_finalize(self) -> None:
        """Every block has set its time, as the executive requires."""
        assert self.did_update.get(), "the block has not set its time"
        self.did_update.kill()
