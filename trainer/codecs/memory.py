"""What a worker remembers between the updates of a slot: the part of its gradients that it has not sent yet.

Rule: it follows from gradients and sent updates alone, one IEEE operation at a time, so that who recomputes the
gradients of a slot knows what its worker remembers (docs/training-numerics.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from trainer.arrays import Float32s


@dataclass(frozen=True, slots=True)
class Memory:
    """What waits to be sent, or a dense codec's average, and the momentum that it grows by; f32[P], or nothing yet."""

    unsent: Float32s | None = None
    velocity: Float32s | None = None

    @property
    def meant(self) -> Float32s:
        """What the next update rounds: only of a memory that a codec's `take` made."""
        assert self.unsent is not None
        return self.unsent


EMPTY = Memory()
