"""A task's tolerance is what honest machines need, and no task is audited by one that cheats pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from tests.trainer.test_audit import LENGTH, gradient, noisy
from trainer import audit
from trainer.arrays import Float32s
from trainer.calibration import Trial, Uncalibratable, calibrate, require_told_apart
from trainer.codecs import INT8, INT16, Codec
from trainer.codecs.topk import TopK

Cheats = Mapping[str, Float32s]


def differing(own: Float32s, relative: float, seed: int) -> Float32s:
    """What a machine gets whose roundings add up to so much."""
    rng = np.random.default_rng(seed)
    return np.asarray(own * (1 + relative * rng.standard_normal(own.size)), np.float32)


def trial(honest: Sequence[Float32s], lazy: Cheats | None = None, wrong: Cheats | None = None) -> Trial:
    return Trial(honest, lazy or {}, wrong or {})


def test_machines_that_agree_need_the_least_tolerance() -> None:
    own = gradient(1)
    found = calibrate(INT8, [trial([own, own], wrong={"scaled": own * np.float32(1.02)})])
    assert (found.tolerance, found.needed, found.difference) == (audit.Tolerance(510_000, 20), 500_000, 0.0)
    (scaled,) = found.findings
    assert (scaled.cheat, scaled.found, scaled.trials, scaled.passes) == ("scaled", 1, 1, False)
    require_told_apart(found)
    assert calibrate(INT8, [trial([own, noisy(own, 2)])]).tolerance.micro_steps == 510_000


@pytest.mark.parametrize(("codec", "relative"), [(INT8, 1e-4), (TopK(10_000), 1e-3)], ids=["int8", "1 %"])
def test_machines_that_differ_get_a_margin_under_which_others_like_them_pass(codec: Codec, relative: float) -> None:
    own = gradient(1)
    honest = [differing(own, relative, seed) for seed in range(3)]
    found = calibrate(codec, [trial([own, own]), trial(honest, wrong={"scaled": own * np.float32(1.25)})])
    require_told_apart(found)
    assert 500_000 < found.needed < found.tolerance.micro_steps == 500_000 + 8 * (found.needed - 500_000)
    assert found.difference == pytest.approx(relative, rel=0.6)
    for seed in range(10, 16):
        other = codec.quantise(differing(own, relative, seed), 0)
        assert all(audit.compare(other, mine, found.tolerance).right for mine in honest)


def test_cheats_that_pass_more_often_than_not_are_named() -> None:
    own = gradient(1)
    honest = [differing(own, 1e-3, seed) for seed in range(3)]
    hair, nothing = own * np.float32(0.9999), np.zeros(LENGTH, np.float32)
    found = calibrate(INT8, [trial(honest, lazy={"a hair less": hair, "nothing": nothing})])
    assert [(finding.cheat, finding.passes) for finding in found.findings] == [
        ("a hair less", True),
        ("nothing", False),
    ]
    with pytest.raises(Uncalibratable, match=r"for right: a hair less: found in 0 of 1, .* values off\. Take a finer"):
        require_told_apart(found)
    often = [trial(honest, lazy={"a hair less": values}) for values in (hair, nothing, nothing)]
    assert calibrate(INT8, often).missed == ()
    assert [finding.cheat for finding in calibrate(INT8, often[:2]).missed] == ["a hair less"]


def test_what_saves_no_work_and_is_as_near_as_rounding_is_harmless_but_not_under_a_wider_tolerance() -> None:
    own = gradient(1)
    close, off = own * np.float32(1.00001), own * np.float32(1.005)
    found = calibrate(INT8, [trial([own, own], wrong={"close": close})])
    assert [(finding.found, finding.harmless, finding.passes) for finding in found.findings] == [(0, 1, False)]
    assert calibrate(INT8, [trial([own, own], lazy={"close": close})]).missed
    assert calibrate(INT8, [trial([own, own], wrong={"off": off})]).missed == ()
    assert calibrate(INT8, [trial([own, own], wrong={"off": off})], said=2_000_000).missed


def test_a_task_whose_honest_workers_agree_on_nothing_is_refused_unless_its_owner_says_a_tolerance() -> None:
    apart = [trial([gradient(1), gradient(2)])]
    with pytest.raises(
        Uncalibratable, match=r"honest results differ by 2\.2e\+00 .* of more than 4 steps; .*gelu or silu for relu"
    ):
        calibrate(INT16, apart)
    assert calibrate(INT16, apart, said=510_000).needed == 4_000_001
    for trials in ([], [trial([gradient(1)])]):
        with pytest.raises(ValueError, match="two honest"):
            calibrate(INT8, trials)


def test_a_codec_that_is_too_fine_for_what_rounding_makes_is_told_from_results_that_drift_apart() -> None:
    own = gradient(1)
    near, far = ([trial([own, differing(own, relative, 1)])] for relative in (3e-5, 1e-3))
    with pytest.raises(Uncalibratable, match=r"take a coarser codec or fewer local steps$"):
        calibrate(INT16, near)
    with pytest.raises(Uncalibratable, match=r"the mean for the maximum in pooling$"):
        calibrate(INT16, far)
    assert [calibrate(INT8, each).drifts for each in (near, far)] == [False, True]


def test_outliers_that_a_task_allows_are_what_honest_machines_may_have() -> None:
    own = gradient(1)
    other = own.copy()
    other[:10] *= np.float32(1.5)
    strict, lax = (calibrate(INT8, [trial([own, other])], ppm, said=510_000) for ppm in (20, 100_000))
    assert lax.needed == 500_000 < strict.needed
    assert lax.tolerance.outliers_ppm == 100_000
