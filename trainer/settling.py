"""Terms whose tolerance is measured: what `task new`, `task check` and Python do before a task is offered.

Rule: a task that cannot be audited is refused before anything is paid, unless its owner says a tolerance; then the
owner is warned. What was measured once is kept for its owner, for the same task, terms and version of JAX.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax

from chain.primitives.durable import replace_file
from chain.primitives.hashing import blake2_256
from chain.terms import Terms
from trainer.audit import Tolerance
from trainer.calibration import STEADY, Calibration, Finding, Uncalibratable, require_told_apart
from trainer.measuring import Progress, Recipe, machines, measure
from trainer.sandbox import Warn
from trainer.task import Built, Saved


def cache_folder() -> Path:
    """Where measurements are kept: the user's cache folder (XDG)."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "potchain" / "calibrations"


async def settle(
    made: Built | Saved, terms: Terms, platform: str = "cpu", *, warn: Warn, progress: Progress
) -> tuple[Terms, Calibration | None]:
    """The terms with a tolerance that was measured, unless their owner said one, and the measurement.

    There is none of a federated task, whose contributions nobody can recompute. ExportError, EngineError or
    Uncalibratable says why this cannot be a task with these terms.
    """
    if terms.policy.is_federated:
        return terms, None
    optimizer, policy = terms.json
    said = terms.policy.tolerance_micro_steps if terms.tolerance_said else None
    file = cache_folder() / f"{_key(made, optimizer, policy, said, platform)}.json"
    found = _known(file)
    recipe = Recipe.of(optimizer, policy)

    async def measured(of: Recipe, warn: Warn) -> Calibration:
        with TemporaryDirectory() as folder:
            return await measure(made, of, machines(platform), Path(folder), said=said, warn=warn, progress=progress)

    try:
        if found is None:
            found = await measured(recipe, warn)
            with suppress(OSError):  # Who has no such folder measures again.
                file.parent.mkdir(parents=True, exist_ok=True)
                replace_file(file, json.dumps(asdict(found)).encode())
        if said is not None:
            return terms, found
        require_told_apart(found)
    except Uncalibratable as error:
        if recipe.batches == 1:
            raise
        warn(f"{error}; trying fewer local steps")
        fewer = await _fewer(recipe, measured)
        if fewer is None:
            raise Uncalibratable(
                f"{error}. Fewer local steps alone do not help: take another codec, rate or model"
            ) from None
        raise Uncalibratable(
            f"{error}. {fewer} of {recipe.batches} local steps passed in the few slots that were tried; at kinks it is "
            "a matter of luck, and fewer are safer"
        ) from None
    return replace(terms, policy=replace(terms.policy, tolerance_micro_steps=found.tolerance.micro_steps)), found


async def _fewer(recipe: Recipe, measured: Callable[[Recipe, Warn], Awaitable[Calibration]]) -> int | None:
    """The first of half as many local steps, a quarter and so on, that audits can tell apart without drifting.

    Each takes half as long as the one before, down to what some thirty batches take.
    """
    local = recipe.local_steps
    while local is not None and local.count > 1:
        local = replace(local, count=local.count // 2)
        try:
            # What an engine says of this system was said when the first was opened.
            found = await measured(replace(recipe, local_steps=local), lambda _: None)
            require_told_apart(found)
        except Uncalibratable:
            continue
        if not found.drifts:
            return local.count
    return None


def described(found: Calibration | None, terms: Terms, platform: str = "cpu") -> list[str]:
    """The figures of a measurement, and what is doubtful about a tolerance that was said."""
    if found is None:
        return ["tolerance   none: contributions are scored on held-out rows, and not compared"]
    steps = terms.policy.tolerance_micro_steps
    kinds = machines(platform)
    lines = [
        f"machines    {', '.join(kind.name for kind in kinds)}: "
        f"honest results differ by {found.difference:.1e} at most",
        f"tolerance   {steps / 1e6:g} steps; honest values need {found.needed / 1e6:.4f}, and "
        f"{found.tolerance.outliers_ppm} in a million may be off further",
        *(f"cheat       {finding}" for finding in found.findings),
    ]
    if steps < found.tolerance.micro_steps:
        lines.append(
            f"warning     a tolerance of {steps / 1e6:g} is below the {found.tolerance.micro_steps / 1e6:g} that was "
            "measured: honest workers may lose their bonds"
        )
    if found.drifts and terms.policy.batches > 1:
        lines.append(
            f"warning     honest results drift apart over {terms.policy.batches} local steps, and in other slots may "
            f"differ by more: take {STEADY}"
        )
    if found.missed:
        lines.append(f"warning     with it audits take for right: {'; '.join(each.cheat for each in found.missed)}")
    return lines


def _key(made: Built | Saved, optimizer: Any, policy: Any, said: int | None, platform: str) -> str:
    """What a measurement depends on, in short."""
    roots = (made.program_root.hex(), made.dataset_root.hex(), made.params_root.hex())
    used = [policy[name] for name in ("codec", "localSteps", "slots", "outliersPpm")]
    kinds = [kind.name for kind in machines(platform)]
    return blake2_256(json.dumps([roots, optimizer, used, said, kinds, jax.__version__]).encode()).hex()


def _known(file: Path) -> Calibration | None:
    """A measurement that was kept; none where there is no such file, or not one of ours."""
    try:
        value = json.loads(file.read_bytes())
        tolerance = Tolerance(**value.pop("tolerance"))
        findings = tuple(Finding(**finding) for finding in value.pop("findings"))
        return Calibration(tolerance=tolerance, findings=findings, **value)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
