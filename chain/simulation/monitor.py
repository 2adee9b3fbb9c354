"""What must never happen in a simulated chain, and what must: checked as it happens, on what honest nodes do alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from chain.ledger import SealedBlock
from chain.primitives.hashing import Hash
from chain.primitives.seal import Phase, ValidatorSet, read_bitmap, verify_seal
from chain.simulation.clock import now_ms
from consensus.host import Timing
from consensus.messages import Certificate, Message, PrePrepare, ViewChange, Vote
from consensus.proof import Verifier
from consensus.rules import timeout_ms
from consensus.tally import Equivocation

# A peer that is found out to lie loses so many points at once; those of one that is only slow come in smaller sums.
FALSE_POINTS: Final = 100.0


class Violation(AssertionError):
    """A rule that the chain lives by was broken."""


def expect(holds: bool, message: str) -> None:
    if not holds:
        raise Violation(message)


@dataclass(slots=True)
class Monitor:
    """Knows of every validator whether it is honest, and of every honest one what it has said."""

    validators: ValidatorSet
    genesis_hash: Hash
    liars: frozenset[int]  # By place in the set.
    timing: Timing
    chain: dict[int, Hash] = field(default_factory=dict)
    accused: dict[int, int] = field(default_factory=dict)  # Each liar that was accused, with the last height.
    evidence: int = 0
    views_max: int = 0
    _votes: dict[tuple[int, int, int, Phase], Hash] = field(default_factory=dict)
    _rounds: dict[int, dict[tuple[int, Phase, Hash], set[int]]] = field(default_factory=dict)  # By height.
    # By height and view: who has asked for it, with the view of its lock, or -1 for none.
    _asked_for: dict[tuple[int, int], dict[int, int]] = field(default_factory=dict)
    _asked_at: dict[tuple[int, int, int], int] = field(default_factory=dict)
    _began: dict[tuple[int, int], int] = field(default_factory=dict)  # When each began each height.
    _left: dict[tuple[int, int], int] = field(default_factory=dict)  # The highest view asked for.
    _committed: dict[tuple[int, int], int] = field(default_factory=dict)  # The highest view of a commit.

    def said(self, voter: int, message: Message, log: bytes, head: int) -> None:
        """[P4, P5, P6, P8, P12] An honest validator sends something of its own, with this in its log for certain."""
        match message:
            case Vote():
                self._voted(voter, message.height, message.view, message.phase, message.digest, log, head)
            case PrePrepare():
                if message.new_view is not None:
                    what = f"validator {voter}'s proposal at height {message.height}, view {message.view}"
                    self._check_certificate(what, message.new_view.lock)
                self._voted(voter, message.height, message.view, Phase.PREPARE, message.digest, log, head)
            case ViewChange():
                self._asked(voter, message.height, message.view, message.lock, log)
            case _:
                pass

    def _voted(self, voter: int, height: int, view: int, phase: Phase, digest: Hash, log: bytes, head: int) -> None:
        what = f"validator {voter}'s {phase.name} at height {height}, view {view}"
        known = self._votes.setdefault((voter, height, view, phase), digest)
        expect(known == digest, f"{what} contradicts itself: {known.hex()} and {digest.hex()}")
        expect(view >= self._left.get((voter, height), 0), f"{what} is of a view that it has left")
        numbers = height.to_bytes(4, "little") + view.to_bytes(4, "little")
        # How the log's records begin: what is looked for is what a restart would have to find.
        record = b"\0" + numbers if phase is Phase.PREPARE else b"\1" + height.to_bytes(4, "little") + numbers
        expect(head >= height or record + digest in log, f"{what} is not durable")
        rounds = self._rounds.setdefault(height, {})
        if phase is Phase.PREPARE and view > 0:
            self._check_new_view(what, height, view, digest)
        rounds.setdefault((view, phase, digest), set()).add(voter)
        self._check_lock(what, rounds, view, phase, digest)
        if phase is Phase.COMMIT:
            self._committed[voter, height] = max(view, self._committed.get((voter, height), 0))
        self.views_max = max(self.views_max, view)

    def _check_new_view(self, what: str, height: int, view: int, digest: Hash) -> None:
        """[P11] A view begins with a quorum that asked for it, and with the highest lock among them, if there is one.

        Of the quorum all but the liars are honest, and the liars may say what they like: so the least that the others
        can have been locked on is what those with the lowest locks were.
        """
        locks = sorted(self._asked_for.get((height, view), {}).values())
        needed = self.validators.quorum - len(self.liars)
        expect(len(locks) >= needed, f"{what} has no quorum behind it")
        least = locks[needed - 1]
        rounds = self._rounds.get(height, {})
        expect(
            least < 0
            or any(
                (phase, other) == (Phase.PREPARE, digest) and least <= earlier < view and self._may_be_quorum(voters)
                for (earlier, phase, other), voters in rounds.items()
            ),
            f"{what} is for a block that nobody was locked on, while others were in view {least}",
        )

    def _check_certificate(self, what: str, lock: Certificate | None) -> None:
        """[P10] Honest validators tell of locks only that a quorum prepared."""
        if lock is not None:
            voters = read_bitmap(lock.voters, self.validators.n)
            expect(len(voters) >= self.validators.quorum, f"{what} has a lock of too few: {voters}")
            for member in voters:
                self._cast(member, lock.height, lock.view, Phase.PREPARE, lock.digest, f"the lock of {what}")

    def _check_reason(self, what: str, voter: int, height: int, view: int) -> None:
        """[P13, P14] A view is left because its time is over, or because somebody honest is further."""
        now = now_ms()
        if (voter, height, view) in self._asked_at:
            return
        self._asked_at[voter, height, view] = now
        others = (other for other in range(self.validators.n) if other not in self.liars and other != voter)
        if any(self._left.get((other, height), 0) >= view for other in others):
            return
        began = self._began.get((voter, height)) if view == 1 else self._asked_at.get((voter, height, view - 1))
        given = timeout_ms(self.timing, view - 1)
        expect(began is None or now >= began + given, f"{what} comes {now - (began or 0)} ms after it began")

    def _check_lock(
        self, what: str, rounds: dict[tuple[int, Phase, Hash], set[int]], view: int, phase: Phase, digest: Hash
    ) -> None:
        """[P1] The lemma: once a block may be decided in a view, nobody honest prepares another in a later one."""
        for (other_view, other_phase, other), voters in rounds.items():
            if other == digest or other_phase is phase:
                continue
            if phase is Phase.PREPARE and other_view < view and self._may_be_quorum(voters):
                raise Violation(f"{what} for {digest.hex()}, while view {other_view} may decide {other.hex()}")
            mine = rounds[view, phase, digest]
            if phase is Phase.COMMIT and view < other_view and self._may_be_quorum(mine):
                raise Violation(f"{what} for {digest.hex()}, while view {other_view} prepares {other.hex()}")

    def _may_be_quorum(self, honest: set[int]) -> bool:
        return len(honest) + len(self.liars) >= self.validators.quorum

    def _asked(self, voter: int, height: int, view: int, lock: Certificate | None, log: bytes) -> None:
        what = f"validator {voter}'s view change at height {height} to view {view}"
        self._asked_for.setdefault((height, view), {})[voter] = -1 if lock is None else lock.view
        self._left[voter, height] = max(view, self._left.get((voter, height), 0))
        committed = self._committed.get((voter, height))
        if committed is not None and view > committed:
            expect(lock is not None and lock.view >= committed, f"{what} does not tell of its lock in view {committed}")
        self._check_certificate(what, lock)
        self._check_reason(what, voter, height, view)
        record = b"\2" + height.to_bytes(4, "little") + view.to_bytes(4, "little")
        expect(record in log, f"{what} is not durable")

    def _cast(self, voter: int, height: int, view: int, phase: Phase, digest: Hash, where: str) -> None:
        """[P3] What has an honest validator's name is what it signed."""
        said = self._votes.get((voter, height, view, phase))
        expect(voter in self.liars or said == digest, f"{where} has a {phase.name} that validator {voter} never cast")

    def committed(self, who: int, sealed: SealedBlock) -> None:
        """[P1, P9] An honest validator takes a block as final."""
        seal, block_hash = sealed.seal, sealed.block.hash
        height = sealed.block.header.height
        expect(
            (seal.height, seal.block_hash) == (height, block_hash)
            and verify_seal(self.validators, self.genesis_hash, seal),
            f"validator {who} took block {height} with a seal that does not prove it",
        )
        for voter in seal.voter_indices(self.validators.n):
            self._cast(voter, height, seal.view, Phase.COMMIT, block_hash, f"the seal of block {height} at {who}")
        self._began[who, height + 1] = now_ms()
        known = self.chain.setdefault(height, block_hash)
        expect(known == block_hash, f"two blocks at height {height}: {known.hex()}, and {block_hash.hex()} at {who}")

    def equivocated(self, who: int, evidence: Equivocation) -> None:
        """[P16] An honest validator accuses another: of something that it did, and with proof."""
        one, two = evidence.first, evidence.second
        what = f"validator {who} accuses {one.voter} at height {one.height}"
        expect(one.voter in self.liars, f"{what}, who is honest")
        verifier = Verifier(self.genesis_hash, self.validators)
        same = (one.voter, one.height, one.view, one.phase) == (two.voter, two.height, two.view, two.phase)
        expect(
            same and one.digest != two.digest and verifier.vote(one) and verifier.vote(two),
            f"{what} without proof: {evidence}",
        )
        self.evidence += 1
        self.accused[one.voter] = max(one.height, self.accused.get(one.voter, 0))

    def blamed(self, who: int, other: int | None, reason: str) -> None:
        """[P16] An honest node holds something against a peer, or finds its own proposal invalid."""
        expect(other in self.liars, f"validator {who} blames {other}, who is honest: {reason}")
