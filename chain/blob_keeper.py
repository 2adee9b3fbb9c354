"""Keeps the blobs that the chain names for as long as it is paid for that, and removes what it names no more.

Read anew from the state after every block, so that it holds after a restart as before. Every look is bounded: finished
tasks, of which there may be thousands, are read in turn, and files are removed a few at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgpack
import trio

from chain.blob_terms import Kept, Named, kept_of
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
# Finished tasks that are read after a block: some ten milliseconds of a thread. Of ten thousand each within minutes.
FINISHED_MAX = 32
# Files that are removed after a block: a few milliseconds, and more than the largest round leaves.
DROPPED_MAX = 128


class BlobKeeper:
    """Tells the store what the chain names. `run` it once."""

    def __init__(self, ledger: Ledger, blobs: BlobStore) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._manifests: dict[Hash, frozenset[Hash]] = {}
        self._active: frozenset[int] = frozenset()
        self._finished: dict[int, Kept] = {}
        # Which of the finished tasks is read next, and whether every one was read: nothing is removed before.
        self._place = 0
        self._has_seen_all = False

    async def run(self, heads: Broadcast[Header]) -> None:
        """Keep what the newest state names, until cancelled."""
        with heads.subscribe(newest=True) as receiver:
            await trio.to_thread.run_sync(self.keep)
            async for _ in receiver:
                await trio.to_thread.run_sync(self.keep)

    def keep(self) -> None:
        """Keep what the newest state names, and remove some of what it names no more; called in a thread."""
        with self._ledger.state() as state:
            training = self._ledger.runtime.at(state).module(Training)
            height = state.header.height
            active = frozenset(training.active_tasks.get())
            running = [kept_of(training, task, height) for task in sorted(active)]
            due = self._due(training, active, height)
            finished = {task: kept_of(training, task, height) for task in sorted(due)}
        self._active = active
        self._finished |= finished
        for task, kept in finished.items():
            if kept.until is None:
                del self._finished[task]
        self._manifests = {
            kept.dataset.root: self._manifests.get(kept.dataset.root) or self._read(kept.dataset.root)
            for kept in (*running, *self._finished.values())
            if kept.dataset is not None
        }
        if finished:
            self._blobs.keep("finished tasks", self._named(self._finished.values()))
        self._blobs.keep("running tasks", self._named(running))
        if self._has_seen_all:
            self._blobs.drop(DROPPED_MAX)

    def _due(self, training: Any, active: frozenset[int], height: int) -> set[int]:
        """The finished tasks to be read: who has just ended, who is about to lose something, and a few in turn."""
        due = set(self._active - active)
        due.update(task for task, kept in self._finished.items() if kept.until is not None and height >= kept.until)
        count = training.stored_count.get()
        for _ in range(min(count, FINISHED_MAX)):
            self._place = self._place if self._place < count else 0
            due.add(training.stored_tasks[self._place])
            self._place += 1
        self._has_seen_all |= self._place >= count
        return due

    def _named(self, tasks: Iterable[Kept]) -> dict[Hash, int]:
        """The most bytes of each blob. Who claims less of one than another task does takes nothing from that."""
        named: dict[Hash, int] = {}
        for kept in tasks:
            for root, bytes_max in self._blobs_of(kept):
                named[root] = max(bytes_max, named.get(root, 0))
        return named

    def _blobs_of(self, kept: Kept) -> Iterator[Named]:
        """All that is kept of a task: of its data set no more than the manifest while the parts exceed the claim."""
        yield from kept.others
        if kept.dataset is None:
            return
        manifest, most = kept.dataset
        yield Named(manifest, min(most, MANIFEST_BYTES_MAX))
        parts = self._manifests[manifest]
        if sum(self._blobs.length(root) or 0 for root in {manifest, *parts}) <= most:
            yield from (Named(root, most) for root in parts)

    def _read(self, manifest: Hash) -> frozenset[Hash]:
        """The blobs that a data set is made of; none while its manifest is not here."""
        blob = self._blobs.open(manifest)
        if blob is None:
            return frozenset()
        try:
            return manifest_roots(blob.read(0, MANIFEST_BYTES_MAX + 1)) - {ZERO_HASH}
        finally:
            blob.close()


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
