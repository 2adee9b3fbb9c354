"""A silo: a worker that trains federated tasks on data of its own, which stay on its machine.

Rule: rows are read from the silo's file and given to its engine, which has no network. What leaves are updates, and how
many rows there are.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import trio

from chain.primitives import ss58
from chain.primitives.keys import Keypair
from chain.wallet.known import ANY_CHAIN, Known
from trainer import dataset
from trainer.artifact import Program
from trainer.artifact import Rows as RowShape
from trainer.batches import ROWS_MAX
from trainer.dataset import ARRAY_BYTES_MAX, Dataset, DatasetError
from trainer.devices import named
from trainer.files import BlobFiles, Files, MemoryFiles, PendingFiles
from trainer.follow import Heights, Report, Servant, follow
from trainer.job import Job
from trainer.measured import MeasuredNode
from trainer.metrics import Meter
from trainer.node import Node, NodeError, open_node
from trainer.sandbox import Engine, Engines, open_engines
from trainer.status import tell
from trainer.views import RoundView, TaskView
from trainer.worker import TaskWorker, register_worker

# Called when a silo takes part in a task: from then on it may be drawn, for that task and no other.
TakesPart = Callable[[], None]


async def run_silo(
    urls: Sequence[str],
    keypair: Keypair,
    cache_dir: Path,
    *,
    data: Mapping[int, Path],
    report: Report,
    known: Known = ANY_CHAIN,
    platform: str = "cpu",
    devices: int | None = 1,
    meter: Meter | None = None,
) -> None:
    """Contribute to federated tasks of the chain behind `urls` until cancelled, to each what is learned of its file."""
    async with open_engines(cache_dir, platform, warn=report, devices=devices, meter=meter) as engines:
        report(f"computes on {named(await engines.require_devices())}")
        async with open_node(urls, keypair, known) as node:
            await contribute(MeasuredNode(node, engines.meter), engines, cache_dir, data, report=report)


async def contribute(
    node: Node, engines: Engines, cache_dir: Path, data: Mapping[int, Path], *, report: Report
) -> None:
    """A silo's life on a chain, with a seat for each of its tasks."""
    files = Files.open(cache_dir)
    takes_part, registration, left = trio.Event(), trio.CancelScope(), set(data)

    def serve(task: TaskView) -> Servant:
        if task.scored is None:
            raise DatasetError(f"its data are public: leave --data {task.id}=… out to train it as any worker")
        job = SiloJob(task, node, files.blobs, files.memories, data[task.id])
        return TaskSilo(task, node, engines.of(task.id), job, files.pending, report, takes_part.set)

    async def register(heights: Heights) -> None:
        # Who is registered before is drawn for other tasks, whose rounds would wait for it in vain.
        await takes_part.wait()
        with registration:
            await register_worker(node, len(data), heights, report)

    async def always(heights: Heights) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(register, heights)
            nursery.start_soon(tell, node, heights, engines.meter, engines.devices, report)

    async def release(task: int) -> None:
        await engines.release(task)
        left.discard(task)
        if not left:
            registration.cancel()
            await _retire(node, report)

    await follow(node, serve, report, release=release, forget=files.forget, always=always, only=data)


class SiloJob(Job):
    """A task's data in a silo: what is trained on is its own file."""

    def __init__(self, task: TaskView, node: Node, files: BlobFiles, memories: MemoryFiles, path: Path) -> None:
        super().__init__(task, node, files, memories)
        self._path = path
        self._own: Dataset | None = None

    async def samples(self) -> int:
        """How many rows the file has."""
        return (await self._data(await self.program())).train_count

    async def _data(self, program: Program) -> Dataset:
        if self._own is None:
            x, y = await trio.to_thread.run_sync(read, self._path, program)
            self._own = replace(await super()._data(program), train_x=x, train_y=y, train_count=len(x))
        return self._own


