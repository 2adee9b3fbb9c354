"""Whole clusters of replicas in one thread, from one seed: loss, delay, reordering, partitions, crashes and twins.

Every effect is a step of its own, so that a crash can fall between any two of them; what a node keeps over a crash is
its ledger and what `Persist` wrote. Signatures are left out: `proof` has its own tests.
"""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final, assert_never

from chain.primitives.hashing import blake2_256
from chain.primitives.seal import Authority, Phase, ValidatorSet, bitmap
from consensus import events as e
from consensus.host import Timing
from consensus.messages import Certificate, Message, Payload, PayloadRequest, PrePrepare, ViewChange, Vote
from consensus.records import Record
from consensus.replica import Replica
from consensus.tally import Tally, subject_of

TIMING: Final = Timing(block_time_ms=200, timeout_ms=500, timeout_ms_max=4000, resend_ms=250)
SIGNATURE: Final = bytes(96)


def validator_set(n: int) -> ValidatorSet:
    return ValidatorSet(0, tuple(Authority(i.to_bytes(32, "big"), i.to_bytes(48, "big")) for i in range(n)))


@dataclass
class Weather:
    """What befalls messages and nodes."""

    loss: float = 0.0
    duplication: float = 0.0
    delay_ms_max: int = 20
    crash: float = 0.0  # Before each effect.
    cut: Callable[[int, int], bool] = lambda sender, receiver: False  # noqa: ARG005


CALM: Final = Weather()


@dataclass
class Monitor:
    """What must never happen, checked as it happens."""

    decided: dict[int, bytes] = field(default_factory=dict)
    votes: dict[tuple[int, int, int, Phase], bytes] = field(default_factory=dict)
    changes: dict[tuple[int, int], int] = field(default_factory=dict)  # The highest view asked for.
    commits: dict[tuple[int, int], int] = field(default_factory=dict)  # The highest view of a commit.

    def vote(self, me: int, height: int, view: int, phase: Phase, digest: bytes) -> None:
        known = self.votes.setdefault((me, height, view, phase), digest)
        assert known == digest, f"{me} contradicts its {phase.name} at height {height}, view {view}"
        assert view >= self.changes.get((me, height), 0), f"{me} votes in view {view} after leaving it"
        if phase is Phase.COMMIT:
            self.commits[me, height] = max(view, self.commits.get((me, height), 0))

    def change(self, me: int, height: int, view: int, lock: Certificate | None) -> None:
        self.changes[me, height] = max(view, self.changes.get((me, height), 0))
        if (me, height) in self.commits and view > self.commits[me, height]:
            assert lock is not None, f"{me} forgot its lock"
            assert lock.view >= self.commits[me, height], f"{me} forgot its lock"

    def decision(self, height: int, digest: bytes) -> None:
        assert self.decided.setdefault(height, digest) == digest, f"two blocks at height {height}"


