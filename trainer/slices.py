"""What a slice of a round's model is: the same slice of every update, summed and stepped, and compared with a claim.

Rule: a slice has the bits that the whole would have there. Whatever is chosen in a task whose aggregates are checked
slice by slice is computed coordinate by coordinate, in blocks of 256, and a slice begins and ends with a chunk of the
parameters. What is held is one slice of every update, on disk, and a few of those in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
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
# Slices of updates that are read side by side: what hides the way to a node, and all that is in memory of updates.
READ_AT_ONCE = 8


class MalformedUpdate(Exception):
    """An update whose bytes no worker's codec writes, found in a part of it."""

    def __init__(self, root: Hash, reason: str) -> None:
        super().__init__(reason)
        self.root = root


@dataclass(frozen=True, slots=True)
class Slice:
    """The parameters from `begin` to `end` of a round's model, and the same of its optimiser's state."""

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

    async def compute(self, view: RoundView, accepted: Sequence[int], index: int) -> Slice:
        """A slice of what these slots make of the model; MalformedUpdate names an update that is none."""
        begin, end = self._span(index)
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

    async def is_right(self, view: RoundView, claim: AggregateView, index: int) -> bool:
        """Whether a slice of a claim is what its slots make; what cannot be fetched is a NodeError, and no verdict."""
        if not claim.accepted:
            return (claim.params_root, claim.optimizer_root) == (view.params_root, view.optimizer_root)
        begin, end = self._span(index)
        own = await self.compute(view, claim.accepted, index)
        moments = dict(zip(optimizers.moments_of(self.task.descent.rule), own.state.moments, strict=True))
        expected = {name: optimizers.encode_params(moment) for name, moment in moments.items()}
        try:
            (params,) = await ranges.read(
                self._node, claim.params_root, 4 * self.task.claim.parameters, [(4 * begin, 4 * end)]
            )
            said = await ranges.read_arrays(
                self._node, claim.optimizer_root, self._state_layout(own.state.step), self._moment_spans(begin, end)
            )
        except RangeError:
            return False
        return params == optimizers.encode_params(own.theta) and said == expected

    async def model(self, view: RoundView, accepted: Sequence[int]) -> NextModel:
        """All slices, one after the other: what an aggregator publishes."""
        length = self.task.claim.parameters
        names = optimizers.moments_of(self.task.descent.rule)
        vectors: list[Float32s] = [optimizers.empty(length) for _ in range(1 + len(names))]
        step = 0
        for index in range(self.count):
            begin, end = self._span(index)
            part = await self.compute(view, accepted, index)
            step = part.state.step
            for vector, values in zip(vectors, (part.theta, *part.state.moments), strict=True):
                vector[begin:end] = values
        return await trio.to_thread.run_sync(self._packed, vectors[0], OptimizerState(step, tuple(vectors[1:])))

    def _span(self, index: int) -> tuple[int, int]:
        return index * self._size, min((index + 1) * self._size, self.task.claim.parameters)

    async def _update(self, root: Hash, begin: int, end: int, spill: Spill) -> StoredUpdate:
        """A slice of an update, decoded as strictly as the whole."""
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
        """A slice of the state that the round starts from. Its step is one for each round that is final."""
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
    ) -> Slice:
        combined = robust.combine(self.task.aggregation, updates, weights)
        return Slice(*descent.step(self.task.descent, state, theta, combined))

    def _packed(self, theta: Float32s, state: OptimizerState) -> NextModel:
        params = optimizers.encode_params(theta)
        packed = optimizers.encode_state(self.task.descent.rule, state)
        return NextModel(theta, state, params, packed, blob_root(params), blob_root(packed))
