"""Fuzz targets of the trainer: blobs that strangers make, and answers of nodes that strangers run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from random import Random
from typing import Any

import numpy as np

from chain.primitives import ss58
from tests.fuzz.samples import as_json, changed, dense_msgpack, natural, octets, pick
from tests.fuzz.target import Target
from trainer import artifact, dataset, optimizers, packing, views, wire
from trainer.artifact import ArtifactError, Program, Rows, Tensor
from trainer.choices import ChoiceError
from trainer.codecs import INT8, INT16, Codec
from trainer.codecs.blocks import CodecError
from trainer.codecs.topk import TopK
from trainer.dataset import DatasetError, Manifest, Split
from trainer.optimizers import Adam, OptimizerError, OptimizerState
from trainer.packing import PackingError
from trainer.wire import WireError

LENGTH = 600  # Parameters of the updates and optimiser states here: three blocks, the last one not full.
TOPK = TopK(50_000)
ADAM = Adam(20_000_000_000, 900_000_000_000, 999_000_000_000, 10_000)


def _packed_with(value: dict[str, Any], size: int) -> Iterator[bytes]:
    """Costly msgpack alone, and in the place of each field of a map."""
    yield from dense_msgpack(size)
    for place, name in enumerate(value):
        before = b"".join(packing.pack(key) + packing.pack(item) for key, item in list(value.items())[:place])
        for costly in dense_msgpack(size):
            yield bytes((0x80 | len(value),)) + before + packing.pack(name) + costly


def _maybe_changed(rng: Random, data: bytes) -> bytes:
    """The same map with a wrong value somewhere: what a parser of fields must refuse."""
    if rng.random() < 0.5:
        return data
    try:
        return packing.pack(changed(rng, packing.unpack(data)))
    except (OverflowError, ValueError, TypeError):  # Msgpack has no number that large, and no text like that.
        return data


def _some_program(rng: Random) -> bytes:
    shapes = [(rng.randint(1, 4), rng.randint(1, 5)), (rng.randint(1, 9),), ()]
    layout, offset = [], 0
    for number, shape in enumerate(shapes[: rng.randint(1, 3)]):
        layout.append(Tensor(f"w{number}", shape, offset))
        offset += layout[-1].elements
    program = Program(
        gradient=octets(rng),
        evaluate=octets(rng),
        parameters=offset,
        batch=rng.randint(1, 1 << 20),
        evaluate_batch=rng.randint(1, 64),
        inputs=Rows((rng.randint(1, 64),), pick(rng, artifact.DTYPES)),
        targets=Rows((), pick(rng, artifact.DTYPES)),
        layout=tuple(layout),
    )
    return _maybe_changed(rng, artifact.encode(program))


def _some_manifest(rng: Random) -> bytes:
    splits = [Split(rng.randbytes(32), rng.randbytes(32), 1 + natural(rng, 20)) for _ in range(2)]
    return _maybe_changed(rng, dataset.encode(Manifest(*splits)))


def _some_update(codec: Codec, rng: Random) -> bytes:
    numbers = np.random.default_rng(rng.getrandbits(64)).standard_normal(LENGTH) * 2.0 ** rng.randint(-120, 60)
    return _maybe_changed(rng, codec.quantise(numbers.astype(np.float32), 0).encode())


def _some_state(rng: Random) -> bytes:
    moments = np.random.default_rng(rng.getrandbits(64)).standard_normal((2, LENGTH)).astype(np.float32)
    state = OptimizerState(1 + natural(rng, 31), (moments[0], moments[1]))
    return _maybe_changed(rng, optimizers.encode_state(ADAM, state))


def _some_frame(rng: Random) -> bytes:
    kinds: tuple[dict[str, Any], ...] = (
        {"kind": "gradient", "theta": octets(rng), "x": b"", "y": b""},
        {"op": "local_steps", "theta": octets(rng), "steps": {"count": 8, "inner": _DESCENT}, "round": 3},
        {"loss": 1.5, "values": octets(rng)},
        {"error": "x"},
    )
    return _maybe_changed(rng, packing.pack(pick(rng, kinds)))


_ACCOUNT, _ROOT = ss58.encode(bytes(32)), "0x" + "11" * 32
_DESCENT = {
    "rule": {"adam": {"learningRate": 1, "beta1": 2, "beta2": 3, "epsilon": 4}},
    "schedule": {"warmupSteps": 5, "decay": {"cosine": {"steps": 6, "final": 7}}},
    "clip": {"norm": {"limit": 8}},
    "weightDecay": 9,
}
_TASK = {
    "id": 3,
    "programRoot": _ROOT,
    "datasetRoot": _ROOT,
    "seed": _ROOT,
    "rounds": 10,
    "storage": {"programBytes": 7_000, "datasetBytes": 120_000, "parameters": 20_000},
    "optimizer": _DESCENT,
    "policy": {
        "slots": 2,
        "toleranceMicroSteps": 510_000,
        "outliersPpm": 20,
        "evaluateRounds": 1,
        "auditBlocks": 10,
        "codec": {"topK": {"sharePpm": 1, "warmupRounds": 2}},
        "localSteps": {"count": 8, "inner": _DESCENT},
        "aggregation": {"centeredClip": {"radiusPpm": 1, "iterations": 2}},
        "verification": {"recompute": {}},
        "checks": {"whole": {}},
    },
}
_SLOT = {
    "worker": _ACCOUNT,
    "commitment": _ROOT,
    "updateRoot": None,
    "auditors": [_ACCOUNT],
    "challenged": False,
    "weight": 1,
    "planted": False,
}
_ROUND = {
    "round": 1,
    "attempt": 0,
    "phase": "audit",
    "openedAt": 7,
    "deadline": 20,
    "plantBeacon": _ROOT,
    "plantDeadline": None,
    "paramsRoot": _ROOT,
    "optimizerRoot": _ROOT,
    "slots": [_SLOT, _SLOT],
    "attestations": [{"validator": _ACCOUNT, "accepted": [0], "paramsRoot": _ROOT, "optimizerRoot": _ROOT}],
    "aggregates": [{"accepted": [0], "paramsRoot": _ROOT, "optimizerRoot": _ROOT}],
    "confirmations": [{"validator": _ACCOUNT, "paramsRoot": _ROOT, "optimizerRoot": _ROOT}],
    "ahead": None,
}
_ROUNDS = (_ROUND, {**_ROUND, "phase": "final"}, {**_ROUND, "ahead": {**_ROUND, "round": 2, "phase": "commit"}})


def _views(data: bytes) -> list[Any]:
    """What an answer says, as a task or as a round; nothing where it is neither."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise views.ViewError("no JSON: the client reads that") from None
    found: list[Any] = []
    for read in (views.task_of, views.round_of):
        try:
            found.append(read(value))
        except (views.ViewError, ChoiceError):
            continue
    if not found:
        raise views.ViewError("neither a task nor a round")
    return found


