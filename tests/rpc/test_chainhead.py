"""`chainHead_v1`: what a client that keeps to the specification sees, in whole sequences of events."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from chain.primitives.hashing import blake2_256
from chain.primitives.types import HEADER, Header
from chain.rpc import methods_chainhead
from chain.rpc.context import Context, hexed
from chain.rpc.errors import Code
from chain.rpc.queries import PAGE_ITEMS_MAX
from runtime.potchain import RUNTIME
from tests.rpc.follower import (
    ABSENT,
    ACCOUNTS,
    NUMBER,
    follow,
    new_block,
    started,
    state,
)
from tests.rpc.kit import ALICE, served
from tests.rpc.line import line


async def test_a_follow_reports_the_newest_blocks_and_then_each_as_new_best_and_finalized(tmp_path: Path) -> None:
    async with served(tmp_path) as it, line(it) as one:
        headers = [await it.node.seal() for _ in range(2)]
        number = await one.ask("chainHead_v1_follow", True)
        version = RUNTIME.version
        blocks = [hexed(it.node.ledger.genesis_hash), *(hexed(header.hash) for header in headers)]
        assert await one.notes(number, 2) == [
            {
                "event": "initialized",
                "finalizedBlockHashes": blocks,
                "finalizedBlockRuntime": {
                    "type": "valid",
                    "spec": {
                        "specName": "potchain",
                        "implName": version.impl_name,
                        "specVersion": version.spec_version,
                        "implVersion": version.impl_version,
                        "transactionVersion": version.transaction_version,
                        "apis": {hexed(name): api for name, api in version.apis},
                    },
                },
            },
            {"event": "bestBlockChanged", "bestBlockHash": blocks[-1]},
        ]
        for _ in range(3):
            header = await it.node.seal()
            assert await one.notes(number, 3) == new_block(header)
        assert await one.ask("chainHead_v1_header", number, hexed(header.hash)) == hexed(HEADER.encode(header))
        assert await one.ask("chainHead_v1_unfollow", number) is None
        await it.node.seal()
        assert await one.is_quiet()
        assert await one.ask("chainHead_v1_unfollow", number) is None


async def test_without_the_runtime_no_event_mentions_it_and_calls_are_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as it, line(it) as one:
        number = await one.ask("chainHead_v1_follow", False)
        genesis = hexed(it.node.ledger.genesis_hash)
        assert await one.notes(number, 2) == [
            {"event": "initialized", "finalizedBlockHashes": [genesis]},
            {"event": "bestBlockChanged", "bestBlockHash": genesis},
        ]
        header = await it.node.seal()
        new, *_ = new_block(header)
        del new["newRuntime"]
        assert await one.notes(number, 3) == [new, *new_block(header)[1:]]
        call = ("chainHead_v1_call", number, genesis, "Core_version", "0x")
        assert await one.ask(*call) == Code.FOLLOWS_NO_RUNTIME
        assert await one.ask("chainHead_v1_body", number, genesis) == started(1)


async def test_a_long_chain_is_reported_from_its_newest_sixteen_blocks(tmp_path: Path) -> None:
    async with served(tmp_path) as it, line(it) as one:
        headers = [await it.node.seal() for _ in range(20)]
        await follow(one, [hexed(header.hash) for header in headers[-16:]])


async def test_a_block_that_comes_while_a_follow_begins_is_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = methods_chainhead._newest

    async with served(tmp_path) as it, line(it) as one:

        def late(context: Context) -> list[Header]:
            trio.from_thread.run(it.node.seal)
            return newest(context)

        monkeypatch.setattr(methods_chainhead, "_newest", late)
        number = await one.ask("chainHead_v1_follow", True)
        initialized, best = await one.notes(number, 2)
        assert initialized["finalizedBlockHashes"] == [
            hexed(it.node.ledger.genesis_hash),
            hexed(it.node.ledger.head_hash),
        ]
        assert best == {"event": "bestBlockChanged", "bestBlockHash": hexed(it.node.ledger.head_hash)}
        header = await it.node.seal()
        assert await one.notes(number, 3) == new_block(header)


async def test_operations_answer_on_the_follow_after_their_ids(tmp_path: Path) -> None:
    async with served(tmp_path) as it, line(it) as one:
        first, second = await it.node.seal(), await it.node.seal()
        at = hexed(first.hash)
        number = await follow(one, [hexed(it.node.ledger.genesis_hash), at, hexed(second.hash)])
        assert await one.ask("chainHead_v1_body", number, at) == started(1)
        block = it.node.ledger.block(first.hash)
        assert block is not None
        body = [hexed(raw) for raw in block.extrinsics]
        assert await one.note(number) == {"event": "operationBodyDone", "operationId": "1", "value": body}

        arguments = hexed(ALICE.public)
        assert await one.ask("chainHead_v1_call", number, at, "AccountNonceApi_account_nonce", arguments) == started(2)
        assert await one.note(number) == {"event": "operationCallDone", "operationId": "2", "output": "0x00000000"}
        # As polkadot-api writes no arguments.
        assert await one.ask("chainHead_v1_call", number, at, "Metadata_metadata_versions", "") == started(3)
        done = {"event": "operationCallDone", "operationId": "3", "output": "0x080e0000000f000000"}
        assert await one.note(number) == done

        queries = [{"key": NUMBER, "type": "value"}, {"key": NUMBER, "type": "hash"}, {"key": ABSENT, "type": "value"}]
        assert await one.ask("chainHead_v1_storage", number, at, queries, None) == started(4, discardedItems=0)
        height = bytes.fromhex("01000000")
        assert await one.notes(number, 2) == [
            {
                "event": "operationStorageItems",
                "operationId": "4",
                "items": [{"key": NUMBER, "value": hexed(height)}, {"key": NUMBER, "hash": hexed(blake2_256(height))}],
            },
            {"event": "operationStorageDone", "operationId": "4"},
        ]
        assert await one.is_quiet()


async def test_storage_is_read_of_the_block_named_and_the_merkle_values_tell_what_changed(tmp_path: Path) -> None:
    async with served(tmp_path) as it, line(it) as one:
        headers = [await it.node.seal() for _ in range(2)]
        blocks = [hexed(it.node.ledger.genesis_hash), *(hexed(header.hash) for header in headers)]
        number = await follow(one, blocks)

        async def read(block: str, *queries: dict[str, str]) -> list[dict[str, str]]:
            await one.ask("chainHead_v1_storage", number, block, queries)
            found: list[dict[str, str]] = []
            while (event := await one.note(number))["event"] == "operationStorageItems":
                found += event["items"]
            assert event["event"] == "operationStorageDone"
            return found

        for block in blocks:
            values = await state(it, ACCOUNTS, block)
            hashes = [{"key": x["key"], "hash": hexed(blake2_256(bytes.fromhex(x["value"][2:])))} for x in values]
            assert len(values) == 3
            assert await read(block, {"key": ACCOUNTS, "type": "descendantsValues"}) == values
            assert await read(block, {"key": ACCOUNTS, "type": "descendantsHashes"}) == hashes
            assert await read(block, {"key": ABSENT, "type": "descendantsValues"}) == []

        kind = "closestDescendantMerkleValue"
        seen = [await read(block, *({"key": key, "type": kind} for key in (ACCOUNTS, NUMBER))) for block in blocks[1:]]
        assert [list(item) for items in seen for item in items] == 4 * [["key", kind]]
        assert seen[0][0] == seen[1][0]
        assert seen[0][1] != seen[1][1]
        assert await read(blocks[1], {"key": "0x", "type": kind}) == [{"key": "0x", kind: hexed(headers[0].state_root)}]
        assert await read(blocks[1], {"key": ABSENT, "type": kind}) == []


async def test_a_large_prefix_comes_in_pages_that_the_client_asks_for(tmp_path: Path) -> None:
    async with served(tmp_path, others=2 * PAGE_ITEMS_MAX) as it, line(it) as one:
        header = await it.node.seal()
        blocks = [hexed(it.node.ledger.genesis_hash), hexed(header.hash)]
        number = await follow(one, blocks)
        for operation, block in enumerate(blocks, 1):  # An older state is read from the tree.
            name = {"operationId": str(operation)}
            query = {"key": ACCOUNTS, "type": "descendantsValues"}
            answer = await one.ask("chainHead_v1_storage", number, block, [query])
            assert answer == started(operation, discardedItems=0)
            values = await state(it, ACCOUNTS, block)
            for page in (values[:PAGE_ITEMS_MAX], values[PAGE_ITEMS_MAX : 2 * PAGE_ITEMS_MAX]):
                assert await one.notes(number, 2) == [
                    {"event": "operationStorageItems", **name, "items": page},
                    {"event": "operationWaitingForContinue", **name},
                ]
                assert await one.is_quiet()
                assert await one.ask("chainHead_v1_continue", number, str(operation)) is None
            assert await one.notes(number, 2) == [
                {"event": "operationStorageItems", **name, "items": values[2 * PAGE_ITEMS_MAX :]},
                {"event": "operationStorageDone", **name},
            ]
            # It is over: there is nothing to continue.
            assert await one.ask("chainHead_v1_continue", number, str(operation)) is None
        assert await one.is_quiet()


async def test_a_child_trie_holds_nothing(tmp_path: Path) -> None:
    async with served(tmp_path) as it, line(it) as one:
        at = hexed(it.node.ledger.genesis_hash)
        number = await follow(one, [at])
        child = hexed(b":child_storage:default:x")
        query = [{"key": NUMBER, "type": "value"}]
        assert await one.ask("chainHead_v1_storage", number, at, query, child) == started(1, discardedItems=0)
        assert await one.note(number) == {"event": "operationStorageDone", "operationId": "1"}


async def test_parameters_are_taken_by_their_names_in_the_specification(tmp_path: Path) -> None:
    async with served(tmp_path) as it, line(it) as one:
        at = hexed(it.node.ledger.genesis_hash)
        number = await one.ask("chainHead_v1_follow", withRuntime=True)
        await one.notes(number, 2)
        call = {"followSubscription": number, "hash": at, "function": "Core_version", "callParameters": "0x"}
        assert await one.ask("chainHead_v1_call", **call) == started(1)
        assert (await one.note(number))["event"] == "operationCallDone"
        assert await one.ask("chainHead_v1_stopOperation", followSubscription=number, operationId="1") is None
        assert await one.ask("chainHead_v1_unpin", followSubscription=number, hashOrHashes=at) is None
        assert await one.ask("chainHead_v1_unpin", followSubscription=number, hash=at) == Code.INVALID_PARAMS
