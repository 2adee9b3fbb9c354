"""`chainHead_v1` before clients that do what they should not: ask wrongly, ask for too much, do not read, or leave."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from chain.primitives.types import HEADER
from chain.rpc import methods_chainhead
from chain.rpc.broadcast import BACKLOG
from chain.rpc.context import Context, hexed
from chain.rpc.errors import Code
from chain.rpc.follow import OPERATIONS_MAX, PINNED_MAX, Operation
from chain.rpc.methods_chainhead import FOLLOWS_MAX
from chain.rpc.protocol import Limits
from chain.rpc.queries import PAGE_ITEMS_MAX
from tests.rpc.follower import (
    ACCOUNTS,
    EVERYTHING,
    LIMIT_REACHED,
    NUMBER,
    UNKNOWN,
    follow,
    new_block,
    started,
    state,
)
from tests.rpc.kit import served
from tests.rpc.line import line


async def test_a_block_is_unpinned_once_and_a_list_of_blocks_wholly_or_not_at_all(tmp_path: Path) -> None:
    async with served(tmp_path) as it, line(it) as one:
        headers = [await it.node.seal() for _ in range(3)]
        blocks = [hexed(it.node.ledger.genesis_hash), *(hexed(header.hash) for header in headers)]
        number = await follow(one, blocks)
        assert await one.ask("chainHead_v1_unpin", number, blocks[0]) is None
        assert await one.ask("chainHead_v1_unpin", number, blocks[0]) == Code.NOT_PINNED
        assert await one.ask("chainHead_v1_unpin", number, [blocks[1], blocks[0]]) == Code.NOT_PINNED
        assert await one.ask("chainHead_v1_unpin", number, [blocks[1], UNKNOWN]) == Code.NOT_PINNED
        assert await one.ask("chainHead_v1_unpin", number, [blocks[1], blocks[1]]) == Code.DUPLICATE_HASHES
        assert await one.ask("chainHead_v1_unpin", number, [UNKNOWN] * (PINNED_MAX + 1)) == Code.INVALID_PARAMS
        assert await one.ask("chainHead_v1_header", number, blocks[1]) == hexed(HEADER.encode(headers[0]))
        assert await one.ask("chainHead_v1_unpin", number, []) is None
        assert await one.ask("chainHead_v1_unpin", number, blocks[1:]) is None
        for block in (*blocks, UNKNOWN):
            assert await one.ask("chainHead_v1_header", number, block) == Code.NOT_PINNED
            assert await one.ask("chainHead_v1_body", number, block) == Code.NOT_PINNED
            assert await one.ask("chainHead_v1_call", number, block, "Core_version", "0x") == Code.NOT_PINNED
            assert await one.ask("chainHead_v1_storage", number, block, []) == Code.NOT_PINNED
        header = await it.node.seal()  # The follow itself goes on.
        assert await one.notes(number, 3) == new_block(header)


async def test_an_operation_outlives_the_pin_of_its_block_and_ends_with_its_state(tmp_path: Path) -> None:
    async with served(tmp_path, others=3 * PAGE_ITEMS_MAX, history=4) as it, line(it) as one:
        header = await it.node.seal()
        at = hexed(header.hash)
        number = await follow(one, [hexed(it.node.ledger.genesis_hash), at])
        query = {"key": ACCOUNTS, "type": "descendantsHashes"}
        await one.ask("chainHead_v1_storage", number, at, [query])
        await one.ask("chainHead_v1_unpin", number, [hexed(it.node.ledger.genesis_hash), at])
        values = await state(it, ACCOUNTS, at)
        for page in (values[:PAGE_ITEMS_MAX], values[PAGE_ITEMS_MAX : 2 * PAGE_ITEMS_MAX]):
            items, waiting = await one.notes(number, 2)
            assert [item["key"] for item in items["items"]] == [item["key"] for item in page]
            assert waiting == {"event": "operationWaitingForContinue", "operationId": "1"}
            await one.ask("chainHead_v1_continue", number, "1")
        await one.notes(number, 2)
        for _ in range(4):  # Now the state after the block is pruned.
            await one.ask("chainHead_v1_unpin", number, hexed((await it.node.seal()).hash))
        assert [event["event"] for event in await one.notes(number, 12)].count("newBlock") == 4
        await one.ask("chainHead_v1_continue", number, "1")
        assert await one.note(number) == {"event": "operationInaccessible", "operationId": "1"}
        assert await one.ask("chainHead_v1_continue", number, "1") is None
        assert await one.is_quiet()


async def test_a_follow_that_pins_a_block_whose_state_is_pruned_is_stopped(tmp_path: Path) -> None:
    async with served(tmp_path, history=4) as it, line(it) as one:
        pinned = await it.node.seal()
        at = hexed(pinned.hash)
        number = await follow(one, [hexed(it.node.ledger.genesis_hash), at])
        await one.ask("chainHead_v1_unpin", number, hexed(it.node.ledger.genesis_hash))
        for _ in range(3):  # Four states are kept: of the pinned block and three more.
            header = await it.node.seal()
            assert await one.notes(number, 3) == new_block(header)
            await one.ask("chainHead_v1_unpin", number, hexed(header.hash))
        assert await one.ask("chainHead_v1_storage", number, at, []) == started(1, discardedItems=0)
        await one.note(number)
        await it.node.seal()
        assert await one.note(number) == {"event": "stop"}
        await it.node.seal()
        # It is as if it had never been.
        assert await one.ask("chainHead_v1_header", number, at) is None
        assert await one.ask("chainHead_v1_unpin", number, at) is None
        assert await one.ask("chainHead_v1_body", number, at) == LIMIT_REACHED
        assert await one.ask("chainHead_v1_storage", number, at, []) == LIMIT_REACHED
        assert await one.ask("chainHead_v1_unfollow", number) is None
        assert await one.is_quiet()
        # And another starts with blocks whose states are kept for some blocks more.
        head = it.node.ledger.head
        await follow(one, [hexed(head.parent_hash), hexed(head.hash)])


async def test_an_unknown_follow_is_a_stale_one_and_that_of_another_connection_is_unknown(tmp_path: Path) -> None:
    async with served(tmp_path) as it, line(it) as one, line(it) as other:
        at = hexed(it.node.ledger.genesis_hash)
        theirs = await follow(other, [at])
        heads = await one.ask("chain_subscribeNewHeads")
        await one.note(heads)
        for number in ("", "nothing", theirs, heads):
            assert await one.batch(
                ("chainHead_v1_header", number, at),
                ("chainHead_v1_body", number, at),
                ("chainHead_v1_call", number, at, "Core_version", "0x"),
                ("chainHead_v1_storage", number, at, [{"key": NUMBER, "type": "value"}], None),
                ("chainHead_v1_unpin", number, at),
                ("chainHead_v1_continue", number, "1"),
                ("chainHead_v1_stopOperation", number, "1"),
                ("chainHead_v1_unfollow", number),
            ) == [None, LIMIT_REACHED, LIMIT_REACHED, LIMIT_REACHED, None, None, None, None]
        header = await it.node.seal()
        assert await other.notes(theirs, 3) == new_block(header)
        assert (await one.note(heads))["number"] == "0x1"


async def test_a_connection_has_four_follows_and_may_have_another_for_each_that_it_ends(tmp_path: Path) -> None:
    async with served(tmp_path) as it, line(it) as one:
        at = hexed(it.node.ledger.genesis_hash)
        numbers = [await follow(one, [at]) for _ in range(FOLLOWS_MAX)]
        for _ in range(3):
            assert await one.ask("chainHead_v1_follow", True) == Code.TOO_MANY_FOLLOWS
        # Each has its own pins.
        assert await one.ask("chainHead_v1_unpin", numbers[0], at) is None
        assert await one.ask("chainHead_v1_unpin", numbers[1], at) is None
        await one.ask("chainHead_v1_unfollow", numbers[2])
        await follow(one, [at])
        assert await one.ask("chainHead_v1_follow", True) == Code.TOO_MANY_FOLLOWS


async def test_what_is_more_than_a_follow_may_ask_at_once_is_discarded_or_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as it, line(it) as one:
        at = hexed(it.node.ledger.genesis_hash)
        number = await follow(one, [at])
        queries = [{"key": ACCOUNTS, "type": "hash"}] * (OPERATIONS_MAX - 1)
        assert await one.batch(
            ("chainHead_v1_storage", number, at, queries),
            ("chainHead_v1_storage", number, at, queries),
            ("chainHead_v1_storage", number, at, queries),
            ("chainHead_v1_body", number, at),
            ("chainHead_v1_call", number, at, "Core_version", "0x"),
            ("chainHead_v1_body", number, UNKNOWN),
        ) == [
            started(1, discardedItems=0),
            started(2, discardedItems=OPERATIONS_MAX - 2),
            LIMIT_REACHED,
            LIMIT_REACHED,
            LIMIT_REACHED,
            Code.NOT_PINNED,
        ]
        assert await one.notes(number, 2) == [
            {"event": "operationStorageDone", "operationId": "1"},
            {"event": "operationStorageDone", "operationId": "2"},
        ]
        answer = await one.ask("chainHead_v1_storage", number, at, queries + queries)
        assert answer == started(3, discardedItems=OPERATIONS_MAX - 2)


async def test_an_operation_that_is_stopped_says_nothing_more_and_makes_room(tmp_path: Path) -> None:
    async with served(tmp_path, others=PAGE_ITEMS_MAX) as it, line(it) as one:
        at = hexed(it.node.ledger.genesis_hash)
        number = await follow(one, [at])
        queries = [{"key": ACCOUNTS, "type": "descendantsValues"}] * OPERATIONS_MAX
        await one.ask("chainHead_v1_storage", number, at, queries)
        _, waiting = await one.notes(number, 2)
        assert waiting == {"event": "operationWaitingForContinue", "operationId": "1"}
        assert await one.ask("chainHead_v1_body", number, at) == LIMIT_REACHED
        assert await one.ask("chainHead_v1_stopOperation", number, "1") is None
        assert await one.ask("chainHead_v1_stopOperation", number, "1") is None
        assert await one.ask("chainHead_v1_continue", number, "1") is None
        assert await one.ask("chainHead_v1_body", number, at) == started(2)
        assert await one.note(number) == {"event": "operationBodyDone", "operationId": "2", "value": []}
        # One that is stopped before its client can know that it began.
        body = ("chainHead_v1_body", number, at)
        assert await one.batch(body, ("chainHead_v1_stopOperation", number, "3"), body) == [
            started(3),
            None,
            started(4),
        ]
        assert await one.note(number) == {"event": "operationBodyDone", "operationId": "4", "value": []}
        assert await one.is_quiet()


async def test_only_an_operation_that_waits_is_continued(tmp_path: Path) -> None:
    async with served(tmp_path) as it, line(it) as one:
        at = hexed(it.node.ledger.genesis_hash)
        number = await follow(one, [at])
        answers = await one.batch(("chainHead_v1_body", number, at), ("chainHead_v1_continue", number, "1"))
        assert answers == [started(1), Code.NOT_WAITING]
        assert (await one.note(number))["event"] == "operationBodyDone"
        assert await one.ask("chainHead_v1_continue", number, "1") is None
        assert await one.ask("chainHead_v1_continue", number, "nothing") is None


async def test_a_call_that_the_runtime_cannot_answer_is_an_error_of_the_operation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(tmp_path) as it, line(it) as one:
        at = hexed(it.node.ledger.genesis_hash)
        number = await follow(one, [at])
        for operation, (function, arguments, reason) in enumerate(
            [
                ("Nothing_at_all", "0x", "no API function Nothing_at_all"),
                ("", "0x", "no API function"),
                ("AccountNonceApi_account_nonce", "0x00", "32 bytes"),
                ("TaggedTransactionQueue_validate_transaction", "0x02", ""),
                ("TransactionPaymentApi_query_info", "0x00", ""),
            ],
            1,
        ):
            answer = await one.ask("chainHead_v1_call", number, at, function, arguments)
            assert answer == started(operation)
            event = await one.note(number)
            assert (event["event"], event["operationId"]) == ("operationError", str(operation))
            assert reason in event["error"]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_parameters_of_another_form_are_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as it, line(it) as one:
        at = hexed(it.node.ledger.genesis_hash)
        number = await follow(one, [at])
        hashes: list[Any] = [None, 1, "", "0x", at[:-2], at + "00", "0x" + "zz" * 32, {}]
        keys: list[Any] = [None, 1, "zz", "0x0", "0x" + "00" * 300]
        for bad in hashes:
            for method in ("header", "body", "unpin"):
                assert await one.ask(f"chainHead_v1_{method}", number, bad) == Code.INVALID_PARAMS
        lists: list[Any] = [None, 1, {}, [1], [{}], [[]], [{"key": NUMBER}]]
        lists += [[{"key": key, "type": "value"}] for key in keys]
        kinds: list[Any] = [None, 1, [], "", "values", "closest-descendant-merkle-value"]
        lists += [[{"key": NUMBER, "type": kind}] for kind in kinds]
        for items in lists:
            assert await one.ask("chainHead_v1_storage", number, at, items) == Code.INVALID_PARAMS
        calls: list[tuple[Any, ...]] = [
            *(("chainHead_v1_follow",), ("chainHead_v1_follow", 1), ("chainHead_v1_follow", True, 1)),
            *(("chainHead_v1_call", number, at), ("chainHead_v1_call", number, at, 1, "0x")),
            *(("chainHead_v1_call", number, at, "Core_version", "0x0"), ("chainHead_v1_unpin", number, [at, 1])),
            *(("chainHead_v1_storage", number, at, [], 1), ("chainHead_v1_header", 1, at)),
            *(("chainHead_v1_unfollow",), ("chainHead_v1_unfollow", [])),
            *(("chainHead_v1_continue", number), ("chainHead_v1_stopOperation", number, 1)),
        ]
        assert await one.batch(*calls) == [Code.INVALID_PARAMS] * len(calls)
        assert await one.is_quiet()


async def test_a_follow_needs_a_connection(tmp_path: Path) -> None:
    async with served(tmp_path) as it, httpx.AsyncClient(verify=False, trust_env=False) as http:
        for method, params in (("chainHead_v1_follow", [True]), ("chainHead_v1_unpin", ["", UNKNOWN])):
            asked = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            error = (await http.post(it.http, json=asked)).json()["error"]
            assert (error["code"], "WebSocket" in error["data"]) == (Code.METHOD_NOT_FOUND, True)


async def test_a_client_that_leaves_in_the_middle_of_everything_leaves_nothing_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(tmp_path, others=2 * PAGE_ITEMS_MAX) as it, line(it) as other:
        at = hexed(it.node.ledger.genesis_hash)
        theirs = await follow(other, [at])
        for _ in range(5):
            async with line(it) as one:
                numbers = [await follow(one, [at]) for _ in range(FOLLOWS_MAX)]
                calls: list[tuple[str, list[Any]]] = []
                for number in numbers:
                    calls += 8 * [("chainHead_v1_storage", [number, at, [EVERYTHING]])]
                    calls += 4 * [("chainHead_v1_call", [number, at, "Metadata_metadata", "0x"])]
                await one.send(*calls)
                await one.hang_up()
        with trio.fail_after(60):
            while it.server.connections > 1:
                await it.node.seal()
        assert it.node.heads.subscribers == 1
        headers = it.node.ledger.head.height
        assert len(await other.notes(theirs, 3 * headers)) == 3 * headers
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_all_that_a_connection_has_asked_for_takes_one_place_among_those_who_wait_for_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, most = 0, 0
    in_thread = Context.in_thread

    async def counting(context: Context, *call: Any) -> Any:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        try:
            return await in_thread(context, *call)
        finally:
            waiting -= 1

    async with served(tmp_path, others=2 * PAGE_ITEMS_MAX) as it, line(it) as one:
        at = hexed(it.node.ledger.genesis_hash)
        follows = [await follow(one, [at]) for _ in range(FOLLOWS_MAX)]
        monkeypatch.setattr(Context, "in_thread", counting)
        await one.batch(
            *(("chainHead_v1_call", number, at, "Metadata_metadata", "0x") for _ in range(6) for number in follows),
            *(("archive_v1_storage", at, [EVERYTHING]) for _ in range(6)),
            *(("state_subscribeStorage", [NUMBER]) for _ in range(6)),
        )
        events: list[str] = []
        while events.count("operationCallDone") < 24 or events.count("storageDone") < 6 or events.count("changes") < 6:
            _, event = await one.any_note()
            events.append(event.get("event", "changes"))
        assert most == 1


async def test_the_arguments_of_calls_that_wait_count_as_memory_held_for_the_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    perform = methods_chainhead._perform

    def late(context: Context, operation: Operation) -> Any:
        assert go_on.wait(60)
        return perform(context, operation)

    monkeypatch.setattr(methods_chainhead, "_perform", late)
    async with served(tmp_path) as it, line(it) as one:
        at = hexed(it.node.ledger.genesis_hash)
        number = await follow(one, [at])
        call = ("chainHead_v1_call", number, at, "Core_version", hexed(bytes(256 * 1024)))
        for count in (1, 2):
            assert await one.ask(*call) == started(count)
            assert await one.is_quiet()
            assert it.server.waiting_bytes >= count * 256 * 1024
        await one.ask("chainHead_v1_stopOperation", number, "2")
        assert await one.is_quiet()
        assert it.server.waiting_bytes < 257 * 1024
        go_on.set()
        assert (await one.note(number))["operationId"] == "1"
        assert await one.is_quiet()
        assert it.server.waiting_bytes < 1024


async def test_a_client_that_does_not_read_is_told_to_start_over_and_costs_little_memory(tmp_path: Path) -> None:
    limits = Limits(outbox_bytes_max=512 * 1024)
    async with served(tmp_path, others=PAGE_ITEMS_MAX, limits=limits) as it, line(it) as one, line(it) as other:
        at = hexed(it.node.ledger.genesis_hash)
        theirs = await follow(other, [at])
        follows = [await follow(one, [at]) for _ in range(FOLLOWS_MAX)]
        # Some twenty megabytes: far more than the kernel's buffers take.
        storage = [("chainHead_v1_storage", [number, at, [EVERYTHING]]) for number in follows]
        for _ in range(OPERATIONS_MAX // 8):
            await one.send(*8 * storage)
        most = 0
        with trio.fail_after(60):
            for _ in range(BACKLOG + 8):
                header = await it.node.seal()
                assert await other.notes(theirs, 3) == new_block(header)
                most = max(most, it.server.waiting_bytes)
        assert most < 1024 * 1024
        for batch in range(OPERATIONS_MAX // 8):
            numbers = range(8 * batch + 1, 8 * batch + 9)
            assert await one.answers() == [started(number, discardedItems=0) for number in numbers for _ in follows]
        seen: dict[str, list[str]] = {number: [] for number in follows}
        while not all(events and events[-1] == "stop" for events in seen.values()):
            number, event = await one.any_note()
            seen[number].append(event["event"])
        for events in seen.values():
            assert events.count("newBlock") == events.count("finalized") < BACKLOG + 8  # It missed some.
            assert 0 < events.count("operationStorageItems") < OPERATIONS_MAX
        assert await one.is_quiet()
        assert isinstance(await one.ask("chainHead_v1_follow", True), str)
