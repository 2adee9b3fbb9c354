"""Integers in blocks of 256, each block with a power-of-two step: what updates of every codec are made of.

Rule: one vector has one encoding, and the reader refuses everything that the writer would not have written; steps are
powers of two, so that sums of updates are exact on every machine.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from trainer.arrays import PARAMETERS_MAX, Float32s, Float64s, Int8s, Int16s, Int32s
from trainer.packing import PackingError, fields, integer, unpack

T = TypeVar("T", bound=np.generic)

PICO = 10**12
VERSION = 1
BLOCK = 256
# Steps start at 2^-100: below it float32 loses bits to denormals.
EXPONENT_MIN = -100
# The largest magnitude that the largest step can express (2^50 for int8: squares of what is beyond overflow float32);
# larger gradients saturate.
GRADIENT_MAX = float(127 * 2**50)
# Values whose sizes are looked at together: a quarter of a megabyte, where all of them would take five times a blob.
CHECKED_AT_ONCE = 256 * BLOCK
# Three arrays of so many values are in hand at once: as much, and half of a core's second-level cache.
ROUNDED_AT_ONCE = 256 * BLOCK
# Fields and lengths of a blob beside its arrays.
OVERHEAD_BYTES = 128


class CodecError(ValueError):
    """An update blob is malformed."""


def blocks_of(length: int) -> int:
    """How many blocks cover `length` values."""
    return -(-length // BLOCK)


def bounded(gradient: Float32s) -> Float32s:
    """The gradient that worker and auditor both mean: NaN is 0, and infinities saturate.

    A diverged task thereby yields valid updates, instead of costing its workers their bonds.
    """
    # Local steps do this for each of them: two passes, where `nan_to_num` takes seven.
    values = np.asarray(gradient, dtype=np.float32).clip(np.float32(-GRADIENT_MAX), np.float32(GRADIENT_MAX))
    np.copyto(values, np.float32(0), where=np.isnan(values))
    return values


def check_length(length: int) -> None:
    """CodecError unless an update may have so many parameters."""
    if not 0 < length <= PARAMETERS_MAX:
        raise CodecError(f"expected 1 to {PARAMETERS_MAX:,} values, got {length:,}")


def steps_of(peaks: Float32s, bits: int) -> Int32s:
    """The exponents of the smallest steps in which these magnitudes are integers of so many bits."""
    # frexp is exact: peak = fraction * 2^exponent, with fraction in [0.5, 1).
    fractions, exponents = np.frexp(peaks)
    full = 1 << (bits - 1)
    # A peak that would round to 128 (or 32,768) needs the next step up.
    steps = exponents.astype(np.int32) - (bits - 1) + (fractions * np.float32(full) >= np.float32(full - 0.5))
    return np.asarray(np.where(peaks > 0, steps, EXPONENT_MIN).clip(EXPONENT_MIN, _exponent_max(bits)), np.int32)


def rounded(flat: Float32s, bits: int) -> tuple[Int8s | Int16s, Int8s]:
    """Each value rounded half-to-even to its block's step, and the steps' exponents."""
    integers, exponents = np.empty(flat.size, _dtype(bits)), np.empty(blocks_of(flat.size), np.int8)
    for begin in range(0, flat.size, ROUNDED_AT_ONCE):
        part = flat[begin : begin + ROUNDED_AT_ONCE]
        blocks = _blocked(part)
        steps = steps_of(np.abs(blocks).max(axis=1), bits)
        # Multiplying by a power of two is exact.
        said = np.rint(blocks * np.ldexp(np.float32(1), -steps)[:, None])
        integers[begin : begin + part.size] = said.ravel()[: part.size]
        exponents[begin // BLOCK : blocks_of(begin + part.size)] = steps
    return integers, exponents


def scaled(values: Int8s | Int16s, exponents: Int8s) -> Float64s:
    """The exact values: integers times their blocks' steps."""
    steps = np.ldexp(1.0, exponents.astype(np.int32))
    return np.asarray(values * np.repeat(steps, BLOCK)[: values.size], np.float64)


def raw_integers(values: Int8s | Int16s) -> bytes:
    """Little-endian bytes."""
    return values.astype(values.dtype.newbyteorder("<")).tobytes()


def parsed_blob(data: bytes, bytes_max: int, length: int, names: tuple[str, ...]) -> dict[str, bytes]:
    """The named byte strings of a blob about `length` parameters."""
    if len(data) > bytes_max:
        raise CodecError(f"expected at most {bytes_max:,} bytes, got {len(data):,}")
    try:
        shape: dict[str, type] = {"version": int, "length": int, **dict.fromkeys(names, bytes)}
        parsed = fields(unpack(data), shape, "update")
        integer(parsed["version"], VERSION, VERSION, "update.version")
        integer(parsed["length"], length, length, "update.length")
    except PackingError as error:
        raise CodecError(str(error)) from None
    return parsed


def read_blocks(raw_values: bytes, raw_exponents: bytes, length: int, bits: int) -> tuple[Int8s | Int16s, Int8s]:
    """The `length` integers of a blob and their blocks' exponents; CodecError unless `rounded` makes such."""
    if len(raw_values) != length * bits // 8 or len(raw_exponents) != blocks_of(length):
        raise CodecError(
            f"expected {length * bits // 8} bytes of values and {blocks_of(length)} exponents, "
            f"got {len(raw_values)} and {len(raw_exponents)}"
        )
    dtype = _dtype(bits)
    values = np.frombuffer(raw_values, dtype=dtype.newbyteorder("<")).astype(dtype, copy=False)
    exponents = np.frombuffer(raw_exponents, dtype=np.int8)
    largest, full = (1 << (bits - 1)) - 1, 1 << (bits - 2)
    if values.min() < -largest:
        raise CodecError(f"expected values from {-largest} to {largest}, got {-largest - 1}")
    if exponents.min() < EXPONENT_MIN or exponents.max() > _exponent_max(bits):
        raise CodecError(f"expected exponents from {EXPONENT_MIN} to {_exponent_max(bits)}, got others")
    for begin in range(0, length, CHECKED_AT_ONCE):
        part = values[begin : begin + CHECKED_AT_ONCE]
        steps = exponents[begin // BLOCK : blocks_of(begin + part.size)]
        peaks = np.abs(_blocked(part).astype(np.int32)).max(axis=1)
        # A block whose step could have been half as large wastes a bit.
        if bool(np.any((peaks < full) & (steps > EXPONENT_MIN))):
            raise CodecError(
                f"expected each block's largest value to be {full} to {largest}, got a step that is too coarse"
            )
    return values, exponents


def _exponent_max(bits: int) -> int:
    return 50 - (bits - 8)


def _dtype(bits: int) -> np.dtype[Any]:
    return np.dtype(np.int8 if bits == 8 else np.int16)


def _blocked(flat: npt.NDArray[T]) -> npt.NDArray[T]:
    padded = np.zeros(blocks_of(flat.size) * BLOCK, dtype=flat.dtype)
    padded[: flat.size] = flat
    return padded.reshape(-1, BLOCK)
