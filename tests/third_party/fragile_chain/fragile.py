"""Fragile: what a module's author gets wrong, one mistake a call or hook, and one call that is right.

Rule: the guard has nothing to say of it: all of this is deterministic, and passes a test that does not try it.
"""

from __future__ import annotations

from typing import Final

from chain.primitives.scale import u32
from runtime.calls import Call, RuntimeCall
from runtime.framework import Module, call, event
from runtime.limits import MICROSECOND
from runtime.modules.system import System
from runtime.storage import StorageValue
from runtime.types import DispatchClass, InherentData, Origin, Unsigned, Weight

COST: Final = Weight(50 * MICROSECOND)
PRICES: Final = {b"apple": 3, b"pear": 4}


class Fragile(Module):
    """Calls and hooks that raise what no call or hook may raise."""

    system: System

    inherent = "tick"

    count = StorageValue[u32](default=0, doc="How often somebody has raised it.")
    armed = StorageValue[bytes](default=b"", doc="The hook that fails in the next block.")

    @event(index=0)
    class Raised:
        """The count is one higher."""

        count: u32

    @call(index=0, weight=COST)
    def up(self, origin: Origin) -> None:
        """Raise the count: the call that is right."""
        origin.ensure_signed()
        count = self.count.get() + 1
        self.count.put(count)
        self.emit(self.Raised(count))

    @call(index=1, weight=COST)
    def down(self, origin: Origin) -> None:
        """Lower the count, when it is 0, too."""
        origin.ensure_signed()
        self.emit(self.Raised(7))
        self.armed.put(b"half done")
        self.count.put(self.count.get() - 1)

    @call(index=2, weight=COST)
    def buy(self, origin: Origin, what: bytes) -> None:
        """Look up a price that there may not be."""
        origin.ensure_signed()
        self.count.put(PRICES[what])

    @call(index=3, weight=COST)
    def dig(self, origin: Origin, depth: u32) -> None:
        """Go down the stack as far as somebody likes."""
        origin.ensure_signed()
        self.count.put(self._dig(depth))

    @call(index=4, weight=COST)
    def hoard(self, origin: Origin, tebibytes: u32) -> None:
        """Take as much memory as somebody likes."""
        origin.ensure_signed()
        self.count.put(len(bytes(tebibytes << 40)))

    @call(index=5, weight=lambda parts: Weight(1000 * MICROSECOND // parts))
    def share(self, origin: Origin, parts: u32) -> None:
        """Weigh less the more parts there are."""
        origin.ensure_signed()
        self.count.put(parts)

    @call(index=6, weight=COST)
    def forward(self, origin: Origin, inner: RuntimeCall) -> None:
        """Make another call, and count it."""
        origin.ensure_signed()
        self.count.put(self.count.get() + 1)
        self.dispatch(inner, origin)

    @call(index=7, weight=COST)
    def anonymous(self, origin: Origin) -> None:
        """What comes without a signature, and is not validated without a mistake."""
        origin.ensure_none()

    @call(index=8, weight=COST)
    def arm(self, origin: Origin, hook: bytes) -> None:
        """Make a hook of the next block fail, or the inherent of a block that has one."""
        origin.ensure_signed()
        self.armed.put(hook)

    @call(index=9, weight=COST, dispatch_class=DispatchClass.MANDATORY)
    def tick(self, origin: Origin) -> None:
        """The inherent of blocks that follow on `arm("tick")`."""
        origin.ensure_none()
        self._fail_if(b"tick")

    def validate_unsigned(self, call: Call) -> Unsigned | None:
        """Vouch for `anonymous`, with a tag that is not bytes."""
        return None if call.info.name != "anonymous" else Unsigned(b"tag" + call.args[0], 1, 64)

    def inherent_required(self) -> bool:
        """Only where it is armed."""
        self._fail_if(b"inherent_required")
        return self.armed.get() in (b"tick", b"create_inherent")

    def create_inherent(self, data: InherentData) -> tuple[()]:
        """Nothing that a block's author would know."""
        del data
        self._fail_if(b"create_inherent")
        return ()

    def on_initialize(self) -> Weight | None:
        """Fail when armed."""
        self._fail_if(b"on_initialize")
        return None

    def on_finalize(self) -> None:
        """Fail when armed."""
        self._fail_if(b"on_finalize")

    def _fail_if(self, hook: bytes) -> None:
        if self.armed.get() == hook:
            self.count.put(PRICES[hook])

    def _dig(self, depth: int) -> int:
        return 0 if depth == 0 else 1 + self._dig(depth - 1)
