"""What a block may hold: weight and bytes, by dispatch class, with FRAME's own types so that clients can read them.

One picosecond of weight is one picosecond of one core of the reference machine (two x86-64 cores, Python 3.11).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from chain.primitives.scale import scale_path, u32
from runtime.types import NO_WEIGHT, DispatchClass, Weight

MILLISECOND: Final = 10**9  # in picoseconds
MICROSECOND: Final = 10**6

# A block comes about once a second, is built by one validator and executed by the others before they vote: 800 ms of
# work leave room for that within the view's timer, on a machine as fast as the reference.
BLOCK_WEIGHT_MAX: Final = 800 * MILLISECOND
# Every extrinsic costs its decoding, its signature and its fee before its call begins.
EXTRINSIC_WEIGHT: Final = 200 * MICROSECOND
# Transactions leave a quarter of the block for operational calls and hooks.
NORMAL_PERCENT: Final = 75
# A full block is sent to every validator within its second: 2 MiB is 17 Mbit/s to each.
BLOCK_BYTES_MAX: Final = 2 << 20
PROOF_SIZE_MAX: Final = (1 << 64) - 1  # nothing here is limited by the size of proofs


@scale_path("frame_support::dispatch::PerDispatchClass", T=u32)
@dataclass(frozen=True, slots=True)
class LengthPerClass:
    """Bytes by dispatch class."""

    normal: u32
    operational: u32
    mandatory: u32


@scale_path("frame_system::limits::BlockLength")
@dataclass(frozen=True, slots=True)
class BlockLength:
    """How many bytes of extrinsics a block may hold."""

    max: LengthPerClass


@scale_path("frame_system::limits::WeightsPerClass")
@dataclass(frozen=True, slots=True)
class WeightsPerClass:
    """The limits of one dispatch class; None where there is none."""

    base_extrinsic: Weight
    max_extrinsic: Weight | None
    max_total: Weight | None
    reserved: Weight | None


@scale_path("frame_support::dispatch::PerDispatchClass", T=WeightsPerClass)
@dataclass(frozen=True, slots=True)
class WeightLimits:
    """Weight limits by dispatch class."""

    normal: WeightsPerClass
    operational: WeightsPerClass
    mandatory: WeightsPerClass


@scale_path("frame_system::limits::BlockWeights")
@dataclass(frozen=True, slots=True)
class BlockWeights:
    """How much weight a block may hold."""

    base_block: Weight
    max_block: Weight
    per_class: WeightLimits


@scale_path("frame_support::dispatch::PerDispatchClass", T=Weight)
@dataclass(frozen=True, slots=True)
class WeightPerClass:
    """What the current block has used."""

    normal: Weight = NO_WEIGHT
    operational: Weight = NO_WEIGHT
    mandatory: Weight = NO_WEIGHT


# The most that each class may use, in a block that other classes have left that much.
WEIGHT_MAX: Final[dict[DispatchClass, int]] = {
    DispatchClass.NORMAL: BLOCK_WEIGHT_MAX * NORMAL_PERCENT // 100,
    DispatchClass.OPERATIONAL: BLOCK_WEIGHT_MAX,
}
BYTES_MAX: Final[dict[DispatchClass, int]] = {
    DispatchClass.NORMAL: BLOCK_BYTES_MAX * NORMAL_PERCENT // 100,
    DispatchClass.OPERATIONAL: BLOCK_BYTES_MAX,
    DispatchClass.MANDATORY: BLOCK_BYTES_MAX,
}


def _weight(ref_time: int) -> Weight:
    return Weight(ref_time, PROOF_SIZE_MAX)


BLOCK_LENGTH: Final = BlockLength(
    LengthPerClass(
        BYTES_MAX[DispatchClass.NORMAL], BYTES_MAX[DispatchClass.OPERATIONAL], BYTES_MAX[DispatchClass.MANDATORY]
    )
)


def _class_limits(dispatch_class: DispatchClass) -> WeightsPerClass:
    most = WEIGHT_MAX[dispatch_class]
    return WeightsPerClass(Weight(EXTRINSIC_WEIGHT), _weight(most - EXTRINSIC_WEIGHT), _weight(most), None)


BLOCK_WEIGHTS: Final = BlockWeights(
    base_block=Weight(0),
    max_block=_weight(BLOCK_WEIGHT_MAX),
    per_class=WeightLimits(
        normal=_class_limits(DispatchClass.NORMAL),
        operational=_class_limits(DispatchClass.OPERATIONAL),
        mandatory=WeightsPerClass(Weight(EXTRINSIC_WEIGHT), None, None, None),
    ),
)
