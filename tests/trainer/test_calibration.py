"""A task's tolerance is what honest machines need, and no task is audited by one that cheats pass."""

from __future__ import annotations

import numpy as np
import pytest

from tests.trainer.test_audit import LENGTH, gradient, noisy
from trainer import audit
from trainer.arrays import Float32s
from trainer.calibration import Calibration, Uncalibratable, calibrate
from trainer.codecs import INT8, INT16, Codec
from trainer.codecs.topk import TopK


def differing(own: Float32s, relative: float, seed: int) -> Float32s:
    """What a machine gets whose roundings add up to so much."""
    rng = np.random.default_rng(seed)
    return np.asarray(own * (1 + relative * rng.standard_normal(own.size)), np.float32)


def test_machines_that_agree_need_the_least_tolerance() -> None:
    own = gradient(1)
    assert calibrate(INT8, [own, own], {"scaled": own * np.float32(1.02)}) == Calibration(
        audit.Tolerance(510_000, 20), 500_000
    )
    assert calibrate(INT8, [own, noisy(own, 2)], {}).tolerance.micro_steps == 510_000


@pytest.mark.parametrize(("codec", "relative"), [(INT8, 1e-4), (TopK(10_000), 1e-3)], ids=["int8", "1 %"])
def test_machines_that_differ_get_a_margin_under_which_others_like_them_pass(codec: Codec, relative: float) -> None:
    own = gradient(1)
    honest = [differing(own, relative, seed) for seed in range(3)]
    found = calibrate(codec, honest, {"scaled": own * np.float32(1.25)})
    assert 500_000 < found.needed < found.tolerance.micro_steps == 500_000 + 8 * (found.needed - 500_000)
    for seed in range(10, 16):
        other = codec.quantise(differing(own, relative, seed), 0)
        assert all(audit.compare(other, mine, found.tolerance).right for mine in honest)


def test_a_task_whose_cheats_would_pass_is_refused_by_their_names() -> None:
    own = gradient(1)
    honest = [differing(own, 1e-3, seed) for seed in range(3)]
    cheats = {"a hair less": own * np.float32(0.9999), "nothing": np.zeros(LENGTH, np.float32)}
    with pytest.raises(Uncalibratable, match="for right: a hair less; take"):
        calibrate(INT8, honest, cheats)


def test_a_task_whose_honest_workers_agree_on_nothing_is_refused() -> None:
    with pytest.raises(Uncalibratable, match="honest results differ"):
        calibrate(INT16, [gradient(1), gradient(2)], {})
    with pytest.raises(ValueError, match="two honest"):
        calibrate(INT8, [gradient(1)], {})
