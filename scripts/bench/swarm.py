"""A thousand workers train on four validators, come, go and cheat: what of it the chain and its market bear.

    .venv/bin/python scripts/bench/swarm.py [--workers 1000] [--minutes 30] [--churn 0.1] [--cheats 0.05]

Whole nodes, auditors in JAX and an aggregator, each a process of its own; the workers are one more process, in which
each has its own key, bond, WebSocket, secrets and decisions, by the code of `potchain worker`. What they share: what a
node says to all alike is asked once a head and node; data of the tasks are fetched once a node; and in place of JAX in
a sandbox they have the gradient of a softmax regression in closed form, which auditors recompute in JAX. What a worker
keeps on disk is in memory here.

Each minute a share of the workers leaves, half of them by the protocol and half without a word, and as many new
accounts are funded, bonded and registered. A share cheats: with noise, with another slot's update, with a copied one,
or with a commitment that is never revealed; who is caught and loses its bond comes back as a new account.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio
from figures import heading, machine, record, show_value, verdict
from swarm_network import Network, Plan, StandIn, running, write_genesis
from swarm_observer import Observer
from swarm_workers import CHEATS, HONEST, PURSE, Deeds, Hall, Member, MemberClient, withdraw

from chain.primitives.hashing import blake2_256
from chain.primitives.keys import Keypair
from chain.rpc import link
from chain.rpc.client import Client

GOAL_UPTIME = 0.9999
CLAIMED_UPTIME = 0.992
# How many register at once when a swarm assembles.
ASSEMBLING_MAX = 100
START_SECONDS_MAX = 900.0
# At least one round of each task is over before what is counted begins.
WARM_UP_ROUNDS = 1
SAMPLE_SECONDS = 10.0
FILES_BESIDE_WORKERS = 512
TELL_SECONDS = 60.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long what is counted lasts")
    parser.add_argument("--churn", type=float, default=0.1, help="the share that leaves, and comes, each minute")
    parser.add_argument("--cheats", type=float, default=0.05, help="the share that cheats")
    parser.add_argument("--tasks", type=int, default=2)
    parser.add_argument("--slots", type=int, default=64, help="of each task's rounds")
    parser.add_argument("--audited", type=float, default=1.0, help="the share of slots that is recomputed")
    parser.add_argument("--validators", type=int, default=4, choices=range(1, 5))
    parser.add_argument("--block-ms", type=int, default=1000, help="from one block to the next")
    parser.add_argument("--seed", type=int, default=0, help="of who leaves and who cheats")
    parser.add_argument("--keep", type=Path, help="a folder for the network's data and logs, which stay")
    parser.add_argument("--short", action="store_true", help="a few workers for a few seconds, to see that it works")
    options = parser.parse_args()
    if options.short:
        options.workers, options.minutes, options.churn, options.cheats = 12, 0.05, 2.0, 0.2
        options.tasks, options.slots, options.validators, options.block_ms = 1, 4, 1, 500
    # Who is told to end ends the network, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Who follows heads hears from its node each second and need not ping it; these hear them in the hall.
    link.PROBE_SECONDS = 60.0
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 2 * options.workers + FILES_BESIDE_WORKERS), most))
    # Of a node's connections a quarter is not for WebSockets; some of these are the auditors'.
    connections = 2 * options.workers // options.validators + 64
    plan = Plan(options.validators, options.tasks, options.slots, options.audited, options.block_ms, connections)
    print(machine())
    with tempfile.TemporaryDirectory(prefix="potchain-bench-") as name:
        folder = options.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        swarm = Swarm(plan, options.workers, options.churn, options.cheats, random.Random(options.seed), folder)
        write_genesis(plan, folder, swarm.purses, [key for key, _ in swarm.first])
        with running(plan, folder) as network:
            trio.run(swarm.run, network, 60 * options.minutes)
            swarm.report(network)


def key_of(name: str) -> Keypair:
    """A key that follows from a name."""
    return Keypair.from_seed(blake2_256(name.encode()))


@dataclass
class Taken:
    """What a process took: processor time when counting began and ended, memory at every sample (MiB)."""

    cpu: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)


class Swarm:
    """The members, how they come and go, and what was seen meanwhile."""

    def __init__(self, plan: Plan, count: int, churn: float, cheats: float, rng: random.Random, folder: Path) -> None:
        self.plan = plan
        self.count = count
        self.churn = churn
        self.cheats = cheats
        self.rng = rng
        self.folder = folder
        self.deeds = Deeds()
        self.halls: list[Hall] = []
        self.everybody: dict[bytes, Member] = {}
        self.purses = [key_of(f"purse {place}") for place in range(plan.validators)]
        self.first = [(key_of(f"worker {number}"), self._kind(number)) for number in range(count)]
        self.observer: Observer | None = None
        self.moved: Counter[str] = Counter()
        self.taken: dict[str, Taken] = {}
        self.gathered = 0.0  # seconds until all were registered
        self.seconds = 0.0
        self.own_cpu = 0.0
        self.loads: list[float] = []
        self._born = count
        self._payers: list[MemberClient] = []

    def _kind(self, number: int) -> str:
        """Whether the member of this number cheats, and how: evenly spread."""
        before, now = (int(self.cheats * place) for place in (number, number + 1))
        return HONEST if now == before else CHEATS[before % len(CHEATS)]

    # --- The run

    async def run(self, network: Network, seconds: float) -> None:
        """Gather the swarm, then count for so long."""
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(Client.reconnecting([url])) for url in network.urls]
            async with trio.open_nursery() as nursery:
                self.halls = [
                    Hall(client, nursery, StandIn(self.folder), self.folder / "swarm", self.deeds) for client in clients
                ]
                async with AsyncExitStack() as payers:
                    for hall in self.halls:
                        await hall.open(self.plan.tasks)
                        nursery.start_soon(hall.follow)
                    self._payers = [await payers.enter_async_context(MemberClient.at(hall)) for hall in self.halls]
                    await self._observed(network, nursery, seconds)
                nursery.cancel_scope.cancel()

    async def _observed(self, network: Network, nursery: trio.Nursery, seconds: float) -> None:
        self.observer = Observer(self.halls, self.everybody, self.plan.tasks)
        nursery.start_soon(self.observer.follow)
        with trio.fail_after(START_SECONDS_MAX):
            await self._gather(nursery)
            await self.observer.rounds_final(WARM_UP_ROUNDS)
        await self._count(network, nursery, seconds)

    async def _gather(self, nursery: trio.Nursery) -> None:
        """Have the first members register."""
        began = trio.current_time()
        limit = trio.CapacityLimiter(ASSEMBLING_MAX)

        async def come(keypair: Keypair, kind: str, hall: Hall) -> None:
            async with limit:
                await self._join(nursery, keypair, kind, hall, funded=True).registered.wait()

        async with trio.open_nursery() as gathering:
            for number, (keypair, kind) in enumerate(self.first):
                gathering.start_soon(come, keypair, kind, self.halls[number % len(self.halls)])
        self.gathered = trio.current_time() - began
        print(f"{self.count} workers registered after {self.gathered:.0f} s", flush=True)

    def _join(self, nursery: trio.Nursery, keypair: Keypair, kind: str, hall: Hall, *, funded: bool) -> Member:
        member = self.everybody[keypair.public] = Member(keypair, kind, hall)
        nursery.start_soon(member.live, None if funded else partial(self._fund, hall))
        return member

    async def _fund(self, hall: Hall, account: bytes) -> str | None:
        """Send a new account its purse, by a transfer like any other."""
        place = self.halls.index(hall)
        client, purse = self._payers[place], self.purses[place]
        receipt = await client.transact(purse, "balances.transfer_keep_alive", dest=account, value=PURSE)
        return receipt.error

    async def _count(self, network: Network, nursery: trio.Nursery, seconds: float) -> None:
        assert self.observer is not None
        began, own = trio.current_time(), time.process_time()
        self.observer.begin()
        self.deeds.sent = 0
        async with trio.open_nursery() as counting:
            counting.start_soon(self._churn, nursery)
            counting.start_soon(self._replace, nursery)
            counting.start_soon(self._sample, network)
            counting.start_soon(self._tell)
            await trio.sleep(seconds)
            counting.cancel_scope.cancel()
        self._take(network)
        self.seconds, self.own_cpu = trio.current_time() - began, time.process_time() - own
        await self.observer.end(self.plan)

    async def _churn(self, nursery: trio.Nursery) -> None:
        """One after another comes, and one goes: by the protocol or without a word, in turn."""
        if not self.churn:
            return
        began, turn = trio.current_time(), 0
        while True:
            turn += 1
            await trio.sleep_until(began + turn * 60 / (self.churn * self.count))
            self._newcomer(nursery)
            working = [member for member in self.everybody.values() if member.is_working]
            if not working:
                continue
            member = self.rng.choice(working)
            if turn % 2:
                nursery.start_soon(self._depart, member)
            else:
                member.vanish("vanished")
                self.moved["vanished"] += 1

    async def _depart(self, member: Member) -> None:
        await member.leave()
        self.moved["left by the protocol"] += 1
        await withdraw(member)
        self.moved["had their bond back"] += 1

    def _newcomer(self, nursery: trio.Nursery) -> None:
        """A new account, which cheats if too few do."""
        here = [member for member in self.everybody.values() if not member.gone]
        cheating = sum(member.kind != HONEST for member in here)
        kind = CHEATS[self._born % len(CHEATS)] if cheating < int(self.cheats * self.count) else HONEST
        member = self._join(nursery, key_of(f"worker {self._born}"), kind, self.rng.choice(self.halls), funded=False)
        self._born += 1

        async def counted() -> None:
            await member.registered.wait()
            self.moved["came"] += 1

        nursery.start_soon(counted)

    async def _replace(self, nursery: trio.Nursery) -> None:
        """Who lost its bond is gone; another comes in its place."""
        assert self.observer is not None
        async for account in self.observer.retired():
            member = self.everybody.get(account)
            if member is not None and not member.leaving and not member.gone:
                member.vanish("lost its bond")
                self.moved["lost their bond"] += 1
                self._newcomer(nursery)

    async def _sample(self, network: Network) -> None:
        while True:
            self._take(network)
            await trio.sleep(SAMPLE_SECONDS)

    def _take(self, network: Network) -> None:
        self.loads.append(os.getloadavg()[0])
        for name in network.pids:
            cpu, memory = network.taken(name)
            taken = self.taken.setdefault(name, Taken())
            taken.cpu.append(cpu)
            taken.memory.append(memory)

    async def _tell(self) -> None:
        while True:
            await trio.sleep(TELL_SECONDS)
            here = sum(member.is_working for member in self.everybody.values())
            assert self.observer is not None
            print(f"    {self.observer}, {here} workers, load {os.getloadavg()[0]:.1f}", flush=True)

    # --- What came of it

    def report(self, network: Network) -> None:
        """Print what was counted."""
        observer = self.observer
        assert observer is not None
        heading(
            f"{self.count} workers, {self.plan.validators} validators, {self.plan.tasks} tasks of {self.plan.slots} "
            f"slots, {self.seconds:.0f} s at a load of {statistics.mean(self.loads):.1f}",
            f"{self.count} workers, {self.plan.validators} validators, {self.plan.tasks} x {self.plan.slots} slots",
        )
        show_value("all registered after", [self.gathered], "s")
        for name, up in (("the chain", observer.chain_up), ("the market", observer.market_up)):
            share = statistics.mean(up)
            print(
                f"  {name} was up in {sum(up)} of {len(up)} seconds: {share:.3%}   "
                f"goal {GOAL_UPTIME:.2%}: {verdict(share / GOAL_UPTIME)}; claimed elsewhere: {CLAIMED_UPTIME:.1%}"
            )
            record(f"{name}, uptime", [100 * share], "%", better="more", goal=100 * GOAL_UPTIME)
        show_value("from one block to the next", observer.gaps or [0.0], "s")
        show_value("a block was read by the swarm after", observer.lags or [0.0], "s")
        print(f"  rounds: {observer.rounds_told}")
        if observer.round_seconds:
            show_value("a round", observer.round_seconds, "s")
            show_value("a round, in blocks", observer.round_blocks, "")
        print(f"  transactions final: {self.deeds.sent}, {self.deeds.sent / self.seconds:.1f} a second")
        print("  members: " + ", ".join(f"{count} {what}" for what, count in sorted(self.moved.items())))
        judged = observer.judged(self.deeds, self.everybody)
        for line in judged.lines():
            print(f"  {line}")
        record("wrong updates caught", [100 * judged.caught_share], "%", better="more", goal=100.0)
        record("honest slots refused", [judged.honest_refused], "")
        for name in network.pids:
            taken = self.taken[name]
            share = 100 * (taken.cpu[-1] - taken.cpu[0]) / self.seconds
            print(
                f"  {name:<16} processor {share:5.1f} % of a core, memory {taken.memory[0]:4.0f} MiB, "
                f"{taken.memory[-1]:4.0f} at the end, {max(taken.memory):4.0f} at most"
            )
            if name in network.nodes:
                record(f"{name}: processor", [share], "% of a core")
                record(f"{name}: memory", taken.memory, "MiB")
        print(f"  {'the swarm':<16} processor {100 * self.own_cpu / self.seconds:5.1f} % of a core")
        if self.deeds.troubles:
            print(
                "  tried again after: " + ", ".join(f"{n} x {what}" for what, n in self.deeds.troubles.most_common(8))
            )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