def _some_view(rng: Random) -> bytes:
    value: Any = pick(rng, (_TASK, *_ROUNDS))
    for _ in range(rng.randint(0, 2)):
        value = changed(rng, value)
    return as_json(value)


def _update_target(name: str, codec: Codec, **parts: bytes) -> Target:
    return Target(
        name,
        lambda data: codec.decode(data, LENGTH, 0),
        (CodecError,),
        partial(_some_update, codec),
        lambda update: update.encode(),
        lambda size: _packed_with({"version": 1, "length": LENGTH, **parts}, min(size, codec.bytes_max(LENGTH, 0))),
    )


_PROGRAM = {"version": 1, "gradient": b"", "evaluate": b"", "parameters": 1, "batch": 1}

TARGETS = (
    Target(
        "program",
        artifact.parse,
        (ArtifactError,),
        _some_program,
        artifact.encode,
        lambda size: _packed_with(_PROGRAM, min(size, 4000)),
    ),
    Target(
        "manifest",
        dataset.parse,
        (DatasetError,),
        _some_manifest,
        dataset.encode,
        lambda size: _packed_with({"version": 1, "train": {}}, min(size, 4000)),
    ),
    _update_target("update", INT8, exponents=b"", values=b""),
    _update_target("update-int16", INT16, exponents=b"", values=b""),
    _update_target("update-topk", TOPK, gaps=b"", exponents=b"", values=b""),
    Target(
        "optimizer-state",
        lambda data: optimizers.decode_state(ADAM, data, LENGTH),
        (OptimizerError,),
        _some_state,
        lambda state: optimizers.encode_state(ADAM, state),
        lambda size: _packed_with({"version": 1, "step": 1}, min(size, 4000)),
    ),
    Target(
        "parameters",
        lambda data: optimizers.decode_params(data, len(data) // 4),
        (OptimizerError,),
        lambda rng: np.random.default_rng(rng.getrandbits(64)).standard_normal(LENGTH).astype("<f4").tobytes(),
        optimizers.encode_params,
    ),
    Target(
        "engine-frame",
        wire.parse,
        (WireError, PackingError),
        _some_frame,
        dense=lambda size: _packed_with({"kind": ""}, size),
    ),
    Target("answer", _views, (views.ViewError,), _some_view),
)
