"""A client of every node at once: follows heads, asks again and again, reads every block, and writes it all down.

It knows nothing of what is done to the nodes. Whenever it reaches one anew, it asks for the hash at every height that
the node has: what a restart has lost or rewritten shows at once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from chain.light.verify import header_from_json
from chain.primitives.hashing import Hash
from chain.primitives.types import decode_extrinsic
from chain.rpc.errors import ClientError, RpcError
from chain.rpc.link import Link, Stream, open_link
from runtime.potchain import RUNTIME
from tests.perturbation.history import History

RETRY_SECONDS: Final = 0.1  # how exactly the time of a start is known; more often would slow the start itself
POLL_SECONDS: Final = 1.0
ANSWER_SECONDS_MAX: Final = 20.0
HASHES_AT_ONCE: Final = 1000  # 66 kB of JSON


@dataclass(slots=True)
class Watched:
    """One node as its clients see it. Times are those of time.monotonic()."""

    name: str
    url: str
    link: Link | None = None
    answered_at: float = 0.0  # when it answered first, on the connection that is or was the last
    first_new_at: dict[int, float] = field(default_factory=dict)  # on it: when it first told of a height
    changed: trio.Event = field(default_factory=trio.Event)

    def wake(self) -> None:
        """Something about it has changed."""
        self.changed.set()
        self.changed = trio.Event()


class Observer:
    """Watches all nodes, by name, into one history."""

    def __init__(self, urls: Mapping[str, str], history: History) -> None:
        self.history = history
        self.nodes = {name: Watched(name, url) for name, url in urls.items()}
        self.moments: dict[int, int] = {}  # the time of each block that was read, in milliseconds
        self.connections_lost = 0
        self._told = trio.Event()
        self._read = trio.Event()

    async def run(self) -> None:
        """Watch until cancelled."""
        async with trio.open_nursery() as nursery:
            for node in self.nodes.values():
                nursery.start_soon(self._watch, node)
            nursery.start_soon(self._read_blocks)

    # --- one node ---

    async def _watch(self, node: Watched) -> None:
        while True:
            try:
                async with open_link(node.url) as link:
                    await self._follow(node, link)
            except* (ClientError, RpcError, trio.TooSlowError):
                self.connections_lost += node.link is not None
            finally:
                node.link = None
                node.wake()
            await trio.sleep(RETRY_SECONDS)

    async def _follow(self, node: Watched, link: Link) -> None:
        """One connection, to its end."""
        floor = self.history.heights[node.name]
        head = await ask(link, "chain_getHeader")
        node.link, node.answered_at, node.first_new_at = link, time.monotonic(), {}
        newest = self._head(node, head, floor)
        for height, block_hash in enumerate(await hashes(link, newest)):
            if block_hash is None:
                self.history.accuse(f"{node.name} has no block at height {height}, below its newest")
            else:
                self.history.told_block(node.name, height, block_hash)
        self._heard()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._poll, node, link)
            heads = Stream("heads")
            await link.request("chain_subscribeFinalizedHeads", [], heads)
            try:
                async for head in heads:
                    self._head(node, head, 0)  # What was sent before an answer may arrive behind it.
            finally:
                nursery.cancel_scope.cancel()

    async def _poll(self, node: Watched, link: Link) -> None:
        """Ask, beside the subscription: both have to tell the same."""
        while True:
            floor = self.history.heights[node.name]
            self._head(node, await ask(link, "chain_getHeader"), floor)
            await trio.sleep(POLL_SECONDS)

    def _head(self, node: Watched, told: object, floor: int) -> int:
        header = header_from_json(told)
        self.history.told_head(node.name, header.height, header.hash, floor=floor)
        if header.height > 0:
            self.history.told_block(node.name, header.height - 1, header.parent_hash)
        node.first_new_at.setdefault(header.height, time.monotonic())
        node.wake()
        self._heard()
        return header.height

    def _heard(self) -> None:
        self._told.set()
        self._told = trio.Event()

    # --- all of them ---

    async def _read_blocks(self) -> None:
        """Read each block that was told of, from whichever node gives it."""
        height = 0
        while True:
            block_hash = self.history.hashes.get(height)
            link = next((node.link for node in self.nodes.values() if node.link and not node.link.lost), None)
            if block_hash is None or link is None:
                told = self._told
                with trio.move_on_after(POLL_SECONDS):
                    await told.wait()
                continue
            try:
                body = await block_body(link, block_hash)
            except (ClientError, RpcError, trio.TooSlowError):
                await trio.sleep(RETRY_SECONDS)
                continue
            if body is None:  # This node has yet to get it.
                await trio.sleep(RETRY_SECONDS)
                continue
            if height > 0:
                (self.moments[height],) = decode_extrinsic(body[0], RUNTIME.call_codec).call.args
                self.history.read_body(link.url, height, body, time.monotonic())
            height += 1
            self._read.set()
            self._read = trio.Event()

    async def until_height(self, height: int, names: Sequence[str]) -> None:
        """Return when each of these nodes has told of so high a block, on the connection that it has now."""
        for name in names:
            node = self.nodes[name]
            while node.link is None or max(node.first_new_at, default=0) < height:
                await node.changed.wait()

    async def until_gone(self, name: str) -> None:
        """Return when there is no connection to the node: all that its earlier life said has been heard."""
        node = self.nodes[name]
        while node.link is not None:
            await node.changed.wait()

    async def until_read(self, height: int) -> None:
        """Return when the block at a height, and all before it, have been read."""
        while max(self.moments, default=0) < height:
            await self._read.wait()


async def ask(link: Link, method: str, *params: object) -> Any:
    """An answer in time; ClientError, RpcError or trio.TooSlowError."""
    with trio.fail_after(ANSWER_SECONDS_MAX):
        return await link.request(method, list(params))


async def hashes(link: Link, height: int) -> list[Hash | None]:
    """The block hashes from genesis to a height."""
    found: list[Hash | None] = []
    for start in range(0, height + 1, HASHES_AT_ONCE):
        asked = list(range(start, min(start + HASHES_AT_ONCE, height + 1)))
        answer = await ask(link, "chain_getBlockHash", asked)
        found += [None if each is None else bytes.fromhex(each[2:]) for each in answer]
    return found


async def block_body(link: Link, block_hash: Hash) -> list[bytes] | None:
    """A block's extrinsics; None when the node has no such block."""
    answer = await ask(link, "chain_getBlock", "0x" + block_hash.hex())
    return None if answer is None else [bytes.fromhex(each[2:]) for each in answer["block"]["extrinsics"]]
