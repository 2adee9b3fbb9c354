"""All fuzz targets: a new decoder of untrusted bytes is one more entry in one of these lists."""

from __future__ import annotations

from tests.fuzz import targets_node, targets_primitives, targets_runtime, targets_trainer
from tests.fuzz.target import Target

TARGETS: tuple[Target, ...] = (
    *targets_primitives.TARGETS,
    *targets_runtime.TARGETS,
    *targets_node.TARGETS,
    *targets_trainer.TARGETS,
)
BY_NAME = {target.name: target for target in TARGETS}
