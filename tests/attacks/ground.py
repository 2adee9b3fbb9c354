"""A running chain to be attacked: four whole nodes that vote, and honest workers, auditors and an aggregator in JAX.

Rule: whoever attacks gets at it as anybody does, through a node's RPC and with a key of its own; what came of it is
read from the blocks alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import trio

from chain.development import ENDOWMENT, address
from chain.primitives import ss58
from chain.primitives.hashing import Hash
from chain.primitives.keys import Keypair
from chain.rpc.client import Client
from runtime.modules.balances import POT
from runtime.modules.training import Training
from runtime.modules.training_types import RoundRecord
from runtime.potchain import RUNTIME, Potchain
from runtime.types import EventRecord
from tests.attacks.crowd import Crowd, CrowdNode
from tests.chain.cluster import Cluster, Member, cluster
from tests.trainer.kit import TRAIN, small_task
from tests.trainer.network import one_engine
from trainer.aggregator import run_aggregator
from trainer.auditor import attend
from trainer.node import RpcNode
from trainer.optimizers import PICO
from trainer.sandbox import Engines
from trainer.worker import MakeServant, work

T = TypeVar("T")

BLOCK_TIME_MS = 200
VALIDATORS = ("Alice", "Bob", "Charlie", "Dave")
# Three of four auditors agree; which is left out may do as it likes.
LIAR = "Dave"
OWNER = Keypair.from_uri("//Owner")
AGGREGATOR = Keypair.from_uri("//Aggregator")
WORKERS = {"eve": Keypair.from_uri("//Eve"), "ferdie": Keypair.from_uri("//Ferdie")}
HONEST_SEATS = 4
# What each attacker has to begin with: two bonds and a half.
PURSE = 250 * POT
# As many as there are rows for: an attacker is seldom left out.
SLOTS = TRAIN // small_task().program.batch
RATE = PICO
# What is withheld is waited for until the deadline: ten seconds, short enough for a test, in which honest workers have
# revealed and auditors have spoken on a busy machine, too.
REVEAL_BLOCKS, AUDIT_BLOCKS = 50, 50
POLICY = {
    "slots": SLOTS,
    # A phase ends when it is complete, and everybody commits.
    "commitBlocks": 600,
    "revealBlocks": REVEAL_BLOCKS,
    "auditBlocks": AUDIT_BLOCKS,
    "auditorsPerSlot": 2,
    # All slots, so that each cheat is found where it was tried.
    "auditedPpm": 1_000_000,
    "toleranceMicroSteps": 510_000,
    "outliersPpm": 20,
    "evaluateRounds": 1,
}


def genesis(attackers: Sequence[Keypair]) -> dict[str, Mapping[str, object]]:
    """Money for everybody, and a task."""
    task = small_task()
    sizes = {root: len(data) for root, data in task.blobs.items()}
    program, params = sizes.pop(task.program_root), sizes.pop(task.params_root)
    names = [address(name) for name in VALIDATORS]
    honest = [ss58.encode(key.public) for key in (OWNER, AGGREGATOR, *WORKERS.values())]
    balances = [[who, ENDOWMENT] for who in (*names, *honest)]
    return {
        "balances": {"balances": balances + [[ss58.encode(key.public), PURSE] for key in attackers]},
        "training": {
            "tasks": [
                {
                    "owner": ss58.encode(OWNER.public),
                    "name": "small",
                    "programRoot": "0x" + task.program_root.hex(),
                    "datasetRoot": "0x" + task.dataset_root.hex(),
                    "paramsRoot": "0x" + task.params_root.hex(),
                    "optimizer": {"rule": {"sgd": {"learningRate": RATE, "momentum": 0}}},
                    "policy": POLICY,
                    "rounds": 1000,
                    "pricePerSlot": POT,
                    "storage": {
                        "programBytes": program,
                        "datasetBytes": sum(sizes.values()),
                        "parameters": params // 4,
                    },
                }
            ]
        },
    }


@dataclass
class Ground:
    """The chain, what happened on it block by block, and ways to be on it."""

    network: Cluster
    nursery: trio.Nursery
    folder: Path
    engines: Engines
    crowd: Crowd
    members: dict[str, Member]
    # The events of each block, and what every account has after it.
    events: dict[int, list[EventRecord]] = field(default_factory=dict)
    holdings: dict[int, dict[bytes, int]] = field(default_factory=dict)
    # The final rounds of the task, and the updates that were accepted in them, which nodes drop after a while.
    records: dict[int, RoundRecord] = field(default_factory=dict)
    blobs: dict[Hash, bytes] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    auditors: dict[str, trio.CancelScope] = field(default_factory=dict)

    @property
    def first(self) -> Member:
        """The node that is looked at."""
        return self.members[VALIDATORS[0]]

    @property
    def height(self) -> int:
        """How far the chain was read."""
        return max(self.holdings)

    def url(self, name: str) -> str:
        """Where a node answers."""
        return f"ws://127.0.0.1:{self.members[name].rpc_port}"

    def report(self, name: str) -> Callable[[str], None]:
        """Notes what a participant says."""

        def note(line: str) -> None:
            self.lines.append(f"{name}: {line}")
            print(self.lines[-1])

        return note

    async def until(self, look: Callable[[Potchain], T | None]) -> T:
        """Wait for the first block after which `look` finds something, and until it was read."""
        found = await self.first.until(look)
        self.read_to(self.first.ledger.head.height)
        return found

    async def rounds(self, count: int = 1) -> None:
        """Wait for so many rounds that began after now to be final."""
        begun = self.first.read(lambda chain: chain.training.tasks[0].round)
        await self.until(lambda chain: chain.training.tasks[0].round > begun + count)

    async def watch(self) -> None:
        """Read every block."""
        with self.first.node.heads.subscribe(newest=True) as heads:
            async for head in heads:
                self.read_to(head.height)

    def read_to(self, height: int) -> None:
        """Read what blocks up to a height did."""
        for each in range(max(self.holdings, default=-1) + 1, height + 1):
            block_hash = self.first.ledger.hash_at(each)
            assert block_hash is not None
            with self.first.ledger.state(block_hash) as state:
                chain = RUNTIME.at(state)
                self.events[each] = list(chain.system.events.get())
                self.holdings[each] = {
                    who: info.data.free + info.data.reserved for who, info in chain.system.account.items()
                }
                for record in self.events[each]:
                    match record.event:
                        case Training.RoundFinalised(task=0, round=round_):
                            self._keep(round_, chain.training.history[0, round_])

    def _keep(self, round_: int, record: RoundRecord) -> None:
        """Keep a final round, with what was accepted in it."""
        self.records[round_] = record
        for slot in record.slots:
            if slot.accepted and slot.update_root is not None:
                found = [member.node.blobs.get(slot.update_root) for member in self.members.values()]
                self.blobs[slot.update_root] = next(data for data in found if data is not None)

    @asynccontextmanager
    async def node(self, key: Keypair, name: str = VALIDATORS[0]) -> AsyncIterator[RpcNode]:
        """A key at a node."""
        async with Client.reconnecting([self.url(name)]) as client:
            yield RpcNode(client, key)

    async def works(self, name: str, key: Keypair, capacity: int = 1, servant: MakeServant | None = None) -> None:
        """A worker's life, among the crowd; honest unless `servant` makes something else."""
        node, report = CrowdNode(self.crowd, key), self.report(name)
        await work(node, self.engines, self.folder / name, report=report, capacity=capacity, servant=servant)

    async def audits(self, name: str) -> None:
        """A validator's honest auditor, at its own node."""
        with trio.CancelScope() as self.auditors[name]:
            async with self.node(self.members[name].keys.account, name) as node:
                await attend(node, self.engines, self.folder / f"{name} audits", report=self.report(f"{name} audits"))

    async def sums(self) -> None:
        """The honest aggregator."""
        url, report = self.url(VALIDATORS[0]), self.report("aggregator")
        await run_aggregator([url], AGGREGATOR, self.folder / "sums", report=report)

    def slashes(self, key: Keypair) -> list[Training.WorkerSlashed]:
        """What a worker lost of its bond, and why."""
        found = (record.event for each in self.events.values() for record in each)
        return [event for event in found if isinstance(event, Training.WorkerSlashed) and event.worker == key.public]


@asynccontextmanager
async def ground(folder: Path, attackers: Sequence[Keypair]) -> AsyncIterator[Ground]:
    """The chain with its honest participants, for as long as the scope lasts; a first round is final when it begins."""
    async with (
        one_engine(folder) as engines,
        cluster(folder, block_time_ms=BLOCK_TIME_MS, genesis=genesis(attackers), sessionBlocks=1000) as network,
    ):
        members = {name: await network.start(name) for name in VALIDATORS}
        for member in members.values():
            for data in small_task().blobs.values():
                member.node.blobs.put(data)
        url = f"ws://127.0.0.1:{members[VALIDATORS[1]].rpc_port}"
        async with Client.reconnecting([url]) as client, trio.open_nursery() as nursery:
            here = Ground(network, nursery, folder, engines, Crowd(client), members)
            nursery.start_soon(here.watch)
            for name in VALIDATORS:
                nursery.start_soon(here.audits, name)
            for name, key in WORKERS.items():
                nursery.start_soon(here.works, name, key, HONEST_SEATS)
            nursery.start_soon(here.sums)
            await here.until(lambda chain: chain.training.tasks[0].round >= 1)
            yield here
            nursery.cancel_scope.cancel()
