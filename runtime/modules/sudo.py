"""Sudo: one account that makes calls as root, for networks that have nobody else to govern them yet.

A chain whose genesis names no key has no such account, and none can become it. Calls, events and the error are those of
Substrate's pallet_sudo.
"""

from __future__ import annotations

from collections.abc import Mapping

from chain.primitives.scale import AccountId
from chain.primitives.types import MultiAddress
from runtime.calls import READ_BYTE, RuntimeCall
from runtime.faults import DispatchResult
from runtime.framework import Module, call, event
from runtime.genesis import Section
from runtime.limits import MICROSECOND
from runtime.modules.balances import look_up
from runtime.storage import StorageValue
from runtime.types import DispatchError, Origin, Pays, Weight

# What a call costs beside the call that it makes.
OVERHEAD = Weight(50 * MICROSECOND)


class Sudo(Module):
    """One account that makes calls as root."""

    key = StorageValue[AccountId](doc="The AccountId of the sudo key.")

    class RequireSudo(DispatchError):
        """Sender must be the Sudo account."""

        index = 0

    @event(index=0)
    class Sudid:
        """A sudo call just took place."""

        sudo_result: DispatchResult

    @event(index=1)
    class KeyChanged:
        """The sudo key has been updated."""

        old: AccountId | None
        new: AccountId

    @event(index=2)
    class KeyRemoved:
        """The key was permanently removed."""

    @event(index=3)
    class SudoAsDone:
        """A sudo_as call just took place."""

        sudo_result: DispatchResult

    @call(
        index=0,
        weight=lambda call: OVERHEAD + call.dispatch_info.weight,
        dispatch_class=lambda call: call.dispatch_info.class_,
    )
    def sudo(self, origin: Origin, call: RuntimeCall) -> Pays:
        """Authenticates the sudo key and dispatches a function call with root origin."""
        self._ensure_sudo(origin)
        result, _ = self.attempt(call, Origin.root())
        self.emit(self.Sudid(result))
        return Pays.NO

    @call(
        index=1,
        weight=lambda call, weight: weight + READ_BYTE.times(call.size),
        dispatch_class=lambda call, _: call.dispatch_info.class_,
    )
    def sudo_unchecked_weight(self, origin: Origin, call: RuntimeCall, weight: Weight) -> Pays:
        """Authenticates the sudo key and dispatches a function call with root origin and a weight that the key gives.

        The call may so take more of a block than any other could. What it takes to read counts besides, since anybody
        may send a megabyte that claims to weigh nothing.
        """
        del weight  # it has counted before
        self._ensure_sudo(origin)
        result, _ = self.attempt(call, Origin.root())
        self.emit(self.Sudid(result))
        return Pays.NO

    @call(index=2, weight=OVERHEAD)
    def set_key(self, origin: Origin, new: MultiAddress) -> Pays:
        """Authenticates the current sudo key and sets the given account as the new sudo key."""
        old = self._ensure_sudo(origin)
        account = look_up(new)
        self.key.put(account)
        self.emit(self.KeyChanged(old, account))
        return Pays.NO

    @call(
        index=3,
        weight=lambda _, call: OVERHEAD + call.dispatch_info.weight,
        dispatch_class=lambda _, call: call.dispatch_info.class_,
    )
    def sudo_as(self, origin: Origin, who: MultiAddress, call: RuntimeCall) -> Pays:
        """Authenticates the sudo key and dispatches a function call with signed origin from a given account."""
        self._ensure_sudo(origin)
        account = look_up(who)
        result, _ = self.attempt(call, Origin.signed(account))
        self.emit(self.SudoAsDone(result))
        return Pays.NO

    @call(index=4, weight=OVERHEAD)
    def remove_key(self, origin: Origin) -> Pays:
        """Permanently removes the sudo key. **This cannot be un-done.**"""
        self._ensure_sudo(origin)
        self.key.kill()
        self.emit(self.KeyRemoved())
        return Pays.NO

    def genesis(self, config: Mapping[str, object]) -> None:
        """`{"key": address}`; without it nobody is the sudo account."""
        section = Section(self.info.attribute, config)
        if "key" in section:
            self.key.put(section.account("key"))
        section.finish()

    def _ensure_sudo(self, origin: Origin) -> bytes:
        sender = origin.ensure_signed()
        if not self.key.exists() or sender != self.key.get():
            raise self.RequireSudo
        return sender
