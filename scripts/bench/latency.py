"""Measures how long a block takes from proposal to seal: four validators, each a process of its own, empty blocks.

The nodes are whole and real: TLS on the loopback interface, BLS, vote logs and databases that wait for the disk. Each
notes when its consensus steps, by the one clock of the machine, and all notes are laid over each other afterwards. Time
zero is when the proposer hands its signed proposal to the network; what comes before (building, logging, signing) is
shown with a minus. A block is sealed when the database holds it. The medians of several runs, each from an empty
folder, show how much a busy machine disturbs; processor time shows what it does not.

    .venv/bin/python scripts/bench/latency.py [--runs 3] [--heights 60] [--profile]
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import trio
from figures import heading, machine, record, verdict
from ports import free_run

from chain.author import Author
from chain.development import ENDOWMENT, address, authority
from chain.importer import Importer
from chain.ledger import Ledger
from chain.node_config import NodeConfig, NodeRole
from chain.node_life import run_node
from chain.pool import PoolLimits
from chain.rpc.access import Access
from chain.rpc.protocol import Limits
from chain.sync.mode import SyncMode
from chain.validator_keys import ValidatorKeys
from consensus.events import CastVote, Checked, Committed, Decide, Effect, Event, Persist, Prepared, Proposed
from consensus.gadget import Gadget
from consensus.messages import Message, PrePrepare
from genesis.spec import Address, load

NAMES = ("Alice", "Bob", "Charlie", "Dave")
GOAL_MS = 40.0
# The first blocks are dearer: peers introduce themselves, and each one's first vote is verified by itself.
WARM_UP = 6
PATIENCE_S = 120.0
PROFILE_LINES = 45
# In the order in which they happen; what each means at the proposer and at the others.
STAGES = (
    ("build begins", "the proposer begins to build"),
    ("built", "and has built"),
    ("proposal logged", "the proposal is in the vote log"),
    ("sent", "the proposal is handed to the network"),
    ("received", "a validator takes it up"),
    ("checked", "it has executed the block"),
    ("prepare logged", "its prepare is in the vote log"),
    ("prepare sent", "and signed and handed to the network"),
    ("prepared", "a quorum of prepares is verified"),
    ("commit logged", "its commit is in the vote log"),
    ("commit sent", "and signed and handed to the network"),
    ("committed", "a quorum of commits is verified"),
    ("stored", "the database holds block and seal"),
    ("sealed", "and the node is at the next height"),
)


class Notes:
    """When something first happened at each height: seconds of the machine's monotonic clock, and of the processor."""

    def __init__(self) -> None:
        self.first: dict[int, dict[str, tuple[float, float]]] = {}

    def note(self, height: int, what: str) -> None:
        """It happens now."""
        self.first.setdefault(height, {}).setdefault(what, (time.monotonic(), time.process_time()))


def listen(notes: Notes) -> None:
    """Have consensus of this process take notes."""

    def around(owner: type, name: str, before: Callable[..., None] | None, after: Callable[..., None] | None) -> None:
        inner: Callable[..., Awaitable[Any]] = getattr(owner, name)

        @wraps(inner)
        async def noting(*arguments: Any, **options: Any) -> Any:
            if before is not None:
                before(*arguments)
            result = await inner(*arguments, **options)
            if after is not None:
                after(*arguments)
            return result

        setattr(owner, name, noting)

    def stepping(_: Gadget, event: Event) -> None:
        match event:
            case Proposed():
                notes.note(event.height, "received")
            case Checked():
                notes.note(event.height, "checked")
            case Prepared():
                notes.note(event.certificate.height, "prepared")
            case Committed():
                notes.note(event.certificate.height, "committed")

    def carried_out(_: Gadget, effect: Effect, at: Any) -> None:
        match effect:
            case Persist():
                kind = "commit" if type(effect.record).__name__ == "Locked" else "prepare"
                mine = kind == "prepare" and at.replica.me == at.replica.primary
                notes.note(effect.record.height, "proposal logged" if mine else f"{kind} logged")
            case CastVote():
                notes.note(effect.height, f"{effect.phase.name.lower()} sent")
            case Decide():
                notes.note(effect.certificate.height, "sealed")

    def broadcasting(self: Gadget, message: Message) -> None:
        if isinstance(message, PrePrepare) and message.payload is not None:
            notes.note(message.height, "sent")
        broadcast(self, message)

    def committing(self: Ledger, executed: Any, seal: Any) -> bool:
        done = commit(self, executed, seal)
        notes.note(executed.height, "stored")
        return done

    around(Gadget, "_step", stepping, None)
    around(Gadget, "_carry_out", None, carried_out)
    around(Author, "build", lambda _, height, *__: notes.note(height, "build begins"), None)
    around(Author, "build", None, lambda _, height, *__: notes.note(height, "built"))
    broadcast, commit = Gadget._broadcast, Ledger.commit
    Gadget._broadcast, Ledger.commit = broadcasting, committing  # type: ignore[method-assign]


