"""Compiled programs and the requests that use them: load, gradient, local_steps, evaluate; on one device each.

Rule: this runs in the engine alone. A program is compiled only after its parsed form was admitted, and only with the
shapes that its artifact states. Devices share nothing but the process: what one computes depends on no other.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from jax import export
from jax.interpreters import mlir
from jaxlib.mlir import ir

from trainer import admission, artifact, choices, wire
from trainer.admission import Cost
from trainer.arrays import Float32s
from trainer.artifact import ArtifactError, Program, Rows
from trainer.local import contribution
from trainer.operations import Refused

MESSAGE_CHARACTERS_MAX = 1_000
LIMITS = admission.Limits()
# What all local steps of a slot may cost, in the limits of one run: hours of a core, as the longest phase is, and less
# than a minute of an accelerator, which other tasks wait for.
SLOT_COST_MAX = 64

Compiled = Callable[..., Any]
# The shape and element type of each argument or result.
Shapes = list[tuple[tuple[int, ...], str]]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A compiled program."""

    program: Program
    gradient: Compiled
    evaluate: Compiled
    gradient_cost: Cost
    evaluate_cost: Cost


def find_devices(platform: str, cache_dir: str, count: int) -> list[jax.Device]:
    """The first `count` devices of this platform, 0 for all; Refused where there are fewer, or JAX finds none.

    A CPU is as many devices as were asked for, each of which computes in a thread of its own.
    """
    options = {
        "jax_platforms": platform,
        "jax_compilation_cache_dir": cache_dir,
        # The digits program compiles in half a second, which is most of a restart.
        "jax_persistent_cache_min_compile_time_secs": 0.1,
        "jax_num_cpu_devices": max(1, count),
    }
    for name, value in options.items():
        jax.config.update(name, value)  # type: ignore[no-untyped-call]
    try:
        found: list[jax.Device] = jax.local_devices(backend=platform)
    except (RuntimeError, AssertionError) as error:
        raise Refused(
            f"JAX finds no {platform} device here ({str(error)[:200] or 'no driver or plugin'}): install "
            f"potchain[{platform}] where there is one, or choose another with --platform"
        ) from None
    if len(found) < count:
        raise Refused(f"expected {count} {platform} devices, found {len(found)}: give that or less with --devices")
    return found[: count or len(found)]


class Runner:
    """Answers the requests for one device; keeps the programs used last."""

    def __init__(self, platform: str, device: jax.Device) -> None:
        self._platform = platform
        self._device = device
        self._programs: OrderedDict[bytes, Loaded] = OrderedDict()

    def answer(self, request: dict[str, Any]) -> dict[str, object]:
        """One answer: what is wrong with a program is said; anything else that goes wrong ends the process."""
        key: bytes = request["key"]
        try:
            if request["op"] == "load":
                self._load(key, request["program"])
                return {"ok": True}
            if key not in self._programs:
                return {"ok": False, "message": "the program is not loaded"}
            self._programs.move_to_end(key)
            run = {"gradient": _gradient, "local_steps": _local_steps, "evaluate": _evaluate}[request["op"]]
            return run(self._programs[key], request)
        except (Refused, ArtifactError) as error:
            return {"ok": False, "message": str(error)[:MESSAGE_CHARACTERS_MAX]}

    def _load(self, key: bytes, blob: bytes) -> None:
        if key not in self._programs:
            program = artifact.parse(blob)
            parameters = (program.parameters,)
            gradient, gradient_cost = _compiled(
                self._platform,
                self._device,
                program.gradient,
                program,
                program.batch,
                [((), "float32"), (parameters, "float32")],
            )
            evaluate, evaluate_cost = _compiled(
                self._platform,
                self._device,
                program.evaluate,
                program,
                program.evaluate_batch,
                [((), "float32"), ((), "int32")],
            )
            self._programs[key] = Loaded(program, gradient, evaluate, gradient_cost, evaluate_cost)
            while len(self._programs) > wire.PROGRAMS_MAX:
                self._programs.popitem(last=False)
        self._programs.move_to_end(key)


def _gradient(loaded: Loaded, request: dict[str, Any]) -> dict[str, object]:
    program = loaded.program
    xs, ys = _batches(request, program, program.batch)
    loss, gradient = loaded.gradient(_vector(request["theta"], program), xs, ys)
    return {"ok": True, "loss": float(loss), "gradient": np.asarray(gradient, dtype="<f4").tobytes()}


