"""The signed extensions: what is checked of a transaction before its call runs, in Substrate's order.

Every check reads only; the two that write (nonce and fee) do so when all have passed, so that a refused transaction
leaves the state untouched. Messages carry the values that decided.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from chain.primitives import keys
from chain.primitives.hashing import Hash
from chain.primitives.scale import U32, ScaleError
from chain.primitives.types import (
    Extrinsic,
    ExtrinsicSignature,
    Id,
    Mortal,
    decode_extrinsic,
    scheme_of,
    signing_payload,
)
from runtime.calls import Call, CallsTooHeavy
from runtime.composition import Runtime, View
from runtime.limits import BLOCK_WEIGHT_MAX, BYTES_MAX, EXTRINSIC_WEIGHT, WEIGHT_MAX, WeightPerClass
from runtime.modules.system import System
from runtime.panic import Panicked, note_call
from runtime.types import (
    AccountInfo,
    DispatchClass,
    DispatchInfo,
    InvalidReason,
    InvalidTransaction,
    MalformedTransaction,
    UnknownReason,
    UnknownTransaction,
    Unsigned,
    Weight,
)


@dataclass(frozen=True, slots=True)
class Environment:
    """The block that a transaction is meant for: the one being built, or the next one after a committed state."""

    height: int
    parent_hash: Hash
    genesis_hash: Hash


class SignatureMemo:
    """Remembers which signatures verified, so that pool, author and import pay for each one only once.

    What it answers is a pure function of its key: it never changes a verdict. Two generations bound it; the older one
    is dropped as a whole. Threads may share it: each step is one dictionary operation.
    """

    # Twice this many of the largest ordinary transactions are about 8 MB: several full blocks.
    ENTRIES_MAX: Final = 8192

    def __init__(self) -> None:
        self._young: dict[tuple[int, bytes, bytes, bytes], None] = {}
        self._old: dict[tuple[int, bytes, bytes, bytes], None] = {}

    def verify(self, scheme: keys.Scheme, public: bytes, payload: bytes, signature: bytes) -> bool:
        """Whether the signature is the key's over the payload."""
        key = (int(scheme), public, payload, signature)
        if key in self._young or key in self._old:
            return True
        if not keys.verify(scheme, public, payload, signature):
            return False
        if len(self._young) >= self.ENTRIES_MAX:
            self._old, self._young = self._young, {}
        self._young[key] = None
        return True


def decode_transaction(runtime: Runtime[Any], raw: bytes) -> Extrinsic:
    """The extrinsic in `raw`; MalformedTransaction says what is wrong with it.

    InvalidTransaction is for one that is well-formed as far as it was read, and would fill more than a block; Panicked
    for one whose module cannot say what it weighs.
    """
    try:
        return decode_extrinsic(raw, runtime.call_codec)
    except CallsTooHeavy as error:
        raise InvalidTransaction(InvalidReason.EXHAUSTS_RESOURCES, str(error)) from error
    except ScaleError as error:
        raise MalformedTransaction(f"malformed transaction: {error}") from error
    except Exception as error:
        raise Panicked("what reads a transaction", error) from error


def check_unsigned(view: View, call: Call) -> Unsigned:
    """What the call's module says of it; a call that may not come without a signature is refused."""
    module = view.module(call.info.module.cls)
    inherent = call.dispatch_info.class_ is DispatchClass.MANDATORY
    try:
        found = None if inherent else module.validate_unsigned(call)
    except Exception as error:
        note_call(error, f"{call.info.module.attribute}.validate_unsigned")
        raise
    if found is None:
        raise UnknownTransaction(
            UnknownReason.NO_UNSIGNED_VALIDATOR,
            f"{call.path} came without a signature: only a block's author adds such extrinsics, at its head",
        )
    return found


def check_sender(signed: ExtrinsicSignature) -> bytes:
    """The signer's account; an address without one is refused."""
    if not isinstance(signed.address, Id):
        raise UnknownTransaction(
            UnknownReason.CANNOT_LOOKUP,
            f"expected the sender as MultiAddress::Id, got {type(signed.address).__name__}",
        )
    return signed.address.account


def check_class(call: Call) -> None:
    """What a block must carry is never signed: no limit and no fee would hold for it."""
    if call.dispatch_info.class_ is DispatchClass.MANDATORY:
        raise InvalidTransaction(
            InvalidReason.MANDATORY_VALIDATION,
            f"{call.path} came with a signature: only a block's author adds such extrinsics, at its head",
        )


