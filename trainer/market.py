"""Have a model trained from Python: in a notebook or a script, ten lines from a JAX model to its trained parameters.

Rule: every function blocks until it is done, in a thread of its own, so that it may be called where an event loop runs;
Ctrl-C, or a notebook's interrupt, ends it and leaves nothing half done but what it says.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import trio

from chain.display import Pace, Progress, phase_line, time_left, token_of
from chain.primitives.keys import Keypair
from chain.rpc.client import Client, ConnectionLost, RequestTimeout
from chain.tasks import Offer, Quote, TaskRefused, create, keep, offered, require_training, upload
from chain.terms import Terms, TermsError, by_name, resolve
from chain.wallet.known import Known
from trainer import artifact, export, optimizers
from trainer import task as tasks
from trainer.calibration import Calibration, Uncalibratable
from trainer.export import ExportError
from trainer.sandbox import EngineError
from trainer.settling import described, settle
from trainer.task import Built, Saved, Task, Term

__all__ = [
    "Checked",
    "EngineError",
    "ExportError",
    "Market",
    "Result",
    "Task",
    "TaskRefused",
    "TermsError",
    "Uncalibratable",
]

POLL_SECONDS = 1.0
INTERRUPT_SECONDS = 0.2
# A node that restarts is back sooner; what is asked meanwhile is asked again.
PATIENCE_SECONDS = 120.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Checked:
    """What `check` found: terms with a measured tolerance, how it was measured, and what the task costs (planck)."""

    terms: Terms
    calibration: Calibration | None
    quote: Quote
    _costs: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([*described(self.calibration, self.terms), *self._costs])

    __repr__ = __str__


@dataclass(frozen=True, slots=True)
class Result:
    """A final round of a task: held-out loss and accuracy (0 to 1) after it, what it paid and all have (planck).

    Loss and accuracy are None after rounds that are not evaluated.
    `seconds_left` is what the rounds still take at the pace that was seen; None before a whole one was, and for a round
    that was not the newest.
    """

    round: int
    rounds: int
    loss: float | None
    accuracy: float | None
    paid: int
    spent: int
    seconds_left: float | None

    def __str__(self) -> str:
        left = "" if self.seconds_left is None or self.round + 1 == self.rounds else f"  {time_left(self.seconds_left)}"
        figures = "not evaluated"
        if self.loss is not None and self.accuracy is not None:
            figures = f"loss {self.loss:.4f}  accuracy {self.accuracy:.2%}"
        return f"round {self.round:>4} of {self.rounds}  {figures}{left}"


class Market:
    """A chain whose workers train, behind a node's RPC address; `key` is the owner's, or its secret, such as `//Alice`.

    `genesis` says which chain it has to be, by a genesis file, or 0x and a genesis hash; GenesisError where it is
    neither. Without it whichever chain the node has is signed for.
    `quiet` says nothing of what is going on; otherwise it is said where somebody watches, on a terminal or in a
    notebook.
    """

    def __init__(self, rpc: str, key: Keypair | str, *, genesis: str | None = None, quiet: bool = False) -> None:
        self.rpc = rpc
        self._known = Known.of(genesis)
        self._owner = Keypair.from_uri(key) if isinstance(key, str) else key
        self._progress = Progress(watched=not quiet and (sys.stdout.isatty() or "ipykernel" in sys.modules))

    def check(self, task: Task, **terms: Term) -> Checked:
        """Export a task, measure its audits, ask what it costs; nothing is sent.

        `terms` are those of `chain.terms`, such as rounds=60 and learning_rate=0.1; what they leave open is as
        `task.terms` say, and otherwise the default. TermsError, ExportError, EngineError and Uncalibratable say what
        of it cannot be, TaskRefused what the chain refuses or the owner cannot pay.
        """
        return self._run(partial(self._check, task, _resolved(task, terms)))[1]

    def create(self, task: Task, **terms: Term) -> int:
        """Do all that `check` does, upload the blobs and pay the escrow; the task's number.

        Whatever is raised, nothing was paid, unless TaskRefused says that the chain took the fee.
        """
        return self._run(partial(self._create, task, _resolved(task, terms)))

    async def _check(self, task: Task, terms: Terms) -> tuple[Offer, Checked]:
        self._progress.show(f"exporting {task.name} for cpu, cuda and tpu")
        # As it is traced, the model's own code runs: in this thread alone, as it would without us.
        built = tasks.build(task)
        policy = terms.policy
        tasks.check_fit(built, policy.slots, policy.batches, federated=policy.is_federated)
        await self._offered(built, terms)  # What the chain refuses is not worth measuring.
        started: list[float] = []

        def show(done: int, total: int) -> None:
            if not done:  # It may be measured again, with fewer local steps.
                started.clear()
            started.append(time.monotonic())
            left = f", {time_left((started[-1] - started[0]) / done * (total - done))}" if done else ""
            self._progress.show(f"measuring audits: computed {done:,} of {total:,} batches{left}")

        terms, found = await settle(built, terms, warn=self._progress.show, progress=show)
        offer, costs, lines = await self._offered(built, terms)
        return offer, Checked(terms, found, costs, lines)

    async def _offered(self, built: Built | Saved, terms: Terms) -> tuple[Offer, Quote, tuple[str, ...]]:
        async with self._to_sign() as client:
            token, _ = await token_of(client)
            offer, costs = await offered(client, self._owner, built, terms, token)
            if not costs.affordable:
                wanted, free = token.format(costs.wanted + costs.kept), token.format(costs.free)
                raise TaskRefused(f"expected at least {wanted} on the account, got {free}: nothing was sent")
            return offer, costs, tuple(offer.described(costs, token))

    async def _create(self, task: Task, terms: Terms) -> int:
        offer, _ = await self._check(task, terms)
        async with self._to_sign() as client:
            await upload(
                client, offer, lambda done: self._progress.show(f"uploading: {done:,} of {offer.size:,} bytes")
            )
            self._progress.show("waiting for a block")
            # Whoever interrupts now shall know whether it was paid.
            with trio.CancelScope(shield=True):
                number, _ = await create(client, self._owner, offer)
            return number

    def watch(self, task: int) -> Iterator[Result]:
        """Each round of a task, those that are final at once and others when they are, until no more follow.

        Meanwhile it is said what the running round waits for. Ctrl-C ends the watch, and not the task.
        """
        spent = number = 0
        pace: Pace | None = None
        while True:
            began_in, found, records = self._run(partial(self._rounds, task, number))
            pace = pace or Pace(began_in)
            seconds = pace.seconds_left(found["round"], found["rounds"], time.monotonic())
            for record in records:
                number, spent = number + 1, spent + record["minted"]
                yield Result(
                    round=record["round"],
                    rounds=found["rounds"],
                    loss=record["loss"],
                    accuracy=record["accuracy"],
                    paid=record["minted"],
                    spent=spent,
                    seconds_left=seconds if number == found["round"] else None,
                )
            if found["status"] != "active" and not records:
                return

    async def _rounds(self, task: int, number: int) -> tuple[int, dict[str, Any], list[dict[str, Any]]]:
        """A task, and its rounds from `number` on that are final: at least one, or no more come.

        Before them, which round ran when it was first looked at.
        """
        began_in: int | None = None
        silent_since = trio.current_time()
        while True:
            with suppress(ConnectionLost, RequestTimeout):
                async with Client.connect(self.rpc) as client:
                    while True:
                        found = await client.request("training_task", task)
                        began_in = found["round"] if began_in is None else began_in
                        if found["round"] > number or found["status"] != "active":
                            return (
                                began_in,
                                found,
                                [
                                    await client.request("training_round", task, each)
                                    for each in range(number, found["round"])
                                ],
                            )
                        self._progress.show(phase_line(await client.request("training_round", task)))
                        silent_since = trio.current_time()
                        await trio.sleep(POLL_SECONDS)
            if trio.current_time() - silent_since > PATIENCE_SECONDS:
                raise ConnectionLost(f"{self.rpc} has not answered for {PATIENCE_SECONDS:.0f} s: is the node running?")
            self._progress.show(f"no connection to {self.rpc}; trying again")
            await trio.sleep(POLL_SECONDS)

    def fetch(self, task: int, like: Any) -> Any:
        """The model as it is now, checked against its root on chain: a tree as `like`, with numpy arrays."""
        return self._run(partial(self._fetch, task, like))

    async def _fetch(self, task: int, like: Any) -> Any:
        async with Client.connect(self.rpc) as client:
            found = await client.request("training_task", task)
            program = await client.get_blob(bytes.fromhex(found["programRoot"][2:]), artifact.PROGRAM_BYTES_MAX)
            length = artifact.parse(program).parameters
            params = await client.get_blob(bytes.fromhex(found["paramsRoot"][2:]), 4 * length)
        return export.unflatten(like, optimizers.decode_params(params, length))

    def cancel(self, task: int) -> None:
        """End a task with the rounds that have begun; the rest of the escrow comes back."""
        self._run(partial(self._cancel, task))

    async def _cancel(self, task: int) -> None:
        async with self._to_sign() as client:
            receipt = await client.transact(self._owner, "training.cancel_task", task=task)
            if not receipt.ok:
                raise TaskRefused(f"cancel_task failed in block {receipt.height}: {receipt.error}")

    def keep(self, task: int, days: int) -> int:
        """Have a finished task's model kept longer, or let a running task of yours take longer; until which block."""
        return self._run(partial(self._keep, task, days))

    async def _keep(self, task: int, days: int) -> int:
        async with self._to_sign() as client:
            _, until = await keep(client, self._owner, task, days)
            return until

    @asynccontextmanager
    async def _to_sign(self) -> AsyncIterator[Client]:
        require_training(self._known)
        async with Client.connect(self.rpc, self._known.runtime, self._known.genesis_hash) as client:
            await self._known.check_node(client)
            yield client

    def _run(self, work: Callable[[], Awaitable[T]]) -> T:
        try:
            return run_blocking(work)
        finally:
            self._progress.clear()


