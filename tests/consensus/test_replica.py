"""The replica by its rules (consensus/SPEC.md), one script each: events in, the exact effects out."""

import pytest

from chain.primitives.hashing import blake2_256
from chain.primitives.seal import Phase, bitmap
from consensus import events as e
from consensus.host import Timing
from consensus.messages import Certificate, NewView, Support, ViewChange, lock_of
from consensus.records import Accepted, Changing, Locked, Record
from consensus.replica import Replica
from tests.consensus.kit import SIGNATURE, validator_set

TIMING = Timing(block_time_ms=1000, timeout_ms=2000, timeout_ms_max=5000, resend_ms=500)
HEIGHT = 4  # Its primary in view 0 is validator 0, in view 1 validator 1, ...
GOOD, OTHER = b"good payload", b"other payload"
DIGEST, OTHER_DIGEST = blake2_256(GOOD), blake2_256(OTHER)


def replica(me: int, records: tuple[Record, ...] = (), n: int = 4) -> Replica:
    return Replica(TIMING, HEIGHT, validator_set(n), me, records)


def certificate(view: int, digest: bytes = DIGEST) -> Certificate:
    return Certificate(HEIGHT, view, digest, bitmap((0, 1, 2), 4), SIGNATURE)


def change(voter: int, view: int, lock: Certificate | None = None) -> ViewChange:
    return ViewChange(HEIGHT, view, voter, lock, SIGNATURE)


def new_view(*changes: ViewChange, lock: Certificate | None = None) -> NewView:
    return NewView(tuple(Support(c.voter, lock_of(c.lock), c.signature) for c in changes), lock)


def proposal(view: int = 0, payload: bytes = GOOD, proof: NewView | None = None) -> e.Proposed:
    return e.Proposed(HEIGHT, view, blake2_256(payload), payload, proof)


def checked(payload: bytes = GOOD, valid: bool = True) -> e.Checked:
    return e.Checked(HEIGHT, blake2_256(payload), payload, valid)


def prepare(view: int, digest: bytes = DIGEST) -> e.CastVote:
    return e.CastVote(HEIGHT, view, Phase.PREPARE, digest)


def commit(view: int, digest: bytes = DIGEST) -> e.CastVote:
    return e.CastVote(HEIGHT, view, Phase.COMMIT, digest)


def steps(of: Replica, *events: e.Event) -> list[e.Effect]:
    return [effect for event in events for effect in of.step(event)]


def locked_backup(me: int = 2) -> Replica:
    backup = replica(me)
    steps(backup, e.Started(), proposal(), checked(), e.Prepared(certificate(0)))
    assert backup.lock == certificate(0)
    return backup


def test_a_backup_goes_through_the_normal_case() -> None:
    backup = replica(2)
    assert backup.step(e.Started()) == [e.SetTimer(HEIGHT, 0, 3000)]
    assert backup.step(proposal()) == [e.Check(HEIGHT, 0, DIGEST, GOOD, decided=False)]
    assert backup.step(checked()) == [e.Persist(Accepted(HEIGHT, 0, DIGEST, GOOD, None)), prepare(0)]
    assert backup.step(e.Prepared(certificate(0))) == [e.Persist(Locked(HEIGHT, certificate(0))), commit(0)]
    assert backup.step(e.Committed(certificate(0))) == [e.StopTimer(), e.Decide(certificate(0), GOOD)]


def test_a_primary_builds_records_and_proposes() -> None:
    primary = replica(0)
    assert primary.step(e.Started()) == [e.SetTimer(HEIGHT, 0, 3000), e.Build(HEIGHT, 0)]
    assert primary.step(e.Built(HEIGHT, 0, DIGEST, GOOD)) == [
        e.Persist(Accepted(HEIGHT, 0, DIGEST, GOOD, None)),
        e.Propose(HEIGHT, 0, DIGEST, GOOD, None),
    ]


def test_p5_a_restart_takes_up_each_vote_where_the_log_ends() -> None:
    accepted, locked = Accepted(HEIGHT, 0, DIGEST, GOOD, None), Locked(HEIGHT, certificate(0))
    changing = Changing(HEIGHT, 1)
    assert replica(2, (accepted,)).step(e.Started()) == [e.SetTimer(HEIGHT, 0, 3000), prepare(0)]
    assert replica(2, (accepted, locked)).step(e.Started()) == [e.SetTimer(HEIGHT, 0, 3000), prepare(0), commit(0)]
    assert replica(2, (accepted, locked, changing)).step(e.Started()) == [e.CastViewChange(HEIGHT, 1, certificate(0))]
    assert replica(0, (accepted,)).step(e.Started()) == [
        e.SetTimer(HEIGHT, 0, 3000),
        e.Propose(HEIGHT, 0, DIGEST, None, None),
    ]


