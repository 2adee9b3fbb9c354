"""Rounds of training without a model: real transactions of a worker, an aggregator and a validator, in real blocks.

What the roots stand for is nobody's business here: the chain believes a quorum of validators, and pages show the chain.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import trio

from chain.primitives.keys import Keypair
from chain.primitives.seal import bitmap
from chain.rpc.client import Client
from runtime.modules.training_types import Phase, RoundState, commitment_of

VALIDATOR = Keypair.from_uri("//Alice")
WORKERS = {Keypair.from_uri("//Eve").public: Keypair.from_uri("//Eve")}
AGGREGATOR = Keypair.from_uri("//Ferdie")
SALT = b"\1" * 32
CAPACITY = 4
# Of each round's slots one is never revealed, and one more is rejected: all verdicts are there to be shown.
REJECTED = 1
WITHHELD = 3


class Trainer:
    """Has a task of a chain with one validator trained, round by round."""

    def __init__(self, client: Client, task: int = 0) -> None:
        self._client = client
        self._task = task

    async def begin(self) -> None:
        """Register everybody."""
        async with trio.open_nursery() as nursery:
            for key in WORKERS.values():
                nursery.start_soon(partial(self._say, key, "register_worker", capacity=CAPACITY))
            nursery.start_soon(self._say, AGGREGATOR, "register_aggregator")

    async def train(self, number: int, *, flawed: bool = False) -> None:
        """Have one round done: losses fall, accuracies rise. A flawed one has slots that are not accepted."""
        state = await self._until(lambda state: state.round == number and state.phase is Phase.COMMIT)
        at = {"task": self._task, "round": number, "attempt": state.attempt}
        withheld = {WITHHELD} if flawed else set()
        accepted = [
            slot for slot in range(len(state.slots)) if slot not in withheld | ({REJECTED} if flawed else set())
        ]
        updates = [bytes([number % 256, slot]) * 16 for slot in range(len(state.slots))]
        async with trio.open_nursery() as nursery:
            for index, slot in enumerate(state.slots):
                made = commitment_of(slot.worker, self._task, number, state.attempt, index, SALT, updates[index])
                commit = partial(self._say, WORKERS[slot.worker], "commit", **at, slot=index, commitment=made)
                nursery.start_soon(commit)
        await self._until(lambda state: state.phase is Phase.REVEAL)
        async with trio.open_nursery() as nursery:
            for index, slot in enumerate(state.slots):
                if index not in withheld:
                    reveal = {**at, "slot": index, "salt": SALT, "update_root": updates[index]}
                    nursery.start_soon(partial(self._say, WORKERS[slot.worker], "reveal", **reveal))
        await self._until(lambda state: state.phase is Phase.AUDIT)
        if flawed:  # Nobody's slot is rejected before somebody has said that it is wrong.
            await self._say(VALIDATOR, "challenge", **at, slot=REJECTED)
        root = bytes([number + 1]) * 32
        model = {"accepted": bitmap(accepted, len(state.slots)), "params_root": root, "optimizer_root": root}
        await self._say(AGGREGATOR, "aggregate", **at, **model)
        loss, accuracy = 2_300_000 * 8 // (8 + number), 1_000_000 - 900_000 * 3 // (3 + number)
        await self._say(VALIDATOR, "attest", **at, **model, evaluation=(loss, accuracy))
        await self._until(lambda state: state.round > number)
        if flawed:  # Who did not reveal is drawn for the task no more until it says that it is there.
            for key in WORKERS.values():
                await self._say(key, "resume", task=self._task)

    async def _until(self, found: Callable[[RoundState], bool]) -> RoundState:
        async with self._client.finalized_heads() as heads:
            async for _ in heads:
                state: RoundState | None = await self._client.read(self._look)
                if state is not None and found(state):
                    return state
        raise AssertionError("heads have no end")

    def _look(self, chain: Any) -> RoundState | None:
        found: RoundState | None = chain.training.rounds.get(self._task)
        return found

    async def _say(self, who: Keypair, call: str, **arguments: object) -> None:
        receipt = await self._client.transact(who, f"training.{call}", **arguments)
        assert receipt.ok, f"{call}: {receipt.error}"
