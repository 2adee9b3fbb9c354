"""Planted faults: wrong updates that a worker may reveal without being slashed, so that auditors who do not look lose.

Rule: whether a slot may be planted follows from its worker's BLS signature of a beacon that nobody knew when the worker
set its key. The signature is unique: the worker cannot choose it, nobody else can make it, and showing it proves all.

A planted slot looks like every other until its worker shows it: at once where no auditor was drawn for it, otherwise
when somebody challenged it or validators agree on the round. What is shown without having been audited is left out of
the model, on its worker's word. What was audited is recomputed by everybody: if it is wrong, as its worker says, the
auditors that had attested it right pay for it, and the worker is paid as for an accepted slot; if it is right, its
worker is slashed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from chain.primitives import bls
from chain.primitives.hashing import Hash, blake2_256
from chain.primitives.scale import H256, codec_of, u16, u32
from chain.primitives.seal import read_bitmap
from runtime.modules import training_challenges, training_silos, training_workers, validators_offences
from runtime.modules.rewards import PPM
from runtime.modules.training_rounds import Outcome
from runtime.modules.training_schema import TrainingSchema
from runtime.modules.training_types import (
    PLANT_BLOCKS,
    REJECTED_PLANT_BLOCKS,
    Plant,
    PlantKey,
    RoundState,
    SlashReason,
)

_MESSAGE = codec_of(tuple[bytes, H256, u32, u32, u32, u16])
_TAG: Final = b"potchain/plant"
# A signature's hash is one of 2^32: far finer than a share in parts per million.
_RANGE: Final = 1 << 32


def message_of(beacon: bytes, task: int, round_: int, attempt: int, slot: int) -> bytes:
    """What a worker's plant key signs for one slot."""
    return _MESSAGE.encode((_TAG, beacon, task, round_, attempt, slot))


def is_chosen(proof: bytes, plant_ppm: int) -> bool:
    """Whether a slot with this signature may be planted."""
    return int.from_bytes(blake2_256(proof)[:4], "little") * PPM < plant_ppm * _RANGE


def set_key(training: TrainingSchema, account: bytes, key: bytes, proof: bytes) -> None:
    """Let a worker's slots be planted by this key, from rounds on whose beacon nobody knows yet."""
    if not training.workers[account].bond:
        raise training.NotRegistered
    if not bls.verify_possession(key, account, proof):
        raise training.InvalidPlantKey
    training.plant_keys[account] = PlantKey(key, training.system.height)
    training.emit(training.PlantKeySet(account, key))


def key_of(training: TrainingSchema, state: RoundState, worker: bytes) -> Hash | None:
    """The key that decides which slots of a running round a worker may plant, None where it was set too late."""
    found = training.plant_keys.get(worker)
    if found is None or found.since + training.plant_key_blocks > state.opened_at:
        return None
    return found.key


def show(training: TrainingSchema, task: int, state: RoundState, index: int, proof: bytes) -> None:
    """Say of a revealed slot of one's own that it is wrong, on purpose and with permission."""
    slot, plants = state.slots[index], training.plants[task]
    if slot.update_root is None:
        raise training.NotRevealed
    if any(plant.slot == index for plant in plants):
        raise training.AlreadyShown
    # Before its auditors have spoken, they would look at what was shown and at nothing else.
    if slot.auditors and not slot.challenged and task not in training.plant_deadlines:
        raise training.ShownTooEarly
    key = key_of(training, state, slot.worker)
    message = message_of(training.plant_beacons[task, state.round], task, state.round, state.attempt, index)
    # Scores of private data are no recomputation: nobody can say of one of them that it is wrong.
    allowed = key is not None and not training_silos.is_federated(training, task)
    if key is None or not allowed or not bls.verify(key, message, proof) or not is_chosen(proof, training.plant_ppm):
        raise training.NotPlanted
    trusting = tuple(
        attestation.validator
        for attestation in state.attestations
        if attestation.validator in slot.auditors and index in read_bitmap(attestation.accepted, len(state.slots))
    )
    training.plants[task] = (*plants, Plant(index, trusting))
    training.plant_deadlines.remove(task)
    # Everybody attests anew, without this slot or after computing it.
    training.rounds[task] = replace(state, attestations=())
    training.emit(training.PlantShown(task, state.round, index, slot.worker))


def left_out(training: TrainingSchema, task: int, state: RoundState) -> list[int]:
    """The planted slots that nobody looks at any more: no auditor was drawn for them, and they count for nothing."""
    found = (plant.slot for plant in training.plants[task])
    return [index for index in found if not state.slots[index].auditors and not state.slots[index].challenged]


def waits(training: TrainingSchema, task: int, state: RoundState, agreed: Outcome) -> bool:
    """Whether a round on which validators agree waits for workers that may yet show a planted slot."""
    shown = {plant.slot for plant in training.plants[task]}
    open_slots = [
        index
        for index, slot in enumerate(state.slots)
        if (slot.auditors or slot.challenged) and index not in shown and key_of(training, state, slot.worker)
    ]
    if not open_slots or training_silos.is_federated(training, task):
        return False
    height = training.system.height
    if task not in training.plant_deadlines:
        rejected = any(index not in agreed.accepted for index in open_slots)
        training.plant_deadlines[task] = height + (REJECTED_PLANT_BLOCKS if rejected else PLANT_BLOCKS)
    return height < training.plant_deadlines[task]


def rejected(training: TrainingSchema, task: int, agreed: Outcome) -> list[int]:
    """The planted slots that are wrong, as their workers say: these are paid, though nothing of them counts."""
    return [plant.slot for plant in training.plants[task] if plant.slot not in agreed.accepted]


def settle(training: TrainingSchema, task: int, state: RoundState, agreed: Outcome) -> None:
    """Fine who attested a planted slot right that had to recompute it; slash who called a right one planted."""
    found = training.tasks[task]
    worth = found.price_per_slot + min(found.price_per_slot, training.rewards.slot_emission)
    fine = 2 * worth * PPM // training.plant_ppm
    for plant in training.plants[task]:
        worker = state.slots[plant.slot].worker
        if plant.slot in agreed.accepted:
            training_workers.slash(training, worker, task, state.round, SlashReason.FALSE_PLANT)
            continue
        for account in plant.trusted_by:
            fined = validators_offences.fine(training.validators, account, fine)
            reward = training_challenges.share_of(training, fined)
            if reward:
                training.balances.mint(worker, reward)
            training.emit(training.AuditorFined(account, task, state.round, plant.slot, fined, reward))


def begin(training: TrainingSchema, task: int, round_: int) -> None:
    """Let this block's beacon say which slots of the round that begins may be planted."""
    training.plant_beacons[task, round_] = training.validators.randomness()


def end(training: TrainingSchema, task: int, round_: int) -> None:
    """Forget what was shown in an attempt that is over."""
    training.plants.remove(task)
    training.plant_deadlines.remove(task)
    training.plant_beacons.remove((task, round_))
