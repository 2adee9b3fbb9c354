"""What the tests of `chainHead_v1` share: how a client follows, and what it is told of a block."""

from __future__ import annotations

from typing import Any

from chain.primitives.hashing import storage_prefix
from chain.primitives.types import Header
from chain.rpc.context import hexed
from tests.rpc.kit import Served
from tests.rpc.line import Line, line

LIMIT_REACHED = {"result": "limitReached"}
UNKNOWN = "0x" + "ab" * 32
NUMBER = "0x" + storage_prefix("System", "Number").hex()
ACCOUNTS = "0x" + storage_prefix("System", "Account").hex()
ABSENT = "0x" + "ff" * 32
EVERYTHING = {"key": "0x", "type": "descendantsValues"}


def new_block(header: Header) -> list[dict[str, Any]]:
    """What a follow with the runtime says of a block."""
    block = hexed(header.hash)
    return [
        {"event": "newBlock", "blockHash": block, "parentBlockHash": hexed(header.parent_hash), "newRuntime": None},
        {"event": "bestBlockChanged", "bestBlockHash": block},
        {"event": "finalized", "finalizedBlockHashes": [block], "prunedBlockHashes": []},
    ]


async def follow(one: Line, blocks: list[str]) -> str:
    """Start to follow a chain whose newest blocks are these."""
    number = str(await one.ask("chainHead_v1_follow", True))
    initialized, best = await one.notes(number, 2)
    assert (initialized["event"], initialized["finalizedBlockHashes"]) == ("initialized", blocks)
    assert best == {"event": "bestBlockChanged", "bestBlockHash": blocks[-1]}
    return number


def started(number: int, **more: int) -> dict[str, Any]:
    return {"result": "started", "operationId": str(number), **more}


async def state(it: Served, prefix: str, at: str) -> list[dict[str, str]]:
    """The keys and values under a prefix, as the older methods tell them."""
    found: list[dict[str, str]] = []
    async with line(it) as one:
        while keys := await one.ask("state_getKeysPaged", prefix, 500, found[-1]["key"] if found else None, at):
            (answer,) = await one.ask("state_queryStorageAt", keys[:256], at)
            found += [{"key": key, "value": value} for key, value in answer["changes"]]
    return found
