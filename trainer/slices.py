"""What a slice of a round's model is: the same slice of every update, summed and stepped, and compared with a claim.

Rule: a slice has the bits that the whole would have there. Whatever is chosen in a task whose aggregates are checked
slice by slice is computed coordinate by coordinate, in blocks of 256, and a slice begins and ends with a chunk of the
parameters. What is held is a mebibyte of every update, on disk, and a few of those in memory.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import trio

from chain.primitives.blob import CHUNK_BYTES, blob_root
from chain.primitives.hashing import Hash
from trainer import descent, optimizers, ranges, robust
from trainer.arrays import Float32s
from trainer.codecs.blocks import BLOCK, VERSION, CodecError, blocks_of, read_blocks
from trainer.codecs.dense import Dense
from trainer.codecs.updates import DenseUpdate
from trainer.job import Job, NextModel
from trainer.node import Node
from trainer.optimizers import FRESH, OptimizerError, OptimizerState
from trainer.ranges import Layout, RangeError
from trainer.spill import Spill, StoredUpdate
from trainer.views import ZERO_HASH, AggregateView, RoundView, TaskView

# Float32 values in a chunk of the parameters' blob.
CHUNK_PARAMETERS = CHUNK_BYTES // 4
# Parts of updates that are read side by side: what hides the way to a node, and all that is in memory of updates.
READ_AT_ONCE = 8
# How much of an update is read at once where slices are neighbours: two chunks more than it is then cost an eighth.
PART_BYTES = 1 << 20


class MalformedUpdate(Exception):
    """An update whose bytes no worker's codec writes, found in a part of it."""

    def __init__(self, root: Hash, reason: str) -> None:
        super().__init__(reason)
        self.root = root


@dataclass(frozen=True, slots=True)
class Part:
    """Neighbouring slices of a round's model: its parameters there, and the same of its optimiser's state."""

    theta: Float32s
    state: OptimizerState


