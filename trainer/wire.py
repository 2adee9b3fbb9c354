"""Frames between a parent and its engine: a length, then one msgpack map.

Rule: a frame's length is checked before a byte of it is kept; each side treats the other's frames as input.
"""

from __future__ import annotations

import struct
from typing import Any

from trainer.packing import pack, unpack

LENGTH = struct.Struct(">Q")
# A request carries parameters and the batches of a slot; more than the largest blob plus these is nonsense.
FRAME_BYTES_MAX = 3 << 30
# What of a frame parameters and rows may take: the rest is for names and numbers.
REQUEST_BYTES_MAX = FRAME_BYTES_MAX - (1 << 16)
# Compiled programs that a child holds, those used last. Its parent counts along, and so knows which have to be sent
# again: where tasks share an accelerator's engine, more running tasks compile again.
PROGRAMS_MAX = 8


class WireError(ValueError):
    """A frame is too large or not a map."""


def frame(message: dict[str, object]) -> bytes:
    """The bytes of one message, its length first."""
    body = pack(message)
    return LENGTH.pack(len(body)) + body


def body_length(header: bytes, bytes_max: int = FRAME_BYTES_MAX) -> int:
    """How many bytes follow an 8-byte header."""
    (length,) = LENGTH.unpack(header)
    if length > bytes_max:
        raise WireError(f"expected a frame of at most {bytes_max:,} bytes, got one of {length:,}")
    return int(length)


def parse(body: bytes) -> dict[str, Any]:
    """The message in a frame's body."""
    value = unpack(body, canonical=False, bytes_max=FRAME_BYTES_MAX)
    if not isinstance(value, dict):
        raise WireError(f"expected a map, got {type(value).__name__}")
    return value
