"""Measures how fast a node with an empty folder catches up with a chain of empty blocks, over sockets, with BLS seals.

    .venv/bin/python scripts/bench/sync.py [--blocks 10000] [--profile]

The chain is made first, by the keys of four validators in this process, who are joined by a fifth: every block carries
all votes for its parent, which the node keeps with those of a quorum, as on a real chain. A node in a process of its
own then serves it to one that begins with nothing, once with every block and once with a recent state (warp): the
figure is from its start to its having the last block.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import trio
from figures import machine, profiled, record, verdict

from chain.development import ENDOWMENT, address, authority
from chain.ledger import Ledger
from chain.log import logging_to
from chain.node_config import NodeConfig, NodeRole
from chain.node_life import open_ledger, run_node
from chain.pool import PoolLimits
from chain.primitives import bls
from chain.primitives import seal as seals
from chain.primitives.keys import Keypair
from chain.primitives.seal import Phase, Seal, ValidatorSet, beacon_message, bitmap, vote_message
from chain.primitives.types import sign_extrinsic
from chain.rpc.access import Access
from chain.rpc.client import Client
from chain.rpc.errors import ClientError
from chain.rpc.protocol import Limits
from chain.sync.mode import SyncMode
from chain.validator_keys import ValidatorKeys
from genesis.spec import Address, GenesisSpec, load
from runtime.executive import Executive
from runtime.modules.balances import POT
from runtime.modules.validators import Validators
from runtime.potchain import RUNTIME
from runtime.types import InherentData

GOAL_SECONDS = 60.0
FOUNDERS = ("Alice", "Bob", "Charlie", "Dave")
NEWCOMER = "Eve"
# Four set changes in ten thousand blocks would be many; there is one, whatever their number.
SESSION_BLOCKS = 600
BLOCK_TIME_MS = 1000
GENESIS_TIME_MS = 1_700_000_000_000
TIMEOUT_SECONDS = 600.0
# Asking costs a millisecond.
LOOK_SECONDS = 0.1


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=10_000, help="how long the chain is")
    parser.add_argument("--profile", action="store_true", help="print where the time of the event loop goes, too")
    parser.add_argument("--port", type=int, default=31000, help="the first of four ports to use")
    parser.add_argument("--short", action="store_true", help="a hundred blocks, to see that the benchmark works")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)  # How it starts the process that has the chain.
    options = parser.parse_args()
    if options.serve is not None:
        trio.run(_serve, options.serve, options.port)
        return
    if options.short:
        options.blocks = 100
    print(machine())
    with tempfile.TemporaryDirectory(prefix="potchain-bench-") as name:
        folder = Path(name)
        spec = write_spec(folder, min(SESSION_BLOCKS, options.blocks // 10))
        began = time.perf_counter()
        _make_chain(spec, folder / "source", options.blocks)
        print(f"{options.blocks:,} empty blocks made in {time.perf_counter() - began:.1f} s", flush=True)
        with served(folder, options.port), logging_to(sys.stdout.fileno()):
            for mode in SyncMode:
                with profiled(f"{mode}: the event loop") if options.profile else nullcontext():
                    wall, cpu = trio.run(_catch_up, spec, folder / mode, mode, options.port, options.blocks)
                _show(f"--sync {mode}", options.blocks, wall, cpu)


def _show(name: str, blocks: int, wall: float, cpu: float) -> None:
    goal = GOAL_SECONDS * blocks / 10_000
    print(
        f"  {name:<12} {wall:7.1f} s, {blocks / wall:,.0f} blocks/s, processor time {cpu:.1f} s"
        f"   goal {goal:g} s: {verdict(goal / wall)}",
        flush=True,
    )
    record(f"{name}, {blocks:,} blocks", [wall], "s", cpu=[cpu], goal=goal)


def write_spec(folder: Path, session_blocks: int) -> GenesisSpec:
    """A chain of four validators, in the folder that `served` takes."""
    path = folder / "genesis.json"
    path.write_text(
        json.dumps(
            {
                "name": "Benchmark",
                "id": "benchmark",
                "chainType": "Local",
                "properties": {"tokenSymbol": "POT", "tokenDecimals": 12, "ss58Format": 42},
                "consensus": {"blockTimeMs": BLOCK_TIME_MS, "timeoutMs": 2000, "timeoutMsMax": 16000},
                "genesis": {
                    "balances": {"balances": [[address(name), ENDOWMENT] for name in (*FOUNDERS, NEWCOMER)]},
                    "validators": {
                        "authorities": [authority(name) for name in FOUNDERS],
                        "sessionBlocks": session_blocks,
                    },
                },
            }
        )
    )
    return load(path)


@contextmanager
def trusting() -> Iterator[None]:
    """Whoever makes the chain need not check its own signatures, which takes most of the time."""
    real = bls.verify, bls.fast_aggregate_verify
    bls.verify = bls.fast_aggregate_verify = lambda *_: True  # type: ignore[assignment]
    try:
        yield
    finally:
        bls.verify, bls.fast_aggregate_verify = real
        seals.verify_seal.cache_clear()


def _make_chain(spec: GenesisSpec, path: Path, blocks: int) -> None:
    """Make the chain; the newcomer stands for election in its first block."""
    secrets = {
        bls.public_key(keys.bls_secret): keys.bls_secret
        for keys in (ValidatorKeys.from_uri(f"//{name}") for name in (*FOUNDERS, NEWCOMER))
    }
    ledger = open_ledger(spec, path, Executive(spec.runtime))
    parent_seal: Seal | None = None
    sets: set[int] = set()
    try:
        with trusting():
            for height in range(1, blocks + 1):
                with ledger.state() as state:
                    validators = RUNTIME.at(state).module(Validators).validator_set()
                sets.add(validators.set_id)
                beacon = bls.sign(
                    secrets[validators.primary(height, 0).bls_key], beacon_message(ledger.genesis_hash, height)
                )
                inherent = InherentData(GENESIS_TIME_MS + height * BLOCK_TIME_MS, parent_seal)
                candidates = _candidacy(ledger) if height == 1 else []
                executed, rejected = ledger.propose(height, 0, beacon, inherent, candidates)
                assert not rejected, rejected
                seal = partial(_seal, ledger.genesis_hash, validators, height, executed.hash, secrets)
                ledger.commit(executed, seal(validators.quorum))
                parent_seal = seal(validators.n)
        print(f"{len(sets)} validator sets, {ledger.size_bytes / 2**20:.0f} MiB on the disk")
    finally:
        ledger.close()


def _candidacy(ledger: Ledger) -> list[bytes]:
    keys = ValidatorKeys.from_uri(f"//{NEWCOMER}")
    calls = [
        RUNTIME.call("validators.bond", value=2000 * POT),
        RUNTIME.call(
            "validators.set_keys",
            bls_key=bls.public_key(keys.bls_secret),
            proof=bls.prove_possession(keys.bls_secret, keys.account.public),
        ),
        RUNTIME.call("validators.validate"),
    ]
    return [
        sign_extrinsic(
            Keypair.from_uri(f"//{NEWCOMER}"),
            RUNTIME.encode_call(call),
            nonce=nonce,
            spec_version=RUNTIME.spec_version,
            transaction_version=RUNTIME.transaction_version,
            genesis_hash=ledger.genesis_hash,
        )
        for nonce, call in enumerate(calls)
    ]


def _seal(
    genesis_hash: bytes, validators: ValidatorSet, height: int, block: bytes, secrets: dict[bytes, bytes], count: int
) -> Seal:
    """The votes of so many validators, beginning with another one each height; signed with the sum of their keys."""
    voters = [(height + number) % validators.n for number in range(count)]
    secret = sum(int.from_bytes(secrets[validators.authorities[voter].bls_key]) for voter in voters)
    message = vote_message(genesis_hash, validators.set_id, height, 0, Phase.COMMIT, block)
    signature = bls.sign((secret % bls.SUBGROUP_ORDER).to_bytes(bls.SECRET_KEY_BYTES), message)
    return Seal(height, 0, validators.set_id, block, bitmap(voters, validators.n), signature)


def _config(spec: GenesisSpec, path: Path, port: int, bootnode: int | None, mode: SyncMode) -> NodeConfig:
    return NodeConfig(
        spec=spec,
        role=NodeRole("full-node", 0, None),
        data_path=path,
        rpc_port=port + 1,
        port=port,
        bootnodes=() if bootnode is None else (Address("127.0.0.1", bootnode),),
        access=Access(),
        limits=Limits(),
        history=256,
        sync=mode,
        pool_limits=PoolLimits(),
        supervised=False,
    )


@contextmanager
def served(folder: Path, port: int) -> Iterator[int]:
    """The chain in a folder, served by a process of its own; which one, once it is ready."""
    command = [sys.executable, __file__, "--serve", str(folder), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            if not any(b"ready" in line for line in process.stdout):
                raise RuntimeError("the node that has the chain ended before it was ready")
            yield process.pid
        finally:
            process.kill()


async def _serve(folder: Path, port: int) -> None:
    with logging_to(sys.stdout.fileno()):
        await run_node(_config(load(folder / "genesis.json"), folder / "source", port, None, SyncMode.FULL))


async def _catch_up(spec: GenesisSpec, path: Path, mode: SyncMode, port: int, blocks: int) -> tuple[float, float]:
    """How long a node takes from its start, by the clock and by the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    with trio.fail_after(TIMEOUT_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_node, _config(spec, path, port + 2, port, mode))
            while await _height(port + 3) < blocks:
                await trio.sleep(LOOK_SECONDS)
            spent = time.perf_counter() - wall, time.process_time() - cpu
            nursery.cancel_scope.cancel()
    return spent


async def _height(port: int) -> int:
    """The node's own word, over its RPC; below zero while there is none."""
    try:
        async with Client.connect(f"ws://127.0.0.1:{port}") as client:
            state: dict[str, Any] = await client.request("system_syncState")
    except ClientError:
        return -1
    return int(state["currentBlock"]) if state["phase"] == "blocks" else -1


if __name__ == "__main__":
    main()