def test_p5_a_restarted_replica_prepares_nothing_else_in_its_view() -> None:
    backup = replica(2, (Accepted(HEIGHT, 0, DIGEST, GOOD, None),))
    backup.step(e.Started())
    assert steps(backup, proposal(payload=OTHER), checked(OTHER)) == []


def test_p6_a_second_proposal_in_a_view_is_ignored() -> None:
    backup = replica(2)
    steps(backup, e.Started(), proposal())
    assert backup.step(proposal(payload=OTHER)) == []
    assert backup.step(checked(OTHER)) == []
    backup.step(checked())
    assert backup.step(proposal(payload=OTHER)) == []


def test_p7_a_payload_that_the_host_refuses_gets_no_vote_and_leaves_the_view_open() -> None:
    backup = replica(2)
    swapped = e.Proposed(HEIGHT, 0, DIGEST, OTHER, None)
    assert steps(backup, e.Started(), swapped)[-1] == e.Check(HEIGHT, 0, DIGEST, OTHER, decided=False)
    assert backup.step(e.Checked(HEIGHT, DIGEST, OTHER, False)) == []
    assert steps(backup, proposal(), checked())[-1] == prepare(0)


def test_p8_prepares_that_come_before_the_proposal_count_when_it_has_come() -> None:
    backup = replica(2)
    assert steps(backup, e.Started(), e.Prepared(certificate(0)))[1:] == []
    assert steps(backup, proposal(), checked())[-2:] == [e.Persist(Locked(HEIGHT, certificate(0))), commit(0)]


def test_p8_prepares_for_another_digest_than_the_one_prepared_do_not_lock() -> None:
    backup = replica(2)
    steps(backup, e.Started(), proposal(), checked())
    assert backup.step(e.Prepared(certificate(0, OTHER_DIGEST))) == []


@pytest.mark.parametrize("view", [0, 3])
def test_p9_commits_decide_in_whatever_view_once_the_payload_is_there(view: int) -> None:
    backup = replica(2)
    backup.step(e.Started())
    assert backup.step(e.Committed(certificate(view))) == [e.RequestPayload(HEIGHT, DIGEST)]
    assert backup.step(e.ResendDue()) == [e.RequestPayload(HEIGHT, DIGEST)]
    assert backup.step(e.TimedOut(HEIGHT, 0)) == []
    assert backup.step(e.Fetched(HEIGHT, OTHER)) == [e.Check(HEIGHT, view, DIGEST, OTHER, decided=True)]
    assert backup.step(e.Checked(HEIGHT, DIGEST, OTHER, False)) == []
    assert backup.step(e.Fetched(HEIGHT, GOOD)) == [e.Check(HEIGHT, view, DIGEST, GOOD, decided=True)]
    assert backup.step(checked())[:2] == [e.StopTimer(), e.Decide(certificate(view), GOOD)]


@pytest.mark.parametrize("view", [0, 3])
def test_p20_a_backup_that_was_not_needed_casts_its_commit_after_the_decision(view: int) -> None:
    backup = replica(2)
    steps(backup, e.Started(), proposal(), checked())
    decision = [e.StopTimer(), e.Decide(certificate(view), GOOD)]
    assert backup.step(e.Committed(certificate(view))) == [*decision, commit(view)]


def test_p20_a_backup_that_has_left_the_view_that_decides_casts_no_commit_in_it() -> None:
    backup = replica(2)
    steps(backup, e.Started(), proposal(), checked(), e.TimedOut(HEIGHT, 0))
    assert backup.step(e.Committed(certificate(0))) == [e.StopTimer(), e.Decide(certificate(0), GOOD)]


def test_p20_who_only_follows_casts_nothing_after_a_decision() -> None:
    follower = Replica(TIMING, HEIGHT, validator_set(4), None)
    steps(follower, e.Started(), proposal(), checked())
    assert follower.step(e.Committed(certificate(0))) == [e.StopTimer(), e.Decide(certificate(0), GOOD)]


def test_p21_a_payload_that_is_decided_while_it_is_refused_is_checked_again_as_decided_and_once() -> None:
    backup = replica(2)
    steps(backup, e.Started(), proposal())
    assert backup.step(e.Committed(certificate(0))) == []
    assert backup.step(checked(valid=False)) == [e.Check(HEIGHT, 0, DIGEST, GOOD, decided=True)]
    assert backup.step(checked(valid=False)) == []