def _resolved(task: Task, terms: dict[str, Term]) -> Terms:
    return resolve(by_name(terms), by_name(task.terms, f"terms of {task.name}: "))


def run_blocking(work: Callable[[], Awaitable[T]]) -> T:
    """Run a trio program to its end in a thread of its own: notebooks have an event loop in theirs.

    An interrupt cancels it, and is raised once it has ended; what had come of it by then is in its message.
    """
    found: list[T] = []
    failed: list[BaseException] = []
    scope = trio.CancelScope()
    tokens: list[trio.lowlevel.TrioToken] = []
    starting = threading.Lock()
    # Not the thread's end: a join that an interrupt breaks off takes the thread for ended (bpo-45274).
    ended = threading.Event()

    async def scoped() -> None:
        with starting:
            tokens.append(trio.lowlevel.current_trio_token())
        with scope:
            found.append(await work())

    def run() -> None:
        try:
            trio.run(scoped)
        except BaseException as error:  # Raised again where it was asked for.
            failed.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=run, daemon=True)
    try:
        thread.start()
        # In pieces: Python raises nothing for a signal that comes just before a wait begins, until that ends.
        while not ended.wait(INTERRUPT_SECONDS):
            pass
    except KeyboardInterrupt:
        with starting:
            if not tokens:
                scope.cancel()  # It has not begun, and will end as it does.
        for token in tokens:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(scope.cancel)
        if thread.ident is not None:  # It may not even have been started.
            ended.wait()
        # What could not be interrupted is done, and whoever waits for it wants to know: a task that was created, say.
        raise KeyboardInterrupt(f"too late: it came to {found[0]!r}" if found else "") from None
    if failed:
        raise failed[0]
    return found[0]