def run_one(number: int, folder: Path, port: int, profile: bool) -> None:
    """Be a validator until standard input ends; then leave the notes in the folder."""
    spec, notes = load(folder / "genesis.json"), Notes()
    listen(notes)
    config = NodeConfig(
        spec=spec,
        role=NodeRole(NAMES[number].lower(), number, ValidatorKeys.from_uri(f"//{NAMES[number]}")),
        data_path=folder / NAMES[number],
        rpc_port=port + len(NAMES) + number,
        port=port + number,
        bootnodes=tuple(Address("127.0.0.1", port + other) for other in range(len(NAMES))),
        access=Access(),
        limits=Limits(),
        history=256,
        sync=SyncMode.FULL,
        pool_limits=PoolLimits(),
        supervised=True,
    )
    import_block = Importer.import_block

    async def importing(self: Importer, block: Any, seal: Any) -> None:
        await import_block(self, block, seal)
        print("height", block.header.height, flush=True)

    Importer.import_block = importing  # type: ignore[method-assign]
    profiler = cProfile.Profile()
    if profile:
        profiler.enable()
    try:
        trio.run(run_node, config)
    finally:
        profiler.disable()
        if profile:
            profiler.dump_stats(folder / f"{number}.profile")
        (folder / f"{number}.json").write_text(json.dumps(notes.first))


@dataclass(frozen=True, slots=True)
class Run:
    """What one run measured: seconds after its sending, by stage, of each height; and processor time of a block."""

    proposer: dict[str, list[float]]
    slowest: dict[str, list[float]]  # At the validator that came to the stage last.
    cpu_ms: list[float]  # Processor time of all four, from the proposal to the seal.


def measure(heights: int, block_time_ms: int, port: int, profile: bool) -> Run:
    """One run from an empty folder."""
    with tempfile.TemporaryDirectory(prefix="potchain-bench-", dir=Path.cwd()) as name:
        folder = Path(name)
        (folder / "genesis.json").write_text(json.dumps(_genesis(block_time_ms)))
        last = WARM_UP + heights
        nodes = []
        try:
            for number in range(len(NAMES)):
                command = [sys.executable, __file__, f"--node={number}", f"--folder={folder}", f"--port={port}"]
                with (folder / f"{number}.log").open("wb") as log:
                    command += ["--profile"] * profile
                    nodes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log))
            give_up = time.monotonic() + PATIENCE_S + 3 * heights * block_time_ms / 1000
            while not all(f"height {last}\n" in (folder / f"{i}.log").read_text() for i in range(len(NAMES))):
                if time.monotonic() > give_up or any(node.poll() is not None for node in nodes):
                    raise TimeoutError(f"height {last} is not reached: {(folder / '0.log').read_text()}")
                time.sleep(0.2)
        finally:
            for node in nodes:
                assert node.stdin is not None
                node.stdin.close()
            for node in nodes:
                node.wait(30)
        if profile:
            stats = pstats.Stats(*(str(folder / f"{number}.profile") for number in range(len(NAMES))))
            stats.strip_dirs().sort_stats("tottime").print_stats(PROFILE_LINES)
        return _overlay([json.loads((folder / f"{i}.json").read_text()) for i in range(len(NAMES))], last)


