"""The network that a swarm works for: a genesis file with small tasks, and its processes with what they take.

The program is real, exported and recomputed by auditors in JAX; it is so small, a softmax regression, that workers
may have its gradient in closed form.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trio
from models import ROOT, task_of
from ports import free_run
from processes import TICKS

from chain.development import ACCOUNTS, address, authority, endowed, processes
from chain.primitives import ss58
from chain.primitives.hashing import Hash
from chain.primitives.keys import Keypair
from runtime.modules.balances import POT
from trainer.arrays import Float32s
from trainer.artifact import Program
from trainer.sandbox import Deadlines, Engine, Gradient, to_stderr

PICO = 10**12
CLASSES = 10
PIXELS = 64
PIXEL_MAX = 16
# The batches of a round have rows of their own: as many as 1,437 digits are enough for.
BATCH = 16
RATE = PICO // 10
# A phase ends when it is complete: these are for those who vanish. The last two are the least that the chain allows.
COMMIT_BLOCKS, REVEAL_BLOCKS, AUDIT_BLOCKS = 6, 10, 10
# A bond for each slot and as much again for who comes back after a slash.
PURSE = 250 * POT
READY_SECONDS_MAX = 120.0
STOP_SECONDS_MAX = 60.0


@dataclass(frozen=True)
class Plan:
    """What network there is."""

    validators: int
    tasks: int
    slots: int  # of a round
    audited: float  # the share of slots that a validator recomputes
    block_ms: int
    connections: int  # that a node lets come at once

    @property
    def round_seconds_max(self) -> float:
        """In which a round is final though every phase lasts as long as it may, and a challenge doubles the audit."""
        return (COMMIT_BLOCKS + REVEAL_BLOCKS + 2 * AUDIT_BLOCKS) * self.block_ms / 1000


class StandIn(Engine):
    """What a swarm's workers compute with in place of JAX in a sandbox: the same gradient in closed form, in numpy."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "cpu", Deadlines(), to_stderr)

    async def load(self, root: Hash, program: Program, blob: bytes) -> None:
        """There is nothing to compile."""

    async def gradient(self, root: Hash, theta: Float32s, x: bytes, y: bytes) -> Gradient:  # noqa: ARG002
        """Loss and gradient f32[P] of one batch: biases first, then weights, as the program has them."""
        await trio.lowlevel.checkpoint()
        inputs = np.frombuffer(x, np.uint8).reshape(-1, PIXELS).astype(np.float32) / np.float32(PIXEL_MAX)
        targets = np.frombuffer(y, np.uint8)
        rows = np.arange(len(targets))
        logits = inputs @ theta[CLASSES:].reshape(PIXELS, CLASSES) + theta[:CLASSES]
        logits -= logits.max(axis=1, keepdims=True)
        chances = np.exp(logits)
        chances /= chances.sum(axis=1, keepdims=True)
        loss = -np.log(chances[rows, targets]).mean()
        chances[rows, targets] -= 1
        chances /= np.float32(len(targets))
        return Gradient(float(loss), np.concatenate([chances.sum(axis=0), (inputs.T @ chances).ravel()]))


