"""`transactionWatch_v1` and `transaction_v1`: whole sequences of events, and what becomes of what is not valid."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed

from chain.primitives.hashing import blake2_256
from chain.primitives.types import Mortal
from chain.rpc.context import hexed
from chain.rpc.errors import Code
from chain.rpc.methods_transaction import BROADCASTS_MAX
from chain.rpc.protocol import Limits
from tests.rpc.kit import CHARLIE, Served, push_out, served, transfer
from tests.rpc.line import Line, line

BAD_HEX: list[Any] = [None, 1, "0", "0x0", "0xzz", []]


@asynccontextmanager
async def quiet_node(path: Path) -> AsyncIterator[tuple[Served, Line]]:
    """A node that seals when the test says so, and a connection to it."""
    async with served(path) as it, line(it) as one:
        it.node.seals_at_once = False
        yield it, one


async def watch(one: Line, raw: bytes) -> str:
    return str(await one.ask("transactionWatch_v1_submitAndWatch", hexed(raw)))


async def until_pooled(it: Served, raw: bytes) -> None:
    """Wait until a broadcast has brought a transaction into the pool."""
    with trio.fail_after(60):
        while blake2_256(raw) not in it.node.pool:
            await trio.lowlevel.checkpoint()


async def test_a_watched_transaction_is_validated_included_and_finalized(tmp_path: Path) -> None:
    async with quiet_node(tmp_path) as (it, one):
        raw = transfer(it, 0)
        number = await watch(one, raw)
        assert await one.note(number) == {"event": "validated"}
        header = await it.node.seal()
        block = it.node.ledger.block(header.hash)
        assert block is not None
        place = {"hash": hexed(header.hash), "index": block.extrinsics.index(raw)}
        assert place["index"] == 1  # After the inherent.
        assert await one.notes(number, 2) == [
            {"event": "bestChainBlockIncluded", "block": place},
            {"event": "finalized", "block": place},
        ]
        await it.node.seal()
        assert await one.is_quiet()
        assert await one.ask("transactionWatch_v1_unwatch", number) is None


async def test_one_that_waits_for_another_is_validated_when_that_is_there(tmp_path: Path) -> None:
    async with quiet_node(tmp_path) as (it, one):
        later = await watch(one, transfer(it, 1))
        assert await one.note(later) == {"event": "validated"}
        await it.node.seal()
        assert await one.is_quiet()
        first = await watch(one, transfer(it, 0))
        assert await one.note(first) == {"event": "validated"}
        await it.node.seal()
        events: dict[str, list[str]] = {first: [], later: []}
        for _ in range(5):
            number, event = await one.any_note()
            events[number].append(event["event"])
        assert events == {
            first: ["bestChainBlockIncluded", "finalized"],
            later: ["validated", "bestChainBlockIncluded", "finalized"],
        }


async def test_the_same_transaction_is_watched_twice_and_unwatched_without_being_withdrawn(tmp_path: Path) -> None:
    async with quiet_node(tmp_path) as (it, one), line(it) as other:
        raw = transfer(it, 0)
        mine, theirs = await watch(one, raw), await watch(other, raw)
        assert await one.note(mine) == await other.note(theirs) == {"event": "validated"}
        assert await one.ask("transactionWatch_v1_unwatch", mine) is None
        assert await one.ask("transactionWatch_v1_unwatch", mine) is None
        await it.node.seal()
        assert [event["event"] for event in await other.notes(theirs, 2)] == ["bestChainBlockIncluded", "finalized"]
        assert await one.is_quiet()


async def test_what_is_wrong_with_a_transaction_is_its_only_event(tmp_path: Path) -> None:
    async with quiet_node(tmp_path) as (it, one):
        raw = transfer(it, 0)
        forged = raw[:40] + bytes([raw[40] ^ 1]) + raw[41:]
        for bad, reason in (
            (b"", ""),
            (b"\x00", ""),
            (b"\xff" * 100, ""),
            (forged, "signature"),
            (transfer(it, 0, sender=CHARLIE), "balance"),
        ):
            number = await watch(one, bad)
            event = await one.note(number)
            assert (event["event"], list(event)) == ("invalid", ["event", "error"])
            assert reason in event["error"]
        await it.node.seal()
        assert await one.is_quiet()
        number = await watch(one, raw)
        assert await one.note(number) == {"event": "validated"}
        await it.node.seal()
        await one.notes(number, 2)
        assert (await one.note(await watch(one, raw)))["event"] == "invalid"  # Its nonce is used.


async def test_a_replaced_transaction_is_invalid_and_one_that_pays_too_little_is_dropped(tmp_path: Path) -> None:
    async with quiet_node(tmp_path) as (it, one):
        cheap, rich, poor = transfer(it, 0), transfer(it, 0, tip=10**9), transfer(it, 0, tip=1)
        first = await watch(one, cheap)
        assert await one.note(first) == {"event": "validated"}
        second = await watch(one, rich)
        seen = dict([await one.any_note(), await one.any_note()])
        assert seen[second] == {"event": "validated"}
        assert seen[first] == {
            "event": "invalid",
            "error": f"replaced by {hexed(blake2_256(rich))}, which has the same nonce and pays more",
        }
        event = await one.note(await watch(one, poor))
        assert (event["event"], "Priority is too low" in event["error"]) == ("dropped", True)
        assert len(it.node.pool) == 1


async def test_one_that_is_removed_or_expires_is_told_so(tmp_path: Path) -> None:
    async with quiet_node(tmp_path) as (it, one):
        removed = transfer(it, 5)
        number = await watch(one, removed)
        assert await one.note(number) == {"event": "validated"}
        push_out(it.node.pool, blake2_256(removed))
        assert (await one.note(number))["event"] == "dropped"

        number = await watch(one, transfer(it, 5, era=Mortal.at(4, 0)))
        assert await one.note(number) == {"event": "validated"}
        for _ in range(4):
            await it.node.seal()
        assert (await one.note(number))["event"] == "invalid"
        assert await one.is_quiet()


async def test_a_transaction_is_hex_or_refused(tmp_path: Path) -> None:
    async with quiet_node(tmp_path) as (it, one):
        for method in ("transactionWatch_v1_submitAndWatch", "transaction_v1_broadcast"):
            for bad in BAD_HEX:
                assert await one.ask(method, bad) == Code.INVALID_PARAMS
        assert len(it.node.pool) == 0


async def test_a_broadcast_transaction_comes_into_a_block_and_its_id_ends_once(tmp_path: Path) -> None:
    async with quiet_node(tmp_path) as (it, one):
        raw = transfer(it, 0)
        number = await one.ask("transaction_v1_broadcast", hexed(raw))
        await until_pooled(it, raw)
        block = it.node.ledger.block((await it.node.seal()).hash)
        assert block is not None
        assert raw in block.extrinsics
        await it.node.seal()
        assert await one.ask("transaction_v1_stop", number) is None
        assert await one.ask("transaction_v1_stop", number) == Code.INVALID_PARAMS
        for unknown in ("", "nothing", 7):
            assert await one.ask("transaction_v1_stop", unknown) == Code.INVALID_PARAMS
        follow = await one.ask("chainHead_v1_follow", False)
        assert await one.ask("transaction_v1_stop", follow) == Code.INVALID_PARAMS
        await one.notes(follow, 2)
        assert await one.is_quiet()


async def test_what_the_pool_loses_is_offered_again_until_it_is_stopped(tmp_path: Path) -> None:
    async with quiet_node(tmp_path) as (it, one):
        raw = transfer(it, 1)  # Waits for another, so that no block takes it.
        number = await one.ask("transaction_v1_broadcast", hexed(raw))
        for _ in range(3):
            await until_pooled(it, raw)
            await it.node.seal()
            push_out(it.node.pool, blake2_256(raw))
            await it.node.seal()
            await it.node.seal()
        await until_pooled(it, raw)
        assert await one.ask("transaction_v1_stop", number) is None
        push_out(it.node.pool, blake2_256(raw))
        for _ in range(3):
            await it.node.seal()
            assert await one.is_quiet()
        assert len(it.node.pool) == 0


async def test_what_the_pool_refuses_is_offered_again_at_longer_and_longer_intervals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with quiet_node(tmp_path) as (it, one):
        better, worse = transfer(it, 1, tip=10**9), transfer(it, 1)
        assert await one.note(await watch(one, better)) == {"event": "validated"}
        submit = it.node.submit
        heights = []

        async def counting(raw: bytes) -> bytes:
            heights.append(it.node.ledger.head.height)
            return await submit(raw)

        monkeypatch.setattr(it.node, "submit", counting)
        number = await one.ask("transaction_v1_broadcast", hexed(worse))
        for _ in range(32):
            await it.node.seal()
        assert 2 <= len(heights) <= 6  # As it is offered, then 1, 2, 4, 8 and 16 blocks later.
        push_out(it.node.pool, blake2_256(better))
        with trio.fail_after(60):
            while blake2_256(worse) not in it.node.pool:
                await it.node.seal()
        assert await one.ask("transaction_v1_stop", number) is None


async def test_invalid_broadcasts_are_silent_and_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with quiet_node(tmp_path) as (it, one):
        bad: list[Any] = [b"", b"\xff" * 50, transfer(it, 0, sender=CHARLIE)]
        numbers = [
            await one.ask("transaction_v1_broadcast", hexed(bad[count % len(bad)])) for count in range(BROADCASTS_MAX)
        ]
        assert all(isinstance(number, str) for number in numbers)
        assert await one.ask("transaction_v1_broadcast", hexed(transfer(it, 0))) is None
        for _ in range(3):
            await it.node.seal()
        assert len(it.node.pool) == 0
        assert await one.ask("transaction_v1_stop", numbers[0]) is None
        raw = transfer(it, 0)
        assert isinstance(await one.ask("transaction_v1_broadcast", hexed(raw)), str)
        await until_pooled(it, raw)
        assert await one.is_quiet()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_fault_of_the_node_is_an_event_and_costs_the_client_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with quiet_node(tmp_path) as (it, one):
        follow = await one.ask("chainHead_v1_follow", False)
        await one.notes(follow, 2)

        async def fail(raw: bytes) -> bytes:
            raise ZeroDivisionError(len(raw))

        monkeypatch.setattr(it.node, "submit", fail)
        number = await watch(one, transfer(it, 0))
        assert await one.note(number) == {"event": "error", "error": "ZeroDivisionError: see the node's log"}
        number = await one.ask("transaction_v1_broadcast", hexed(transfer(it, 0)))
        await it.node.seal()
        await one.notes(follow, 3)
        assert await one.ask("transaction_v1_stop", number) is None
        assert await one.is_quiet()
    faults = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert [fault.partition(" ")[0] for fault in faults] == [
        "transactionWatch_v1_submitAndWatch",
        "transaction_v1_broadcast",
    ]


async def test_what_is_kept_of_requests_counts_as_memory_held_for_the_client(tmp_path: Path) -> None:
    limits = Limits(waiting_bytes_max=4 * 1024 * 1024)
    large = hexed(bytes(1024 * 1024))
    async with served(tmp_path, limits=limits) as it, line(it) as one, line(it) as other:
        numbers = [await one.ask("transaction_v1_broadcast", large) for _ in range(3)]
        assert 3 * 1024 * 1024 <= it.server.waiting_bytes < 4 * 1024 * 1024
        await one.ask("transaction_v1_stop", numbers.pop())
        await one.ask("transaction_v1_broadcast", large)
        await other.ask("transaction_v1_broadcast", large)
        # That was too much for all: who holds most is cut off, and all that it had is let go.
        with trio.fail_after(60), pytest.raises(ConnectionClosed):
            await one.any_note()
        assert 1024 * 1024 <= it.server.waiting_bytes < 2 * 1024 * 1024
        assert await other.is_quiet()
