"""Every scenario of a few views in which one of four validators has a twin: bare replicas, in lockstep, nothing drawn.

After Bano et al., *Twins: BFT Systems Made Robust* (2021): a twin, which shares a key and nothing else with another
node, and a partition for each view make an attacker that equivocates, forgets and colludes, of correct code alone. A
view here is: who is on which side, and whether commits get through. Of scenarios that lead to one state, one goes on.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Final, assert_never

from chain.primitives.hashing import blake2_256
from chain.primitives.seal import Phase, ValidatorSet, bitmap
from consensus import events as e
from consensus.host import Timing
from consensus.messages import Certificate, ViewChange, Vote
from consensus.replica import Replica
from consensus.tally import Tally, subject_of
from tests.consensus.kit import SIGNATURE, validator_set

N: Final = 4
HEIGHT: Final = N  # The primary of view v is validator v mod n.
VALIDATORS: Final[ValidatorSet] = validator_set(N)
TIMING: Final = Timing()
# Once all are together: views that a twin may lead, and those that are left behind by who is ahead.
VIEWS_TO_HEAL: Final = 2 * N


@dataclass(frozen=True, slots=True)
class View:
    """What happens to the messages of one view."""

    sides: tuple[int, ...]  # By node; the last is the twin.
    commits: bool = True

    def carries(self, sender: int, receiver: int, message: object) -> bool:
        if isinstance(message, Vote) and message.phase is Phase.COMMIT and not self.commits:
            return False
        return self.sides[sender] == self.sides[receiver]


TOGETHER: Final = View((0,) * (N + 1))
# Sides have no names: the first node is always on side 0.
PARTITIONS: Final = tuple(View((0, *others)) for others in product((0, 1), repeat=N))
WITHOUT_COMMITS: Final = tuple(View(view.sides, commits=False) for view in PARTITIONS)


@dataclass
class Cluster:
    """Four replicas and a twin of one of them, with what is on the way between them."""

    twin: int
    replicas: list[Replica] = field(init=False)
    tallies: list[Tally] = field(init=False)
    queue: deque[tuple[int, int, object]] = field(default_factory=deque)  # Sender, receiver, message.

    def __post_init__(self) -> None:
        indices = [*range(N), self.twin]
        self.replicas = [Replica(TIMING, HEIGHT, VALIDATORS, me) for me in indices]
        self.tallies = [Tally(VALIDATORS) for _ in indices]

    def run(self, view: View, *, first: bool = False) -> None:
        """Begin a view, or let the one before time out, and deliver all that this one carries."""
        for name in range(N + 1):
            if first:
                self._step(name, e.Started())
            else:
                self._step(name, e.TimedOut(HEIGHT, self.replicas[name].view))
                self._step(name, e.ResendDue())
        while self.queue:
            sender, receiver, message = self.queue.popleft()
            if sender == receiver or view.carries(sender, receiver, message):
                self._deliver(receiver, message)

    def decisions(self) -> set[bytes]:
        """What honest validators have decided."""
        return {found.deciding.digest for found in self._honest() if found.deciding is not None}

    def key(self) -> bytes:
        """The same for the same state, whatever led there."""
        states = [repr(_state(r, t)) for r, t in zip(self.replicas, self.tallies, strict=True)]
        # Which of the twins is which makes no difference.
        twins = sorted([states.pop(), states[self.twin]])
        return blake2_256(repr([*states[: self.twin], *states[self.twin + 1 :], *twins]).encode())

    def _honest(self) -> Iterator[Replica]:
        return (replica for replica in self.replicas if replica.me != self.twin)

    def _deliver(self, name: int, message: object) -> None:
        match message:
            case Vote():
                self._count(name, message)
            case ViewChange():
                self._step(name, e.Changed(message))
            case e.RequestPayload():
                pass
            case e.Proposed():
                self._step(name, message)
                primary = VALIDATORS.primary_index(HEIGHT, message.view)
                self._count(name, Vote(HEIGHT, message.view, Phase.PREPARE, message.digest, primary, SIGNATURE))
            case e.Built() | e.Checked() | e.Fetched() | e.Prepared() | e.Committed() | e.Changed():
                self._step(name, message)
            case _:
                raise AssertionError(message)

    def _count(self, name: int, vote: Vote) -> None:
        tally = self.tallies[name]
        tally.add(vote)
        subject = subject_of(vote)
        votes = tally.ready(subject)
        if votes is not None:
            tally.certified(subject)
            certificate = Certificate(HEIGHT, vote.view, vote.digest, bitmap(votes, N), SIGNATURE)
            self._step(name, e.Prepared(certificate) if vote.phase is Phase.PREPARE else e.Committed(certificate))

    def _step(self, name: int, event: e.Event) -> None:
        for effect in self.replicas[name].step(event):
            self._carry_out(name, effect)

    def _carry_out(self, name: int, effect: e.Effect) -> None:
        me = self.replicas[name].me
        assert me is not None
        match effect:
            case e.CastVote():
                vote = Vote(HEIGHT, effect.view, effect.phase, effect.digest, me, SIGNATURE)
                self._send(name, vote)
                self.queue.append((name, name, vote))
            case e.Propose():
                self._send(name, e.Proposed(HEIGHT, effect.view, effect.digest, effect.payload, effect.new_view))
                self.queue.append((name, name, Vote(HEIGHT, effect.view, Phase.PREPARE, effect.digest, me, SIGNATURE)))
            case e.CastViewChange():
                change = ViewChange(HEIGHT, effect.view, me, effect.lock, SIGNATURE)
                self._send(name, change)
                self.queue.append((name, name, change))
            case e.Build():
                payload = b"%d %d" % (name, effect.view)
                self.queue.append((name, name, e.Built(HEIGHT, effect.view, blake2_256(payload), payload)))
            case e.Check():
                valid = blake2_256(effect.payload) == effect.digest
                self.queue.append((name, name, e.Checked(HEIGHT, effect.digest, effect.payload, valid)))
            case e.RequestPayload():
                # Whoever has it answers: who does not is not asked about in lockstep, for payloads are not votes.
                for other in self.replicas:
                    payload_found = other.payload(effect.digest)
                    if payload_found is not None:
                        self.queue.append((name, name, e.Fetched(HEIGHT, payload_found)))
                        break
            case e.Persist() | e.SetTimer() | e.StopTimer() | e.Decide():
                pass
            case _:
                assert_never(effect)

    def _send(self, sender: int, message: object) -> None:
        self.queue.extend((sender, receiver, message) for receiver in range(N + 1) if receiver != sender)


def _state(replica: Replica, tally: Tally) -> tuple[object, ...]:
    kept = {name: value for name, value in vars(replica).items() if name not in {"timing", "validators", "_out"}}
    votes = sorted((s.view, s.phase, s.digest, *sorted(v)) for s, v in tally._votes.items())
    return (sorted((name, _sorted(value)) for name, value in kept.items()), votes)


def _sorted(value: object) -> str:
    if isinstance(value, dict):
        return repr(sorted((repr(key), _sorted(item)) for key, item in value.items()))
    return repr(sorted(map(repr, value))) if isinstance(value, set) else repr(value)


@dataclass
class Explored:
    """How many scenarios there were, and how many states they led to, by the number of views."""

    scenarios: int
    states: list[int]
    decided: int  # States of the last view in which somebody had decided.


def explore(twin: int, views: int, kinds: Sequence[View]) -> Explored:
    """Go through every scenario of views of these kinds; AssertionError where two blocks are decided, or none."""
    start = Cluster(twin)
    level: dict[bytes, tuple[bytes, tuple[View, ...]]] = {b"": (pickle.dumps(start), ())}
    counts, decided = [], 0
    for number in range(views):
        following: dict[bytes, tuple[bytes, tuple[View, ...]]] = {}
        for frozen, path in level.values():
            for view in kinds:
                cluster: Cluster = pickle.loads(frozen)
                cluster.run(view, first=number == 0)
                assert len(cluster.decisions()) <= 1, f"twin {twin}: two decisions after {(*path, view)}"
                following.setdefault(cluster.key(), (pickle.dumps(cluster), (*path, view)))
        level = following
        counts.append(len(level))
    for frozen, path in level.values():
        cluster = pickle.loads(frozen)
        decided += bool(cluster.decisions())
        for _ in range(VIEWS_TO_HEAL):
            if not cluster.decisions():
                cluster.run(TOGETHER)
        # Whoever has decided has the block, and hands it to who has not.
        assert len(cluster.decisions()) == 1, f"twin {twin}: stuck, or two decisions, after {path}"
    return Explored(len(kinds) ** views, counts, decided)
