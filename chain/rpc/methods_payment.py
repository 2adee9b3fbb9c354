"""`payment_*`: what including an extrinsic would cost."""

from __future__ import annotations

from typing import Any

from chain.primitives.scale import U32, codec_of
from chain.rpc.context import Context
from chain.rpc.methods_state import runtime_call
from chain.rpc.params import BlockHash, HexBytes
from chain.rpc.registry import Registry
from runtime.types import FeeDetails, RuntimeDispatchInfo

registry = Registry()

_INFO = codec_of(RuntimeDispatchInfo)
_DETAILS = codec_of(FeeDetails)


@registry.thread("payment_queryInfo")
def payment_query_info(context: Context, extrinsic: HexBytes, at: BlockHash | None = None) -> dict[str, Any]:
    """Weight and fee, the tip aside."""
    info: RuntimeDispatchInfo = _INFO.decode(_query(context, "TransactionPaymentApi_query_info", extrinsic, at))
    return {
        "weight": {"ref_time": info.weight.ref_time, "proof_size": info.weight.proof_size},
        "class": info.class_.name.lower(),
        "partialFee": str(info.partial_fee),
    }


@registry.thread("payment_queryFeeDetails")
def payment_query_fee_details(context: Context, extrinsic: HexBytes, at: BlockHash | None = None) -> dict[str, Any]:
    """The fee by its parts."""
    details: FeeDetails = _DETAILS.decode(_query(context, "TransactionPaymentApi_query_fee_details", extrinsic, at))
    fee = details.inclusion_fee
    if fee is None:
        return {"inclusionFee": None}
    return {
        "inclusionFee": {
            "baseFee": hex(fee.base_fee),
            "lenFee": hex(fee.len_fee),
            "adjustedWeightFee": hex(fee.adjusted_weight_fee),
        }
    }


def _query(context: Context, api: str, extrinsic: bytes, at: bytes | None) -> bytes:
    with context.state(at) as state:
        return runtime_call(context, state, api, extrinsic + U32.encode(len(extrinsic)))