def test_p10_a_new_primary_proposes_the_highest_lock_again() -> None:
    primary = replica(3)
    steps(primary, e.Started(), e.TimedOut(HEIGHT, 0))
    low, high = certificate(0, OTHER_DIGEST), certificate(1)
    changes = [change(0, 3, low), change(1, 3), change(2, 3, high)]
    effects = steps(primary, *(e.Changed(c) for c in changes))
    assert e.RequestPayload(HEIGHT, DIGEST) in effects
    assert not any(isinstance(effect, e.Build) for effect in effects)
    proof = new_view(*changes, lock=high)
    assert steps(primary, e.Fetched(HEIGHT, GOOD), checked()) == [
        e.Check(HEIGHT, 3, DIGEST, GOOD, decided=False),
        e.SetTimer(HEIGHT, 3, 5000),
        e.Persist(Accepted(HEIGHT, 3, DIGEST, GOOD, proof)),
        e.Propose(HEIGHT, 3, DIGEST, GOOD, proof),
    ]


def test_p10_a_new_primary_builds_freely_when_nobody_is_locked() -> None:
    primary = replica(1)
    steps(primary, e.Started(), e.TimedOut(HEIGHT, 0))
    changes = [change(0, 1), change(1, 1), change(2, 1)]
    assert steps(primary, *(e.Changed(c) for c in changes)) == [e.SetTimer(HEIGHT, 1, 4000), e.Build(HEIGHT, 1)]
    # A check that ends meanwhile is no reason to build twice.
    assert primary.step(checked(OTHER)) == []
    assert primary.step(e.Built(HEIGHT, 1, DIGEST, GOOD))[-1] == e.Propose(HEIGHT, 1, DIGEST, GOOD, new_view(*changes))


FREE = (change(0, 2), change(1, 2), change(3, 2))
LOCKED = (change(0, 2, certificate(0)), change(1, 2, certificate(1)), change(3, 2))
UNJUSTIFIED = {
    "no proof": None,
    "too few": new_view(*FREE[:2]),
    "one of them twice": new_view(FREE[0], FREE[1], FREE[1]),
    "not a validator": new_view(FREE[0], FREE[1], change(4, 2)),
    "a lock that nobody claims": new_view(*FREE, lock=certificate(1)),
    "a claimed lock not shown": new_view(*LOCKED),
    "not the highest lock": new_view(*LOCKED, lock=certificate(0)),
    "another digest than the lock's": new_view(*LOCKED, lock=certificate(1, OTHER_DIGEST)),
    "a lock of this very view": new_view(FREE[0], FREE[1], change(3, 2, certificate(2)), lock=certificate(2)),
}


@pytest.mark.parametrize("proof", UNJUSTIFIED.values(), ids=UNJUSTIFIED)
def test_p11_a_proposal_without_a_sound_proof_is_ignored(proof: NewView | None) -> None:
    backup = replica(0)
    backup.step(e.Started())
    assert backup.step(proposal(2, proof=proof)) == []
    assert backup.view == 0


def test_p11_view_0_has_no_proof() -> None:
    backup = replica(2)
    backup.step(e.Started())
    assert backup.step(proposal(0, proof=new_view(*FREE))) == []


@pytest.mark.parametrize("proof", [new_view(*FREE), new_view(*LOCKED, lock=certificate(1))])
def test_p11_a_proposal_with_a_sound_proof_moves_a_replica_to_its_view(proof: NewView) -> None:
    backup = replica(0)
    backup.step(e.Started())
    assert steps(backup, proposal(2, proof=proof), checked()) == [
        e.SetTimer(HEIGHT, 2, 5000),
        e.Check(HEIGHT, 2, DIGEST, GOOD, decided=False),
        e.Persist(Accepted(HEIGHT, 2, DIGEST, GOOD, proof)),
        prepare(2),
    ]


def test_p11_a_hidden_lock_yields_to_a_quorum_that_does_not_know_it() -> None:
    alone = locked_backup()
    proof = new_view(change(0, 1), change(1, 1), change(3, 1))
    assert steps(alone, proposal(1, OTHER, proof), checked(OTHER))[-1] == prepare(1, OTHER_DIGEST)
    # Until it is prepared for something later, its lock stays, and goes with its next view change.
    assert alone.step(e.TimedOut(HEIGHT, 1))[-1] == e.CastViewChange(HEIGHT, 2, certificate(0))


def test_p12_nothing_of_a_view_that_was_left_moves_a_replica() -> None:
    backup = replica(2)
    steps(backup, e.Started(), proposal())
    assert backup.step(e.TimedOut(HEIGHT, 0)) == [
        e.Persist(Changing(HEIGHT, 1)),
        e.StopTimer(),
        e.CastViewChange(HEIGHT, 1, None),
    ]
    assert steps(backup, checked(), proposal(), e.Prepared(certificate(0)), e.TimedOut(HEIGHT, 0)) == []


