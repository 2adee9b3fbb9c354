"""A block in the making: one path for building it, for checking it, and for tests.

It is System's bookkeeping, `on_initialize` of every module, the inherents that this block must carry, transactions
(signed, or such as a module lets come without), `on_idle` and `on_finalize`. Nothing is written to the state that it
starts from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from chain.primitives.hashing import Hash
from chain.primitives.types import (
    Consensus,
    DigestSeal,
    Extrinsic,
    ExtrinsicSignature,
    Other,
    PreRuntime,
    encode_extrinsic,
)
from runtime.calls import Call
from runtime.composition import Runtime, View
from runtime.extensions import (
    Environment,
    Meter,
    SignatureMemo,
    check_class,
    check_mortality,
    check_nonce,
    check_sender,
    check_signature,
    check_unsigned,
    decode_transaction,
)
from runtime.framework import EventLog, Module
from runtime.limits import BLOCK_WEIGHT_MAX
from runtime.modules.system import System
from runtime.modules.transaction_payment import TransactionPayment
from runtime.panic import HookPanicked, Panicked
from runtime.state import Overlay, StateFailed, StateReader
from runtime.types import (
    AccountInfo,
    ApplyExtrinsic,
    Dispatched,
    DispatchError,
    DispatchInfo,
    EventRecord,
    Finalization,
    InherentData,
    InvalidBlock,
    InvalidReason,
    InvalidTransaction,
    Origin,
    Pays,
    Weight,
)

V = TypeVar("V", bound=View)
T = TypeVar("T")
DigestLog = PreRuntime | Consensus | DigestSeal | Other


@dataclass(frozen=True, slots=True)
class Executed:
    """What executing a block gives: the changes to its parent's state, its events, its extrinsics, its weight."""

    changes: dict[bytes, bytes | None]
    events: list[EventRecord]
    extrinsics: list[bytes]
    weight: int


@dataclass(frozen=True, slots=True)
class Applied:
    """An included transaction: what it paid, tip included, and the error if its call failed."""

    fee: int
    error: DispatchError | None


