"""The runtime's shared types and errors, in Substrate's layouts.

Each error class says whose fault it is: `InvalidTransaction` the sender's, `DispatchError` the sender's but included
and paid for, `InvalidBlock` the proposer's, `GenesisError` the operator's. Any other exception is a module's bug:
`runtime/panic.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, ClassVar, Final

from chain.primitives.scale import (
    AccountId,
    Balance,
    Enum,
    FixedBytes,
    compact64,
    scale_path,
    u8,
    u32,
    u64,
    variant,
)
from chain.primitives.seal import Seal
from runtime.faults import (
    ArithmeticFault,
    DispatchFault,
    FaultArithmetic,
    FaultBadOrigin,
    FaultCannotLookup,
    FaultConsumerRemaining,
    FaultOther,
    FaultTransactional,
    TransactionalFault,
)

# --- weight and dispatch -------------------------------------------------------------------------------------------


U64_MAX: Final = (1 << 64) - 1


@scale_path("sp_weights::weight_v2::Weight")
@dataclass(frozen=True, slots=True)
class Weight:
    """What a call costs: `ref_time` in picoseconds on the reference machine, `proof_size` in bytes."""

    ref_time: compact64
    proof_size: compact64 = 0

    def __add__(self, other: Weight) -> Weight:
        """Both together; what no block could hold stays the most that there is, as in Substrate."""
        return Weight(min(self.ref_time + other.ref_time, U64_MAX), min(self.proof_size + other.proof_size, U64_MAX))

    def times(self, count: int) -> Weight:
        """So many of it, bounded as a sum is."""
        return Weight(min(self.ref_time * count, U64_MAX), min(self.proof_size * count, U64_MAX))

    def at_most(self, other: Weight) -> Weight:
        """The lesser of both, part by part."""
        return Weight(min(self.ref_time, other.ref_time), min(self.proof_size, other.proof_size))

    def fits(self, limit: Weight) -> bool:
        """Whether it is within a limit in both of its parts."""
        return self.ref_time <= limit.ref_time and self.proof_size <= limit.proof_size


NO_WEIGHT: Final = Weight(0)


@scale_path("frame_support::dispatch::DispatchClass")
class DispatchClass(IntEnum):
    """Which part of a block's limits a call draws on; mandatory calls (inherents) always fit."""

    NORMAL = 0
    OPERATIONAL = 1
    MANDATORY = 2


@scale_path("frame_support::dispatch::Pays")
class Pays(IntEnum):
    """Whether a call pays its fee; a call that returns `Pays.NO` has it refunded."""

    YES = 0
    NO = 1


@scale_path("frame_support::dispatch::DispatchInfo")
@dataclass(frozen=True, slots=True)
class DispatchInfo:
    """What a call is charged for; in the events of its extrinsic, what it was found to have used."""

    weight: Weight
    class_: DispatchClass
    pays_fee: Pays


@dataclass(frozen=True, slots=True)
class Dispatched:
    """What a call used and whether it pays for it: FRAME's PostDispatchInfo."""

    weight: Weight
    pays_fee: Pays


# --- dispatch errors -----------------------------------------------------------------------------------------------


class DispatchError(Exception):
    """An included call failed: its writes are undone, its fee and nonce stay.

    Modules declare theirs as nested subclasses with a docstring and an `index`; the optional message carries values
    and stays on this node.
    """

    index: ClassVar[int | None] = None
    fault: ClassVar[DispatchFault] = FaultOther()
    # What a call says that it has used when it fails, if that is less than it was charged for. It is asked once: what
    # one call says of itself does not count for the call that made it.
    used: Weight | None = None
    # What the call that has just failed with this error was found to have used.
    spent: Weight = NO_WEIGHT

    def __str__(self) -> str:
        return super().__str__() or (self.__doc__ or type(self).__name__).strip()


class BadOrigin(DispatchError):
    """The signer may not make this call."""

    fault = FaultBadOrigin()


class CannotLookup(DispatchError):
    """The address names no account: only MultiAddress::Id is accepted."""

    fault = FaultCannotLookup()


class ConsumerRemaining(DispatchError):
    """The account is still needed, so that it cannot be removed: it has reserved or locked money."""

    fault = FaultConsumerRemaining()


class TooManyLayers(DispatchError):
    """Calls have made calls that made calls, deeper than a node's stack is sure to hold."""

    fault = FaultTransactional(TransactionalFault.LIMIT_REACHED)


class ArithmeticOverflow(DispatchError):
    """A number left its range."""

    fault = FaultArithmetic(ArithmeticFault.OVERFLOW)


# --- validity of transactions and blocks ---------------------------------------------------------------------------


