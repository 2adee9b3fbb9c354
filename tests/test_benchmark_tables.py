"""The command that runs all benchmarks: what it writes, and what it says of two tables.

How fast anything is, no test says.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts" / "bench"))  # where the scripts find each other

from figures import Better, Recorded, Spread  # noqa: E402
from tables import Incomparable, Ran, Table, comparison, mark, markdown, read_recorded  # noqa: E402


def a_figure(
    name: str = "a block", samples: tuple[float, ...] = (10.0, 12.0, 20.0), better: Better = "less", **more: Any
) -> Recorded:
    return Recorded(
        **{"group": "7 blocks", "unit": "ms", "cpu": None, "goal": None, "met": None, "peers": {}, **more},
        name=name,
        better=better,
        value=Spread.of(samples),
    )


def a_table(*figures: Recorded, **more: Any) -> Table:
    ran = (Ran("execute", True, "well", 3.4, (0.5, 1.25), figures),)
    fields = {"commit": "abc", "machine": "2 cores", "versions": {"jax": "1"}, "short": False, "ran": ran}
    return Table(**{"taken": "2026-01-02T03:04:05Z", **fields, **more})


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(ROOT / "scripts" / "bench" / "all.py"), *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_runs_benchmarks_writes_their_table_and_compares_it_with_the_last(tmp_path: Path) -> None:
    first = run("flower", "aggregate", "state_root", "--short", f"--into={tmp_path}")
    assert (first.returncode, first.stderr) == (0, "")
    assert "state root, nothing in memory" in first.stdout  # what a benchmark prints is seen
    (file,) = tmp_path.glob("bench-*.json")
    table = Table.decode(file.read_text())
    # In the command's own order, whatever that of the words.
    state_root, aggregate, flower = table.ran
    assert [(ran.command, ran.ok) for ran in table.ran] == [("state_root", True), ("aggregate", True), ("flower", True)]
    assert (flower.ended, flower.figures) == ("before it began: it needs --flower PYTHON", ())
    figures = {figure.name: figure for figure in state_root.figures}
    assert {figure.group for figure in state_root.figures} == {"100 of 3,000 keys, 2 blocks of each kind"}
    figure = figures["state root, accounts changed"]
    assert (figure.unit, figure.better, figure.goal, figure.value.samples) == ("ms", "less", 150.0, 2)
    assert figure.cpu is not None
    assert 0 < figure.value.least <= figure.value.median <= figure.value.most
    assert "mean of int8, memory" in [figure.name for figure in aggregate.figures]
    assert file.with_suffix(".md").read_text() == markdown(table)

    again = run("aggregate", "--short", f"--into={tmp_path / 'again'}", f"--against={file}")
    assert (again.returncode, again.stderr) == (0, "")
    (compared,) = (line for line in again.stdout.splitlines() if line.startswith("| mean of int16, memory |"))
    assert compared.count("MB") == 2
    assert f"Only before: {len(state_root.figures)}, of state_root." in again.stdout


def test_a_run_that_could_not_be_compared_is_refused_before_it_begins(tmp_path: Path) -> None:
    (tmp_path / "bench-1.json").write_text(a_table().encode())
    refused = run("aggregate", "--short", f"--into={tmp_path}", "--against")
    assert refused.returncode == 2
    assert "bench-1.json has the long form; run that, or name another" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bench-1.json"]


def test_a_benchmark_that_fails_leaves_what_it_had_and_the_others_run(tmp_path: Path) -> None:
    # Without its tool's file it measures nothing; a peer that is not there is an error, since it was asked for.
    failed = run("peers", "aggregate", "--short", f"--into={tmp_path}", f"--anvil={tmp_path / 'nothing'}")
    assert failed.returncode == 1
    assert failed.stderr.endswith("peers: ended with exit status 1\n")
    (file,) = tmp_path.glob("bench-*.json")
    peers, aggregate = Table.decode(file.read_text()).ran
    assert (peers.ok, peers.figures) == (False, ())
    assert aggregate.ok


def test_a_table_survives_its_json() -> None:
    table = a_table(a_figure(cpu=Spread(1, 0.5, 2, 3), goal=9.0, met=False, peers={"anvil 1": 3.0}), a_figure("other"))
    assert Table.decode(table.encode()) == table


def test_figures_are_read_up_to_the_line_in_which_a_benchmark_was_interrupted(tmp_path: Path) -> None:
    line = json.dumps({**a_figure().__dict__, "value": Spread(1, 1, 1, 1).__dict__})
    (tmp_path / "recorded").write_text(f"{line}\n{line[:40]}")
    assert read_recorded(tmp_path / "recorded") == (replace(a_figure(), value=Spread(1, 1, 1, 1)),)
    assert read_recorded(tmp_path / "missing") == ()


def test_markdown_has_medians_spreads_goals_and_peers() -> None:
    figures = (
        a_figure(cpu=Spread(9.5, 9, 10, 3), goal=11, met=False),
        a_figure("transfers", (5000.0,), "more", unit="a second", goal=2500, met=True, peers={"py-evm 0.12": 400.0}),
    )
    assert markdown(a_table(*figures)) == (
        "# Benchmarks of 2026-01-02T03:04:05Z\n\n"
        "Commit abc; 2 cores.\njax 1.\nMedians, with the least and the most of several samples.\n\n"
        "## execute\n\nEnded well after 3 s; load 0.5 to 1.2.\n\n"
        "| 7 blocks | measured | processor time | goal | beside its peers |\n|---|---:|---:|---|---|\n"
        "| a block | 12 ms (10 to 20) | 9.5 ms (9 to 10) | at most 11: **missed** |  |\n"
        "| transfers | 5,000 a second |  | at least 2,500: met | 12.50 x py-evm 0.12's 400, ahead |\n"
    )


@pytest.mark.parametrize(
    ("now", "better", "said"),
    [
        ((21.0, 22.0), "less", "**worse**"),
        ((21.0, 22.0), "more", "**better**"),
        ((8.0, 9.0), "less", "**better**"),
        ((8.0, 9.0), "more", "**worse**"),
        ((19.0, 30.0), "less", ""),  # they overlap
        ((20.0, 30.0), "less", ""),  # they touch
        ((99.0,), "less", ""),  # one sample has no spread
    ],
)
def test_a_change_is_marked_where_the_spreads_do_not_overlap(now: tuple[float, ...], better: Better, said: str) -> None:
    assert mark(a_figure(samples=now, better=better), a_figure(better=better)) == said


def test_a_comparison_has_new_by_old_and_names_what_only_one_table_has() -> None:
    before = a_table(a_figure(cpu=Spread(8, 7, 9, 3)), a_figure("gone"), a_figure("zero", (0.0,)))
    now = a_table(
        a_figure(samples=(3.0, 3.0, 9.0), cpu=Spread(4, 4, 4, 3)),
        a_figure("zero", (1.0,)),
        a_figure("new"),
        taken="2026-02-03T04:05:06Z",
        machine="4 cores",
    )
    assert comparison(now, before) == (
        "# 2026-02-03T04:05:06Z (abc) against 2026-01-02T03:04:05Z (abc)\n\n"
        "New by old, medians. Marked where several samples of both do not overlap.\n"
        "**Other machines**: 4 cores; before: 2 cores.\n\n"
        "| execute: 7 blocks | before | now | ratio | by processor time | |\n|---|---:|---:|---:|---:|---|\n"
        "| a block | 12 ms (10 to 20) | 3 ms (3 to 9) | 0.25 x | 0.50 x | **better** |\n"
        "| zero | 0 ms | 1 ms | – |  |  |\n\n"
        "Only now: 1, of execute.\n\n"
        "Only before: 1, of execute.\n"
    )
    with pytest.raises(Incomparable, match="one form"):
        comparison(now, replace(before, short=True))
