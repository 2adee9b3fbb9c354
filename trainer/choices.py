"""What a task's owner chose, read from the JSON of `training_task` and written for the engine in the same shape.

Rule: a variant is an object with its name as the one field; a name or number that this program does not know is a
ChoiceError, since who computes something else than the others is slashed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from trainer import codecs, descent, local, robust, wire
from trainer.artifact import Program
from trainer.codecs import INT8, INT16, Codec
from trainer.codecs.blocks import CodecError
from trainer.codecs.dense import Dense
from trainer.codecs.topk import TopK
from trainer.descent import Clip, ClipNorm, ClipValue, Descent
from trainer.local import LocalSteps
from trainer.optimizers import Adam, Nesterov, Optimizer, OptimizerError, Sgd
from trainer.robust import Aggregation, AggregationError, CenteredClip, Krum, Mean, Median, TrimmedMean
from trainer.schedules import Constant, Cosine, Decay, Linear, Schedule, ScheduleError, Staircase
from trainer.scoring import Scored

# What reading JSON of another shape raises.
_WRONG_SHAPE = (LookupError, TypeError, ValueError, AttributeError, OverflowError)
_NUMBERS_WRONG = (CodecError, OptimizerError, ScheduleError, AggregationError)

# What an object `{"adam": {…}}` names: who makes it, and of which numbers.
_Kinds = Mapping[str, tuple[Callable[..., Any], tuple[str, ...]]]

_OPTIMIZERS: _Kinds = {
    "sgd": (Sgd, ("learningRate", "momentum")),
    "adam": (Adam, ("learningRate", "beta1", "beta2", "epsilon")),
    "nesterov": (Nesterov, ("learningRate", "momentum")),
}
_DECAYS: _Kinds = {
    "constant": (Constant, ()),
    "linear": (Linear, ("steps", "final")),
    "cosine": (Cosine, ("steps", "final")),
    "staircase": (Staircase, ("every", "factor")),
}
_CLIPS: _Kinds = {"value": (ClipValue, ("limit",)), "norm": (ClipNorm, ("limit",))}
_CODECS: _Kinds = {
    "int8": (lambda: INT8, ()),
    "int16": (lambda: INT16, ()),
    "topK": (lambda share, warmup: TopK(share, warmup_rounds=warmup), ("sharePpm", "warmupRounds")),
    "int8Momentum": (lambda momentum, tenure: Dense(8, momentum, tenure), ("momentum", "tenure")),
    "topKFeedback": (
        lambda share, warmup, momentum, tenure: TopK(share, momentum, warmup, tenure),
        ("sharePpm", "warmupRounds", "momentum", "tenure"),
    ),
}
_VERIFICATIONS: _Kinds = {
    "recompute": (lambda: None, ()),
    "scored": (Scored, ("harmPpm", "forfeit", "weightMax", "silosMin")),
}
_CHECKS: _Kinds = {"whole": (lambda: None, ()), "slices": (int, ("chunks",))}
_AGGREGATIONS: _Kinds = {
    "mean": (Mean, ()),
    "median": (Median, ()),
    "trimmedMean": (TrimmedMean, ("byzantinePpm",)),
    "krum": (lambda wrong: Krum(wrong, multi=False), ("byzantinePpm",)),
    "multiKrum": (lambda wrong: Krum(wrong, multi=True), ("byzantinePpm",)),
    "centeredClip": (CenteredClip, ("radiusPpm", "iterations")),
}

T = TypeVar("T")


class ChoiceError(ValueError):
    """A task's owner chose what this program does not know, or numbers that nothing can be computed with."""


def descent_of(value: Any) -> Descent:
    """The descent in `{"rule": …, "schedule": …, "clip": …, "weightDecay": …}`."""
    return _read("optimizer", value, lambda found: descent.checked(_descent(found)))


def codec_of(value: Any) -> Codec:
    """The codec in `{"int8": {}}`, `{"int16": {}}`, `{"topK": {…}}` and the like."""
    return _read("codec", value, lambda found: codecs.checked(_choice(_CODECS, found)))


def local_steps_of(value: Any) -> LocalSteps | None:
    """The local steps in `{"count": …, "inner": {…}}`, or none in null."""
    if value is None:
        return None
    return _read(
        "local steps",
        value,
        lambda found: local.checked(LocalSteps(int(found["count"]), _descent(found["inner"]))),
    )


