"""polkadot-api, unmodified, against a node: the library that speaks the newer specification alone."""

from __future__ import annotations

from itertools import pairwise

import pytest

from chain.primitives import ss58
from chain.primitives.keys import Keypair, Scheme
from tests.clients.conftest import CROWD
from tests.clients.kit import POT, RunningNode, run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("npm")]


def test_an_application_that_follows_the_chain_reads_watches_signs_and_submits(node: RunningNode) -> None:
    told = run("follow.mjs", node.url)
    accounts = told.pop("accounts")
    assert ss58.encode(Keypair.from_uri("//Alice", Scheme.SR25519).public) in accounts
    assert len(accounts) > CROWD
    blocks, (number, next_number) = told.pop("blocks"), told.pop("numbers")
    for (height, _, block_hash), (next_height, parent, _) in pairwise(blocks):
        assert (next_height, parent) == (height + 1, block_hash)
    assert next_number == number + 1
    paid = told.pop("paid")
    assert paid == {
        "events": [
            *("Balances.Withdraw", "System.NewAccount", "Balances.Endowed", "Balances.Transfer"),
            *("TransactionPayment.TransactionFeePaid", "System.ExtrinsicSuccess"),
        ],
        "error": None,
        "fee": paid["quoted"],
        "quoted": paid["quoted"],
        "free": str(5 * POT),
    }
    assert told.pop("failed")["error"] == "Balances.InsufficientBalance"
    assert "Utility.BatchCompleted" in told.pop("batched")["events"]
    assert told == {
        "chain": ["Potchain Testnet", "POT"],
        "existentialDeposit": str(POT // 1000),
        "task": "Adam",
        "watched": ["signed", "broadcasted", "txBestBlocksState", "finalized"],
        "refused": "Invalid.Payment",
        "nonce": [1, 1],
        "archived": [2, "0"],
    }
