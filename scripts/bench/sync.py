"""Measures how fast a node with an empty folder catches up with a chain, over sockets, with BLS seals.

    .venv/bin/python scripts/bench/sync.py [--blocks 10000] [--profile]
    .venv/bin/python scripts/bench/sync.py --transfers 1000 --blocks 60 [--scheme sr25519]

The blocks are empty, or hold so many transfers each, every one of a sender and a receiver of its own: importing them is
all that a node does with a block which it has not seen. It verifies its seals, its beacon's share and each signature,
executes it, compares the root of the state and flushes the disk.

The chain is made first, by the keys of four validators in this process, who are joined by a fifth: every block carries
all votes for its parent, which the node keeps with those of a quorum, as on a real chain. A node in a process of its
own then serves it to one that begins with nothing, with every block, and where they are empty also with a recent state
(warp): the figure is from its start to its having the last block.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import trio
from execute import transfer
from figures import Figure, machine, profiled, record, show_rate, verdict
from ports import free_run

from chain.development import ENDOWMENT, address, authority
from chain.ledger import Ledger
from chain.log import logging_to
from chain.node_config import NodeConfig, NodeRole
from chain.node_life import open_ledger, run_node
from chain.pool import PoolLimits
from chain.primitives import bls, ss58
from chain.primitives import seal as seals
from chain.primitives.hashing import blake2_256
from chain.primitives.keys import Keypair, Scheme
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
GOAL_TRANSFERS = 2500.0  # a second
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
    parser.add_argument("--transfers", type=int, default=0, help="how many each block holds")
    parser.add_argument("--accounts", type=int, default=20_000, help="how many the chain then has")
    parser.add_argument(
        "--scheme", choices=[each.name.lower() for each in Scheme], default="ed25519", help="how their senders sign"
    )
    parser.add_argument("--profile", action="store_true", help="print where the time of the event loop goes, too")
    parser.add_argument("--port", type=int, help="the first of four free ports; found unless told")
    parser.add_argument("--short", action="store_true", help="a hundred blocks, to see that the benchmark works")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)  # How it starts the process that has the chain.
    options = parser.parse_args()
    if options.serve is not None:
        trio.run(_serve, options.serve, options.port)
        return
    if options.short:
        options.blocks, options.transfers, options.accounts = 100, min(options.transfers, 2), 10
    port = options.port or free_run(4)
    print(machine())
    payers = Payers(options.transfers, options.accounts, Scheme[options.scheme.upper()]) if options.transfers else None
    with tempfile.TemporaryDirectory(prefix="potchain-bench-") as name:
        folder = Path(name)
        spec = write_spec(folder, min(SESSION_BLOCKS, options.blocks // 10), payers.balances() if payers else {})
        began = time.perf_counter()
        _make_chain(spec, folder / "source", options.blocks, payers)
        kind = f"blocks of {options.transfers} transfers" if payers else "empty blocks"
        print(f"{options.blocks:,} {kind} made in {time.perf_counter() - began:.1f} s", flush=True)
        with served(folder, port), logging_to(sys.stdout.fileno()):
            for mode in (SyncMode.FULL,) if payers else SyncMode:
                with profiled(f"{mode}: the event loop") if options.profile else nullcontext():
                    wall, cpu = trio.run(_catch_up, spec, folder / mode, mode, port, options.blocks)
                if payers:
                    figure = Figure([wall], [cpu])
                    show_rate(
                        f"{options.scheme} transfers imported",
                        options.blocks * options.transfers,
                        figure,
                        GOAL_TRANSFERS,
                    )
                else:
                    _show(f"--sync {mode}", options.blocks, wall, cpu)


def _show(name: str, blocks: int, wall: float, cpu: float) -> None:
    goal = GOAL_SECONDS * blocks / 10_000
    print(
        f"  {name:<12} {wall:7.1f} s, {blocks / wall:,.0f} blocks/s, processor time {cpu:.1f} s"
        f"   goal {goal:g} s: {verdict(goal / wall)}",
        flush=True,
    )
    record(f"{name}, {blocks:,} blocks", [wall], "s", cpu=[cpu], goal=goal)


class Payers:
    """Who pays whom: so many senders, each once a block, and all other accounts in turn."""

    def __init__(self, transfers: int, accounts: int, scheme: Scheme) -> None:
        self._senders = [Keypair.from_seed(blake2_256(b"sender %d" % number), scheme) for number in range(transfers)]
        self._receivers = [blake2_256(b"receiver %d" % number) for number in range(max(accounts - transfers, 1))]

    def balances(self) -> dict[str, int]:
        """What all of them begin with, by address."""
        accounts = [*(sender.public for sender in self._senders), *self._receivers]
        return {ss58.encode(account): ENDOWMENT for account in accounts}

    def block(self, genesis_hash: bytes, number: int) -> list[bytes]:
        """The transfers of one block; blocks are numbered from 0."""
        first = number * len(self._senders)
        return [
            transfer(genesis_hash, sender, self._receivers[(first + place) % len(self._receivers)], number)
            for place, sender in enumerate(self._senders)
        ]


def write_spec(folder: Path, session_blocks: int, balances: Mapping[str, int] | None = None) -> GenesisSpec:
    """A chain of four validators, in the folder that `served` takes; `balances` are those of other accounts."""
    endowed = {**{address(name): ENDOWMENT for name in (*FOUNDERS, NEWCOMER)}, **(balances or {})}
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
                    "balances": {"balances": list(map(list, endowed.items()))},
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


def _make_chain(spec: GenesisSpec, path: Path, blocks: int, payers: Payers | None) -> None:
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
                if payers is not None:
                    candidates += payers.block(ledger.genesis_hash, height - 1)
                executed, rejected = ledger.propose(height, 0, beacon, inherent, candidates)
                assert not rejected, rejected
                assert executed.block.extrinsics[-len(candidates) :] == candidates or not candidates, "not all had room"
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
