"""A chain for rounds: the real ledger, runtime, RPC server and blobs, with two validators that seal on a clock.

What is missing of a network is only PBFT's messages and the peers: one process seals for both validators.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import trio

from chain.blob_keeper import BlobKeeper
from chain.blobs import BlobStore
from chain.ledger import ExecutedBlock, Ledger
from chain.primitives import bls, ss58
from chain.primitives.hashing import Hash
from chain.primitives.keys import Keypair
from chain.primitives.seal import Phase, Seal, beacon_message, bitmap, vote_message
from chain.primitives.types import Header
from chain.rpc.server import RpcServer
from chain.validator_keys import ValidatorKeys
from runtime.executive import Executive
from runtime.potchain import RUNTIME
from runtime.types import InherentData
from tests.rpc.kit import GENESIS_MS, MiniNode
from tests.trainer.kit import SmallTask, small_task
from trainer.aggregator import run_aggregator
from trainer.auditor import run_auditor
from trainer.sandbox import Deadlines, Engines

VALIDATORS = [ValidatorKeys.from_uri("//Alice"), ValidatorKeys.from_uri("//Bob")]
CHARLIE = Keypair.from_uri("//Charlie")
EVE = Keypair.from_uri("//Eve")
FERDIE = Keypair.from_uri("//Ferdie")
AGGREGATOR = Keypair.from_uri("//Aggregator")
POT = 10**12
# Phases end when they are complete; the deadlines are for machines that are busy with other things.
PATIENT_BLOCKS = 600
BLOCK_SECONDS = 0.1
Lines = list[str]
T = TypeVar("T")


# What a task has other than the plain one: fields of its policy, and its optimiser.
Choice = tuple[Mapping[str, object], Mapping[str, object] | None]
PLAIN: Choice = ({}, None)


def genesis_config(
    rounds: int,
    audit_blocks: int,
    choices: Sequence[Choice],
    others: Sequence[Keypair] = (),
    *,
    task: SmallTask | None = None,
    validators: Sequence[ValidatorKeys] = VALIDATORS,
) -> dict[str, Mapping[str, object]]:
    """Two validators, tasks of two slots owned by Charlie, and money for everybody."""
    task = task or small_task()
    sizes = {root: len(data) for root, data in task.blobs.items()}
    program, params = sizes.pop(task.program_root), sizes.pop(task.params_root)
    storage = {"programBytes": program, "datasetBytes": sum(sizes.values()), "parameters": params // 4}
    authorities = [
        {
            "account": ss58.encode(keys.account.public),
            "bls": "0x" + bls.public_key(keys.bls_secret).hex(),
            "proof": "0x" + bls.prove_possession(keys.bls_secret, keys.account.public).hex(),
        }
        for keys in validators
    ]
    people = [CHARLIE, EVE, FERDIE, AGGREGATOR, *(keys.account for keys in validators), *others]
    # An owner may be a validator, too.
    people = list({key.public: key for key in people}.values())
    policy = {
        "slots": 2,
        "commitBlocks": PATIENT_BLOCKS,
        "revealBlocks": PATIENT_BLOCKS,
        "auditBlocks": audit_blocks,
        "auditorsPerSlot": 1,
        "auditedPpm": 1_000_000,
        "toleranceMicroSteps": 510_000,
        "outliersPpm": 20,
        "evaluateRounds": 4,
    }
    adam = {"learningRate": 2 * 10**10, "beta1": 9 * 10**11, "beta2": 999 * 10**9, "epsilon": 10**4}
    return {
        "balances": {"balances": [[ss58.encode(key.public), 10_000 * POT] for key in people]},
        "validators": {"authorities": authorities},
        "training": {
            "tasks": [
                {
                    "owner": ss58.encode(CHARLIE.public),
                    "name": "small",
                    "programRoot": "0x" + task.program_root.hex(),
                    "datasetRoot": "0x" + task.dataset_root.hex(),
                    "paramsRoot": "0x" + task.params_root.hex(),
                    "optimizer": optimizer or {"rule": {"adam": adam}},
                    "policy": {**policy, **changes},
                    "rounds": rounds,
                    "pricePerSlot": POT,
                    "storage": storage,
                }
                for changes, optimizer in choices
            ]
        },
    }


@dataclass
class Chain(MiniNode):
    """Seals a block on a clock, with the signatures of all validators."""

    sealers: Sequence[ValidatorKeys] = ()

    def _commit(self, height: int, waiting: list[bytes]) -> ExecutedBlock:
        ledger = self.ledger
        primary = self.sealers[height % len(self.sealers)]
        beacon = bls.sign(primary.bls_secret, beacon_message(ledger.genesis_hash, height))
        inherent = InherentData(GENESIS_MS + height * 1000, ledger.seal(ledger.head_hash))
        executed, _ = ledger.propose(height, 0, beacon, inherent, waiting)
        vote = vote_message(ledger.genesis_hash, 0, height, 0, Phase.COMMIT, executed.hash)
        signature = bls.aggregate([bls.sign(keys.bls_secret, vote) for keys in self.sealers])
        voters = bitmap(range(len(self.sealers)), len(self.sealers))
        ledger.commit(executed, Seal(height, 0, 0, executed.hash, voters, signature))
        return executed

    async def run_author(self) -> None:
        while True:
            await self.seal()
            await trio.sleep(BLOCK_SECONDS)


@dataclass
class Network:
    """A served chain, and the events of all its blocks."""

    node: Chain
    url: str
    events: list[object] = field(default_factory=list)

    def modules(self, look: Any, at: Hash | None = None) -> Any:
        """What `look` sees in the runtime's modules after a block, or at the head."""
        with self.node.ledger.state(at) as state:
            return look(RUNTIME.at(state))

    async def until(self, condition: Any) -> Any:
        """Wait for the first block, the head or any later, after which `condition` is true; what it found."""
        with self.node.heads.subscribe() as heads:
            seen = self.modules(condition)
            while not seen:
                seen = self.modules(condition, (await anext(heads)).hash)
        return seen

    def told(self, kind: type[T]) -> list[T]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def note(self, head: Header) -> None:
        """Note what a block did."""
        records = self.modules(lambda modules: modules.system.events.get(), head.hash)
        self.events.extend(record.event for record in records)


