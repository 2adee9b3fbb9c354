"""What codecs make of a vector: integers and steps, for all parameters or for some, and the blobs that hold them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

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
    def kind(self) -> type[Update]:
        """What its slices are."""
        return DenseUpdate

    @property
    def length(self) -> int:
        """P, the number of parameters."""
        return int(self.values.size)

    def slice(self, begin: int, end: int) -> DenseUpdate:
        """What it says of the parameters from `begin`, which begins a block, to `end`."""
        return DenseUpdate(self.values[begin:end], self.exponents[begin // BLOCK : blocks_of(end)])

    def scaled(self) -> Float64s:
        """The exact values f64[P]."""
        return scaled(self.values, self.exponents)

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
    """values i8[k] times 2^exponents[k/256] at ascending indices i64[k]; the other of `length` parameters are zero.

    Of a slice the first value need not begin a block: `skipped` values of that block come before it.
    """

    length: int
    indices: Int64s
    values: Int8s
    exponents: Int8s
    skipped: int = 0

    @property
    def kind(self) -> type[Update]:
        """What its slices are."""
        return SparseUpdate

    def slice(self, begin: int, end: int) -> SparseUpdate:
        """What it says of the parameters from `begin` to `end`."""
        first, last = (int(place) for place in np.searchsorted(self.indices, (begin, end)))
        start, stop = self.skipped + first, self.skipped + last
        return SparseUpdate(
            length=end - begin,
            indices=self.indices[first:last] - begin,
            values=self.values[first:last],
            exponents=self.exponents[start // BLOCK : blocks_of(stop)],
            skipped=start % BLOCK,
        )

    def scaled(self) -> Float64s:
        """The exact values f64[P]."""
        values = np.zeros(self.length, np.float64)
        values[self.indices] = self.values * np.ldexp(1.0, self.steps())
        return values

    def steps(self) -> Int32s:
        """The exponent of each value's step, i32[k]."""
        return self.exponents[(np.arange(self.indices.size) + self.skipped) // BLOCK].astype(np.int32)

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


Update: TypeAlias = DenseUpdate | SparseUpdate
