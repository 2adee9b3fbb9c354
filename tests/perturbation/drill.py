"""A run: starts a manifest's network, perturbs it, waits for its recovery each time, and checks everything at the end.

It fails by what clients could see, and by processes that end without being told to; a figure never fails it.
"""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from random import Random
from signal import SIGCONT, SIGSTOP
from typing import Final, assert_never

import trio

from chain.rpc.client import Client
from tests.perturbation import checks
from tests.perturbation.crowd import NOTHING
from tests.perturbation.history import History
from tests.perturbation.load import Load
from tests.perturbation.manifest import (
    Flood,
    FullDisk,
    Garbage,
    Kill,
    Manifest,
    Partition,
    Perturbation,
    Rest,
    Restart,
    SlowLinks,
    SlowReaders,
    Start,
    Stop,
    Who,
    Wipe,
)
from tests.perturbation.network import Network
from tests.perturbation.observer import Observer
from tests.perturbation.payments import Payments
from tests.perturbation.processes import ROOT
from tests.perturbation.report import Report, spread

# A view without its primary takes two seconds, and machines are busy: a quorum of so long makes a block.
QUORUM_SECONDS: Final = 15.0
# What was sealed, or about to be, when a quorum ended: its news may come a little later.
BLOCKS_UNDER_WAY_MAX: Final = 2
CHECK_SECONDS_MAX: Final = 60.0
LOOK_SECONDS: Final = 0.05
SAMPLE_SECONDS_MAX: Final = 5.0  # how long is waited for the next block of a node that came back with the newest
READ_SECONDS_MAX: Final = 5.0  # how long a report waits for its last block's time


