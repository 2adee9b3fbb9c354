"""Int8 and int16: every parameter as an integer; what rounding takes away is not remembered.

Rule: what a slot remembers, if anything, is its momentum before rounding, one IEEE operation at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainer.arrays import Float32s
from trainer.codecs.blocks import (
    OVERHEAD_BYTES,
    PICO,
    blocks_of,
    bounded,
    check_length,
    parsed_blob,
    read_blocks,
    rounded,
)
from trainer.codecs.memory import EMPTY, Memory
from trainer.codecs.updates import DenseUpdate, Update


@dataclass(frozen=True, slots=True)
class Dense:
    """All parameters as integers of 8 or 16 bits.

    With `momentum` (1e-12) they are those of an average over the rounds of a slot's `tenure`: worker momentum, which
    leaves attackers less noise to hide in (Karimireddy et al. 2021, algorithm 2).
    """

    bits: int
    momentum: int = 0
    tenure: int = 1

    def take(self, memory: Memory, gradient: Float32s) -> Memory:
        """What is to be sent: the gradient itself, or its average with those before, which began at zero."""
        values = bounded(gradient).ravel()
        if not self.momentum:
            return Memory(values)
        # One rounding a line: each product, then the sum.
        values = values * np.float32((PICO - self.momentum) / PICO)
        if memory.unsent is None:
            return Memory(values)
        before = memory.unsent * np.float32(self.momentum / PICO)
        return Memory(bounded(before + values))

    def give(self, taken: Memory, update: Update) -> Memory:  # noqa: ARG002
        """What the next average goes on from; nothing is left over where there is no momentum."""
        return taken if self.momentum else EMPTY

    def quantise(self, values: Float32s, round_index: int) -> DenseUpdate:  # noqa: ARG002
        """The update that says f32[P] best, with steps of which each block's peak is at most 127 or 32,767."""
        flat = bounded(values).ravel()
        check_length(flat.size)
        return DenseUpdate(*rounded(flat, self.bits))

    def bytes_max(self, length: int, round_index: int) -> int:  # noqa: ARG002
        """The most bytes that an update of `length` parameters encodes to."""
        return length * self.bits // 8 + blocks_of(length) + OVERHEAD_BYTES

    def decode(self, data: bytes, length: int, round_index: int) -> DenseUpdate:
        """The update of exactly `length` parameters in a blob; CodecError on anything that we would not write."""
        parsed = parsed_blob(data, self.bytes_max(length, round_index), length, ("exponents", "values"))
        return DenseUpdate(*read_blocks(parsed["values"], parsed["exponents"], length, self.bits))
