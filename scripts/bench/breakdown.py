"""Takes a block and a round of training apart: what each part costs a validator, and each worker, auditor, aggregator.

    .venv/bin/python scripts/bench/breakdown.py [--rate 200] [--seconds 20] [--rounds 5] [--plot FOLDER]

The testnet's processes, each with an account of its own processor time (spans.py), which takes some per cent itself:
first empty blocks, then blocks of transfers that come over RPC to all four nodes, then a task of four slots. Times by
the clock are those of a thread that was inside of a part, waiting for the disk, the interpreter or a core included.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio
from figures import heading, machine, record
from mixed import ROOT, new_task, testnet_without_tasks
from ports import free_run
from processes import ROLES, Ledger, seconds_by_role
from transfers import MESSAGE_BYTES_MAX, Signed
from transfers import run as send_transfers
from trio_websocket import open_websocket_url

from chain import tasks
from chain.primitives.hashing import blake2_256
from chain.primitives.keys import Keypair
from chain.rpc.client import Client
from genesis.spec import DevelopmentKey, GenesisSpec
from runtime.modules.training_types import Terms

SPANS = Path(__file__).resolve().parent / "spans.py"
START_SECONDS_MAX = 120.0
ACCOUNT_SECONDS_MAX = 120.0
STOP_SECONDS_MAX = 30.0
ROUND_SECONDS_MAX = 300.0
SENDERS_A_RATE = 5  # so that none is twice in a block
# Parts below this share of the whole are shown together.
SHOWN_SHARE = 0.01
NS_PER_MS = 1e6


@dataclass(frozen=True)
class Part:
    """What a part took: how often it began, its processor time and its time by the clock in ms."""

    times: float = 0.0
    cpu: float = 0.0
    wall: float = 0.0

    def __add__(self, other: Part) -> Part:
        return Part(self.times + other.times, self.cpu + other.cpu, self.wall + other.wall)

    def __sub__(self, other: Part) -> Part:
        return Part(self.times - other.times, self.cpu - other.cpu, self.wall - other.wall)

    def __mul__(self, factor: float) -> Part:
        return Part(self.times * factor, self.cpu * factor, self.wall * factor)


class Account(dict[str, Part]):
    """Parts by name; what was not counted is nothing."""

    def __missing__(self, _: str) -> Part:
        return Part()

    def __add__(self, other: Account) -> Account:
        return Account((name, self[name] + other[name]) for name in {**self, **other})

    def __sub__(self, other: Account) -> Account:
        return Account((name, self[name] - other[name]) for name in {**self, **other})

    def __mul__(self, factor: float) -> Account:
        return Account((name, part * factor) for name, part in self.items())

    def __truediv__(self, count: float) -> Account:
        return self * (1 / count)

    @property
    def cpu(self) -> float:
        """Of all parts."""
        return sum(part.cpu for part in self.values())


@dataclass
class State:
    """Everything at one moment: what each process had spent, and where the chain was."""

    accounts: dict[str, Account]
    stages: dict[str, Account]
    engines: Ledger
    height: int
    time: float


@dataclass
class Span:
    """What was spent between two moments."""

    before: State
    after: State

    @property
    def blocks(self) -> int:
        return self.after.height - self.before.height

    @property
    def seconds(self) -> float:
        return self.after.time - self.before.time

    def spent(self, names: Sequence[str]) -> Account:
        """By these processes together."""
        return _sum(self.after.accounts[name] - self.before.accounts[name] for name in names)

    def stages(self, names: Sequence[str]) -> Account:
        """What these processes say of their work, by the clock."""
        return _sum(self.after.stages[name] - self.before.stages[name] for name in names)


def _sum(accounts: Iterator[Account]) -> Account:
    found = Account()
    for each in accounts:
        found = found + each
    return found


@dataclass
class Network:
    """The processes that run, by name."""

    spec: GenesisSpec
    terms: Terms
    folder: Path
    urls: tuple[str, ...]
    names: dict[str, list[str]] = field(default_factory=dict)  # by role
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def account_of(self, name: str) -> Path:
        """Where a process writes what it spent."""
        return self.folder / f"{name}.account"

    async def all_written(self) -> None:
        """Wait until each process has an account to read."""
        with trio.fail_after(ACCOUNT_SECONDS_MAX):
            while not all(self.account_of(name).exists() for name in self.running):
                if ended := [name for name, process in self.running.items() if process.poll() is not None]:
                    raise RuntimeError(f"{', '.join(ended)} ended by itself")
                await trio.sleep(0.05)

    async def state(self, client: Client) -> State:
        """Have all processes say what they have spent."""
        await self.all_written()  # Who has not yet would take the signal for its end.
        for name, process in self.running.items():
            self.account_of(name).unlink()
            process.send_signal(signal.SIGUSR1)
        await self.all_written()
        written = {name: json.loads(self.account_of(name).read_text()) for name in self.running}
        accounts = {name: _read(said["cpu"], said["parts"]) for name, said in written.items()}
        stages = {
            name: Account((stage, Part(times, 0, 1000 * wall)) for stage, (times, wall) in said["stages"].items())
            for name, said in written.items()
        }
        height = int((await client.request("chain_getHeader"))["number"], 16)
        return State(accounts, stages, seconds_by_role(self.folder / "data"), height, time.monotonic())


def _read(cpu: int, parts: Mapping[str, Sequence[int]]) -> Account:
    """A process's account, with what is in none of its parts."""
    found = Account(
        (name, Part(times, cpu / NS_PER_MS, wall / NS_PER_MS)) for name, (times, cpu, wall) in parts.items()
    )
    found["other threads"] = Part(0, cpu / NS_PER_MS - found.cpu, 0)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=200, help="transfers a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="for how long, and as long without any")
    parser.add_argument("--rounds", type=int, default=5, help="how many rounds of training are counted")
    parser.add_argument("--short", action="store_true", help="few of each, to see that the benchmark works")
    options = parser.parse_args()
    validators, workers, block_ms = 4, 2, None
    if options.short:
        options.rate, options.seconds, options.rounds = 5, 2.0, 1
        validators, workers, block_ms = 1, 1, 250
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # Who is told to end ends the network, too.
    print(machine(), flush=True)
    senders = [Keypair.from_seed(blake2_256(b"sender %d" % i)) for i in range(SENDERS_A_RATE * options.rate)]
    with (
        tempfile.TemporaryDirectory(prefix="potchain-bench-") as folder,
        running(Path(folder), senders, validators, workers, block_ms) as network,
    ):
        trio.run(measure, network, senders, options.rate, options.seconds, options.rounds)
    print(machine())


