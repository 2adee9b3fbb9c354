"""A task's audits are measured by real engines, and what they cannot tell apart is refused by its name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from chain.terms import Terms, by_name, resolve
from tests.trainer.kit import small_task
from trainer import settling
from trainer.audit import Tolerance
from trainer.calibration import Calibration, Finding, Uncalibratable
from trainer.measuring import Recipe, machines, measure
from trainer.settling import described, settle
from trainer.task import Saved

SAMPLE, STEP = "one sample of 512 left out", "one step of 16 left out"


def saved() -> Saved:
    small = small_task()
    return Saved("small", small.program_root, small.dataset_root, small.params_root, small.blobs, {})


def ignore(*_: object) -> None:
    """What a measurement tells meanwhile."""


@pytest.mark.slow
async def test_cheats_are_really_computed_and_what_few_values_cannot_show_passes(tmp_path: Path) -> None:
    terms = resolve(by_name({"slots": 1, "codec": "top-k", "share": 0.005, "share_warmup": 9, "local_steps": 16}))
    told: list[tuple[int, int]] = []
    with trio.fail_after(120):
        found = await measure(
            saved(),
            Recipe.of(*terms.json),
            machines()[::2],
            tmp_path,
            warn=ignore,
            progress=lambda done, total: told.append((done, total)),
        )
    # Three values say little of 512 samples, and enough of sixteen steps.
    by_name_of = {finding.cheat: finding for finding in found.findings}
    assert set(by_name_of) == {SAMPLE, STEP, "scaled by 5 %", "one step stale"}
    assert [finding.trials for finding in found.findings] == [2] * 4
    assert by_name_of[SAMPLE].passes
    assert not by_name_of[STEP].passes
    assert 0 < found.difference < 1e-5
    # Three rounds of training; in two of them an honest slot elsewhere, and the cheats that compute something.
    assert told[0] == (0, told[-1][1])
    assert told[-1][0] == told[-1][1] - 2 == 16 * (3 + 2 + 2 * 3) - 2
    assert told == sorted(told)


def kept(terms: Terms, monkeypatch: pytest.MonkeyPatch, found: Calibration) -> list[int]:
    """Lets a measurement come out so; how often it was made."""
    made: list[int] = []

    async def measured(*_: object, **__: object) -> Calibration:
        made.append(terms.rounds)
        return found

    monkeypatch.setattr(settling, "measure", measured)
    return made


PASSES = Finding(SAMPLE, 1, 0, 2, 0.001)
WIDE = Calibration(Tolerance(740_000, 20), 530_000, 3e-6, (PASSES, Finding("scaled by 5 %", 2, 0, 2, 0.3)))


async def test_a_task_that_cannot_be_audited_is_refused_unless_its_owner_says_a_tolerance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    terms = resolve()
    kept(terms, monkeypatch, WIDE)
    with pytest.raises(Uncalibratable, match=f"within 0.740 steps, .* take for right: {SAMPLE}: found in 1 of 2, 0.10"):
        await settle(saved(), terms, warn=ignore, progress=ignore)
    said = resolve(by_name({"tolerance": 0.6}))
    settled, found = await settle(saved(), said, warn=ignore, progress=ignore)
    assert (settled, found) == (said, WIDE)
    assert " ".join(" ".join(described(found, said)).split()).endswith(
        "warning a tolerance of 0.6 is below the 0.74 that was measured: honest workers may lose their bonds "
        f"warning with it audits take for right: {SAMPLE}"
    )


GOOD = Calibration(Tolerance(510_000, 20), 500_000, 1e-6, (Finding(SAMPLE, 2, 0, 2, 0.1),))


@pytest.mark.parametrize(
    ("steady", "told"),
    [(8, "8 of 32 local steps passed in .* fewer are safer"), (0, "take another codec, rate or model")],
)
async def test_a_refusal_says_how_many_local_steps_can_be_audited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steady: int, told: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tried: list[int] = []

    async def measured(_made: object, recipe: Recipe, *_: object, **__: object) -> Calibration:
        tried.append(recipe.batches)
        if recipe.batches > 16:
            raise Uncalibratable("too far apart")
        # Within a tolerance by luck is not enough.
        return GOOD if recipe.batches <= steady else replace(GOOD, difference=3e-4)

    monkeypatch.setattr(settling, "measure", measured)
    heard: list[str] = []
    with pytest.raises(Uncalibratable, match=rf"^too far apart\. .*{told}$"):
        await settle(saved(), resolve(by_name({"local_steps": 32})), warn=heard.append, progress=ignore)
    assert heard == ["too far apart; trying fewer local steps"]
    assert tried == ([32, 16, 8] if steady else [32, 16, 8, 4, 2, 1])


def test_local_steps_that_drift_within_a_tolerance_are_told_of() -> None:
    terms, drifted = resolve(by_name({"local_steps": 32})), replace(GOOD, difference=3e-4)
    assert not [line for line in described(GOOD, terms) if line.startswith("warning")]
    assert [line.split()[:7] for line in described(drifted, terms) if line.startswith("warning")] == [
        ["warning", "honest", "results", "drift", "apart", "over", "32"]
    ]
    assert not [line for line in described(drifted, resolve()) if line.startswith("warning")]


async def test_a_measurement_is_kept_for_the_same_task_and_terms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    good = Calibration(Tolerance(740_000, 20), 530_000, 3e-6, (Finding(SAMPLE, 2, 0, 2, 0.1),))
    made = kept(resolve(), monkeypatch, good)
    for terms in (resolve(), resolve(by_name({"rounds": 7})), resolve(by_name({"learning_rate": 1}))):
        settled, found = await settle(saved(), terms, warn=ignore, progress=ignore)
        assert (settled.policy.tolerance_micro_steps, found) == (740_000, good)
    assert len(made) == 2  # rounds change no slot
    for file in tmp_path.rglob("*.json"):
        file.write_text('{"needed": 1}')
    await settle(saved(), resolve(), warn=ignore, progress=ignore)
    assert len(made) == 3
