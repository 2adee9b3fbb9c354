"""Planted faults on a worker's side: which of its slots it may reveal wrong, so that auditors who do not look lose.

Rule: whether a slot is planted follows from the worker's own key and the beacon that opened the round, and is told to
nobody before the chain asks for it. A planted update took as long to compute as a right one, and looks like it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chain.primitives import bls
from chain.primitives.hashing import Hash, blake2_256
from trainer import audit
from trainer.arrays import Float32s
from trainer.audit import Tolerance
from trainer.codecs import Codec
from trainer.codecs.updates import Update
from trainer.files import Place
from trainer.views import RoundView

PPM = 1_000_000
_RANGE = 1 << 32
# As audits find it for certain, and as a model hardly feels where no auditor was drawn and it is shown too late.
FACTORS = (np.float32(0.95), np.float32(1.05))


@dataclass(frozen=True, slots=True)
class PlantRules:
    """What the chain says of an account's planted faults."""

    key: bytes | None  # that counts for it
    since: int  # the height at which it was set
    key_blocks: int  # how much later rounds have to open
    share_ppm: int


class Planter:
    """A worker's key for planted faults, of 32 secret bytes that nobody else has."""

    def __init__(self, secret: bytes, account: bytes) -> None:
        self._secret = bls.keygen(secret)
        self.key = bls.public_key(self._secret)
        self.possession = bls.prove_possession(self._secret, account)
        self._account = account
        # What shows the slots that are planted and not shown yet, by task, round, attempt and slot.
        self.hidden: dict[Place, bytes] = {}

    def due(self, task: int, view: RoundView) -> list[int]:
        """Which hidden slots of a running round can be shown now."""
        if view.phase != "audit":
            return []
        return [
            slot
            for slot in view.assigned(self._account)
            if (task, view.round, view.attempt, slot) in self.hidden
            and (state := view.slots[slot]).update_root is not None
            and not state.planted
            and (state.challenged or not state.auditors or view.is_agreed)
        ]

    def forget_before(self, task: int, now: tuple[int, int]) -> None:
        """Drop what nobody can be shown any more: `now` is a task's running round and attempt."""
        for place in [place for place in self.hidden if place[0] == task and place[1:3] < now]:
            del self.hidden[place]

    def proof(
        self, rules: PlantRules, opened_at: int, beacon: Hash, task: int, round_: int, attempt: int, slot: int
    ) -> bytes | None:
        """What shows that this slot may be planted; None if it may not."""
        if rules.key != self.key or rules.since + rules.key_blocks > opened_at:
            return None
        proof = bls.sign(self._secret, message_of(beacon, task, round_, attempt, slot))
        chosen = int.from_bytes(blake2_256(proof)[:4], "little") * PPM < rules.share_ppm * _RANGE
        return proof if chosen else None


def message_of(beacon: Hash, task: int, round_: int, attempt: int, slot: int) -> bytes:
    """SCALE of (text "potchain/plant", beacon, u32 task, round and attempt, u16 slot), as Training checks it."""
    tag = b"potchain/plant"
    numbers = b"".join(number.to_bytes(4, "little") for number in (task, round_, attempt)) + slot.to_bytes(2, "little")
    return bytes([4 * len(tag)]) + tag + beacon + numbers


def spoiled(codec: Codec, meant: Float32s, tolerance: Tolerance, round_: int, proof: bytes) -> Update | None:
    """An update that is wrong by a twentieth, up or down; None where an audit would not see it, as of no gradient."""
    update = codec.quantise(meant * FACTORS[proof[-1] & 1], round_)
    return None if audit.compare(update, meant, tolerance).right else update
