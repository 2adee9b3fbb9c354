"""A task in the words of who wants a model trained: a loss, parameters and data; and what is made of it for the chain.

Rule: the user's Python runs here, on the user's machine, and nowhere else; what leaves are blobs.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chain.primitives.blob import blob_root
from chain.primitives.durable import replace_file
from chain.primitives.hashing import Hash
from trainer import artifact, choices, dataset, export, optimizers
from trainer.arrays import Float32s
from trainer.artifact import BATCH_MAX, DTYPES, PROGRAM_BYTES_MAX, Program, Rows
from trainer.batches import ROWS_MAX
from trainer.choices import ChoiceError
from trainer.dataset import ARRAY_BYTES_MAX, NO_ROWS, Fetch, Manifest, Split
from trainer.export import Costs, Evaluation, ExportError, Loss

Array = npt.NDArray[Any]
# A number, or the name of a choice.
Term = str | int | float

# Evaluation takes the largest batches that divide the held-out rows, up to this many.
EVALUATE_BATCH_MAX = 1_024
# Below that, evaluating is mostly starting to.
EVALUATE_BATCH_MIN = 16
TASK_FILE = "task.json"


@dataclass(frozen=True)
class Task:
    """What is to be trained.

    `loss(params, x, y)` is the mean loss of a batch, `evaluation(params, x, y)` the sum of losses and the number of
    right answers; `params` is any tree of float32 arrays. Data are pairs (inputs, targets) of arrays with a row for
    each sample, of float32, int32 or uint8; `samples` makes them of an iterator. Of a federated task, whose data stay
    with silos, `train` is None. `terms` are those of `chain.terms`
    that it is to be trained by where nothing else is said, such as dict(rounds=60, learning_rate=0.1). `precision` is
    what matrix products and convolutions are of: float32, or tf32 or bf16, which accelerators multiply faster.
    """

    name: str
    loss: Loss
    evaluation: Evaluation
    params: Any
    train: tuple[Any, Any] | None
    held_out: tuple[Any, Any]
    batch: int
    evaluate_batch: int | None = None
    terms: Mapping[str, Term] = field(default_factory=dict)
    precision: str = "float32"


@dataclass(frozen=True, slots=True)
class Built:
    """A task as the chain and its workers take it: every blob by its root, and what one batch costs at most."""

    name: str
    program: Program
    theta: Float32s
    manifest: Manifest
    program_root: Hash
    dataset_root: Hash
    params_root: Hash
    blobs: dict[Hash, bytes]
    terms: Mapping[str, Term]
    costs: Costs


def samples(pairs: Iterable[tuple[Any, Any]], count: int) -> tuple[Array, Array]:
    """The first `count` samples (input, target) of an iterator, as the arrays that a task takes."""
    taken = list(islice(pairs, count))
    if len(taken) < count:
        raise ExportError(f"expected {count:,} samples, the iterator ended after {len(taken):,}")
    inputs, targets = zip(*taken, strict=True)
    return np.stack([np.asarray(row) for row in inputs]), np.stack([np.asarray(row) for row in targets])


def build(task: Task) -> Built:
    """Export a task; ExportError says what of it cannot be, where, and what to do."""
    held_out_x, held_out_y = _pair(task.held_out, "held_out")
    train = None if task.train is None else _pair(task.train, "train")
    rows = BATCH_MAX if train is None else len(train[0])
    for which, part, held_out in zip(("inputs", "targets"), train or (), (held_out_x, held_out_y), strict=False):
        if (part.shape[1:], part.dtype) != (held_out.shape[1:], held_out.dtype):
            raise ExportError(
                f"{which}: expected rows of one kind, got {part.dtype}{list(part.shape[1:])} to train and "
                f"{held_out.dtype}{list(held_out.shape[1:])} held out"
            )
    if not 0 < task.batch <= rows:
        raise ExportError(f"batch: expected 1 to {rows:,} (all rows to train on), got {task.batch:,}")
    program, theta, costs = export.build(
        task.loss,
        task.evaluation,
        task.params,
        inputs=Rows(held_out_x.shape[1:], str(held_out_x.dtype)),
        targets=Rows(held_out_y.shape[1:], str(held_out_y.dtype)),
        batch=task.batch,
        evaluate_batch=_evaluate_batch(task.evaluate_batch, len(held_out_x)),
        precision=task.precision,
    )
    blobs: dict[Hash, bytes] = {}

    def put(data: bytes) -> Hash:
        root = blob_root(data)
        blobs[root] = data
        return root

    def split(x: Array, y: Array) -> Split:
        return Split(put(x.tobytes()), put(y.tobytes()), len(x))

    manifest = Manifest(NO_ROWS if train is None else split(*train), split(held_out_x, held_out_y))
    encoded = artifact.encode(program)
    if len(encoded) > PROGRAM_BYTES_MAX:
        raise ExportError(f"the program has {len(encoded):,} bytes, at most {PROGRAM_BYTES_MAX:,} may be shipped")
    # What workers read must be what was written, also where a limit of the format is in the way.
    artifact.parse(encoded)
    return Built(
        name=task.name,
        program=program,
        theta=theta,
        manifest=manifest,
        program_root=put(encoded),
        dataset_root=put(dataset.encode(manifest)),
        params_root=put(optimizers.encode_params(theta)),
        blobs=blobs,
        terms=task.terms,
        costs=costs,
    )


def read(path: Path) -> Task:
    """The task of a user's file: what it calls `task`, a Task or a function that makes one. The file is run."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ExportError(f"{path}: expected a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
        found = getattr(module, "task", None)
        if callable(found):
            found = found()
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        line = next((frame.lineno for frame in reversed(frames) if Path(frame.filename) == path.resolve()), None)
        raise ExportError(f"{path}{f':{line}' if line else ''}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    if not isinstance(found, Task):
        raise ExportError(f"{path}: expected `task = trainer.task.Task(…)`, or a function `task` that returns one")
    return found


def save(built: Built, folder: Path) -> None:
    """Write a task's blobs under their roots, and its roots as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    for root, data in built.blobs.items():
        replace_file(folder / root.hex(), data)
    summary = {
        "name": built.name,
        "programRoot": "0x" + built.program_root.hex(),
        "datasetRoot": "0x" + built.dataset_root.hex(),
        "paramsRoot": "0x" + built.params_root.hex(),
        "terms": dict(built.terms),
        "blobs": sorted(root.hex() for root in built.blobs),
    }
    replace_file(folder / TASK_FILE, (json.dumps(summary, indent=2) + "\n").encode())


@dataclass(frozen=True, slots=True)
class Saved:
    """A task as it lies in a folder: its roots, and every blob, each checked against its root."""

    name: str
    program_root: Hash
    dataset_root: Hash
    params_root: Hash
    blobs: dict[Hash, bytes]
    terms: Mapping[str, Term]


def load(folder: Path) -> Saved:
    """A task that `save` wrote; ExportError where a file is missing or was changed."""
    try:
        summary = json.loads((folder / TASK_FILE).read_text())
        blobs = {bytes.fromhex(name): (folder / name).read_bytes() for name in summary["blobs"]}
        roots = {key: bytes.fromhex(summary[key][2:]) for key in ("programRoot", "datasetRoot", "paramsRoot")}
        name, terms = str(summary["name"]), dict(summary["terms"])
    except OSError as error:
        raise ExportError(
            f"{folder}: expected a folder that `potchain task export` wrote; {error.filename}: {error.strerror}"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{folder}: expected a folder that `potchain task export` wrote: {error!r}") from None
    for root, data in blobs.items():
        if blob_root(data) != root:
            raise ExportError(f"{folder / root.hex()}: its bytes are not what its name says; export the task again")
    missing = sorted(key for key, root in roots.items() if root not in blobs)
    if missing:
        raise ExportError(f"{folder}: the blob of {missing[0]} is not there; export the task again")
    return Saved(name, roots["programRoot"], roots["datasetRoot"], roots["paramsRoot"], blobs, terms)


def fetch_from(made: Built | Saved) -> Fetch:
    """What hands out a task's blobs by their roots; ExportError for one that is not there, or larger than expected."""

    async def fetch(root: Hash, bytes_max: int) -> bytes:
        data = made.blobs.get(root)
        if data is None:
            raise ExportError(f"the blob 0x{root.hex()} is not in the folder; export the task again")
        if len(data) > bytes_max:
            raise ExportError(f"the blob 0x{root.hex()} has {len(data):,} bytes, expected at most {bytes_max:,}")
        return data

    return fetch


def check_fit(made: Built | Saved, slots: int, batches: int, *, federated: bool) -> None:
    """ExportError unless so many batches fit into each of so many slots; workers refuse the task otherwise.

    The rows of a federated task are its silos' affair, and none are shipped.
    """
    program = artifact.parse(made.blobs[made.program_root])
    rows = dataset.parse(made.blobs[made.dataset_root]).train.count
    if federated != (rows == 0):
        raise ExportError(
            f"{made.name}: there are {rows:,} rows to train on, which would be public, and contributions are scored: "
            "expected a task whose `train` is None"
            if federated
            else f"{made.name}: there are no rows to train on: expected `train`, or contributions that are scored"
        )
    try:
        if federated:
            choices.check_request(program, batches)
        else:
            choices.check_fit(program, rows, slots, batches)
    except ChoiceError as error:
        raise ExportError(str(error)) from None


def _pair(pair: Any, what: str) -> tuple[Array, Array]:
    """A split's arrays, as JAX would take them: 64 bits become 32 where nothing is lost."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise ExportError(f"{what}: expected (inputs, targets), got {type(pair).__name__}")
    inputs, targets = (_array(part, f"{what}[{place}]") for place, part in enumerate(pair))
    if len(inputs) != len(targets):
        raise ExportError(f"{what}: expected as many targets as inputs, got {len(targets):,} for {len(inputs):,}")
    return inputs, targets


def _array(value: Any, what: str) -> Array:
    array = np.asarray(value)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    elif array.dtype == np.int64 and array.size and array.min() >= -(2**31) and array.max() < 2**31:
        array = array.astype(np.int32)
    if str(array.dtype) not in DTYPES:
        raise ExportError(f"{what}: expected an array of {', '.join(DTYPES)}, got {array.dtype}; convert it")
    if array.ndim == 0 or not 0 < len(array) <= ROWS_MAX or array.nbytes > ARRAY_BYTES_MAX:
        raise ExportError(
            f"{what}: expected 1 to {ROWS_MAX:,} rows in at most {ARRAY_BYTES_MAX:,} bytes, got an array of shape "
            f"{array.shape}"
        )
    if array.dtype == np.float32 and not np.isfinite(array).all():
        raise ExportError(f"{what}: expected finite numbers, got NaN or infinity")
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))


def _evaluate_batch(asked: int | None, rows: int) -> int:
    """Rows that are evaluated at once: what was asked for, or the largest divisor of the held-out rows."""
    if asked is not None:
        if asked < 1 or rows % asked:
            raise ExportError(f"evaluate_batch: expected a divisor of the {rows:,} held-out rows, got {asked:,}")
        return asked
    best = max(size for size in range(1, min(rows, EVALUATE_BATCH_MAX) + 1) if rows % size == 0)
    if best < min(rows, EVALUATE_BATCH_MIN):
        raise ExportError(
            f"held_out: {rows:,} rows are no multiple of a useful batch; hold out {rows - rows % EVALUATE_BATCH_MIN:,}"
        )
    return best
