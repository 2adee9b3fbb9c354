"""Have a model trained from Python: in a notebook or a script, ten lines from a JAX model to its trained parameters.

Rule: every function blocks until it is done, in a thread of its own, so that it may be called where an event loop runs.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import trio

from chain.display import token_of
from chain.primitives.keys import Keypair
from chain.rpc.client import Client
from chain.tasks import Offer, TaskRefused, create, keep, protected, quote, upload
from chain.terms import Terms, TermsError, by_name, resolve
from trainer import artifact, export, optimizers
from trainer import task as tasks
from trainer.export import ExportError
from trainer.task import Built, Task, Term

__all__ = ["ExportError", "Market", "Result", "Task", "TaskRefused", "TermsError"]

POLL_SECONDS = 1.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Result:
    """A final round of a task: held-out loss and accuracy (0 to 1) after it, and what it paid (planck)."""

    round: int
    loss: float
    accuracy: float
    paid: int


class Market:
    """A chain whose workers train, behind a node's RPC address; `key` is the owner's secret: `//Alice`, or a phrase."""

    def __init__(self, rpc: str, key: str) -> None:
        self.rpc = rpc
        self._owner = Keypair.from_uri(key)

    def create(self, task: Task, **terms: Term) -> int:
        """Export a task, upload its blobs, pay its escrow; returns its number.

        `terms` are those of `chain.terms`, such as rounds=60 and learning_rate=0.1; what they leave open is as
        `task.terms` say, and otherwise the default. Raises TermsError and ExportError for what cannot be, and
        TaskRefused for what the chain refuses or the owner cannot pay; then nothing was sent.
        """
        chosen = resolve(by_name(terms), by_name(task.terms, f"terms of {task.name}: "))
        built = tasks.build(task)
        policy = chosen.policy
        tasks.check_fit(built, policy.slots, policy.batches, federated=policy.is_federated)
        return _run(partial(self._create, built, chosen))

    async def _create(self, built: Built, terms: Terms) -> int:
        async with Client.connect(self.rpc) as client:
            offer = Offer.of(built, terms, (await token_of(client))[0])
            return await self._pay(client, offer if terms.audited_said else await protected(client, offer))

    async def _pay(self, client: Client, offer: Offer) -> int:
        costs = await quote(client, self._owner, offer)
        if not costs.affordable:
            wanted = costs.wanted + costs.kept
            raise TaskRefused(f"expected at least {wanted} planck on the account, got {costs.free}: nothing was sent")
        await upload(client, offer)
        task, _ = await create(client, self._owner, offer)
        return task

    def watch(self, task: int) -> Iterator[Result]:
        """Each final round from now on, until no more follow."""
        number = 0
        while True:
            active, results = _run(partial(self._results, task, number))
            yield from results
            number += len(results)
            if not active and not results:
                return

    async def _results(self, task: int, number: int) -> tuple[bool, list[Result]]:
        """Whether rounds follow, and those from `number` on that are final: at least one, or no more come."""
        async with Client.connect(self.rpc) as client:
            while True:
                found = await client.request("training_task", task)
                active = found["status"] == "active"
                if found["round"] > number or not active:
                    records = [
                        await client.request("training_round", task, each) for each in range(number, found["round"])
                    ]
                    return active, [Result(r["round"], r["loss"], r["accuracy"], r["minted"]) for r in records]
                await trio.sleep(POLL_SECONDS)

    def fetch(self, task: int, like: Any) -> Any:
        """The model as it is now, checked against its root on chain: a tree as `like`, with numpy arrays."""
        return _run(partial(self._fetch, task, like))

    async def _fetch(self, task: int, like: Any) -> Any:
        async with Client.connect(self.rpc) as client:
            found = await client.request("training_task", task)
            program = await client.get_blob(bytes.fromhex(found["programRoot"][2:]), artifact.PROGRAM_BYTES_MAX)
            length = artifact.parse(program).parameters
            params = await client.get_blob(bytes.fromhex(found["paramsRoot"][2:]), 4 * length)
        return export.unflatten(like, optimizers.decode_params(params, length))

    def cancel(self, task: int) -> None:
        """End a task with its running round; the rest of the escrow comes back."""
        _run(partial(self._cancel, task))

    async def _cancel(self, task: int) -> None:
        async with Client.connect(self.rpc) as client:
            receipt = await client.transact(self._owner, "training.cancel_task", task=task)
            if not receipt.ok:
                raise TaskRefused(f"cancel_task failed in block {receipt.height}: {receipt.error}")

    def keep(self, task: int, days: int) -> int:
        """Have a finished task's model kept longer, or let a running task of yours take longer; until which block."""
        return _run(partial(self._keep, task, days))

    async def _keep(self, task: int, days: int) -> int:
        async with Client.connect(self.rpc) as client:
            _, until = await keep(client, self._owner, task, days)
            return until


def _run(work: Callable[[], Awaitable[T]]) -> T:
    """Run a trio program to its end in a thread of its own: notebooks have an event loop in theirs."""
    found: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(trio.run(work))
        except BaseException as error:  # Raised again where it was asked for.
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]
