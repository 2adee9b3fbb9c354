"""The benchmarks run: each prints its figures on something small. How fast anything is, no test says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# What each must have measured, by the words of its lines.
LINES = {
    "aggregate.py": ["3 updates of 3,000 parameters", "mean of top 1 %", "centered clip of int8"],
    "breakdown.py": ["BLS pairings", "state root", "1 workers: ", "fetch  ", "1 aggregators: "],
    "byzantine.py": ["7 of 16 wrong, 2 rounds", "wrong targets", "centered clip", "honest updates refused 0"],
    "finality.py": ["core alone", "simulated validators", "of each validator, ms: linear"],
    "latency.py": ["commit logged", "sealed at the slowest   p50", "processor time"],
    "growth.py": [
        *("a round of 64 slots, ms: flat", "step of Adam", "proof of a balance, bytes: logarithmic", "start a node"),
        "as it should in the last row",
    ],
    "light.py": ["header and seal, 100 validators", "3 set changes and the head", "memory of the command"],
    "frontier.py": ["float32", "H = 32, 10 %, nothing remembered", "fewest bytes at equal loss"],
    "detection.py": ["honest contributions rejected: 0 of 40", "2 % less", "second draw made again", "gain a slot"],
    "execute.py": ["20 transfers a block, ed25519", "20 transfers a block, sr25519", "decode and execute, first"],
    "rounds.py": ["begun ahead", "an audit 5", "a slot   0 blocks"],
    "metadata.py": ["metadata V14", "metadata V15"],
    "peers.py": ["20 transfers a block", "potchain, builds and commits", "without anvil"],
    "state_root.py": ["100 of 3,000 keys", "state root, accounts changed", "state root, nothing in memory"],
    "silos.py": ["softmax, 8 local steps, wrong labels, in company", "sign flip, 3 times as long, alone"],
    "slices.py": ["an aggregator, slice by slice", "a validator, everything", "a validator of 4"],
    "spill.py": ["3 updates of 3,000 parameters", "mean of top 1 %", "file:"],
    "drift.py": ["digits, batches of 32, 1 slots", "gelu, mean", "4 steps: relative L2"],
    "tolerance.py": ["1 local steps, inner sgd", "2 local steps, inner adam", "top 10 %"],
    "training.py": ["plain JAX", "by processor time", "worker engines", "verified training costs"],
    "swarm.py": ["12 workers registered", "the market was up in", "cheats caught and missed", "alice-auditor"],
    "sync.py": ["100 empty blocks made", "--sync full", "--sync warp"],
    "transfers.py": ["20 a second", "40 of 40", "a node's processor time", "p50 in 2 s"],
    "soak.py": ["memory of its own, nodes", "database in use, nodes", "say nothing of what grows", "workers killed"],
    "testnet.py": ["first start:", "blocks: ", "stopped by SIGINT in"],
    "subscribers.py": ["10 subscribers to heads", "all of them have it after", "a block comes every"],
}
# These start nodes that run at their own pace, or JAX.
SLOW = (
    *("breakdown.py", "byzantine.py", "detection.py", "drift.py", "frontier.py", "growth.py", "latency.py"),
    *("silos.py", "slices.py", "soak.py", "subscribers.py", "swarm.py", "sync.py"),
    *("testnet.py", "tolerance.py", "training.py", "transfers.py"),
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in LINES]
)
def test_a_benchmark_prints_its_figures(name: str) -> None:
    command = [sys.executable, "-W", "error", str(ROOT / "scripts" / "bench" / name), "--short"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for line in LINES[name]:
        assert line in done.stdout
