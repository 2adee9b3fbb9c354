"""A silo's file: rows that fit the program are taken as they are, and all others refused with what was expected."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainer.kit import PIXELS, small_task
from trainer.artifact import Rows
from trainer.dataset import DatasetError
from trainer.silo import read

X, Y = np.arange(3 * PIXELS, dtype=np.uint8).reshape(3, PIXELS), np.array([1, 2, 3], np.uint8)


def saved(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_rows_come_out_as_the_bytes_that_the_program_takes(tmp_path: Path) -> None:
    program = small_task().program
    for x, y in ((X, Y), (X.astype(np.float64), Y.astype(np.int64)), (X.astype(">u2"), Y.astype(bool) + Y)):
        rows, labels = read(saved(tmp_path / "a.npz", x=x, y=y), program)
        assert (rows.tobytes(), rows.shape) == (X.tobytes(), (3, PIXELS))
        assert labels.shape == (3, 1)
    floats = replace(program, inputs=Rows((PIXELS,), "float32"))
    rows, _ = read(saved(tmp_path / "b.npz", x=X / 7, y=Y), floats)
    assert rows.tobytes() == (X / 7).astype("<f4").tobytes()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, r"expected a file of numpy.savez\(FILE, x=…, y=…\), got the arrays x$"),
        ({"inputs": X, "y": Y}, "got the arrays inputs, y$"),
        ({"x": X[:, :63], "y": Y}, r"x: expected rows of shape \[64\], as the task's program takes them"),
        ({"x": X, "y": Y.reshape(3, 1)}, r"y: expected rows of shape \[\], as .* got an array of shape \[3, 1\]"),
        ({"x": X, "y": np.uint8(1)}, r"y: expected rows of shape \[\]"),
        ({"x": X, "y": Y[:2]}, "expected as many rows in x as in y, .* got 3 and 2"),
        ({"x": X[:0], "y": Y[:0]}, "expected as many rows in x as in y, 1 to .* got 0 and 0"),
        ({"x": X, "y": Y + 0.5}, "y: expected uint8, got float64 values that are none; convert them"),
        ({"x": X, "y": Y.astype(np.int16) - 2}, "y: expected uint8, got int16 values that are none"),
        ({"x": X, "y": np.array(["1", "2", "3"])}, "y: expected uint8, got <U1 values that are none"),
        ({"x": X, "y": np.array([None, 2, 3])}, r"expected a file of numpy.savez\(FILE, x=…, y=…\): Object arrays"),
    ],
)
def test_rows_that_do_not_fit_are_refused_with_what_was_expected(
    tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        read(saved(tmp_path / "a.npz", **arrays), small_task().program)


def test_a_value_that_is_no_number_is_refused(tmp_path: Path) -> None:
    floats = replace(small_task().program, inputs=Rows((PIXELS,), "float32"))
    for wrong in (np.nan, np.inf, 1e300):
        x = X.astype(np.float64)
        x[1, 2] = wrong
        with pytest.raises(DatasetError, match="x: expected finite numbers of float32, got NaN or infinity"):
            read(saved(tmp_path / "a.npz", x=x, y=Y), floats)


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    program = small_task().program
    (tmp_path / "text.npz").write_text("x,y\n1,2\n")
    (tmp_path / "cut.npz").write_bytes(saved(tmp_path / "a.npz", x=X, y=Y).read_bytes()[:100])
    np.save(tmp_path / "one.npy", X)
    for name in ("text.npz", "cut.npz", "one.npy", "missing.npz", "."):
        with pytest.raises(DatasetError, match=r"expected a file of numpy\.savez"):
            read(tmp_path / name, program)
