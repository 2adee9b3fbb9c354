"""A trained model as a file: named float32 tensors in the safetensors format.

Rule: no JAX and no task code is needed to get a model out; the program's layout says what the numbers are.
"""

from __future__ import annotations

import os
from pathlib import Path

from safetensors.numpy import save

from trainer import artifact, optimizers
from trainer.arrays import Float32s


def tensors(program: artifact.Program, theta: Float32s) -> dict[str, Float32s]:
    """The named tensors of a flat vector f32[P]."""
    return {t.name: theta[t.offset : t.offset + t.elements].reshape(t.shape) for t in program.layout}


def write_safetensors(path: Path, program: bytes, params: bytes) -> int:
    """Write the model of a program's blob and a parameter blob, whole or not at all; how many tensors it has."""
    parsed = artifact.parse(program)
    theta = optimizers.decode_params(params, parsed.parameters)
    data = save({name: tensor.copy() for name, tensor in tensors(parsed, theta).items()}, {"format": "np"})
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return len(parsed.layout)
