"""`archive_v1`, `chainSpec_v1` and `childstate`: blocks and states of any age, what the chain is, what it lacks."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import trio

from chain.primitives.hashing import blake2_128_concat, blake2_256, storage_prefix
from chain.primitives.keys import Keypair
from chain.primitives.types import HEADER, sign_extrinsic
from chain.rpc.context import hexed
from chain.rpc.errors import Code
from chain.rpc.methods_archive import STORAGES_MAX
from chain.rpc.protocol import Limits
from chain.rpc.queries import PAGE_ITEMS_MAX
from runtime.potchain import RUNTIME
from tests.rpc.kit import ALICE, BOB, CHARLIE, POT, Served, served
from tests.rpc.line import Line, line

UNKNOWN = "0x" + "ab" * 32
NUMBER = "0x" + storage_prefix("System", "Number").hex()
ACCOUNTS = "0x" + storage_prefix("System", "Account").hex()
CHILD = "0x" + b":child_storage:default:x".hex()
METHODS = {
    *("chainHead_v1_follow", "chainHead_v1_unfollow", "chainHead_v1_header", "chainHead_v1_body", "chainHead_v1_call"),
    *("chainHead_v1_storage", "chainHead_v1_continue", "chainHead_v1_stopOperation", "chainHead_v1_unpin"),
    *("chainSpec_v1_chainName", "chainSpec_v1_genesisHash", "chainSpec_v1_properties"),
    *("transaction_v1_broadcast", "transaction_v1_stop"),
    *("transactionWatch_v1_submitAndWatch", "transactionWatch_v1_unwatch"),
    *("archive_v1_body", "archive_v1_call", "archive_v1_finalizedHeight", "archive_v1_genesisHash"),
    *("archive_v1_hashByHeight", "archive_v1_header", "archive_v1_storage", "archive_v1_stopStorage"),
    *("archive_v1_storageDiff", "archive_v1_stopStorageDiff"),
    *("childstate_getKeys", "childstate_getKeysPaged", "childstate_getKeysPagedAt", "childstate_getStorage"),
    *("childstate_getStorageEntries", "childstate_getStorageHash", "childstate_getStorageSize"),
}


async def storage(one: Line, block: str, *queries: dict[str, str], child: str | None = None) -> list[dict[str, str]]:
    """The events of a storage query."""
    number = await one.ask("archive_v1_storage", block, queries, child)
    events = [await one.note(number)]
    while events[-1]["event"] == "storage":
        events.append(await one.note(number))
    return events


def item(key: str, **fields: str) -> dict[str, str]:
    return {"event": "storage", "key": key, **fields}


async def test_the_methods_are_listed(tmp_path: Path) -> None:
    async with served(tmp_path) as it, line(it) as one:
        assert set((await one.ask("rpc_methods"))["methods"]) >= METHODS


async def test_the_chain_says_what_it_is(tmp_path: Path) -> None:
    async with served(tmp_path) as it, line(it) as one:
        genesis = hexed(it.node.ledger.genesis_hash)
        assert await one.batch(
            ("chainSpec_v1_chainName",),
            ("chainSpec_v1_genesisHash",),
            ("chainSpec_v1_properties",),
            ("archive_v1_genesisHash",),
        ) == ["potchain test", genesis, {"ss58Format": 42, "tokenDecimals": 12, "tokenSymbol": "POT"}, genesis]


async def test_blocks_of_any_age_are_found_by_height_and_hash(tmp_path: Path) -> None:
    async with served(tmp_path, history=2) as it, line(it) as one:
        headers = [await it.node.seal() for _ in range(5)]
        assert await one.ask("archive_v1_finalizedHeight") == 5
        assert await one.ask("archive_v1_hashByHeight", 0) == [hexed(it.node.ledger.genesis_hash)]
        for header in headers:
            at = hexed(header.hash)
            block = it.node.ledger.block(header.hash)
            assert block is not None
            assert await one.ask("archive_v1_hashByHeight", header.height) == [at]
            assert await one.ask("archive_v1_header", at) == hexed(HEADER.encode(header))
            assert await one.ask("archive_v1_body", at) == [hexed(raw) for raw in block.extrinsics]
        assert await one.ask("archive_v1_hashByHeight", 6) == []
        assert await one.ask("archive_v1_hashByHeight", 2**32 - 1) == []
        for method in ("header", "body"):
            assert await one.ask(f"archive_v1_{method}", UNKNOWN) is None
        for height in (-1, 2**32, "0x1", None, True):
            assert await one.ask("archive_v1_hashByHeight", height) == Code.INVALID_PARAMS


async def test_a_call_succeeds_or_says_why_not(tmp_path: Path) -> None:
    async with served(tmp_path, history=2) as it, line(it) as one:
        old, *_, new = [hexed((await it.node.seal()).hash) for _ in range(3)]
        nonce = ("AccountNonceApi_account_nonce", hexed(ALICE.public))
        assert await one.ask("archive_v1_call", new, *nonce) == {"success": True, "value": "0x00000000"}
        assert await one.ask("archive_v1_call", UNKNOWN, *nonce) is None
        for block, call, reason in (
            (new, ("Nothing_at_all", "0x"), "no API function Nothing_at_all"),
            (new, (nonce[0], "0x00"), "32 bytes"),
            (old, nonce, "the state at height 1 was pruned"),
        ):
            answer = await one.ask("archive_v1_call", block, *call)
            assert (answer["success"], reason in answer["error"], list(answer)) == (False, True, ["success", "error"])


async def test_storage_comes_as_one_event_an_item(tmp_path: Path) -> None:
    async with served(tmp_path) as it, line(it) as one:
        first, _ = [await it.node.seal() for _ in range(2)]
        at = hexed(first.hash)
        keys = await one.ask("state_getKeysPaged", ACCOUNTS, 10, None, at)
        (answer,) = await one.ask("state_queryStorageAt", keys, at)
        values = [item(key, value=value) for key, value in answer["changes"]]
        done = {"event": "storageDone"}
        assert len(values) == 3
        height, kind = bytes.fromhex("01000000"), "closestDescendantMerkleValue"
        assert await storage(
            one,
            at,
            {"key": NUMBER, "type": "value"},
            {"key": NUMBER, "type": "hash"},
            {"key": UNKNOWN, "type": "value"},
            {"key": ACCOUNTS, "type": "descendantsValues"},
            {"key": "0x", "type": kind},
        ) == [
            item(NUMBER, value=hexed(height)),
            item(NUMBER, hash=hexed(blake2_256(height))),
            *values,
            item("0x", **{kind: hexed(first.state_root)}),
            done,
        ]
        after = {"key": ACCOUNTS, "type": "descendantsValues", "paginationStartKey": keys[0]}
        assert await storage(one, at, after) == [*values[1:], done]
        assert await storage(one, at) == [done]
        assert await storage(one, at, {"key": NUMBER, "type": "value"}, child=CHILD) == [done]
        assert await one.is_quiet()


async def test_storage_of_an_unknown_block_or_a_pruned_state_is_an_error_event(tmp_path: Path) -> None:
    async with served(tmp_path, history=2) as it, line(it) as one:
        old = hexed((await it.node.seal()).hash)
        for _ in range(2):
            await it.node.seal()
        for block, reason in ((UNKNOWN, UNKNOWN), (old, "the state at height 1 was pruned")):
            (event,) = await storage(one, block, {"key": NUMBER, "type": "value"})
            assert (event["event"], reason in event["error"]) == ("storageError", True)
        assert await one.is_quiet()


async def test_a_client_that_reads_slowly_gets_everything_and_costs_little_memory(tmp_path: Path) -> None:
    count = 8 * PAGE_ITEMS_MAX
    limits = Limits(outbox_messages_max=64)
    async with served(tmp_path, others=count, limits=limits) as it, line(it) as one:
        await it.node.seal()
        at = hexed(it.node.ledger.genesis_hash)
        query = {"key": ACCOUNTS, "type": "descendantsValues"}
        queries = [await one.ask("archive_v1_storage", at, [query]) for _ in range(4)]
        most = 0
        found: dict[str, list[str]] = {number: [] for number in queries}
        open_ones = set(queries)
        while open_ones:
            number, event = await one.any_note()
            most = max(most, it.server.waiting_bytes)
            if event["event"] == "storage":
                found[number].append(event["key"])
            else:
                assert event == {"event": "storageDone"}
                open_ones.remove(number)
        assert most < 64 * 1024
        assert all(len(keys) == count + 3 and keys == sorted(set(keys)) for keys in found.values())


async def test_storage_queries_are_limited_stopped_and_end_with_their_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(tmp_path, others=8 * PAGE_ITEMS_MAX) as it:
        at = hexed(it.node.ledger.genesis_hash)
        query = {"key": ACCOUNTS, "type": "descendantsValues"}
        async with line(it) as one:
            calls: list[tuple[Any, ...]] = [("archive_v1_storage", at, [query])] * (STORAGES_MAX + 1)
            *numbers, refused = await one.batch(*calls)
            assert refused == Code.TOO_MANY_SUBSCRIPTIONS
            assert await one.batch(*(("archive_v1_stopStorage", number) for number in numbers)) == [None] * STORAGES_MAX
            assert await one.ask("archive_v1_stopStorage", numbers[0]) is None
            assert await one.ask("archive_v1_stopStorage", "nothing") is None
            number = await one.ask("archive_v1_storage", at, [{"key": NUMBER, "type": "value"}])
            while (await one.any_note()) != (number, {"event": "storageDone"}):
                pass
            await one.batch(*calls)
            await one.hang_up()
        with trio.fail_after(60):
            while it.server.connections:
                await trio.lowlevel.checkpoint()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def state(one: Line, at: str) -> dict[str, str]:
    """All keys and values of a small state, as the older methods tell them."""
    keys = await one.ask("state_getKeysPaged", "0x", 256, None, at)
    (answer,) = await one.ask("state_queryStorageAt", keys, at)
    assert len(keys) < 256
    return dict(answer["changes"])


async def include(it: Served, one: Line, sender: Keypair, call: str, **arguments: object) -> str:
    """Send the first transaction of an account; the block that it is in."""
    raw = sign_extrinsic(
        sender,
        RUNTIME.encode_call(RUNTIME.call(call, **arguments)),
        nonce=0,
        spec_version=RUNTIME.spec_version,
        transaction_version=RUNTIME.transaction_version,
        genesis_hash=it.node.ledger.genesis_hash,
    )
    *_, final = await one.notes(await one.ask("transactionWatch_v1_submitAndWatch", hexed(raw)), 3)
    return str(final["block"]["hash"])


async def differences(one: Line, *params: Any) -> list[dict[str, str]]:
    """The events of a difference, but for its end."""
    number = await one.ask("archive_v1_storageDiff", *params)
    events = [await one.note(number)]
    while events[-1]["event"] == "storageDiff":
        events.append(await one.note(number))
    assert events.pop() == {"event": "storageDiffDone"}
    return events


async def test_what_blocks_changed_is_told_by_key(tmp_path: Path) -> None:
    async with served(tmp_path) as it, line(it) as one:
        blocks = [hexed(it.node.ledger.genesis_hash), hexed((await it.node.seal()).hash)]
        blocks.append(await include(it, one, BOB, "balances.transfer_all", dest=CHARLIE.public, keep_alive=False))
        blocks.append(hexed((await it.node.seal()).hash))
        states = [await state(one, at) for at in blocks]

        def dumb(old: dict[str, str], new: dict[str, str], prefix: str = "0x") -> list[dict[str, str]]:
            found = []
            for key in sorted({*old, *new}):
                if old.get(key) != new.get(key) and key.startswith(prefix):
                    kind = "deleted" if key not in new else "modified" if key in old else "added"
                    value = new.get(key, old.get(key, ""))
                    found.append({"event": "storageDiff", "key": key, "value": value, "type": kind})
            return found

        values = [{"returnType": "value"}]
        kinds = set()
        for number in range(1, 4):
            expected = dumb(states[number - 1], states[number])
            kinds |= {event["type"] for event in expected}
            assert await differences(one, blocks[number], values) == expected
            for before in range(number):
                expected = dumb(states[before], states[number])
                assert await differences(one, blocks[number], values, blocks[before]) == expected
                hashes = []
                for event in expected:
                    value = event.pop("value")
                    hashes.append({**event, "hash": hexed(blake2_256(bytes.fromhex(value[2:])))})
                assert await differences(one, blocks[number], None, blocks[before]) == hashes
        assert kinds == {"added", "modified", "deleted"}
        system = hexed(storage_prefix("System", "Number")[:16])
        items = [{"key": system, "returnType": "value"}, {"key": ACCOUNTS, "returnType": "hash"}]
        assert await differences(one, blocks[3], items) == dumb(states[2], states[3], system)
        assert await differences(one, blocks[3], [{"returnType": "value", "childTrieKey": CHILD}]) == []
        assert await differences(one, blocks[3], []) == []
        assert await one.is_quiet()


async def test_a_difference_is_of_a_block_and_an_earlier_one(tmp_path: Path) -> None:
    async with served(tmp_path, history=3) as it, line(it) as one:
        blocks = [hexed(it.node.ledger.genesis_hash), *[hexed((await it.node.seal()).hash) for _ in range(4)]]
        for params, reason in (
            ((UNKNOWN,), UNKNOWN),
            ((blocks[4], None, UNKNOWN), UNKNOWN),
            ((blocks[4], None, blocks[4]), "a height below 4, got 4"),
            ((blocks[3], None, blocks[4]), "a height below 3, got 4"),
            ((blocks[4], None, blocks[1]), "the state at height 1 was pruned"),
            ((blocks[2],), "the state at height 1 was pruned"),
        ):
            number = await one.ask("archive_v1_storageDiff", *params)
            event = await one.note(number)
            assert (event["event"], reason in event["error"]) == ("storageDiffError", True)
        assert await one.is_quiet()


async def test_a_large_difference_comes_whole_and_in_order(tmp_path: Path) -> None:
    count = 2 * PAGE_ITEMS_MAX + 1
    newcomers = [blake2_256(number.to_bytes(4)) for number in range(count)]
    async with served(tmp_path) as it, line(it) as one:
        calls = [RUNTIME.call("balances.transfer_keep_alive", dest=account, value=POT) for account in newcomers]
        at = await include(it, one, ALICE, "utility.batch_all", calls=calls)
        events = await differences(one, at, [{"key": ACCOUNTS, "returnType": "hash"}])
        keys = [event["key"] for event in events if event["type"] == "added"]
        assert keys == sorted(ACCOUNTS + hexed(blake2_128_concat(account))[2:] for account in newcomers)
        assert {event["type"] for event in events} == {"added", "modified"}  # Alice paid.


async def test_archive_parameters_of_another_form_are_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as it, line(it) as one:
        at = hexed(it.node.ledger.genesis_hash)
        value = {"key": NUMBER, "type": "value"}
        lists: list[Any] = [None, {}, [1], [{"key": NUMBER}], [{**value, "type": "size"}], [value] * 1001]
        lists.append([{**value, "paginationStartKey": NUMBER}])
        lists.append([{"key": "0x", "type": "descendantsHashes", "paginationStartKey": 1}])
        for items in lists:
            assert await one.ask("archive_v1_storage", at, items) == Code.INVALID_PARAMS
        assert await one.ask("archive_v1_storage", at, [value], 1) == Code.INVALID_PARAMS
        change = {"returnType": "value"}
        lists = [1, {}, [1], [{}], [{"returnType": "values"}], [{**change, "key": 1}], [change] * 1001]
        lists.append([{**change, "childTrieKey": "zz"}])
        for items in lists:
            assert await one.ask("archive_v1_storageDiff", at, items) == Code.INVALID_PARAMS
        assert await one.ask("archive_v1_storageDiff", at, [], "0x") == Code.INVALID_PARAMS
        assert await one.is_quiet()


async def test_there_are_no_child_tries(tmp_path: Path) -> None:
    async with served(tmp_path) as it, line(it) as one:
        at = hexed(it.node.ledger.genesis_hash)
        for block in ((), (at,)):
            assert await one.batch(
                ("childstate_getKeys", CHILD, "0x", *block),
                ("childstate_getKeysPaged", CHILD, "0x", 10, "0x", *block),
                ("childstate_getKeysPagedAt", CHILD, None, 10, None, *block),
                ("childstate_getStorage", CHILD, NUMBER, *block),
                ("childstate_getStorageEntries", CHILD, [NUMBER, ACCOUNTS], *block),
                ("childstate_getStorageHash", CHILD, NUMBER, *block),
                ("childstate_getStorageSize", CHILD, NUMBER, *block),
            ) == [[], [], [], None, [None, None], None, None]
        assert await one.ask("childstate_getStorage", CHILD, NUMBER, UNKNOWN) == Code.STATE_CLIENT
        assert await one.ask("childstate_getStorage", NUMBER, NUMBER) == Code.INVALID_PARAMS