class Slices:
    """The slices of one task's models."""

    def __init__(self, task: TaskView, node: Node, job: Job) -> None:
        assert task.slice_chunks is not None
        self.task = task
        self._node = node
        self._job = job
        self._size = task.slice_chunks * CHUNK_PARAMETERS
        # The chain takes these codecs alone beside slices.
        assert isinstance(task.codec, Dense)
        self._codec = task.codec

    @property
    def count(self) -> int:
        """How many slices there are."""
        return -(-self.task.claim.parameters // self._size)

    def runs(self, indices: Collection[int]) -> list[range]:
        """These slices, neighbours together: as many as are best computed at once."""
        together = max(1, PART_BYTES * 8 // (self._size * self._codec.bits))
        found: list[range] = []
        for index in sorted(indices):
            if found and found[-1].stop == index and len(found[-1]) < together:
                found[-1] = range(found[-1].start, index + 1)
            else:
                found.append(range(index, index + 1))
        return found

    async def compute(self, view: RoundView, accepted: Sequence[int], run: range) -> Part:
        """Neighbouring slices of what these slots make of the model; MalformedUpdate names an update that is none."""
        begin, end = self._span(run)
        theta, state = await self._theta(view, begin, end), await self._state(view, begin, end)
        spill = self._job.spill()
        stored: dict[int, StoredUpdate] = {}
        limiter = trio.CapacityLimiter(READ_AT_ONCE)

        async def one(slot: int) -> None:
            async with limiter:
                stored[slot] = await self._update(view.slots[slot].update_root or b"", begin, end, spill)

        async with trio.open_nursery() as nursery:
            for slot in accepted:
                nursery.start_soon(one, slot)
        weights = [view.slots[slot].weight for slot in accepted]
        return await trio.to_thread.run_sync(self._stepped, theta, state, [stored[slot] for slot in accepted], weights)

    async def check(self, view: RoundView, claim: AggregateView, run: range) -> dict[int, bool]:
        """Which of neighbouring slices of a claim are what its slots make.

        What cannot be fetched is a NodeError, and no verdict.
        """
        if not claim.accepted:
            is_same = (claim.params_root, claim.optimizer_root) == (view.params_root, view.optimizer_root)
            return dict.fromkeys(run, is_same)
        own = await self.compute(view, claim.accepted, run)
        ours = [optimizers.encode_params(vector) for vector in (own.theta, *own.state.moments)]
        try:
            said = await self._said(claim, own.state.step, *self._span(run))
        except RangeError:
            if len(run) == 1:
                return {run.start: False}
            # Which of them it is in shows when each is read alone.
            found: dict[int, bool] = {}
            for index in run:
                found |= await self.check(view, claim, range(index, index + 1))
            return found
        first, _ = self._span(run)
        spans = {index: self._span(range(index, index + 1)) for index in run}
        places = {index: slice(4 * (begin - first), 4 * (end - first)) for index, (begin, end) in spans.items()}
        pairs = list(zip(ours, said, strict=True))
        return {index: all(mine[at] == theirs[at] for mine, theirs in pairs) for index, at in places.items()}

    async def _said(self, claim: AggregateView, step: int, begin: int, end: int) -> list[bytes]:
        """What a claim's blobs have for the parameters from `begin` to `end`, and for the moments."""
        length, spans = 4 * self.task.claim.parameters, [(4 * begin, 4 * end)]
        params = await ranges.read(self._node, claim.params_root, length, spans)
        where, of_moments = self._state_layout(step), self._moment_spans(begin, end)
        return params + list((await ranges.read_arrays(self._node, claim.optimizer_root, where, of_moments)).values())

    async def model(self, view: RoundView, accepted: Sequence[int]) -> NextModel:
        """All slices, one after the other: what an aggregator publishes."""
        length = self.task.claim.parameters
        names = optimizers.moments_of(self.task.descent.rule)
        vectors: list[Float32s] = [optimizers.empty(length) for _ in range(1 + len(names))]
        step = 0
        for run in self.runs(range(self.count)):
            begin, end = self._span(run)
            part = await self.compute(view, accepted, run)
            step = part.state.step
            for vector, values in zip(vectors, (part.theta, *part.state.moments), strict=True):
                vector[begin:end] = values
        return await trio.to_thread.run_sync(self._packed, vectors[0], OptimizerState(step, tuple(vectors[1:])))

    def _span(self, run: range) -> tuple[int, int]:
        """The parameters of neighbouring slices: from the first to before the last."""
        return run.start * self._size, min(run.stop * self._size, self.task.claim.parameters)

    async def _update(self, root: Hash, begin: int, end: int, spill: Spill) -> StoredUpdate:
        """A part of an update, decoded as strictly as the whole."""
        length, bits = self.task.claim.parameters, self._codec.bits
        where = ranges.layout(
            {"version": VERSION, "length": length},
            {"exponents": blocks_of(length), "values": length * bits // 8},
        )
        spans = {"exponents": (begin // BLOCK, blocks_of(end)), "values": (begin * bits // 8, end * bits // 8)}
        try:
            found = await ranges.read_arrays(self._node, root, where, spans)
            return await trio.to_thread.run_sync(self._stored, found, end - begin, spill)
        except (CodecError, RangeError) as error:
            raise MalformedUpdate(root, str(error)) from None

    def _stored(self, found: dict[str, bytes], length: int, spill: Spill) -> StoredUpdate:
        return spill.add(DenseUpdate(*read_blocks(found["values"], found["exponents"], length, self._codec.bits)))

    async def _theta(self, view: RoundView, begin: int, end: int) -> Float32s:
        loaded = self._job.loaded_theta(view.params_root)
        if loaded is not None:
            return loaded[begin:end]
        spans = [(4 * begin, 4 * end)]
        try:
            (data,) = await ranges.read(self._node, view.params_root, 4 * self.task.claim.parameters, spans)
        except RangeError as error:
            raise OptimizerError(f"parameters of round {view.round}: {error}") from None
        return optimizers.decode_params(data, end - begin)

    async def _state(self, view: RoundView, begin: int, end: int) -> OptimizerState:
        """A part of the state that the round starts from. Its step is one for each round that is final."""
        if view.optimizer_root == ZERO_HASH:
            return FRESH
        where, spans = self._state_layout(view.round), self._moment_spans(begin, end)
        try:
            found = await ranges.read_arrays(self._node, view.optimizer_root, where, spans)
        except RangeError as error:
            raise OptimizerError(f"optimiser's state of round {view.round}: {error}") from None
        moments = tuple(optimizers.decode_params(data, end - begin) for data in found.values())
        return OptimizerState(view.round, moments)

    def _state_layout(self, step: int) -> Layout:
        names = optimizers.moments_of(self.task.descent.rule)
        size = 4 * self.task.claim.parameters
        return ranges.layout({"version": optimizers.VERSION, "step": step}, dict.fromkeys(names, size))

    def _moment_spans(self, begin: int, end: int) -> dict[str, tuple[int, int]]:
        return dict.fromkeys(optimizers.moments_of(self.task.descent.rule), (4 * begin, 4 * end))

    def _stepped(
        self, theta: Float32s, state: OptimizerState, updates: Sequence[StoredUpdate], weights: Sequence[int]
    ) -> Part:
        combined = robust.combine(self.task.aggregation, updates, weights)
        return Part(*descent.step(self.task.descent, state, theta, combined))

    def _packed(self, theta: Float32s, state: OptimizerState) -> NextModel:
        params = optimizers.encode_params(theta)
        packed = optimizers.encode_state(self.task.descent.rule, state)
        return NextModel(theta, state, params, packed, blob_root(params), blob_root(packed))
