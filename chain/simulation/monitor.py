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


@dataclass(frozen=True, slots=True)
class Deciders:
    """Who decides a height: a set, the member behind each place in it, and how many of them lie."""

    validators: ValidatorSet
    members: tuple[int, ...]
    honest: tuple[int, ...]

    def may_be_quorum(self, honest: set[int]) -> bool:
        """Whether these, with all liars, are enough."""
        return len(honest) + self.validators.n - len(self.honest) >= self.validators.quorum


@dataclass(slots=True)
class Monitor:
    """Knows of every member whether it is honest, and of every honest one what it has said.

    A member is a key, by its number: it has a place in some of the sets, and another one in each.
    """

    keys: dict[bytes, int]  # Every member's.
    genesis_hash: Hash
    liars: frozenset[int]
    timing: Timing
    chain: dict[int, Hash] = field(default_factory=dict)
    accused: dict[int, set[int]] = field(default_factory=dict)  # Each liar that was accused, with the heights.
    _deciders: dict[int, Deciders] = field(default_factory=dict)  # By height.
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

    def decides(self, who: int, height: int, validators: ValidatorSet) -> None:
        """[P22] An honest validator has the block before a height, and with it knows who decides this one."""
        known = self._deciders.get(height)
        if known is None:
            before = self._deciders.get(height - 1)
            self._deciders[height] = (
                before if before is not None and before.validators == validators else self._of(validators)
            )
        else:
            expect(
                known.validators == validators,
                f"height {height} is decided by set {known.validators.set_id}, and at {who} by {validators.set_id}",
            )

    def has_voted(self, member: int, height: int) -> bool:
        """Whether an honest member has committed to a block."""
        return (member, height) in self._committed

    def deciders(self, height: int) -> Deciders:
        """Who decides a height whose parent an honest validator has."""
        return self._deciders[height]

    @property
    def set_changes(self) -> int:
        """How often the set has changed so far."""
        numbers = [deciders.validators.set_id for deciders in self._deciders.values()]
        return max(numbers) - min(numbers)

    def _of(self, validators: ValidatorSet) -> Deciders:
        members = tuple(self.keys[authority.bls_key] for authority in validators.authorities)
        return Deciders(validators, members, tuple(member for member in members if member not in self.liars))

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
        deciders = self._deciders[height]
        expect(voter in deciders.members, f"{what} is of one who is not in the set")
        if phase is Phase.PREPARE and view > 0:
            self._check_new_view(what, deciders, height, view, digest)
        rounds.setdefault((view, phase, digest), set()).add(voter)
        self._check_lock(what, deciders, rounds, view, phase, digest)
        if phase is Phase.COMMIT:
            self._committed[voter, height] = max(view, self._committed.get((voter, height), 0))
        self.views_max = max(self.views_max, view)

    def _check_new_view(self, what: str, deciders: Deciders, height: int, view: int, digest: Hash) -> None:
        """[P11] A view begins with a quorum that asked for it, and with the highest lock among them, if there is one.

        Of the quorum all but the liars are honest, and the liars may say what they like: so the least that the others
        can have been locked on is what those with the lowest locks were.
        """
        locks = sorted(self._asked_for.get((height, view), {}).values())
        needed = deciders.validators.quorum - (deciders.validators.n - len(deciders.honest))
        expect(len(locks) >= needed, f"{what} has no quorum behind it")
        least = locks[needed - 1]
        rounds = self._rounds.get(height, {})
        expect(
            least < 0
            or any(
                (phase, other) == (Phase.PREPARE, digest) and least <= earlier < view and deciders.may_be_quorum(voters)
                for (earlier, phase, other), voters in rounds.items()
            ),
            f"{what} is for a block that nobody was locked on, while others were in view {least}",
        )

    def _check_certificate(self, what: str, lock: Certificate | None) -> None:
        """[P10] Honest validators tell of locks only that a quorum prepared."""
        if lock is not None:
            deciders = self._deciders[lock.height]
            voters = read_bitmap(lock.voters, deciders.validators.n)
            expect(len(voters) >= deciders.validators.quorum, f"{what} has a lock of too few: {voters}")
            for index in voters:
                self._cast(
                    deciders.members[index], lock.height, lock.view, Phase.PREPARE, lock.digest, f"the lock of {what}"
                )

    def _check_reason(self, what: str, voter: int, height: int, view: int) -> None:
        """[P13, P14] A view is left because its time is over, or because somebody honest is further."""
        now = now_ms()
        if (voter, height, view) in self._asked_at:
            return
        self._asked_at[voter, height, view] = now
        others = (other for other in self._deciders[height].honest if other != voter)
        if any(self._left.get((other, height), 0) >= view for other in others):
            return
        began = self._began.get((voter, height)) if view == 1 else self._asked_at.get((voter, height, view - 1))
        given = timeout_ms(self.timing, view - 1)
        expect(began is None or now >= began + given, f"{what} comes {now - (began or 0)} ms after it began")

    def _check_lock(
        self,
        what: str,
        deciders: Deciders,
        rounds: dict[tuple[int, Phase, Hash], set[int]],
        view: int,
        phase: Phase,
        digest: Hash,
    ) -> None:
        """[P1] The lemma: once a block may be decided in a view, nobody honest prepares another in a later one."""
        for (other_view, other_phase, other), voters in rounds.items():
            if other == digest or other_phase is phase:
                continue
            if phase is Phase.PREPARE and other_view < view and deciders.may_be_quorum(voters):
                raise Violation(f"{what} for {digest.hex()}, while view {other_view} may decide {other.hex()}")
            mine = rounds[view, phase, digest]
            if phase is Phase.COMMIT and view < other_view and deciders.may_be_quorum(mine):
                raise Violation(f"{what} for {digest.hex()}, while view {other_view} prepares {other.hex()}")

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
        deciders = self._deciders[height]
        expect(
            (seal.height, seal.block_hash) == (height, block_hash)
            and verify_seal(deciders.validators, self.genesis_hash, seal),
            f"validator {who} took block {height} with a seal that does not prove it",
        )
        for index in seal.voter_indices(deciders.validators.n):
            self._cast(
                deciders.members[index],
                height,
                seal.view,
                Phase.COMMIT,
                block_hash,
                f"the seal of block {height} at {who}",
            )
        self._began[who, height + 1] = now_ms()
        known = self.chain.setdefault(height, block_hash)
        expect(known == block_hash, f"two blocks at height {height}: {known.hex()}, and {block_hash.hex()} at {who}")

    def equivocated(self, who: int, evidence: Equivocation) -> None:
        """[P16] An honest validator accuses another: of something that it did, and with proof."""
        one, two = evidence.first, evidence.second
        deciders = self._deciders[one.height]
        accused = deciders.members[one.voter]
        what = f"validator {who} accuses {accused} at height {one.height}"
        expect(accused in self.liars, f"{what}, who is honest")
        expect(evidence.set_id == deciders.validators.set_id, f"{what} of a vote in set {evidence.set_id}")
        verifier = Verifier(self.genesis_hash, deciders.validators)
        same = (one.voter, one.height, one.view, one.phase) == (two.voter, two.height, two.view, two.phase)
        expect(
            same and one.digest != two.digest and verifier.vote(one) and verifier.vote(two),
            f"{what} without proof: {evidence}",
        )
        self.evidence += 1
        self.accused.setdefault(accused, set()).add(one.height)

    def blamed(self, who: int, other: int | None, reason: str) -> None:
        """[P16] An honest node holds something against a peer, or finds its own proposal invalid."""
        expect(other in self.liars, f"validator {who} blames {other}, who is honest: {reason}")
