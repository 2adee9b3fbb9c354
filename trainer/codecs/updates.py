"""What codecs make of a vector: integers and steps, for all parameters or for some, and the blobs that hold them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainer.arrays import Float64s, Int8s, Int16s, Int32s, Int64s
from trainer.codecs import rice
from trainer.codecs.blocks import BLOCK, VERSION, blocks_of, raw_integers, scaled
from trainer.packing import pack


@dataclass(frozen=True, slots=True)
class DenseUpdate:
    """values i8[P] or i16[P] times 2^exponents[P/256] approximates a vector f32[P]."""

    values: Int8s | Int16s
    exponents: Int8s

    @property
    def length(self) -> int:
        """P, the number of parameters."""
        return int(self.values.size)

    def part(self, begin: int, end: int) -> Float64s:
        """The exact values of the parameters from `begin`, which begins a block, to `end`."""
        return scaled(self.values[begin:end], self.exponents[begin // BLOCK : blocks_of(end)])

    def encode(self) -> bytes:
        """The update's blob."""
        return pack(
            {
                "version": VERSION,
                "length": self.length,
                "exponents": self.exponents.tobytes(),
                "values": raw_integers(self.values),
            }
        )


@dataclass(frozen=True, slots=True)
class SparseUpdate:
    """values i8[k] times 2^exponents[k/256] at ascending indices i64[k]; the other of `length` parameters are zero."""

    length: int
    indices: Int64s
    values: Int8s
    exponents: Int8s

    def part(self, begin: int, end: int) -> Float64s:
        """The exact values of the parameters from `begin` to `end`."""
        first, last = np.searchsorted(self.indices, (begin, end))
        values = np.zeros(end - begin, np.float64)
        steps = np.ldexp(1.0, self.exponents_from(first, last))
        values[self.indices[first:last] - begin] = self.values[first:last] * steps
        return values

    def exponents_from(self, first: int, last: int) -> Int32s:
        """The exponents of the steps of the first-th value to the one before the last-th."""
        return self.exponents[np.arange(first, last) // BLOCK].astype(np.int32)

    def encode(self) -> bytes:
        """The update's blob."""
        return pack(
            {
                "version": VERSION,
                "length": self.length,
                "gaps": rice.encode(self.indices, self.length),
                "exponents": self.exponents.tobytes(),
                "values": raw_integers(self.values),
            }
        )


Update = DenseUpdate | SparseUpdate