def _local_steps(loaded: Loaded, request: dict[str, Any]) -> dict[str, object]:
    program, steps = loaded.program, choices.local_steps_of(request["steps"])
    assert steps is not None
    cost = loaded.gradient_cost.times(steps.count)
    flops_max, traffic_bytes_max = SLOT_COST_MAX * LIMITS.flops, SLOT_COST_MAX * LIMITS.traffic_bytes
    if cost.flops > flops_max or cost.traffic_bytes > traffic_bytes_max:
        raise Refused(
            f"{steps.count:,} local steps cost {cost.flops:.1e} flops and {cost.traffic_bytes:.1e} bytes of traffic; "
            f"at most {flops_max:.1e} and {traffic_bytes_max:.1e} allowed: take fewer local steps or smaller batches"
        )
    xs, ys = _batches(request, program, program.batch * steps.count)

    def gradient(theta: Float32s, index: int) -> Float32s:
        rows = slice(index * program.batch, (index + 1) * program.batch)
        return np.asarray(loaded.gradient(theta, xs[rows], ys[rows])[1], np.float32)

    # What diverges overflows, and saturates: a warning for each step would fill the log.
    with np.errstate(over="ignore", invalid="ignore"):
        said = contribution(steps, _vector(request["theta"], program), gradient, request["round"])
    return {"ok": True, "contribution": said.astype("<f4").tobytes()}


def _evaluate(loaded: Loaded, request: dict[str, Any]) -> dict[str, object]:
    program = loaded.program
    vector, batch = _vector(request["theta"], program), program.evaluate_batch
    count = len(request["x"]) // program.inputs.row_bytes
    # The program states what a batch costs, the data set how many there are: together they keep the same limit.
    cost = loaded.evaluate_cost.times(-(-count // batch))
    if cost.flops > LIMITS.flops or cost.traffic_bytes > LIMITS.traffic_bytes:
        raise Refused(
            f"evaluating {count:,} rows costs {cost.flops:.1e} flops and {cost.traffic_bytes:.1e} bytes of traffic; "
            f"at most {LIMITS.flops:.1e} and {LIMITS.traffic_bytes:.1e} allowed: hold fewer rows out"
        )
    xs, ys = _batches(request, program, count)
    total, right = 0.0, 0
    for first in range(0, count, batch):
        loss_sum, correct = loaded.evaluate(vector, xs[first : first + batch], ys[first : first + batch])
        total += float(loss_sum)
        right += int(correct)
    return {"ok": True, "loss_sum": total, "correct": right}


def _compiled(
    platform: str, device: jax.Device, data: bytes, program: Program, batch: int, outputs: Shapes
) -> tuple[Compiled, Cost]:
    """The executable on a device of an exported function, admitted and with exactly these shapes, and its cost.

    Refused otherwise.
    """
    inputs = [
        ((program.parameters,), "float32"),
        ((batch, *program.inputs.shape), program.inputs.dtype),
        ((batch, *program.targets.shape), program.targets.dtype),
    ]
    try:
        exported = export.deserialize(bytearray(data))
        found = _shapes(exported.in_avals), _shapes(exported.out_avals)
        text = exported.mlir_module()
    except Exception as error:  # Whatever the deserialiser raises about a stranger's bytes, the bytes are at fault.
        raise Refused(f"not an exported program: {type(error).__name__}: {str(error)[:200]}") from None
    if found != (inputs, outputs):
        raise Refused(f"expected a function of {inputs} to {outputs}, got {found[0]} to {found[1]}")
    if exported.nr_devices != 1 or exported.ordered_effects or exported.unordered_effects:
        raise Refused("expected a pure function on one device")
    if platform not in exported.platforms:
        raise Refused(f"exported for {', '.join(exported.platforms)}, not for {platform}")
    try:
        with mlir.make_ir_context():
            cost = admission.inspect(ir.Module.parse(text), LIMITS)
        here = jax.sharding.SingleDeviceSharding(device)
        arguments = [
            jax.ShapeDtypeStruct(shape, dtype, sharding=here)  # type: ignore[no-untyped-call]
            for shape, dtype in inputs
        ]
        return jax.jit(exported.call).lower(*arguments).compile(), cost
    except Refused:
        raise
    except Exception as error:
        raise Refused(f"does not compile: {type(error).__name__}: {str(error)[:200]}") from None


def _shapes(avals: Any) -> Shapes:
    # A symbolic dimension is no integer, and so no shape of ours equals it.
    return [(tuple(aval.shape), str(aval.dtype)) for aval in avals]


def _vector(data: bytes, program: Program) -> Float32s:
    return np.frombuffer(data, dtype="<f4").astype(np.float32).reshape(program.parameters)


def _batches(request: dict[str, Any], program: Program, count: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    return _rows(request["x"], program.inputs, count), _rows(request["y"], program.targets, count)


def _rows(data: bytes, rows: Rows, count: int) -> npt.NDArray[Any]:
    return np.frombuffer(data, dtype=np.dtype(rows.dtype).newbyteorder("<")).reshape((count, *rows.shape))
