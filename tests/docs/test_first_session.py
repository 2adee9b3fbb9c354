"""docs/first-session.md, a session as it was printed: what readers copy of it is a task, and its figures agree."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from trainer.task import build

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "first-session.md").read_text()
FIGURES = re.compile(r"loss (0\.\d{4}), (?:accuracy )?(\d+\.\d\d) ?%")


def test_the_model_of_the_session_is_a_task_of_as_many_parameters_as_were_fetched() -> None:
    source, _ = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(source, names)
    built = build(names["task"])
    assert f"wrote tones.safetensors: {built.program.parameters:,} parameters in {len(built.program.layout)}" in PAGE


def test_plain_jax_finds_the_loss_and_the_accuracy_that_the_validators_found() -> None:
    (validators, jax) = FIGURES.findall(" ".join(PAGE.split()))
    assert validators == jax
