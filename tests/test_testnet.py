"""The whole testnet as its users meet it: real processes, sockets, disks, JAX and keys; one start for all tests."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio
from safetensors.numpy import load_file
from substrateinterface import Keypair as SubstrateKeypair
from substrateinterface import SubstrateInterface

from chain.primitives import ss58
from chain.primitives.blob import blob_root
from chain.primitives.keys import Keypair, Scheme
from chain.primitives.types import Id, sign_extrinsic
from chain.rpc.client import Client, RpcError
from runtime.modules.training_sizes import RETAINED_ROUNDS
from runtime.potchain import RUNTIME
from tests.clients.kit import finished, started
from tests.dashboard.conftest import HERE as DASHBOARD
from tests.dashboard.conftest import browser, shots
from tests.dashboard.test_browser import STORY_SECONDS_MAX
from tests.docs.pages import blocks
from tests.ports import free_ports

__all__ = ["browser", "shots"]  # fixtures

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
TESTNET = ROOT / "genesis" / "testnet.json"
POT = 10**12
ALICE = Keypair.from_uri("//Alice")
BOB = Keypair.from_uri("//Bob")
# Alice's in the scheme of wallets: no process of the network signs with it, and so nobody else takes its nonces.
WALLET = Keypair.from_uri("//Alice", Scheme.SR25519)
ADDRESS = ss58.encode(ALICE.public)
STOP_SECONDS_MAX = 20.0  # it takes one; what has not stopped after four is killed


@dataclass
class Network:
    """A launcher and where its nodes are; `launcher` is replaced when a test starts it again."""

    base: Path
    rpc_port: int
    port: int
    launcher: subprocess.Popen[bytes]

    def url(self, node: int) -> str:
        return f"ws://127.0.0.1:{self.rpc_port + node}"

    @property
    def pids(self) -> dict[str, int]:
        found: dict[str, int] = json.loads((self.base / "processes.json").read_text())
        return found

    def kept(self, name: str) -> set[str]:
        """The blobs that a node keeps since its chain names them."""
        return {path.name for path in (self.base / name / "blobs").glob("*/*") if path.parent.name != "incoming"}

    def stop(self) -> float:
        """Press Ctrl-C; returns the seconds until everything has ended."""
        started = time.monotonic()
        self.launcher.send_signal(signal.SIGINT)
        assert self.launcher.wait(60) == 0
        return time.monotonic() - started


def launch(base: Path, rpc_port: int, port: int, genesis: Path = TESTNET) -> subprocess.Popen[bytes]:
    ports = (f"--rpc-port={rpc_port}", f"--port={port}", "--no-prometheus")
    with (base / "terminal").open("ab") as terminal:
        return subprocess.Popen(
            [sys.executable, "-m", "chain", f"--genesis={genesis}", f"--base-path={base}", *ports],
            stdout=terminal,
            stderr=terminal,
            cwd=ROOT,
        )


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    base = tmp_path_factory.mktemp("testnet")
    first = free_ports(8)
    net = Network(base, first, first + 4, launch(base, first, first + 4))
    yield net
    if net.launcher.poll() is None:
        net.stop()


async def task(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = await client.request("training_task", 0)
    return found


async def until_round(client: Client, round: int) -> dict[str, Any]:
    """The task once so many of its rounds are final."""
    with trio.fail_after(240):
        async with client.finalized_heads() as heads:
            async for _ in heads:
                found = await task(client)
                if found["round"] >= round:
                    return found
    raise AssertionError("heads never end")


async def until_height(client: Client, height: int) -> None:
    with trio.fail_after(240):
        async with client.finalized_heads() as heads:
            async for head in heads:
                if int(head["number"], 16) >= height:
                    return


async def height_of(client: Client) -> int:
    return int((await client.request("chain_getHeader"))["number"], 16)


async def agree(network: Network) -> None:
    """Every node has the same hash at every height that all of them have."""
    chains = []
    for node in range(4):
        async with Client.connect(network.url(node)) as client:
            heights = list(range(await height_of(client) + 1))
            chains.append(await client.request("chain_getBlockHash", heights))
    for hashes in zip(*chains, strict=False):
        assert len(set(hashes)) == 1


async def test_a_model_trains_and_its_workers_are_paid_by_minting_alone(network: Network) -> None:
    async with Client.reconnecting([network.url(0)]) as client:
        found = await until_round(client, 3)
        assert found["loss"][2][1] < found["loss"][0][1]
        assert found["accuracy"][2][1] > 0.6
        head = await client.request("chain_getFinalizedHead")
        issuance, accounts, workers, shares, minted = await client.read(
            lambda chain: (
                chain.balances.total_issuance.get(),
                list(chain.system.account.items()),
                dict(chain.training.workers.items()),
                dict(chain.rewards.earned_by_checking.items()),
                chain.rewards.minted.get(),
            ),
            at=head,
        )
        assert issuance == sum(info.data.free + info.data.reserved for _, info in accounts)
        assert sum(worker.earned for worker in workers.values()) + sum(shares.values()) == minted
        record = await client.request("training_round", 0, 0)
        assert [slot["accepted"] for slot in record["slots"]] == [True] * 4
        assert record["minted"] > 0


@pytest.mark.usefixtures("browser")
async def test_every_page_of_the_dashboard_shows_the_testnet(network: Network, shots: Path) -> None:
    async with Client.reconnecting([network.url(0)]) as client:
        await until_round(client, 3)
    with started(
        DASHBOARD / "testnet.mjs", network.url(0).replace("ws", "http", 1) + "/", str(shots), ADDRESS
    ) as script:
        told = await trio.to_thread.run_sync(finished, script, STORY_SECONDS_MAX)
    assert (told["wrong"], told["flaws"]) == ([], {})
    assert told["hosts"] == [f"127.0.0.1:{network.rpc_port}"]
    assert [row["Verdict"] for row in told["slots"]] == ["✓ accepted"] * 4
    assert told["agreement"].startswith("✓ the chain minted 8 POT, as its record")
    assert len(told["validators"]) == 4
    assert [row["State"] for row in told["workers"]] == ["✓ active"] * 2
    pictures = {picture.stem for picture in shots.glob("*.png")}
    assert len(pictures) == 48
    assert {"chain-light", "task-dark", "round-light-phone", "validators-dark-phone"} <= pictures


async def test_a_transfer_from_the_command_line_is_final_in_seconds(network: Network) -> None:
    grace = Keypair.from_uri("//Grace", Scheme.SR25519)
    async with Client.reconnecting([network.url(1)]) as client:
        await until_height(client, 1)
        command = [sys.executable, "-m", "chain", "tx", "transfer", ss58.encode(grace.public), "1.5"]
        command += ["--from", "//Alice", "--yes", "--node", network.url(1)]
        done = await trio.run_process(command, capture_stdout=True, cwd=ROOT)
        assert b"final in block" in done.stdout
        assert (await client.account(grace.public)).free == 15 * POT // 10


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
async def test_a_wallet_library_sends_a_transfer_and_pays_the_fee_that_it_was_quoted(network: Network) -> None:
    async with Client.reconnecting([network.url(2)]) as client:
        await until_height(client, 1)

    def script() -> None:
        ferdie = SubstrateKeypair.create_from_uri("//Ferdie")  # the sr25519 account, which serves no worker
        heidi = SubstrateKeypair.create_from_uri("//Heidi")
        with SubstrateInterface(url=network.url(2)) as node:

            def transfer(value: int) -> Any:
                return node.compose_call(
                    "Balances", "transfer_keep_alive", {"dest": heidi.ss58_address, "value": value}
                )

            def free(key: SubstrateKeypair) -> int:
                found: int = node.query("System", "Account", [key.ss58_address]).value["data"]["free"]
                return found

            before = free(ferdie)
            quoted = node.get_payment_info(transfer(2 * POT), ferdie)["partialFee"]
            extrinsic = node.create_signed_extrinsic(transfer(2 * POT), ferdie)
            receipt = node.submit_extrinsic(extrinsic, wait_for_finalization=True)
            assert receipt.is_success
            assert [event.value["event_id"] for event in receipt.triggered_events][-3:] == [
                *("Transfer", "TransactionFeePaid", "ExtrinsicSuccess")
            ]
            assert before - free(ferdie) - 2 * POT == receipt.total_fee_amount == quoted
            assert free(heidi) == 2 * POT
            mortal = node.create_signed_extrinsic(transfer(10**30), ferdie, era={"period": 64})
            failed = node.submit_extrinsic(mortal, wait_for_inclusion=True)
            assert failed.error_message["name"] == "InsufficientBalance"

    await trio.to_thread.run_sync(script)


async def test_the_model_is_fetched_and_is_the_one_on_chain(network: Network, tmp_path: Path) -> None:
    async with Client.reconnecting([network.url(2)]) as client:
        await until_round(client, 1)
        output = tmp_path / "digits.safetensors"
        command = [sys.executable, "-m", "chain", "task", "fetch", "0", "-o", str(output), "--node", network.url(2)]
        done = await trio.run_process(command, capture_stdout=True, cwd=ROOT)
        root = done.stdout.decode().split()[-1]
        tensors = load_file(output)
        assert sum(tensor.size for tensor in tensors.values()) == 64 * 256 + 256 + 256 * 10 + 10
        assert all(np.isfinite(tensor).all() for tensor in tensors.values())
        params = await client.get_blob(bytes.fromhex(root[2:]), 1 << 20)
        assert blob_root(params).hex() == root[2:]
        assert sum(tensor.size for tensor in tensors.values()) * 4 == len(params)


async def test_a_bad_transaction_names_its_reason_and_the_node_carries_on(network: Network) -> None:
    async with Client.reconnecting([network.url(0)]) as client:
        await until_height(client, 1)
        genesis = bytes.fromhex((await client.request("chain_getBlockHash", 0))[2:])
        nonce = (await client.account(WALLET.public)).nonce
        call = RUNTIME.call("balances.transfer_keep_alive", dest=Id(BOB.public), value=1)
        sign = partial(
            sign_extrinsic,
            WALLET,
            RUNTIME.call_codec.encode(call),
            nonce=nonce,
            spec_version=RUNTIME.spec_version,
            transaction_version=RUNTIME.transaction_version,
            genesis_hash=genesis,
        )
        good = sign()
        forged = good[:60] + bytes([good[60] ^ 1]) + good[61:]
        poor = Keypair.from_seed(b"\x07" * 32, Scheme.ED25519)
        unaffordable = sign_extrinsic(
            poor,
            RUNTIME.call_codec.encode(call),
            nonce=0,
            spec_version=RUNTIME.spec_version,
            transaction_version=RUNTIME.transaction_version,
            genesis_hash=genesis,
        )
        for raw, code, word in [
            (b"\x04\xff", 1002, "malformed transaction"),
            (forged, 1010, "signature"),
            (unaffordable, 1010, "balance 0"),
            (sign(genesis_hash=b"\x01" * 32), 1010, "signature"),
            (sign(spec_version=99), 1010, "signature"),
        ]:
            with pytest.raises(RpcError) as caught:
                await client.request("author_submitExtrinsic", "0x" + raw.hex())
            assert caught.value.code == code, caught.value
            assert word in str(caught.value), caught.value
        await client.transact(WALLET, "system.remark", remark=b"still here")
        with pytest.raises(RpcError) as stale:
            await client.request("author_submitExtrinsic", "0x" + good.hex())
        assert f"nonce {nonce}" in str(stale.value)


async def test_a_stall_names_who_is_missing_and_ends_when_one_of_them_is_back(network: Network) -> None:
    async with Client.reconnecting([network.url(0)]) as client:
        await until_height(client, 1)
        stopped = ("charlie", "dave")
        try:
            for name in stopped:
                os.kill(network.pids[name], signal.SIGSTOP)
            with trio.fail_after(240):
                while b"waits for charlie, dave to change to it" not in (network.base / "alice.log").read_bytes():
                    await trio.sleep(0.5)
            state = await client.request("consensus_state")
            assert state["missing"] == [ss58.encode(Keypair.from_uri(f"//{name.title()}").public) for name in stopped]
            height = await height_of(client)
            os.kill(network.pids["charlie"], signal.SIGCONT)
            await until_height(client, height + 1)
        finally:
            for name in stopped:
                os.kill(network.pids[name], signal.SIGCONT)
        await until_height(client, height + 3)
    await agree(network)


def test_the_readme_shows_what_it_prints(network: Network) -> None:
    """Line by line, but for numbers, hashes, the folder and whose turn it was."""

    def shapes(lines: Sequence[str]) -> set[str]:
        masks = {r"(data +)\S+": r"\1FOLDER", r"0x\S+": "HASH", r"(by +)\w+ +": r"\1NAME ", r" *\d+(\.\d+)?": " N"}
        return {reduce(lambda text, mask: re.sub(mask[0], mask[1], text), masks.items(), line) for line in lines}

    (shown,) = [block.lines for block in blocks("README.md") if "  potchain " in block.lines[0]]
    assert shapes(shown) <= shapes((network.base / "terminal").read_text().splitlines())


async def test_ctrl_c_stops_everything_and_the_next_start_goes_on(network: Network) -> None:
    async with Client.reconnecting([network.url(0)]) as client:
        await until_round(client, 1)
        height, before = await height_of(client), await task(client)
    pids = network.pids
    assert len(pids) == 11
    assert await trio.to_thread.run_sync(network.stop) < STOP_SECONDS_MAX
    for pid in pids.values():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    network.launcher = launch(network.base, network.rpc_port, network.port)
    async with Client.reconnecting([network.url(0)]) as client:
        await until_height(client, height + 2)
        assert (await task(client))["loss"][: before["round"]] == before["loss"]
        await until_round(client, before["round"] + 2)
    await agree(network)


async def test_what_old_rounds_left_is_gone_from_every_disk_also_after_a_restart(network: Network) -> None:
    async with Client.reconnecting([network.url(0)]) as client:
        found = await until_round(client, RETAINED_ROUNDS + 2)
        first = await client.request("training_round", 0, 0)
        needed = {found[root][2:] for root in ("programRoot", "datasetRoot")}
        old = {first["paramsRoot"][2:], *(slot["updateRoot"][2:] for slot in first["slots"] if slot["updateRoot"])}
        with trio.fail_after(240):
            async with client.finalized_heads() as heads:
                async for _ in heads:
                    kept = [network.kept(name) for name in ("alice", "bob", "charlie", "dave")]
                    assert all(needed <= names for names in kept)
                    if not any(old & names for names in kept):
                        break
