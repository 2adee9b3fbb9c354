"""Balances: who has how much. Total issuance is the sum of all balances after every block.

An account lives while its free balance is at least the existential deposit; what would fall below it is burned as dust,
and an account with reserved money never falls below it. Every check comes before the first write.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from chain.primitives.scale import AccountId, Balance, compact128
from chain.primitives.types import Id, MultiAddress
from runtime.framework import Constant, Module, call, event
from runtime.genesis import U128_MAX, Section, account, integer, show
from runtime.limits import MICROSECOND
from runtime.modules.system import System
from runtime.storage import StorageValue
from runtime.types import (
    AccountData,
    AccountInfo,
    ArithmeticOverflow,
    CannotLookup,
    DispatchError,
    GenesisError,
    Origin,
    Weight,
)

# Token POT has 12 decimals: one POT in planck, the unit of every amount.
POT: Final = 10**12
TRANSFER: Final = Weight(150 * MICROSECOND)


class Balances(Module):
    """Accounts' balances, and the ways in which they change."""

    system: System

    total_issuance = StorageValue[Balance](default=0, doc="The total units issued in the system.")

    existential_deposit = Constant[Balance](POT // 1000, doc="The least free balance that keeps an account alive.")

    class InsufficientBalance(DispatchError):
        """Balance too low to send value."""

        index = 0

    class ExistentialDeposit(DispatchError):
        """Value too low to create account due to existential deposit."""

        index = 1

    class Expendability(DispatchError):
        """Transfer/payment would kill account."""

        index = 2

    @event(index=0)
    class Endowed:
        """An account was created with some free balance."""

        account: AccountId
        free_balance: Balance

    @event(index=1)
    class DustLost:
        """An account was removed whose balance was non-zero but below the existential deposit."""

        account: AccountId
        amount: Balance

    @event(index=2)
    class Transfer:
        """Transfer succeeded."""

        from_: AccountId
        to: AccountId
        amount: Balance

    @event(index=4)
    class Reserved:
        """Some balance was reserved (moved from free to reserved)."""

        who: AccountId
        amount: Balance

    @event(index=5)
    class Unreserved:
        """Some balance was unreserved (moved from reserved to free)."""

        who: AccountId
        amount: Balance

    @event(index=7)
    class Deposit:
        """Some amount was deposited (for example for transaction fees)."""

        who: AccountId
        amount: Balance

    @event(index=8)
    class Withdraw:
        """Some amount was withdrawn from the account (for example for transaction fees)."""

        who: AccountId
        amount: Balance

    @event(index=9)
    class Slashed:
        """Some amount was removed from the account (for example for misbehaviour)."""

        who: AccountId
        amount: Balance

    @event(index=10)
    class Minted:
        """Some amount was minted into an account."""

        who: AccountId
        amount: Balance

    @event(index=11)
    class Burned:
        """Some amount was burned from an account."""

        who: AccountId
        amount: Balance

    @event(index=16)
    class Rescinded:
        """Total issuance was decreased by an amount that no account held."""

        amount: Balance

    # --- calls ---

    @call(index=0, weight=TRANSFER)
    def transfer_allow_death(self, origin: Origin, dest: MultiAddress, value: compact128) -> None:
        """Transfer some liquid free balance to another account.

        The sender's account is removed if less than the existential deposit would remain.
        """
        self._transfer(origin.ensure_signed(), look_up(dest), value, keep_alive=False)

    @call(index=2, weight=TRANSFER)
    def force_transfer(self, origin: Origin, source: MultiAddress, dest: MultiAddress, value: compact128) -> None:
        """Transfer from any account: root only."""
        origin.ensure_root()
        self._transfer(look_up(source), look_up(dest), value, keep_alive=False)

    @call(index=3, weight=TRANSFER)
    def transfer_keep_alive(self, origin: Origin, dest: MultiAddress, value: compact128) -> None:
        """Transfer some liquid free balance to another account; fail rather than remove the sender's account."""
        self._transfer(origin.ensure_signed(), look_up(dest), value, keep_alive=True)

    @call(index=4, weight=TRANSFER)
    def transfer_all(self, origin: Origin, dest: MultiAddress, keep_alive: bool) -> None:
        """Transfer the entire transferable balance; with `keep_alive` the existential deposit stays."""
        source = origin.ensure_signed()
        self._transfer(source, look_up(dest), self.transferable(source, keep_alive=keep_alive), keep_alive=keep_alive)

    # --- what other modules ask ---

    def free(self, who: bytes) -> int:
        """The free balance."""
        return self.system.account[who].data.free

    def reserved(self, who: bytes) -> int:
        """The reserved balance."""
        return self.system.account[who].data.reserved

    def total(self, who: bytes) -> int:
        """Free and reserved balance together."""
        data = self.system.account[who].data
        return data.free + data.reserved

    def transferable(self, who: bytes, *, keep_alive: bool = True) -> int:
        """How much of the free balance can leave the account."""
        info = self.system.account[who]
        kept = self.existential_deposit if keep_alive or info.data.reserved else 0
        return max(0, info.data.free - kept)

    # --- what other modules do; each raises a DispatchError before it writes anything ---

    def mint(self, who: bytes, amount: int) -> None:
        """Create `amount` in an account's free balance; ExistentialDeposit if that does not keep it alive."""
        issuance = self.total_issuance.get() + amount
        if issuance > U128_MAX:
            raise ArithmeticOverflow(f"issuance would be {issuance}, the most is {U128_MAX}")
        self._credit(who, amount)
        self.total_issuance.put(issuance)
        self.emit(self.Minted(who, amount))

    def reserve(self, who: bytes, amount: int) -> None:
        """Move `amount` from free to reserved; the existential deposit stays free."""
        info = self.system.account[who]
        self._ensure_withdrawable(info, amount, keep_alive=True)
        self._store(who, info, info.data.free - amount, info.data.reserved + amount)
        self.emit(self.Reserved(who, amount))

    def unreserve(self, who: bytes, amount: int) -> int:
        """Move up to `amount` from reserved to free; return how much was not there to move."""
        info = self.system.account[who]
        moved = min(amount, info.data.reserved)
        if moved:
            self._store(who, info, info.data.free + moved, info.data.reserved - moved)
            self.emit(self.Unreserved(who, moved))
        return amount - moved

    def slash_reserved(self, who: bytes, amount: int) -> int:
        """Destroy up to `amount` of the reserved balance as a penalty; return how much was destroyed."""
        slashed = self._destroy_reserved(who, amount)
        if slashed:
            self.emit(self.Slashed(who, slashed))
        return slashed

    def burn_reserved(self, who: bytes, amount: int) -> int:
        """Destroy up to `amount` of the reserved balance as agreed, as a spent escrow; return how much."""
        burned = self._destroy_reserved(who, amount)
        if burned:
            self.emit(self.Burned(who, burned))
        return burned

    def withdraw(self, who: bytes, amount: int) -> None:
        """Take `amount` out of an account, which stays alive. Issuance still counts it: deposit or rescind it."""
        self._debit(who, amount, keep_alive=True)
        self.emit(self.Withdraw(who, amount))

    def deposit(self, who: bytes, amount: int) -> None:
        """Put into an account what was withdrawn elsewhere; ExistentialDeposit if that does not keep it alive."""
        self._credit(who, amount)
        self.emit(self.Deposit(who, amount))

    def rescind(self, amount: int) -> None:
        """Destroy what was withdrawn and finds no taker."""
        self.total_issuance.put(self.total_issuance.get() - amount)
        self.emit(self.Rescinded(amount))

    # --- genesis and invariants ---

    def genesis(self, config: Mapping[str, object]) -> None:
        """`{"balances": [[address, amount], …]}`: each account once, each amount at least the existential deposit."""
        section = Section(self.info.attribute, config)
        issuance = 0
        for path, item in section.items("balances"):
            if not isinstance(item, list | tuple) or len(item) != 2:
                raise GenesisError(f"{path}: expected [address, amount], got {show(item)}")
            who = account(f"{path}[0]", item[0])
            amount = integer(f"{path}[1]", item[1], minimum=self.existential_deposit)
            if who in self.system.account:
                raise GenesisError(f"{path}[0]: {item[0]} appears twice; endow each account once")
            issuance += amount
            if issuance > U128_MAX:
                raise GenesisError(f"{path}[1]: the balances sum to {issuance}, the most is {U128_MAX}")
            self._store(who, AccountInfo(), amount, 0)
        section.finish()
        self.total_issuance.put(issuance)

    def check(self) -> None:
        """Issuance is the sum of all balances; an account is alive exactly with the existential deposit."""
        total = 0
        for who, info in self.system.account.items():
            data = info.data
            total += data.free + data.reserved
            assert data.free >= self.existential_deposit, f"{who.hex()} lives on {data.free}"
            assert info.consumers == (data.reserved > 0), f"{who.hex()}: {info}"
        issuance = self.total_issuance.get()
        assert issuance == total, f"issuance is {issuance}, the balances sum to {total}"

    # --- how balances change ---

    def _transfer(self, source: bytes, dest: bytes, value: int, *, keep_alive: bool) -> None:
        accounts = self.system.account
        sender = accounts[source]
        self._ensure_withdrawable(sender, value, keep_alive=keep_alive)
        if source == dest:
            return
        receiver = accounts[dest]
        self._ensure_creditable(receiver, value)
        self._store(source, sender, sender.data.free - value, sender.data.reserved)
        self._store(dest, receiver, receiver.data.free + value, receiver.data.reserved)
        self.emit(self.Transfer(source, dest, value))

    def _credit(self, who: bytes, amount: int) -> None:
        info = self.system.account[who]
        self._ensure_creditable(info, amount)
        self._store(who, info, info.data.free + amount, info.data.reserved)

    def _debit(self, who: bytes, amount: int, *, keep_alive: bool) -> None:
        info = self.system.account[who]
        self._ensure_withdrawable(info, amount, keep_alive=keep_alive)
        self._store(who, info, info.data.free - amount, info.data.reserved)

    def _ensure_withdrawable(self, info: AccountInfo, amount: int, *, keep_alive: bool) -> None:
        free = info.data.free
        left = free - amount
        if left < 0:
            raise self.InsufficientBalance(f"balance {free} cannot pay {amount}: need {-left} more")
        if left < self.existential_deposit and (keep_alive or info.data.reserved):
            raise self.Expendability(
                f"balance {free} less {amount} leaves {left}: the account keeps at least {self.existential_deposit}"
            )

    def _ensure_creditable(self, info: AccountInfo, amount: int) -> None:
        if info.data.free + amount < self.existential_deposit:
            raise self.ExistentialDeposit(f"a new account needs at least {self.existential_deposit}, got {amount}")

    def _destroy_reserved(self, who: bytes, amount: int) -> int:
        info = self.system.account[who]
        destroyed = min(amount, info.data.reserved)
        if destroyed:
            self._store(who, info, info.data.free, info.data.reserved - destroyed)
            self.total_issuance.put(self.total_issuance.get() - destroyed)
        return destroyed

    def _store(self, who: bytes, before: AccountInfo, free: int, reserved: int) -> None:
        """Write an account's balances; create it, or remove it with its dust, as they demand."""
        accounts = self.system.account
        if free < self.existential_deposit:
            assert not reserved, f"{who.hex()} would die with {reserved} reserved"
            accounts.remove(who)
            if before.providers:
                self.emit(self.system.KilledAccount(who))
            if free:
                self.total_issuance.put(self.total_issuance.get() - free)
                self.emit(self.DustLost(who, free))
            return
        consumers = before.consumers + (reserved > 0) - (before.data.reserved > 0)
        accounts[who] = AccountInfo(before.nonce, consumers, 1, before.sufficients, AccountData(free, reserved))
        if not before.providers:
            self.emit(self.system.NewAccount(who))
            self.emit(self.Endowed(who, free))


def look_up(address: MultiAddress) -> bytes:
    """The account of an address; CannotLookup for any form but `Id`."""
    if not isinstance(address, Id):
        raise CannotLookup(f"expected MultiAddress::Id, got {type(address).__name__}")
    return address.account
