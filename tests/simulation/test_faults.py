"""Each fault by itself and all together, drawn from seeds; what fails names the one command that replays it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from contextlib import closing

import pytest

from chain.simulation import monitor
from chain.simulation.faults import FAULTS
from chain.simulation.liars import CENSORSHIP
from chain.simulation.plan import Plan, simulate
from chain.simulation.sweep import Summary, sweep
from tests.simulation.suite import SUITE, SWEEP, plans

SEEDS = 5
NICENESS = (
    10  # a tenth of what another process gets on the same core: tests of real nodes beside this are not to notice
)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_neither_forks_the_chain_nor_stops_it(fault: str) -> None:
    seen: Counter[str] = Counter()
    for seed in range(SEEDS):
        whole = fault == CENSORSHIP  # Only transactions can be censored.
        seen.update(set(simulate(Plan(seed, faults=frozenset({fault}), real_ledger=whole)).faults))
    assert seen[fault] > 0


def test_all_faults_together_neither_fork_a_chain_of_five_nor_stop_it() -> None:
    for seed in range(SEEDS):
        simulate(Plan(seed, 5))


def test_whole_nodes_lose_no_transaction_and_keep_every_invariant_through_all_faults() -> None:
    for seed in range(SEEDS):
        simulate(Plan(seed, heights=12, real_ledger=True))


def test_real_signatures_go_the_same_way_as_the_stub() -> None:
    """Signatures have no part in what happens: the same seed gives the same heights, views and faults with BLS."""
    stub, real = (simulate(Plan(1, heights=8, real_signatures=real)) for real in (False, True))
    assert (stub.faults, stub.heights, stub.views_max) == (real.faults, real.heights, real.views_max)


def test_a_seed_replays_bit_by_bit_in_another_process_with_another_hash_seed() -> None:
    program = "from chain.simulation.plan import *; print([simulate(Plan(seed)) for seed in range(4)])"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert outputs == {f"{[simulate(Plan(seed)) for seed in range(4)]}\n"}


def test_a_failure_names_the_command_that_replays_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> bool:
        return False

    monkeypatch.setattr(monitor, "verify_seal", never)
    (done,) = sweep([Plan(3, validators=5, heights=9, faults=frozenset({"loss", "crash"}))], jobs=1)
    assert done.failure is not None
    assert "with a seal that does not prove it" in done.failure
    command = "replay with: potchain simulate --seed 3 --validators 5 --heights 9 --faults crash,loss"
    assert f"{command}\n" in done.failure


# --- what continuous integration runs: `potchain simulate --seeds COUNT` runs more ---


@pytest.mark.slow
def test_many_seeds_of_all_faults_hold_every_check(pytestconfig: pytest.Config) -> None:
    times = SWEEP if pytestconfig.getoption("sweep") else 1
    wanted = {name: plans(name, times) for name in SUITE}
    done = {}
    with closing(sweep([plan for each in wanted.values() for plan in each], os.cpu_count() or 1, NICENESS)) as runs:
        for run in runs:
            assert run.failure is None, run.failure
            done[run.plan] = run
    for each in wanted.values():
        summary = Summary()
        for plan in each:
            summary.add(done[plan])
        print(*summary.lines(), sep="\n")
        assert summary.heights >= sum(plan.heights for plan in each)