def check_signature(
    runtime: Runtime[Any],
    environment: Environment,
    extrinsic: Extrinsic,
    signed: ExtrinsicSignature,
    era_hash: Hash,
    memo: SignatureMemo,
) -> None:
    """CheckSpecVersion, CheckTxVersion, CheckGenesis: they are what the signature must cover."""
    version = runtime.version
    scheme = scheme_of(signed.signature)
    if scheme is None:
        raise InvalidTransaction(InvalidReason.BAD_PROOF, "expected an ed25519 or sr25519 signature, got ECDSA")
    payload = signing_payload(
        extrinsic.call_bytes,
        signed.era,
        signed.nonce,
        signed.tip,
        version.spec_version,
        version.transaction_version,
        environment.genesis_hash,
        era_hash,
    )
    assert isinstance(signed.address, Id)
    if not memo.verify(scheme, signed.address.account, payload, signed.signature.signature):
        raise InvalidTransaction(
            InvalidReason.BAD_PROOF,
            f"the {scheme.name.lower()} signature of 0x{signed.address.account.hex()} does not match: sign for genesis"
            f" 0x{environment.genesis_hash.hex()}, spec version {version.spec_version}, transaction version"
            f" {version.transaction_version}, era block 0x{era_hash.hex()}",
        )


def check_mortality(system: System, environment: Environment, era: Mortal | None) -> tuple[Hash, int]:
    """CheckMortality: the hash that the sender signed for its era, and for how many blocks the era goes on."""
    if era is None:
        return environment.genesis_hash, (1 << 64) - 1
    height = environment.height
    birth = era.birth(height)
    if birth == height - 1:
        return environment.parent_hash, era.death(height) - height
    found = system.block_hash.get(birth) if birth < height else None
    if found is None:
        raise InvalidTransaction(
            InvalidReason.ANCIENT_BIRTH_BLOCK,
            f"the era of {era.period} blocks begins at block {birth}, whose hash is not known at block {height}:"
            f" sign again for the latest block",
        )
    return found, era.death(height) - height


def check_nonce(info: AccountInfo, nonce: int, *, future: bool) -> None:
    """CheckNonce: exactly the account's next nonce, or with `future` any later one; the last is followed by none."""
    if nonce < info.nonce:
        raise InvalidTransaction(
            InvalidReason.STALE, f"nonce {nonce} was already used: the account's next nonce is {info.nonce}"
        )
    if nonce > info.nonce and not future:
        raise InvalidTransaction(
            InvalidReason.FUTURE, f"nonce {nonce} is too high: the account's next nonce is {info.nonce}"
        )
    if nonce == U32.maximum:
        raise InvalidTransaction(InvalidReason.STALE, f"nonce {nonce} is the last that there is, and is never used")


class Meter:
    """CheckWeight: what a block has used of its weight and length."""

    __slots__ = ("length", "weight")

    def __init__(self) -> None:
        self.weight = {DispatchClass.NORMAL: 0, DispatchClass.OPERATIONAL: 0, DispatchClass.MANDATORY: 0}
        self.length = 0

    @property
    def total(self) -> int:
        """The weight of all classes."""
        return sum(self.weight.values())

    @property
    def full(self) -> bool:
        """Whether not even the smallest transaction fits any more."""
        used = self.weight[DispatchClass.NORMAL]
        return (
            used + EXTRINSIC_WEIGHT > WEIGHT_MAX[DispatchClass.NORMAL]
            or self.total + EXTRINSIC_WEIGHT > BLOCK_WEIGHT_MAX
            or self.length + TRANSACTION_BYTES_MIN > BYTES_MAX[DispatchClass.NORMAL]
        )

    def check(self, call: Call, length: int) -> None:
        """InvalidTransaction if the block has no room for a call of this length."""
        dispatch_class = call.dispatch_info.class_
        weight = EXTRINSIC_WEIGHT + call.dispatch_info.weight.ref_time
        if self.weight[dispatch_class] + weight > WEIGHT_MAX[dispatch_class] or self.total + weight > BLOCK_WEIGHT_MAX:
            raise InvalidTransaction(
                InvalidReason.EXHAUSTS_RESOURCES,
                f"{call.path} weighs {weight}: the block has used {self.weight[dispatch_class]} of"
                f" {WEIGHT_MAX[dispatch_class]} for its class",
            )
        if self.length + length > BYTES_MAX[dispatch_class]:
            raise InvalidTransaction(
                InvalidReason.EXHAUSTS_RESOURCES,
                f"the transaction has {length} bytes: the block has used {self.length} of {BYTES_MAX[dispatch_class]}",
            )

    def add(self, info: DispatchInfo, length: int) -> None:
        """Count an extrinsic that is included, by what it used."""
        self.weight[info.class_] += EXTRINSIC_WEIGHT + info.weight.ref_time
        self.length += length

    def add_mandatory(self, weight: Weight | None) -> None:
        """Count what a hook used."""
        if weight is not None:
            self.weight[DispatchClass.MANDATORY] += weight.ref_time

    def by_class(self) -> WeightPerClass:
        """The weight used, as System stores it."""
        return WeightPerClass(*(Weight(used) for used in self.weight.values()))


# A signed extrinsic's envelope, address, signature and shortest call.
TRANSACTION_BYTES_MIN: Final = 105
