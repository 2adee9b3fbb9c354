"""Measures consensus alone: how many heights a second it decides, and what a block costs as the validators grow.

    taskset -c 1 .venv/bin/python scripts/bench/finality.py [--heights 300] [--real] [--profile]

Four replicas are stepped by hand, which is what the core costs; then as simulated validators with logs, ballots, sync
and encoded frames, and as whole nodes, which also execute empty blocks and keep them in their databases. The table is
of simulated validators, 50 ms apart, with votes of their real size; its processor time is of stub signatures, or with
--real of BLS, and of all validators together.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import trio
from curves import Column, Curve, Growth, Rows
from figures import Figures, heading, machine, profiled, show_rate

from chain.primitives.hashing import blake2_256
from chain.primitives.seal import Authority, Phase, ValidatorSet, bitmap
from chain.simulation.clock import now_ms, run_virtually
from chain.simulation.cluster import TIMING, Cluster, World
from chain.simulation.crypto import stub_signatures
from chain.simulation.ledger import MemoryWorld
from chain.simulation.network import Weather
from chain.simulation.whole import make_world
from consensus import events as e
from consensus.host import Timing
from consensus.messages import Certificate, Vote
from consensus.replica import Replica
from consensus.tally import Tally, subject_of

GOAL = 2000.0  # heights a second
SIZES = (4, 7, 16, 31, 64, 100)
LINK_MS = 50
SIGNATURE = bytes(96)
MESSAGES = Column("messages", "", Growth.PAIRS)
BYTES = Column("bytes", "", Growth.PAIRS)
ALL = Column("processor time", "ms", Growth.PAIRS)
EACH = Column("of each validator", "ms", Growth.LINEAR)
GARBAGE = Column("of all, collecting garbage", "ms", Growth.PAIRS)
SEALED = Column("sealed after", "ms", Growth.FLAT)
STUB, BLS = (
    Curve(
        file,
        f"A block among validators that are {LINK_MS} ms apart, {kind} signatures",
        "validators",
        (MESSAGES, BYTES, ALL, EACH, GARBAGE, SEALED),
    )
    for file, kind in (("validators-stub", "stub"), ("validators-bls", "BLS"))
)


class Core:
    """Replicas of one height at a time, in step, over a queue that loses nothing."""

    def __init__(self, n: int) -> None:
        self.validators = ValidatorSet(0, tuple(Authority(i.to_bytes(32), i.to_bytes(48)) for i in range(n)))

    def decide(self, height: int) -> None:
        """Run one height until every replica has decided."""
        n = self.validators.n
        self.replicas = [Replica(TIMING, height, self.validators, me) for me in range(n)]
        self.tallies = [Tally(self.validators) for _ in range(n)]
        self.queue: deque[tuple[int, e.Event | Vote]] = deque((me, e.Started()) for me in range(n))
        while self.queue:
            me, item = self.queue.popleft()
            if isinstance(item, Vote):
                self._count(me, item)
            else:
                for effect in self.replicas[me].step(item):
                    self._carry_out(me, effect)
        assert all(replica.decided for replica in self.replicas)

    def _carry_out(self, me: int, effect: e.Effect) -> None:
        match effect:
            case e.CastVote():
                self._vote(Vote(effect.height, effect.view, effect.phase, effect.digest, me, SIGNATURE))
            case e.Propose():
                proposed = e.Proposed(effect.height, effect.view, effect.digest, effect.payload, effect.new_view)
                self.queue.extend((other, proposed) for other in range(self.validators.n) if other != me)
                self._vote(Vote(effect.height, effect.view, Phase.PREPARE, effect.digest, me, SIGNATURE))
            case e.Build():
                payload = b"%d" % effect.height
                self.queue.append((me, e.Built(effect.height, effect.view, blake2_256(payload), payload)))
            case e.Check():
                self.queue.append((me, e.Checked(effect.height, effect.digest, effect.payload, True)))
            case _:
                pass  # Timers never fire here, and nothing is kept.

    def _vote(self, vote: Vote) -> None:
        self.queue.extend((other, vote) for other in range(self.validators.n))

    def _count(self, me: int, vote: Vote) -> None:
        tally = self.tallies[me]
        tally.add(vote)
        subject = subject_of(vote)
        votes = tally.ready(subject)
        if votes is not None:
            tally.certified(subject)
            voters = bitmap(votes, self.validators.n)
            certificate = Certificate(vote.height, vote.view, vote.digest, voters, SIGNATURE)
            done = e.Prepared(certificate) if vote.phase is Phase.PREPARE else e.Committed(certificate)
            self.queue.append((me, done))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heights", type=int, default=300, help="how many heights a sample has")
    parser.add_argument("--samples", type=int, default=5, help="how many samples of each rate")
    parser.add_argument("--real", action="store_true", help="sign and verify with BLS, which takes minutes for many")
    parser.add_argument("--profile", action="store_true", help="print where the time goes, too")
    parser.add_argument("--short", action="store_true", help="little of each, to see that the benchmark works")
    options = parser.parse_args()
    sizes: tuple[int, ...] = SIZES
    if options.short:
        options.heights, options.samples, sizes = 5, 2, (4, 7)
    print(machine())
    figures = Figures()
    core = Core(4)
    for sample in range(options.samples):
        with figures.sample("core"):
            for height in range(1, options.heights + 1):
                core.decide(sample * options.heights + height)
        with stub_signatures(), figures.sample("validators"):
            run_virtually(sample, lambda: _reach(MemoryWorld(4, TIMING), options.heights))
        with stub_signatures(), make_world(4) as world, figures.sample("whole nodes"):
            run_virtually(sample, partial(_reach, world, options.heights))
    heading(f"4 validators, {options.samples} samples of {options.heights} heights")
    show_rate("core alone", options.heights, figures["core"], GOAL)
    show_rate("simulated validators", options.heights, figures["validators"], GOAL)
    show_rate("simulated whole nodes", options.heights, figures["whole nodes"], GOAL)
    if options.profile:
        with profiled("simulated validators"), stub_signatures():
            run_virtually(0, lambda: _reach(MemoryWorld(4, TIMING), options.heights))
    rows = Rows(BLS if options.real else STUB)
    for n in sizes:
        rows.add(n, _block(n, options.real))
    rows.end()


def _block(n: int, real: bool) -> dict[str, list[float]]:
    """What a block costs in the mean, of all validators together, and how long after its proposal it is sealed."""
    blocks = 3 if n < 50 else 2
    timing = Timing()
    weather = Weather(delay_ms_min=LINK_MS, delay_ms_max=LINK_MS)

    async def measure() -> dict[str, list[float]]:
        cluster = Cluster(n, 0, world=MemoryWorld(n, timing))
        cluster.network.weather = weather
        async with trio.open_nursery() as nursery:
            cluster.start(nursery)
            # The first block is dearer: every peer's first vote is verified by itself.
            await cluster.reach(1, 20_000)
            began = now_ms()
            messages, sent = cluster.network.messages, cluster.network.sent_bytes
            with collecting() as garbage:
                cpu = time.process_time()
                await cluster.reach(1 + blocks, 20_000 * blocks)
                spent = 1000 * (time.process_time() - cpu)
            messages, sent = cluster.network.messages - messages, cluster.network.sent_bytes - sent
            each = (now_ms() - began) / blocks - timing.block_time_ms
            nursery.cancel_scope.cancel()
        return {
            MESSAGES.name: [messages / blocks],
            BYTES.name: [sent / blocks],
            ALL.name: [spent / blocks],
            EACH.name: [spent / blocks / n],
            GARBAGE.name: [1000 * garbage.seconds / blocks],
            SEALED.name: [each],
        }

    with nullcontext() if real else stub_signatures():
        return run_virtually(0, measure)


@dataclass
class Garbage:
    """The processor time that Python's collector has taken."""

    seconds: float = 0.0
    began: float = 0.0


@contextmanager
def collecting() -> Iterator[Garbage]:
    """Count what the collector takes in the body."""
    garbage = Garbage()

    def note(phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            garbage.began = time.process_time()
        else:
            garbage.seconds += time.process_time() - garbage.began

    gc.callbacks.append(note)
    try:
        yield garbage
    finally:
        gc.callbacks.remove(note)


async def _reach(world: World, heights: int) -> None:
    cluster = Cluster(4, 0, world=world)
    async with trio.open_nursery() as nursery:
        cluster.start(nursery)
        await cluster.reach(heights, 2000 * heights)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    main()
