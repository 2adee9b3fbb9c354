"""The update codecs: a closed set, each with `take`, `quantise`, `give`, `bytes_max` and `decode`.

Rule: whoever has a slot's gradients and the updates that were revealed for them knows what its next update says:

    taken = codec.take(memory, gradient)
    update = codec.quantise(taken.meant, round_index)
    memory = codec.give(taken, update)
"""

from __future__ import annotations

from typing import assert_never

from trainer.codecs.blocks import PICO, CodecError
from trainer.codecs.dense import Dense
from trainer.codecs.topk import PPM, TENURE_MAX, WARMUP_ROUNDS_MAX, TopK

INT8 = Dense(8)
INT16 = Dense(16)

Codec = Dense | TopK


def checked(codec: Codec) -> Codec:
    """The codec itself, if its numbers make sense; CodecError names the one that does not."""
    match codec:
        case Dense(bits, momentum, tenure):
            if bits not in (8, 16):
                raise CodecError(f"bits of an integer: expected 8 or 16, got {bits}")
            _within("momentum (1e-12)", momentum, 0, PICO - 1)
            _within("tenure (rounds)", tenure, 1, TENURE_MAX)
        case TopK(share_ppm, momentum, warmup_rounds, tenure):
            _within("share (ppm)", share_ppm, 1, PPM)
            _within("momentum (1e-12)", momentum, 0, PICO - 1)
            _within("warm-up rounds", warmup_rounds, 0, WARMUP_ROUNDS_MAX)
            _within("tenure (rounds)", tenure, 1, TENURE_MAX)
        case _:
            assert_never(codec)
    return codec


def _within(what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise CodecError(f"{what}: expected {low} to {high}, got {value}")