class Node:
    """One replica with its disk. Twins are two nodes with one index."""

    def __init__(self, cluster: "Cluster", name: int, me: int, *, honest: bool) -> None:
        self.cluster, self.name, self.me, self.honest = cluster, name, me, honest
        self.ledger: list[bytes] = []
        self.disk: list[Record] = []
        self.up = False
        self.silent = False
        self.builds_rubbish = False
        self.life = 0  # Counts starts, so that what was scheduled before a crash is void.
        self.timer = 0

    def start(self) -> None:
        self.up, self.life = True, self.life + 1
        self.begin()
        self.tick(self.life)

    def crash(self) -> None:
        self.up, self.life = False, self.life + 1

    def begin(self) -> None:
        height = len(self.ledger) + 1
        records = [record for record in self.disk if record.height == height]
        self.replica = Replica(TIMING, height, self.cluster.validators, self.me, records)
        self.tally = Tally(self.cluster.validators)
        self.began = self.cluster.now
        self.effects: deque[e.Effect] = deque()
        self.pending: deque[e.Event] = deque([e.Started()])
        self.timer += 1
        self.work()

    def tick(self, life: int) -> None:
        if life == self.life:
            self.cluster.sync(self)
            self.take(e.ResendDue())
            self.cluster.after(TIMING.resend_ms, lambda: self.tick(life))

    def take(self, event: e.Event) -> None:
        self.pending.append(event)
        self.work()

    def later(self, ms: int, event: e.Event) -> None:
        life = self.life
        self.cluster.after(ms, lambda: self.take(event) if self.life == life else None)

    def work(self) -> None:
        while self.up and (self.effects or self.pending):
            if not self.effects:
                self.effects.extend(self.replica.step(self.pending.popleft()))
                continue
            if self.cluster.rng.random() < self.cluster.weather.crash:
                self.crash()
                self.cluster.after(self.cluster.rng.randrange(3000), self.start)
                return
            self.carry_out(self.effects.popleft())

    def carry_out(self, effect: e.Effect) -> None:
        monitor = self.cluster.monitor
        match effect:
            case e.Persist():
                self.disk = [record for record in self.disk if record.height == effect.record.height]
                self.disk.append(effect.record)
            case e.CastVote():
                if self.honest:
                    monitor.vote(self.me, effect.height, effect.view, effect.phase, effect.digest)
                vote = Vote(effect.height, effect.view, effect.phase, effect.digest, self.me, SIGNATURE)
                self.cluster.broadcast(self, vote)
                self.count(vote)
            case e.Propose():
                if self.honest:
                    monitor.vote(self.me, effect.height, effect.view, Phase.PREPARE, effect.digest)
                self.cluster.broadcast(
                    self,
                    PrePrepare(effect.height, effect.view, effect.digest, SIGNATURE, effect.payload, effect.new_view),
                )
                self.count(Vote(effect.height, effect.view, Phase.PREPARE, effect.digest, self.me, SIGNATURE))
            case e.CastViewChange():
                if self.honest:
                    monitor.change(self.me, effect.height, effect.view, effect.lock)
                change = ViewChange(effect.height, effect.view, self.me, effect.lock, SIGNATURE)
                self.cluster.broadcast(self, change)
                self.pending.append(e.Changed(change))
            case e.Build():
                word = "bad" if self.builds_rubbish else "good"
                # No two builds are alike, so that a vote forgotten in a crash shows as a contradiction.
                payload = f"{word} {effect.height} {effect.view} {self.name} {self.cluster.rng.random()}".encode()
                pause = self.began + TIMING.block_time_ms - self.cluster.now if effect.view == 0 else 0
                self.later(max(pause, 0) + 5, e.Built(effect.height, effect.view, blake2_256(payload), payload))
            case e.Check():
                valid = effect.payload.startswith(b"good") and blake2_256(effect.payload) == effect.digest
                self.later(5, e.Checked(effect.height, effect.digest, effect.payload, valid))
            case e.RequestPayload():
                self.cluster.broadcast(self, PayloadRequest(effect.height, effect.digest))
            case e.SetTimer():
                self.timer += 1
                timer, life = self.timer, self.life
                event = e.TimedOut(effect.height, effect.view)
                self.cluster.after(
                    effect.after_ms,
                    lambda: self.take(event) if (self.timer, self.life) == (timer, life) else None,
                )
            case e.StopTimer():
                self.timer += 1
            case e.Decide():
                if self.honest:
                    monitor.decision(effect.certificate.height, effect.certificate.digest)
                self.ledger.append(effect.payload)
                late, self.effects = self.effects, deque()
                self.begin()
                self.effects.extend(late)
            case _:
                assert_never(effect)

    def count(self, vote: Vote) -> None:
        if vote.height != self.replica.height:
            return  # A late commit, which decides nothing any more.
        self.tally.add(vote)
        subject = subject_of(vote)
        votes = self.tally.ready(subject)
        if votes is not None:
            self.tally.certified(subject)
            voters = bitmap(votes, self.cluster.validators.n)
            certificate = Certificate(vote.height, vote.view, vote.digest, voters, SIGNATURE)
            self.pending.append(e.Prepared(certificate) if vote.phase is Phase.PREPARE else e.Committed(certificate))

    def receive(self, sender: "Node", message: Message) -> None:
        if not self.up or message.height != self.replica.height:
            return
        match message:
            case Vote():
                self.count(message)
                self.work()
            case ViewChange():
                self.take(e.Changed(message))
            case PrePrepare():
                m = message
                self.take(e.Proposed(m.height, m.view, m.digest, m.payload, m.new_view))
                if self.up and self.replica.height == m.height:
                    self.count(Vote(m.height, m.view, Phase.PREPARE, m.digest, sender.me, SIGNATURE))
                    self.work()
            case PayloadRequest():
                payload = self.replica.payload(message.digest)
                if payload is not None:
                    self.cluster.send(self, sender, Payload(message.height, payload))
            case Payload():
                self.take(e.Fetched(message.height, message.payload))
            case _:
                assert_never(message)


