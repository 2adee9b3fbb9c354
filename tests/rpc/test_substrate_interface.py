"""substrate-interface, unmodified, against this server: what a Substrate user's first script does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from substrateinterface import Keypair as SubstrateKeypair
from substrateinterface import KeypairType, SubstrateInterface

from tests.rpc.kit import ALICE, POT, served

ED25519 = SubstrateKeypair.create_from_seed(ALICE.secret_seed.hex(), crypto_type=KeypairType.ED25519)
SR25519 = SubstrateKeypair.create_from_uri("//Alice")
BOB = SubstrateKeypair.create_from_uri("//Bob")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


async def in_thread(call: Callable[[], Any]) -> Any:
    with trio.fail_after(20):
        return await trio.to_thread.run_sync(call)


async def test_a_script_connects_and_reads_metadata_constants_and_storage(tmp_path: Path) -> None:
    async with served(tmp_path) as it:

        def script() -> None:
            with SubstrateInterface(url=it.url) as substrate:
                assert substrate.chain == "potchain test"
                assert substrate.ss58_format == 42
                assert substrate.token_symbol == "POT"
                assert substrate.get_constant("Balances", "ExistentialDeposit").value > 0
                account = substrate.query("System", "Account", [SR25519.ss58_address])
                assert account.value["data"]["free"] == 10_000 * POT
                balances = {
                    key.value: value.value["data"]["free"] for key, value in substrate.query_map("System", "Account")
                }
                assert balances[SR25519.ss58_address] == 10_000 * POT
                assert len(balances) == 3
                task = substrate.query("Training", "Tasks", [0]).value
                assert task["round"] == 0

        await in_thread(script)


@pytest.mark.parametrize("keypair", [ED25519, SR25519], ids=["ed25519", "sr25519"])
async def test_a_signed_transfer_is_watched_to_finality(tmp_path: Path, keypair: SubstrateKeypair) -> None:
    async with served(tmp_path) as it:

        def script() -> None:
            with SubstrateInterface(url=it.url) as substrate:
                call = substrate.compose_call(
                    "Balances", "transfer_keep_alive", {"dest": BOB.ss58_address, "value": 5 * POT}
                )
                fee = substrate.get_payment_info(call, keypair)["partialFee"]
                extrinsic = substrate.create_signed_extrinsic(call=call, keypair=keypair)
                receipt = substrate.submit_extrinsic(extrinsic, wait_for_finalization=True)
                assert receipt.is_success
                assert receipt.total_fee_amount == fee
                length = len(extrinsic.data.data)
                parts = substrate.runtime_call("TransactionPaymentApi", "query_fee_details", [extrinsic, length]).value
                assert sum(parts["inclusion_fee"].values()) == fee
                assert substrate.query("System", "Account", [BOB.ss58_address]).value["data"]["free"] == 5 * POT
                assert substrate.get_account_nonce(keypair.ss58_address) == 1
                block = substrate.get_block(receipt.block_hash)
                assert block["header"]["number"] == 1
                assert (
                    block["extrinsics"][receipt.extrinsic_idx].value["call"]["call_function"] == "transfer_keep_alive"
                )

        await in_thread(script)


async def test_a_mortal_call_that_fails_is_included_and_reported(tmp_path: Path) -> None:
    async with served(tmp_path) as it:

        def script() -> None:
            with SubstrateInterface(url=it.url) as substrate:
                call = substrate.compose_call(
                    "Balances", "transfer_keep_alive", {"dest": BOB.ss58_address, "value": 10**30}
                )
                extrinsic = substrate.create_signed_extrinsic(call=call, keypair=ED25519, era={"period": 64})
                receipt = substrate.submit_extrinsic(extrinsic, wait_for_inclusion=True)
                assert not receipt.is_success
                assert receipt.error_message["type"] == "Module"
                assert receipt.error_message["name"] == "InsufficientBalance"
                assert receipt.error_message["docs"] == ["Balance too low to send value."]

        await in_thread(script)


async def test_a_training_call_is_composed_from_metadata_alone_and_its_failure_is_named(tmp_path: Path) -> None:
    async with served(tmp_path) as it:

        def script() -> None:
            with SubstrateInterface(url=it.url) as substrate:
                receipts = []
                for _ in range(2):
                    call = substrate.compose_call("Training", "register_worker", {})
                    extrinsic = substrate.create_signed_extrinsic(call=call, keypair=SR25519)
                    receipts.append(substrate.submit_extrinsic(extrinsic, wait_for_finalization=True))
                registered, again = receipts
                assert registered.is_success
                events = {event.value["event_id"]: event.value["attributes"] for event in registered.triggered_events}
                assert events["WorkerRegistered"]["worker"] == SR25519.ss58_address
                assert again.error_message == {
                    "type": "Module",
                    "name": "AlreadyRegistered",
                    "docs": ["The signer is registered already."],
                }
                assert substrate.query("Training", "Workers", [SR25519.ss58_address]).value["active"]

        await in_thread(script)


async def test_heads_and_storage_can_be_subscribed_to(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        seen: list[int] = []
        values: list[int] = []

        def heads() -> None:
            with SubstrateInterface(url=it.url) as substrate:

                def on_head(head: dict[str, Any], number: int, subscription: str) -> bool | None:
                    seen.append(head["header"]["number"])
                    trio.from_thread.run(it.node.seal)
                    return True if len(seen) == 3 else None

                substrate.subscribe_block_headers(on_head, finalized_only=True)

        def storage() -> None:
            with SubstrateInterface(url=it.url) as substrate:

                def on_value(value: Any, number: int, subscription: str) -> bool | None:
                    values.append(value.value)
                    trio.from_thread.run(it.node.seal)
                    return True if len(values) == 2 else None

                substrate.query("System", "Number", subscription_handler=on_value)

        await in_thread(heads)
        await in_thread(storage)
        assert seen[:3] == [0, 1, 2]
        assert values[1] == values[0] + 1
