"""The dashboard in a real Chromium, at a real node: each story is one page view, and what it saw is asserted here."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import trio

from chain.primitives import ss58
from chain.primitives.keys import Keypair, Scheme
from chain.primitives.types import Id
from chain.rpc.client import Client
from tests.clients.kit import POT, RunningNode, finished, running_node, started
from tests.dashboard.conftest import HERE
from tests.dashboard.rounds import WORKERS, Trainer
from tests.ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("browser")]

BOB, DAVE = Keypair.from_uri("//Bob"), Keypair.from_uri("//Dave")
ALICE_SR = Keypair.from_uri("//Alice", Scheme.SR25519)
(WORKER,) = WORKERS
STEP_SECONDS_MAX = 120
STORY_SECONDS_MAX = 360  # as the scripts have it themselves: a quarter of it where nothing else runs


@contextmanager
def story(name: str, node: RunningNode, shots: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A script of this folder at a node, on its way."""
    with started(HERE / name, f"http://127.0.0.1:{node.rpc_port}/", str(shots), *arguments) as script:
        try:
            yield script
        finally:
            script.kill()


def heard(script: subprocess.Popen[str], line: str) -> None:
    """Wait until a script says this."""
    assert script.stdout is not None
    said = script.stdout.readline()
    assert said == f"{line}\n", said + (script.communicate()[1] if not said else "")


def nothing_went_wrong(told: dict[str, Any], node: RunningNode) -> None:
    assert told["wrong"] == []
    assert told["hosts"] == [f"127.0.0.1:{node.rpc_port}"], "a page loads nothing from elsewhere"


async def _transfer(url: str) -> None:
    with trio.fail_after(STEP_SECONDS_MAX):
        async with Client.connect(url) as client:
            receipt = await client.transact(
                BOB, "balances.transfer_keep_alive", dest=Id(DAVE.public), value=5 * POT // 4
            )
            assert receipt.ok, receipt.error


async def _train(url: str, number: int) -> None:
    with trio.fail_after(STEP_SECONDS_MAX):
        async with Client.connect(url) as client:
            await Trainer(client).train(number)


def amounts(rows: list[dict[str, str]], column: str) -> list[Decimal]:
    return [Decimal(row[column].removesuffix(" POT")) for row in rows]


def test_the_pages_show_the_chain_as_it_goes_on(node: RunningNode, shots: Path) -> None:
    with story("tour.mjs", node, shots, ss58.encode(BOB.public)) as script:
        heard(script, "watching")
        trio.run(_transfer, node.url)
        heard(script, "training")
        trio.run(_train, node.url, 2)
        told = finished(script, STORY_SECONDS_MAX)
    nothing_went_wrong(told, node)

    assert told["heights"] == sorted(set(told["heights"])), "heights rise without a reload"
    assert re.fullmatch(r"Finality lag\s+[0-9.]+ s\s+from proposal to seal, in the last [0-9]+ blocks", told["lag"])
    assert told["notReloaded"]
    assert told["stayed"], "the focus stays where it is when a block comes"
    for shown in (told["transfer"], told["block"]):
        assert "balances.transfer_keep_alive" in shown
        assert "1.25 POT" in shown
    assert "succeeded" in told["block"]
    assert "balances.Transfer" in told["block"]

    found = told["found"]
    block, index = found.pop("transaction").removeprefix("#/block/").split("/")
    assert (int(block) > 0, int(index) >= 2) == (True, True)
    bob = ss58.encode(BOB.public)
    assert found == {"height": "#/block/1", "account": f"#/account/{bob}", "nothing": "#/search/0x12"}

    before, after = told["curves"]
    assert before == "Held-out loss: 2.3000 in round 0, 2.0444 in round 1"
    assert after == "Held-out loss: 2.3000 in round 0, 1.8400 in round 2"
    assert [(row["Round"], row["Loss"], row["Accuracy"]) for row in told["finals"]] == [
        ("2", "1.8400", "46.00 %"),
        ("1", "2.0444", "32.50 %"),
        ("0", "2.3000", "10.00 %"),
    ]

    round_ = told["round"]
    assert [row["Verdict"] for row in round_["slots"]] == ["✓ accepted", "✕ rejected", "✓ accepted", "✕ not revealed"]
    price, emission, worth, auditors, aggregator, workers, paid = amounts(round_["steps"], "Amount")
    assert price + emission == worth == paid == auditors + aggregator + workers == 4
    assert amounts(round_["slots"], "Reward") == [workers / 2, 0, workers / 2, 0]
    assert sum(amounts(round_["payments"], "Amount")) == worth
    assert [row["Role"] for row in round_["payments"]] == ["worker", "auditor", "aggregator"]
    assert round_["agreement"] == "✓ the chain minted 4 POT, as its record and the block's events say"

    (worker,) = told["workers"]
    assert (worker["State"], worker["Accepted"], worker["Rejected"]) == ("✓ active", "10", "✕ 1 (9.1 %)")
    assert worker["Slashed"] != "– nothing"
    (validator,) = told["validators"]["table"]
    assert (validator["Stake"], validator["Next session"]) == ("1,000 POT", "✓ elected")
    assert told["validators"]["track"].endswith("missing in 0")

    assert told["flaws"] == {}
    light, dark, again = told["themes"]
    assert light != dark == again
    pictures = {picture.stem for picture in shots.glob("*.png")}
    assert {"block-light", "flawed-round-dark", "slashed-worker-light-phone"} <= pictures


def test_a_browser_wallet_signs_a_transfer_and_a_task_and_is_asked_for_nothing_before(
    node: RunningNode, shots: Path
) -> None:
    with story("wallet.mjs", node, shots, ss58.encode(DAVE.public)) as script:
        told = finished(script, STORY_SECONDS_MAX)
    nothing_went_wrong(told, node)
    alice = ss58.encode(ALICE_SR.public)
    assert told["askedBefore"] == 0
    assert told["accounts"] == [f"Alice · {alice}"], "accounts that this chain cannot have are not offered"
    assert told["isHeldBack"], "what would fail is not signed"
    assert f"final, for a fee of {told['fee']}, in" in told["sent"]
    for part in ("balances.transfer_keep_alive", "succeeded", "1.25 POT"):
        assert part in told["block"]
    assert "6 POT" in told["offer"], "3 rounds of 4 slots at half a POT"
    task = told["tasks"][0]
    assert (task["Task"], task["Round"], task["Escrow left"]) == ("1 from a browser", "0 / 3", "6 POT")
    assert [address for _, address in told["methods"]] == [alice] * 3


def test_a_page_says_that_its_node_is_gone_and_goes_on_when_it_is_back(
    chain_file: Path, browser: None, shots: Path, tmp_path: Path
) -> None:
    port = free_port()
    with ExitStack() as stack:
        with running_node(chain_file, tmp_path / "data", port) as first:
            script = stack.enter_context(story("reconnect.mjs", first, shots))
            heard(script, "connected")
        heard(script, "disconnected")
        with running_node(chain_file, tmp_path / "data", port):
            told = finished(script, STORY_SECONDS_MAX)
    assert told["hosts"] == [f"127.0.0.1:{port}"]
    assert all("WebSocket connection" in each for each in told["wrong"]), "the browser says that itself"
    banner, connection = told["told"]
    assert banner.startswith("✕ No connection to the node: what is shown is from before. Trying again")
    assert (connection in ("disconnected", "connecting"), told["shown"] > 0, told["banners"]) == (True, True, 0)
    assert told["after"] > 0
