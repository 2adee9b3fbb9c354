"""Multisig: an account that several others speak for together, each by a transaction of its own.

The account follows from its signatories and their threshold and needs no registration. Who opens an operation reserves
a deposit for what the chain keeps of it, and has it back when the operation ends. Calls, events and errors are those of
Substrate's pallet_multisig.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated

from chain.primitives.hashing import blake2_256
from chain.primitives.scale import AccountId, Balance, FixedBytes, encode, scale_path, u16, u32
from runtime.calls import RuntimeCall
from runtime.faults import DispatchResult
from runtime.framework import Constant, Module, call, event
from runtime.limits import MICROSECOND
from runtime.modules.balances import POT, Balances
from runtime.modules.system import System
from runtime.storage import Hasher, StorageMap
from runtime.types import DispatchError, Origin, Weight

# What a call costs beside the call that it makes, each signatory of it (it is compared, encoded and hashed), and each
# byte of the call inside: that one is read, encoded again and hashed, whatever it claims to weigh.
OVERHEAD = Weight(150 * MICROSECOND)
SIGNATORY = Weight(2 * MICROSECOND)
CALL_BYTE = Weight(2 * MICROSECOND)

CallHash = Annotated[bytes, FixedBytes(32)]


@scale_path("pallet_multisig::Timepoint", BlockNumber=u32)
@dataclass(frozen=True, slots=True)
class Timepoint:
    """The extrinsic that opened an operation: its block's height, and its index in that block."""

    height: u32
    index: u32


@scale_path("pallet_multisig::Multisig", BlockNumber=u32, Balance=Balance, AccountId=AccountId)
@dataclass(frozen=True, slots=True)
class Operation:
    """An open multisig operation; `approvals` are sorted and include the depositor's."""

    when: Timepoint
    deposit: Balance
    depositor: AccountId
    approvals: tuple[AccountId, ...]


def multi_account(signatories: Sequence[bytes], threshold: int) -> bytes:
    """The account that `threshold` of the sorted signatories speak for, as Substrate derives it."""
    entropy = encode(tuple[list[AccountId], u16], (list(signatories), threshold))
    return blake2_256(b"modlpy/utilisuba" + entropy)


def own_weight(others: Sequence[bytes], call_bytes: int = 0) -> Weight:
    """What an operation costs beside the call that it makes."""
    return OVERHEAD + SIGNATORY.times(len(others)) + CALL_BYTE.times(call_bytes)


