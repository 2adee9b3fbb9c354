"""How many bytes a task's blobs have, and what it costs to keep them: the arithmetic, in integers alone.

Rule: an owner claims three sizes and the policy gives all others, so that the chain knows what nodes have to keep
without having seen a blob. A blob's root binds its length: a claim that is too small keeps and trains nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, assert_never

from chain.primitives.scale import H256, Balance, scale_path, u32, u64
from runtime.modules.training_policy import (
    PPM,
    Adam,
    Descent,
    Int8,
    Int8Momentum,
    Int16,
    Nesterov,
    Policy,
    Sgd,
    Slices,
    TopK,
    TopKFeedback,
)

MIB: Final = 1 << 20
DAY_BLOCKS: Final = 86_400
# Blobs are counted in whole chunks, so that many tiny ones cost what they take: an inode, an entry, a look each.
CHUNK_BYTES: Final = 65_536
# A manifest names four arrays: each may begin a chunk.
DATASET_BLOBS: Final = 5
# Twice what admission takes of a program.
PROGRAM_BYTES_MAX: Final = 16 * MIB
# What 16 tasks keep at most is far below: this only keeps the arithmetic of one claim small.
DATASET_BYTES_MAX: Final = 1 << 40
PARAMETERS_MAX: Final = 1 << 27
# Beside its arrays a blob has a few fields.
OVERHEAD_BYTES: Final = 128
# Values that share a step.
BLOCK: Final = 256
# While a top-k task warms up it sends at most a quarter of all values.
WARMUP_PPM_MAX: Final = 250_000

# A validator's word on slices is a bitmap: 32 bytes.
SLICES_MAX: Final = 256

# A round's blobs stay until so many later rounds are final, for who still fetches or checks them. Counted in rounds and
# not in blocks: how many rounds end within a time nobody knows, and what is paid for has to be a number of bytes.
RETAINED_ROUNDS: Final = 4
# Beside those that are retained there is the round that runs and the model that it makes.
RUNNING_ROUNDS: Final = 2
# What a task may take beyond the time that its rounds have: attempts that fail, and waiting for workers.
SPARE_BLOCKS: Final = DAY_BLOCKS
# Data set and last rounds after the end: ten minutes for who was about to check them.
AFTER_BLOCKS: Final = 600
# The newest model and the program that it is for: who has it trained should have fetched it within a week.
MODEL_BLOCKS: Final = 7 * DAY_BLOCKS
# No storage is sold for more than a year ahead.
STORAGE_BLOCKS_MAX: Final = 365 * DAY_BLOCKS


@scale_path("potchain_training::Claim")
@dataclass(frozen=True, slots=True)
class Claim:
    """How long an owner says its blobs are. The data set is its manifest and its arrays together."""

    program_bytes: u32
    dataset_bytes: u64
    parameters: u32


@scale_path("potchain_training::Storage")
@dataclass(frozen=True, slots=True)
class Storage:
    """What is kept of a task, and how long. Of a running task `until` says how long its deposit lasts."""

    claim: Claim
    params_root: H256  # the initial parameters
    bytes: u64  # what nodes keep of it at most, at this time
    deposit: Balance  # the owner's, until the task is over
    since: u32
    ended_at: u32 | None
    until: u32


def claim_is_valid(claim: Claim) -> bool:
    """Whether a claim's numbers keep their bounds."""
    return (
        1 <= claim.program_bytes <= PROGRAM_BYTES_MAX
        and 1 <= claim.dataset_bytes <= DATASET_BYTES_MAX
        and 1 <= claim.parameters <= PARAMETERS_MAX
    )


def params_bytes(claim: Claim) -> int:
    """A parameter vector's blob: float32."""
    return 4 * claim.parameters


