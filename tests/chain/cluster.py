"""Whole nodes in one process: real ledgers, logs, pools, TLS connections and RPC servers, with short sessions.

What a test waits for is a state, looked at after each block of one node.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from chain.development import ENDOWMENT, address, authority
from chain.ledger import Ledger
from chain.node import Node
from chain.node_config import NodeConfig, NodeRole
from chain.node_life import open_ledger, warp
from chain.pool import PoolLimits
from chain.primitives.hashing import Hash
from chain.primitives.keys import Keypair
from chain.primitives.seal import Seal
from chain.rpc.access import Access
from chain.rpc.protocol import Limits
from chain.sync.mode import SyncMode
from chain.validator_keys import ValidatorKeys
from consensus.lookback import Past
from genesis.spec import Address, load
from runtime.executive import Executive
from runtime.modules.validators import Validators
from runtime.potchain import RUNTIME, Potchain
from tests.ports import free_ports

T = TypeVar("T")

NODES_MAX = 7
# The slowest test of these takes some fifty blocks, and on a busy machine a block takes seconds.
PATIENCE_SECONDS = 300.0


class Member:
    """A node that runs."""

    def __init__(self, node: Node, name: str, keys: ValidatorKeys, rpc_port: int) -> None:
        self.node = node
        self.name = name
        self.keys = keys
        self.rpc_port = rpc_port
        self.scope = trio.CancelScope()
        self.ended = trio.Event()

    @property
    def ledger(self) -> Ledger:
        return self.node.ledger

    def read(self, look: Callable[[Potchain], T], at: Hash | None = None) -> T:
        """Something of the state after a block, or of the newest."""
        with self.ledger.state(at) as state:
            return look(RUNTIME.at(state))

    async def until(self, look: Callable[[Potchain], T | None]) -> T:
        """Wait for the first block, the head or any later, after which `look` finds something."""
        with trio.fail_after(PATIENCE_SECONDS), self.node.heads.subscribe() as heads:
            found = self.read(look)
            while not found:
                found = self.read(look, (await anext(heads)).hash)
        return found

    async def reach(self, height: int) -> None:
        await self.until(lambda chain: chain.system.height >= height)

    async def stop(self) -> None:
        """End it, so that its folder may be opened again."""
        self.scope.cancel()
        await self.ended.wait()

    async def command(self, *arguments: str, key: str | None = None, code: int = 0) -> list[str]:
        """Run `potchain validator …` with this node and its key; what it printed, or why it failed."""
        command = (sys.executable, "-m", "chain", "validator", *arguments)
        options = (f"--key={key or f'//{self.name}'}", f"--node=ws://127.0.0.1:{self.rpc_port}")
        with trio.fail_after(PATIENCE_SECONDS):
            done = await trio.run_process((*command, *options), capture_stdout=True, capture_stderr=True, check=False)
        assert done.returncode == code, done
        return (done.stderr if code else done.stdout).decode().splitlines()

    def seal(self, height: int) -> Seal:
        found = self.ledger.hash_at(height)
        assert found is not None
        seal = self.ledger.seal(found)
        assert seal is not None
        return seal


class Cluster:
    """Nodes of one chain. `start` adds one; the four of genesis are the development accounts' first."""

    def __init__(
        self,
        nursery: trio.Nursery,
        folder: Path,
        sessions: Mapping[str, int],
        block_time_ms: int,
        genesis: Mapping[str, Mapping[str, object]],
    ) -> None:
        self._nursery = nursery
        self._folder = folder
        self._port = free_ports(2 * NODES_MAX)
        self._started = 0
        names = ("Alice", "Bob", "Charlie", "Dave")
        path = folder / "genesis.json"
        path.write_text(
            json.dumps(
                {
                    "name": "Cluster",
                    "id": "cluster",
                    "chainType": "Local",
                    "properties": {"tokenSymbol": "POT", "tokenDecimals": 12, "ss58Format": 42},
                    "consensus": {"blockTimeMs": block_time_ms, "timeoutMs": 3000, "timeoutMsMax": 12000},
                    "genesis": {
                        "balances": {"balances": [[address(name), ENDOWMENT] for name in (*names, "Eve")]},
                        "validators": {"authorities": [authority(name) for name in names], **sessions},
                        **genesis,
                    },
                }
            )
        )
        self._spec = load(path)

    async def start(
        self,
        name: str,
        *,
        twin: bool = False,
        past: Past = Past.UNKNOWN,
        sync: SyncMode = SyncMode.FULL,
        session: int = 0,
    ) -> Member:
        """Start a validator's node; a twin has the same keys and another identity, data folder and log."""
        keys = ValidatorKeys.from_uri(f"//{name}", session)
        label = f"{name.lower()}-twin" if twin else name.lower()
        if twin:
            keys = replace(keys, node=Keypair.from_uri(f"//{name}//twin"))
        number, self._started = self._started, self._started + 1
        executive = Executive(self._spec.runtime)
        path = self._folder / label
        ledger = await trio.to_thread.run_sync(partial(open_ledger, self._spec, path, executive))
        config = NodeConfig(
            spec=self._spec,
            role=NodeRole(label, number, keys),
            data_path=path,
            rpc_port=self._port + NODES_MAX + number,
            port=self._port + number,
            bootnodes=tuple(Address("127.0.0.1", self._port + other) for other in range(NODES_MAX)),
            access=Access(),
            limits=Limits(),
            history=256,
            sync=sync,
            pool_limits=PoolLimits(),
            supervised=False,
            past=past,
        )
        if sync is SyncMode.WARP and await warp(config, executive, ledger):
            ledger.close()
            ledger = await trio.to_thread.run_sync(partial(open_ledger, self._spec, path, executive))
        member = Member(Node(config, executive, ledger), name, keys, config.rpc_port)
        await self._nursery.start(self._run, member)
        return member

    async def _run(self, member: Member, task_status: trio.TaskStatus[None]) -> None:
        try:
            with member.scope:
                async with trio.open_nursery() as nursery:
                    await member.node.start(nursery)
                    task_status.started()
        finally:
            member.ledger.close()
            member.ended.set()


@asynccontextmanager
async def cluster(
    folder: Path, *, block_time_ms: int, genesis: Mapping[str, Mapping[str, object]] | None = None, **sessions: int
) -> AsyncIterator[Cluster]:
    """A cluster for as long as the scope lasts; sections of `genesis` come beside those of its own, or instead.

    Blocks that follow each other faster than Timestamp's half second carry the least time that they may: their chain's
    clock runs ahead, and what two authors make of one parent is the same block.
    """
    async with trio.open_nursery() as nursery:
        yield Cluster(nursery, folder, sessions, block_time_ms, genesis or {})
        nursery.cancel_scope.cancel()


def set_of(chain: Potchain) -> tuple[int, list[bytes]]:
    """The number of the set that decides the next block, and its accounts."""
    validators = chain.module(Validators).validator_set()
    return validators.set_id, [authority.account for authority in validators.authorities]