@contextmanager
def running(
    folder: Path, senders: Sequence[Keypair], validators: int, workers: int, block_ms: int | None
) -> Iterator[Network]:
    """The testnet's processes, as its launcher starts them, each with an account."""
    spec, terms = testnet_without_tasks(folder, senders, validators, workers, block_ms)
    assert spec.development is not None
    nodes, trainers = spec.development.validators, spec.development.workers
    first = free_run(2 * len(nodes))
    urls = tuple(f"ws://127.0.0.1:{first + place}" for place in range(len(nodes)))
    network = Network(spec, terms, folder, urls)
    data = folder / "data"
    data.mkdir()

    def start(role: str, name: str, *words: str) -> None:
        command = [sys.executable, str(SPANS), str(network.account_of(name)), *words]
        command += [f"--base-path={data}", "--supervised"]
        with (folder / f"{name}.log").open("wb") as log:
            network.running[name] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=ROOT)
        network.names.setdefault(role, []).append(name)

    def train(role: str, name: str, key: DevelopmentKey, nodes: Sequence[str], *words: str) -> None:
        where = (f"--node={url}" for url in nodes)
        start(f"{role}s", name, role, f"--name={name}", f"--key={key.uri}", *where, *words)

    try:
        for place, key in enumerate(nodes):
            peers = (f"--bootnode=127.0.0.1:{first + len(nodes) + other}" for other in range(len(nodes)))
            ports = (f"--rpc-port={first + place}", f"--port={first + len(nodes) + place}", "--no-prometheus")
            start("nodes", key.name, f"--genesis={spec.path}", f"--validator={key.name}", *ports, *peers)
        trio.run(until_blocks, network)
        for place, key in enumerate(nodes):
            train("auditor", f"{key.name}-auditor", key, urls[place : place + 1])
        for key in spec.development.aggregators:
            train("aggregator", key.name, key, urls)
        for place, key in enumerate(trainers):
            begin = (place + 1) % len(urls)
            train("worker", key.name, key, urls[begin:] + urls[:begin], "--devices=1", "--capacity=4")
        (data / "processes.json").write_text(json.dumps({name: each.pid for name, each in network.running.items()}))
        yield network
    except BaseException:
        for name in network.running:
            print(f"{name}: {(folder / f'{name}.log').read_text()[-500:]}", file=sys.stderr)
        raise
    finally:
        for process in network.running.values():
            assert process.stdin is not None
            process.stdin.close()
        for process in network.running.values():
            process.wait(STOP_SECONDS_MAX)


