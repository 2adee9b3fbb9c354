"""Kills random processes of a running testnet with SIGKILL, then checks through the RPC that nothing was lost.

    .venv/bin/python scripts/chaos.py [--seconds 120] [--every 5] [--seed 0]

Starts a testnet of its own on ports of its own in a fresh folder. Prints what it killed and what it found; exit code 0
when every check holds. Checks: all nodes agree on every block hash, heights advanced, issuance is the sum of all
balances, each slot was paid at most once, and each worker has what the runtime minted for it and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from chain.primitives.keys import Keypair
from chain.rpc.client import Client
from genesis.spec import load
from runtime.modules.rewards import Rewards

ROOT = Path(__file__).resolve().parent.parent
GENESIS = ROOT / "genesis" / "testnet.json"
RPC_PORT = 19944
PORT = 31333
READY_SECONDS_MAX = 60
SETTLE_SECONDS_MAX = 90
READ_BLOCKS_MAX = 64  # events are read while their state is kept: at most so many blocks in one go


@dataclass(slots=True)
class History:
    """What was read from the chain while it ran, one entry a height."""

    hashes: list[str] = field(default_factory=list)
    paid: Counter[tuple[int, int, int]] = field(default_factory=Counter)
    earned: Counter[bytes] = field(default_factory=Counter)


def main() -> int:
    """Run the whole; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long to kill")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between kills")
    parser.add_argument("--seed", type=int, default=0, help="which processes die is drawn from this")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="potchain-chaos-") as folder:
        testnet = start(Path(folder))
        try:
            failures = trio.run(drill, Path(folder), options.seconds, options.every, random.Random(options.seed))
        finally:
            stopped_after = stop(testnet)
    failures += [] if stopped_after < 5 else [f"Ctrl-C took {stopped_after:.1f} s, expected under 5"]
    print(f"stopped by SIGINT in {stopped_after:.1f} s")
    for failure in failures:
        print(f"FAILED: {failure}")
    print("every check holds" if not failures else f"{len(failures)} checks failed")
    return 1 if failures else 0


def start(folder: Path) -> subprocess.Popen[bytes]:
    """A testnet of its own; its terminal goes to a file in the folder."""
    command = [sys.executable, "-m", "chain", f"--genesis={GENESIS}", f"--base-path={folder / 'data'}"]
    with (folder / "terminal").open("wb") as terminal:
        return subprocess.Popen(
            [*command, f"--rpc-port={RPC_PORT}", f"--port={PORT}"], stdout=terminal, stderr=terminal, cwd=ROOT
        )


def stop(testnet: subprocess.Popen[bytes]) -> float:
    """Press Ctrl-C and wait; returns the seconds that it took."""
    started = time.monotonic()
    testnet.send_signal(signal.SIGINT)
    try:
        testnet.wait(20)
    except subprocess.TimeoutExpired:
        testnet.kill()
        testnet.wait()
    return time.monotonic() - started


async def drill(folder: Path, seconds: float, every: float, rng: random.Random) -> list[str]:
    """Kill for a while, let the network settle, check; returns what is wrong."""
    urls = [f"ws://127.0.0.1:{RPC_PORT + i}" for i in range(4)]
    history = History()
    async with Client.reconnecting(urls) as client:
        with trio.fail_after(READY_SECONDS_MAX):
            await height_of(client)
        deadline = trio.current_time() + seconds
        killed = 0
        while trio.current_time() < deadline:
            await trio.sleep(every)
            name, pid = rng.choice(sorted(processes(folder).items()))
            os.kill(pid, signal.SIGKILL)
            killed += 1
            print(f"{seconds - (deadline - trio.current_time()):6.0f} s  height {len(history.hashes):4}  killed {name}")
            await read_on(client, history)
        before = await height_of(client)
        print(f"killed {killed} processes; the chain is at height {before}")
    return await check(urls, history, before)


def processes(folder: Path) -> dict[str, int]:
    """The launcher's children by name."""
    found: dict[str, int] = json.loads((folder / "data" / "processes.json").read_text())
    return found


async def height_of(client: Client) -> int:
    """The height of the node's newest sealed block."""
    head = await client.request("chain_getHeader")
    return int(head["number"], 16)


async def read_on(client: Client, history: History) -> None:
    """Note the hash and the payments of every block that is new."""
    best = await height_of(client)
    for height in range(len(history.hashes), min(best + 1, len(history.hashes) + READ_BLOCKS_MAX)):
        block_hash = await client.request("chain_getBlockHash", height)
        history.hashes.append(block_hash)
        for record in await client.read(lambda chain: chain.system.events.get(), at=block_hash):
            if isinstance(record.event, Rewards.SlotPaid):
                paid = record.event
                history.paid[paid.task, paid.round, paid.slot] += 1
                history.earned[paid.worker] += paid.amount


async def check(urls: Sequence[str], history: History, before: int) -> list[str]:
    """Wait until every node has gone on by ten blocks, then compare."""
    failures: list[str] = []
    with trio.move_on_after(SETTLE_SECONDS_MAX) as scope:
        for url in urls:
            async with Client.reconnecting([url]) as client:
                while await height_of(client) < before + 10:
                    await trio.sleep(0.5)
    if scope.cancelled_caught:
        return [f"a node was not at height {before + 10} after {SETTLE_SECONDS_MAX} s"]
    async with Client.connect(urls[0]) as client:
        while len(history.hashes) < before + 10:
            await read_on(client, history)
        failures += await check_state(client, history)
    for url in urls:
        async with Client.connect(url) as client:
            asked = list(range(len(history.hashes)))
            found: list[Any] = await client.request("chain_getBlockHash", asked)
            wrong = [height for height in asked if found[height] != history.hashes[height]]
            print(f"{url}: {len(asked)} block hashes, {len(wrong)} different")
            failures += [f"{url} has another block at height {height}" for height in wrong[:3]]
    return failures


async def check_state(client: Client, history: History) -> list[str]:
    """Money: nothing made or lost, and workers paid by minting alone."""
    failures = []
    at = history.hashes[-1]
    issuance = await client.read(lambda chain: chain.balances.total_issuance.get(), at=at)
    accounts = await client.read(lambda chain: list(chain.system.account.items()), at=at)
    balances = sum(info.data.free + info.data.reserved for _, info in accounts)
    print(f"issuance {issuance}, sum of {len(accounts)} balances {balances}")
    if issuance != balances:
        failures.append(f"issuance is {issuance}, the balances sum to {balances}")
    twice = {slot: times for slot, times in history.paid.items() if times > 1}
    print(f"{len(history.paid)} slots paid, {len(twice)} of them more than once")
    failures += [f"(task, round, slot) {slot} was paid {times} times" for slot, times in twice.items()]
    if not history.paid:
        failures.append("no slot was paid")
    spec = load(GENESIS)
    assert spec.development is not None
    workers = await client.read(lambda chain: dict(chain.training.workers.items()), at=at)
    held = {account: info.data.free + info.data.reserved for account, info in accounts}
    for key in spec.development.workers:
        account = Keypair.from_uri(key.uri).public
        worker = workers.get(account)
        earned = history.earned[account]
        print(f"{key.name} holds {held[account]}, of which {earned} was minted in {len(history.hashes)} blocks")
        if worker is None or worker.earned != earned:
            failures.append(f"{key.name}: the chain says {worker and worker.earned} earned, its events say {earned}")
    return failures


if __name__ == "__main__":
    sys.exit(main())
