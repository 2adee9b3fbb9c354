"""Examines this machine and a node's folder for what keeps a node from running well, or from running at all.

Each finding is one line: what was looked at, what was found, and the command that mends it. Nothing is changed, but for
a small file that is written and removed to time the disk.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import os
import platform
import resource
import secrets
import shutil
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from chain import __version__
from chain.file_limit import FILES_APART, FILES_PER_CLIENT
from chain.folder_lock import FolderLocked, lock_folder
from chain.keystore import KeyFileError, Keystore, read_key
from chain.primitives import bls
from chain.store import DATABASE_FILE, DataFolderError, StorageFailed
from chain.upkeep.check import Checker, check_vote_log
from chain.upkeep.folder import NodeFolder
from genesis.spec import Address
from runtime.modules.timestamp import Timestamp
from runtime.types import GenesisError

GIB: Final = 1 << 30
MIB: Final = 1 << 20
# A chain of full blocks grows by a gibibyte in some hours; a day should pass between the warning and the end.
DISK_BYTES_WARN, DISK_BYTES_BAD = 10 * GIB, GIB
# Two flushes a block are waited for by every vote.
FSYNC_MS_WARN, FSYNC_MS_BAD = 20.0, 200.0
FSYNC_TRIALS: Final = 15
# A node takes 150 MiB, an auditor with JAX half a gibibyte and what the model needs.
MEMORY_BYTES_WARN, MEMORY_BYTES_BAD = GIB, 256 * MIB
# Proposals that are further ahead are refused; a clock that is a second off costs nothing.
CLOCK_S_WARN, CLOCK_S_BAD = 2.0, 30.0
RPC_S: Final = 5.0
CONNECT_S: Final = 3.0
# JAX takes seconds to be imported, and a driver that hangs takes for ever.
JAX_S: Final = 60.0
LIBRARIES: Final = ("lmdb", "trio", "py_arkworks_bls12381", "jax", "jaxlib", "flax", "numpy")
_TIME_ERROR: Final = 5  # adjtimex: the clock is not synchronised


class Level(Enum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Line:
    """One finding; `mend` is a command, or what to do, and empty where all is well."""

    level: Level
    what: str
    found: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """What is examined: a node as its flags describe it. `folder` is None where no genesis file was given."""

    base: Path
    folder: NodeFolder | None
    rpc_port: int
    port: int
    clients_max: int
    bootnodes: Sequence[Address]
    keystore: Keystore
    key_file: Path | None
    with_jax: bool = True


def examine(patient: Patient) -> Iterator[Line]:
    """Every finding, as it is made."""
    node = _Running.of(patient)
    yield from _clock(node)
    yield from _disk(patient.base)
    yield from _ports(patient, node)
    yield _files(patient)
    yield _memory()
    yield from _peers(patient, node)
    yield from _versions()
    if patient.with_jax:
        yield _devices()
    yield from _permissions(patient)
    yield from _database(patient, node)


# --- the node, where it runs ---


@dataclass(frozen=True, slots=True)
class _Running:
    """The node that has the RPC port, or none."""

    url: str
    pid: str  # who holds the folder's lock; empty for nobody
    health: dict[str, Any] | None

    @classmethod
    def of(cls, patient: Patient) -> _Running:
        url = f"http://127.0.0.1:{patient.rpc_port}"
        node = cls(url, _holder(patient), None)
        health = node.ask("system_health")
        return cls(url, node.pid, health if isinstance(health, dict) else None)

    def has(self, port: int, *, of_rpc: bool) -> bool:
        """Whether it is this node that has a port, for RPC or for peers."""
        if of_rpc or self.health is None:
            return self.health is not None
        addresses = self.ask("system_localListenAddresses")
        return isinstance(addresses, list) and any(f"/tcp/{port}/" in str(address) for address in addresses)

    def ask(self, method: str, *params: object) -> Any:
        """A method's answer; None where there is none."""
        call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        request = urllib.request.Request(self.url, call, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=RPC_S) as answer:
                return json.loads(answer.read(MIB)).get("result")
        except (OSError, ValueError, AttributeError, urllib.error.URLError):
            return None


def _holder(patient: Patient) -> str:
    """Which process uses the node's folder."""
    if patient.folder is None or not patient.folder.chain.is_dir():
        return ""
    try:
        os.close(lock_folder(patient.folder.chain))
    except FolderLocked as error:
        return error.holder
    except OSError:
        pass
    return ""


# --- the machine ---


