"""The tally: when there is a quorum, who contradicts whom, and that nobody fills it."""

from chain.primitives.seal import Phase
from consensus.messages import Vote
from consensus.tally import PLACES_PER_VALIDATOR, Equivocation, Subject, Tally, subject_of
from tests.consensus.kit import SIGNATURE, validator_set

DIGEST, OTHER = b"\x11" * 32, b"\x22" * 32


def vote(voter: int, digest: bytes = DIGEST, view: int = 0, phase: Phase = Phase.PREPARE) -> Vote:
    return Vote(1, view, phase, digest, voter, SIGNATURE)


def test_p2_votes_are_ready_at_a_quorum_and_once() -> None:
    for n, quorum in ((1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (7, 5), (8, 6)):
        tally = Tally(validator_set(n))
        for voter in range(quorum):
            assert tally.ready(subject_of(vote(0))) is None
            tally.add(vote(voter))
            tally.add(vote(voter))
        assert set(tally.ready(subject_of(vote(0))) or ()) == set(range(quorum))
        tally.certified(subject_of(vote(0)))
        assert tally.ready(subject_of(vote(0))) is None
        assert tally.knows(vote(n - 1))


def test_p20_a_commit_counts_still_when_there_are_enough() -> None:
    tally = Tally(validator_set(4))
    commits = [vote(voter, phase=Phase.COMMIT) for voter in range(4)]
    for early in commits[:3]:
        tally.add(early)
    tally.certified(subject_of(commits[0]))
    assert not tally.knows(commits[3])
    tally.add(commits[3])
    assert tally.knows(commits[3])
    assert tally.ready(subject_of(commits[0])) is None
    assert list(tally.votes(subject_of(commits[0])).values()) == commits


def test_votes_for_other_digests_views_and_phases_do_not_add_up() -> None:
    tally = Tally(validator_set(4))
    for other in (vote(0), vote(1, OTHER), vote(2, view=1), vote(3, phase=Phase.COMMIT)):
        tally.add(other)
        assert tally.ready(subject_of(other)) is None
    assert tally.voters(0, Phase.PREPARE) == {0, 1}
    assert tally.voters_for(DIGEST) == {0, 2, 3}


def test_p16_two_votes_in_one_phase_of_one_view_are_a_contradiction() -> None:
    tally = Tally(validator_set(4))
    assert tally.add(vote(0)) is None
    assert tally.add(vote(0, view=1)) is None
    assert tally.add(vote(0, phase=Phase.COMMIT)) is None
    assert tally.add(vote(0, OTHER)) == Equivocation(0, vote(0), vote(0, OTHER))


def test_a_vote_that_was_taken_back_may_come_again() -> None:
    tally = Tally(validator_set(4))
    for voter in range(3):
        tally.add(vote(voter))
    tally.remove(subject_of(vote(1)), 1)
    assert tally.ready(subject_of(vote(1))) is None
    assert not tally.knows(vote(1))
    tally.add(vote(1))
    assert tally.ready(subject_of(vote(1))) is not None


def test_a_validator_gives_up_its_lowest_view_when_its_places_are_taken() -> None:
    tally = Tally(validator_set(4))
    for view in range(1, 1000):
        tally.add(vote(0, view=view))
    kept = [view for view in range(1000) if tally.knows(vote(0, view=view))]
    assert kept == list(range(1000 - PLACES_PER_VALIDATOR, 1000))
    tally.add(vote(0, view=0))
    assert not tally.knows(vote(0, view=0))
    assert Subject(1, Phase.PREPARE, DIGEST) not in tally._votes
