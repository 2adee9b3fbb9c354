"""Balances: who has how much. Total issuance is the sum of all balances after every block.

An account lives while its free balance is at least the existential deposit; what would fall below it is burned as dust,
and an account with reserved or locked money never falls below it. Every check comes before the first write.

Locks overlap and reserves add up, as in Substrate: of what is locked, the owner neither sends, burns, reserves nor pays
fees, while a slash takes it like any other. What is reserved counts towards a lock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from chain.primitives.scale import compact128
from chain.primitives.types import Id, MultiAddress
from runtime.framework import call
from runtime.genesis import U128_MAX, Section, account, integer, show
from runtime.limits import MICROSECOND
from runtime.modules.balances_schema import POT as POT
from runtime.modules.balances_schema import BalanceLock, BalancesSchema, Reasons, ReserveData
from runtime.types import (
    AccountData,
    AccountInfo,
    ArithmeticOverflow,
    CannotLookup,
    ConsumerRemaining,
    GenesisError,
    Origin,
    Weight,
)

TRANSFER: Final = Weight(150 * MICROSECOND)

# Genesis and root leave half of what can be counted to what the chain pays for work: where a reward found no room any
# more, no block could be made.
ENDOWED_MAX: Final = U128_MAX // 2


class Balances(BalancesSchema):
    """Accounts' balances, and the ways in which they change."""

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

    @call(index=8, weight=TRANSFER)
    def force_set_balance(self, origin: Origin, who: MultiAddress, new_free: compact128) -> None:
        """Set the free balance of an account and change the issuance by as much: root only.

        Less than the existential deposit removes the account, which fails while it has reserved or locked money.
        """
        origin.ensure_root()
        account = look_up(who)
        info = self.system.account[account]
        free = new_free if new_free >= self.existential_deposit else 0
        if not free and info.consumers:
            raise ConsumerRemaining
        self._issue(free - info.data.free, most=ENDOWED_MAX)
        self._store(account, info, free, info.data.reserved)
        self.emit(self.BalanceSet(account, free))

    @call(index=10, weight=TRANSFER)
    def burn(self, origin: Origin, value: compact128, keep_alive: bool) -> None:
        """Burn some liquid free balance of the signer: unlike what is sent to an address without a key, it is gone.

        Without `keep_alive` the account is removed if less than the existential deposit would remain.
        """
        who = origin.ensure_signed()
        self._debit(who, value, keep_alive=keep_alive)
        self._issue(-value)
        self.emit(self.Burned(who, value))

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
        return max(0, info.data.free - self.kept(info, keep_alive=keep_alive))

    def kept(self, info: AccountInfo, *, keep_alive: bool = True) -> int:
        """How much of the free balance cannot leave the account: what is locked and not reserved, or its life."""
        frozen = max(0, info.data.frozen - info.data.reserved)
        return max(frozen, self.existential_deposit) if keep_alive or info.consumers else frozen

    # --- what other modules do; each raises a DispatchError before it writes anything ---

    def mint(self, who: bytes, amount: int) -> None:
        """Create `amount` in an account's free balance; ExistentialDeposit if that does not keep it alive."""
        info = self.system.account[who]
        self._ensure_creditable(info, amount)
        self._issue(amount)
        self._store(who, info, info.data.free + amount, info.data.reserved)
        self.emit(self.Minted(who, amount))

    def slash(self, who: bytes, amount: int) -> int:
        """Destroy up to `amount` of the free balance as a penalty, locked or not; return how much was destroyed.

        An account that something needs keeps its existential deposit.
        """
        info = self.system.account[who]
        kept = self.existential_deposit if info.consumers else 0
        slashed = min(amount, max(0, info.data.free - kept))
        if slashed:
            self._issue(-slashed)
            self._store(who, info, info.data.free - slashed, info.data.reserved)
            self.emit(self.Slashed(who, slashed))
        return slashed

    def set_lock(self, who: bytes, lock_id: bytes, amount: int) -> None:
        """Lock `amount` of an account, in place of the lock that has this id; nothing for an amount of 0.

        DeadAccount for an account that does not exist, TooManyLocks for one more than there may be.
        """
        if amount:
            self._put_lock(who, lock_id, amount)

    def extend_lock(self, who: bytes, lock_id: bytes, amount: int) -> None:
        """`set_lock` of the greater of `amount` and what the lock of this id is."""
        before = [lock.amount for lock in self.locks[who] if lock.id == lock_id]
        self.set_lock(who, lock_id, max(amount, *before, 0))

    def remove_lock(self, who: bytes, lock_id: bytes) -> None:
        """Forget the lock that has this id, if there is one."""
        self._update_locks(who, [lock for lock in self.locks[who] if lock.id != lock_id])

    def reserve(self, who: bytes, amount: int) -> None:
        """Move `amount` from free to reserved; what is locked stays free, and so does the existential deposit."""
        info = self.system.account[who]
        self._ensure_withdrawable(info, amount, keep_alive=True)
        left, frozen = info.data.free - amount, info.data.frozen
        if left < frozen:
            raise self.LiquidityRestrictions(f"{left} would be left free of a balance of which {frozen} are locked")
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

    def reserved_named(self, who: bytes, reserve_id: bytes) -> int:
        """How much is reserved under a name."""
        return sum(part.amount for part in self.reserves[who] if part.id == reserve_id)

    def reserve_named(self, who: bytes, reserve_id: bytes, amount: int) -> None:
        """`reserve` under a name, so that no other module takes it for its own; TooManyReserves for one name more."""
        parts = self.reserves[who]
        if len(parts) >= self.max_reserves and all(part.id != reserve_id for part in parts):
            raise self.TooManyReserves(f"0x{who.hex()} has reserves under {len(parts)} names")
        self.reserve(who, amount)
        self._put_named(who, reserve_id, self.reserved_named(who, reserve_id) + amount)

    def unreserve_named(self, who: bytes, reserve_id: bytes, amount: int) -> int:
        """`unreserve` of what is reserved under a name alone; return how much was not there to move."""
        named = self.reserved_named(who, reserve_id)
        moved = min(amount, named)
        missing = self.unreserve(who, moved)
        assert not missing, f"0x{who.hex()} lacks {missing} of what {reserve_id!r} has reserved"
        self._put_named(who, reserve_id, named - moved)
        return amount - moved

    def slash_reserved_named(self, who: bytes, reserve_id: bytes, amount: int) -> int:
        """`slash_reserved` of what is reserved under a name alone; return how much was destroyed."""
        named = self.reserved_named(who, reserve_id)
        slashed = self.slash_reserved(who, min(amount, named))
        self._put_named(who, reserve_id, named - slashed)
        return slashed

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
        self._issue(-amount)
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
            if issuance > ENDOWED_MAX:
                raise GenesisError(f"{path}[1]: the balances sum to {issuance}, the most is {ENDOWED_MAX}")
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
            assert info.consumers == (data.reserved > 0 or data.frozen > 0), f"{who.hex()}: {info}"
            assert data.frozen == max((lock.amount for lock in self.locks[who]), default=0), f"{who.hex()}: {info}"
        issuance = self.total_issuance.get()
        assert issuance == total, f"issuance is {issuance}, the balances sum to {total}"
        for who, locks in self.locks.items():
            assert who in self.system.account, f"{who.hex()} has locks and does not exist"
            assert 0 < len(locks) <= self.max_locks, f"{who.hex()} has {len(locks)} locks"
            assert len({lock.id for lock in locks}) == len(locks), f"{who.hex()} has a lock twice: {locks}"

        for who, parts in self.reserves.items():
            named, names = sum(part.amount for part in parts), [part.id for part in parts]
            assert named <= self.reserved(who), f"{who.hex()} has {self.reserved(who)} reserved, {named} by name"
            assert 0 < len(names) <= self.max_reserves, f"{who.hex()} has {len(names)} named reserves"
            assert sorted(set(names)) == names, f"{who.hex()} has a named reserve twice, or out of order: {parts}"
            assert all(part.amount for part in parts), f"{who.hex()} has an empty named reserve: {parts}"

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
        locked = max(0, info.data.frozen - info.data.reserved)
        if left < locked:
            raise self.LiquidityRestrictions(f"balance {free} less {amount} leaves {left}: {locked} of it are locked")
        if left < self.existential_deposit and (keep_alive or info.consumers):
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
            self._issue(-destroyed)
        return destroyed

    def _issue(self, change: int, most: int = U128_MAX) -> None:
        """Change the issuance by what is created, up to `most` in all, or, if negative, destroyed."""
        issuance = self.total_issuance.get() + change
        if change > 0 and issuance > most:
            raise ArithmeticOverflow(f"issuance would be {issuance}, the most is {most}")
        self.total_issuance.put(issuance)

    def _put_named(self, who: bytes, reserve_id: bytes, amount: int) -> None:
        parts = [part for part in self.reserves[who] if part.id != reserve_id]
        if amount:
            parts.append(ReserveData(reserve_id, amount))
        if parts:
            self.reserves[who] = sorted(parts, key=lambda part: part.id)
        else:
            self.reserves.remove(who)

    def _put_lock(self, who: bytes, lock_id: bytes, amount: int) -> None:
        if who not in self.system.account:
            raise self.DeadAccount(f"0x{who.hex()} does not exist: it has nothing to lock")
        lock, locks = BalanceLock(lock_id, amount, Reasons.ALL), self.locks[who]
        ids = [item.id for item in locks]
        if lock_id in ids:
            locks[ids.index(lock_id)] = lock
        elif len(locks) < self.max_locks:
            locks.append(lock)
        else:
            raise self.TooManyLocks(f"0x{who.hex()} has {len(locks)} locks")
        self._update_locks(who, locks)

    def _update_locks(self, who: bytes, locks: list[BalanceLock]) -> None:
        info = self.system.account[who]
        before, frozen = info.data.frozen, max((lock.amount for lock in locks), default=0)
        if locks:
            self.locks[who] = locks
        else:
            self.locks.remove(who)
        if frozen != before:
            self._store(who, info, info.data.free, info.data.reserved, frozen)
            kind = self.Locked if frozen > before else self.Unlocked
            self.emit(kind(who, abs(frozen - before)))

    def _store(self, who: bytes, before: AccountInfo, free: int, reserved: int, frozen: int | None = None) -> None:
        """Write an account's balances; create it, or remove it with its dust, as they demand."""
        accounts = self.system.account
        if frozen is None:
            frozen = before.data.frozen
        if free < self.existential_deposit:
            assert not reserved | frozen, f"{who.hex()} would die with {reserved} reserved and {frozen} locked"
            accounts.remove(who)
            if before.providers:
                self.emit(self.system.KilledAccount(who))
            if free:
                self._issue(-free)
                self.emit(self.DustLost(who, free))
            return
        data = AccountData(free, reserved, frozen)
        consumers = before.consumers + _consumes(data) - _consumes(before.data)
        accounts[who] = AccountInfo(before.nonce, consumers, 1, before.sufficients, data)
        if not before.providers:
            self.emit(self.system.NewAccount(who))
            self.emit(self.Endowed(who, free))


def _consumes(data: AccountData) -> bool:
    """Whether an account is needed by its own balances: it cannot be removed while money in it is bound."""
    return data.reserved > 0 or data.frozen > 0


def look_up(address: MultiAddress) -> bytes:
    """The account of an address; CannotLookup for any form but `Id`."""
    if not isinstance(address, Id):
        raise CannotLookup(f"expected MultiAddress::Id, got {type(address).__name__}")
    return address.account
