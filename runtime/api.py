"""Substrate's runtime APIs in their SCALE form: what clients reach through `state_call`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from chain.primitives.scale import (
    BYTES,
    H256,
    U32,
    AccountId,
    ScaleError,
    codec_of,
    compact_decode,
    compact_encode,
    encode,
    u32,
    u128,
)
from runtime.calls import Call
from runtime.metadata import VERSIONS
from runtime.modules.transaction_payment import TransactionPayment
from runtime.state import StateReader
from runtime.types import (
    FeeDetails,
    InvalidTransaction,
    RuntimeDispatchInfo,
    RuntimeVersion,
    UnknownTransaction,
    Validity,
    Weight,
)

if TYPE_CHECKING:
    from runtime.executive import Executive

Answer = Callable[["Executive", StateReader, bytes], bytes]

_ACCOUNT: Final = codec_of(AccountId)
_HASH: Final = codec_of(H256)
_WEIGHT: Final = codec_of(Weight)


class UnknownApi(LookupError):
    """The runtime has no such API function."""


def answer(executive: Executive, state: StateReader, name: str, arguments: bytes) -> bytes:
    """Call an API function by its name with SCALE arguments, for SCALE bytes."""
    found = ANSWERS.get(name)
    if found is None:
        raise UnknownApi(f"the runtime has no API function {name}; it has {', '.join(ANSWERS)}")
    return found(executive, state, arguments)


def _version(executive: Executive, _: StateReader, arguments: bytes) -> bytes:
    _none_left(arguments, 0)
    return encode(RuntimeVersion, executive.runtime.version)


def _metadata(executive: Executive, _: StateReader, arguments: bytes) -> bytes:
    _none_left(arguments, 0)
    return BYTES.encode(executive.runtime.metadata(14))


def _metadata_at_version(executive: Executive, _: StateReader, arguments: bytes) -> bytes:
    version = U32.decode(arguments)
    if version not in VERSIONS:
        return b"\0"
    return b"\1" + BYTES.encode(executive.runtime.metadata(version))


def _metadata_versions(_: Executive, __: StateReader, arguments: bytes) -> bytes:
    _none_left(arguments, 0)
    return encode(list[u32], list(VERSIONS))


def _account_nonce(executive: Executive, state: StateReader, arguments: bytes) -> bytes:
    return U32.encode(executive.account_nonce(state, _ACCOUNT.decode(arguments)))


def _validate_transaction(executive: Executive, state: StateReader, arguments: bytes) -> bytes:
    if not arguments or arguments[0] > 2:
        raise ScaleError("expected a transaction source (0 to 2), the transaction and a block hash")
    raw, offset = _extrinsic(arguments, 1)
    block_hash, offset = _HASH.decode_at(arguments, offset)
    _none_left(arguments, offset)
    try:
        valid = executive.validate_after(state, block_hash, raw)
    except UnknownTransaction as error:
        return bytes((1, 1, error.reason))
    except InvalidTransaction as error:
        return bytes((1, 0, error.reason))
    return b"\0" + encode(
        Validity, Validity(valid.priority, valid.requires, valid.provides, valid.longevity, valid.propagate)
    )


def _query_info(executive: Executive, state: StateReader, arguments: bytes) -> bytes:
    return encode(RuntimeDispatchInfo, executive.query_info(state, *_extrinsic_and_length(arguments)))


def _query_fee_details(executive: Executive, state: StateReader, arguments: bytes) -> bytes:
    return encode(FeeDetails, executive.query_fee_details(state, *_extrinsic_and_length(arguments)))


def _query_call_info(executive: Executive, state: StateReader, arguments: bytes) -> bytes:
    return encode(RuntimeDispatchInfo, executive.query_call_info(state, *_call_and_length(executive, arguments)))


def _query_call_fee_details(executive: Executive, state: StateReader, arguments: bytes) -> bytes:
    return encode(FeeDetails, executive.query_call_fee_details(state, *_call_and_length(executive, arguments)))


def _query_weight_to_fee(executive: Executive, state: StateReader, arguments: bytes) -> bytes:
    payment = executive.runtime.at(state).module(TransactionPayment)
    return encode(u128, payment.weight_to_fee(_WEIGHT.decode(arguments)))


def _query_length_to_fee(executive: Executive, state: StateReader, arguments: bytes) -> bytes:
    payment = executive.runtime.at(state).module(TransactionPayment)
    return encode(u128, payment.length_to_fee(U32.decode(arguments)))


# Metadata describes each of them.
ANSWERS: Final[dict[str, Answer]] = {
    "Core_version": _version,
    "Metadata_metadata": _metadata,
    "Metadata_metadata_at_version": _metadata_at_version,
    "Metadata_metadata_versions": _metadata_versions,
    "AccountNonceApi_account_nonce": _account_nonce,
    "TaggedTransactionQueue_validate_transaction": _validate_transaction,
    "TransactionPaymentApi_query_info": _query_info,
    "TransactionPaymentApi_query_fee_details": _query_fee_details,
    "TransactionPaymentApi_query_weight_to_fee": _query_weight_to_fee,
    "TransactionPaymentApi_query_length_to_fee": _query_length_to_fee,
    "TransactionPaymentCallApi_query_call_info": _query_call_info,
    "TransactionPaymentCallApi_query_call_fee_details": _query_call_fee_details,
    "TransactionPaymentCallApi_query_weight_to_fee": _query_weight_to_fee,
    "TransactionPaymentCallApi_query_length_to_fee": _query_length_to_fee,
}


def _extrinsic_and_length(arguments: bytes) -> tuple[bytes, int]:
    raw, offset = _extrinsic(arguments, 0)
    length, offset = U32.decode_at(arguments, offset)
    _none_left(arguments, offset)
    return raw, length


def _call_and_length(executive: Executive, arguments: bytes) -> tuple[Call, int]:
    call, offset = executive.runtime.call_codec.decode_at(arguments, 0)
    length, offset = U32.decode_at(arguments, offset)
    _none_left(arguments, offset)
    return call, length


def _extrinsic(data: bytes, offset: int) -> tuple[bytes, int]:
    """The full wire bytes of the extrinsic at `offset`, length prefix included."""
    size, start = compact_decode(data, offset)
    end = start + size
    if end > len(data):
        raise ScaleError(f"the extrinsic at byte {offset} claims {size} bytes, got {len(data) - start}")
    return compact_encode(size) + data[start:end], end


def _none_left(data: bytes, offset: int) -> None:
    if len(data) != offset:
        raise ScaleError(f"expected the arguments to end at byte {offset}, got {len(data) - offset} bytes more")
