"""A node that lies about its chain to a wallet: whatever it says, nothing else is signed than is shown."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from chain.light.checkpoint import Checkpoint
from chain.primitives import ss58
from chain.rpc.client import Client, ClientError
from chain.rpc.errors import OtherChain
from chain.wallet.known import Known
from genesis.spec import load
from runtime.potchain import RUNTIME
from tests.chain.test_cli import TESTNET
from tests.docs.pages import ROOT
from tests.rpc.kit import ALICE, BOB, POT, served
from tests.wallet.conftest import Command
from trainer.node import CannotServe, open_node

BOBS = "//Bob"
BOB_ADDRESS = ss58.encode(BOB.public)
SEND = ("tx", "transfer", "//Charlie", "1.5", "--from", BOBS, "--yes")
KEEP = ("task", "keep", "0", "--key", BOBS, "--days", "1", "--yes")
BOND = ("validator", "bond", "1000", "--key", BOBS)
# Whatever signs: each is told by `--genesis` for which chain.
SIGNING = (
    BOND,
    KEEP,
    ("validator", "unbond", "1", "--key", BOBS),
    *(("validator", name, "--key", BOBS) for name in ("set-keys", "validate", "chill", "withdraw")),
    ("task", "cancel", "0", "--key", BOBS),
    ("task", "new", "docs/examples/spirals.py", "--key", BOBS, "--yes"),
    ("task", "admit", "0", BOB_ADDRESS, "--samples", "1", "--key", BOBS),
    ("task", "expel", "0", BOB_ADDRESS, "--key", BOBS),
)
Answer = Callable[[Any], Any]


@pytest.fixture
def lie(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Answer], None]:
    """Changes what every client of this process is answered to a method."""
    lies: dict[str, Answer] = {}
    ask = Client.request

    async def request(self: Client, method: str, *arguments: Any, **options: Any) -> Any:
        answer = await ask(self, method, *arguments, **options)
        return lies.get(method, lambda found: found)(answer)

    monkeypatch.setattr(Client, "request", request)
    return lies.__setitem__


def swapped(metadata: str) -> str:
    """Metadata in which one call of Balances goes by the name of another, as long as its own."""
    burn, upper = b"burn".hex(), b"BURN".hex()
    assert burn in metadata
    return metadata.replace(burn, upper)


def of_other_decimals(properties: dict[str, Any]) -> dict[str, Any]:
    return {**properties, "tokenDecimals": 15}


def of_another_symbol(properties: dict[str, Any]) -> dict[str, Any]:
    return {**of_other_decimals(properties), "tokenSymbol": "Pot"}


def of_another_name(version: dict[str, Any]) -> dict[str, Any]:
    return {**version, "specName": "elsewhere"}


def called(name: str, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**task, "name": name} for task in tasks]


async def test_a_call_is_not_signed_by_a_description_that_is_not_the_installed_runtimes(
    tmp_path: Path, potchain: Command, lie: Callable[[str, Answer], None]
) -> None:
    async with served(tmp_path) as it:
        lie("state_call", swapped)
        said = await potchain(*SEND, "--node", it.url, exit_code=1)
        assert said == (
            f"error: {it.url} describes the runtime potchain {RUNTIME.spec_version} otherwise than it is installed "
            "here: it would have another call signed than is shown, or a runtime was changed without a new version. "
            "Ask another node; nothing was sent\n"
        )
        assert (it.node.ledger.head.height, len(it.node.pool)) == (0, 0)


@pytest.mark.parametrize("command", [SEND, KEEP], ids=["transfer", "keep"])
async def test_a_token_is_not_a_thousand_tokens_because_a_node_says_so(
    tmp_path: Path, potchain: Command, lie: Callable[[str, Answer], None], command: tuple[str, ...]
) -> None:
    async with served(tmp_path) as it:
        lie("system_properties", of_other_decimals)
        lie("state_getRuntimeVersion", of_another_name)
        said = await potchain(*command, "--node", it.url, exit_code=1)
        assert "a POT with 15 decimals, while it has 12: every amount would be another than is shown\n" in said
        assert (it.node.ledger.head.height, len(it.node.pool)) == (0, 0)


@pytest.mark.parametrize("command", [SEND, KEEP, BOND], ids=["transfer", "keep", "bond"])
async def test_the_token_of_the_installed_runtime_has_its_decimals_under_any_name(
    tmp_path: Path, potchain: Command, lie: Callable[[str, Answer], None], command: tuple[str, ...]
) -> None:
    async with served(tmp_path) as it:
        lie("system_properties", of_another_symbol)
        said = await potchain(*command, "--node", it.url, exit_code=1)
        assert said == (
            f"error: {it.url} says that a token has 15 decimals, and by what is known here it has 12: every amount "
            "would be another than is shown. Ask another node, or give the chain's --genesis FILE if its token is "
            "another; nothing was sent\n"
        )
        assert (it.node.ledger.head.height, len(it.node.pool)) == (0, 0)


async def test_nothing_is_signed_by_a_description_that_nothing_confirms_unless_it_is_trusted(
    tmp_path: Path, potchain: Command, lie: Callable[[str, Answer], None]
) -> None:
    async with served(tmp_path) as it:
        lie("state_getRuntimeVersion", of_another_name)
        said = await potchain(*SEND, "--node", it.url, exit_code=1)
        assert said == (
            f"error: {it.url} runs elsewhere {RUNTIME.spec_version}, of which nothing is known here (the runtime "
            f"installed here is potchain {RUNTIME.spec_version}), so it alone says what would be signed: give "
            "--genesis FILE of a chain with a runtime of its own, or --trust-node to believe what this node "
            "says of calls and amounts. Nothing was sent\n"
        )
        assert (it.node.ledger.head.height, len(it.node.pool)) == (0, 0)
        told = await potchain(*SEND, "--trust-node", "--node", it.url)
        assert f"warning: decoded by what {it.url} says of its chain, which nothing here confirms\n" in told


async def test_a_program_signs_nothing_for_a_runtime_that_it_does_not_know(
    tmp_path: Path, lie: Callable[[str, Answer], None]
) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        lie("state_getRuntimeVersion", of_another_name)
        with pytest.raises(ClientError) as raised:
            await client.transact(ALICE, "balances.transfer_keep_alive", dest=BOB.public, value=POT)
        version = RUNTIME.spec_version, RUNTIME.transaction_version
        assert str(raised.value) == (
            f"the node runs {('elsewhere', *version)}, this program knows {('potchain', *version)}: give the chain's "
            "--genesis FILE. Nothing was sent"
        )
        assert (it.node.ledger.head.height, len(it.node.pool)) == (0, 0)


async def test_a_transaction_is_for_the_chain_that_is_meant_or_for_none(tmp_path: Path, potchain: Command) -> None:
    async with served(tmp_path) as it:
        url, its = it.url, f"0x{it.node.ledger.genesis_hash.hex()}"
        meant = f"0x{Checkpoint.of(load(TESTNET)).genesis_hash.hex()}"
        refusal = (
            f"error: {url} is a node of the chain with genesis {its}, and {meant} is meant: ask a node of that chain. "
            "Nothing was sent\n"
        )
        assert await potchain(*SEND, "--genesis", str(TESTNET), "--node", url, exit_code=1) == refusal
        assert await potchain(*SEND, "--trust-node", "--genesis", meant, "--node", url, exit_code=1) == refusal
        assert await potchain("--genesis", str(TESTNET), *SEND, "--node", url, exit_code=1) == refusal
        settings = tmp_path / "config.toml"
        settings.write_text(f'genesis = "{TESTNET}"\n')
        assert await potchain("--config", str(settings), *SEND, "--node", url, exit_code=1) == refusal
        said = await potchain(*SEND, "--genesis", "0x12", "--node", url, exit_code=2)
        assert said == "error: --genesis: expected a file, or 0x and 64 hex digits, got '0x12'\n"
        assert (it.node.ledger.head.height, len(it.node.pool)) == (0, 0)
        assert "final in block 1" in await potchain(*SEND, "--genesis", its, "--node", url)


@pytest.mark.parametrize("command", SIGNING, ids=[" ".join(each[:2]) for each in SIGNING])
async def test_no_command_signs_for_another_chain_than_is_meant(
    tmp_path: Path, potchain: Command, command: tuple[str, ...]
) -> None:
    async with served(tmp_path) as it:
        said = await potchain(*command, "--genesis", str(TESTNET), "--node", it.url, exit_code=1)
        assert said.startswith(f"error: {it.url} is a node of the chain with genesis 0x")
        assert said.endswith(": ask a node of that chain. Nothing was sent\n")
        assert (it.node.ledger.head.height, len(it.node.pool)) == (0, 0)


@pytest.mark.parametrize("command", [KEEP, ("task", "cancel", "0", "--key", BOBS)], ids=["keep", "cancel"])
async def test_a_chain_without_the_module_of_a_call_is_named(potchain: Command, command: tuple[str, ...]) -> None:
    own = str(ROOT / "tests" / "third_party" / "genesis.json")
    said = await potchain(*command, "--genesis", own, exit_code=2)
    assert said == f"error: the chain's runtime, that of {own}, lacks the module Training: nothing was sent\n"


async def test_nobody_works_on_another_chain_than_is_meant(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        meant = f"is a node of the chain with genesis 0x{it.node.ledger.genesis_hash.hex()}, and 0x"
        with pytest.raises(CannotServe, match=meant):
            async with open_node([it.url], BOB, Known.of(str(TESTNET))):
                pass
        words = ("--key", BOBS, "--base-path", str(tmp_path), "--genesis", str(TESTNET), "--node", it.url)
        command = [sys.executable, "-m", "chain", "aggregator", *words]
        with trio.fail_after(60):
            done = await trio.run_process(command, cwd=ROOT, capture_stdout=True, capture_stderr=True, check=False)
        assert (done.returncode, meant in done.stderr.decode()) == (1, True)
        assert (it.node.ledger.head.height, len(it.node.pool)) == (0, 0)


async def test_a_client_signs_for_the_chain_that_it_is_told_alone(
    tmp_path: Path, lie: Callable[[str, Answer], None]
) -> None:
    """A node that says once which chain it has, and then another."""
    async with served(tmp_path) as it, Client.connect(it.url, genesis_hash=it.node.ledger.genesis_hash) as client:
        lie("chain_getBlockHash", lambda _: f"0x{bytes(32).hex()}")
        with pytest.raises(OtherChain):
            await client.transact(ALICE, "balances.transfer_keep_alive", dest=BOB.public, value=POT)
        assert (it.node.ledger.head.height, len(it.node.pool)) == (0, 0)


async def test_what_a_node_answers_commands_no_terminal(
    tmp_path: Path, potchain: Command, lie: Callable[[str, Answer], None]
) -> None:
    async with served(tmp_path) as it:
        lie("chain_getBlockHash", lambda _: "0x\x1b[2Jzz\u202e\u009b31m")
        said = await potchain("account", "//Bob", "--node", it.url, exit_code=1)
        assert not set("\x1b\u202e\u009b").intersection(said)
        assert said.count("\n") == 1


async def test_tasks_are_listed_whatever_somebody_has_called_one(
    tmp_path: Path, potchain: Command, lie: Callable[[str, Answer], None]
) -> None:
    async with served(tmp_path) as it:
        for name, shown in (("[/]", "[/]"), ("[red]a[/red]", "[red]a[/red]"), ("\x1b[31m\u202eb", "?[31m?b")):
            lie("training_tasks", partial(called, name))
            listed = await potchain("task", "list", "--node", it.url)
            assert listed.splitlines()[1].split()[:3] == ["0", shown, "active"]