class BlockBuilder(Generic[V]):
    """A block being built or checked: apply the inherents, then transactions, then `finish`.

    `InvalidTransaction` leaves the block as it was; after `InvalidBlock` or `HookPanicked` the builder is of no further
    use.
    """

    def __init__(
        self,
        runtime: Runtime[V],
        memo: SignatureMemo,
        state: StateReader,
        *,
        height: int,
        parent_hash: Hash,
        digest: Sequence[DigestLog],
        initialize: bool = True,
    ) -> None:
        """`initialize=False` leaves out what the block itself would do and carry, which takes its proposer's keys."""
        self.overlay = Overlay(state)
        self.log = EventLog()
        self.modules: V = runtime.over(self.overlay, self.log)
        self.extrinsics: list[bytes] = []
        self._runtime = runtime
        self._memo = memo
        self.meter = Meter()
        self._system = self.modules.module(System)
        self._payment = self.modules.module(TransactionPayment)
        previous = self._system.height
        if height != previous + 1:
            raise InvalidBlock(f"expected block {previous + 1} on a state at height {previous}, got block {height}")
        self._system.begin_block(height, parent_hash, digest)
        self._environment = Environment(height, parent_hash, self._system.genesis_hash())
        self._required: tuple[Module, ...] = ()
        if initialize:
            for module in self.modules.modules:
                self.meter.add_mandatory(self._hook(module, module.on_initialize))
            self._required = tuple(
                module
                for module in self.modules.modules
                if module.inherent is not None and self._hook(module, module.inherent_required)
            )

    @property
    def height(self) -> int:
        """The block's height."""
        return self._environment.height

    @property
    def full(self) -> bool:
        """Whether not even the smallest transaction fits any more."""
        return self.meter.full

    def inherents(self, data: InherentData) -> list[bytes]:
        """The extrinsics that this block must begin with, to be applied in this order."""
        made = []
        for module in self._required:
            path = f"{module.info.attribute}.{module.inherent}"
            arguments = self._hook(module, module.create_inherent, data)
            made.append(encode_extrinsic(self._runtime.encode_call(self._runtime.call_info(path).bind(arguments))))
        return made

    def apply(self, raw: bytes) -> Applied:
        """Include an extrinsic. InvalidTransaction: it cannot be, and nothing changed.

        The first ones must be this block's inherents: anything else in their place is InvalidBlock.
        """
        position = len(self.extrinsics)
        self.log.at(ApplyExtrinsic(position))
        if position < len(self._required):
            return self._apply_inherent(raw, self._required[position])
        events = len(self.log.records)
        self.overlay.begin()
        try:
            applied = self._apply_transaction(raw)
        except Exception as error:
            self.overlay.rollback()
            self.log.truncate(events)
            if isinstance(error, InvalidTransaction | StateFailed):
                raise
            raise Panicked("what includes a transaction", error) from error
        self.overlay.commit()
        return applied

    def finish(self) -> Executed:
        """Let the modules end the block. InvalidBlock if an inherent is missing."""
        if len(self.extrinsics) < len(self._required):
            missing = self._required[len(self.extrinsics)]
            raise InvalidBlock(
                f"expected extrinsic {len(self.extrinsics)} to be {missing.info.attribute}.{missing.inherent},"
                f" got a block of {len(self.extrinsics)} extrinsics"
            )
        self.log.at(Finalization())
        modules = self.modules.modules
        first = self.height % len(modules)
        for module in modules[first:] + modules[:first]:
            remaining = BLOCK_WEIGHT_MAX - self.meter.total
            if remaining > 0:
                self.meter.add_mandatory(self._hook(module, module.on_idle, Weight(remaining)))
        for module in modules:
            self._hook(module, module.on_finalize)
        self._system.end_block(self.log, self.meter.by_class())
        return Executed(self.overlay.changes(), self.log.records, self.extrinsics, self.meter.total)

    def _hook(self, module: Module, hook: Callable[..., T], *arguments: object) -> T:
        """Run what a module does in every block; HookPanicked where it raises what only a call may, or nothing may."""
        try:
            return hook(*arguments)
        except (InvalidBlock, StateFailed):
            raise
        except Exception as error:
            raise HookPanicked(f"{module.info.attribute}.{hook.__name__}", self.height, error) from error

    def _apply_inherent(self, raw: bytes, module: Module) -> Applied:
        position = len(self.extrinsics)
        path = f"{module.info.attribute}.{module.inherent}"
        try:
            extrinsic = decode_transaction(self._runtime, raw)
        except InvalidTransaction as error:
            raise InvalidBlock(f"expected extrinsic {position} to be {path}, got a {error}") from error
        call: Call = extrinsic.call
        if extrinsic.signature is not None or call.path != path:
            kind = "unsigned" if extrinsic.signature is None else "signed"
            raise InvalidBlock(f"expected extrinsic {position} to be the inherent {path}, got {kind} {call.path}")
        try:
            used = self.modules.dispatch(call, Origin.none())
        except DispatchError as error:
            raise InvalidBlock(f"extrinsic {position}: {path}: {type(error).__name__}: {error}") from error
        except StateFailed:
            raise
        except Exception as error:
            raise HookPanicked(path, self.height, error) from error
        info = DispatchInfo(used.weight, call.dispatch_info.class_, Pays.NO)
        self.meter.add(info, len(raw))
        self._system.emit(System.ExtrinsicSuccess(info))
        self.extrinsics.append(raw)
        return Applied(0, None)

    def _apply_transaction(self, raw: bytes) -> Applied:
        extrinsic = decode_transaction(self._runtime, raw)
        if extrinsic.signature is None:
            return self._apply_unsigned(raw, extrinsic.call)
        return self._apply_signed(raw, extrinsic, extrinsic.signature)

    def _apply_unsigned(self, raw: bytes, call: Call) -> Applied:
        """Include what a module lets come without a signature, if it succeeds: nobody pays for it."""
        check_unsigned(self.modules, call)
        self.meter.check(call, len(raw))
        try:
            used = self.modules.dispatch(call, Origin.none())
        except DispatchError as error:  # its module has promised too much, which must not end every node that reads it
            message = f"{call.path} came without a signature, was found valid, and fails: {error}"
            raise InvalidTransaction(InvalidReason.CALL, message) from error
        info = DispatchInfo(used.weight, call.dispatch_info.class_, Pays.NO)
        self.meter.add(info, len(raw))
        self._system.emit(System.ExtrinsicSuccess(info))
        self.extrinsics.append(raw)
        return Applied(0, None)

    def _apply_signed(self, raw: bytes, extrinsic: Extrinsic, signed: ExtrinsicSignature) -> Applied:
        system, payment, environment = self._system, self._payment, self._environment
        sender = check_sender(signed)
        call: Call = extrinsic.call
        charged, length = call.dispatch_info, len(raw)
        check_class(call)
        era_hash, _ = check_mortality(system, environment, signed.era)
        account = system.account[sender]
        check_nonce(account, signed.nonce, future=False)
        self.meter.check(call, length)
        tip = signed.tip
        fee = payment.fee(length, charged)
        payment.ensure_payable(account, fee + tip)
        check_signature(self._runtime, environment, extrinsic, signed, era_hash, self._memo)

        system.account[sender] = AccountInfo(
            account.nonce + 1, account.consumers, account.providers, account.sufficients, account.data
        )
        payment.charge(sender, fee + tip)
        failure: DispatchError | None = None
        try:
            used = self.modules.dispatch(call, Origin.signed(sender))
        except DispatchError as error:
            failure = error.with_traceback(None)  # its frames would hold this block's state, and it them
            used = Dispatched(error.spent, charged.pays_fee)
        info = DispatchInfo(used.weight, charged.class_, used.pays_fee)
        paid = payment.settle(sender, fee, tip, due=payment.fee(length, info))
        if failure is None:
            system.emit(System.ExtrinsicSuccess(info))
        else:
            system.emit(System.ExtrinsicFailed(self._runtime.fault_of(failure), info))
        self.meter.add(info, length)
        self.extrinsics.append(raw)
        return Applied(paid, failure)