@asynccontextmanager
async def network(
    folder: Path,
    *,
    rounds: int,
    audit_blocks: int = PATIENT_BLOCKS,
    choices: Sequence[Choice] = (PLAIN,),
    others: Sequence[Keypair] = (),
    expiring: bool = False,
    task: SmallTask | None = None,
    validators: Sequence[ValidatorKeys] = VALIDATORS,
) -> AsyncIterator[Network]:
    """A chain with a small task for each choice, and money for others, too, for as long as the scope lasts.

    `expiring` blobs are dropped as a node drops them; else all rounds can be looked at when they are over.
    """
    executive = Executive(RUNTIME)
    config = genesis_config(rounds, audit_blocks, choices, others, task=task, validators=validators)
    state = executive.genesis(config)
    ledger = Ledger.open(folder / "db", executive=executive, genesis_state=state, genesis_name="rounds")
    blobs = BlobStore(folder / "blobs", 1 << 28)
    for data in (task or small_task()).blobs.values():
        blobs.put(data)
    node = Chain(ledger, executive, blobs, sealers=validators)
    server = RpcServer(node, port=0)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            found = Network(node, f"ws://127.0.0.1:{server.port}")
            with node.heads.listen(found.note):
                nursery.start_soon(node.run_author)
                if expiring:
                    nursery.start_soon(BlobKeeper(ledger, blobs).run, node.heads)
                yield found
            nursery.cancel_scope.cancel()
    finally:
        ledger.close()


class OneEngine(Engines):
    """One child that computes for everybody: where a test asks what is computed, not that participants are apart."""

    async def release(self, task: int) -> None:
        """Others compute on."""

    def _name(self, task: int) -> str:
        return "all"


@asynccontextmanager
async def one_engine(folder: Path, warn: Callable[[str], None] = print) -> AsyncIterator[Engines]:
    """An engine for all tasks of all participants, which ends with the block."""
    engines = OneEngine(folder / "engine", "cpu", Deadlines(), warn)
    try:
        yield engines
    finally:
        await engines.close()


def reporter(lines: Lines, name: str) -> Callable[[str], None]:
    def report(line: str) -> None:
        lines.append(f"{name}: {line}")
        print(lines[-1])

    return report


async def audit_and_aggregate(nursery: trio.Nursery, chain: Network, folder: Path, lines: Lines) -> None:
    for index, keys in enumerate(VALIDATORS):
        report = reporter(lines, f"auditor {index}")
        nursery.start_soon(partial(run_auditor, [chain.url], keys.account, folder / f"auditor{index}", report=report))
    report = reporter(lines, "aggregator")
    nursery.start_soon(partial(run_aggregator, [chain.url], AGGREGATOR, folder / "aggregator", report=report))
