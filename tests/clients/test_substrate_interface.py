"""substrate-interface, unmodified, against a node: what a script in Python does with a Substrate chain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from substrateinterface import ExtrinsicReceipt, Keypair, KeypairType, SubstrateInterface
from substrateinterface.exceptions import SubstrateRequestException

from chain.primitives.keys import Keypair as OwnKeypair
from tests.clients.conftest import CROWD
from tests.clients.kit import POT, RunningNode

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")]

# The library derives secrets of sr25519 alone.
ED25519 = Keypair.create_from_seed(OwnKeypair.from_uri("//Eve").secret_seed.hex(), crypto_type=KeypairType.ED25519)
SR25519 = Keypair.create_from_uri("//Eve")


@pytest.fixture
def substrate(node: RunningNode) -> Iterator[SubstrateInterface]:
    with SubstrateInterface(url=node.url) as connected:
        yield connected


def account(name: str) -> str:
    found: str = Keypair.create_from_uri(f"//Python//{name}").ss58_address
    return found


def free(substrate: SubstrateInterface, address: str, at: str | None = None) -> int:
    found: int = substrate.query("System", "Account", [address], block_hash=at).value["data"]["free"]
    return found


def transfer(substrate: SubstrateInterface, to: str, value: int) -> Any:
    return substrate.compose_call("Balances", "transfer_keep_alive", {"dest": to, "value": value})


def send(substrate: SubstrateInterface, call: Any, keypair: Keypair, **options: Any) -> ExtrinsicReceipt:
    extrinsic = substrate.create_signed_extrinsic(call, keypair, **options)
    return substrate.submit_extrinsic(extrinsic, wait_for_inclusion=True)


def events_of(receipt: ExtrinsicReceipt) -> dict[str, Any]:
    return {event.value["event_id"]: event.value["attributes"] for event in receipt.triggered_events}


def test_a_script_learns_the_chain_and_reads_constants_and_storage(substrate: SubstrateInterface) -> None:
    assert substrate.chain == "Potchain Testnet"
    assert substrate.ss58_format == 42
    assert (substrate.token_symbol, substrate.token_decimals) == ("POT", 12)
    assert substrate.get_constant("Balances", "ExistentialDeposit").value == POT // 1000
    single = free(substrate, SR25519.ss58_address)
    assert single > 0
    pages = substrate.query_map("System", "Account", page_size=500)
    balances = {key.value: value.value["data"]["free"] for key, value in pages}
    assert balances[SR25519.ss58_address] == single
    assert len(balances) > CROWD
    assert substrate.query("Training", "Tasks", [0]).value["optimizer"]["rule"]["Adam"]["beta1"] == 9 * 10**11
    genesis = substrate.get_block_hash(0)
    assert free(substrate, SR25519.ss58_address, genesis) == 1_000_000 * POT


@pytest.mark.parametrize("keypair", [ED25519, SR25519], ids=["ed25519", "sr25519"])
def test_a_signed_transfer_is_final_for_the_fee_that_was_quoted(
    substrate: SubstrateInterface, keypair: Keypair
) -> None:
    recipient = account(f"transfer {keypair.crypto_type}")
    call = transfer(substrate, recipient, 5 * POT)
    quoted = substrate.get_payment_info(call, keypair)["partialFee"]
    nonce = substrate.get_account_nonce(keypair.ss58_address)
    signed = substrate.create_signed_extrinsic(call, keypair)
    receipt = substrate.submit_extrinsic(signed, wait_for_finalization=True)
    assert receipt.is_success
    assert receipt.finalized
    block = substrate.get_block(receipt.block_hash)
    parent = block["header"]["parentHash"]
    assert free(substrate, recipient) == 5 * POT
    paid = free(substrate, keypair.ss58_address, parent) - free(substrate, keypair.ss58_address, receipt.block_hash)
    assert paid - 5 * POT == receipt.total_fee_amount == quoted
    extrinsic = block["extrinsics"][receipt.extrinsic_idx]
    length = len(extrinsic.data.data)
    parts = substrate.runtime_call("TransactionPaymentApi", "query_fee_details", [extrinsic, length]).value
    assert sum(parts["inclusion_fee"].values()) == quoted
    assert extrinsic.value["call"]["call_function"] == "transfer_keep_alive"
    assert extrinsic.value["address"] == keypair.ss58_address
    assert extrinsic.value["nonce"] == nonce == substrate.get_account_nonce(keypair.ss58_address) - 1
    assert events_of(receipt)["Transfer"] == {"from": keypair.ss58_address, "to": recipient, "amount": 5 * POT}


def test_a_mortal_call_that_fails_is_included_and_reported(substrate: SubstrateInterface) -> None:
    receipt = send(substrate, transfer(substrate, account("failed"), 10**30), SR25519, era={"period": 64})
    assert not receipt.is_success
    assert receipt.error_message == {
        "type": "Module",
        "name": "InsufficientBalance",
        "docs": ["Balance too low to send value."],
    }
    assert receipt.extrinsic.value["era"] != "00"


def test_a_transaction_that_is_refused_says_why(substrate: SubstrateInterface) -> None:
    call = transfer(substrate, account("refused"), POT)
    nonce = substrate.get_account_nonce(SR25519.ss58_address)
    assert send(substrate, call, SR25519, nonce=nonce).is_success
    with pytest.raises(SubstrateRequestException) as stale:
        send(substrate, call, SR25519, nonce=nonce)
    assert stale.value.args[0]["code"] == 1010
    assert stale.value.args[0]["data"].startswith(f"Transaction is outdated: nonce {nonce} was already used")


def test_a_batch_pays_two_accounts_at_once(substrate: SubstrateInterface) -> None:
    recipients = [account("batch 0"), account("batch 1")]
    calls = [transfer(substrate, recipient, POT) for recipient in recipients]
    receipt = send(substrate, substrate.compose_call("Utility", "batch_all", {"calls": calls}), SR25519)
    assert receipt.is_success
    assert "BatchCompleted" in events_of(receipt)
    assert [free(substrate, recipient) for recipient in recipients] == [POT, POT]


def test_two_of_two_pay_from_an_account_that_they_share(substrate: SubstrateInterface) -> None:
    signatories = [SR25519, Keypair.create_from_uri("//Ferdie")]
    shared = substrate.generate_multisig_account([one.ss58_address for one in signatories], threshold=2)
    assert send(substrate, transfer(substrate, shared.ss58_address, 3 * POT), SR25519).is_success
    recipient = account("multisig")
    call = transfer(substrate, recipient, POT)
    receipts = []
    for signatory in signatories:
        extrinsic = substrate.create_multisig_extrinsic(call, signatory, shared)
        receipts.append(substrate.submit_extrinsic(extrinsic, wait_for_inclusion=True))
    opened, executed = map(events_of, receipts)
    assert opened["NewMultisig"]["multisig"] == shared.ss58_address
    assert executed["MultisigExecuted"]["result"] == {"Ok": ()}
    assert free(substrate, recipient) == POT


def test_a_training_call_is_composed_from_metadata_alone_and_its_failure_is_named(
    substrate: SubstrateInterface,
) -> None:
    call = substrate.compose_call("Training", "register_worker", {"capacity": 1})
    registered, again = send(substrate, call, SR25519), send(substrate, call, SR25519)
    assert registered.is_success
    assert events_of(registered)["WorkerRegistered"] == {
        "worker": SR25519.ss58_address,
        "bond": 100 * POT,
        "capacity": 1,
    }
    assert again.error_message == {
        "type": "Module",
        "name": "AlreadyRegistered",
        "docs": ["The signer is registered already."],
    }
    assert substrate.query("Training", "Workers", [SR25519.ss58_address]).value["active"]


def test_heads_and_storage_can_be_subscribed_to(substrate: SubstrateInterface) -> None:
    heads: list[int] = []
    values: list[int] = []

    def on_head(head: dict[str, Any], number: int, subscription: str) -> bool | None:
        heads.append(head["header"]["number"])
        return True if len(heads) == 3 else None

    def on_value(value: Any, number: int, subscription: str) -> bool | None:
        values.append(value.value)
        return True if len(values) == 2 else None

    substrate.subscribe_block_headers(on_head, finalized_only=True)
    assert heads == [heads[0], heads[0] + 1, heads[0] + 2]
    substrate.query("System", "Number", subscription_handler=on_value)
    assert values[1] == values[0] + 1
