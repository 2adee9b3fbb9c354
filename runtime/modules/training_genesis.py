"""The training part of a genesis file: tasks that run from the first block.

Shapes and ranges of single fields are checked here, so that an error names the field; what a task as a whole must keep
(its policy, its escrow) is checked where every task is created.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runtime.genesis import Section
from runtime.modules.training_policy import (
    AGGREGATIONS,
    BOUNDS,
    CHECKS,
    CLIPS,
    CODECS,
    DECAYS,
    OPTIMIZERS,
    VERIFICATIONS,
    Descent,
    LocalSteps,
    Policy,
    Schedule,
    json_name,
)
from runtime.modules.training_sizes import DATASET_BYTES_MAX, PARAMETERS_MAX, PROGRAM_BYTES_MAX, Claim
from runtime.modules.training_types import ACTIVE_TASKS_MAX, NAME_BYTES_MAX, ROUNDS_MAX, Terms
from runtime.storage import camel_case
from runtime.types import GenesisError


def read_tasks(path: str, config: Mapping[str, object]) -> Iterator[tuple[str, Terms]]:
    """The tasks of `{"tasks": […]}`, each with its path."""
    section = Section(path, config)
    for index, (task_path, value) in enumerate(section.items("tasks")):
        if index >= ACTIVE_TASKS_MAX:
            raise GenesisError(f"{section.at('tasks')}: expected at most {ACTIVE_TASKS_MAX} tasks")
        yield task_path, _terms(Section(task_path, value))
    section.finish()


def _terms(section: Section) -> Terms:
    terms = Terms(
        owner=section.account("owner"),
        name=section.text("name", NAME_BYTES_MAX).encode(),
        program_root=section.octets("programRoot", 32),
        dataset_root=section.octets("datasetRoot", 32),
        params_root=section.octets("paramsRoot", 32),
        optimizer=_descent(section.section("optimizer")),
        policy=_policy(section.section("policy")),
        rounds=section.integer("rounds", 1, ROUNDS_MAX),
        price_per_slot=section.integer("pricePerSlot"),
        storage=_claim(section.section("storage")),
    )
    section.finish()
    return terms


def _claim(section: Section) -> Claim:
    claim = Claim(
        program_bytes=section.integer("programBytes", 1, PROGRAM_BYTES_MAX),
        dataset_bytes=section.integer("datasetBytes", 1, DATASET_BYTES_MAX),
        parameters=section.integer("parameters", 1, PARAMETERS_MAX),
    )
    section.finish()
    return claim


def _descent(section: Section) -> Descent:
    parts: dict[str, Any] = {"rule": _choice(section.section("rule"), OPTIMIZERS)}
    if "schedule" in section:
        parts["schedule"] = _schedule(section.section("schedule"))
    if section.value("clip", None) is not None:
        parts["clip"] = _choice(section.section("clip"), CLIPS)
    if "weightDecay" in section:
        parts |= _numbers(section, Descent)
    section.finish()
    return Descent(**parts)


def _schedule(section: Section) -> Schedule:
    schedule = Schedule(decay=_choice(section.section("decay"), DECAYS), **_numbers(section, Schedule))
    section.finish()
    return schedule


def _policy(section: Section) -> Policy:
    parts: dict[str, Any] = _numbers(section, Policy)
    if "codec" in section:
        parts["codec"] = _choice(section.section("codec"), CODECS)
    if section.value("localSteps", None) is not None:
        parts["local_steps"] = _local_steps(section.section("localSteps"))
    if "aggregation" in section:
        parts["aggregation"] = _choice(section.section("aggregation"), AGGREGATIONS)
    if "verification" in section:
        parts["verification"] = _choice(section.section("verification"), VERIFICATIONS)
    if "checks" in section:
        parts["checks"] = _choice(section.section("checks"), CHECKS)
    section.finish()
    return Policy(**parts)


def _local_steps(section: Section) -> LocalSteps:
    local_steps = LocalSteps(inner=_descent(section.section("inner")), **_numbers(section, LocalSteps))
    section.finish()
    return local_steps


def _choice(section: Section, kinds: tuple[type, ...]) -> Any:
    """The one of `kinds` that an object names, as in `{"adam": {…}}`."""
    named = {json_name(kind): kind for kind in kinds}
    if len(section.names) != 1 or section.names[0] not in named:
        raise GenesisError(f"{section.path}: expected one field of {', '.join(named)}, got {section.names}")
    kind, inner = named[section.names[0]], section.section(section.names[0])
    chosen = kind(**_numbers(inner, kind))
    inner.finish()
    return chosen


def _numbers(section: Section, kind: type) -> dict[str, int]:
    """The numbers of a record, each within its bounds."""
    return {name: section.integer(camel_case(name), low, high) for name, (low, high) in BOUNDS[kind].items()}
