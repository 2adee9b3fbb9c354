"""One task's data in a process: its program, data set, parameters and optimiser state, fetched once and checked.

Rule: whatever comes from the network is bounded by what the program says before it is asked for, and is decoded
strictly after.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import trio

from chain.primitives.blob import blob_root
from chain.primitives.hashing import Hash
from trainer import artifact, batches, choices, dataset, descent, optimizers, robust
from trainer.arrays import Float32s
from trainer.artifact import Program
from trainer.choices import ChoiceError
from trainer.codecs.blocks import CodecError
from trainer.dataset import Dataset
from trainer.files import BlobFiles, MemoryFiles
from trainer.node import BlobOversized, Node
from trainer.optimizers import FRESH, OptimizerState
from trainer.sandbox import Engine, Evaluation
from trainer.spill import Spill, StoredUpdate, Summand
from trainer.views import ZERO_HASH, RoundView, TaskView

# The round's model and the next one, each with its optimiser's state.
MODELS_MAX = 2
# Updates on their way from the node to a file: one is fetched while another is decoded.
UPDATES_IN_MEMORY = 2

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NextModel:
    """What a round makes of the model: the vectors, their blobs and their roots."""

    theta: Float32s
    state: OptimizerState
    params: bytes
    optimizer: bytes
    params_root: Hash
    optimizer_root: Hash


class Job:
    """A task's data, loaded when first needed."""

    def __init__(self, task: TaskView, node: Node, files: BlobFiles, memories: MemoryFiles) -> None:
        self.task = task
        self.memories = memories
        self.codec = task.codec
        self._node = node
        self._files = files
        self._program: Program | None = None
        self._program_blob = b""
        self._dataset: Dataset | None = None
        self._thetas: OrderedDict[Hash, Float32s] = OrderedDict()
        self._states: OrderedDict[Hash, OptimizerState] = OrderedDict()
        self._lock = trio.Lock()
        self._in_memory = trio.CapacityLimiter(UPDATES_IN_MEMORY)
        self._spill: tuple[tuple[int, int], Spill] | None = None
        self._spilling = threading.Lock()

    async def program(self) -> Program:
        """The task's program, parsed but not looked into."""
        async with self._lock:
            if self._program is None:
                blob = await self._fetch(self.task.program_root, artifact.PROGRAM_BYTES_MAX)
                program, claim = artifact.parse(blob), self.task.claim
                # Nodes keep no more than the owner claimed and pays for: such a task would not be trained to its end.
                _check_claim("bytes in the program", claim.program_bytes, len(blob))
                _check_claim("parameters", claim.parameters, program.parameters)
                if self.task.slice_chunks is not None and program.parameters != claim.parameters:
                    # The chain counts slices by the claim.
                    raise ChoiceError(
                        f"parameters: in slices exactly as many as claimed, {claim.parameters:,}, got "
                        f"{program.parameters:,}"
                    )
                self._program_blob, self._program = blob, program
            return self._program

    async def prepare(self, engine: Engine) -> None:
        """Load program and data set and compile: what takes long, done before a round's clock runs."""
        program = await self.program()
        data = await self._data(program)
        if self.task.scored is None:
            choices.check_fit(program, data.train_count, self.task.slots, self.task.batches)
        else:
            choices.check_request(program, self.task.batches)
        await engine.load(self.task.program_root, program, self._program_blob)

    async def theta(self, view: RoundView) -> Float32s:
        """The parameters that the round starts from."""
        return await self.theta_at(view.params_root)

    async def theta_at(self, root: Hash) -> Float32s:
        """The parameters of a blob."""
        if root not in self._thetas:
            length = (await self.program()).parameters
            data = await self._node.get_blob(root, 4 * length)
            self._keep(self._thetas, root, optimizers.decode_params(data, length))
        return self._thetas[root]

    def loaded_theta(self, root: Hash) -> Float32s | None:
        """The parameters of a blob, where they are in memory anyway."""
        return self._thetas.get(root)

    def spill(self) -> Spill:
        """A file for parts of updates, gone with the last of them."""
        return self._files.spill()

    async def contribution(self, engine: Engine, view: RoundView, slot: int) -> Float32s:
        """What a slot is to say, computed here: its gradient, or where its local steps lead."""
        await self.prepare(engine)
        x, y = await self.rows(view, slot)
        root, theta, steps = self.task.program_root, await self.theta(view), self.task.local_steps
        if steps is None:
            return (await engine.gradient(root, theta, x, y)).values
        return await engine.local_steps(root, theta, x, y, steps, view.round)

    async def rows(self, view: RoundView, slot: int) -> tuple[bytes, bytes]:
        """The batches of a slot, one after another: inputs and targets."""
        program = await self.program()
        data = await self._data(program)
        size = program.batch * self.task.batches

        def drawn() -> tuple[bytes, bytes]:
            return data.batch(batches.slot_rows(self.task.seed, view.round, view.attempt, slot, size, data.train_count))

        # Some ten milliseconds for a slot that goes through all rows.
        return await trio.to_thread.run_sync(drawn)

    async def evaluate(self, engine: Engine, theta: Float32s) -> tuple[Evaluation, int]:
        """Loss and right answers on the held-out rows, and how many rows those are."""
        data = await self._data(await self.program())
        await self.prepare(engine)
        return (
            await engine.evaluate(self.task.program_root, theta, data.held_out_x, data.held_out_y),
            data.held_out_count,
        )

    async def update(self, view: RoundView, root: Hash) -> StoredUpdate:
        """A revealed update of the round, in a file; CodecError when it is malformed, BlobMissing when no node has it.

        However many are asked for at once, a few are in memory.
        """
        length = (await self.program()).parameters
        async with self._in_memory:
            try:
                data = await self._node.get_blob(root, self.codec.bytes_max(length, view.round))
            except BlobOversized as error:
                # An oversized blob is as malformed as any.
                raise CodecError(str(error)) from None
            return await trio.to_thread.run_sync(self._stored, (view.round, view.attempt), data, length)

    def _stored(self, attempt: tuple[int, int], data: bytes, length: int) -> StoredUpdate:
        update = self.codec.decode(data, length, attempt[0])
        with self._spilling:
            # One file for each attempt at a round: it is closed with the last update that anybody holds of it.
            if self._spill is None or self._spill[0] != attempt:
                self._spill = attempt, self._files.spill()
            spill = self._spill[1]
        return spill.add(update)

    async def next_model(self, view: RoundView, updates: Mapping[int, Summand]) -> NextModel:
        """What the model becomes when exactly these updates, each by its slot, are accepted."""
        theta, state = await self.theta(view), await self._state(view)
        model = await trio.to_thread.run_sync(self._next, view, theta, state, updates)
        self._keep(self._thetas, model.params_root, model.theta)
        self._keep(self._states, model.optimizer_root, model.state)
        return model

    async def theta_with(self, view: RoundView, updates: Mapping[int, Summand]) -> Float32s:
        """The parameters of that model alone, for who only wants to know how good it is."""
        theta, state = await self.theta(view), await self._state(view)
        return (await trio.to_thread.run_sync(self._stepped, view, theta, state, updates))[0] if updates else theta

    async def publish(self, model: NextModel) -> None:
        """Store a model at the node, for whoever starts the next round."""
        await self._node.put_blob(model.params)
        if model.optimizer:
            await self._node.put_blob(model.optimizer)

    def _next(
        self, view: RoundView, theta: Float32s, state: OptimizerState, updates: Mapping[int, Summand]
    ) -> NextModel:
        # No accepted update leaves everything as it is.
        if not updates:
            return NextModel(theta, state, b"", b"", view.params_root, view.optimizer_root)
        theta, state = self._stepped(view, theta, state, updates)
        params = optimizers.encode_params(theta)
        packed = optimizers.encode_state(self.task.descent.rule, state)
        return NextModel(theta, state, params, packed, blob_root(params), blob_root(packed))

    def _stepped(
        self, view: RoundView, theta: Float32s, state: OptimizerState, updates: Mapping[int, Summand]
    ) -> tuple[Float32s, OptimizerState]:
        weights = [view.slots[slot].weight for slot in updates]
        combined = robust.combine(self.task.aggregation, list(updates.values()), weights)
        # The schedule's place is the state's step: one for each round that is final.
        return descent.step(self.task.descent, state, theta, combined)

    async def _state(self, view: RoundView) -> OptimizerState:
        root = view.optimizer_root
        if root == ZERO_HASH:
            return FRESH
        if root not in self._states:
            rule, length = self.task.descent.rule, (await self.program()).parameters
            data = await self._node.get_blob(root, optimizers.state_bytes_max(rule, length))
            self._keep(self._states, root, optimizers.decode_state(rule, data, length))
        return self._states[root]

    async def _data(self, program: Program) -> Dataset:
        async with self._lock:
            if self._dataset is None:
                lengths: dict[Hash, int] = {}

                async def fetch(root: Hash, bytes_max: int) -> bytes:
                    data = await self._fetch(root, bytes_max)
                    lengths[root] = len(data)
                    _check_claim("bytes in the data set", self.task.claim.dataset_bytes, sum(lengths.values()))
                    return data

                self._dataset = await dataset.load(self.task.dataset_root, program, fetch)
            return self._dataset

    async def _fetch(self, root: Hash, bytes_max: int) -> bytes:
        data = self._files.get(self.task.id, root, bytes_max)
        if data is None:
            data = await self._node.get_blob(root, bytes_max)
            self._files.put(root, data)
        return data

    def _keep(self, kept: OrderedDict[Hash, T], root: Hash, value: T) -> None:
        kept[root] = value
        kept.move_to_end(root)
        while len(kept) > MODELS_MAX:
            kept.popitem(last=False)


def _check_claim(what: str, claimed: int, found: int) -> None:
    if found > claimed:
        raise ChoiceError(f"{what}: the owner claimed {claimed:,} and pays for no more, got {found:,}")
