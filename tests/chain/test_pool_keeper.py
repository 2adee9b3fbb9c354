"""What waits in the pool outlives a restart; and whatever is in its file, a node starts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from chain.checked_file import UnusableFile
from chain.pool import Pool
from chain.pool_keeper import FILE_BYTES_MAX, PoolKeeper, encode_pool, pool_file, read_pool
from chain.primitives import ss58
from chain.primitives.hashing import blake2_256
from chain.primitives.types import sign_extrinsic
from chain.rpc.client import Client
from chain.rpc.errors import Code
from runtime.potchain import RUNTIME
from tests.chain.test_cli import running_node
from tests.chain.test_intake import CALL, Setting, until
from tests.chain.test_pool import ALICE, BOB, submit
from tests.ports import free_port
from tests.rpc import kit

GENESIS = bytes(range(32))


def a_pool() -> Pool:
    pool = Pool()
    submit(pool, BOB, 0, priority=3)
    submit(pool, ALICE, 1, priority=1)  # future
    submit(pool, ALICE, 0, priority=1)
    return pool


def raws(pool: Pool) -> list[bytes]:
    return [item.raw for item in sorted(pool.everything(), key=lambda item: item.arrival)]


async def take_nothing(transactions: Sequence[bytes]) -> int:
    raise AssertionError(f"expected nothing to take in, got {transactions}")


def test_what_is_written_is_read_in_the_order_of_arrival(tmp_path: Path) -> None:
    path = tmp_path / "pool.dat"
    expected = raws(a_pool())
    path.write_bytes(encode_pool(expected, pool_file(path, GENESIS)))
    assert read_pool(pool_file(path, GENESIS)) == expected
    assert len(expected) == 3
    assert read_pool(pool_file(tmp_path / "none", GENESIS)) == []


def test_a_file_with_any_byte_missing_changed_or_added_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pool.dat"
    whole = encode_pool(raws(a_pool()), pool_file(path, GENESIS))
    bad = [whole[:size] for size in range(len(whole))]
    bad += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))]
    bad += [whole + b"\0", whole + whole]
    for data in bad:
        path.write_bytes(data)
        with pytest.raises(UnusableFile, match="checksum"):
            read_pool(pool_file(path, GENESIS))


def checked(content: bytes) -> bytes:
    return content + blake2_256(content)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (encode_pool([], pool_file(Path(), bytes(32))), "another's"),
        (checked(b"potpool2" + GENESIS + b"\0"), "another version's"),
        (checked(b"potpool1" + GENESIS), "."),
        (checked(b"potpool1" + GENESIS + b"\x04\x28"), "."),
        (checked(b"potpool1" + GENESIS + b"\0\0"), "."),
        (bytes(FILE_BYTES_MAX + 1), "expected at most"),
    ],
    ids=["another chain", "another version", "nothing", "less than it says", "more than it says", "too large"],
)
async def test_whatever_is_in_the_file_a_node_starts_and_says_what_it_forgets(
    tmp_path: Path, data: bytes, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "pool.dat"
    path.write_bytes(data)
    await PoolKeeper(path, GENESIS, Pool(), take_nothing).restore()
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert f"are forgotten: {path}: " in record.getMessage()
    assert message in record.getMessage()


async def test_a_folder_in_the_files_place_costs_the_transactions_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "pool.dat"
    path.mkdir()
    keeper = PoolKeeper(path, GENESIS, a_pool(), take_nothing)
    await keeper.restore()
    for _ in range(3):
        await keeper.write()
    messages = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(messages) == 2, "told once, and not at each attempt"
    assert "cannot be kept for the next start" in messages[1]


async def test_the_file_is_written_when_the_pool_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "pool.dat"
    pool = a_pool()
    keeper = PoolKeeper(path, GENESIS, pool, take_nothing)
    await keeper.write()
    assert read_pool(pool_file(path, GENESIS)) == raws(pool)
    path.unlink()
    await keeper.write()
    assert not path.exists(), "nothing changed, and nothing was written"
    submit(pool, BOB, 1)
    await keeper.write()
    assert read_pool(pool_file(path, GENESIS)) == raws(pool)
    assert list(tmp_path.iterdir()) == [path]


async def test_it_is_written_from_time_to_time_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chain.pool_keeper.WRITE_SECONDS", 0.02)  # longer than `until` wants all to be quiet
    path = tmp_path / "pool.dat"
    pool = a_pool()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(PoolKeeper(path, GENESIS, pool, take_nothing).run)
        await until(path.exists)
        monkeypatch.undo()
        submit(pool, BOB, 1)
        nursery.cancel_scope.cancel()
    assert read_pool(pool_file(path, GENESIS)) == raws(pool)


async def test_only_what_is_still_valid_comes_back_and_it_is_passed_on(tmp_path: Path) -> None:
    it = Setting(tmp_path)
    good = [it.transfer(kit.ALICE, 1), it.transfer(kit.ALICE), it.transfer(kit.BOB)]
    poor, foreign = it.transfer(kit.CHARLIE), it.transfer(kit.BOB, 1, genesis=bytes(32))
    path = tmp_path / "pool.dat"
    path.write_bytes(encode_pool([*good, poor, foreign, b"\x04\x00"], pool_file(path, GENESIS)))
    await PoolKeeper(path, GENESIS, it.pool, it.intake.restore).restore()
    assert raws(it.pool) == good
    assert it.network.gossiped == good
    assert it.network.points == {}
    assert it.pool.next_nonce(kit.ALICE.public, 0) == 2
    it.ledger.close()


# --- a real node: one validator of four, so that no block comes and what is sent to it waits


def ask(port: int, method: str, *params: object) -> Any:
    call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return httpx.post(f"http://127.0.0.1:{port}", json=call, trust_env=False).json()


async def test_a_node_has_after_a_restart_what_waited_before_it(tmp_path: Path) -> None:
    port = free_port()
    words = ("--validator=alice", f"--rpc-port={port}")
    with running_node(tmp_path, *words):
        genesis = bytes.fromhex(ask(port, "chain_getBlockHash", 0)["result"][2:])
        waiting = [transfer(genesis, 0), transfer(genesis, 1)]
        for raw in waiting:
            assert "result" in ask(port, "author_submitExtrinsic", raw)
    with running_node(tmp_path, *words):
        assert ask(port, "author_pendingExtrinsics")["result"] == waiting
        assert ask(port, "system_accountNextIndex", ss58.encode(kit.ALICE.public))["result"] == 2
        assert ask(port, "author_submitExtrinsic", waiting[0])["error"]["code"] == Code.ALREADY_IMPORTED
        async with Client.connect(f"ws://127.0.0.1:{port}") as client:
            watch = client.subscribe("author_submitAndWatchExtrinsic", transfer(genesis, 2))
            async with watch as updates:
                with trio.fail_after(60):
                    assert await anext(updates) == "ready", "those before it are here"
                    better = await client.request("author_submitExtrinsic", transfer(genesis, 2, tip=kit.POT))
                    assert await anext(updates) == {"usurped": better}
    torn = tmp_path / "alice" / "pool.dat"
    torn.write_bytes(torn.read_bytes()[:-1])
    with running_node(tmp_path, *words) as lines:
        assert ask(port, "author_pendingExtrinsics")["result"] == []
        assert any("that waited before this start are forgotten" in line for line in lines)


def transfer(genesis: bytes, nonce: int, tip: int = 0) -> str:
    raw = sign_extrinsic(
        kit.ALICE,
        CALL,
        nonce=nonce,
        spec_version=RUNTIME.spec_version,
        transaction_version=RUNTIME.transaction_version,
        genesis_hash=genesis,
        tip=tip,
    )
    return "0x" + raw.hex()
