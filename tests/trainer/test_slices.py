"""Slices of models have the bits of the whole, and of a claim the one that is wrong is found, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from chain.primitives.blob import CHUNK_BYTES, blob_root
from chain.primitives.hashing import Hash
from chain.primitives.keys import Keypair
from chain.rpc.client import Client
from tests.rpc.kit import Served, served
from tests.trainer.test_follow import TASK, round_view
from tests.trainer.test_spill import some_updates
from trainer import optimizers, ranges
from trainer.codecs import INT8, INT16
from trainer.codecs.blocks import VERSION, blocks_of
from trainer.codecs.dense import Dense
from trainer.codecs.updates import DenseUpdate
from trainer.descent import ClipValue, Descent
from trainer.files import BlobFiles, MemoryFiles
from trainer.job import Job, NextModel
from trainer.measured import MeasuredNode
from trainer.metrics import Meter
from trainer.node import BlobMissing, NodeError, RpcNode
from trainer.optimizers import FRESH, PICO, Adam, Nesterov, Optimizer, OptimizerState, Sgd
from trainer.ranges import RangeError, layout
from trainer.robust import Aggregation, Mean, Median, TrimmedMean
from trainer.slices import CHUNK_PARAMETERS, MalformedUpdate, Slices
from trainer.views import ZERO_HASH, AggregateView, Claim, RoundView, SlotView

# Five slices of one chunk, the last one short and no whole block.
LENGTH = 4 * CHUNK_PARAMETERS + 4321
MEAN = Mean()
ADAM = Adam(PICO // 100, 9 * PICO // 10, 99 * PICO // 100, PICO // 10**8)


@pytest.mark.parametrize("length", [1, 200, 256, 65_535, 65_536, 70_000])
def test_everything_in_a_blob_is_where_its_layout_says(length: int) -> None:
    rng = np.random.default_rng(length)
    for bits in (8, 16):
        update = Dense(bits).quantise(rng.standard_normal(length).astype(np.float32), 0)
        arrays = {"exponents": blocks_of(length), "values": length * bits // 8}
        check_layout(update.encode(), {"version": VERSION, "length": length}, arrays)
    for rule in (ADAM, Nesterov(1, 0), Sgd(1, 1), Sgd(1, 0)):
        for step in (1, 200, 70_000):
            state = some_state(rule, step, length)
            names = optimizers.moments_of(rule)
            numbers = {"version": optimizers.VERSION, "step": step}
            check_layout(optimizers.encode_state(rule, state), numbers, dict.fromkeys(names, 4 * length))


def check_layout(blob: bytes, numbers: dict[str, int], arrays: dict[str, int]) -> None:
    found = layout(numbers, arrays)
    assert found.length == len(blob)
    rebuilt = b"".join(place.before + blob[place.start : place.start + place.size] for place in found.places.values())
    assert rebuilt + found.after == blob
    assert {name: place.size for name, place in found.places.items()} == arrays


def some_state(rule: Optimizer, step: int, length: int) -> OptimizerState:
    rng = np.random.default_rng(step)
    moments = (np.abs(rng.standard_normal(length)).astype(np.float32) for _ in optimizers.moments_of(rule))
    return OptimizerState(step, tuple(moments))


@dataclass
class Round:
    """A round whose blobs are at a node, behind its RPC."""

    it: Served
    slices: Slices
    job: Job
    view: RoundView
    updates: dict[int, DenseUpdate]
    asked: list[tuple[Hash, int, int]]

    @property
    def accepted(self) -> tuple[int, ...]:
        return self.view.revealed

    async def publish(self, model: NextModel) -> AggregateView:
        self.it.node.blobs.put(model.params)
        self.it.node.blobs.put(model.optimizer)
        return AggregateView(self.accepted, model.params_root, model.optimizer_root)

    async def verdicts(self, claim: AggregateView) -> list[bool]:
        """Of each slice, looked at alone, with a neighbour, and with all others: all say the same."""
        count = self.slices.count
        found: list[list[bool]] = []
        for size in (1, 2, count):
            runs = [range(first, min(first + size, count)) for first in range(0, count, size)]
            each = [await self.slices.check(self.view, claim, run) for run in runs]
            assert [list(part) for part in each] == [list(run) for run in runs]
            found.append([verdict for part in each for verdict in part.values()])
        assert all(verdicts == found[0] for verdicts in found)
        return found[0]


class Counting(RpcNode):
    """Notes which chunks are asked for."""

    asked: list[tuple[Hash, int, int]]

    async def get_chunks(self, root: Hash, first: int, count: int) -> tuple[int, bytes]:
        self.asked.append((root, first, count))
        return await super().get_chunks(root, first, count)


@asynccontextmanager
async def a_round(
    folder: Path,
    *,
    rule: Optimizer = ADAM,
    codec: Dense = INT8,
    aggregation: Aggregation = MEAN,
    number: int = 3,
    length: int = LENGTH,
    slots: int = 3,
    **changes: Any,
) -> AsyncIterator[Round]:
    descent = Descent(rule, clip=ClipValue(PICO), weight_decay=PICO // 1000)
    task = replace(
        TASK,
        claim=Claim(1, 1, length),
        descent=descent,
        codec=codec,
        aggregation=aggregation,
        slice_chunks=1,
        **changes,
    )
    rng = np.random.default_rng(number)
    theta = rng.standard_normal(length).astype(np.float32)
    state = some_state(rule, number, length) if number else FRESH
    made = [update for update in some_updates(codec, length, slots, number) if isinstance(update, DenseUpdate)]
    updates = dict(enumerate(made))
    async with served(folder / "node") as it, Client.connect(it.url) as client:
        roots = {slot: it.node.blobs.put(update.encode()) for slot, update in updates.items()}
        packed = optimizers.encode_state(rule, state) if number else b""
        view = replace(
            round_view("audit"),
            round=number,
            params_root=it.node.blobs.put(optimizers.encode_params(theta)),
            optimizer_root=it.node.blobs.put(packed) if number else ZERO_HASH,
            slots=tuple(
                SlotView(bytes(32), bytes(32), root, (), challenged=False, planted=False, weight=1)
                for root in roots.values()
            ),
        )
        counting = Counting(client, Keypair.from_uri("//Alice"))
        counting.asked = []
        node = MeasuredNode(counting, Meter("auditor"))
        job = Job(task, node, BlobFiles(folder / "blobs"), MemoryFiles(folder / "memories"))
        yield Round(it, Slices(task, node, job), job, view, updates, counting.asked)


async def whole(it: Round) -> NextModel:
    """What the round makes as everybody computes it who adds up all."""

    rule, length = it.slices.task.descent.rule, it.slices.task.claim.parameters
    theta = optimizers.decode_params(it.it.node.blobs.get(it.view.params_root) or b"", length)
    state = FRESH
    if it.view.optimizer_root != ZERO_HASH:
        state = optimizers.decode_state(rule, it.it.node.blobs.get(it.view.optimizer_root) or b"", length)
    return it.job._next(it.view, theta, state, it.updates)


CASES: Sequence[tuple[Optimizer, Dense, Aggregation, int]] = [
    (ADAM, INT8, Mean(), 3),
    (ADAM, INT8, Mean(), 0),
    (Nesterov(PICO // 2, 9 * PICO // 10), INT16, Median(), 200),
    (Sgd(PICO // 10, 9 * PICO // 10), INT8, TrimmedMean(400_000), 1),
    (Sgd(PICO // 10, 0), INT16, Mean(), 2),
]


@pytest.mark.parametrize(("rule", "codec", "aggregation", "number"), CASES, ids=str)
async def test_slice_by_slice_a_model_has_the_bits_of_the_whole(
    rule: Optimizer, codec: Dense, aggregation: Aggregation, number: int, tmp_path: Path
) -> None:
    with trio.fail_after(60):
        async with a_round(tmp_path, rule=rule, codec=codec, aggregation=aggregation, number=number) as it:
            assert it.slices.count == 5
            found, expected = await it.slices.model(it.view, it.accepted), await whole(it)
            assert (found.params_root, found.optimizer_root) == (expected.params_root, expected.optimizer_root)
            claim = await it.publish(found)
            assert await it.verdicts(claim) == [True] * 5


async def test_one_parameter_or_moment_that_is_wrong_is_found_in_its_slice_and_in_no_other(tmp_path: Path) -> None:
    with trio.fail_after(60):
        async with a_round(tmp_path) as it:
            right = await it.slices.model(it.view, it.accepted)
            places = layout({"version": 1, "step": 4}, {"m": 4 * LENGTH, "v": 4 * LENGTH}).places
            for vector, place in (
                ("params", CHUNK_PARAMETERS - 1),
                ("params", CHUNK_PARAMETERS),
                ("m", LENGTH - 1),
                ("v", 0),
            ):
                if vector == "params":
                    params = changed(right.params, 4 * place)
                    false = replace(right, params=params, params_root=blob_root(params))
                else:
                    state = changed(right.optimizer, places[vector].start + 4 * place)
                    false = replace(right, optimizer=state, optimizer_root=blob_root(state))
                claim = await it.publish(false)
                assert await it.verdicts(claim) == [index != place // CHUNK_PARAMETERS for index in range(5)]


def changed(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


async def test_a_blob_of_another_length_or_with_other_fields_is_wrong(tmp_path: Path) -> None:
    with trio.fail_after(60):
        async with a_round(tmp_path) as it:
            right = await it.slices.model(it.view, it.accepted)
            longer = right.params + bytes(4)
            claim = await it.publish(replace(right, params=longer, params_root=blob_root(longer)))
            assert await it.verdicts(claim) == [False] * 5
            # Another step, which stands before the first moment: whoever checks the first slice reads it.
            state = changed(right.optimizer, right.optimizer.index(b"step") + 4)
            claim = await it.publish(replace(right, optimizer=state, optimizer_root=blob_root(state)))
            assert await it.verdicts(claim) == [False, True, True, True, True]


async def test_a_model_of_no_slots_is_the_one_before(tmp_path: Path) -> None:
    async with a_round(tmp_path) as it:
        same = AggregateView((), it.view.params_root, it.view.optimizer_root)
        assert await it.verdicts(same) == [True] * 5
        assert await it.verdicts(replace(same, params_root=ZERO_HASH)) == [False] * 5


async def test_an_update_that_no_codec_writes_is_named_by_whoever_reads_that_part_of_it(tmp_path: Path) -> None:
    with trio.fail_after(60):
        async with a_round(tmp_path) as it:
            claim = await it.publish(await it.slices.model(it.view, it.accepted))
            good = it.updates[2].encode()
            where = layout({"version": 1, "length": LENGTH}, {"exponents": blocks_of(LENGTH), "values": LENGTH})
            # An integer that is out of range, in the third slice; a field; a byte more.
            values = where.places["values"].start + 2 * CHUNK_PARAMETERS + 7
            for bad, found_in in (
                (good[:values] + b"\x80" + good[values + 1 :], [2]),
                (changed(good, 3), [0]),
                (good + b"\0", [0, 1, 2, 3, 4]),
            ):
                root = it.it.node.blobs.put(bad)
                slots = (*it.view.slots[:2], replace(it.view.slots[2], update_root=root), *it.view.slots[3:])
                view = replace(it.view, slots=slots)
                for index in range(5):
                    if index in found_in:
                        with pytest.RaisesGroup(pytest.RaisesExc(MalformedUpdate)) as caught:
                            await it.slices.check(view, claim, range(index, index + 1))
                        assert [
                            error.root for error in caught.value.exceptions if isinstance(error, MalformedUpdate)
                        ] == [root]
                    else:
                        await it.slices.check(view, claim, range(index, index + 1))


async def test_what_is_not_served_is_no_verdict(tmp_path: Path) -> None:
    async with a_round(tmp_path) as it:
        claim = AggregateView(it.accepted, b"\1" * 32, b"\2" * 32)
        with pytest.raises(NodeError):
            await it.slices.check(it.view, claim, range(1))
        slots = (replace(it.view.slots[0], update_root=b"\3" * 32), *it.view.slots[1:])
        with pytest.RaisesGroup(pytest.RaisesExc(BlobMissing)):
            await it.slices.check(replace(it.view, slots=slots), claim, range(1))


async def test_a_slice_takes_the_chunks_that_it_is_in_and_no_others(tmp_path: Path) -> None:
    with trio.fail_after(60):
        async with a_round(tmp_path, length=40 * CHUNK_PARAMETERS, slots=2, number=0) as it:
            claim = await it.publish(await it.slices.model(it.view, it.accepted))
            it.asked.clear()
            assert await it.slices.check(it.view, claim, range(39, 40)) == {39: True}
            # Of each update the exponents at the beginning and the last values; of the rest a chunk of each array.
            updates = [slot.update_root for slot in it.view.slots]
            asked = {(root, range(first, first + count)) for root, first, count in it.asked}
            of_updates = [chunks for root, chunks in asked if root in updates]
            assert all(set(chunks) <= {0, 9, 10} for chunks in of_updates)
            assert sum(map(len, of_updates)) <= 6
            assert (claim.params_root, range(39, 40)) in asked
            assert sum(count for _, _, count in it.asked) <= 6 + 1 + 2 * 2 + 1 + 1


async def test_a_part_that_is_read_is_proven(tmp_path: Path) -> None:
    async with a_round(tmp_path) as it:
        data = np.random.default_rng(1).integers(0, 256, 3 * CHUNK_BYTES, np.uint8).tobytes()
        root = it.it.node.blobs.put(data)
        spans = [(0, 10), (CHUNK_BYTES - 3, CHUNK_BYTES + 3), (0, 0), (len(data) - 1, len(data))]
        found = await ranges.read(it.slices._node, root, len(data), spans)
        assert found == [data[begin:end] for begin, end in spans]
        with pytest.raises(RangeError, match="expected a blob of"):
            await ranges.read(it.slices._node, root, len(data) + 1, spans)
        # A node that has other bytes under this root.
        it.it.node.peer_blobs[root] = changed(data, 5)
        it.it.node.blobs._forget(root)
        with pytest.raises(NodeError, match="chunk 0 is not proven"):
            await ranges.read(it.slices._node, root, len(data), spans)
