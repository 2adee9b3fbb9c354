"""What workers are paid while everything dies around them: read from the events of every block, while there is a chain.

A slot is paid once, and a worker has earned what was minted for it: nothing else makes money.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import trio

from chain.rpc.client import Client, ClientError, RpcError
from runtime.modules.rewards import Rewards
from tests.perturbation.observer import RETRY_SECONDS, Observer


class Payments:
    """Reads all blocks' events as they become final, so that their states are still kept."""

    def __init__(self, observer: Observer, urls: Sequence[str]) -> None:
        self._observer = observer
        self._urls = urls
        self.paid: Counter[tuple[int, int, int]] = Counter()
        self._earned: Counter[bytes] = Counter()
        self._height = 0
        self._reading = trio.CancelScope()
        self._has_ended = trio.Event()

    async def run(self) -> None:
        """Read until `check` ends it."""
        with self._reading:
            async with Client.reconnecting(self._urls) as client:
                while True:
                    await self._observer.until_read(self._height + 1)
                    try:
                        await self._read_next(client)
                    except (ClientError, RpcError):  # This node does not have the block yet, or no node answers.
                        await trio.sleep(RETRY_SECONDS)
        self._has_ended.set()

    async def _read_next(self, client: Client) -> None:
        """Add the next block's events."""
        at = "0x" + self._observer.history.hashes[self._height + 1].hex()
        for record in await client.read(lambda chain: chain.system.events.get(), at=at):
            if isinstance(record.event, Rewards.SlotPaid):
                paid = record.event
                self.paid[paid.task, paid.round, paid.slot] += 1
                self._earned[paid.worker] += paid.amount
        self._height += 1

    async def check(self, client: Client, height: int) -> list[str]:
        """What is wrong with the payments up to a height, or to a later one that was read already."""
        self._reading.cancel()
        await self._has_ended.wait()
        while self._height < height:
            await self._read_next(client)
        found = [f"(task, round, slot) {slot} was paid {times} times" for slot, times in self.paid.items() if times > 1]
        if not self.paid:
            found.append("no slot was paid")
        at = "0x" + self._observer.history.hashes[self._height].hex()
        workers: dict[bytes, Any] = await client.read(lambda chain: dict(chain.training.workers.items()), at=at)
        for account in sorted(workers.keys() | self._earned.keys()):
            says = workers[account].earned if account in workers else None
            if says != self._earned[account]:
                found.append(
                    f"worker 0x{account.hex()}: the chain says {says} earned, its events {self._earned[account]}"
                )
        return found
