"""The executive: what a node does with a runtime. Genesis, blocks, validity, fees, and Substrate's runtime APIs.

It keeps no state but a memo of verified signatures, so that any thread may use it on any state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from chain.primitives.hashing import Hash, blake2_256
from chain.primitives.scale import AccountId, ScaleError, encode, u32
from chain.primitives.types import Header
from runtime import api
from runtime.block import Applied, BlockBuilder, DigestLog
from runtime.block import Executed as Executed
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
from runtime.framework import EventLog
from runtime.limits import BYTES_MAX, EXTRINSIC_WEIGHT, WEIGHT_MAX
from runtime.modules.system import System
from runtime.modules.transaction_payment import OPERATIONAL_FEE_MULTIPLIER, TransactionPayment
from runtime.panic import Exhausted, HookPanicked, Panicked, is_exhaustion
from runtime.state import BlockState, DictState, Overlay, StateFailed, StateReader
from runtime.storage import camel_case
from runtime.types import (
    U64_MAX,
    DispatchClass,
    DispatchInfo,
    FeeDetails,
    GenesisError,
    InvalidBlock,
    InvalidTransaction,
    RuntimeDispatchInfo,
    RuntimeVersion,
    ValidTransaction,
)

# Substrate's well-known key of the runtime's code. Here it holds the version: clients key their caches by its hash.
CODE_KEY: Final = b":code"


class Executive:
    """Runs blocks of one runtime."""

    def __init__(self, runtime: Runtime[View]) -> None:
        self.runtime = runtime
        self._memo = SignatureMemo()

    # --- blocks ---

    def genesis(self, config: Mapping[str, Mapping[str, object]]) -> dict[bytes, bytes]:
        """The initial state from the genesis file's runtime part: `{module in camelCase: its config}`."""
        overlay = Overlay(DictState())
        modules = self.runtime.over(overlay, EventLog()).modules
        known = [camel_case(module.info.attribute) for module in modules]
        for name in sorted(config):
            if name not in known:
                raise GenesisError(f"{name}: unknown module; expected {', '.join(known)}")
        overlay.put(CODE_KEY, encode(RuntimeVersion, self.runtime.version))
        for module, name in zip(modules, known, strict=True):
            section = config.get(name, {})
            if not isinstance(section, Mapping):
                raise GenesisError(f"{name}: expected an object, got {section!r}")
            module.genesis(section)
        return {key: value for key, value in overlay.changes().items() if value is not None}

    def begin(
        self, state: StateReader, *, height: int, parent_hash: Hash, digest: Sequence[DigestLog]
    ) -> BlockBuilder[View]:
        """Begin a block on its parent's state; InvalidBlock if the digest does not entitle its proposer."""
        return BlockBuilder(self.runtime, self._memo, state, height=height, parent_hash=parent_hash, digest=digest)

    def execute(self, state: StateReader, header: Header, extrinsics: Sequence[bytes]) -> Executed:
        """Execute a block on its parent's state. InvalidBlock names what is wrong; the caller checks the roots.

        A block in which a module's code raises what it may not is invalid, as it is on every machine; Exhausted where
        another machine may see that otherwise.
        """
        try:
            builder = self.begin(state, height=header.height, parent_hash=header.parent_hash, digest=header.digest)
            for position, raw in enumerate(extrinsics):
                try:
                    builder.apply(raw)
                except InvalidTransaction as error:
                    if is_exhaustion(error):
                        raise Exhausted(header.height, error) from error
                    raise InvalidBlock(f"extrinsic {position}: {error.reason.name}: {error}") from error
            return builder.finish()
        except HookPanicked as error:
            if is_exhaustion(error):
                raise Exhausted(header.height, error) from error
            raise InvalidBlock(str(error)) from error

    # --- transactions ---

    def validate_transaction(self, state: BlockState, raw: bytes) -> ValidTransaction:
        """Whether a transaction could be in the block after the one whose state this is.

        InvalidTransaction says why not. A nonce ahead of the account's is valid: it `requires` the one before.
        """
        return self.validate_after(state, state.header.hash, raw)

    def validate_after(self, state: StateReader, parent_hash: Hash, raw: bytes) -> ValidTransaction:
        """The same on any reader, whose block has the hash `parent_hash`: a state cannot hold its own block's."""
        return self.validating(state, parent_hash)(raw)

    def validating(self, state: StateReader, parent_hash: Hash) -> Callable[[bytes], ValidTransaction]:
        """`validate_after` for any number of transactions on one state, by one thread: what it needs is made once."""
        view = self.runtime.at(state)
        system = view.module(System)
        height = system.height + 1
        environment = Environment(height, parent_hash, parent_hash if height == 1 else system.genesis_hash())

        def validate(raw: bytes) -> ValidTransaction:
            try:
                return self._validate(view, environment, raw)
            except (InvalidTransaction, StateFailed):
                raise
            except Exception as error:
                raise Panicked("what validates a transaction", error) from error

        return validate

    def _validate(self, view: View, environment: Environment, raw: bytes) -> ValidTransaction:
        system, payment = view.module(System), view.module(TransactionPayment)
        extrinsic = decode_transaction(self.runtime, raw)
        call: Call = extrinsic.call
        signed = extrinsic.signature
        if signed is None:
            return _validate_unsigned(view, call, len(raw))
        sender = check_sender(signed)
        check_class(call)
        era_hash, lifetime = check_mortality(system, environment, signed.era)
        account = system.account[sender]
        check_nonce(account, signed.nonce, future=True)
        Meter().check(call, len(raw))
        fee = payment.fee(len(raw), call.dispatch_info)
        payment.ensure_payable(account, fee + signed.tip)
        check_signature(self.runtime, environment, extrinsic, signed, era_hash, self._memo)
        return ValidTransaction(
            sender=sender,
            nonce=signed.nonce,
            account_nonce=account.nonce,
            priority=_priority(call.dispatch_info, len(raw), fee, signed.tip),
            requires=(nonce_tag(sender, signed.nonce - 1),) if signed.nonce > account.nonce else (),
            provides=(nonce_tag(sender, signed.nonce),),
            longevity=lifetime,
            fee=fee,
            tip=signed.tip,
            weight=call.dispatch_info.weight,
        )

    def dry_run(self, state: BlockState, raw: bytes) -> Applied:
        """What would come of a transaction that is included next on this state, as Substrate's `system_dryRun` has it:
        alone, and without what its block does at its own beginning. InvalidTransaction: it cannot be."""
        parent = state.header
        builder = BlockBuilder(
            self.runtime,
            self._memo,
            state,
            height=parent.height + 1,
            parent_hash=parent.hash,
            digest=(),
            initialize=False,
        )
        return builder.apply(raw)

    def query_info(self, state: StateReader, raw: bytes, length: int | None = None) -> RuntimeDispatchInfo:
        """What including an extrinsic would cost; a wallet asks with a signature of any bytes, or with another length.

        It is what is taken when the call begins, and so the most that it costs: part of it may be returned.
        """
        extrinsic = decode_transaction(self.runtime, raw)
        if extrinsic.signature is None:
            return RuntimeDispatchInfo(extrinsic.call.dispatch_info.weight, extrinsic.call.dispatch_info.class_, 0)
        return self.query_call_info(state, extrinsic.call, len(raw) if length is None else length)

    def query_fee_details(self, state: StateReader, raw: bytes, length: int | None = None) -> FeeDetails:
        """The same by its parts."""
        extrinsic = decode_transaction(self.runtime, raw)
        if extrinsic.signature is None:
            return FeeDetails(None)
        return self.query_call_fee_details(state, extrinsic.call, len(raw) if length is None else length)

    def query_call_info(self, state: StateReader, call: Call, length: int) -> RuntimeDispatchInfo:
        """What including a call in a signed extrinsic of `length` bytes would cost."""
        info = call.dispatch_info
        fee = self.runtime.at(state).module(TransactionPayment).fee(length, info)
        return RuntimeDispatchInfo(info.weight, info.class_, fee)

    def query_call_fee_details(self, state: StateReader, call: Call, length: int) -> FeeDetails:
        """The same by its parts."""
        return self.runtime.at(state).module(TransactionPayment).details(length, call.dispatch_info)

    def account_nonce(self, state: StateReader, account: bytes) -> int:
        """An account's next nonce."""
        return self.runtime.at(state).module(System).account[account].nonce

    def call_api(self, state: StateReader, name: str, arguments: bytes) -> bytes:
        """Answer one of Substrate's runtime APIs: `Core_version`, `Metadata_metadata`, …

        UnknownApi for a name that there is none of, ScaleError for arguments that do not decode, InvalidTransaction for
        an extrinsic among them whose inside does not, Panicked where a module cannot answer.
        """
        try:
            return api.answer(self, state, name, arguments)
        except (api.UnknownApi, ScaleError, InvalidTransaction, StateFailed):
            raise
        except Exception as error:
            raise Panicked(name, error) from error


