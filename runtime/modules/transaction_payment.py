"""TransactionPayment: what including a transaction costs, and where the fee goes.

A fee is base + length + weight. It is taken before the call is dispatched and kept if the call fails; a call that
returns `Pays.NO` has all but the tip returned, one that used less than its weight the fee of the rest. Fees and tips go
to the block's author when the block ends.
"""

from __future__ import annotations

from typing import Final

from chain.primitives.scale import AccountId, Balance, u8
from runtime.framework import Constant, Module, event
from runtime.modules.balances import Balances
from runtime.modules.validators import Validators
from runtime.storage import StorageValue
from runtime.types import (
    AccountInfo,
    DispatchInfo,
    FeeDetails,
    InclusionFee,
    InvalidReason,
    InvalidTransaction,
    Pays,
    Weight,
)

# Substrate's own: an operational transaction without a tip goes before a normal one that tips less than five times its
# fee, and behind one that tips more, so that nobody fills the pool with them for nothing.
OPERATIONAL_FEE_MULTIPLIER: Final = 5


class TransactionPayment(Module):
    """What including a transaction costs, and who is paid for it."""

    balances: Balances
    validators: Validators

    collected = StorageValue[Balance](default=0, doc="What this block has collected for its author.")

    # A transfer comes to 0.0004 POT, less than half of the least price of a slot: too little to keep anybody from
    # sending one, while filling every block with them costs two thousand POT an hour.
    base_fee = Constant[Balance](100_000_000, doc="What every transaction costs.")
    length_fee = Constant[Balance](1_000_000, doc="What each byte of a transaction costs.")
    weight_fee = Constant[Balance](1_000_000, doc="What each microsecond (a million units) of a call's weight costs.")

    operational_fee_multiplier = Constant[u8](
        OPERATIONAL_FEE_MULTIPLIER, doc="How many times its fee an operational transaction counts as tipped besides."
    )

    @event(index=0)
    class TransactionFeePaid:
        """A transaction fee `actual_fee`, of which `tip` was added to the minimum inclusion fee, was paid by `who`."""

        who: AccountId
        actual_fee: Balance
        tip: Balance

    def weight_to_fee(self, weight: Weight) -> int:
        """What a call's weight costs, rounded up."""
        return -(-weight.ref_time * self.weight_fee // 1_000_000)

    def length_to_fee(self, length: int) -> int:
        """What an extrinsic's bytes cost."""
        return length * self.length_fee

    def details(self, length: int, info: DispatchInfo) -> FeeDetails:
        """The parts of the fee of a signed extrinsic of `length` bytes."""
        if info.pays_fee is Pays.NO:
            return FeeDetails(None)
        return FeeDetails(InclusionFee(self.base_fee, self.length_to_fee(length), self.weight_to_fee(info.weight)))

    def fee(self, length: int, info: DispatchInfo) -> int:
        """The sum of those parts."""
        if info.pays_fee is Pays.NO:
            return 0
        return self.base_fee + self.length_to_fee(length) + self.weight_to_fee(info.weight)

    def ensure_payable(self, account: AccountInfo, amount: int) -> None:
        """InvalidTransaction unless the account exists, can pay, and stays alive."""
        free, kept = account.data.free, self.balances.kept(account)
        if free - amount < kept:
            raise InvalidTransaction(
                InvalidReason.PAYMENT,
                f"balance {free} cannot pay fee {amount}: need {amount + kept - free} more"
                f" (an account keeps at least {kept})",
            )

    def charge(self, who: bytes, amount: int) -> None:
        """Take fee and tip before dispatch; the caller has ensured that they are payable."""
        if amount:
            self.balances.withdraw(who, amount)

    def settle(self, who: bytes, fee: int, tip: int, *, due: int) -> int:
        """After dispatch: keep of the fee what is due, and the tip, for the author; return what was paid."""
        actual = due + tip
        if due < fee:
            if self.balances.total(who):
                self.balances.deposit(who, fee - due)
            else:  # the call removed the signer's account: there is nobody to return it to
                actual = fee + tip
        if actual:
            self.collected.put(self.collected.get() + actual)
        self.emit(self.TransactionFeePaid(who, actual, tip))
        return actual

    def on_finalize(self) -> None:
        """Pay the author; what cannot keep its account alive is destroyed."""
        amount = self.collected.get()
        if amount == 0:
            return
        self.collected.kill()
        try:
            self.balances.deposit(self.validators.author(), amount)
        except self.balances.ExistentialDeposit:
            self.balances.rescind(amount)

    def check(self) -> None:
        """Nothing collected stays behind a block."""
        assert self.collected.get() == 0, f"{self.collected.get()} was collected and not paid out"