class Multisig(Module):
    """Accounts that several others speak for together."""

    system: System
    balances: Balances

    multisigs = StorageMap[tuple[AccountId, CallHash], Operation](
        hasher=(Hasher.TWOX_64_CONCAT, Hasher.BLAKE2_128_CONCAT), doc="The set of open multisig operations."
    )

    # Every node keeps an operation until its signatories end it: a tenth of a POT, and a hundredth each approval, are
    # more than it is worth to leave them lying about, and are given back.
    deposit_base = Constant[Balance](
        POT // 10, doc="The base amount of currency needed to reserve for creating a multisig execution."
    )
    deposit_factor = Constant[Balance](
        POT // 100, doc="The amount of currency needed per unit threshold when creating a multisig execution."
    )
    max_signatories = Constant[u32](100, doc="The maximum amount of signatories allowed in the multisig.")

    class MinimumThreshold(DispatchError):
        """Threshold must be 2 or greater."""

        index = 0

    class AlreadyApproved(DispatchError):
        """Call is already approved by this signatory."""

        index = 1

    class NoApprovalsNeeded(DispatchError):
        """Call doesn't need any (more) approvals."""

        index = 2

    class TooFewSignatories(DispatchError):
        """There are too few signatories in the list."""

        index = 3

    class TooManySignatories(DispatchError):
        """There are too many signatories in the list."""

        index = 4

    class SignatoriesOutOfOrder(DispatchError):
        """The signatories were provided out of order; they should be ordered."""

        index = 5

    class SenderInSignatories(DispatchError):
        """The sender was contained in the other signatories; it shouldn't be."""

        index = 6

    class NotFound(DispatchError):
        """Multisig operation not found in storage."""

        index = 7

    class NotOwner(DispatchError):
        """Only the account that originally created the multisig is able to cancel it."""

        index = 8

    class NoTimepoint(DispatchError):
        """No timepoint was given, yet the multisig operation is already underway."""

        index = 9

    class WrongTimepoint(DispatchError):
        """A different timepoint was given to the multisig operation that is underway."""

        index = 10

    class UnexpectedTimepoint(DispatchError):
        """A timepoint was given, yet no multisig operation is underway."""

        index = 11

    class MaxWeightTooLow(DispatchError):
        """The maximum weight information provided was too low."""

        index = 12

    @event(index=0)
    class NewMultisig:
        """A new multisig operation has begun."""

        approving: AccountId
        multisig: AccountId
        call_hash: CallHash

    @event(index=1)
    class MultisigApproval:
        """A multisig operation has been approved by someone."""

        approving: AccountId
        timepoint: Timepoint
        multisig: AccountId
        call_hash: CallHash

    @event(index=2)
    class MultisigExecuted:
        """A multisig operation has been executed."""

        approving: AccountId
        timepoint: Timepoint
        multisig: AccountId
        call_hash: CallHash
        result: DispatchResult

    @event(index=3)
    class MultisigCancelled:
        """A multisig operation has been cancelled."""

        cancelling: AccountId
        timepoint: Timepoint
        multisig: AccountId
        call_hash: CallHash

    # --- calls ---

    @call(
        index=0,
        weight=lambda others, call: own_weight(others, call.size) + call.dispatch_info.weight,
        dispatch_class=lambda _, call: call.dispatch_info.class_,
    )
    def as_multi_threshold_1(self, origin: Origin, other_signatories: list[AccountId], call: RuntimeCall) -> Weight:
        """Immediately dispatch a multi-signature call using a single approval from the caller.

        The result is that of the dispatched call.
        """
        signatories = self._signatories(origin.ensure_signed(), other_signatories)
        own = own_weight(other_signatories, call.size)
        try:
            return own + self.dispatch(call, Origin.signed(multi_account(signatories, 1))).weight
        except DispatchError as error:
            error.used = own + error.spent
            raise

    @call(
        index=1,
        weight=lambda _threshold, others, _timepoint, call, max_weight: own_weight(others, call.size) + max_weight,
    )
    def as_multi(
        self,
        origin: Origin,
        threshold: u16,
        other_signatories: list[AccountId],
        maybe_timepoint: Timepoint | None,
        call: RuntimeCall,
        max_weight: Weight,
    ) -> Weight:
        """Register approval for a dispatch from a composite account, and dispatch it if there are enough approvals.

        The first approval carries no timepoint and reserves a deposit, which the dispatch or its cancellation returns;
        the later ones name the extrinsic of the first. `max_weight` is at least the call's weight, and is charged for.
        """
        who = origin.ensure_signed()
        multisig = self._multisig(who, threshold, other_signatories)
        call_hash, own = blake2_256(call.encode()), own_weight(other_signatories, call.size)
        operation = self._find(multisig, call_hash, maybe_timepoint)
        if operation is None:
            self._open(who, threshold, multisig, call_hash)
            return own
        if who not in operation.approvals and len(operation.approvals) + 1 < threshold:
            self._approve(who, multisig, call_hash, operation)
            return own
        if len(operation.approvals) + (who not in operation.approvals) < threshold:
            raise self.AlreadyApproved
        if not call.dispatch_info.weight.fits(max_weight):
            raise self.MaxWeightTooLow(f"the call weighs {call.dispatch_info.weight}, at most {max_weight} was allowed")
        self._close(multisig, call_hash, operation)  # before the call, which may open the same operation again
        result, used = self.attempt(call, Origin.signed(multisig))
        self.emit(self.MultisigExecuted(who, operation.when, multisig, call_hash, result))
        return own + used

    @call(
        index=2,
        weight=lambda _threshold, others, _timepoint, _hash, max_weight: own_weight(others) + max_weight,
    )
    def approve_as_multi(
        self,
        origin: Origin,
        threshold: u16,
        other_signatories: list[AccountId],
        maybe_timepoint: Timepoint | None,
        call_hash: CallHash,
        max_weight: Weight,
    ) -> Weight:
        """Register approval for a dispatch from a composite account, by the hash of its call.

        It dispatches nothing: the last approval is an `as_multi` with the call itself.
        """
        del max_weight  # it has counted before
        who = origin.ensure_signed()
        multisig = self._multisig(who, threshold, other_signatories)
        operation = self._find(multisig, call_hash, maybe_timepoint)
        if operation is None:
            self._open(who, threshold, multisig, call_hash)
        elif who in operation.approvals:
            raise self.AlreadyApproved
        elif len(operation.approvals) >= threshold:
            raise self.NoApprovalsNeeded
        else:
            self._approve(who, multisig, call_hash, operation)
        return own_weight(other_signatories)

    @call(index=3, weight=lambda _threshold, others, _timepoint, _hash: own_weight(others))
    def cancel_as_multi(
        self,
        origin: Origin,
        threshold: u16,
        other_signatories: list[AccountId],
        timepoint: Timepoint,
        call_hash: CallHash,
    ) -> None:
        """Cancel an on-going multisig transaction, whose deposit returns to the caller, who opened it."""
        who = origin.ensure_signed()
        multisig = self._multisig(who, threshold, other_signatories)
        operation = self.multisigs.get((multisig, call_hash))
        if operation is None:
            raise self.NotFound
        self._ensure_timepoint(operation, timepoint)
        if operation.depositor != who:
            raise self.NotOwner
        self._close(multisig, call_hash, operation)
        self.emit(self.MultisigCancelled(who, timepoint, multisig, call_hash))

    # --- operations ---

    def _multisig(self, who: bytes, threshold: int, others: Sequence[bytes]) -> bytes:
        if threshold < 2:
            raise self.MinimumThreshold
        return multi_account(self._signatories(who, others), threshold)

    def _signatories(self, who: bytes, others: Sequence[bytes]) -> list[bytes]:
        """All signatories in order; errors say what is wrong with the others."""
        if not others:
            raise self.TooFewSignatories
        if len(others) >= self.max_signatories:
            raise self.TooManySignatories(f"expected at most {self.max_signatories} signatories, got {len(others) + 1}")
        if any(first >= second for first, second in pairwise(others)):
            raise self.SignatoriesOutOfOrder
        if who in others:
            raise self.SenderInSignatories
        return sorted((who, *others))

    def _find(self, multisig: bytes, call_hash: bytes, timepoint: Timepoint | None) -> Operation | None:
        """The operation that is underway, if the timepoint agrees that one is."""
        operation = self.multisigs.get((multisig, call_hash))
        if operation is None:
            if timepoint is not None:
                raise self.UnexpectedTimepoint
        elif timepoint is None:
            raise self.NoTimepoint(f"the operation is underway since {operation.when}")
        else:
            self._ensure_timepoint(operation, timepoint)
        return operation

    def _ensure_timepoint(self, operation: Operation, timepoint: Timepoint) -> None:
        if operation.when != timepoint:
            raise self.WrongTimepoint(f"the operation is underway since {operation.when}, got {timepoint}")

    def _open(self, who: bytes, threshold: int, multisig: bytes, call_hash: bytes) -> None:
        deposit = self.deposit_base + threshold * self.deposit_factor
        self.balances.reserve(who, deposit)
        when = Timepoint(self.system.height, self.system.extrinsic_index or 0)
        self.multisigs[multisig, call_hash] = Operation(when, deposit, who, (who,))
        self.emit(self.NewMultisig(who, multisig, call_hash))

    def _approve(self, who: bytes, multisig: bytes, call_hash: bytes, operation: Operation) -> None:
        approvals = list(operation.approvals)
        approvals.insert(bisect_left(approvals, who), who)
        self.multisigs[multisig, call_hash] = replace(operation, approvals=tuple(approvals))
        self.emit(self.MultisigApproval(who, operation.when, multisig, call_hash))

    def _close(self, multisig: bytes, call_hash: bytes, operation: Operation) -> None:
        self.multisigs.remove((multisig, call_hash))
        missing = self.balances.unreserve(operation.depositor, operation.deposit)
        assert not missing, f"0x{operation.depositor.hex()} lacks {missing} of its deposit"

    def check(self) -> None:
        """Every operation has a depositor whose deposit is reserved, and sorted approvals among which is its own."""
        deposits: dict[bytes, int] = {}
        for (multisig, call_hash), operation in self.multisigs.items():
            name = f"operation 0x{call_hash.hex()} of 0x{multisig.hex()}"
            assert list(operation.approvals) == sorted(set(operation.approvals)), f"{name}: {operation.approvals}"
            assert operation.depositor in operation.approvals, f"{name} lacks its depositor's approval"
            assert len(operation.approvals) <= self.max_signatories, f"{name} has {len(operation.approvals)} approvals"
            assert operation.when.height <= self.system.height, f"{name} is from the future: {operation.when}"
            deposits[operation.depositor] = deposits.get(operation.depositor, 0) + operation.deposit
        for depositor, amount in deposits.items():
            assert self.balances.reserved(depositor) >= amount, f"0x{depositor.hex()} lacks deposits"