def test_p13_a_replica_joins_the_view_that_f_plus_1_have_reached() -> None:
    backup = replica(0)
    backup.step(e.Started())
    assert backup.step(e.Changed(change(2, 5))) == []
    assert backup.step(e.Changed(change(3, 3))) == [
        e.Persist(Changing(HEIGHT, 3)),
        e.StopTimer(),
        e.CastViewChange(HEIGHT, 3, None),
        e.SetTimer(HEIGHT, 3, 5000),  # Three of four are at view 3 or above.
    ]


def test_p13_f_liars_move_nobody() -> None:
    backup = replica(0, n=7)
    backup.step(e.Started())
    assert steps(backup, e.Changed(change(5, 1000)), e.Changed(change(6, 2**32 - 1))) == []


def test_p14_a_lone_replica_waits_in_its_view_without_a_timer() -> None:
    backup = replica(2)
    steps(backup, e.Started(), e.TimedOut(HEIGHT, 0))
    assert backup.step(e.TimedOut(HEIGHT, 1)) == []
    assert backup.step(e.ResendDue()) == [e.CastViewChange(HEIGHT, 1, None)]


def test_p14_those_who_went_further_count_for_the_timer_of_a_view() -> None:
    # Validator 0 is at view 5, 1 and 2 are at view 4, and 3 is silent: without the timer nobody would ever move.
    backup = replica(2, (Changing(HEIGHT, 4),))
    steps(backup, e.Started(), e.Changed(change(2, 4)), e.Changed(change(1, 4)))
    assert backup.step(e.Changed(change(0, 5))) == [e.SetTimer(HEIGHT, 4, 5000)]
    assert backup.step(e.TimedOut(HEIGHT, 4))[-1] == e.CastViewChange(HEIGHT, 5, None)


def test_p15_timeouts_double_up_to_the_cap() -> None:
    waits = []
    for view in (1, 2, 3, 2**31):
        backup = replica(2, (Changing(HEIGHT, view),))
        effects = steps(backup, e.Started(), *(e.Changed(change(voter, view)) for voter in (0, 2, 3)))
        waits += [effect.after_ms for effect in effects if isinstance(effect, e.SetTimer)]
    assert waits == [4000, 5000, 5000, 5000]


def test_p17_what_was_cast_is_cast_again_and_nothing_is_recorded() -> None:
    assert locked_backup().step(e.ResendDue()) == [prepare(0), commit(0)]


def test_p17_a_proposal_without_its_payload_makes_a_replica_ask_for_it() -> None:
    backup = replica(2)
    backup.step(e.Started())
    assert backup.step(e.Proposed(HEIGHT, 0, DIGEST, None, None)) == [e.RequestPayload(HEIGHT, DIGEST)]
    assert backup.step(e.ResendDue()) == [e.RequestPayload(HEIGHT, DIGEST)]
    assert backup.step(e.Fetched(HEIGHT, GOOD)) == [e.Check(HEIGHT, 0, DIGEST, GOOD, decided=False)]


def test_one_that_only_follows_casts_nothing_and_decides_all_the_same() -> None:
    follower = Replica(TIMING, HEIGHT, validator_set(4), None)
    effects = steps(
        follower,
        e.Started(),
        proposal(),
        checked(),
        e.Prepared(certificate(0)),
        e.TimedOut(HEIGHT, 0),
        e.Changed(change(0, 3)),
        e.Changed(change(1, 3)),
        e.ResendDue(),
    )
    assert effects == [e.SetTimer(HEIGHT, 0, 3000), e.Check(HEIGHT, 0, DIGEST, GOOD, decided=False)]
    assert follower.step(e.Committed(certificate(0))) == [e.StopTimer(), e.Decide(certificate(0), GOOD)]


def test_other_heights_are_nothing_to_a_replica() -> None:
    backup = replica(2)
    backup.step(e.Started())
    elsewhere = Certificate(HEIGHT + 1, 0, DIGEST, bitmap((0, 1, 2), 4), SIGNATURE)
    assert (
        steps(
            backup,
            e.Proposed(HEIGHT + 1, 0, DIGEST, GOOD, None),
            e.Checked(HEIGHT - 1, DIGEST, GOOD, True),
            e.Fetched(HEIGHT + 1, GOOD),
            e.Prepared(elsewhere),
            e.Committed(elsewhere),
            e.Changed(ViewChange(HEIGHT + 1, 3, 0, None, SIGNATURE)),
            e.Changed(ViewChange(HEIGHT + 1, 3, 1, None, SIGNATURE)),
            e.TimedOut(HEIGHT - 1, 0),
        )
        == []
    )
