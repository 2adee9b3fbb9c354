"""docs/run-a-worker.md, followed to the letter on a real chain: from no key to earning.

The commands for several hosts are followed in tests/trainer/test_hosts.py.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from chain.primitives import ss58
from chain.primitives.keys import Keypair
from tests.docs.pages import ROOT, commands
from tests.ports import free_port
from tests.scrape import scraped
from tests.trainer.network import VALIDATORS, network, one_engine
from trainer import measured, relay, sandbox
from trainer.auditor import attend
from trainer.node import open_node

PAGE = (ROOT / "docs" / "run-a-worker.md").read_text()


@asynccontextmanager
async def running(command: str, folder: Path, name: str) -> AsyncIterator[Path]:
    """A command of the page as a process of its own, for as long as the block lasts; the file of what it says."""
    program, *words = command.split()
    assert program == ".venv/bin/potchain"
    said = folder / f"{name}.txt"
    with said.open("wb") as log:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "chain", *words, f"--base-path={folder}"],
            stdout=log,
            stderr=log,
            cwd=folder,
            env={"PYTHONPATH": str(ROOT), "HOME": str(folder)},
        )
    try:
        yield said
    finally:
        process.send_signal(signal.SIGINT)
        with trio.move_on_after(10, shield=True):
            await process.wait()


@pytest.mark.slow
async def test_the_page_leads_from_no_key_to_a_worker_that_earns(tmp_path: Path) -> None:
    new, transfer, alone = commands("docs/run-a-worker.md", "A key, a bond, a node")
    metrics, password = free_port(), tmp_path / "password"
    password.touch(0o600)
    password.write_text("correct horse\n")  # What people type.
    assert "--prometheus-port 9700" in alone

    def here(command: str, url: str) -> str:
        # Bob of this chain is a validator; its other rich account is Charlie's.
        for there, ours in {"ws://127.0.0.1:9944": url, "9700": str(metrics), "//Bob": "//Charlie"}.items():
            command = command.replace(there, ours)
        return command + (f" --password-filename {password}" if ".key" in command else "")

    async def potchain(command: str) -> str:
        words = [sys.executable, "-m", "chain", *command.split()[1:]]
        run = partial(subprocess.run, words, capture_output=True, text=True, cwd=tmp_path, check=False)
        done = await trio.to_thread.run_sync(partial(run, env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}))
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    with trio.fail_after(300):
        async with (
            network(tmp_path, rounds=20) as chain,
            one_engine(tmp_path) as engines,
            trio.open_nursery() as nursery,
        ):

            async def audits(key: Keypair) -> None:
                async with open_node([chain.url], key) as node:
                    await attend(node, engines, tmp_path / key.public.hex(), report=print)

            for keys in VALIDATORS:
                nursery.start_soon(audits, keys.account)
            (address,) = re.findall(r"ed25519 +address (\S+)", await potchain(here(new, chain.url)))
            await potchain(here(transfer, chain.url).replace("ADDRESS", address) + f" --node {chain.url}")
            account = ss58.decode(address, None)

            def earned(modules: object) -> int:
                return int(modules.training.workers[account].earned)  # type: ignore[attr-defined]

            async with running(here(alone, chain.url), tmp_path, "alone") as said:
                before = await chain.until(earned)
                while not re.search(r"earned \S+ POT \(\+.*; waits for ", said.read_text()):
                    await trio.sleep(0.05)
                found = await trio.to_thread.run_sync(scraped, metrics)
            assert found["potchain_worker_earned_planck", frozenset()] >= before
            nursery.cancel_scope.cancel()


def test_the_pages_table_says_how_long_each_wait_is() -> None:
    deadlines = sandbox.Deadlines()
    for row in (
        f"| an answer of a node | 30 s, {measured.ASK_SECONDS:g} s for several |",
        f"| a transaction to be final | 240 s, {measured.TRANSACT_SECONDS:g} s with all that is asked for it |",
        f"| the next block | {measured.HEAD_SECONDS:g} s |",
        f"| a program to be compiled | {deadlines.load:g} s |",
        f"| a batch to be computed | {deadlines.run:g} s, for local steps each; four hours a slot |",
        f"| the other hosts to come, or to answer | {relay.JOIN_SECONDS} s, {relay.HEARTBEAT_SECONDS} s of silence |",
    ):
        assert row in PAGE
    assert deadlines.slot == 4 * 3600
