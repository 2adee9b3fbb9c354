"""Why a call failed, as it stands in events: the whole of sp_runtime's DispatchError.

Clients decode errors by this type, so it has every variant that theirs has, whether or not this chain raises it. The
exceptions that modules raise are in types.py; `Runtime.fault_of` turns one into the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Final

from chain.primitives.scale import UNIT, Enum, FixedBytes, scale_path, u8, variant


@scale_path("sp_runtime::ModuleError")
@dataclass(frozen=True, slots=True)
class ModuleError:
    """A module's error: the module's index, and the error's in the first of four bytes."""

    index: u8
    error: Annotated[bytes, FixedBytes(4)]


@scale_path("sp_runtime::TokenError")
class TokenFault(IntEnum):
    """Why money cannot move."""

    FUNDS_UNAVAILABLE = 0
    ONLY_PROVIDER = 1
    BELOW_MINIMUM = 2
    CANNOT_CREATE = 3
    UNKNOWN_ASSET = 4
    FROZEN = 5
    UNSUPPORTED = 6
    CANNOT_CREATE_HOLD = 7
    NOT_EXPENDABLE = 8
    BLOCKED = 9


@scale_path("sp_arithmetic::ArithmeticError")
class ArithmeticFault(IntEnum):
    """Why a calculation has no result."""

    UNDERFLOW = 0
    OVERFLOW = 1
    DIVISION_BY_ZERO = 2


@scale_path("sp_runtime::TransactionalError")
class TransactionalFault(IntEnum):
    """What is wrong with a nested transaction of storage."""

    LIMIT_REACHED = 0
    NO_LAYER = 1


@scale_path("sp_runtime::proving_trie::TrieError")
class TrieFault(IntEnum):
    """What is wrong with a proof."""

    INVALID_STATE_ROOT = 0
    INCOMPLETE_DATABASE = 1
    VALUE_AT_INCOMPLETE_KEY = 2
    DECODER_ERROR = 3
    INVALID_HASH = 4
    DUPLICATE_KEY = 5
    EXTRANEOUS_NODE = 6
    EXTRANEOUS_VALUE = 7
    EXTRANEOUS_HASH_REFERENCE = 8
    INVALID_CHILD_REFERENCE = 9
    VALUE_MISMATCH = 10
    INCOMPLETE_PROOF = 11
    ROOT_MISMATCH = 12
    DECODE_ERROR = 13


@variant(0, "Other")
@dataclass(frozen=True, slots=True)
class FaultOther:
    """An error without a code."""


@variant(1, "CannotLookup")
@dataclass(frozen=True, slots=True)
class FaultCannotLookup:
    """An address names no account."""


@variant(2, "BadOrigin")
@dataclass(frozen=True, slots=True)
class FaultBadOrigin:
    """The signer may not make this call."""


@variant(3, "Module", unnamed=True)
@dataclass(frozen=True, slots=True)
class FaultModule:
    """An error that a module declares."""

    error: ModuleError


@variant(4, "ConsumerRemaining")
@dataclass(frozen=True, slots=True)
class FaultConsumerRemaining:
    """The account is still needed, so that it cannot be removed."""


@variant(5, "NoProviders")
@dataclass(frozen=True, slots=True)
class FaultNoProviders:
    """Nothing keeps the account alive, so that nothing can be made to need it."""


@variant(6, "TooManyConsumers")
@dataclass(frozen=True, slots=True)
class FaultTooManyConsumers:
    """Too much needs the account already."""


@variant(7, "Token", unnamed=True)
@dataclass(frozen=True, slots=True)
class FaultToken:
    """Money cannot move."""

    error: TokenFault


@variant(8, "Arithmetic", unnamed=True)
@dataclass(frozen=True, slots=True)
class FaultArithmetic:
    """A calculation left its range."""

    error: ArithmeticFault


@variant(9, "Transactional", unnamed=True)
@dataclass(frozen=True, slots=True)
class FaultTransactional:
    """Transactions of storage are nested wrongly."""

    error: TransactionalFault


@variant(10, "Exhausted")
@dataclass(frozen=True, slots=True)
class FaultExhausted:
    """A resource is used up; later it may not be."""


@variant(11, "Corruption")
@dataclass(frozen=True, slots=True)
class FaultCorruption:
    """The state is corrupt."""


@variant(12, "Unavailable")
@dataclass(frozen=True, slots=True)
class FaultUnavailable:
    """A resource is not there; later it may be."""


@variant(13, "RootNotAllowed")
@dataclass(frozen=True, slots=True)
class FaultRootNotAllowed:
    """The chain's own authority may not make this call."""


@variant(14, "Trie", unnamed=True)
@dataclass(frozen=True, slots=True)
class FaultTrie:
    """A proof does not hold."""

    error: TrieFault


DispatchFault = Annotated[
    FaultOther
    | FaultCannotLookup
    | FaultBadOrigin
    | FaultModule
    | FaultConsumerRemaining
    | FaultNoProviders
    | FaultTooManyConsumers
    | FaultToken
    | FaultArithmetic
    | FaultTransactional
    | FaultExhausted
    | FaultCorruption
    | FaultUnavailable
    | FaultRootNotAllowed
    | FaultTrie,
    Enum(
        "sp_runtime::DispatchError",
        FaultOther,
        FaultCannotLookup,
        FaultBadOrigin,
        FaultModule,
        FaultConsumerRemaining,
        FaultNoProviders,
        FaultTooManyConsumers,
        FaultToken,
        FaultArithmetic,
        FaultTransactional,
        FaultExhausted,
        FaultCorruption,
        FaultUnavailable,
        FaultRootNotAllowed,
        FaultTrie,
    ),
]


@variant(0, "Ok", unnamed=True)
@dataclass(frozen=True, slots=True)
class DispatchOk:
    """The call succeeded."""

    value: Annotated[tuple[()], UNIT] = ()


@variant(1, "Err", unnamed=True)
@dataclass(frozen=True, slots=True)
class DispatchFailed:
    """The call failed."""

    error: DispatchFault


# `Result<(), DispatchError>`: how a call ended that another call made.
DispatchResult = Annotated[
    DispatchOk | DispatchFailed,
    Enum("Result", DispatchOk, DispatchFailed, params=(("T", UNIT), ("E", DispatchFault))),
]
OK: Final = DispatchOk()
