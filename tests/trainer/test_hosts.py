"""A worker of several hosts: process 0 asks, the others compute, and a slot is computed without any of them."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from chain.primitives.keys import Keypair
from tests.docs.pages import ROOT, commands
from tests.ports import free_port
from tests.scrape import scraped
from tests.trainer.kit import BATCH
from tests.trainer.network import EVE, VALIDATORS, network, one_engine
from trainer import confinement, hosts, wire
from trainer.auditor import attend
from trainer.hosts import Cluster, Forged, opened, sealed
from trainer.node import CannotServe, open_node

SECRET = bytes(range(32))
FORGED = "the tag is of another secret, or of another message: do all hosts have the same file?"


@asynccontextmanager
async def worker(folder: Path, name: str, words: list[str]) -> AsyncIterator[trio.Process]:
    """`potchain worker` as a process, for as long as the block lasts."""
    command = [sys.executable, "-m", "chain", *words, f"--base-path={folder}"]
    with (folder / f"{name}.txt").open("wb") as log:
        process = await trio.lowlevel.open_process(command, stdout=log, stderr=log, cwd=ROOT)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        with trio.move_on_after(10, shield=True):
            await process.wait()


@pytest.mark.slow
async def test_two_processes_are_one_worker_and_losing_one_costs_no_slot(tmp_path: Path) -> None:
    secret, first, second = commands("docs/run-a-worker.md", "Devices")
    await trio.to_thread.run_sync(partial(subprocess.run, secret, shell=True, cwd=tmp_path, check=True))
    port, meeting = free_port(), free_port()

    def words(command: str, url: str) -> list[str]:
        """A command of the page, with what is this test's in place of what is the page's."""
        ours = {"worker.key": "//Eve", "ws://127.0.0.1:9944": url, "hosts.secret": str(tmp_path / "hosts.secret")}
        for theirs, mine in {**ours, "127.0.0.1:9700": f"127.0.0.1:{meeting}"}.items():
            command = command.replace(theirs, mine)
        return command.split()[1:]

    with trio.fail_after(150):
        async with (
            network(tmp_path, rounds=4, choices=(({"slots": 4}, None),)) as chain,
            one_engine(tmp_path) as engines,
            worker(tmp_path, "eve", [*words(first, chain.url), "--devices=1", "--no-plants"]),
            worker(tmp_path, "other", [*words(second, chain.url), "--devices=3", f"--prometheus-port={port}"]) as other,
            trio.open_nursery() as nursery,
        ):

            async def audits(key: Keypair) -> None:
                async with open_node([chain.url], key) as node:
                    await attend(node, engines, tmp_path / key.public.hex(), report=print)

            for keys in VALIDATORS:
                nursery.start_soon(audits, keys.account)
            await chain.until(lambda modules: modules.training.tasks[0].round >= 2)
            found = await trio.to_thread.run_sync(scraped, port)
            other.kill()
            await chain.until(lambda modules: modules.training.tasks[0].round == 4)
            records = chain.modules(lambda modules: dict(modules.training.history.items()))
            nursery.cancel_scope.cancel()
    said = (tmp_path / "eve.txt").read_text()
    assert "1 other host beside this one, with 3 × cpu" in said
    assert "computes on 4 × cpu, up to 4 slots of a round at once" in said
    assert "computes without the other hosts: one of them was lost" in said
    # Of four slots a round, three are computed by the other host.
    assert found["potchain_worker_samples_total", frozenset()] >= 3 * BATCH
    slots = [slot for record in records.values() for slot in record.slots]
    assert {(slot.worker, slot.accepted) for slot in slots} == {(EVE.public, True)}


CONFINED = """
import socket, sys
from pathlib import Path
from trainer import confinement
print(confinement.confine_relay(Path(sys.argv[1])))
socket.create_connection(("127.0.0.1", int(sys.argv[3]))).close()
try:
    Path(sys.argv[2]).read_text()
except PermissionError:
    print("no key")
"""


def test_what_speaks_with_other_hosts_has_a_network_and_reads_no_key(tmp_path: Path) -> None:
    key, folder = tmp_path / "my.key", tmp_path / "relay"
    key.write_text("//Eve")
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        words = [str(folder), str(key), str(server.getsockname()[1])]
        command = [sys.executable, "-c", CONFINED, *words]
        found = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=True).stdout
    if confinement.NO_LANDLOCK in found:
        pytest.skip("this system has no Landlock")
    assert found == "[]\nno key\n"


def test_a_message_is_taken_for_what_it_was_made_for_alone() -> None:
    data = sealed(SECRET, b"asked", {"op": "gradient"})
    assert opened(SECRET, b"asked", data) == {"op": "gradient"}
    for secret, purpose, forged in (
        (bytes(32), b"asked", data),
        (SECRET, b"answered", data),
        (SECRET, b"asked", data[:-1] + b"\0"),
        (SECRET, b"asked", b""),
        (SECRET, b"asked", None),
    ):
        with pytest.raises(Forged):
            opened(secret, purpose, forged)


class Answers:
    """A lane whose other end answers what `answer` makes of the question."""

    def __init__(self, answer: Callable[[dict[str, Any]], bytes]) -> None:
        self.child = SimpleNamespace(ended="")
        self._answer = answer

    async def exchange(self, said: bytes) -> dict[str, Any]:
        asked = wire.parse(said[wire.LENGTH.size :])
        return {"sealed": self._answer(opened(SECRET, b"asked", asked["sealed"]))}


@pytest.mark.parametrize(
    ("secret", "purpose", "taken"),
    [(SECRET, b"answered", True), (bytes(32), b"answered", False), (SECRET, b"answered before", False)],
)
async def test_an_answer_is_taken_from_who_knows_the_secret_to_what_was_asked_just_now(
    secret: bytes, purpose: bytes, taken: bool, tmp_path: Path
) -> None:
    lines: list[str] = []
    others = hosts.Hosts(Cluster("here:1", 2, 0, SECRET), tmp_path, lines.append)
    assert await others.ask({"op": "gradient"}, 1.0) is None  # Nobody is there.
    lane: Any = Answers(lambda message: sealed(secret, purpose + message["nonce"], {"ok": True}))
    others._free = [lane]
    assert await others.ask({"op": "gradient"}, 1.0) == ({"ok": True} if taken else None)
    assert lines == ([] if taken else ["another host's answer is not taken: " + FORGED])
    assert others._free == [lane]  # A whole answer leaves the lane as it was.


@pytest.mark.parametrize(
    ("cluster", "said"),
    [
        (Cluster("nowhere", 2, 0, SECRET), "--coordinator: expected HOST:PORT of process 0, got 'nowhere'"),
        (Cluster("here:70000", 2, 0, SECRET), "--coordinator: expected HOST:PORT"),
        (Cluster("here:1", 1, 0, SECRET), "--processes: expected 2 to 64 hosts, got 1"),
        (Cluster("here:1", 2, 2, SECRET), "--process-id: expected 0 to 1, got 2"),
    ],
)
def test_a_cluster_that_is_none_is_named(cluster: Cluster, said: str) -> None:
    with pytest.raises(CannotServe, match=said):
        hosts.checked(cluster)


def test_a_secret_that_is_none_is_named_with_how_to_make_one(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    with pytest.raises(CannotServe, match=r"cannot read .*: make one with: openssl rand -hex 32"):
        hosts.read_secret(path)
    path.write_text("00" * 31)
    with pytest.raises(CannotServe, match=r"expected 32 bytes in hex .*, got 31"):
        hosts.read_secret(path)
    path.write_text(SECRET.hex() + "\n")
    assert hosts.read_secret(path) == SECRET