def _validate_unsigned(view: View, call: Call, length: int) -> ValidTransaction:
    unsigned = check_unsigned(view, call)
    Meter().check(call, length)
    return ValidTransaction(
        sender=blake2_256(unsigned.tag),
        nonce=0,
        account_nonce=0,
        priority=unsigned.priority,
        requires=(),
        provides=(unsigned.tag,),
        longevity=unsigned.longevity,
        fee=0,
        tip=0,
        weight=call.dispatch_info.weight,
    )


def nonce_tag(sender: bytes, nonce: int) -> bytes:
    """The tag that a transaction provides and the sender's next one requires, as Substrate makes it."""
    return encode(tuple[AccountId, u32], (sender, nonce))


def _priority(info: DispatchInfo, length: int, fee: int, tip: int) -> int:
    """Substrate's: the tip for as many such transactions as a block would hold, so that bulk must tip more.

    An operational one counts as if it also tipped a multiple of what it pays: it keeps the chain in order.
    """
    weight = EXTRINSIC_WEIGHT + info.weight.ref_time
    most = max(1, min(WEIGHT_MAX[info.class_] // weight, BYTES_MAX[info.class_] // length))
    virtual_tip = OPERATIONAL_FEE_MULTIPLIER * (fee + tip) if info.class_ is DispatchClass.OPERATIONAL else 0
    return min(U64_MAX, (tip + 1 + virtual_tip) * most)
