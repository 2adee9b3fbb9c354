"""Which files a worker trains on is said with its options, and what they lack before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from chain.cli_common import UserError
from chain.cli_silos import silo_files


def test_each_task_has_a_file(tmp_path: Path) -> None:
    one, other = tmp_path / "one.npz", tmp_path / "o=ther.npz"
    for path in (one, other):
        path.touch()
    assert silo_files([f"3={one}", f"0={other}"]) == {3: one, 0: other}
    assert silo_files([]) == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["clinic.npz"], "expected a task's number and a file, such as 3=clinic.npz, got 'clinic.npz'"),
        (["x=clinic.npz"], "expected a task's number and a file"),
        (["-1=clinic.npz"], "expected a task's number and a file"),
        (["٣=clinic.npz"], "expected a task's number and a file"),
        (["3="], "expected a task's number and a file"),
        (["3=nothing.npz"], "there is no file nothing.npz"),
        (["3=.", "3=."], "there is no file ."),
    ],
)
def test_what_names_no_file_of_a_task_is_refused(given: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        silo_files(given)


def test_a_task_has_one_file_and_a_worker_as_many_tasks_as_it_can_have_seats(tmp_path: Path) -> None:
    path = tmp_path / "one.npz"
    path.touch()
    with pytest.raises(UserError, match="task 3 is given two files"):
        silo_files([f"3={path}", f"3={path}"])
    with pytest.raises(UserError, match="at most 16 tasks at once, got 17"):
        silo_files([f"{task}={path}" for task in range(17)])
