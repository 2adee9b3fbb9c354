"""Int8 and int16: every parameter as an integer; what rounding takes away is not remembered."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.arrays import Float32s
from trainer.codecs.blocks import (
    OVERHEAD_BYTES,
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
    """All parameters as integers of 8 or 16 bits."""

    bits: int

    @property
    def tenure(self) -> int:
        """Nothing is remembered from one round to the next."""
        return 1

    def take(self, memory: Memory, gradient: Float32s) -> Memory:  # noqa: ARG002
        """What is to be sent: the gradient itself."""
        return Memory(bounded(gradient).ravel())

    def give(self, taken: Memory, update: Update) -> Memory:  # noqa: ARG002
        """Nothing is left over."""
        return EMPTY

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