class Drill:
    """One run of a manifest; `violations` says what must not have happened."""

    def __init__(self, manifest: Manifest, network: Network, observer: Observer) -> None:
        self.manifest = manifest
        self.network = network
        self.observer = observer
        self.history = observer.history
        self.rng = Random(manifest.seed)
        self.load = Load(observer, network.payers, network.genesis_hash, self.rng)

    async def run(self) -> None:
        """Everything, once. What fails is in the history's violations."""
        payments = Payments(self.observer, list(self.network.urls.values())) if self.manifest.network.trains else None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.observer.run)
            for name in self.network.processes.all:
                if name not in self.manifest.network.late:
                    await self.network.processes.start(name)
            await self._perturb("first start", self._first_start)
            if payments is not None:
                nursery.start_soon(payments.run)
            async with trio.open_nursery() as paying:
                paying.start_soon(self.load.run)
                for perturbation in self.manifest.perturbations:
                    await self._perturb(_name(perturbation), partial(self._inflict, perturbation))
                    if self.history.violations:
                        break  # What comes of a broken chain says nothing about the next fault.
                else:
                    await self._settle(paying)
                paying.cancel_scope.cancel()
            with trio.move_on_after(CHECK_SECONDS_MAX) as patience:
                await self._check(payments)
            if patience.cancelled_caught:
                self.history.accuse(f"the checks at the end took over {CHECK_SECONDS_MAX:g} s: does a node hang?")
            nursery.cancel_scope.cancel()
        await self._stop()
        for violation in checks.check_logs({name: each.log for name, each in self.network.processes.all.items()}):
            self.history.accuse(violation)

    # --- the perturbations ---

    async def _perturb(self, name: str, inflict: Callable[[Report], Awaitable[None]]) -> None:
        report = Report(name, self.history.height)
        print(f"{time.strftime('%H:%M:%S')}  {name}", flush=True)
        await inflict(report)
        report.last = self.history.height
        with trio.move_on_after(READ_SECONDS_MAX):
            await self.observer.until_read(report.last)
        for line in report.lines(self.block_seconds(report.first, report.last)):
            print(f"          {line}", flush=True)

    async def _inflict(self, perturbation: Perturbation, report: Report) -> None:
        processes, links = self.network.processes, self.network.links
        match perturbation:
            case Kill():
                await self._kill(perturbation, report)
            case Restart(who):
                for name in self._drawn(who):
                    await self._terminate(name)
                    await self._start_again([name], report)
            case Stop(who, seconds):
                names = self._drawn(who)
                for name in names:
                    processes.send(name, SIGSTOP)
                try:
                    await self._hold(seconds, names, report)
                finally:
                    for name in names:
                        processes.send(name, SIGCONT)
                await self._recover(report)
            case Wipe(who):
                for name in self._drawn(who):
                    await processes.kill([name])
                    await self.observer.until_gone(name)
                    self.network.wipe(name)
                    self.history.forgot(name)
                    await self._start_again([name], report)
            case Start(who):
                await self._start_again(who.names, report)
            case Partition(groups, seconds, hangs_up):
                assert links is not None
                cut = links.between(groups)
                for link in cut:
                    link.cut(hangs_up=hangs_up)
                most = max(groups, key=len)
                await self._hold(seconds, [name for group in groups for name in group if group != most], report)
                for link in cut:
                    link.mend()
                await self._recover(report)
            case SlowLinks(who, delay_ms, seconds):
                assert links is not None
                slow = links.of(self._drawn(who))
                for link in slow:
                    link.delay_ms = delay_ms
                await self._hold(seconds, [], report)
                for link in slow:
                    link.mend()
                await self._recover(report)
            case FullDisk(who, seconds):
                await self._fill(self._drawn(who), seconds, report)
            case Garbage(who, seconds):
                async with self._crowd("garbage", 2, 0, self._drawn(who), report, peers=True):
                    await self._hold(seconds, [], report)
                await self._recover(report)
            case Flood(who, connections, seconds):
                async with self._crowd("flood", connections, 0, self._drawn(who), report):
                    await self._hold(seconds, [], report)
                await self._recover(report)
            case SlowReaders(who, connections, subscriptions, seconds):
                async with self._crowd("slow", connections, subscriptions, self._drawn(who), report):
                    await self._hold(seconds, [], report)
                await self._recover(report)
            case Rest(seconds):
                await self._hold(seconds, [], report)
            case _:
                assert_never(perturbation)

    def _drawn(self, who: Who) -> list[str]:
        """Whom it is about this time: nodes that are yet to start are not among them."""
        running = self.network.processes.running
        names = [name for name in who.names if name in running] if who.names else running
        return sorted(self.rng.sample(names, min(who.pick, len(names)))) if who.pick else names

    async def _first_start(self, report: Report) -> None:
        await self._started(self.network.nodes_running, report)

    async def _kill(self, kill: Kill, report: Report) -> None:
        for number in range(1, kill.times + 1):
            await trio.sleep(self.rng.uniform(*kill.rest_seconds))
            names = self._drawn(kill.who)
            print(f"          {number}: height {self.history.height}, killing {', '.join(names)}", flush=True)
            await self.network.processes.kill(names)
            if kill.waits or number == kill.times:
                await self._start_again(names, report)
            else:
                for name in names:
                    await self.network.processes.start(name)

    async def _start_again(self, names: Sequence[str], report: Report) -> None:
        nodes = [name for name in names if name in self.network.urls]
        for name in nodes:
            await self.observer.until_gone(name)
        for name in names:
            await self.network.processes.start(name)
        await self._started(nodes, report)

    async def _started(self, names: Sequence[str], report: Report) -> None:
        """Take the times of nodes that were just started, and wait until all of the network has a new block."""
        before = self.history.height
        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(self._time_start, name, before, report)
            await self._recover(report)
            nursery.cancel_scope.deadline = trio.current_time() + SAMPLE_SECONDS_MAX

    async def _time_start(self, name: str, before: int, report: Report) -> None:
        process, node = self.network.processes[name], self.observer.nodes[name]
        while node.link is None or node.answered_at < process.started_at:
            await node.changed.wait()
        assert process.running is not None
        report.answers.append(node.answered_at - process.started_at)
        report.answers_cpu.append(_cpu_seconds(process.running.pid))
        # Not one that was sealed before, of which its client had yet to hear.
        before = max(before, min(node.first_new_at))
        while not any(height > before for height in node.first_new_at):
            await node.changed.wait()
        new = min(height for height in node.first_new_at if height > before)
        report.blocks.append(node.first_new_at[new] - process.started_at)

    async def _recover(self, report: Report) -> None:
        """Wait until every node that runs has told of a block that nobody has told of yet."""
        started, before = trio.current_time(), self.history.height
        with trio.move_on_after(self.manifest.recovery_seconds_max) as patience:
            await self.observer.until_height(before + 1, self.network.nodes_running)
        if patience.cancelled_caught:
            heights = ", ".join(f"{name} {height}" for name, height in self.history.heights.items())
            self.history.accuse(
                f"{report.name}: not every node had block {before + 1} after "
                f"{self.manifest.recovery_seconds_max:g} s of calm; they told of {heights}"
            )
        else:
            report.recoveries.append(trio.current_time() - started)

    async def _hold(self, seconds: float, away: Sequence[str], report: Report) -> None:
        """Let a fault last. While no more validators are away than may be, blocks go on; otherwise none may come."""
        before, validators = self.history.height, self.network.plan.nodes[: self.network.plan.validators]
        await trio.sleep(seconds)
        report.held_blocks = self.history.height - before
        has_quorum = len(set(away) & set(validators)) <= self.network.faults_max
        if has_quorum and seconds >= QUORUM_SECONDS and report.held_blocks == 0:
            self.history.accuse(f"{report.name}: no block in {seconds:g} s, though a quorum was there")
        if not has_quorum and report.held_blocks > BLOCKS_UNDER_WAY_MAX:
            self.history.accuse(f"{report.name}: {report.held_blocks} blocks, though no quorum was there")

    async def _fill(self, names: Sequence[str], seconds: float, report: Report) -> None:
        """Fill disks until their nodes have ended; then make room and start them again."""
        for name in names:
            self.network.processes.expect_end(name)
        with trio.move_on_after(self.manifest.recovery_seconds_max) as patience:
            while not all(self.network.processes[name].ended.is_set() for name in names):
                for name in names:
                    await trio.to_thread.run_sync(self.network.fill_disk, name)
                await trio.sleep(LOOK_SECONDS)
        if patience.cancelled_caught:
            self.history.accuse(f"{report.name}: not all have ended {self.manifest.recovery_seconds_max:g} s later")
            await self.network.processes.kill(
                [name for name in names if not self.network.processes[name].ended.is_set()]
            )
        for name in names:
            if self.network.processes[name].running is None:
                continue
            code, said = await self.network.processes.end_of(name), self.network.processes[name].last_line
            report.notes.append(f"{name} ended with {code}: {said}")
            if code <= 0 or not said.startswith("error: "):
                self.history.accuse(f"{report.name}: {name} ended with {code}, and without saying why: {said}")
        await self._hold(seconds, names, report)
        for name in names:
            self.network.make_room(name)
        await self._start_again(names, report)

    @asynccontextmanager
    async def _crowd(
        self, kind: str, connections: int, subscriptions: int, names: Sequence[str], report: Report, peers: bool = False
    ) -> AsyncIterator[None]:
        """Bad clients of these nodes, for as long as the scope lasts."""
        ports = [self.network.rpc_ports[name] for name in names]
        ports += [self.network.ports[name] for name in names] if peers else []
        words = [kind, str(connections), str(subscriptions), *(str(port) for port in ports)]
        log = self.network.base / "logs" / f"{kind}.log"
        with log.open("wb") as output:
            crowd = await trio.lowlevel.open_process(
                [sys.executable, "-m", "tests.perturbation.crowd", *words], stdout=output, stderr=output, cwd=ROOT
            )

        def achieved() -> str:
            return log.read_text().strip().rpartition("\n")[2] or NOTHING

        try:
            with trio.move_on_after(self.manifest.recovery_seconds_max) as patience:
                while achieved() == NOTHING:
                    await trio.sleep(LOOK_SECONDS)
            if patience.cancelled_caught:
                self.history.accuse(f"{report.name}: the crowd achieves nothing: {log}")
            yield
            if crowd.returncode is not None:
                self.history.accuse(f"{report.name}: the crowd itself has ended with {crowd.returncode}: {log}")
        finally:
            with trio.CancelScope(shield=True):
                crowd.kill()
                await crowd.wait()
        report.notes.append(f"the crowd's tally: {achieved()}")

    # --- the end ---

    async def _settle(self, paying: trio.Nursery) -> None:
        """Let payments become final, and blocks as many as the manifest wants."""
        wanted = self.manifest.blocks_min
        with trio.move_on_after(
            self.manifest.recovery_seconds_max + 3 * max(0, wanted - self.history.height)
        ) as patience:
            await self.observer.until_height(wanted, self.network.nodes_running)
        if patience.cancelled_caught:
            self.history.accuse(f"expected {wanted} blocks at least, got {self.history.height}")
        self.load.end()
        with trio.move_on_after(self.manifest.recovery_seconds_max) as patience:
            while paying.child_tasks:
                await trio.sleep(LOOK_SECONDS)
        if patience.cancelled_caught:
            self.history.accuse(f"not every payment is final {self.manifest.recovery_seconds_max:g} s after the end")

    async def _check(self, payments: Payments | None) -> None:
        height = self.history.height
        await self.observer.until_height(height, self.network.nodes_running)
        await self.observer.until_read(height)
        for name in self.network.nodes_running:
            link = self.observer.nodes[name].link
            assert link is not None
            await checks.check_chain(self.history, name, link, height)
        url = self.network.urls[self.network.nodes_running[0]]
        async with Client.connect(url) as client:
            violations = await checks.check_state(client, self.history.hashes[height])
            if payments is not None:
                violations += await payments.check(client, height)
        for violation in violations:
            self.history.accuse(violation)

    async def _stop(self) -> None:
        for name in reversed(self.network.processes.running):
            await self._terminate(name)

    async def _terminate(self, name: str) -> None:
        """An orderly end."""
        try:
            code = await self.network.processes.terminate(name)
        except trio.TooSlowError:
            self.history.accuse(f"{name} did not end within seconds of SIGTERM")
            await self.network.processes.kill([name])
        else:
            if code != 0:
                last = self.network.processes[name].last_line
                self.history.accuse(f"{name} ended with {code} when it was told to stop: {last}")

    def summary(self) -> list[str]:
        """What was seen in all."""
        history = self.history
        told = [each for each in history.transactions.values() if each.told_final_in is not None]
        final = [each.told_at - each.sent_at for each in history.transactions.values() if each.told_at is not None]
        took = f" after {spread(final)}" if final else ""
        return [
            f"{history.height} blocks; {len(history.transactions)} payments sent, {len(final)} of them final{took}, "
            f"{len(told)} told so by a node that watched them; {self.load.sent_again} sent again",
            f"the client lost {self.observer.connections_lost} connections; submissions that ended without a word of "
            f"finality: {', '.join(f'{kind} {times}' for kind, times in self.load.refused.items()) or 'none'}",
        ]

    def block_seconds(self, first: int, last: int) -> list[float]:
        """The times between the blocks of these heights, as the chain has them."""
        moments = [
            self.observer.moments[height] for height in range(first, last + 1) if height in self.observer.moments
        ]
        return [(after - before) / 1000 for before, after in pairwise(moments)]


