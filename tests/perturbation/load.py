"""Clients that pay each other all the time, and want to know what became of every payment.

Each has one payment under way. It submits the same bytes again, to whichever node answers, until it has seen them in a
final block: what a node forgets when it is killed is sent again, and what is in the chain twice would show.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from random import Random
from typing import Final

import trio

from chain.primitives.hashing import Hash, blake2_256
from chain.primitives.keys import Keypair
from chain.primitives.types import sign_extrinsic
from chain.rpc.errors import ClientError, RpcError
from chain.rpc.link import Link, Stream
from runtime.potchain import RUNTIME
from tests.perturbation.observer import Observer

# A payment takes one to two seconds to be final, and more after a fault: so many seconds has each sender for one.
SECONDS_EACH: Final = 4.0
WATCH_SECONDS_MAX: Final = 15.0
RETRY_SECONDS: Final = 0.3
ENDS: Final = ("invalid", "dropped", "future")  # after which the node says no more, or nothing for long


def senders(rate: int) -> list[Keypair]:
    """Accounts enough for so many payments a second."""
    return [Keypair.from_seed(blake2_256(b"payer %d" % i)) for i in range(int(rate * SECONDS_EACH))]


class Load:
    """Payments among `keys`, through the connections that the observer has."""

    def __init__(self, observer: Observer, keys: Sequence[Keypair], genesis_hash: Hash, rng: Random) -> None:
        self._observer = observer
        self._history = observer.history
        self._keys = keys
        self._genesis_hash = genesis_hash
        self._rng = rng
        self._ends = trio.Event()
        self.sent_again = 0
        self.refused: dict[str, int] = {}

    def end(self) -> None:
        """Begin no more payments; `run` returns when those under way are final."""
        self._ends.set()

    async def run(self) -> None:
        """Pay until `end`."""
        async with trio.open_nursery() as nursery:
            for key in self._keys:
                nursery.start_soon(self._pay, key)

    async def _pay(self, key: Keypair) -> None:
        call = RUNTIME.encode_call(
            RUNTIME.call("balances.transfer_keep_alive", dest=self._rng.choice(self._keys).public, value=1)
        )
        nonce = 0
        due = trio.current_time() + self._rng.uniform(0, SECONDS_EACH)
        while True:
            with trio.move_on_at(due):
                await self._ends.wait()
            if self._ends.is_set():
                return
            raw = sign_extrinsic(
                key,
                call,
                nonce=nonce,
                spec_version=RUNTIME.spec_version,
                transaction_version=RUNTIME.transaction_version,
                genesis_hash=self._genesis_hash,
            )
            await self._until_final(raw)
            nonce += 1
            due = max(trio.current_time(), due + SECONDS_EACH)

    async def _until_final(self, raw: bytes) -> None:
        extrinsic_hash = self._history.sent(raw, time.monotonic())
        is_first = True
        while self._history.transactions[extrinsic_hash].told_at is None:
            links = [(name, node.link) for name, node in self._observer.nodes.items() if node.link is not None]
            if links:
                self.sent_again += not is_first
                is_first = False
                with trio.move_on_after(WATCH_SECONDS_MAX):
                    await self._submit(raw, extrinsic_hash, *self._rng.choice(links))
            await trio.sleep(RETRY_SECONDS)

    async def _submit(self, raw: bytes, extrinsic_hash: Hash, node: str, link: Link) -> None:
        """Submit and watch; returns when the watch has ended, however it did."""
        updates = Stream("author_submitAndWatchExtrinsic")
        try:
            subscription = await link.request("author_submitAndWatchExtrinsic", ["0x" + raw.hex()], updates)
            try:
                async for update in updates:
                    if "finalized" in update:
                        block_hash = bytes.fromhex(update["finalized"][2:])
                        self._history.told_final(node, extrinsic_hash, block_hash, time.monotonic())
                        return
                    if update in ENDS or "usurped" in update:
                        return
            finally:
                await link.release(str(subscription), "author_unwatchExtrinsic")
        except (ClientError, RpcError) as error:
            # Refused since it is final already, or the connection has ended: the blocks will tell.
            kind = f"RpcError {error.code}" if isinstance(error, RpcError) else type(error).__name__
            self.refused[kind] = self.refused.get(kind, 0) + 1
