"""The node as worker, auditor and aggregator need it: a small protocol, and its implementation over RPC.

Rule: every failure that passes by itself (connection lost, blob not there yet, transaction too late) is a NodeError,
so that a step is simply tried again at the next head.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import trio

from chain.display import Token
from chain.primitives.hashing import Hash
from chain.primitives.keys import Keypair
from chain.rpc.client import BlobNotFound, BlobTooLarge, Client, ClientError, OtherChain, RpcError
from chain.wallet.known import ANY_CHAIN, Known
from trainer import views
from trainer.plants import PlantRules
from trainer.views import PastRound, RoundView, TaskView

# What a node answers when asked for a round that there is not.
TRAINING_NOT_FOUND = 9001
# A request waits half a minute for a node by itself; this is for one that refuses.
RETRY_SECONDS = 1.0


class NodeError(Exception):
    """The node could not do it now; the message says why."""


class BlobMissing(NodeError):
    """The node answered that neither it nor any of its peers has the blob."""


class BlobOversized(NodeError):
    """The blob has more bytes than it may have."""


class CannotServe(ClientError):
    """This program can do nothing on this chain, or on this machine, however long it tries; the message says why."""


class TaskOver(Exception):
    """A task has no running round and none that is final: it was cancelled before its first."""


@dataclass(frozen=True, slots=True)
class Standing:
    """An account in the chain's books: its bond and all that it ever earned (planck), and how its slots were judged."""

    bond: int
    accepted: int
    rejected: int
    earned: int


class Node(Protocol):
    """What the shells need of a chain. `account` is the public key that `transact` signs with."""

    account: bytes

    async def task_ids(self) -> list[int]:
        """The running tasks."""

    async def task(self, task: int) -> TaskView:
        """A task's fixed part."""

    async def round(self, task: int) -> RoundView:
        """A task's running round, or its last one; TaskOver when there is neither."""

    async def past_round(self, task: int, number: int) -> PastRound:
        """A round of a task that is final."""

    async def worker_capacity(self) -> int:
        """How many slots of a round this account can be drawn for at once; 0 when it is no active worker."""

    async def plant_rules(self) -> PlantRules:
        """Which key says which slots this account may plant, and how many those are."""

    async def silo(self, task: int) -> tuple[int, int] | None:
        """How many samples this account may declare for a federated task, and has declared; None if it is no silo."""

    async def is_paused(self, task: int) -> bool:
        """Whether this account missed a slot of a running task, and is not drawn for it until it resumes."""

    async def is_aggregator(self) -> bool:
        """Whether this account is bonded as an aggregator."""

    async def is_validator(self) -> bool:
        """Whether this account is in the validator set, and is heard when it challenges or attests."""

    async def standing(self) -> Standing:
        """The account's bond, how its slots were judged, and what it earned as worker, auditor and aggregator."""

    async def token(self) -> Token:
        """How the chain shows amounts."""

    async def transact(self, call: str, **arguments: object) -> str | None:
        """Send a call and wait until it is final: None, or the name of the error that it failed with."""

    async def get_blob(self, root: Hash, bytes_max: int) -> bytes:
        """A blob, checked against its root; BlobMissing or BlobOversized where that is certain."""

    async def get_chunks(self, root: Hash, first: int, count: int) -> tuple[int, bytes]:
        """A blob's length, and its bytes from chunk `first` on, `count` chunks at most, each proven by the root."""

    async def has_blob(self, root: Hash) -> bool:
        """Whether the node has a blob, or found it at a peer."""

    async def put_blob(self, data: bytes) -> Hash:
        """Store a blob at the node."""

    def heads(self) -> AbstractAsyncContextManager[AsyncIterator[int]]:
        """Heights as they become final; may skip some."""


