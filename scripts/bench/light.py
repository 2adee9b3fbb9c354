"""Measures the light client: a header with its seal and its proof, many set changes, and what a start takes.

Answers come from memory, as the JSON of an honest node; the chain's states, seals and proofs are real. The start is
that of the command itself, in a process of its own, against a server on this machine.

    .venv/bin/python scripts/bench/light.py [--samples 50] [--sessions 100]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trio
from figures import Figures, machine, show, show_value

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))  # the hand-made chain is the tests'

from chain.light.follower import follow  # noqa: E402
from chain.light.verify import check_seal, read_header, read_proof, read_seal  # noqa: E402
from chain.primitives import bls_native  # noqa: E402
from chain.primitives.seal import verify_seal  # noqa: E402
from runtime.potchain import RUNTIME  # noqa: E402
from tests.light.kit import SetChain, counted, hexed, node_that_answers, work_through, write_genesis  # noqa: E402

GOAL_MS = 10.0
GOAL_MB = 60.0
# Runs the command and prints what it took: processor time in seconds, and memory at its most in kB.
CHILD = """
import sys, time
from chain.cli import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    assert not ended.code, ended.code
print(time.process_time(), next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=50, help="how many headers of each size of set")
    parser.add_argument("--sessions", type=int, default=100, help="how many set changes")
    parser.add_argument("--short", action="store_true", help="a few of each, to see that the benchmark works")
    options = parser.parse_args()
    samples, sessions = (3, 3) if options.short else (options.samples, options.sessions)
    print(machine())
    for n in (4, 100):
        headers(n, samples)
    set_changes(sessions)
    start(3 if options.short else 5)


def headers(n: int, samples: int) -> None:
    """Each sample is another block, so that no cache of verified seals helps.

    Keys are decoded once a process: the first header of a set costs that for each of its keys.
    """
    chain, figures = SetChain(sessions=1, session=samples + 1, n=n), Figures()
    validators = chain.genesis.validators
    key = RUNTIME.at(chain.head.tree).timestamp.now.key
    for made in chain.blocks[1 : samples + 1]:
        block_hash = made.header.hash
        header_json = chain.answer("chain_getHeader", [hexed(block_hash)])
        seal_json = chain.answer("consensus_getSeal", [hexed(block_hash)])
        proof_json = chain.answer("state_getReadProof", [[hexed(key)], hexed(block_hash)])
        for name in ("first", "header"):
            if name == "first":
                bls_native._key_point.cache_clear()
            verify_seal.cache_clear()
            with figures.sample(name):
                header = read_header(header_json, block_hash)
                check_seal(validators, chain.genesis_hash, read_seal(seal_json, header.height, block_hash))
        with figures.sample("proof"):
            read_proof(proof_json, block_hash, header.state_root, [key])
    show(f"header and seal, {n} validators", figures["header"], GOAL_MS)
    show(f"the first of {n} validators", figures["first"], GOAL_MS)
    show(f"a value with its proof, {n} validators", figures["proof"])


def set_changes(sessions: int) -> None:
    """From genesis to the head, a validator set at a time."""
    chain, figures, calls = SetChain(sessions=sessions, session=5), Figures(), list[str]()
    chain.extend()
    with figures.sample("follow"):
        found = work_through(follow(RUNTIME, chain.genesis), counted(chain.answer, calls))
    assert found == chain.checkpoint()
    show(f"{sessions} set changes and the head", figures["follow"])
    show_value(f"questions to the node, {sessions + 1} blocks", [len(calls)], "")


def start(times: int) -> None:
    """The command, from genesis over three set changes and from its checkpoint: its time and its highest memory."""
    figures, kilobytes = Figures(), list[int]()
    chain = SetChain(sessions=3, start_ms=time.time_ns() // 10**6)
    with tempfile.TemporaryDirectory() as folder:
        genesis = write_genesis(Path(folder) / "genesis.json", chain.config)

        def once(name: str, *words: str) -> None:
            command = [sys.executable, "-c", CHILD, "light", "head", *words]
            started = time.perf_counter()
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
            figures[name].wall.append(time.perf_counter() - started)
            assert f"block 9 {hexed(chain.head.header.hash)}" in done.stdout, done
            cpu_seconds, peak = done.stdout.splitlines()[-1].split()
            figures[name].cpu.append(float(cpu_seconds))
            kilobytes.append(int(peak))

        async def serve() -> None:
            async with node_that_answers(chain.answer) as url:
                for number in range(times):
                    words = f"--checkpoint={folder}/{number}", f"--node={url}"
                    await trio.to_thread.run_sync(once, "first", f"--genesis={genesis}", *words)
                    await trio.to_thread.run_sync(once, "next", *words)

        trio.run(serve)
    show("the command, from genesis", figures["first"])
    show("the command, from its checkpoint", figures["next"])
    show_value("memory of the command, at most", [max(kilobytes) / 1024], "MB", GOAL_MB)


if __name__ == "__main__":
    main()