def _clock(node: _Running) -> Iterator[Line]:
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(256))
    except (OSError, AttributeError):
        state = None
    mend = "timedatectl set-ntp true"
    if state is None or state < 0:
        yield Line(Level.WARN, "clock", "this system does not say whether its clock is synchronised", mend)
    elif state == _TIME_ERROR:
        yield Line(Level.WARN, "clock", "nothing keeps this machine's clock right", mend)
    else:
        yield Line(Level.OK, "clock", "kept right by NTP, or another source")
    if node.health is None or node.health.get("isSyncing"):
        return
    stored = node.ask("state_getStorage", "0x" + _timestamp_key().hex())
    if isinstance(stored, str):
        ahead = int.from_bytes(bytes.fromhex(stored[2:]), "little") / 1000 - time.time()
        if ahead > CLOCK_S_BAD:
            yield Line(Level.BAD, "clock", f"{ahead:.1f} s behind the validators'", mend)
        elif ahead > CLOCK_S_WARN:
            yield Line(Level.WARN, "clock", f"{ahead:.1f} s behind the validators'", mend)
        elif ahead < -CLOCK_S_BAD:
            found = f"the newest block is {-ahead:.0f} s old: the chain stands still, or this clock is ahead"
            yield Line(Level.WARN, "clock", found, "potchain doctor on another machine of the chain")
        else:
            yield Line(Level.OK, "clock", f"within {max(1.0, -ahead):.0f} s of the newest block")


def _timestamp_key() -> bytes:
    from runtime.framework import EventLog
    from runtime.potchain import RUNTIME
    from runtime.state import DictState, Overlay

    key: bytes = RUNTIME.over(Overlay(DictState()), EventLog()).module(Timestamp).now.key
    return key


