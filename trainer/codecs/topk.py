"""Top-k: the largest of a vector's values as int8 and where they are; the rest is remembered for later rounds.

Rule: which values are largest has one answer on every machine (of equal magnitudes those with the lower index), and an
update is a sum of powers of two times integers, as every other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainer.arrays import Float32s, Int64s
from trainer.codecs import rice
from trainer.codecs.blocks import (
    OVERHEAD_BYTES,
    PICO,
    CodecError,
    blocks_of,
    bounded,
    check_length,
    parsed_blob,
    read_blocks,
    rounded,
    scaled,
)
from trainer.codecs.memory import Memory
from trainer.codecs.rice import RiceError
from trainer.codecs.updates import SparseUpdate, Update

BITS = 8
PPM = 1_000_000
# In a warm-up the share falls from at most a quarter, where sparse updates are about as good as dense ones.
WARMUP_PPM_MAX = 250_000
# As many as a task has rounds.
WARMUP_ROUNDS_MAX = 1_000_000
# An audit recomputes every round of a slot since its tenure began.
TENURE_MAX = 64


@dataclass(frozen=True, slots=True)
class TopK:
    """`share_ppm` of the parameters (one at least), with error feedback (Seide et al. 2014; Stich et al. 2018).

    `momentum` (1e-12) is taken by the worker before it selects, and reset where it sent: the momentum correction and
    factor masking of Deep Gradient Compression (Lin et al. 2018, section 3). For the first `warmup_rounds` the share
    falls by halves to what it stays at. A slot's memory lasts for a `tenure` of rounds; one round remembers nothing.
    """

    share_ppm: int
    momentum: int = 0
    warmup_rounds: int = 0
    tenure: int = 1

    def take(self, memory: Memory, gradient: Float32s) -> Memory:
        """What is to be sent now: the gradient, with its momentum, on top of what was not sent before."""
        velocity = bounded(gradient).ravel()
        if self.momentum and memory.velocity is not None:
            # One rounding a line: the product, then the sum.
            velocity = memory.velocity * np.float32(self.momentum / PICO) + velocity
        unsent = velocity if memory.unsent is None else memory.unsent + velocity
        return Memory(bounded(unsent), bounded(velocity) if self.momentum else None)

    def give(self, taken: Memory, update: Update) -> Memory:
        """What is left when the update is sent."""
        assert isinstance(update, SparseUpdate)
        unsent, velocity = taken.meant.copy(), taken.velocity
        # The update says it in float32 exactly: seven bits and a power of two.
        unsent[update.indices] -= scaled(update.values, update.exponents).astype(np.float32)
        if velocity is not None:
            velocity = velocity.copy()
            velocity[update.indices] = 0
        return Memory(unsent, velocity)

    def count(self, length: int, round_index: int) -> int:
        """k: how many of `length` values are sent in a round."""
        doublings = (WARMUP_PPM_MAX // self.share_ppm).bit_length() - 1 if self.share_ppm <= WARMUP_PPM_MAX else 0
        if round_index < self.warmup_rounds:
            share = self.share_ppm << (doublings - doublings * round_index // self.warmup_rounds)
        else:
            share = self.share_ppm
        return max(1, length * share // PPM)

    def quantise(self, values: Float32s, round_index: int) -> SparseUpdate:
        """The update that says the k largest of f32[P]."""
        flat = bounded(values).ravel()
        check_length(flat.size)
        indices = largest(np.abs(flat), self.count(flat.size, round_index))
        integers, exponents = rounded(flat[indices], BITS)
        return SparseUpdate(flat.size, indices, integers.astype(np.int8), exponents)

    def bytes_max(self, length: int, round_index: int) -> int:
        """The most bytes that an update of `length` parameters encodes to."""
        count = self.count(length, round_index)
        return rice.bytes_max(count, length) + count + blocks_of(count) + OVERHEAD_BYTES

    def decode(self, data: bytes, length: int, round_index: int) -> SparseUpdate:
        """The update of exactly `length` parameters in a blob; CodecError on anything that we would not write."""
        count, bytes_max = self.count(length, round_index), self.bytes_max(length, round_index)
        parsed = parsed_blob(data, bytes_max, length, ("gaps", "exponents", "values"))
        integers, exponents = read_blocks(parsed["values"], parsed["exponents"], count, BITS)
        try:
            indices = rice.decode(parsed["gaps"], count, length)
        except RiceError as error:
            raise CodecError(str(error)) from None
        return SparseUpdate(length, indices, integers.astype(np.int8), exponents)


def largest(magnitudes: Float32s, count: int) -> Int64s:
    """The ascending indices of the `count` largest magnitudes; of equal ones the lower indices."""
    threshold = kth_largest(magnitudes, count)
    chosen = magnitudes > threshold
    ties = np.flatnonzero(magnitudes == threshold)
    chosen[ties[: count - int(np.count_nonzero(chosen))]] = True
    return np.flatnonzero(chosen).astype(np.int64)


def kth_largest(magnitudes: Float32s, count: int) -> np.float32:
    """The least of the `count` largest magnitudes."""
    place = magnitudes.size - count
    return np.float32(np.partition(magnitudes, place)[place])