class Cluster:
    """n replicas of which `twins` have a double that shares their name and nothing else."""

    def __init__(self, seed: int, n: int, twins: tuple[int, ...] = (), weather: Weather = CALM) -> None:
        self.rng = Random(seed)
        self.validators = validator_set(n)
        self.weather = weather
        self.monitor = Monitor()
        self.now = 0
        self._queue: list[tuple[int, int, Callable[[], object]]] = []
        self._count = 0
        self.nodes = [Node(self, index, index, honest=index not in twins) for index in range(n)]
        self.nodes += [Node(self, n + i, index, honest=False) for i, index in enumerate(twins)]

    @property
    def honest(self) -> list[Node]:
        return [node for node in self.nodes if node.honest and not node.silent]

    def after(self, ms: int, action: Callable[[], object]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now + ms, self._count, action))

    def start(self) -> None:
        for node in self.nodes:
            if not node.silent:
                node.start()

    def broadcast(self, sender: Node, message: Message) -> None:
        for node in self.nodes:
            if node is not sender:
                self.send(sender, node, message)

    def send(self, sender: Node, receiver: Node, message: Message) -> None:
        weather = self.weather
        copies = 2 if self.rng.random() < weather.duplication else 1
        for _ in range(copies):
            if self.rng.random() >= weather.loss and not weather.cut(sender.name, receiver.name):
                delay = self.rng.randint(1, weather.delay_ms_max)
                self.after(delay, lambda: receiver.receive(sender, message))

    def sync(self, node: Node) -> None:
        """Take the block that the node misses from anybody within reach who has it: seals prove it."""
        for other in self.nodes:
            reachable = other.up and not self.weather.cut(other.name, node.name)
            if reachable and other.honest and len(other.ledger) > len(node.ledger):
                node.ledger.append(other.ledger[len(node.ledger)])
                node.begin()
                return

    def run(self, ms: int) -> None:
        end = self.now + ms
        while self._queue and self._queue[0][0] <= end:
            self.now, _, action = heapq.heappop(self._queue)
            action()
        self.now = end

    def reach(self, height: int, within_ms: int) -> None:
        """Run until every honest node has sealed `height`; fail after so long."""
        end = self.now + within_ms
        while any(len(node.ledger) < height for node in self.honest):
            if not self._queue or self._queue[0][0] > end:
                raise AssertionError(
                    f"stuck: {[(node.name, len(node.ledger), self.where(node)) for node in self.nodes]}"
                )
            self.now, _, action = heapq.heappop(self._queue)
            action()
        self.check()

    @staticmethod
    def where(node: Node) -> str:
        if not node.up:
            return "down"
        replica = node.replica
        return f"view {replica.view}{' changing' if replica.changing else ''}"

    def check(self) -> None:
        """All ledgers are prefixes of one chain, and hold nothing that a check refuses."""
        longest = max((node.ledger for node in self.honest), key=len)
        for node in self.honest:
            assert node.ledger == longest[: len(node.ledger)]
        assert all(payload.startswith(b"good") for payload in longest)