class InvalidReason(IntEnum):
    """Why a transaction cannot be included: sp_runtime's InvalidTransaction, by its indexes."""

    CALL = 0
    PAYMENT = 1
    FUTURE = 2
    STALE = 3
    BAD_PROOF = 4
    ANCIENT_BIRTH_BLOCK = 5
    EXHAUSTS_RESOURCES = 6
    CUSTOM = 7
    BAD_MANDATORY = 8
    MANDATORY_VALIDATION = 9
    BAD_SIGNER = 10


class UnknownReason(IntEnum):
    """Why a transaction's validity cannot be told: sp_runtime's UnknownTransaction, by its indexes."""

    CANNOT_LOOKUP = 0
    NO_UNSIGNED_VALIDATOR = 1


class InvalidTransaction(Exception):
    """The sender's fault: the transaction cannot be included. The message carries the values that decided it."""

    def __init__(self, reason: InvalidReason | UnknownReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class MalformedTransaction(InvalidTransaction):
    """The bytes are no transaction of this runtime."""

    def __init__(self, message: str) -> None:
        super().__init__(InvalidReason.CALL, message)


class UnknownTransaction(InvalidTransaction):
    """Nothing vouches for the transaction: it is unsigned, or its signer cannot be looked up."""


class InvalidBlock(Exception):
    """The proposer's fault: the block breaks a rule. The message carries what was expected and what came."""


class GenesisError(ValueError):
    """The operator's fault: a field of the genesis config, named by its path, is missing, unknown or wrong."""


@dataclass(frozen=True, slots=True)
class Unsigned:
    """What a module says of a call that it lets come without a signature: it is valid for the block.

    At most one with this `tag` is in a pool, and the state that comes of it refuses every other.
    """

    tag: bytes
    priority: int
    longevity: int  # for how many blocks it stays valid, if nobody includes it


@dataclass(frozen=True, slots=True)
class ValidTransaction:
    """What the pool needs to know of a valid transaction; `requires` and `provides` are tags that order it.

    One without a signature has the hash of its tag for a sender, which sends nothing else, and the nonce 0.
    """

    sender: bytes
    nonce: int
    account_nonce: int  # the next nonce that the state accepts: `nonce` is not below it
    priority: int
    requires: tuple[bytes, ...]
    provides: tuple[bytes, ...]
    longevity: int  # for how many blocks this verdict holds, if nothing else changes
    fee: int
    tip: int
    weight: Weight
    propagate: bool = True


# --- accounts ------------------------------------------------------------------------------------------------------


@scale_path("pallet_balances::types::AccountData", Balance=Balance)
@dataclass(frozen=True, slots=True)
class AccountData:
    """An account's money: `free` to spend, `reserved` for a module's purpose; `flags` are unused.

    `frozen` is what free and reserved together do not fall below at the owner's will: the greatest of its locks.
    """

    free: Balance = 0
    reserved: Balance = 0
    frozen: Balance = 0
    flags: Balance = 0


@scale_path("frame_system::AccountInfo", Nonce=u32, AccountData=AccountData)
@dataclass(frozen=True, slots=True)
class AccountInfo:
    """What the chain keeps of an account; without a provider it does not exist."""

    nonce: u32 = 0
    consumers: u32 = 0
    providers: u32 = 0
    sufficients: u32 = 0
    data: AccountData = AccountData()


# --- events --------------------------------------------------------------------------------------------------------


@variant(0, unnamed=True)
@dataclass(frozen=True, slots=True)
class ApplyExtrinsic:
    """While the extrinsic of this index was applied."""

    index: u32


@variant(1)
@dataclass(frozen=True, slots=True)
class Finalization:
    """While the block was finished."""


@variant(2)
@dataclass(frozen=True, slots=True)
class Initialization:
    """While the block was begun."""


EventPhase = Annotated[
    ApplyExtrinsic | Finalization | Initialization,
    Enum("frame_system::Phase", ApplyExtrinsic, Finalization, Initialization),
]


@dataclass(frozen=True, slots=True)
class EventRecord:
    """An event and when in its block it came; `event` is an instance of a module's event class."""

    phase: ApplyExtrinsic | Finalization | Initialization
    event: object
    topics: tuple[bytes, ...] = ()  # hashes under which System.EventTopics names the event


# --- origin --------------------------------------------------------------------------------------------------------


class OriginKind(IntEnum):
    """Who makes a call: an account, the chain's own authority, or nobody (an inherent)."""

    SIGNED = 0
    ROOT = 1
    NONE = 2


@dataclass(frozen=True, slots=True)
class Origin:
    """Who makes a call. A call begins by asking it for what it needs."""

    kind: OriginKind
    account: bytes = b""

    @classmethod
    def signed(cls, account: bytes) -> Origin:
        """The owner of an account."""
        return cls(OriginKind.SIGNED, account)

    @classmethod
    def root(cls) -> Origin:
        """The chain's own authority."""
        return cls(OriginKind.ROOT)

    @classmethod
    def none(cls) -> Origin:
        """Nobody: the block itself carries the call."""
        return cls(OriginKind.NONE)

    def ensure_any(self) -> None:
        """BadOrigin for a call that the block itself carries."""
        if self.kind is OriginKind.NONE:
            raise BadOrigin("this call needs a signer or root, its origin is none")

    def ensure_signed(self) -> bytes:
        """The account that signed; BadOrigin if none did."""
        if self.kind is not OriginKind.SIGNED:
            raise BadOrigin(f"this call needs a signer, its origin is {self.kind.name.lower()}")
        return self.account

    def ensure_root(self) -> None:
        """BadOrigin unless the chain's own authority calls."""
        if self.kind is not OriginKind.ROOT:
            raise BadOrigin(f"this call needs the root origin, its origin is {self.kind.name.lower()}")

    def ensure_none(self) -> None:
        """BadOrigin unless the block itself carries the call."""
        if self.kind is not OriginKind.NONE:
            raise BadOrigin(f"only a block itself carries this call, its origin is {self.kind.name.lower()}")


@variant(0, "Root")
@dataclass(frozen=True, slots=True)
class RootOrigin:
    """The chain's own authority."""


@variant(1, "Signed", unnamed=True)
@dataclass(frozen=True, slots=True)
class SignedOrigin:
    """The owner of an account."""

    account: AccountId


@variant(2, "None")
@dataclass(frozen=True, slots=True)
class NoOrigin:
    """Nobody."""


RawOrigin = Annotated[
    RootOrigin | SignedOrigin | NoOrigin,
    Enum("frame_support::dispatch::RawOrigin", RootOrigin, SignedOrigin, NoOrigin, params=(("AccountId", AccountId),)),
]


@variant(0, "system", unnamed=True)
@dataclass(frozen=True, slots=True)
class SystemOrigin:
    """An origin that System defines; no other module defines one."""

    origin: RawOrigin


# An origin as an argument: `PalletsOrigin` of FRAME's configuration.
OriginCaller = Annotated[SystemOrigin, Enum("potchain_runtime::OriginCaller", SystemOrigin)]


def origin_of(caller: OriginCaller) -> Origin:
    """The origin that an argument names."""
    match caller.origin:
        case RootOrigin():
            return Origin.root()
        case SignedOrigin(account):
            return Origin.signed(account)
        case NoOrigin():
            return Origin.none()


# --- blocks --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InherentData:
    """What a block's author knows and its transactions do not: the time, and the seal of the parent."""

    timestamp_ms: int
    parent_seal: Seal | None = None


@scale_path("sp_version::RuntimeVersion")
@dataclass(frozen=True, slots=True)
class RuntimeVersion:
    """Which runtime this is; `apis` are (8-byte id, version) of what `call_api` answers."""

    spec_name: str
    impl_name: str
    authoring_version: u32
    spec_version: u32
    impl_version: u32
    apis: tuple[tuple[Annotated[bytes, FixedBytes(8)], u32], ...]
    transaction_version: u32
    state_version: u8


@scale_path("pallet_transaction_payment::types::RuntimeDispatchInfo", Balance=Balance, Weight=Weight)
@dataclass(frozen=True, slots=True)
class RuntimeDispatchInfo:
    """What including an extrinsic costs, without the tip."""

    weight: Weight
    class_: DispatchClass
    partial_fee: Balance


@scale_path("pallet_transaction_payment::types::InclusionFee", Balance=Balance)
@dataclass(frozen=True, slots=True)
class InclusionFee:
    """A fee by its parts."""

    base_fee: Balance
    len_fee: Balance
    adjusted_weight_fee: Balance


@scale_path("pallet_transaction_payment::types::FeeDetails", Balance=Balance)
@dataclass(frozen=True, slots=True)
class FeeDetails:
    """A fee by its parts, None for extrinsics that pay none. The tip is part of Substrate's type and always 0."""

    inclusion_fee: InclusionFee | None
    tip: Balance = 0


@scale_path("sp_runtime::transaction_validity::ValidTransaction")
@dataclass(frozen=True, slots=True)
class Validity:
    """`ValidTransaction` as the TaggedTransactionQueue API returns it."""

    priority: u64
    requires: tuple[bytes, ...]
    provides: tuple[bytes, ...]
    longevity: u64
    propagate: bool
