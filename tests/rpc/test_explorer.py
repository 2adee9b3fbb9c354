"""`explorer_*` and what was earned: blocks decoded, searches, accounts, and transactions made ready to sign."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from chain.development import address as development_address
from chain.primitives import ss58
from chain.primitives.hashing import blake2_256
from chain.primitives.keys import Keypair
from chain.primitives.scale import compact_encode
from chain.primitives.types import ERA, signing_payload
from chain.rpc import methods_explorer, told_blocks
from chain.rpc.client import Client
from chain.rpc.errors import Code, RpcError
from chain.rpc.readable import BYTES_SHOWN_MAX, VALUES_SHOWN_MAX, Reader
from runtime.potchain import RUNTIME
from tests.chain.cluster import cluster
from tests.rpc.kit import ALICE, ALICE_SR, BOB, CHARLIE, GENESIS_MS, KEYS, POT, Served, served, transfer
from tests.rpc.test_rewards_command import final_round


def address(key: Keypair) -> str:
    return ss58.encode(key.public)


async def sent(it: Served, *raw: bytes) -> None:
    """Have transactions included in one block."""
    it.node.seals_at_once = False
    for each in raw:
        await it.node.submit(each)
    await it.node.seal()


async def test_a_block_is_told_with_its_calls_their_outcomes_and_their_events(tmp_path: Path) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        await it.node.seal()
        raw = transfer(it, 0, 5 * POT, tip=7)
        await sent(it, raw, transfer(it, 1, 10**9 * POT))
        told = await client.request("explorer_block", 2)
        head = {name: told[name] for name in ("height", "hash", "author", "view", "timestamp", "transactionCount")}
        validator = address(KEYS.account)
        assert head == {
            "height": 2,
            "hash": "0x" + it.node.ledger.head_hash.hex(),
            "author": validator,
            "view": 0,
            "timestamp": GENESIS_MS + 2000,
            "transactionCount": 2,
        }
        assert told["parentSeal"] == {"view": 0, "setId": 0, "voters": [validator], "missing": []}
        assert [each["call"] for each in told["extrinsics"]] == [
            *("timestamp.set", "validators.note_seal"),
            *("balances.transfer_keep_alive",) * 2,
        ]
        done, failed = told["extrinsics"][2:]
        assert done["hash"] == "0x" + blake2_256(raw).hex()
        assert done["args"] == {"dest": address(BOB), "value": str(5 * POT)}
        assert (done["signer"], done["nonce"], done["tip"], done["ok"]) == (address(ALICE), 0, "7", True)
        moved = {"from": address(ALICE), "to": address(BOB), "amount": str(5 * POT)}
        assert {"event": "balances.Transfer", "data": moved} in done["events"]
        assert (failed["ok"], failed["error"].partition(":")[0]) == (False, "balances.InsufficientBalance")
        assert await client.request("explorer_block", told["hash"]) == told
        assert await client.request("explorer_block", 3) is None
        genesis = await client.request("explorer_block", 0)
        assert (genesis["author"], genesis["timestamp"], genesis["extrinsics"]) == (None, None, [])


async def test_the_last_blocks_come_newest_first_and_no_more_than_a_page_of_them(tmp_path: Path) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        for _ in range(5):
            await it.node.seal()

        async def heights(*params: int) -> list[int]:
            return [block["height"] for block in await client.request("explorer_blocks", *params)]

        assert await heights(3) == [5, 4, 3]
        assert await heights(64) == [5, 4, 3, 2, 1, 0]
        assert await heights(2, 4) == [3, 2]
        assert await heights(2, 2**32 - 1) == [5, 4]
        assert await heights(1, 0) == []
        with pytest.raises(RpcError, match="an integer from 1 to 64"):
            await client.request("explorer_blocks", 65)


async def test_a_block_whose_state_is_pruned_is_told_without_outcomes(tmp_path: Path) -> None:
    async with served(tmp_path, history=2) as it, Client.connect(it.url) as client:
        await sent(it, transfer(it, 0))
        for _ in range(4):
            await it.node.seal()
        told = await client.request("explorer_block", 1)
        assert (told["eventsKept"], told["extrinsics"][1]["ok"], told["extrinsics"][1]["events"]) == (False, None, [])
        assert (told["author"], told["extrinsics"][1]["args"]["dest"]) == (address(KEYS.account), address(BOB))


async def test_a_full_block_is_told_in_part_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told_blocks, "EXTRINSICS_TOLD_MAX", 3)
    monkeypatch.setattr(told_blocks, "EVENTS_READ_MAX", 4)
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        await sent(it, *(transfer(it, nonce) for nonce in range(5)))
        told = await client.request("explorer_block", 1)
        assert (len(told["extrinsics"]), told["extrinsicCount"], told["transactionCount"]) == (3, 6, 5)
        assert (told["eventsKept"], told["eventsComplete"]) == (True, False)
        assert told["extrinsics"][2]["ok"] is None, "the event that says so was not read"


async def test_one_answer_decodes_no_more_than_a_thread_can_spare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        for nonce in range(6):
            await sent(it, transfer(it, nonce))
        size = (await client.request("explorer_block", 5))["bytes"]
        monkeypatch.setattr(methods_explorer, "READ_BYTES_MAX", 2 * size)
        assert [block["height"] for block in await client.request("explorer_blocks", 20)] == [6, 5, 4]
        told = await client.request("explorer_account", address(BOB))
        assert ([entry["height"] for entry in told["history"]], told["next"]) == ([6, 5, 4], 4)


async def test_what_is_kept_of_blocks_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        for nonce in range(6):
            await sent(it, transfer(it, nonce))
        kept = told_blocks.ToldBlocks()
        context: Any = type("Context", (), {"backend": it.node, "runtime": RUNTIME})()
        first = kept.at(context, 1)
        assert first is not None
        monkeypatch.setattr(told_blocks, "KEPT_BYTES_MAX", 3 * first.size)
        assert kept.at(context, 1) is first
        for height in range(2, 7):
            kept.at(context, height)
        assert kept.at(context, 1) is not first
        assert sum(block.size for block in kept._kept.values()) == kept._bytes <= 3 * first.size
        del client


def test_values_are_cut_where_a_page_would_not_end() -> None:
    many = RUNTIME.call("utility.batch", calls=[RUNTIME.call("system.remark", remark=b"a" * 1000)] * (VALUES_SHOWN_MAX))
    told = Reader(42).call(many)["args"]["calls"]
    assert len(told) < VALUES_SHOWN_MAX
    assert told[-1].endswith(" more")
    assert told[0] == {"call": "system.remark", "args": {"remark": f"0x{'61' * 32}… (1,000 bytes)"}}
    assert len(told[0]["args"]["remark"]) < 2 * BYTES_SHOWN_MAX


async def test_a_search_finds_blocks_transactions_and_accounts_and_says_when_it_finds_nothing(tmp_path: Path) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        raw = transfer(it, 0)
        await sent(it, raw)
        await it.node.seal()
        head = "0x" + it.node.ledger.head_hash.hex()
        alice = {"kind": "account", "account": address(ALICE)}
        for text, found in {
            "1": {"kind": "block", "block": 1},
            " 2 ": {"kind": "block", "block": 2},
            "3": None,
            "99999999999": None,
            head: {"kind": "block", "block": 2},
            "0x" + blake2_256(raw).hex(): {"kind": "transaction", "block": 1, "index": 1},
            "0x" + ALICE.public.hex(): alice,
            address(ALICE): alice,
            ss58.encode(ALICE.public, 0): alice,
            "0x" + "ab" * 32: None,
            "digits": None,
            "": None,
        }.items():
            assert await client.request("explorer_search", text) == found, text


async def test_a_search_reads_a_bounded_number_of_bytes_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        raw = transfer(it, 0)
        await sent(it, raw)
        for _ in range(3):
            await it.node.seal()
        sought = "0x" + blake2_256(raw).hex()
        monkeypatch.setattr(methods_explorer, "SEARCHED_BYTES_AT_ONCE", 1)
        found = {"kind": "transaction", "block": 1, "index": 1}
        assert await client.request("explorer_search", sought) == found
        monkeypatch.setattr(methods_explorer, "SEARCHED_BYTES", 2)
        assert await client.request("explorer_search", sought) is None


async def test_an_account_has_a_balance_and_what_named_it_a_page_of_blocks_at_a_time(tmp_path: Path) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        await sent(it, transfer(it, 0, 5 * POT))
        for _ in range(70):
            await it.node.seal()
        await sent(it, transfer(it, 1, POT))
        bob = address(BOB)
        first = await client.request("explorer_account", bob)
        assert (first["free"], first["nonce"], first["exists"]) == (str(10_006 * POT), 0, True)
        assert [entry["height"] for entry in first["history"]] == [72]
        assert first["history"][0]["extrinsic"]["args"]["value"] == str(POT)
        assert (first["from"], first["to"], first["next"]) == (9, 72, 9)
        rest = await client.request("explorer_account", bob, first["next"])
        assert ([entry["height"] for entry in rest["history"]], rest["next"]) == ([1], None)
        nobody = await client.request("explorer_account", address(CHARLIE))
        assert (nobody["exists"], nobody["free"], nobody["history"]) == (False, "0", [])
        both = await client.request("explorer_accounts", [bob, address(KEYS.account)])
        assert [each["roles"] for each in both] == [[], ["validator"]]


async def test_validators_are_told_with_stake_and_what_they_sealed(tmp_path: Path) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        for _ in range(3):
            await it.node.seal()
        told = await client.request("explorer_validators")
        (validator,) = told["validators"]
        assert validator == {
            "account": address(KEYS.account),
            "seat": 0,
            "next": True,
            "candidate": True,
            "active": str(1000 * POT),
            "unbonding": "0",
            "sealed": 2,
            "slashed": "0",
            "earnedByChecking": "0",
        }
        assert (told["height"], told["setId"], told["session"], told["quorum"], told["offences"]) == (3, 0, 0, 1, [])


async def test_the_arithmetic_of_a_round_is_what_its_events_say_and_sums_to_what_was_minted(tmp_path: Path) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        with trio.fail_after(60):
            await final_round(it, client)
        told = await client.request("training_reward", 0, 0)
        slots = [(slot["outcome"], slot["reward"]) for slot in told["slots"]]
        assert slots == [("not revealed", 0), ("accepted", told["worth"] - told["auditor"] - told["aggregator"])]
        assert (told["pricePerSlot"], told["emission"], told["paidSlots"], told["worth"]) == (POT, POT, 1, 2 * POT)
        assert told["minted"] == told["worth"] == sum(each["amount"] for each in told["payments"])
        assert told["agrees"] is True
        assert told["paid"] == told["payments"]
        lately = await client.request("training_recentWork")
        assert lately["rounds"] == 1
        assert lately["workers"] == [{"account": address(BOB), "accepted": 1, "planted": 0, "failed": 1}]
        (worker,) = await client.request("training_workers")
        assert worker["slashed"] == 200 * POT - worker["bond"] > 0
        assert (worker["taken"], worker["paused"]) == (0, [0])
        for round_ in (1, 7):
            with pytest.raises(RpcError) as refused:
                await client.request("training_reward", 0, round_)
            assert refused.value.code == Code.TRAINING_NOT_FOUND


async def prepared(client: Client, method: str, key: Keypair, *params: object) -> dict[str, Any]:
    told: dict[str, Any] = await client.request(f"explorer_prepare{method}", address(key), *params)
    return told


def assembled(told: dict[str, Any], key: Keypair) -> str:
    """What a page makes of a prepared transaction and a wallet's signature: wallets sign the payload by its fields."""
    fields = told["payload"]

    def number(name: str) -> int:
        return int(fields[name], 16)

    era = ERA.decode(bytes.fromhex(fields["era"][2:]))
    method = bytes.fromhex(fields["method"][2:])
    birth, genesis = (bytes.fromhex(fields[name][2:]) for name in ("blockHash", "genesisHash"))
    versions = number("specVersion"), number("transactionVersion")
    payload = signing_payload(method, era, number("nonce"), number("tip"), *versions, genesis, birth)
    signature = bytes([int(key.scheme)]) + key.sign(payload)
    extra = bytes.fromhex(told["extra"][2:])
    body = bytes([0x84, 0]) + key.public + signature + extra + method
    return "0x" + (compact_encode(len(body)) + body).hex()


