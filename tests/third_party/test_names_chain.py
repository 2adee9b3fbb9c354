"""The chain of a third party on a real node: its genesis file names its runtime, and nothing else knows it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import trio
from names_chain.chain import RUNTIME
from names_chain.names import Names
from real_node import SECONDS_MAX, running

from chain.primitives import ss58
from chain.primitives.keys import Keypair
from chain.rpc.client import Client
from runtime.modules.balances import POT

GENESIS = Path(__file__).resolve().parent / "genesis.json"
ALICE, BOB, CHARLIE = (Keypair.from_uri(f"//{name}") for name in ("Alice", "Bob", "Charlie"))


async def test_a_module_of_a_third_party_is_called_on_a_real_validator(tmp_path: Path) -> None:
    with running(GENESIS, tmp_path, "--validator=alice") as url, trio.fail_after(SECONDS_MAX):
        async with Client.reconnecting([url], RUNTIME) as client:
            claimed = await client.transact(BOB, "names.claim", name=b"bob")
            expires_at = claimed.height + 600
            assert claimed.error is None
            assert Names.Claimed(b"bob", BOB.public, expires_at) in claimed.events
            refused = await client.transact(ALICE, "names.claim", name=b"bob")
            assert refused.error == "Names.Taken"
            given = await client.transact(BOB, "names.give", name=b"bob", to=CHARLIE.public)
            assert given.error is None
            assert await client.read(lambda chain: chain.names.owner_of(b"bob")) == CHARLIE.public
            assert await client.read(lambda chain: chain.names.owner_of(b"alice")) == ALICE.public
            assert await client.read(lambda chain: chain.names.term.get()) == 600


async def test_a_node_without_training_offers_no_method_of_it(tmp_path: Path) -> None:
    with running(GENESIS, tmp_path, "--validator=alice") as url, trio.fail_after(SECONDS_MAX):
        async with Client.reconnecting([url], RUNTIME) as client:
            methods = (await client.request("rpc_methods"))["methods"]
            assert "state_getMetadata" in methods
            assert [name for name in methods if name.startswith("training")] == []
            version = await client.request("state_getRuntimeVersion")
            assert (version["specName"], version["specVersion"]) == ("names", 1)
            assert bytes.fromhex((await client.request("state_getMetadata"))[2:]) == RUNTIME.metadata(14)
        for role in ("worker", "aggregator"):
            ended = await potchain(tmp_path, role, "--key=//Bob", f"--node={url}", f"--base-path={tmp_path}")
            assert ended.returncode == 1
            assert ended.stderr.decode().startswith(f"error: the chain of {url} has no training: "), ended


async def test_the_wallets_commands_know_the_chain_by_its_metadata(tmp_path: Path) -> None:
    with running(GENESIS, tmp_path, "--validator=alice") as url, trio.fail_after(SECONDS_MAX):
        async with Client.reconnecting([url], RUNTIME) as client:
            await client.request("system_health")
            node, sign = f"--node={url}", ("--from=//Bob", "--yes", f"--genesis={GENESIS}")
            charlie = ss58.encode(CHARLIE.public)
            before = (await client.account(CHARLIE.public)).free
            sent = await potchain(tmp_path, "tx", "transfer", charlie, "2", *sign, node)
            assert sent.returncode == 0, sent
            assert (await client.account(CHARLIE.public)).free == before + 2 * POT
            claim = ("tx", "call", "names.claim", "--name", "carol", *sign, "--json", node)
            claimed = json.loads((await potchain(tmp_path, *claim)).stdout)
            assert (claimed["error"], claimed["inner"]) == (None, [])
            expires_at = claimed["block"]["height"] + 600
            bob = ss58.encode(BOB.public)
            event = {"name": "0x" + b"carol".hex(), "owner": bob, "expires_at": expires_at}
            assert {"Names.Claimed": event} in claimed["events"]
            taken = await potchain(tmp_path, *claim)
            assert taken.returncode == 1
            assert "Names.Taken: Somebody holds the name." in taken.stderr.decode()
            gave = await potchain(tmp_path, "tx", "call", "names.give", "--name=carol", "--to", charlie, *sign, node)
            assert gave.returncode == 0, gave
            held = await potchain(tmp_path, "query", "names", "holdings", "carol", "--json", node)
            assert json.loads(held.stdout)["value"] == {
                "owner": charlie,
                "expires_at": expires_at,
                "payer": bob,
                "deposit": str(2 * POT),
            }


async def potchain(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end."""
    return await trio.run_process(
        [sys.executable, "-m", "chain", *arguments], cwd=folder, capture_stdout=True, capture_stderr=True, check=False
    )


async def test_one_command_runs_the_whole_chain_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    with running(GENESIS, tmp_path) as url, trio.fail_after(SECONDS_MAX):
        async with Client.reconnecting([url], RUNTIME) as client:
            height = (await client.transact(BOB, "names.claim", name=b"bob")).height
    output = (tmp_path / "output").read_text()
    assert "Names: 1 process on this machine" in output
    assert "1 validator after" in output
    assert "restart" not in output
    with running(GENESIS, tmp_path) as url, trio.fail_after(SECONDS_MAX):
        async with Client.reconnecting([url], RUNTIME) as client:
            assert await client.read(lambda chain: chain.names.owner_of(b"bob")) == BOB.public
            assert (await client.transact(BOB, "names.release", name=b"bob")).height > height
