"""@polkadot/api, unmodified, against a node: what wallets, scripts and explorers do. Each script is one story."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from chain import __version__
from chain.primitives import ss58
from chain.primitives.hashing import blake2_256
from chain.primitives.keys import Keypair, Scheme
from chain.primitives.scale import codec_of
from runtime.types import AccountInfo
from tests.clients.conftest import CROWD
from tests.clients.kit import POT, ROOT, RunningNode, finished, run, running_node, started

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("npm")]

ACCOUNT = codec_of(AccountInfo)


def address(uri: str, scheme: Scheme = Scheme.SR25519) -> str:
    return ss58.encode(Keypair.from_uri(uri, scheme).public)


def named(events: list[Any]) -> list[str]:
    return [f"{section}.{method}" for section, method, _ in events]


# What a node may have beyond the methods that the library knows: its own, and the newer specification's.
BEYOND = {"training", "consensus", "explorer", "archive", "chainHead", "chainSpec", "transaction", "transactionWatch"}


def test_a_connection_learns_the_chain_and_is_warned_of_nothing_but_methods_beyond_the_library(
    node: RunningNode,
) -> None:
    told = run("connect.mjs", node.url)
    (warning,) = told.pop("warnings")
    prefix, _, methods = warning.partition(": RPC methods not decorated: ")
    assert prefix == "API/INIT"
    assert {method.partition("_")[0] for method in methods.split(", ")} <= BEYOND
    assert told == {
        "chain": "Potchain Testnet",
        "node": ["potchain", __version__],
        "runtime": ["potchain", 1],
        "metadata": [14, 15],
        "prefix": 42,
        "tokens": ["POT"],
        "decimals": [12],
        "extensions": [
            *("CheckSpecVersion", "CheckTxVersion", "CheckGenesis", "CheckMortality"),
            *("CheckNonce", "CheckWeight", "ChargeTransactionPayment"),
        ],
        "genesisIsBlock0": True,
        "existentialDeposit": str(POT // 1000),
        "workerBond": str(100 * POT),
        "overHttp": ["Potchain Testnet", True],
        "ownMethod": "digits",
    }


def test_state_is_read_by_key_in_pages_whole_raw_and_as_it_was(node: RunningNode) -> None:
    told = run("storage.mjs", node.url)
    storage, alice = address("//Storage"), address("//Alice")
    assert told["atBlocks"] == ["0", str(POT)]
    assert told["multi"] == [str(POT), "0"]
    assert told["none"] is True
    assert told["unknown"] == {
        "nonce": 0,
        "consumers": 0,
        "providers": 0,
        "sufficients": 0,
        "data": {"free": 0, "reserved": 0, "frozen": 0, "flags": 0},
    }
    assert told["nonceNow"] == told["nonceAt"] + 1
    assert told["paged"] == told["entries"]
    assert [account for account, _ in told["entries"]] == told["keys"]
    assert told["watched"] == [free for _, free in told["entries"]]
    assert len(told["keys"]) > CROWD
    balances = dict(told["entries"])
    assert balances[storage] == str(POT)
    assert 0 < int(balances[alice]) < 1_000_000 * POT
    task = told["task"]
    assert (task["name"], task["status"], task["rounds"]) == ("digits", "Active", "200")
    assert task["optimizer"]["rule"]["Adam"]["beta1"] == "900,000,000,000"
    raw = bytes.fromhex(told["raw"][2:])
    account = ACCOUNT.decode(raw)
    assert (account.nonce, account.data.free) == (0, POT)
    assert (told["size"], told["hash"]) == (len(raw), "0x" + blake2_256(raw).hex())


@pytest.mark.parametrize(("scheme", "era"), [(Scheme.ED25519, 0), (Scheme.SR25519, 64)], ids=["ed25519", "sr25519"])
def test_a_transfer_is_final_for_the_fee_that_was_quoted_and_found_in_its_block(
    node: RunningNode, scheme: Scheme, era: int
) -> None:
    told = run("transfer.mjs", node.url, scheme.name.lower(), str(era))
    sender, recipient = address("//Bob", scheme), address(f"//Transfer//{scheme.name.lower()}")
    fee, tip, value = int(told["quoted"]), 7, 3 * POT
    assert told["statuses"] == ["Ready", "InBlock", "Finalized"]
    assert told["error"] is None
    assert int(told["paid"]) == fee + tip + value
    assert int(told["got"]) == value
    assert int(told["queried"]) == fee == sum(told["parts"].values())
    assert ["balances", "Transfer", [sender, recipient, value]] in told["events"]
    assert ["transactionPayment", "TransactionFeePaid", [sender, fee + tip, tip]] in told["events"]
    assert named(told["events"])[-1] == "system.ExtrinsicSuccess"
    assert told["isHashOfHeader"]
    assert told["isHashOfExtrinsic"]
    assert told["isParentBefore"]
    assert told["digest"] == [["PreRuntime", "PBFT"]]
    assert told["methods"][:2] == ["timestamp.set", "validators.noteSeal"]
    assert told["methods"][told["index"]] == "balances.transferKeepAlive"
    assert told["extrinsic"] == {
        "signer": sender,
        "args": [recipient, str(value)],
        "isMortal": era > 0,
        "tip": str(tip),
        "isNext": True,
    }


def test_a_call_that_fails_names_its_error_and_a_transaction_that_is_refused_its_reason(node: RunningNode) -> None:
    told = run("refusal.mjs", node.url)
    failed, refused = told["failed"], told["refused"]
    assert failed["statuses"] == ["Ready", "InBlock"]
    assert failed["error"] == "balances.InsufficientBalance: Balance too low to send value."
    assert named(failed["events"])[-1] == "system.ExtrinsicFailed"
    fees = [data[1] for _, method, data in failed["events"] if method == "TransactionFeePaid"]
    assert [int(told["paid"])] == fees
    assert refused.pop("waiting") == "accepted"
    for name, words in {
        "forged": "1010: Invalid Transaction: Transaction has a bad signature: ",
        "elsewhere": "1010: Invalid Transaction: Transaction has a bad signature: ",
        "expired": "1010: Invalid Transaction: Transaction has a bad signature: ",
        "stale": "1010: Invalid Transaction: Transaction is outdated: nonce 0 was already used",
        "unaffordable": "1010: Invalid Transaction: Inability to pay some fees , e.g. account balance too low: ",
        "again": "1013: Transaction Already Imported: ",
        "cheaper": "1014: Priority is too low: (",
    }.items():
        assert refused.pop(name).startswith(words)
    assert refused == {}


def test_the_calls_of_this_chain_are_made_from_its_metadata_alone(node: RunningNode) -> None:
    told = run("training.mjs", node.url)
    worker, owner = address("//Dave"), address("//Eve")
    assert told["args"] == [
        *(["name", "Bytes"], ["programRoot", "H256"], ["datasetRoot", "H256"], ["paramsRoot", "H256"]),
        *(["optimizer", "PotchainTrainingDescent"], ["policy", "PotchainTrainingPolicy"]),
        *(["rounds", "u32"], ["pricePerSlot", "u128"], ["storage", "PotchainTrainingClaim"]),
    ]
    assert told["docs"] == [
        "Have a model trained: `rounds` rounds from `params_root`. Reserves price, times slots, times rounds.",
        "",
        "Reserves as well what its blobs cost, whose lengths `storage` claims, for as long as the task may take.",
    ]
    assert ["training", "WorkerRegistered", [worker, 100 * POT, 1]] in told["registered"]
    assert (told["worker"]["bond"], told["worker"]["active"]) == ("100,000,000,000,000", True)
    assert told["again"] == "training.AlreadyRegistered: The signer is registered already."
    assert ["training", "TaskCreated", [1, owner, 6 * POT]] in told["created"]
    task = told["task"]
    assert (task["name"], task["owner"], task["escrow"]) == ("a task from a wallet", owner, "6,000,000,000,000")
    assert task["optimizer"]["rule"] == {"Sgd": {"learningRate": "10,000,000,000", "momentum": "900,000,000,000"}}
    assert task["policy"]["slots"] == "2"
    assert told["notOwner"] == "training.NotOwner: Only its owner cancels a task."
    assert ["training", "TaskCancelled", [1, 0]] in told["cancelled"]


def test_an_explorer_finds_heads_blocks_events_accounts_and_the_state_of_the_node(node: RunningNode) -> None:
    told = run("explorer.mjs", node.url)
    told["blocks"], events = zip(*told["blocks"], strict=True)
    assert min(events) >= 2
    for heads in ("heads", "finalized", "all", "derived", "blocks"):
        assert list(told[heads]) == list(range(told[heads][0], told[heads][0] + len(told[heads])))
    assert told["watched"] == ["0", str(POT)]
    (now, height, free), (later, next_height, still_free) = told["together"]
    assert next_height > height
    assert still_free == free == str(POT)
    assert later - now >= 500
    assert told["lag"] == 0
    *called, paid = told["extrinsics"].pop(1)
    assert (called, paid.pop()) == (["validators.noteSeal", "Mandatory", None], "system.ExtrinsicSuccess")
    assert paid in ([], ["balances.Minted", "validators.Rewarded"]), "validators are paid at a session's end"
    assert told["extrinsics"] == [
        ["timestamp.set", "Mandatory", None, ["system.ExtrinsicSuccess"]],
        [
            *("balances.transferKeepAlive", "Normal", None),
            [
                *("balances.Withdraw", "system.NewAccount", "balances.Endowed", "balances.Transfer"),
                *("transactionPayment.TransactionFeePaid", "system.ExtrinsicSuccess"),
            ],
        ],
    ]
    balances, escrow = told["balances"], 200 * 4 * POT
    assert balances == {"reserved": balances["stored"], "stored": balances["stored"], "isTransferable": True}
    assert int(balances["reserved"]) >= escrow
    assert told["warned"] == []
    assert told["missing"] == []
    identity = told["system"].pop("identity")
    assert len(bytes.fromhex(identity)) == 32
    (listens,) = told["system"].pop("addresses")
    assert re.fullmatch(rf"/ip4/127\.0\.0\.1/tcp/[0-9]+/p2p/{identity}", listens)
    assert told["system"] == {
        "chainType": "Local",
        "health": {"peers": 0, "isSyncing": False, "shouldHavePeers": True},
        "peers": 0,
        "roles": [{"authority": None}],
        "isSynced": True,
        "pending": 0,
    }


def test_a_batch_does_all_up_to_a_failure_all_or_nothing_or_each_for_itself(node: RunningNode) -> None:
    told = run("batch.mjs", node.url)
    failure = "balances.InsufficientBalance: Balance too low to send value."
    assert {name: (batch["error"], batch["got"]) for name, batch in told.items()} == {
        "all": (None, [str(POT), str(POT)]),
        "interrupted": (None, [str(POT), "0"]),
        "undone": (failure, ["0", "0"]),
        "forced": (None, [str(POT), str(POT)]),
    }
    assert told["all"]["calls"] == ["balances.transferKeepAlive"] * 2
    assert named(told["all"]["events"]).count("utility.ItemCompleted") == 2
    assert ["utility", "BatchInterrupted", [1, failure]] in told["interrupted"]["events"]
    assert ["utility", "ItemFailed", [failure]] in told["forced"]["events"]
    for name, batch in told.items():  # The calls that a batch did not come to are not charged.
        ran_all = name in ("all", "forced")
        assert batch["fee"] == batch["quoted"] if ran_all else int(batch["fee"]) < int(batch["quoted"]), name


def test_the_sudo_key_calls_as_root_and_nobody_else_does(node: RunningNode) -> None:
    told = run("sudo.mjs", node.url)
    assert told.pop("key") == address("//Alice", Scheme.ED25519)
    moved, failed = told.pop("moved"), told.pop("failed")
    assert ["balances", "Transfer", [address("//Ferdie"), address("//Sudo"), POT]] in moved
    assert ["sudo", "Sudid", [{"ok": None}]] in moved
    assert ["sudo", "Sudid", ["balances.InsufficientBalance: Balance too low to send value."]] in failed
    assert told == {
        "isSudo": True,
        "direct": "BadOrigin",
        "stranger": "sudo.RequireSudo: Sender must be the Sudo account.",
        "got": str(POT),
    }


def test_an_account_of_several_is_used_as_wallets_derive_it(node: RunningNode) -> None:
    told = run("multisig.mjs", node.url)
    shared = told.pop("address")
    call_hash, when = told["opened"][0][2][2], told["made"][-1][2][1]
    alice, bob = address("//Alice"), address("//Bob")
    assert told == {
        "opened": [["multisig", "NewMultisig", [alice, shared, call_hash]]],
        "approvals": [alice],
        "early": "multisig.NoTimepoint: No timepoint was given, yet the multisig operation is already underway.",
        "made": [
            ["balances", "Transfer", [shared, address("//Shared"), POT]],
            ["multisig", "MultisigExecuted", [bob, when, shared, call_hash, {"ok": None}]],
        ],
        "open": 0,
        "got": str(POT),
    }


def test_a_page_signs_through_a_wallet_extension_where_its_origin_is_trusted(node: RunningNode) -> None:
    ferdie = address("//Ferdie")
    assert run("browser.mjs", node.url, "https://polkadot.js.org", "https://elsewhere.example") == {
        "refused": "Unexpected server response: 403",
        "remarked": ferdie,
        "signed": [[ferdie, True, 1]],
    }


def test_a_wallet_goes_on_by_itself_when_its_node_is_started_again(node: RunningNode, tmp_path: Path) -> None:
    with running_node(node.genesis, tmp_path) as first:
        wallet = started("reconnect.mjs", first.url)
        assert wallet.stdout is not None
        before = json.loads(wallet.stdout.readline())
    with running_node(node.genesis, tmp_path, first.rpc_port):
        after = finished(wallet)
    assert before == {"height": before["height"], "free": str(POT)}
    assert after["heights"] == list(range(after["heights"][0], after["heights"][0] + 3))
    assert after["heights"][0] >= before["height"]
    assert after["free"] == str(2 * POT)


def test_a_module_of_a_third_party_is_used_on_a_chain_of_its_own(tmp_path: Path) -> None:
    with running_node(ROOT / "tests" / "third_party" / "genesis.json", tmp_path) as node:
        told = run("names.mjs", node.url)
    bob, charlie = address("//Bob"), address("//Charlie")
    claimed, held = told.pop("claimed"), told.pop("held")
    name = "0x" + b"from-a-wallet".hex()
    assert ["names", "Claimed", [name, bob, held["expiresAt"]]] in claimed
    assert (held["owner"], held["payer"], held["deposit"]) == (bob, bob, 2 * POT)
    assert told == {
        "chain": ["names", "Names"],
        "modules": ["system", "timestamp", "balances", "validators", "names"],
        "constants": [str(2 * POT), 32],
        "names": ["charlie", "alice"],
        "taken": "names.Taken: Somebody holds the name.",
        "bad": "names.BadName: A name has 3 to 32 lower-case letters, digits and hyphens.",
        "given": None,
        "owner": charlie,
        "released": None,
        "isFree": True,
    }
