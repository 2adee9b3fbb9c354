"""What Balances declares: storage, constants, errors and events, in Substrate's layouts and with its event numbers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Final

from chain.primitives.scale import AccountId, Balance, FixedBytes, scale_path, u32
from runtime.framework import Constant, Module, event
from runtime.modules.system import System
from runtime.storage import StorageMap, StorageValue
from runtime.types import DispatchError

# Token POT has 12 decimals: one POT in planck, the unit of every amount.
POT: Final = 10**12

LockId = Annotated[bytes, FixedBytes(8)]
ReserveId = Annotated[bytes, FixedBytes(8)]


@scale_path("pallet_balances::types::Reasons")
class Reasons(IntEnum):
    """What a lock keeps money from. Since AccountData has one `frozen`, it is always everything."""

    FEE = 0
    MISC = 1
    ALL = 2


@scale_path("pallet_balances::types::BalanceLock", Balance=Balance)
@dataclass(frozen=True, slots=True)
class BalanceLock:
    """A lock on an account's balance; `id` names the module that set it."""

    id: LockId
    amount: Balance
    reasons: Reasons


@scale_path("pallet_balances::types::ReserveData", ReserveIdentifier=ReserveId, Balance=Balance)
@dataclass(frozen=True, slots=True)
class ReserveData:
    """A part of what an account has reserved; `id` names the module that it is reserved for."""

    id: ReserveId
    amount: Balance


class BalancesSchema(Module):
    """Accounts' balances, and the ways in which they change."""

    system: System

    total_issuance = StorageValue[Balance](default=0, doc="The total units issued in the system.")

    locks = StorageMap[AccountId, list[BalanceLock]](default=[], doc="Any liquidity locks on some account balances.")

    reserves = StorageMap[AccountId, list[ReserveData]](
        default=[], doc="Named reserves on some account balances: parts of what is reserved."
    )

    existential_deposit = Constant[Balance](POT // 1000, doc="The least free balance that keeps an account alive.")

    # A module has one lock or two; more on one account are a module's mistake, and each is read with all others.
    max_locks = Constant[u32](50, doc="The maximum number of locks that should exist on an account.")

    # The same holds for reserves by name.
    max_reserves = Constant[u32](50, doc="The maximum number of named reserves that can exist on an account.")

    class InsufficientBalance(DispatchError):
        """Balance too low to send value."""

        index = 0

    class ExistentialDeposit(DispatchError):
        """Value too low to create account due to existential deposit."""

        index = 1

    class Expendability(DispatchError):
        """Transfer/payment would kill account."""

        index = 2

    class LiquidityRestrictions(DispatchError):
        """Account liquidity restrictions prevent withdrawal."""

        index = 3

    class DeadAccount(DispatchError):
        """Beneficiary account must pre-exist."""

        index = 4

    class TooManyLocks(DispatchError):
        """The account has as many locks as there may be."""

        index = 5

    class TooManyReserves(DispatchError):
        """Number of named reserves exceed `MaxReserves`."""

        index = 6

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

    @event(index=3)
    class BalanceSet:
        """A balance was set by root."""

        who: AccountId
        free: Balance

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

    @event(index=17)
    class Locked:
        """Some balance was locked."""

        who: AccountId
        amount: Balance

    @event(index=18)
    class Unlocked:
        """Some balance was unlocked."""

        who: AccountId
        amount: Balance