class RpcNode:
    """A node over its public RPC, reconnecting for ever."""

    def __init__(self, client: Client, keypair: Keypair) -> None:
        self._client = client
        self._keypair = keypair
        self.account = keypair.public

    async def task_ids(self) -> list[int]:
        tasks = await self._request("training_tasks")
        return [int(task["id"]) for task in tasks if task["status"] == "active"]

    async def task(self, task: int) -> TaskView:
        return views.task_of(await self._request("training_task", task))

    async def round(self, task: int) -> RoundView:
        try:
            return views.round_of(await self._client.request("training_round", task))
        except RpcError as error:
            if error.code == TRAINING_NOT_FOUND and not await self._runs(task):
                raise TaskOver(f"over before its first round: {error}") from None
            raise NodeError(f"training_round: {error}") from None
        except ClientError as error:
            raise NodeError(f"training_round: {error}") from None

    async def _runs(self, task: int) -> bool:
        """Whether a task is under way; NodeError of a node that does not know it, since it may lag behind."""
        return bool((await self._request("training_task", task))["status"] == "active")

    async def past_round(self, task: int, number: int) -> PastRound:
        return views.past_round_of(await self._request("training_round", task, number))

    async def worker_capacity(self) -> int:
        worker = await self._read(lambda chain: chain.training.workers[self.account])
        return int(worker.capacity) if worker.active else 0

    async def plant_rules(self) -> PlantRules:
        def look(chain: Any) -> PlantRules:
            found = chain.training.plant_keys.get(self.account)
            key, since = (None, 0) if found is None else (bytes(found.key), int(found.since))
            return PlantRules(key, since, int(chain.training.plant_key_blocks), int(chain.training.plant_ppm))

        rules: PlantRules = await self._read(look)
        return rules

    async def silo(self, task: int) -> tuple[int, int] | None:
        silos = await self._read(lambda chain: chain.training.silos[task])
        mine = [silo for silo in silos if silo.account == self.account]
        return (int(mine[0].samples_max), int(mine[0].samples)) if mine else None

    async def is_paused(self, task: int) -> bool:
        return bool(await self._read(lambda chain: task in chain.training.seats[self.account].paused))

    async def is_aggregator(self) -> bool:
        return bool(await self._read(lambda chain: self.account in chain.training.aggregators))

    async def is_validator(self) -> bool:
        return bool(await self._read(lambda chain: self.account in chain.training.validator_accounts()))

    async def standing(self) -> Standing:
        def look(chain: Any) -> Standing:
            worker = chain.training.workers[self.account]
            earned = worker.earned + chain.rewards.earned_by_checking[self.account]
            bond = worker.bond + (chain.training.aggregators.get(self.account) or 0)
            return Standing(bond, worker.accepted, worker.rejected, earned)

        standing: Standing = await self._read(look)
        return standing

    async def token(self) -> Token:
        properties = await self._request("system_properties")
        return Token(properties["tokenSymbol"], properties["tokenDecimals"])

    async def transact(self, call: str, **arguments: object) -> str | None:
        try:
            receipt = await self._client.transact(self._keypair, call, **arguments)
        except (ClientError, RpcError) as error:
            raise NodeError(f"{call}: {error}") from None
        return None if receipt.ok else receipt.error or "unknown error"

    async def get_blob(self, root: Hash, bytes_max: int) -> bytes:
        try:
            return await self._client.get_blob(root, bytes_max)
        except BlobNotFound as error:
            raise BlobMissing(str(error)) from None
        except BlobTooLarge as error:
            raise BlobOversized(str(error)) from None
        except ClientError as error:
            raise NodeError(str(error)) from None

    async def get_chunks(self, root: Hash, first: int, count: int) -> tuple[int, bytes]:
        try:
            return await self._client.get_chunks(root, first, count)
        except BlobNotFound as error:
            raise BlobMissing(str(error)) from None
        except ClientError as error:
            raise NodeError(str(error)) from None

    async def has_blob(self, root: Hash) -> bool:
        try:
            return await self._client.has_blob(root)
        except ClientError as error:
            raise NodeError(str(error)) from None

    async def put_blob(self, data: bytes) -> Hash:
        try:
            return await self._client.put_blob(data)
        except ClientError as error:
            raise NodeError(str(error)) from None

    @asynccontextmanager
    async def heads(self) -> AsyncIterator[AsyncIterator[int]]:
        async with self._client.finalized_heads() as heads:
            yield _heights(heads)

    async def _request(self, method: str, *params: object) -> Any:
        try:
            return await self._client.request(method, *params)
        except (ClientError, RpcError) as error:
            raise NodeError(f"{method}: {error}") from None

    async def _read(self, look: Any) -> Any:
        try:
            return await self._client.read(look)
        except (ClientError, RpcError) as error:
            raise NodeError(str(error)) from None


async def _heights(heads: AsyncIterator[dict[str, Any]]) -> AsyncIterator[int]:
    try:
        async for head in heads:
            yield int(head["number"], 16)
    except (ClientError, RpcError) as error:
        raise NodeError(str(error)) from None


@asynccontextmanager
async def open_node(urls: Sequence[str], keypair: Keypair, known: Known = ANY_CHAIN) -> AsyncIterator[RpcNode]:
    """A node behind the first of `urls` that answers, to sign by what is known of its chain; waits for one.

    CannotServe where it is of another chain, or its chain has no training.
    """
    async with Client.reconnecting(urls, known.runtime, known.genesis_hash) as client:
        methods = await _methods(client, known)
        if "training_tasks" not in methods:
            raise CannotServe(
                f"the chain of {client.url} has no training: its runtime lacks the module Training, so that there is "
                "nothing to do; give a node of another chain with --node"
            )
        yield RpcNode(client, keypair)


async def _methods(client: Client, known: Known) -> list[str]:
    """What a node answers, as soon as there is a node; CannotServe where it is of another chain."""
    while True:
        try:
            await known.check_chain(client)
            found: list[str] = (await client.request("rpc_methods"))["methods"]
        except OtherChain as error:
            raise CannotServe(str(error)) from None
        except (ClientError, RpcError):
            await trio.sleep(RETRY_SECONDS)
        else:
            return found
