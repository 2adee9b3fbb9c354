"""Keeps the blobs that the running tasks need: whoever fills the store pushes out none that a round waits for.

Read anew from the state after every block, so that it holds after a restart as before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgpack
import trio

from chain.blobs import BlobStore
from chain.ledger import Ledger
from chain.primitives.hashing import Hash
from chain.primitives.types import Header
from chain.rpc.broadcast import Broadcast
from runtime.modules.training import Training
from runtime.modules.training_types import ZERO_HASH

# A data set's manifest names four blobs; other blobs name none.
MANIFEST_BYTES_MAX = 4096
MANIFEST_ROOTS_MAX = 16


class BlobKeeper:
    """Tells the store what the chain names. `run` it once."""

    def __init__(self, ledger: Ledger, blobs: BlobStore) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._manifests: dict[Hash, frozenset[Hash]] = {}

    async def run(self, heads: Broadcast[Header]) -> None:
        """Keep what the newest state names, until cancelled."""
        with heads.subscribe(newest=True) as receiver:
            await trio.to_thread.run_sync(self.keep)
            async for _ in receiver:
                await trio.to_thread.run_sync(self.keep)

    def keep(self) -> None:
        """Keep what the newest state names; called in a thread."""
        with self._ledger.state() as state:
            training = self._ledger.runtime.at(state).module(Training)
            manifests = {training.tasks[task].dataset_root for task in training.active_tasks.get()}
            named = set(_named(training))
        self._manifests = {root: self._manifests.get(root) or self._read(root) for root in manifests}
        self._blobs.keep("chain", named.union(*self._manifests.values()) - {ZERO_HASH})

    def _read(self, manifest: Hash) -> frozenset[Hash]:
        """The blobs that a data set is made of; none while its manifest is not here."""
        blob = self._blobs.open(manifest)
        if blob is None:
            return frozenset()
        try:
            return manifest_roots(blob.read(0, MANIFEST_BYTES_MAX + 1))
        finally:
            blob.close()


def _named(training: Any) -> Iterator[Hash]:
    """Every root in the state of the running tasks: what rounds start from, what workers revealed, what is attested."""
    for number in training.active_tasks.get():
        task = training.tasks[number]
        yield from (task.program_root, task.dataset_root, task.params_root, task.optimizer_root)
        running = training.rounds.get(number)
        if running is None:
            continue
        yield from (slot.update_root for slot in running.slots if slot.update_root is not None)
        for model in (*running.attestations, *running.aggregates):
            yield from (model.params_root, model.optimizer_root)


def manifest_roots(data: bytes) -> frozenset[Hash]:
    """The roots in a manifest: its 32-byte strings. None in anything that is no manifest."""
    if len(data) > MANIFEST_BYTES_MAX:
        return frozenset()
    try:
        # A manifest has no lists: their heads alone, one in the other, would take thousands of times their bytes.
        waiting = [msgpack.unpackb(data, max_array_len=0, max_ext_len=0)]
    except (ValueError, RecursionError):
        return frozenset()
    found: set[Hash] = set()
    while waiting:
        match waiting.pop():
            case dict() as entries:
                waiting += entries.values()
            case bytes() as root if len(root) == len(ZERO_HASH):
                found.add(root)
            case _:
                pass
    return frozenset(found) if len(found) <= MANIFEST_ROOTS_MAX else frozenset()
