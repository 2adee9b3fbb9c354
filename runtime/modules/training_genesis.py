"""The training part of a genesis file: tasks that run from the first block.

Shapes and ranges of single fields are checked here, so that an error names the field; what a task as a whole must keep
(its policy, its escrow) is checked where every task is created.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from runtime.genesis import Section
from runtime.modules.training_types import (
    ACTIVE_TASKS_MAX,
    AUDIT_BLOCKS_MIN,
    AUDITORS_PER_SLOT_MAX,
    LEARNING_RATE_PICO_MAX,
    NAME_BYTES_MAX,
    OUTLIERS_PPM_MAX,
    OUTLIERS_PPM_MIN,
    PHASE_BLOCKS_MAX,
    PICO,
    REVEAL_BLOCKS_MIN,
    ROUNDS_MAX,
    SLOTS_MAX,
    TOLERANCE_MICRO_STEPS_MAX,
    TOLERANCE_MICRO_STEPS_MIN,
    Adam,
    Policy,
    Sgd,
    Terms,
)
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
        optimizer=_optimizer(section.section("optimizer")),
        policy=_policy(section.section("policy")),
        rounds=section.integer("rounds", 1, ROUNDS_MAX),
        price_per_slot=section.integer("pricePerSlot"),
    )
    section.finish()
    return terms


def _optimizer(section: Section) -> Sgd | Adam:
    if section.names == ["sgd"]:
        inner = section.section("sgd")
        sgd = Sgd(
            learning_rate=inner.integer("learningRate", 1, LEARNING_RATE_PICO_MAX),
            momentum=inner.integer("momentum", 0, PICO - 1),
        )
        inner.finish()
        return sgd
    if section.names == ["adam"]:
        inner = section.section("adam")
        adam = Adam(
            learning_rate=inner.integer("learningRate", 1, LEARNING_RATE_PICO_MAX),
            beta1=inner.integer("beta1", 0, PICO - 1),
            beta2=inner.integer("beta2", 0, PICO - 1),
            epsilon=inner.integer("epsilon", 1, PICO),
        )
        inner.finish()
        return adam
    raise GenesisError(f'{section.path}: expected {{"sgd": …}} or {{"adam": …}}, got fields {section.names}')


def _policy(section: Section) -> Policy:
    policy = Policy(
        slots=section.integer("slots", 1, SLOTS_MAX),
        commit_blocks=section.integer("commitBlocks", 1, PHASE_BLOCKS_MAX),
        reveal_blocks=section.integer("revealBlocks", REVEAL_BLOCKS_MIN, PHASE_BLOCKS_MAX),
        audit_blocks=section.integer("auditBlocks", AUDIT_BLOCKS_MIN, PHASE_BLOCKS_MAX),
        auditors_per_slot=section.integer("auditorsPerSlot", 1, AUDITORS_PER_SLOT_MAX),
        tolerance_micro_steps=section.integer(
            "toleranceMicroSteps", TOLERANCE_MICRO_STEPS_MIN, TOLERANCE_MICRO_STEPS_MAX
        ),
        outliers_ppm=section.integer("outliersPpm", OUTLIERS_PPM_MIN, OUTLIERS_PPM_MAX),
    )
    section.finish()
    return policy