def aggregation_of(value: Any) -> Aggregation:
    """The aggregation in `{"mean": {}}` and the like."""
    return _read("aggregation", value, lambda found: robust.checked(_choice(_AGGREGATIONS, found)))


def scored_of(value: Any) -> Scored | None:
    """How slots are scored in `{"scored": {…}}`; none in `{"recompute": {}}`: they are computed again."""
    scored: Scored | None = _read("verification", value, lambda found: _choice(_VERIFICATIONS, found))
    return scored


def slice_chunks_of(value: Any) -> int | None:
    """How many chunks of parameters a slice has in `{"slices": {…}}`; none in `{"whole": {}}`: everybody sums all."""
    chunks: int | None = _read("checks", value, lambda found: _choice(_CHECKS, found))
    if chunks is not None and chunks < 1:
        raise ChoiceError(f"checks: expected slices of 1 chunk at least, got {chunks}")
    return chunks


def local_steps_json(steps: LocalSteps) -> dict[str, Any]:
    """What `local_steps_of` reads."""
    inner = steps.inner
    return {
        "count": steps.count,
        "inner": {
            "rule": _json(_OPTIMIZERS, inner.rule),
            "schedule": {
                "warmupSteps": inner.schedule.warmup_steps,
                "decay": _json(_DECAYS, inner.schedule.decay),
            },
            "clip": None if inner.clip is None else _json(_CLIPS, inner.clip),
            "weightDecay": inner.weight_decay,
        },
    }


def check_fit(program: Program, train_rows: int, slots: int, batches: int) -> None:
    """ChoiceError unless a batch of each slot has rows of its own, and a slot's batches fit into one request.

    Where slots shared batches, whoever has two of them would be paid twice for one computation. Local steps may go
    through the rows as often as they like, each time in another order.
    """
    check_request(program, batches)
    if slots * program.batch > train_rows:
        raise ChoiceError(
            f"{slots} slots with batches of {program.batch:,} rows take {slots * program.batch:,} rows at a time, and "
            f"there are {train_rows:,} to train on: take fewer slots or smaller batches"
        )


def check_request(program: Program, batches: int) -> None:
    """ChoiceError unless a slot of so many batches fits into one request to an engine."""
    size = program.batch * batches * (program.inputs.row_bytes + program.targets.row_bytes) + 4 * program.parameters
    if size > wire.REQUEST_BYTES_MAX:
        raise ChoiceError(
            f"parameters and batches of a slot have {size:,} bytes, at most {wire.REQUEST_BYTES_MAX:,} are computed "
            "with at once: take fewer local steps or smaller batches"
        )


def _descent(value: Any) -> Descent:
    schedule = value["schedule"]
    return Descent(
        rule=_choice(_OPTIMIZERS, value["rule"]),
        schedule=Schedule(int(schedule["warmupSteps"]), _choice(_DECAYS, schedule["decay"])),
        clip=None if value["clip"] is None else _choice(_CLIPS, value["clip"]),
        weight_decay=int(value["weightDecay"]),
    )


def _choice(kinds: _Kinds, value: Any) -> Any:
    ((name, numbers),) = value.items()
    if name not in kinds:
        raise ValueError(f"expected one of {', '.join(kinds)}")
    make, names = kinds[name]
    if set(numbers) != set(names):
        raise ValueError(f"{name}: expected the numbers {', '.join(names) or 'none'}")
    return make(*(int(numbers[each]) for each in names))


def _json(kinds: _Kinds, value: Optimizer | Decay | Clip) -> dict[str, Any]:
    name, names = next((name, names) for name, (make, names) in kinds.items() if make is type(value))
    return {name: {key: getattr(value, field.name) for key, field in zip(names, fields(value), strict=True)}}


def _read(what: str, value: Any, read: Callable[[Any], T]) -> T:
    try:
        return read(value)
    except _NUMBERS_WRONG as error:
        raise ChoiceError(f"{what}: {error}") from None
    except _WRONG_SHAPE as error:
        raise ChoiceError(f"{what}: {str(error)[:200]}, got {repr(value)[:200]}") from None
