"""Votes of one height, counted by what they are for; a quorum is verified as one, so most are never verified alone.

Bounded: a validator has a fixed number of places, and gives up that of its lowest view for a new one.
"""

from dataclasses import dataclass
from typing import Final

from chain.primitives.offence import DoubleVote, SignedDigest
from chain.primitives.seal import Phase, ValidatorSet
from consensus.messages import Vote

# Two phases of the view that is decided in, and of the few that a validator may have left behind.
PLACES_PER_VALIDATOR: Final = 12


@dataclass(frozen=True, slots=True)
class Subject:
    """What a vote is for."""

    view: int
    phase: Phase
    digest: bytes


def subject_of(vote: Vote) -> Subject:
    return Subject(vote.view, vote.phase, vote.digest)


@dataclass(frozen=True, slots=True)
class Equivocation:
    """[P26] Two different votes by one validator of a set in one phase of one view: nobody honest casts them."""

    set_id: int
    first: Vote
    second: Vote

    def evidence(self) -> DoubleVote:
        """Return what proves it to anybody."""
        first, second = sorted((self.first, self.second), key=lambda vote: vote.digest)
        return DoubleVote(
            self.set_id,
            first.height,
            first.view,
            first.phase,
            first.voter,
            SignedDigest(first.digest, first.signature),
            SignedDigest(second.digest, second.signature),
        )


class Tally:
    """Signatures by subject and voter."""

    def __init__(self, validators: ValidatorSet) -> None:
        self._quorum = validators.quorum
        self._set_id = validators.set_id
        self._votes: dict[Subject, dict[int, Vote]] = {}
        self._by_voter: dict[int, dict[Subject, bytes | None]] = {}  # Who brought each vote; None: this node itself.
        self._certified: set[Subject] = set()

    def add(self, vote: Vote, bringer: bytes | None = None) -> Equivocation | None:
        """Count a vote; return the contradiction when the voter has cast another in this phase of this view."""
        subject = subject_of(vote)
        places = self._by_voter.setdefault(vote.voter, {})
        if subject in places:
            return None
        rival = next((s for s in places if (s.view, s.phase) == (subject.view, subject.phase)), None)
        found = None if rival is None else Equivocation(self._set_id, self._votes[rival][vote.voter], vote)
        if len(places) >= PLACES_PER_VALIDATOR:
            lowest = min(places, key=lambda s: s.view)
            if lowest.view > subject.view:
                return found
            self.remove(lowest, vote.voter)
        places[subject] = bringer
        self._votes.setdefault(subject, {})[vote.voter] = vote
        return found

    def remove(self, subject: Subject, voter: int) -> bytes | None:
        """Forget a vote; return the peer that brought it."""
        bringer = self._by_voter.get(voter, {}).pop(subject, None)
        votes = self._votes.get(subject, {})
        votes.pop(voter, None)
        if not votes:
            self._votes.pop(subject, None)
        return bringer

    def ready(self, subject: Subject) -> dict[int, Vote] | None:
        """Return the votes to certify, if there are enough and this was not done yet."""
        votes = self._votes.get(subject, {})
        return dict(votes) if len(votes) >= self._quorum and subject not in self._certified else None

    def certified(self, subject: Subject) -> None:
        """Note that the subject has its certificate."""
        self._certified.add(subject)

    def votes(self, subject: Subject) -> dict[int, Vote]:
        """Return the votes for a subject, by voter."""
        return dict(self._votes.get(subject, {}))

    def voters(self, view: int, phase: Phase) -> set[int]:
        """Return who has been heard to vote in a phase of a view, for whatever digest."""
        return {voter for s, votes in self._votes.items() if (s.view, s.phase) == (view, phase) for voter in votes}

    def voters_for(self, digest: bytes) -> set[int]:
        """Return who has voted for a digest in any phase and view."""
        return {voter for s, votes in self._votes.items() if s.digest == digest for voter in votes}

    def knows(self, vote: Vote) -> bool:
        """Say whether this voter's vote on this subject is counted already, or no longer matters.

        [P20] A commit matters still when there are enough.
        """
        subject = subject_of(vote)
        enough = vote.phase is Phase.PREPARE and subject in self._certified
        return enough or subject in self._by_voter.get(vote.voter, ())
