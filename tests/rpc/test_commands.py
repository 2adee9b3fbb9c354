"""The wallet's commands against a real node: what they print, and one line for whatever is wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from chain.cli import main
from chain.rpc.client import Client
from tests.rpc.kit import served

SECONDS_MAX = 180  # a command starts in one; machines that run the tests may be busy

Command = Callable[..., Awaitable[str]]


@pytest.fixture
def potchain(capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs a command, as a shell would, with an event loop of its own; what it prints."""

    async def run(*arguments: str, exit_code: int = 0) -> str:
        with trio.fail_after(60), pytest.raises(SystemExit) as ended:
            await trio.to_thread.run_sync(main, list(arguments))
        assert (ended.value.code or 0) == exit_code
        printed = capfd.readouterr()
        assert not (exit_code == 0 and printed.err)
        return printed.err if exit_code else printed.out

    return run


async def refusal(potchain: Command, *arguments: str, exit_code: int = 2) -> str:
    """What a command says when it refuses: one line on standard error that begins with `error: `."""
    message = await potchain(*arguments, exit_code=exit_code)
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    return message


async def test_an_address_of_a_node_that_is_none_is_refused_at_once(potchain: Command) -> None:
    for url in ["http://127.0.0.1:9944", "localhost:9944", "ws://127.0.0.1:port", "ws://127.0.0.1:99999", "ws://[::1"]:
        message = await refusal(potchain, "task", "list", "--node", url)
        assert message == f"error: --node: expected a node address such as ws://127.0.0.1:9944, got {url!r}\n"


async def test_a_watch_goes_on_until_it_is_ended(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        command = [sys.executable, "-m", "chain", "task", "watch", "0", "--node", it.url]
        async with trio.open_nursery() as nursery:  # Whose end kills the process, if it still runs.
            start = partial(trio.run_process, command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            with trio.fail_after(SECONDS_MAX):
                watch: trio.Process = await nursery.start(start)
                assert watch.stdout is not None
                assert watch.stderr is not None
                assert b"digits: 0 of 3 rounds are final; Ctrl-C ends the watch" in await watch.stdout.receive_some()
                watch.send_signal(signal.SIGINT)
                assert await watch.stderr.receive_some() == b""
                assert await watch.wait() == 0


async def test_tasks_are_listed_and_an_unknown_one_is_named(tmp_path: Path, potchain: Command) -> None:
    async with served(tmp_path) as it:
        listed = await potchain("task", "list", "--node", it.url)
        async with Client.connect(it.url) as client:
            (short,) = await client.request("training_tasks")
        texts = {name: str(short[name]) for name in ("pricePerSlot", "escrow", "minted")}
        assert json.loads(await potchain("task", "list", "--json", "--node", it.url)) == [{**short, **texts}]
        assert listed.splitlines()[1].split() == ["0", "digits", "active", "0/3", "0", "POT"]
        for command in (("watch", "7"), ("fetch", "7", "-o", str(tmp_path / "model"))):
            assert "no task 7" in await refusal(potchain, "task", *command, "--node", it.url, exit_code=1)