def _name(perturbation: Perturbation) -> str:
    match perturbation:
        case Rest(seconds):
            return f"rest for {seconds:g} s"
        case Partition(groups, seconds, hangs_up):
            sides = " | ".join(" ".join(group) for group in groups)
            return f"partition {sides}, {'hung up' if hangs_up else 'silent'}, for {seconds:g} s"
        case _:
            who = perturbation.who
            names = "processes" if not who.names else " ".join(who.names)
            of = f"{who.pick} of {names}" if who.pick else names
            kind = re.sub("(?<!^)(?=[A-Z])", "-", type(perturbation).__name__).lower()  # as the manifest calls it
            return f"{kind} {of}" + (f", {perturbation.times} times" if isinstance(perturbation, Kill) else "")


def _cpu_seconds(pid: int) -> float:
    """The processor time that a process has had."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return math.nan
    return (int(fields[11]) + int(fields[12])) / 100


async def run(manifest: Manifest, base: Path, first_port: int) -> list[str]:
    """Run a manifest in an empty folder, with ports from `first_port` on; returns what must not have happened."""
    history = History()
    async with Network.open(manifest, base, first_port, history.accuse) as network:
        drill = Drill(manifest, network, Observer(network.urls, history))
        await drill.run()
        print("\n".join(drill.summary()), flush=True)
    return history.violations