@pytest.mark.parametrize("key", [ALICE, ALICE_SR], ids=["ed25519", "sr25519"])
async def test_a_prepared_transfer_is_accepted_once_signed_for_the_fee_that_was_said(
    tmp_path: Path, key: Keypair
) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        for _ in range(6):
            await it.node.seal()
        told = await prepared(client, "Transfer", key, address(BOB), str(3 * POT))
        assert (told["call"], told["args"]) == (
            "balances.transfer_keep_alive",
            {"dest": address(BOB), "value": str(3 * POT)},
        )
        assert (told["problems"], told["costs"]) == ([], {"amount": str(3 * POT)})
        await client.request("author_submitExtrinsic", assembled(told, key))
        after = await prepared(client, "Transfer", key, address(BOB), str(POT))
        assert after["payload"]["nonce"] == "0x1", "behind what waits in the pool"
        await it.node.seal()
        block = await client.request("explorer_block", 7)
        assert (block["extrinsics"][-1]["ok"], block["extrinsics"][-1]["fee"]) == (True, told["fee"])


async def test_what_speaks_against_a_transfer_is_said_before_it_is_signed(tmp_path: Path) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        for key, dest, amount, problem in (
            (ALICE, BOB, 0, "an amount above 0"),
            (ALICE, ALICE, POT, "the same account"),
            (ALICE, CHARLIE, 1, "begins with at least the existential deposit"),
            (ALICE, BOB, 10**9 * POT, "too little"),
            (CHARLIE, BOB, POT, "too little"),
        ):
            told = await prepared(client, "Transfer", key, address(dest), str(amount))
            assert any(problem in each for each in told["problems"]), (problem, told["problems"])
        for wrong in ("1.5", "-1", "", "１", str(1 << 128), 5):
            with pytest.raises(RpcError, match="planck"):
                await client.request("explorer_prepareTransfer", address(ALICE), address(BOB), wrong)