def write_genesis(plan: Plan, folder: Path, rich: Sequence[Keypair], members: Sequence[Keypair]) -> None:
    """A chain like the testnet's, with some small tasks: much money for the rich, a purse for each member."""
    from dataclasses import replace

    import jax
    import jax.numpy as jnp

    from trainer.task import build, check_fit

    def logits_of(params: Any, x: jax.Array) -> Any:
        return x.astype(jnp.float32) / PIXEL_MAX @ params["weights"] + params["bias"]

    def losses(params: Any, x: jax.Array, y: jax.Array) -> Any:
        return -(jax.nn.log_softmax(logits_of(params, x)) * jax.nn.one_hot(y, CLASSES)).sum(axis=-1)

    built = build(
        replace(
            task_of("digits", BATCH),
            loss=lambda params, x, y: losses(params, x, y).mean(),
            evaluation=lambda params, x, y: (
                losses(params, x, y).sum(),
                (logits_of(params, x).argmax(axis=-1) == y).sum(),
            ),
            params={"bias": jnp.zeros(CLASSES), "weights": jnp.zeros((PIXELS, CLASSES))},
        )
    )
    check_fit(built, plan.slots, 1, federated=False)
    blobs = folder / "blobs"
    blobs.mkdir()
    for root, data in built.blobs.items():
        (blobs / root.hex()).write_bytes(data)
    sizes = {root: len(data) for root, data in built.blobs.items()}
    storage = {
        "programBytes": sizes.pop(built.program_root),
        "parameters": sizes.pop(built.params_root) // 4,
        "datasetBytes": sum(sizes.values()),
    }
    policy = {
        "slots": plan.slots,
        "commitBlocks": COMMIT_BLOCKS,
        "revealBlocks": REVEAL_BLOCKS,
        "auditBlocks": AUDIT_BLOCKS,
        "auditorsPerSlot": 1,
        "auditedPpm": round(1_000_000 * plan.audited),
        "toleranceMicroSteps": 510_000,
        "outliersPpm": 20,
        "evaluateRounds": 10,
    }
    tasks = [
        {
            "owner": address("Eve"),
            "name": f"swarm {number}",
            "programRoot": "0x" + built.program_root.hex(),
            "datasetRoot": "0x" + built.dataset_root.hex(),
            "paramsRoot": "0x" + built.params_root.hex(),
            "optimizer": {"rule": {"sgd": {"learningRate": RATE, "momentum": 0}}},
            "policy": policy,
            "rounds": 2_000,
            "pricePerSlot": POT // 10,
            "storage": storage,
        }
        for number in range(plan.tasks)
    ]
    names = ACCOUNTS[: plan.validators]
    balances = [*endowed(), (address("Aggregator"), 1_000 * POT)]
    balances += [(ss58.encode(key.public), 10_000_000 * POT) for key in rich]
    balances += [(ss58.encode(key.public), PURSE) for key in members]
    genesis = {
        "name": "Swarm",
        "id": "potchain_swarm",
        "chainType": "Local",
        "properties": {"tokenSymbol": "POT", "tokenDecimals": 12, "ss58Format": 42},
        "consensus": {"blockTimeMs": plan.block_ms, "timeoutMs": 3000, "timeoutMsMax": 12000},
        "blobs": "blobs",
        "development": {
            "validators": processes(names),
            "workers": [],
            "aggregators": processes(("Aggregator",)),
        },
        "genesis": {
            "balances": {"balances": balances},
            "validators": {"authorities": [authority(name) for name in names]},
            "training": {"tasks": tasks},
        },
    }
    (folder / "genesis.json").write_text(json.dumps(genesis))


@dataclass(frozen=True, slots=True)
class Network:
    """A network that runs."""

    urls: tuple[str, ...]
    pids: dict[str, int]

    @property
    def nodes(self) -> list[str]:
        """The validators' nodes."""
        return [name for name in self.pids if name != "aggregator" and not name.endswith("-auditor")]

    def taken(self, name: str) -> tuple[float, float]:
        """Processor time (seconds) and memory (MiB) of a process and its children."""
        seconds, memory = 0.0, 0.0
        for pid in (self.pids[name], *_children(self.pids[name])):
            seconds, memory = seconds + cpu_seconds(pid), memory + resident_mib(pid)
        return seconds, memory


@contextmanager
def running(plan: Plan, folder: Path) -> Iterator[Network]:
    """Start the network of a folder with a genesis file, wait until its validators are ready, and stop it."""
    rpc_port = free_run(2 * plan.validators)
    options = (f"--rpc-port={rpc_port}", f"--port={rpc_port + plan.validators}", "--no-prometheus")
    limits = (f"--rpc-max-connections={plan.connections}",)
    terminal = folder / "terminal"
    with terminal.open("wb") as file:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "chain",
                f"--genesis={folder / 'genesis.json'}",
                f"--base-path={folder / 'data'}",
                *options,
                *limits,
            ],
            stdout=file,
            stderr=file,
            cwd=ROOT,
        )
    try:
        trio.run(_ready, process, terminal)
        count = 2 * plan.validators + 1
        pids = trio.run(_pids, folder / "data" / "processes.json", count)
        yield Network(tuple(f"ws://127.0.0.1:{rpc_port + place}" for place in range(plan.validators)), pids)
    except BaseException:
        print(terminal.read_text()[-2000:], file=sys.stderr)
        raise
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(STOP_SECONDS_MAX)


async def _ready(process: subprocess.Popen[bytes], terminal: Path) -> None:
    """Wait until the validators are ready."""
    with trio.fail_after(READY_SECONDS_MAX):
        while "; Ctrl-C stops them all" not in terminal.read_text():
            if process.poll() is not None:
                raise RuntimeError("the network ended before it was ready")
            await trio.sleep(0.1)


async def _pids(file: Path, count: int) -> dict[str, int]:
    """The processes by name, once there are so many."""
    with trio.fail_after(READY_SECONDS_MAX):
        while len(pids := json.loads(file.read_text())) < count:
            await trio.sleep(0.1)
    found: dict[str, int] = pids
    return found


def _children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(path.parent.name))
    return found


def resident_mib(pid: int) -> float:
    """Resident memory of a process, from the kernel."""
    try:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, with that of its children that ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(fields[place]) for place in (11, 12, 13, 14)) / TICKS
