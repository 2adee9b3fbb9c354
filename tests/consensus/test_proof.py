"""Signatures: what the verifier believes, and each single thing that makes it stop believing."""

from dataclasses import replace

import pytest

from chain.primitives import bls
from chain.primitives.seal import Phase, bitmap, verify_seal
from consensus.messages import Certificate, NewView, PrePrepare, Support, ViewChange, Vote, lock_of
from consensus.proof import Verifier
from tests.consensus.network import GENESIS, secret, validator_set

SET = validator_set(4)
DIGEST, OTHER = b"\x11" * 32, b"\x22" * 32


@pytest.fixture
def verifier() -> Verifier:
    return Verifier(GENESIS, SET)


def vote(voter: int, phase: Phase = Phase.PREPARE, view: int = 0, digest: bytes = DIGEST) -> Vote:
    message = Verifier(GENESIS, SET).vote_message(9, view, phase, digest)
    return Vote(9, view, phase, digest, voter, bls.sign(secret(voter), message))


def certificate(phase: Phase = Phase.PREPARE, voters: tuple[int, ...] = (0, 1, 3), view: int = 0) -> Certificate:
    votes = {voter: vote(voter, phase, view).signature for voter in voters}
    found = Verifier(GENESIS, SET).certify(vote(voters[0], phase, view), votes)
    assert found is not None
    return found


def change(voter: int, view: int = 1, lock: Certificate | None = None) -> ViewChange:
    message = Verifier(GENESIS, SET).change_message(9, view, lock)
    return ViewChange(9, view, voter, lock, bls.sign(secret(voter), message))


def test_p3_a_vote_is_genuine_only_as_it_was_signed(verifier: Verifier) -> None:
    genuine = vote(2)
    assert verifier.vote(genuine)
    for changed in (
        replace(genuine, height=10),
        replace(genuine, view=1),
        replace(genuine, phase=Phase.COMMIT),
        replace(genuine, digest=OTHER),
        replace(genuine, voter=1),
        replace(genuine, voter=4),
        replace(genuine, voter=65535),
        replace(genuine, signature=bytes(96)),
    ):
        assert not verifier.vote(changed)
    assert not Verifier(bytes(32), SET).vote(genuine)
    assert not Verifier(GENESIS, validator_set(4, set_id=1)).vote(genuine)


def test_p9_a_quorum_of_commits_is_the_seal() -> None:
    seal = certificate(Phase.COMMIT).seal(0)
    assert verify_seal(SET, GENESIS, seal)
    assert seal.voter_indices(4) == [0, 1, 3]
    assert not verify_seal(SET, GENESIS, certificate(Phase.PREPARE).seal(0))


def test_p20_late_commits_make_a_seal_fuller_and_forged_ones_make_none(verifier: Verifier) -> None:
    quorum, late = certificate(Phase.COMMIT), vote(2, Phase.COMMIT).signature
    full = verifier.seal(quorum, {2: late})
    assert full is not None
    assert full.voter_indices(4) == [0, 1, 2, 3]
    assert verify_seal(SET, GENESIS, full)
    assert verifier.seal(quorum, {}) == quorum.seal(0)
    for forged in (vote(2).signature, vote(3, Phase.COMMIT).signature, bytes(96), b"\xff" * 96):
        assert verifier.seal(quorum, {2: forged}) is None


def test_p16_one_bad_signature_spoils_the_aggregate(verifier: Verifier) -> None:
    good = {voter: vote(voter).signature for voter in (0, 1)}
    for bad in (vote(3, view=1).signature, bytes(96), b"\xc0" + bytes(95)):
        assert verifier.certify(vote(0), good | {3: bad}) is None


def test_p2_a_prepared_certificate_needs_a_quorum_and_a_canonical_bitmap(verifier: Verifier) -> None:
    genuine = certificate()
    assert verifier.prepared(genuine)
    assert verifier.prepared(genuine)  # From memory, this time.
    few = {voter: vote(voter).signature for voter in (0, 1)}
    two = verifier.certify(vote(0), few)
    assert two is not None
    assert not verifier.prepared(two)
    for changed in (
        replace(genuine, view=1),
        replace(genuine, height=8),
        replace(genuine, digest=OTHER),
        replace(genuine, voters=bitmap((0, 1, 2), 4)),
        replace(genuine, voters=genuine.voters + b"\0"),
        replace(genuine, voters=bytes((genuine.voters[0] | 0x10,))),
        replace(genuine, signature=certificate(Phase.COMMIT).signature),
    ):
        assert not verifier.prepared(changed)


def test_p11_a_view_change_is_genuine_with_the_lock_that_it_shows(verifier: Verifier) -> None:
    lock = certificate()
    assert verifier.change(change(2))
    assert verifier.change(change(2, 1, lock))
    commits = certificate(Phase.COMMIT)
    for forged in (
        replace(change(2), lock=lock),
        replace(change(2, 1, lock), lock=None),
        replace(change(2), view=2),
        replace(change(2), voter=3),
        change(2, 0),
        change(2, 1, commits),
        change(2, 1, certificate(view=1)),
        change(2, 1, replace(lock, height=8)),
    ):
        assert not verifier.change(forged)


def test_p11_a_proposal_is_as_genuine_as_its_proof(verifier: Verifier) -> None:
    lock = certificate()
    changes = (change(0, 1, lock), change(1, 1), change(3, 1))
    supports = tuple(Support(c.voter, lock_of(c.lock), c.signature) for c in changes)
    proof = NewView(supports, lock)
    primary = SET.primary_index(9, 1)
    proposal = PrePrepare(9, 1, DIGEST, vote(primary, view=1).signature, b"", proof)
    assert verifier.proposal(proposal, authentic=False)
    unsigned = replace(proposal, signature=bytes(96))
    assert not verifier.proposal(unsigned, authentic=False)
    assert verifier.proposal(unsigned, authentic=True)
    claim = replace(supports[1], lock=supports[0].lock)
    for forged in (
        replace(proof, lock=certificate(Phase.COMMIT)),
        replace(proof, changes=(supports[0], claim, supports[2])),
        replace(proof, changes=(*supports[:2], replace(supports[2], voter=2))),
        replace(proof, changes=(*supports[:2], replace(supports[2], voter=4))),
        replace(proof, changes=(*supports[:2], replace(supports[2], signature=bytes(96)))),
        replace(proof, changes=supports * 2),
    ):
        assert not verifier.proposal(replace(proposal, new_view=forged), authentic=True)