async def test_a_prepared_task_is_created_with_the_terms_of_another_and_as_many_audits_as_its_price_needs(
    tmp_path: Path,
) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        await it.node.seal()
        told = await prepared(client, "Task", BOB, 0, "again", 7, 2, str(POT // 2), False)
        assert (told["problems"], told["costs"]["escrow"]) == ([], str(7 * POT))
        await client.request("author_submitExtrinsic", assembled(told, BOB))
        await it.node.seal()
        made, source = [await client.request("training_task", task) for task in (1, 0)]
        same = ("programRoot", "datasetRoot", "paramsRoot", "optimizer")
        assert {name: made[name] for name in same} == {name: source[name] for name in same}
        assert (made["name"], made["owner"], made["rounds"], made["escrow"]) == ("again", address(BOB), 7, 7 * POT)
        assert str(made["storage"]["deposit"]) == told["costs"]["deposit"]


async def test_what_the_chain_would_refuse_of_a_task_is_said(tmp_path: Path) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        for name, price, problem in (("", POT, "name"), ("x", 1, "price"), ("x", 10**6 * POT, "more than")):
            told = await prepared(client, "Task", BOB, 0, name, 7, 2, str(price), False)
            assert any("the chain would refuse it" in each for each in told["problems"]), problem
        with pytest.raises(RpcError, match="no task 9"):
            await prepared(client, "Task", BOB, 9, "x", 1, 1, "1", False)


async def test_the_clock_of_the_node_and_where_its_chain_stands_are_told(tmp_path: Path) -> None:
    async with served(tmp_path) as it, Client.connect(it.url) as client:
        await it.node.seal()
        told = await client.request("explorer_now")
        assert told.pop("now") > GENESIS_MS
        assert told == {
            "height": 1,
            "hash": "0x" + it.node.ledger.head_hash.hex(),
            "target": 1,
            "syncing": False,
            "stalled": None,
            "peers": 0,
            "pending": 0,
            "oldestState": 0,
            "lowestBlock": 0,
        }


@pytest.mark.slow
async def test_who_is_missing_is_told_of_each_block_and_the_view_in_which_another_proposed(tmp_path: Path) -> None:
    names = ("Alice", "Bob", "Charlie", "Dave")
    async with cluster(tmp_path, block_time_ms=100, sessionBlocks=1000) as network:
        members = [await network.start(name) for name in names[:3]]
        await members[0].reach(6)
        async with Client.connect(f"ws://127.0.0.1:{members[0].rpc_port}") as client:
            blocks = await client.request("explorer_blocks", 7)
    dave = development_address("Dave")
    present = {development_address(name) for name in names[:3]}
    for block in blocks[:-2]:  # Block 1 has no seal of its parent, genesis none at all.
        seal = block["parentSeal"]
        assert (set(seal["voters"]), seal["missing"]) == (present, [dave])
    assert all(block["author"] in present for block in blocks[:-1])
    assert {block["view"] for block in blocks[:-1]} == {0, 1}, "in Dave's turns the next one proposes"
