"""The program artifact: a task's two functions as exported StableHLO, and the shapes that they are called with.

Rule: a program is data. This file checks its frame and its numbers without JAX; what the exported bytes say is looked
at only inside the engine's sandbox.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.arrays import PARAMETERS_MAX
from trainer.packing import PackingError, fields, integer, pack, unpack

VERSION = 1
# Exported programs measure 7 to 90 kB; 8 MiB leaves room for large constant tables.
PROGRAM_BYTES_MAX = 8 << 20
# One batch is computed as a whole, so it has to fit a machine's memory.
BATCH_MAX = 1 << 20
RANK_MAX = 8
ROW_ELEMENTS_MAX = 1 << 24
NAME_BYTES_MAX = 256
TENSORS_MAX = 16_384
DTYPES = ("float32", "int32", "uint8")


class ArtifactError(ValueError):
    """A program artifact is malformed."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What one row of a batch looks like: its shape (without the batch) and its element type."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def elements(self) -> int:
        """Elements in a row."""
        return math.prod(self.shape)

    @property
    def row_bytes(self) -> int:
        """Bytes in a row."""
        return self.elements * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named tensor within the flat parameter vector; `offset` counts float32 elements."""

    name: str
    shape: tuple[int, ...]
    offset: int

    @property
    def elements(self) -> int:
        """Elements in the tensor."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Program:
    """gradient(theta f32[P], x, y) -> (loss, grad f32[P]); evaluate(theta, x, y) -> (loss_sum f32, correct i32)."""

    gradient: bytes
    evaluate: bytes
    parameters: int
    batch: int
    evaluate_batch: int
    inputs: Rows
    targets: Rows
    layout: tuple[Tensor, ...]


_SHAPE: dict[str, type] = {
    "version": int,
    "gradient": bytes,
    "evaluate": bytes,
    "parameters": int,
    "batch": int,
    "evaluate_batch": int,
    "inputs": dict,
    "targets": dict,
    "layout": list,
}


def encode(program: Program) -> bytes:
    """The program's blob."""
    return pack(
        {
            "version": VERSION,
            "gradient": program.gradient,
            "evaluate": program.evaluate,
            "parameters": program.parameters,
            "batch": program.batch,
            "evaluate_batch": program.evaluate_batch,
            "inputs": {"shape": list(program.inputs.shape), "dtype": program.inputs.dtype},
            "targets": {"shape": list(program.targets.shape), "dtype": program.targets.dtype},
            "layout": [[tensor.name, list(tensor.shape), tensor.offset] for tensor in program.layout],
        }
    )


def parse(data: bytes) -> Program:
    """The program in a blob; ArtifactError says which field is not as expected."""
    try:
        value = fields(unpack(data, bytes_max=PROGRAM_BYTES_MAX), _SHAPE, "program")
        integer(value["version"], VERSION, VERSION, "program.version")
        parameters = integer(value["parameters"], 1, PARAMETERS_MAX, "program.parameters")
        return Program(
            gradient=value["gradient"],
            evaluate=value["evaluate"],
            parameters=parameters,
            batch=integer(value["batch"], 1, BATCH_MAX, "program.batch"),
            evaluate_batch=integer(value["evaluate_batch"], 1, BATCH_MAX, "program.evaluate_batch"),
            inputs=_rows(value["inputs"], "program.inputs"),
            targets=_rows(value["targets"], "program.targets"),
            layout=_layout(value["layout"], parameters),
        )
    except PackingError as error:
        raise ArtifactError(str(error)) from None


def _rows(value: Any, what: str) -> Rows:
    parsed = fields(value, {"shape": list, "dtype": str}, what)
    if parsed["dtype"] not in DTYPES:
        raise PackingError(f"{what}.dtype: expected one of {', '.join(DTYPES)}, got {parsed['dtype'][:40]!r}")
    return Rows(_shape(parsed["shape"], ROW_ELEMENTS_MAX, f"{what}.shape"), parsed["dtype"])


def _shape(value: list[Any], elements_max: int, what: str) -> tuple[int, ...]:
    if len(value) > RANK_MAX:
        raise PackingError(f"{what}: expected at most {RANK_MAX} dimensions, got {len(value)}")
    shape = tuple(integer(size, 1, elements_max, f"{what}[{axis}]") for axis, size in enumerate(value))
    integer(math.prod(shape), 1, elements_max, f"{what} (elements)")
    return shape


def _layout(value: list[Any], parameters: int) -> tuple[Tensor, ...]:
    """Tensors in order, without gap or overlap, covering all parameters."""
    if len(value) > TENSORS_MAX:
        raise PackingError(f"program.layout: expected at most {TENSORS_MAX} tensors, got {len(value)}")
    tensors: list[Tensor] = []
    offset = 0
    for index, entry in enumerate(value):
        what = f"program.layout[{index}]"
        if type(entry) is not list or len(entry) != 3 or type(entry[0]) is not str or type(entry[1]) is not list:
            raise PackingError(f"{what}: expected [name, shape, offset]")
        name = entry[0]
        if not name.isprintable() or not 0 < len(name.encode()) <= NAME_BYTES_MAX:
            raise PackingError(f"{what}: expected a printable name of 1 to {NAME_BYTES_MAX} bytes")
        integer(entry[2], offset, offset, f"{what}.offset")
        tensor = Tensor(name, _shape(entry[1], parameters, f"{what}.shape"), offset)
        tensors.append(tensor)
        offset += tensor.elements
    integer(offset, parameters, parameters, "program.layout (elements)")
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise PackingError("program.layout: expected each name once")
    return tuple(tensors)
