"""The update codec: int8 integers in blocks of 256, each block with a power-of-two step.

Rule: one gradient has one encoding, and the decoder refuses everything that the encoder would not have written;
steps are powers of two, so that sums of updates are exact on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from trainer.packing import PackingError, fields, integer, pack, unpack

Float32s = npt.NDArray[np.float32]
Int8s = npt.NDArray[np.int8]
T = TypeVar("T", bound=np.generic)

VERSION = 1
BLOCK = 256
VALUE_MAX = 127
# A block whose step could have been half as large wastes a bit: its largest integer is at least this.
VALUE_FULL = 64
# Steps run from 2^-100 (below it float32 loses bits to denormals) to 2^50 (above it squares overflow float32).
EXPONENT_MIN = -100
EXPONENT_MAX = 50
# The largest magnitude that the largest step can express; larger gradients saturate.
GRADIENT_MAX = float(VALUE_MAX * 2**EXPONENT_MAX)
# 128 million parameters: what one machine's memory holds together with the optimiser's moments.
PARAMETERS_MAX = 1 << 27


class CodecError(ValueError):
    """An update blob is malformed."""


@dataclass(frozen=True, slots=True)
class Update:
    """values i8[P] times 2^exponents[P/256] approximates a gradient f32[P]."""

    values: Int8s
    exponents: Int8s

    @property
    def length(self) -> int:
        """P, the number of parameters."""
        return int(self.values.size)


def blocks_of(length: int) -> int:
    """How many blocks cover `length` values."""
    return -(-length // BLOCK)


def update_bytes_max(length: int) -> int:
    """The most bytes that an update of `length` parameters encodes to."""
    return length + blocks_of(length) + 128


def bounded(gradient: Float32s) -> Float32s:
    """The gradient that worker and auditor both mean: NaN is 0, and infinities saturate.

    A diverged task thereby yields valid updates, instead of costing its workers their bonds.
    """
    return np.nan_to_num(
        np.asarray(gradient, dtype=np.float32), nan=0.0, posinf=GRADIENT_MAX, neginf=-GRADIENT_MAX
    ).clip(np.float32(-GRADIENT_MAX), np.float32(GRADIENT_MAX))


def quantise(gradient: Float32s) -> Update:
    """Round each value half-to-even to its block's step: the smallest step of which the peak is at most 127."""
    flat = bounded(gradient).ravel()
    length = flat.size
    if not 0 < length <= PARAMETERS_MAX:
        raise CodecError(f"expected 1 to {PARAMETERS_MAX:,} values, got {length:,}")
    blocks = _blocked(flat)
    peaks = np.abs(blocks).max(axis=1)
    # frexp is exact: peak = fraction * 2^exponent, with fraction in [0.5, 1).
    fractions, exponents = np.frexp(peaks)
    # A peak that would round to 128 needs the next step up.
    exponents = exponents.astype(np.int32) - 7 + (fractions * np.float32(128) >= np.float32(127.5))
    exponents = np.where(peaks > 0, exponents, EXPONENT_MIN).clip(EXPONENT_MIN, EXPONENT_MAX)
    scaled = blocks * np.ldexp(np.float32(1), -exponents)[:, None]
    values = np.rint(scaled).astype(np.int8).ravel()[:length]
    return Update(values, exponents.astype(np.int8))


def encode(update: Update) -> bytes:
    """The update's blob."""
    return pack(
        {
            "version": VERSION,
            "length": update.length,
            "exponents": update.exponents.tobytes(),
            "values": update.values.tobytes(),
        }
    )


def decode(data: bytes, length: int) -> Update:
    """The update of exactly `length` parameters in a blob; CodecError on anything that `encode` would not write."""
    if len(data) > update_bytes_max(length):
        raise CodecError(f"expected at most {update_bytes_max(length):,} bytes, got {len(data):,}")
    try:
        shape = {"version": int, "length": int, "exponents": bytes, "values": bytes}
        parsed = fields(unpack(data), shape, "update")
        integer(parsed["version"], VERSION, VERSION, "update.version")
        integer(parsed["length"], length, length, "update.length")
    except PackingError as error:
        raise CodecError(str(error)) from None
    raw_values, raw_exponents = parsed["values"], parsed["exponents"]
    if len(raw_values) != length or len(raw_exponents) != blocks_of(length):
        raise CodecError(
            f"expected {length} values and {blocks_of(length)} exponents, "
            f"got {len(raw_values)} and {len(raw_exponents)}"
        )
    values = np.frombuffer(raw_values, dtype=np.int8)
    exponents = np.frombuffer(raw_exponents, dtype=np.int8)
    if values.min() < -VALUE_MAX:
        raise CodecError("expected values from -127 to 127, got -128")
    if exponents.min() < EXPONENT_MIN or exponents.max() > EXPONENT_MAX:
        raise CodecError(f"expected exponents from {EXPONENT_MIN} to {EXPONENT_MAX}, got others")
    peaks = np.abs(_blocked(values).astype(np.int16)).max(axis=1)
    if bool(np.any((peaks < VALUE_FULL) & (exponents > EXPONENT_MIN))):
        raise CodecError(
            f"expected each block's largest value to be {VALUE_FULL} to 127, got a step that is too coarse"
        )
    return Update(values, exponents)


def _blocked(flat: npt.NDArray[T]) -> npt.NDArray[T]:
    padded = np.zeros(blocks_of(flat.size) * BLOCK, dtype=flat.dtype)
    padded[: flat.size] = flat
    return padded.reshape(-1, BLOCK)
