"""What a worker does that was caught, and a cheat among real processes; `tests/attacks/` has every way to cheat."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from chain.rpc.client import Client
from tests.ports import free_ports
from tests.test_testnet import TESTNET, launch
from tests.trainer.cheats import Cheat
from tests.trainer.network import EVE, FERDIE, POT, Lines, audit_and_aggregate, network, reporter
from trainer.node import RpcNode
from trainer.sandbox import open_engines
from trainer.worker import run_worker, work

pytestmark = pytest.mark.slow

# Every second round at most is one that a cheat is judged in.
PATIENCE_SECONDS = 480
BOND = 100 * POT
SLASHED = 60 * POT


async def until(client: Client, condition: Callable[[Any], bool]) -> None:
    """Wait, block by block, until the modules at the head are so."""
    async with client.finalized_heads() as heads:
        async for _ in heads:
            if await client.read(condition):
                return


async def test_a_worker_that_was_slashed_does_not_bond_again_by_itself(tmp_path: Path) -> None:
    lines: Lines = []
    with trio.fail_after(PATIENCE_SECONDS):
        async with network(tmp_path / "node", rounds=1000) as chain, trio.open_nursery() as nursery:
            await audit_and_aggregate(nursery, chain, tmp_path, lines)
            run = partial(run_worker, [chain.url], EVE, tmp_path / "eve", report=reporter(lines, "eve"))
            nursery.start_soon(run)
            await chain.until(lambda modules: modules.training.tasks[0].round > 0)
            async with open_engines(tmp_path / "ferdie") as engines, Client.reconnecting([chain.url]) as client:
                servant = partial(Cheat, kinds=["scaled"], tried={})
                report = reporter(lines, "ferdie")
                node = RpcNode(client, FERDIE)
                ferdie = partial(work, node, engines, tmp_path / "ferdie", report=report, capacity=1, servant=servant)
                nursery.start_soon(ferdie)
                await chain.until(lambda modules: modules.training.workers[FERDIE.public].rejected)
                at = chain.modules(lambda modules: modules.training.tasks[0].round)
                await chain.until(lambda modules: modules.training.tasks[0].round >= at + 3)
                assert await node.worker_capacity() == 0
                nursery.cancel_scope.cancel()
    assert sum("no longer registered" in line for line in map(str, lines)) == 1


async def test_a_network_of_real_processes_finds_a_cheating_worker(tmp_path: Path) -> None:
    genesis = json.loads(TESTNET.read_text())
    genesis["blobs"] = str(TESTNET.parent / genesis["blobs"])
    genesis["development"]["workers"] = [{"name": "eve", "key": "//Eve"}]
    # Of every slot, so that each cheat is found at once.
    genesis["genesis"]["training"]["tasks"][0]["policy"]["auditedPpm"] = 1_000_000
    file = tmp_path / "genesis.json"
    file.write_text(json.dumps(genesis))
    base = tmp_path / "data"
    base.mkdir()
    port = free_ports(8)
    url = f"ws://127.0.0.1:{port}"
    launcher = launch(base, port, port + 4, genesis=file)
    words = ["-m", "tests.trainer.cheats", f"--node={url}", "--key=//Ferdie", f"--folder={tmp_path / 'ferdie'}"]
    cheater: subprocess.Popen[bytes] | None = None
    try:
        with trio.fail_after(PATIENCE_SECONDS):
            async with Client.reconnecting([url]) as client:
                # The cheat comes when an honest worker is there, so that each of its slashes is for another round.
                await until(client, lambda chain: chain.training.workers[EVE.public].active)
                cheater = subprocess.Popen([sys.executable, *words, "scaled", "stale"])
                funds = await client.account(FERDIE.public)

                def lost(chain: Any) -> int:
                    earned: int = chain.training.workers[FERDIE.public].earned
                    left: int = chain.balances.total(FERDIE.public)
                    return funds.free + funds.reserved + earned - left

                await until(client, lambda chain: lost(chain) >= 2 * SLASHED)
                accepted = (await client.read(lambda chain: chain.training.workers[EVE.public])).accepted
                await until(client, lambda chain: chain.training.workers[EVE.public].accepted > accepted)
                honest = await client.read(lambda chain: chain.training.workers[EVE.public])
                cheat_rejected = await client.read(lambda chain: chain.training.workers[FERDIE.public].rejected)
                fees = await client.read(
                    lambda chain: lost(chain) - SLASHED * chain.training.workers[FERDIE.public].rejected
                )
    finally:
        if cheater is not None:
            cheater.kill()
            cheater.wait()
        launcher.send_signal(signal.SIGINT)
        assert launcher.wait(60) == 0

    assert cheat_rejected >= 2
    assert honest.rejected == 0
    assert honest.bond == 4 * BOND
    assert honest.earned > 0
    assert 0 < fees < POT // 10