def optimizer_bytes_max(claim: Claim, descent: Descent) -> int:
    """The most bytes of an optimiser's state: its moments as float32, and a step."""
    match descent.rule:
        case Sgd(_, momentum):
            moments = 1 if momentum else 0
        case Nesterov():
            moments = 1
        case Adam():
            moments = 2
        case _:
            assert_never(descent.rule)
    return moments * params_bytes(claim) + OVERHEAD_BYTES


def update_bytes_max(claim: Claim, policy: Policy) -> int:
    """The most bytes of an update (docs/training-numerics.md has the formats)."""
    length, codec = claim.parameters, policy.codec
    match codec:
        case Int8() | Int8Momentum():
            return length + _blocks(length) + OVERHEAD_BYTES
        case Int16():
            return 2 * length + _blocks(length) + OVERHEAD_BYTES
        case TopK(share_ppm, warmup_rounds) | TopKFeedback(share_ppm, warmup_rounds):
            share = max(share_ppm, WARMUP_PPM_MAX) if warmup_rounds else share_ppm
            count = max(1, -(-length * share // PPM))
            # Rice's code of an index takes a remainder of the gap's bits, a one, and hardly more than two zeros; it
            # fills up bytes twice.
            index_bits = (length // count).bit_length() + 4
            return count + _blocks(count) + -(-count * index_bits // 8) + 1 + OVERHEAD_BYTES
        case _:
            assert_never(codec)


def slice_count(claim: Claim, policy: Policy) -> int:
    """In how many slices a task's aggregates are checked; none where every validator adds up all."""
    if not isinstance(policy.checks, Slices):
        return 0
    return -(-params_bytes(claim) // (policy.checks.chunks * CHUNK_BYTES))


def round_bytes(claim: Claim, descent: Descent, policy: Policy) -> int:
    """What a round leaves: its updates, the model that it made, the optimiser's state."""
    return (
        policy.slots * charged(update_bytes_max(claim, policy))
        + charged(params_bytes(claim))
        + charged(optimizer_bytes_max(claim, descent))
    )


def retained_rounds(policy: Policy) -> int:
    """How many final rounds' blobs are kept: within a tenure an auditor looks back to where it began."""
    return max(RETAINED_ROUNDS, policy.tenure)


def running_bytes(claim: Claim, descent: Descent, policy: Policy) -> int:
    """What is kept of a running task at most."""
    return (
        charged(claim.program_bytes)
        + charged(claim.dataset_bytes)
        + (DATASET_BLOBS - 1) * CHUNK_BYTES
        + charged(params_bytes(claim))
        + (retained_rounds(policy) + RUNNING_ROUNDS) * round_bytes(claim, descent, policy)
    )


def model_bytes(claim: Claim) -> int:
    """What is kept of a finished one: its model, and the program that says what the numbers mean."""
    return charged(claim.program_bytes) + charged(params_bytes(claim))


def life_blocks(policy: Policy, rounds: int) -> int:
    """How long a task's deposit lasts: its rounds, each phase as long as it may be, and a day."""
    phases = policy.commit_blocks + policy.reveal_blocks + policy.audit_blocks
    return min(rounds * phases + SPARE_BLOCKS, STORAGE_BLOCKS_MAX)


def cost(size: int, blocks: int, price: int) -> int:
    """What so many bytes cost for so many blocks, at a price for a mebibyte and a day; rounded up to a planck."""
    return -(-size * blocks * price // (MIB * DAY_BLOCKS))


def deposit_of(claim: Claim, descent: Descent, policy: Policy, rounds: int, price: int) -> int:
    """What a new task has to have ready for its blobs: as long as it may run, and its model for a week."""
    running = cost(running_bytes(claim, descent, policy), life_blocks(policy, rounds) + AFTER_BLOCKS, price)
    return running + cost(model_bytes(claim), MODEL_BLOCKS, price)


def charged(length: int) -> int:
    """A blob's length in whole chunks."""
    return max(1, -(-length // CHUNK_BYTES)) * CHUNK_BYTES


def _blocks(length: int) -> int:
    return -(-length // BLOCK)
