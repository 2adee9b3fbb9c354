"""The network of a manifest: its genesis file, folders and disks, its processes, and the links between its nodes."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, Final

import trio

from chain.development import address, authority, endowed, processes
from chain.light.checkpoint import Checkpoint
from chain.primitives import ss58
from chain.primitives.hashing import Hash
from chain.primitives.keys import Keypair
from genesis.spec import Address, GenesisSpec, load
from runtime.modules.balances import POT
from tests.perturbation.links import LOOPBACK, Links
from tests.perturbation.load import senders
from tests.perturbation.manifest import Manifest, NetworkPlan
from tests.perturbation.processes import ROOT, Processes

# A node's folder begins with some 2 MiB, or 8 with the blobs of a task, and grows by 2 kB a block.
DISK_MIB: Final = 48
BALLAST_BYTES: Final = 1 << 20


def genesis_of(plan: NetworkPlan, payers: list[Keypair]) -> dict[str, Any]:
    """The testnet's chain with as many validators, money for the payers, and no tasks unless it trains."""
    spec: dict[str, Any] = json.loads((ROOT / "genesis" / "testnet.json").read_text())
    names = [name.title() for name in plan.nodes[: plan.validators]]
    spec["bootnodes"] = []
    spec["development"]["validators"] = processes(names)
    chain = spec["genesis"]
    chain["validators"]["authorities"] = [authority(name) for name in names]
    known = {account for account, _ in endowed()}
    chain["balances"]["balances"] += [[address(name), 1_000 * POT] for name in names if address(name) not in known]
    chain["balances"]["balances"] += [[ss58.encode(payer.public), 1_000 * POT] for payer in payers]
    if not plan.trains:
        del spec["blobs"], chain["training"]
        spec["development"]["workers"] = spec["development"]["aggregators"] = []
    return spec


class Network:
    """A manifest's network: `processes` by name, `urls` of its nodes, `links` where the manifest needs them."""

    def __init__(self, manifest: Manifest, base: Path, first_port: int, all_processes: Processes, links: Links | None):
        self.plan = manifest.network
        self.base = base
        self.processes = all_processes
        self.links = links
        self.payers = senders(self.plan.transfers_per_second)
        self.rpc_ports = {name: first_port + i for i, name in enumerate(self.plan.nodes)}
        self.ports = peer_ports(self.plan, first_port)
        self.urls = {name: f"ws://{LOOPBACK}:{port}" for name, port in self.rpc_ports.items()}
        self.spec = self._write_genesis()
        for name in self.plan.nodes:
            self._add_node(name, small_disk=name in manifest.small_disks)
        if self.plan.trains:
            self._add_trainers()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, manifest: Manifest, base: Path, first_port: int, on_unexpected_end: Callable[[str], None]
    ) -> AsyncIterator[Network]:
        """The network with nothing started; its processes and disks end with the scope."""
        rng = Random(manifest.seed)
        try:
            async with trio.open_nursery() as nursery, Processes.open(on_unexpected_end) as all_processes:
                links = None
                if manifest.needs_links:
                    links = Links(peer_ports(manifest.network, first_port), rng)
                    await nursery.start(links.run)
                yield cls(manifest, base, first_port, all_processes, links)
                nursery.cancel_scope.cancel()
        finally:
            for name in manifest.small_disks:
                if os.path.ismount(base / name):
                    subprocess.run(["umount", str(base / name)], check=True)

    @property
    def nodes_running(self) -> list[str]:
        """The nodes that should be running."""
        return [name for name in self.processes.running if name in self.urls]

    @property
    def faults_max(self) -> int:
        """How many validators may be away without stopping the chain."""
        return (self.plan.validators - 1) // 3

    @property
    def genesis_hash(self) -> Hash:
        """Known from the file alone."""
        return Checkpoint.genesis(self.spec.runtime, self.spec.genesis).genesis_hash

    def _write_genesis(self) -> GenesisSpec:
        path = self.base / "genesis.json"
        path.write_text(json.dumps(genesis_of(self.plan, self.payers), indent=2))
        if self.plan.trains:
            (self.base / "blobs").symlink_to(ROOT / "genesis" / "blobs")
        return load(path)

    def _add_node(self, name: str, *, small_disk: bool) -> None:
        role = (f"--validator={name}",) if name in self.plan.nodes[: self.plan.validators] else ("--full-node",)
        direct = [Address(LOOPBACK, port) for port in self.ports.values()]
        ways = self.links.ways_of(name) if self.links else direct
        words = (
            *("-m", "chain", f"--genesis={self.base / 'genesis.json'}", *role, f"--name={name}", "--supervised"),
            *(f"--base-path={self.base}", f"--rpc-port={self.rpc_ports[name]}", f"--port={self.ports[name]}"),
            *(f"--bootnode={way}" for way in ways),
            "--no-prometheus",
        )
        if small_disk:
            mount_small_disk(self.folder(name))
        self._add(name, words)

    def _add_trainers(self) -> None:
        development = self.spec.development
        assert development is not None
        for key in development.validators:
            self._add_trainer(f"{key.name}-auditor", "auditor", key.uri, [self.urls[key.name]])
        for role, keys in (("aggregator", development.aggregators), ("worker", development.workers)):
            for i, key in enumerate(keys):
                urls = list(self.urls.values())
                self._add_trainer(key.name, role, key.uri, urls[i:] + urls[:i])

    def _add_trainer(self, name: str, role: str, uri: str, urls: list[str]) -> None:
        rpc = [f"--node={url}" for url in urls]
        self._add(
            name,
            ("-m", "chain", role, f"--name={name}", f"--key={uri}", *rpc, f"--base-path={self.base}", "--supervised"),
        )

    def _add(self, name: str, words: tuple[str, ...]) -> None:
        (self.base / "logs").mkdir(exist_ok=True)
        self.processes.add(name, words, self.base / "logs" / f"{name}.log")

    # --- folders and disks ---

    def folder(self, name: str) -> Path:
        """Where a node keeps all that it has."""
        return self.base / name

    def wipe(self, name: str) -> None:
        """Lose the folder of a node that does not run."""
        for entry in self.folder(name).iterdir():  # The folder itself may be a disk.
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def fill_disk(self, name: str) -> None:
        """Leave not a byte on the node's disk."""
        with (self.folder(name) / "ballast").open("ab", buffering=0) as ballast:
            size = BALLAST_BYTES
            while size:
                try:
                    if ballast.write(bytes(size)) < size:
                        size //= 2
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size //= 2

    def make_room(self, name: str) -> None:
        """Take away what `fill_disk` wrote."""
        (self.folder(name) / "ballast").unlink()


def peer_ports(plan: NetworkPlan, first_port: int) -> dict[str, int]:
    """Where nodes listen for their peers: behind the ports of their RPC."""
    return {name: first_port + len(plan.nodes) + i for i, name in enumerate(plan.nodes)}


def mount_small_disk(folder: Path) -> None:
    """Make a folder a file system of its own, of DISK_MIB, in this process's mount namespace."""
    folder.mkdir()
    options = f"size={DISK_MIB}m,mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "potchain", str(folder)], check=True)
    assert os.path.ismount(folder)
