"""Executes blocks of plain transfers here, in Foundry's anvil and in py-evm, one after the other on the same cores.

    npm install --prefix FOLDER @foundry-rs/anvil
    python3 -m venv FOLDER/evm && FOLDER/evm/bin/pip install py-evm eth-account coincurve
    .venv/bin/python scripts/bench/peers.py --evm FOLDER/evm/bin/python \\
        --anvil FOLDER/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil

None of them has consensus or a network here; each transfer has a sender and a receiver of its own. What differs:

- Ours are signed with sr25519, and their state lies in LMDB, whose commit waits for the disk; theirs are signed with
  secp256k1, and their state lies in memory.
- anvil is native code. It signs for its own accounts when it takes a transfer in, and verifies nothing while it builds
  a block, which alone is timed, as whoever asks for it over RPC waits: held against it is our building of transfers
  whose signatures the pool has verified.
- py-evm is Python as we are, with native signatures (coincurve). It verifies while it builds, and again while it
  imports, as we do with a transfer that the pool has not seen.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from execute import sampled
from figures import Figure, heading, machine, show_rate
from ports import free_run

from chain.primitives.keys import Scheme

APP = Path(__file__).with_name("peers_app.py")
START_SECONDS_MAX = 30.0
ANSWER_SECONDS_MAX = 120.0
GAS = 21_000  # of a transfer
BATCH = 500


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=7, help="how many samples of each figure")
    parser.add_argument("--transfers", type=int, default=1000, help="how many a block holds")
    parser.add_argument("--accounts", type=int, default=20_000, help="how many our chain has")
    parser.add_argument("--anvil", type=Path, help="Foundry's anvil, not the script of node that starts it")
    parser.add_argument("--evm", type=Path, metavar="PYTHON", help="of an environment with py-evm")
    parser.add_argument("--short", action="store_true", help="two small blocks, to see that the benchmark works")
    options = parser.parse_args()
    if options.short:
        options.blocks, options.transfers, options.accounts = 2, 20, 60
    print(machine())
    heading(f"{options.transfers} transfers a block, {options.blocks} blocks")
    count = options.transfers
    building, executing = {}, {}
    if options.anvil:
        name, figure = anvil(options.anvil, options.blocks, count)
        building[name] = count / figure.seconds
        show_rate("anvil, builds", count, figure)
    if options.evm:
        name, built, imported = evm(options.evm, options.blocks, count)
        executing[name] = count / imported.seconds
        show_rate("py-evm, verifies and builds", count, built)
        show_rate("py-evm, verifies and executes", count, imported)
    ours = sampled(Scheme.SR25519, options.blocks, count, options.accounts, profile=False)
    show_rate("potchain, builds", count, ours["propose, verified"], peers=building)
    show_rate("potchain, builds and commits", count, ours["propose, verified"] + ours["commit"], peers=building)
    show_rate("potchain, verifies and executes", count, ours["execute, first"], peers=executing)
    show_rate("potchain, verifies, executes, commits", count, ours["execute, first"] + ours["commit"], peers=executing)
    for peer, given in {"anvil": options.anvil, "py-evm": options.evm}.items():
        if not given:
            print(f"without {peer}: --help says how to install it")


# --- anvil


def anvil(binary: Path, blocks: int, transfers: int) -> tuple[str, Figure]:
    """Its name with its version, and what a block takes that it builds of transfers which it has in its pool."""
    name = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]
    figure = Figure()
    with running_anvil(binary, transfers) as (pid, url):
        senders = request(url, ("eth_accounts",))[0]
        for number in range(blocks + 1):
            receivers = [f"0x{number:08x}{index:032x}" for index in range(1, transfers + 1)]
            calls = [
                ("eth_sendTransaction", {"from": sender, "to": receiver, "value": "0x1", "gas": hex(GAS)})
                for sender, receiver in zip(senders, receivers, strict=True)
            ]
            for first in range(0, transfers, BATCH):
                request(url, *calls[first : first + BATCH])
            cpu, wall = cpu_seconds(pid), time.perf_counter()
            request(url, ("evm_mine",))
            wall, cpu = time.perf_counter() - wall, cpu_seconds(pid) - cpu
            held, balance = request(
                url, ("eth_getBlockTransactionCountByNumber", "latest"), ("eth_getBalance", receivers[-1], "latest")
            )
            assert (int(held, 16), int(balance, 16)) == (transfers, 1), (held, balance)
            if number:  # the first one warms up
                figure.wall.append(wall)
                figure.cpu.append(cpu)
    return name.replace(" Version:", ""), figure


@contextmanager
def running_anvil(binary: Path, accounts: int) -> Iterator[tuple[int, str]]:
    """The node, with so many accounts whose keys it has, until the end."""
    port = free_run(1)
    command = [str(binary), "--host=127.0.0.1", f"--port={port}", f"--accounts={accounts}", "--no-mining", "--silent"]
    command += [f"--gas-limit={2 * GAS * max(accounts, 100)}"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            url, give_up = f"http://127.0.0.1:{port}", time.monotonic() + START_SECONDS_MAX
            while True:
                try:
                    request(url, ("eth_chainId",))
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > give_up:
                        raise
                    time.sleep(0.05)
            yield process.pid, url
        finally:
            process.terminate()


def request(url: str, *calls: tuple[Any, ...]) -> list[Any]:
    """The results of calls that all succeed, in their order."""
    batch = [
        {"jsonrpc": "2.0", "id": place, "method": method, "params": params}
        for place, (method, *params) in enumerate(calls)
    ]
    sent = Request(url, json.dumps(batch).encode(), {"content-type": "application/json"})
    with urlopen(sent, timeout=ANSWER_SECONDS_MAX) as response:
        answers = {each["id"]: each for each in json.load(response)}
    for each in answers.values():
        if "error" in each:
            raise RuntimeError(f"{url} refused a call of the benchmark: {each['error']}")
    return [answers[place]["result"] for place in range(len(calls))]


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far, finer than the ticks of /proc, from its clock_getcpuclockid(3)."""
    return time.clock_gettime((~pid << 3) | 2)


# --- py-evm


def evm(python: Path, blocks: int, transfers: int) -> tuple[str, Figure, Figure]:
    """Its name with its version, and what it takes to build and to import a block."""
    done = subprocess.run([python, APP, str(blocks), str(transfers)], stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout)
    built, imported = (Figure(*map(list, zip(*found[name], strict=True))) for name in ("build", "import"))
    return f"py-evm {found['version']}", built, imported


if __name__ == "__main__":
    main()
