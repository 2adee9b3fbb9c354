"""`state_subscribeStorage`: what a client that watches keys is told, and how it learns that it will be told no more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio_websocket import ConnectionClosed

from chain.rpc.context import hexed
from tests.rpc.follower import ABSENT, NUMBER
from tests.rpc.kit import served
from tests.rpc.line import line


async def test_all_keys_are_told_once_and_then_those_that_a_block_changes(tmp_path: Path) -> None:
    async with served(tmp_path) as it, line(it) as one:
        header = await it.node.seal()
        number = await one.ask("state_subscribeStorage", [NUMBER, ABSENT, NUMBER])
        told = {"block": hexed(header.hash), "changes": [[NUMBER, "0x01000000"], [ABSENT, None]]}
        assert await one.note(number) == told
        header = await it.node.seal()
        assert await one.note(number) == {"block": hexed(header.hash), "changes": [[NUMBER, "0x02000000"]]}
        other = await one.ask("state_subscribeStorage", [ABSENT])
        assert await one.note(other) == {"block": hexed(header.hash), "changes": [[ABSENT, None]]}
        assert await one.ask("state_unsubscribeStorage", number) is True
        await it.node.seal()
        assert await one.is_quiet()
        assert await one.ask("state_unsubscribeStorage", other) is True


async def test_a_key_that_is_named_often_is_told_once(tmp_path: Path) -> None:
    async with served(tmp_path) as it, line(it) as one:
        header = await it.node.seal()
        told = {"block": hexed(header.hash), "changes": [[NUMBER, "0x01000000"]]}
        assert await one.ask("state_queryStorageAt", [NUMBER] * 1000) == [told]


async def test_a_client_whose_subscription_cannot_go_on_is_told_why(tmp_path: Path) -> None:
    async with served(tmp_path) as it, line(it) as one:
        number = await one.ask("state_subscribeStorage", [NUMBER])
        await one.note(number)
        header = await it.node.seal()
        await one.note(number)
        it.node.heads.publish(replace(header, height=header.height + 1))  # Of a block that the ledger does not have.
        with trio.fail_after(60), pytest.raises(ConnectionClosed) as closed:
            await one.any_note()
        assert f"subscription {number} cannot go on: Client error: UnknownBlock" in str(closed.value.reason)


async def test_the_keys_that_a_client_watches_count_as_memory_held_for_it(tmp_path: Path) -> None:
    keys = [hexed(bytes(200) + number.to_bytes(4)) for number in range(1000)]
    async with served(tmp_path) as it, line(it) as one:
        number = await one.ask("state_subscribeStorage", keys)
        assert [key for key, _ in (await one.note(number))["changes"]] == keys
        assert it.server.waiting_bytes >= 204_000
        await one.ask("state_unsubscribeStorage", number)
        with trio.fail_after(60):
            while it.server.waiting_bytes >= 1000:
                await one.ask("system_name")