def _disk(base: Path) -> Iterator[Line]:
    folder = next(path for path in (base, *base.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    level = Level.BAD if free < DISK_BYTES_BAD else Level.WARN if free < DISK_BYTES_WARN else Level.OK
    mend = "" if level is Level.OK else "make room, choose another disk with --base-path, or: potchain db compact"
    yield Line(level, "disk", f"{free / GIB:,.1f} GiB free for {base}", mend)
    trial = folder / f".potchain-doctor-{secrets.token_hex(4)}"
    try:
        times = []
        with trial.open("xb") as file:
            for _ in range(FSYNC_TRIALS):
                file.write(bytes(4096))
                file.flush()
                started = time.perf_counter()
                os.fsync(file.fileno())
                times.append((time.perf_counter() - started) * 1000)
    except OSError as error:
        yield Line(
            Level.BAD, "disk", f"cannot write to {folder}: {error.strerror}", "give --base-path a folder of yours"
        )
        return
    finally:
        trial.unlink(missing_ok=True)
    median = sorted(times)[len(times) // 2]
    level = Level.BAD if median > FSYNC_MS_BAD else Level.WARN if median > FSYNC_MS_WARN else Level.OK
    mend = "" if level is Level.OK else "put --base-path on a solid state disk of this machine: each vote waits for it"
    yield Line(level, "disk", f"a flush takes {median:.1f} ms", mend)


def _ports(patient: Patient, node: _Running) -> Iterator[Line]:
    for what, port, flag in (("RPC", patient.rpc_port, "--rpc-port"), ("peers", patient.port, "--port")):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                is_free, why = True, ""
            except OSError as error:
                is_free, why = False, error.strerror or str(error)
        if is_free:
            yield Line(Level.OK, "ports", f"{port} for {what} is free")
        elif node.pid:
            yield Line(Level.OK, "ports", f"{port} for {what} is in use, and {node.pid} runs the node")
        elif node.has(port, of_rpc=port == patient.rpc_port):
            yield Line(Level.OK, "ports", f"{port} for {what} is in use, by a node that answers")
        else:
            mend = f"stop what has it (ss -ltnp 'sport = :{port}'), or choose another with {flag}"
            yield Line(Level.BAD, "ports", f"{port} for {what}: {why}", mend)


def _files(patient: Patient) -> Line:
    needed = FILES_APART + FILES_PER_CLIENT * patient.clients_max
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= needed:
        return Line(Level.OK, "files", f"a node may open {'any number of' if hard == -1 else f'{hard:,}'} files")
    mend = f"LimitNOFILE={needed} in the service's unit, ulimit -Hn {needed}, or a lower --rpc-max-connections"
    return Line(Level.WARN, "files", f"a node may open {hard:,} files, and needs up to {needed:,}", mend)


def _memory() -> Line:
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return Line(Level.WARN, "memory", "this system does not say how much there is")
    level = Level.BAD if free < MEMORY_BYTES_BAD else Level.WARN if free < MEMORY_BYTES_WARN else Level.OK
    mend = "" if level is Level.OK else "end other programs: ps -eo rss,pid,comm --sort=-rss | head"
    return Line(level, "memory", f"{free / GIB:.1f} GiB available", mend)


def _peers(patient: Patient, node: _Running) -> Iterator[Line]:
    if node.health is not None:
        peers, syncing = node.health.get("peers", 0), node.health.get("isSyncing", False)
        alone = not peers and node.health.get("shouldHavePeers", True)
        mend = "give --bootnode an address of a node that runs, and see that this machine reaches it" if alone else ""
        found = f"{peers} connected{', and catching up' if syncing else ''}"
        yield Line(Level.BAD if alone else Level.OK, "peers", found, mend)
        return
    yield Line(Level.OK, "node", f"none runs here at RPC port {patient.rpc_port}")
    reached = [address for address in patient.bootnodes if _answers(address)]
    if not patient.bootnodes:
        yield Line(Level.WARN, "peers", "no bootnodes are known", "give one with --bootnode HOST:PORT")
    elif not reached:
        names = ", ".join(map(str, patient.bootnodes))
        mend = "see that they run, and that no firewall of this machine keeps it from them"
        yield Line(Level.WARN, "peers", f"no bootnode answers of {names}", mend)
    else:
        yield Line(Level.OK, "peers", f"{len(reached)} of {len(patient.bootnodes)} bootnodes answer")


def _answers(address: Address) -> bool:
    try:
        socket.create_connection((address.host, address.port), CONNECT_S).close()
    except OSError:
        return False
    return True


def _versions() -> Iterator[Line]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    listed = ", ".join(f"{name} {version}" for name, version in found.items())
    yield Line(Level.OK, "versions", f"potchain {__version__}, Python {platform.python_version()}, {listed}")
    install = f"{sys.executable} -m pip install --force-reinstall"
    if found.get("jax") != found.get("jaxlib") and "jax" in found:
        pair = f"jax {found['jax']} with jaxlib {found.get('jaxlib', 'none')}"
        yield Line(Level.WARN, "versions", f"{pair} are of different releases", f"{install} jax jaxlib")
    if getattr(bls.backend, "__name__", "").endswith("native"):
        yield Line(Level.OK, "versions", "BLS signatures by compiled code")
    else:
        found_bls = "BLS signatures by Python alone, 150 times slower: too slow to validate"
        yield Line(Level.BAD, "versions", found_bls, f"{install} py_arkworks_bls12381")


def _devices() -> Line:
    """What JAX sees, in a process of its own: the node never imports it, and a driver may hang or crash."""
    code = "import jax; print(', '.join(sorted({f'{d.platform} {d.device_kind}' for d in jax.devices()})))"
    mend = "workers on an accelerator: pip install 'potchain[cuda]' or '[tpu]', and see nvidia-smi"
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=JAX_S, check=False)
    except subprocess.TimeoutExpired:
        return Line(Level.WARN, "devices", f"JAX does not answer within {JAX_S:.0f} s: a driver hangs", mend)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        return Line(Level.WARN, "devices", f"JAX does not start: {last[:120]}", mend)
    names = done.stdout.strip()
    if names.startswith("cpu") and "," not in names:
        return Line(Level.OK, "devices", "JAX sees the processor alone")
    return Line(Level.OK, "devices", f"JAX sees {names}")


# --- the folder ---


def _permissions(patient: Patient) -> Iterator[Line]:
    if patient.base.exists():
        status = patient.base.stat()
        if status.st_uid != os.geteuid():
            mend = f"chown -R {os.geteuid()} {patient.base}, or run as its owner"
            yield Line(Level.BAD, "folder", f"{patient.base} belongs to user {status.st_uid}", mend)
        elif status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            yield Line(Level.BAD, "folder", f"others may write to {patient.base}", f"chmod go-w {patient.base}")
        else:
            yield Line(Level.OK, "folder", f"{patient.base} is this user's")
    keys = [patient.keystore.file(name) for name in patient.keystore.names()]
    keys += [] if patient.key_file is None else [patient.key_file]
    keys += [] if patient.folder is None else [file for file in [patient.folder.path / "node.key"] if file.exists()]
    whole = 0
    for file in keys:
        try:
            read_key(file)
            whole += 1
        except KeyFileError as error:
            yield Line(
                Level.BAD, "keys", str(error), f"chmod 600 {file}" if "can be read by others" in str(error) else ""
            )
    if whole:
        yield Line(Level.OK, "keys", f"{whole} key file{'' if whole == 1 else 's'}, for their owner alone")


def _database(patient: Patient, node: _Running) -> Iterator[Line]:
    folder = patient.folder
    if folder is None:
        yield Line(Level.OK, "database", "not looked at: which chain? (--genesis FILE before the word doctor)")
        return
    if node.pid:
        yield Line(Level.OK, "database", f"in use by {node.pid}")
        return
    if not (folder.chain / DATABASE_FILE).exists():
        yield Line(Level.OK, "database", f"none yet in {folder.path}")
        return
    try:
        with folder.store() as store, store.read() as snapshot:
            checker = Checker(snapshot, folder.spec.runtime, folder.genesis_state(), lambda *_: None)
            report = checker.fast()
        check_vote_log(folder.vote_log, report)
    except (DataFolderError, StorageFailed, GenesisError) as error:
        yield Line(Level.BAD, "database", str(error))
        return
    for finding in report.findings:
        yield Line(Level.BAD, "database", finding.what, folder.command(finding.mend) if finding.mend else "")
    if not report.findings:
        yield Line(Level.OK, "database", f"block {report.head:,} and its state are whole")