async def until_blocks(network: Network) -> None:
    """Wait until the chain goes on."""
    await network.all_written()
    with trio.fail_after(START_SECONDS_MAX):
        async with Client.reconnecting(network.urls) as client, client.finalized_heads() as heads:
            for _ in range(3):
                await anext(heads)


async def measure(network: Network, senders: list[Keypair], rate: int, seconds: float, rounds: int) -> None:
    """Empty blocks, full ones, and a task, each between two states."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client.reconnecting(network.urls[:1]))
        links = [
            await stack.enter_async_context(open_websocket_url(url, max_message_size=MESSAGE_BYTES_MAX))
            for url in network.urls
        ]
        genesis_hash = bytes.fromhex((await client.request("chain_getBlockHash", 0))[2:])
        transfers = Signed(senders, genesis_hash).next(max(1, round(rate * seconds)))
        begun = await network.state(client)
        await trio.sleep(seconds)
        idle = await network.state(client)
        step = await send_transfers(client, links, rate, transfers)
        busy = await network.state(client)
        show_block(network, Span(begun, idle), Span(idle, busy), len(step.final))
        phases, span = await train(network, client, rounds)
        show_round(network, Span(begun, idle), span, rounds, phases)


async def train(network: Network, client: Client, rounds: int) -> tuple[Counter[str], Span]:
    """A task, of which the first round starts the engines: what later ones took, and the phases at each head."""
    offer = new_task(network.spec, network.terms, 0, rounds + 2)
    await tasks.upload(client, offer)
    task, _ = await tasks.create(client, Keypair.from_uri("//Alice"), offer)
    phases: Counter[str] = Counter()
    before: State | None = None
    with trio.fail_after(ROUND_SECONDS_MAX * (rounds + 2)):
        async with client.finalized_heads() as heads:
            async for _ in heads:
                done = (await client.request("training_task", task))["round"]
                if done and before is None:
                    before = await network.state(client)
                if before is not None:
                    if done > rounds:
                        break
                    phases[(await client.request("training_round", task))["phase"]] += 1
    assert before is not None
    return phases, Span(before, await network.state(client))


# --- what came of it

# The parts of a block in the order in which a transaction meets them; all others are shown after these.
ORDER = (
    "RPC",
    "check of transactions",
    "signatures of transactions",
    "pool",
    "gossip",
    "messages",
    "TLS",
    "network",
    "proposal",
    "execution",
    "calls",
    "hooks",
    "state root",
    "extrinsics root",
    "BLS signatures",
    "BLS pairings",
    "BLS sums",
    "replica",
    "consensus",
    "vote log",
    "commit",
    "LMDB",
)


def grouped(account: Account) -> Account:
    """Calls and hooks each as one part."""
    found = Account()
    for name, part in account.items():
        group = "calls" if name.startswith("call ") else "hooks" if name.startswith("hook ") else name
        found[group] = found[group] + part
    return found


def show_block(network: Network, idle: Span, busy: Span, transfers: int) -> None:
    """What a block costs one validator, without transactions and with, and what each transaction adds."""
    names = network.names["nodes"]
    count = len(names)
    empty = grouped(idle.spent(names)) / (idle.blocks * count)
    full = grouped(busy.spent(names)) / (busy.blocks * count)
    each = transfers / busy.blocks
    heading(
        f"a block at one of {count} validators: {idle.blocks} empty ones, {busy.blocks} with {each:.0f} transfers",
        f"a block at one of {count} validators",
    )
    kinds = "".join(f"{kind + ': CPU ms':>16}{'clock':>9}{'times':>8}" for kind in ("empty", "full"))
    print(f"  {'':<28}{kinds}{'CPU µs a transfer':>20}")
    total = max(empty.cpu, full.cpu)
    rows = [*ORDER, *sorted({*empty, *full} - {*ORDER}, key=lambda name: -full[name].cpu)]
    for name in rows:
        less, more = empty[name], full[name]
        if max(less.cpu, more.cpu) < SHOWN_SHARE * total and name not in ORDER:
            continue
        print(
            f"  {name:<28}{less.cpu:>16.2f}{less.wall:>9.2f}{less.times:>8.1f}{more.cpu:>16.2f}{more.wall:>9.2f}"
            f"{more.times:>8.1f}{1000 * (more.cpu - less.cpu) / each:>20.1f}"
        )
        record(f"empty: {name}", [less.wall], "ms", cpu=[less.cpu])
        record(f"full: {name}", [more.wall], "ms", cpu=[more.cpu])
    added = 1000 * (full.cpu - empty.cpu) / each
    print(f"  {'all':<28}{empty.cpu:>16.2f}{'':>17}{full.cpu:>16.2f}{'':>17}{added:>20.1f}", flush=True)
    record("empty: all, processor time", [empty.cpu], "ms")
    record("full: all, processor time", [full.cpu], "ms")
    record("a transfer, processor time", [added], "µs")


def show_round(network: Network, idle: Span, span: Span, rounds: int, phases: Counter[str]) -> None:
    """What a round costs each kind of process, above empty blocks, by part."""
    slots = network.terms.policy.slots
    heading(
        f"a round of {slots} slots: mean of {rounds}, {span.seconds / rounds:.1f} s and {span.blocks / rounds:.1f} "
        "blocks each; at heads it was in "
        + ", ".join(f"{name} {n / phases.total():.0%}" for name, n in phases.most_common()),
        f"a round of {slots} slots",
    )
    record("a round", [span.seconds / rounds], "s")
    record("a round, blocks", [span.blocks / rounds], "")
    nodes = network.names["nodes"]
    spent = span.spent(nodes) / rounds
    empty = idle.spent(nodes).cpu / idle.blocks * span.blocks / rounds
    print(f"  empty blocks alone would have taken {empty:.0f} ms of processor time")
    record("empty blocks of the same number, processor time", [empty], "ms")
    show_parts(
        f"{len(nodes)} validators", spent, [name for name, part in spent.items() if " training." in name and part.times]
    )
    for role in ("workers", "auditors", "aggregators"):
        names = network.names[role]
        account = span.spent(names) / rounds
        engines = span.after.engines - span.before.engines
        if (role_of := f"{role.removesuffix('s')} engines") in ROLES:
            account["engines (compute, evaluate)"] = Part(0, 1000 * engines[role_of] / rounds, 0)
        show_parts(
            f"{len(names)} {role}",
            account,
            [name for name, part in account.items() if name.startswith("stage ") and part.times],
        )
        for stage, part in sorted((span.stages(names) / rounds).items(), key=lambda item: -item[1].wall):
            if part.times:
                print(
                    f"      {stage:<36}{part.times:>8.1f} times, {part.wall / part.times:>10.1f} ms each by the clock"
                )
                record(f"{role}: {stage}, by the clock", [part.wall / part.times], "ms")


def show_parts(title: str, account: Account, always: Sequence[str] = ()) -> None:
    """One kind of process: its parts, the largest first, and `always` those, however small."""
    print(f"  {title}: {account.cpu:.1f} ms of processor time")
    record(f"{title}, processor time", [account.cpu], "ms")
    rest = Part()
    for name, part in sorted(account.items(), key=lambda item: -item[1].cpu):
        if part.cpu < 2 * SHOWN_SHARE * account.cpu and name not in always:
            rest = rest + part
            continue
        print(f"    {name:<38}{part.cpu:>10.2f} ms CPU{part.wall:>12.2f} ms by the clock")
        record(f"{title}: {name}, processor time", [part.cpu], "ms")
    print(f"    {'all others':<38}{rest.cpu:>10.2f} ms CPU", flush=True)


if __name__ == "__main__":
    main()
