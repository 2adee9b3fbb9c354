"""The wallet's commands against a real node: what they print, and one line for whatever is wrong."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from chain import cli_transfer
from chain.cli import main
from chain.primitives import ss58
from chain.primitives.keys import Keypair, Scheme
from chain.rpc.client import Client
from tests.rpc.kit import ALICE, BOB, CHARLIE, POT, served

TO_BOB = ss58.encode(BOB.public)
NEW_ACCOUNT = ss58.encode(Keypair.from_uri("//Nobody").public)

SECONDS_MAX = 60  # a command starts in one; machines that run the tests may be busy

Command = Callable[..., Awaitable[str]]


@pytest.fixture
def potchain(capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs a command, as a shell would, with an event loop of its own; what it prints."""

    async def run(*arguments: str, exit_code: int = 0) -> str:
        with trio.fail_after(20), pytest.raises(SystemExit) as ended:
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


def written(amount: int) -> str:
    """An amount of tokens as the commands show it."""
    whole, part = divmod(amount, POT)
    return f"{whole:,}.{part:012d}".rstrip("0").rstrip(".")


async def test_a_transfer_says_where_it_is_final_and_what_it_cost(tmp_path: Path, potchain: Command) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        printed = await potchain("transfer", "--from", "//Bob", ss58.encode(CHARLIE.public), "1.5", "--node", it.url)
        sending, final, transaction, left = printed.splitlines()
        assert sending.startswith("sending 1.5 POT from ")
        assert final == f"final in block 1 (0x{it.node.ledger.head_hash.hex()})"
        fee = 10_000 * POT - (await client.account(BOB.public)).free - 15 * POT // 10
        assert transaction.endswith(", fee " + f"0.{fee:012d}".rstrip("0") + " POT")
        assert left.startswith("the sender has 9,998.4")


async def test_a_transfer_that_cannot_succeed_is_refused_before_it_costs_a_fee(
    tmp_path: Path, potchain: Command
) -> None:
    mistyped = TO_BOB[:-1] + ("A" if TO_BOB[-1] != "A" else "B")
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        free = (await client.account(ALICE.public)).free
        for key, to, amount, words in [
            (
                "//Alice",
                TO_BOB,
                "10000",
                f"has {written(free)} POT, too little for 10,000 POT, the fee, and the 0.001 POT",
            ),
            ("//Alice", TO_BOB, "1" + "0" * 40, "too little for"),
            ("//Alice", TO_BOB, "0", "expected an amount above 0"),
            ("//Alice", TO_BOB, "many", "expected an amount such as 1.5, got 'many'"),
            ("//Alice", TO_BOB, "-1", "see: potchain transfer --help"),
            ("//Alice", NEW_ACCOUNT, "0.0001", "begins with at least 0.001 POT, got 0.0001 POT"),
            ("//Alice", ss58.encode(ALICE.public), "1", "is the sender's own address"),
            ("//Alice", "bob", "1", "expected an address such as 5Grw"),
            ("//Alice", mistyped, "1", "a character is mistyped"),
            ("//Charlie", TO_BOB, "1", "has 0 POT"),
            ("Alice", TO_BOB, "1", "or give a secret such as //Alice"),
            ("", TO_BOB, "1", "got nothing"),
        ]:
            assert words in await refusal(potchain, "transfer", "--from", key, to, amount, "--node", it.url)
        assert it.node.ledger.head.height == 0
        assert len(it.node.pool) == 0


async def test_a_sender_whose_tokens_are_in_the_secrets_other_account_is_told_so(
    tmp_path: Path, potchain: Command
) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        wallet = Keypair.from_uri("//Dora", Scheme.SR25519)
        await client.transact(ALICE, "balances.transfer_keep_alive", dest=wallet.public, value=5 * POT)
        send = ("transfer", "--from", "//Dora", TO_BOB, "1", "--node", it.url)
        message = await refusal(potchain, *send)
        assert f"sr25519 account {ss58.encode(wallet.public)} has 5 POT: add --scheme sr25519" in message
        assert "final in block 2" in await potchain(*send, "--scheme", "sr25519")


async def test_a_transfer_that_fails_in_its_block_says_why_and_what_that_cost(
    tmp_path: Path, potchain: Command
) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        amount = (await client.account(ALICE.public)).free - 11 * POT // 10_000
        send = ("transfer", "--from", "//Alice", TO_BOB, written(amount).replace(",", ""), "--node", it.url)
        message = await refusal(potchain, *send, exit_code=1)
        assert "failed in block 1 (0x" in message
        assert "balances.Expendability: Transfer/payment would kill account. Only the fee of 0.000" in message


async def test_a_transfer_that_waits_for_its_block_says_so(
    tmp_path: Path, potchain: Command, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli_transfer, "WAIT_SECONDS", 0.05)
    async with served(tmp_path) as it, trio.open_nursery() as nursery:
        it.node.seals_at_once = False

        async def seal_late() -> None:
            told = ""
            while not re.search(r"in no block after \d+ s, with the chain at height 0; waiting …", told):
                await trio.sleep(0.01)
                told += capfd.readouterr().out
            await it.node.seal()

        nursery.start_soon(seal_late)
        assert "final in block 1" in await potchain("transfer", "--from", "//Alice", TO_BOB, "1", "--node", it.url)


async def test_an_address_of_a_node_that_is_none_is_refused_at_once(potchain: Command) -> None:
    for url in ["http://127.0.0.1:9944", "localhost:9944", "ws://127.0.0.1:port", "ws://127.0.0.1:99999", "ws://[::1"]:
        message = await refusal(potchain, "task", "list", "--node", url, exit_code=1)
        assert message == f"error: expected a node address such as ws://127.0.0.1:9944, got {url!r}\n"


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
        assert listed.splitlines()[1].split() == ["0", "digits", "active", "0/3", "0", "POT"]
        for command in (("watch", "7"), ("fetch", "7", "-o", str(tmp_path / "model"))):
            assert "no task 7" in await refusal(potchain, "task", *command, "--node", it.url, exit_code=1)