class TaskSilo(TaskWorker):
    """A silo's part in one task."""

    PAUSED_BY = "a slot that was missed, or that was found harmful"

    def __init__(
        self,
        task: TaskView,
        node: Node,
        engine: Engine,
        job: SiloJob,
        pending: PendingFiles,
        report: Report,
        takes_part: TakesPart,
    ) -> None:
        super().__init__(task, node, engine, job, pending, report)
        self._samples = job.samples
        self._takes_part = takes_part
        self._said = ""

    async def step(self, view: RoundView, height: int) -> None:
        """Between its slots, see that it is admitted and that its samples are declared; else as every worker."""
        if view.assigned(self.node.account) or await self._declare():
            await super().step(view, height)

    async def _declare(self) -> bool:
        """Whether this silo takes part, with as many samples as it has and may have."""
        samples, found = await self._samples(), await self.node.silo(self.task.id)
        if found is None:
            address = ss58.encode(self.node.account)
            command = f"potchain task admit {self.task.id} {address} --samples {samples}"
            self._say(f"waits to be admitted; the task's owner does it by: {command}")
            return False
        most, declared = found
        wanted = min(samples, most)
        if declared != wanted:
            error = await self.node.transact("training.declare_samples", task=self.task.id, samples=wanted)
            if error is not None:
                self._say(f"its samples are not declared: {error}")
                return False
        beyond = f" of {samples:,}: its owner admits no more" if wanted < samples else ""
        self._say(f"takes part with {wanted:,} samples{beyond}")
        self._takes_part()
        return True

    def _say(self, line: str) -> None:
        """Report what is the case, once."""
        if line != self._said:
            self._said = line
            self.report(f"task {self.task.id}: {line}")

    async def _reveal(self, view: RoundView, slot: int) -> str | None:
        # What a silo reveals may yet be rejected, which pauses it, too: odd data shall cost it less and less often.
        patience = self._patience
        error = await super()._reveal(view, slot)
        self._patience = patience
        return error


def read(path: Path, program: Program) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """The rows `x` and `y` of a silo's .npz file, u8[count, row bytes]; DatasetError says what is not as it must be."""
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            arrays = dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else {}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path}: expected a file of numpy.savez(FILE, x=…, y=…): {error}") from None
    if not {"x", "y"} <= set(arrays):
        named = ", ".join(arrays) or "none that have names"
        raise DatasetError(f"{path}: expected a file of numpy.savez(FILE, x=…, y=…), got the arrays {named}")
    x, y = arrays["x"], arrays["y"]
    for name, array, shape in (("x", x, program.inputs), ("y", y, program.targets)):
        if array.ndim == 0 or array.shape[1:] != shape.shape:
            raise DatasetError(
                f"{path}: {name}: expected rows of shape {list(shape.shape)}, as the task's program takes them, got an "
                f"array of shape {list(array.shape)}"
            )
    if len(x) != len(y) or not 1 <= len(x) <= ROWS_MAX or max(x.nbytes, y.nbytes) > ARRAY_BYTES_MAX:
        raise DatasetError(
            f"{path}: expected as many rows in x as in y, 1 to {ROWS_MAX:,} in at most {ARRAY_BYTES_MAX:,} bytes, got "
            f"{len(x):,} and {len(y):,}"
        )
    return _rows(x, program.inputs, f"{path}: x"), _rows(y, program.targets, f"{path}: y")


def _rows(array: npt.NDArray[np.generic], shape: RowShape, what: str) -> npt.NDArray[np.uint8]:
    """The rows of an array as the program takes them; no value changes by it, but that floats have 32 bits."""
    wanted = np.dtype(shape.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        made = array.astype(wanted) if array.dtype.kind in "fiub" else None
    if made is None or (made.dtype.kind != "f" and not np.array_equal(made, array)):
        raise DatasetError(f"{what}: expected {shape.dtype}, got {array.dtype} values that are none; convert them")
    if not np.isfinite(made).all():
        raise DatasetError(f"{what}: expected finite numbers of {shape.dtype}, got NaN or infinity")
    return dataset.rows_of(np.ascontiguousarray(made, wanted.newbyteorder("<")).tobytes(), shape)


async def _retire(node: Node, report: Report) -> None:
    """Be drawn for nothing, now that no task is left: this program serves no others."""
    try:
        if not await node.worker_capacity():
            return
        error = await node.transact("training.deregister_worker")
    except NodeError as failure:
        error = str(failure)
    said = "is drawn no more" if error is None else f"is still registered, and drawn for what it does not do: {error}"
    report(f"all its tasks are over: {said}; a second training.deregisterWorker, ten minutes later, frees the bond")
