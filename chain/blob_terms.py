"""Which blobs of a task nodes keep, how long each is at most, and until when: read from the state, nothing else.

Rule: what is named adds up to no more bytes than the chain counts the task with. What a round that runs needs comes
first; of what liars name, and of rounds long final, only as much as there is room for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from chain.primitives.hashing import Hash
from runtime.modules.training_sizes import (
    AFTER_BLOCKS,
    CHUNK_BYTES,
    DATASET_BLOBS,
    Storage,
    charged,
    optimizer_bytes_max,
    params_bytes,
    retained_rounds,
    update_bytes_max,
)
from runtime.modules.training_types import ZERO_HASH, Aggregate, Confirmation, Model, RoundRecord, RoundState, Task


class Named(NamedTuple):
    """A blob that is kept, and the most bytes that it may have."""

    root: Hash
    bytes_max: int


class Kept(NamedTuple):
    """What is kept of a task: its data set, of which only the manifest knows the parts, and all other blobs.

    Of a task that is over this holds before block `until`, unless somebody pays for more.
    """

    dataset: Named | None
    others: tuple[Named, ...]
    until: int | None


def kept_of(training: Any, number: int, height: int) -> Kept:
    """What is kept of a task in the state after block `height`; nothing once its time is over."""
    task: Task = training.tasks[number]
    held: Storage = training.storage[number]
    claim = held.claim
    program, params = Named(task.program_root, claim.program_bytes), params_bytes(claim)
    if held.ended_at is not None and height >= held.until:
        return Kept(None, (), None)
    if held.ended_at is not None and height >= held.ended_at + AFTER_BLOCKS:
        return Kept(None, (program, Named(task.params_root, params)), held.until)
    running: RoundState | None = training.rounds.get(number)
    state = optimizer_bytes_max(claim, task.optimizer)
    update = update_bytes_max(claim, task.policy)
    needed = [program, Named(held.params_root, params), Named(task.params_root, params)]
    needed.append(Named(task.optimizer_root, state))
    rest: list[Named] = []
    provisional: Model | None = training.provisional.get(number)
    if provisional is not None:
        needed += [Named(provisional.params_root, params), Named(provisional.optimizer_root, state)]
    ahead: RoundState | None = training.rounds_ahead.get(number)
    for begun in (running, ahead):
        slots = () if begun is None else begun.slots
        needed += [Named(slot.update_root, update) for slot in slots if slot.update_root is not None]
    if running is not None:
        for params_root, optimizer_root in _by_voices(running, training.confirmations[number], training.proven[number]):
            rest += [Named(params_root, params), Named(optimizer_root, state)]
    for round_ in reversed(range(max(0, task.round - retained_rounds(task.policy)), task.round)):
        record: RoundRecord = training.history[number, round_]
        rest += [Named(record.params_root, params), Named(record.optimizer_root, state)]
        rest += [Named(slot.update_root, update) for slot in record.slots if slot.update_root is not None]
    dataset = Named(task.dataset_root, claim.dataset_bytes)
    room = held.bytes - charged(claim.dataset_bytes) - (DATASET_BLOBS - 1) * CHUNK_BYTES
    until = None if held.ended_at is None else min(held.until, held.ended_at + AFTER_BLOCKS)
    return Kept(dataset, tuple(_within(room, (*needed, *rest))), until)


def _by_voices(
    running: RoundState, confirmations: Iterable[Confirmation], proven: Iterable[Aggregate]
) -> list[tuple[Hash, Hash]]:
    """The models that were said to follow, those first that most said."""
    voices = Counter((word.params_root, word.optimizer_root) for word in running.attestations)
    voices.update((word.params_root, word.optimizer_root) for word in (*running.aggregates, *proven))
    voices.update((word.model.params_root, word.model.optimizer_root) for word in confirmations)
    return [model for model, _ in voices.most_common()]


def _within(room: int, blobs: Iterable[Named]) -> Iterator[Named]:
    """The blobs in their order, each once, as far as there is room for."""
    seen = {ZERO_HASH}
    for blob in blobs:
        if blob.root in seen:
            continue
        room -= charged(blob.bytes_max)
        if room < 0:
            return
        seen.add(blob.root)
        yield blob