def _overlay(found: list[dict[str, dict[str, list[float]]]], last: int) -> Run:
    run = Run(defaultdict(list), defaultdict(list), [])
    for height in range(WARM_UP + 1, last + 1):
        notes = [node.get(str(height), {}) for node in found]
        senders = [note for note in notes if "sent" in note]
        others = [note for note in notes if "sent" not in note]
        if len(senders) != 1 or not all("received" in note for note in others):
            continue  # It took more than one view: a machine that busy measures itself.
        if not all("sealed" in note for note in notes):
            continue  # Somebody fetched it, or was told to stop before it was through.
        sender = senders[0]
        sent = sender["sent"][0]
        for stage, _ in STAGES:
            if stage in sender:
                run.proposer[stage].append(sender[stage][0] - sent)
            if all(stage in note for note in others):
                run.slowest[stage].append(max(note[stage][0] for note in others) - sent)
        began = [sender["sent"], *(note["received"] for note in others)]
        ended = [note["sealed"] for note in (sender, *others)]
        run.cpu_ms.append(1000 * sum(end[1] - begin[1] for begin, end in zip(began, ended, strict=True)))
    return run


def _genesis(block_time_ms: int) -> dict[str, Any]:
    return {
        "name": "Latency",
        "id": "latency",
        "chainType": "Local",
        "properties": {"tokenSymbol": "POT", "tokenDecimals": 12, "ss58Format": 42},
        "consensus": {"blockTimeMs": block_time_ms, "timeoutMs": 3000, "timeoutMsMax": 12000},
        "bootnodes": [],
        "genesis": {
            "balances": {"balances": [[address(name), ENDOWMENT] for name in NAMES]},
            "validators": {"authorities": [authority(name) for name in NAMES]},
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="how many runs, each from an empty folder")
    parser.add_argument("--heights", type=int, default=60, help="how many blocks of each run are measured")
    parser.add_argument("--block-time-ms", type=int, default=1000, help="how long a proposer waits after a block")
    parser.add_argument("--port", type=int, help="the first of eight free ports; found unless told")
    parser.add_argument("--profile", action="store_true", help="print where the event loops spend their time, too")
    parser.add_argument("--short", action="store_true", help="a few blocks, to see that the benchmark works")
    parser.add_argument("--node", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.node is not None:
        run_one(options.node, options.folder, options.port, options.profile)
        return
    port = options.port or free_run(2 * len(NAMES))
    print(machine())
    heights, count = (4, 1) if options.short else (options.heights, options.runs)
    runs = [measure(heights, options.block_time_ms, port, options.profile) for _ in range(count)]
    heading(
        f"{len(NAMES)} validators, {count} runs of {heights} empty blocks; milliseconds after the proposal was sent"
    )
    print("of the best run, median at the proposer and at the slowest of the others:")
    best = min(runs, key=lambda run: statistics.median(run.proposer["sealed"]))
    for stage, meaning in STAGES:
        cells = [f"{_ms(side[stage], 50):8.1f}" if side[stage] else " " * 8 for side in (best.proposer, best.slowest)]
        print(f"  {stage:<16} {cells[0]} {cells[1]}   {meaning}")
    for who, sides in (
        ("the proposer", [run.proposer for run in runs]),
        ("the slowest", [run.slowest for run in runs]),
    ):
        for percent in (50, 90, 99):
            each = [_ms(side["sealed"], percent) for side in sides]
            line = f"  sealed at {who:<13} p{percent}: {min(each):7.1f} ms  ({', '.join(f'{ms:.1f}' for ms in each)})"
            if percent == 50:
                line += f"   goal {GOAL_MS:g} ms: {verdict(GOAL_MS / min(each))}"
            goal = GOAL_MS if percent == 50 else None
            record(f"sealed at {who}, p{percent}", each, "ms", goal=goal, held=min(each))
            print(line)
    cpu = [statistics.median(run.cpu_ms) for run in runs]
    record("processor time from proposal to seal, all four", cpu, "ms")
    listed = ", ".join(f"{ms:.1f}" for ms in cpu)
    print(f"  processor time from the one to the other, all four: {min(cpu):.1f} ms  ({listed})")


def _ms(seconds: list[float], percent: int) -> float:
    ordered = sorted(seconds)
    return 1000 * ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


if __name__ == "__main__":
    main()
