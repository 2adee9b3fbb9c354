"""The life of a node's process: the folder is opened, a recent state adopted where that is asked for, the node run.

Rule: what the folder holds is read, and checked against this program, before anything is served or sent.
"""

from __future__ import annotations

import gc
import sys
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import trio

from chain.display import short_hash, states_line
from chain.file_limit import raise_file_limit
from chain.history import HISTORY
from chain.key_hold import hold_key
from chain.ledger import Ledger
from chain.light.checkpoint import Checkpoint
from chain.log import Log
from chain.node import Node
from chain.node_config import NodeConfig
from chain.rpc.access import LOOPBACK, Access
from chain.runtime_mark import Mark, check_mark
from chain.supervisor import cancel_when_told
from chain.sync.mode import SyncMode
from genesis.spec import GenesisSpec
from runtime.executive import Executive
from runtime.types import GenesisError

SWITCH_SECONDS = 0.001  # a fifth of Python's own: a step of consensus changes threads a dozen times


async def run_node(config: NodeConfig) -> None:
    """Run a node until it is told to stop."""
    # Votes are threads' work and the loop's: whoever needs the interpreter gets it from who holds it within this time.
    sys.setswitchinterval(SWITCH_SECONDS)
    raise_file_limit(config.limits.connections_max)
    started = trio.current_time()
    executive = Executive(config.spec.runtime)
    opening = partial(open_ledger, config.spec, config.data_path, executive, config.history)
    with ExitStack() as held, ExitStack() as opened:
        if config.role.keys is not None and not config.role.is_known:
            held.enter_context(hold_key(Checkpoint.of(config.spec).genesis_hash, config.role.keys))
        ledger = opened.enter_context(closing(await trio.to_thread.run_sync(opening)))
        if ledger.migrated is not None:
            Log("data").info(ledger.migrated)
        changed = await trio.to_thread.run_sync(
            lambda: check_mark(ledger, Mark.of(config.spec), is_development=config.spec.chain_type == "Development")
        )
        if changed is not None:
            Log("runtime").warning(changed)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_when_told, nursery.cancel_scope, config.supervised)
            if config.sync is SyncMode.WARP and await warp(config, executive, ledger):
                opened.close()
                ledger = opened.enter_context(closing(await trio.to_thread.run_sync(opening)))
            Log("states").info(
                states_line(ledger.history, ledger.oldest_state, ledger.head.height), oldest=ledger.oldest_state
            )
            node = await trio.to_thread.run_sync(partial(Node, config, executive, ledger))
            # What is here now stays until the end: Python's collector, for which everything waits, shall not walk it.
            gc.collect()
            gc.freeze()
            await node.start(nursery)
            if config.access.is_external and config.access.serves_unsafe:
                Log("rpc").warning(
                    f"whoever reaches RPC port {config.rpc_port} can use unsafe methods, which change this node or "
                    "cost it much: put a proxy that filters methods in front of it, or start it with --rpc-methods safe"
                )
            height, seconds = ledger.head.height, trio.current_time() - started
            Log("dashboard").info(config.access.page(config.rpc_port))
            Log("ready").info(
                f"{config.role.name} at height {height} after {seconds:.1f} s: "
                f"RPC {describe_access(config.access, config.rpc_port)}, peers on "
                f"{'port' if config.listen_host == LOOPBACK else config.listen_host} {config.port}, "
                f"genesis {short_hash(ledger.genesis_hash)}",
                name=config.role.name,
                height=height,
                genesis=ledger.genesis_hash,
            )


async def warp(config: NodeConfig, executive: Executive, ledger: Ledger) -> bool:
    """Have the ledger adopt a recent state, while RPC tells how far that is; whether to open the ledger anew."""
    if ledger.head.height > 0:
        Log("sync").info(f"the data folder has the chain up to block {ledger.head.height:,}, and follows from there")
        return False
    node = await trio.to_thread.run_sync(partial(Node, config, executive, ledger, warps=True))
    async with trio.open_nursery() as nursery:
        await node.start(nursery)
        Log("sync").info(f"looking for a recent state: RPC {describe_access(config.access, config.rpc_port)}")
        adopted = await node.warp()
        nursery.cancel_scope.cancel()
    return adopted


def describe_access(access: Access, port: int) -> str:
    """Where clients find the RPC, and whether all of it."""
    where = "on every interface of this machine, port" if access.is_external else f"ws://{access.host}"
    methods = "" if access.serves_unsafe else " (safe methods)"
    return f"{where}{' ' if access.is_external else ':'}{port}{methods}"


def open_ledger(spec: GenesisSpec, path: Path, executive: Executive, history: int | None = HISTORY) -> Ledger:
    """The chain in the data folder, begun from the genesis file where the folder is new."""
    try:
        state = executive.genesis(spec.genesis)
    except GenesisError as error:
        raise GenesisError(f"genesis file {spec.path}: genesis.{error}") from None
    return Ledger.open(
        path / "chain", executive=executive, genesis_state=state, genesis_name=spec.name, history=history
    )
