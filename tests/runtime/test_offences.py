"""Voting twice: what counts as evidence, what it costs, that it costs it once, and that nobody can be framed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chain.primitives import bls
from chain.primitives.keys import Keypair
from chain.primitives.offence import DoubleVote, SignedDigest, verify_double_vote
from chain.primitives.seal import Phase, vote_message
from chain.primitives.types import encode_extrinsic
from runtime.modules.system import System
from runtime.modules.validators import EVIDENCE, Validators
from runtime.modules.validators_types import ChillReason, Offence, Stake, Unbonding
from runtime.potchain import RUNTIME
from runtime.testing import ALICE, BOB, CHARLIE, DAVE, DEVELOPMENT, EVE, FERDIE, POT, STAKE, TestChain, bls_secret
from runtime.types import (
    U64_MAX,
    BadOrigin,
    DispatchClass,
    DispatchError,
    DispatchInfo,
    InvalidReason,
    InvalidTransaction,
    Origin,
    Pays,
    Weight,
)
from tests.runtime.test_staking import SHORT, accounts, join

VOTER = 2  # CHARLIE's place in the set
ONE, OTHER = bytes(32), b"\1" * 32


def signed(
    chain: TestChain,
    digest: bytes,
    *,
    by: Keypair = CHARLIE,
    genesis: bytes | None = None,
    set_id: int = 0,
    height: int = 1,
    view: int = 0,
    phase: Phase = Phase.PREPARE,
) -> SignedDigest:
    message = vote_message(genesis or chain.genesis_hash, set_id, height, view, phase, digest)
    return SignedDigest(digest, bls.sign(bls_secret(by), message))


def evidence(chain: TestChain, *, by: Keypair = CHARLIE, voter: int = VOTER, **of: object) -> DoubleVote:
    """Two genuine votes of one validator that contradict each other."""
    place = {"set_id": 0, "height": 1, "view": 0, "phase": Phase.PREPARE, **of}
    first, second = (signed(chain, digest, by=by, **place) for digest in (ONE, OTHER))  # type: ignore[arg-type]
    return DoubleVote(**place, voter=voter, first=first, second=second)  # type: ignore[arg-type]


def extrinsic(found: DoubleVote) -> bytes:
    return encode_extrinsic(RUNTIME.encode_call(RUNTIME.call("validators.report_double_vote", evidence=found)))


def report(chain: TestChain, found: DoubleVote) -> list[object]:
    return chain.call(Origin.none(), "validators.report_double_vote", evidence=found)


def refused(chain: TestChain, found: DoubleVote, error: type[DispatchError], reason: InvalidReason) -> None:
    """The call fails, the pool refuses it, a block with it is none: and nothing has moved."""
    with chain.unchanged(error):
        report(chain, found)
    before = chain.state_root()
    with pytest.raises(InvalidTransaction) as caught:
        chain.apply(extrinsic(found))
    assert caught.value.reason is reason
    assert chain.state_root() == before


@pytest.mark.parametrize("phase", [Phase.PREPARE, Phase.COMMIT])
def test_two_votes_for_different_blocks_cost_a_tenth_of_all_that_is_bonded(phase: Phase) -> None:
    chain = TestChain()
    issuance = chain.modules.balances.total_issuance.get()
    stake = chain.modules.validators.stakes
    chain.modules.balances.reserve(CHARLIE.public, 50 * POT)
    stake[CHARLIE.public] = Stake(STAKE, (Unbonding(50 * POT, 2000),))
    free = chain.free(CHARLIE)
    chain.run_blocks(1)
    found = evidence(chain, phase=phase)
    assert chain.apply(extrinsic(found)).fee == 0
    assert chain.events[-4:] == [
        chain.modules.balances.Slashed(CHARLIE.public, 105 * POT),
        Validators.OffenceReported(0, CHARLIE.public, 1, 105 * POT),
        Validators.Chilled(CHARLIE.public, ChillReason.OFFENCE),
        System.ExtrinsicSuccess(DispatchInfo(EVIDENCE, DispatchClass.OPERATIONAL, Pays.NO)),
    ]
    stake = chain.modules.validators.stakes
    assert stake[CHARLIE.public] == Stake(900 * POT, (Unbonding(45 * POT, 2000),))
    assert chain.modules.balances.reserved(CHARLIE.public) == 945 * POT
    assert chain.free(CHARLIE) == free
    assert chain.modules.balances.total_issuance.get() == issuance - 105 * POT
    assert CHARLIE.public not in chain.modules.validators.candidates.get()
    assert chain.modules.validators.offences[0, CHARLIE.public] == Offence(1, 105 * POT)
    chain.run_blocks(1)


def test_what_leaves_while_a_seat_is_kept_is_slashed_for_the_last_vote_from_that_seat() -> None:
    chain = TestChain(sessions=SHORT)
    chain.call(CHARLIE, "validators.bond_extra", value=9 * STAKE)
    chain.run_to(4)
    chain.call(CHARLIE, "validators.unbond", value=9 * STAKE)  # in session 1; the seat is Charlie's in session 2, too
    chain.run_to(18)  # the last block at which votes of session 2 can be held against anybody
    with chain.unchanged(Validators.NothingToWithdraw):
        chain.call(CHARLIE, "validators.withdraw_unbonded")
    report(chain, evidence(chain, height=7))
    assert chain.events_of(Validators.OffenceReported) == [Validators.OffenceReported(2, CHARLIE.public, 7, STAKE)]
    chain.run_to(19)
    with chain.unchanged(Validators.StaleEvidence):
        report(chain, evidence(chain, height=8))
    chain.call(CHARLIE, "validators.withdraw_unbonded")


def test_it_costs_it_once_for_a_session_whatever_else_is_found() -> None:
    chain = TestChain(sessions=SHORT)
    chain.run_to(3)
    report(chain, evidence(chain))
    for again in (
        evidence(chain),
        evidence(chain, height=2),
        evidence(chain, view=7),
        evidence(chain, phase=Phase.COMMIT),
    ):
        refused(chain, again, Validators.AlreadyReported, InvalidReason.STALE)
    report(chain, evidence(chain, by=ALICE, voter=0))
    chain.run_to(5)
    report(chain, evidence(chain, height=5))  # Another session is another offence.
    assert chain.modules.validators.stakes[CHARLIE.public].active == STAKE * 81 // 100


def test_p26_nobody_is_framed() -> None:
    chain = TestChain()
    chain.run_blocks(2)
    good = evidence(chain)
    assert verify_double_vote(chain.deciding, chain.genesis_hash, good)
    forged = SignedDigest(OTHER, bls.sign(bls_secret(EVE), b"anything"))
    for wrong in (
        replace(good, second=forged),
        replace(good, first=replace(good.first, signature=good.second.signature)),
        replace(good, second=replace(good.second, signature=bytes(96))),
        # The same vote twice, and both votes the wrong way round: one contradiction has one encoding.
        replace(good, second=good.first),
        replace(good, first=good.second, second=good.first),
        # Genuine votes that do not contradict each other: of another chain, set, height, view or phase.
        replace(good, second=signed(chain, OTHER, genesis=b"g" * 32)),
        replace(good, second=signed(chain, OTHER, set_id=1)),
        replace(good, second=signed(chain, OTHER, height=2)),
        replace(good, second=signed(chain, OTHER, view=1)),
        replace(good, second=signed(chain, OTHER, phase=Phase.COMMIT)),
        replace(good, view=1),
        replace(good, height=2),
        replace(good, phase=Phase.COMMIT),
        # Two validators, one vote each; and somebody else's votes.
        replace(good, second=signed(chain, OTHER, by=DAVE)),
        replace(good, voter=3),
        replace(good, voter=4),
        # Nobody judges what a view change claims.
        evidence(chain, phase=Phase.VIEW_CHANGE),
    ):
        refused(chain, wrong, Validators.InvalidEvidence, InvalidReason.BAD_PROOF)
    assert chain.modules.validators.stakes[CHARLIE.public] == Stake(STAKE, ())
    report(chain, good)


def test_votes_count_for_heights_that_their_set_decides() -> None:
    chain = TestChain()
    chain.run_blocks(2)
    refused(chain, evidence(chain, height=0), Validators.WrongHeight, InvalidReason.STALE)
    refused(chain, evidence(chain, height=5), Validators.WrongHeight, InvalidReason.STALE)
    refused(chain, evidence(chain, set_id=1), Validators.UnknownSet, InvalidReason.STALE)
    report(chain, evidence(chain, height=4))  # The next: its votes are known before its block is.


def test_a_set_that_is_gone_is_responsible_for_its_own_heights() -> None:
    chain = TestChain(sessions=SHORT)
    join(chain, EVE)
    chain.run_to(8)  # From height 7 on the set is number 1, of five.
    refused(chain, evidence(chain, height=7), Validators.WrongHeight, InvalidReason.STALE)
    refused(chain, evidence(chain, height=6, set_id=1), Validators.WrongHeight, InvalidReason.STALE)
    refused(chain, evidence(chain, by=EVE, voter=4, height=6), Validators.InvalidEvidence, InvalidReason.BAD_PROOF)
    report(chain, evidence(chain, height=6))
    report(chain, evidence(chain, by=EVE, voter=4, height=7, set_id=1))
    assert chain.modules.validators.stakes[EVE.public].active == 2 * STAKE * 9 // 10


def test_evidence_counts_until_the_stake_may_be_gone_and_no_longer() -> None:
    for height, counts in ((12, True), (13, False)):  # Session 0 counts in sessions 0 to 3, of three blocks each.
        chain = TestChain(sessions=SHORT)
        chain.run_to(height)
        found = evidence(chain, height=3)
        if counts:
            report(chain, found)
        else:
            refused(chain, found, Validators.StaleEvidence, InvalidReason.STALE)


def test_whoever_has_left_pays_out_of_what_still_unbonds() -> None:
    chain = TestChain(sessions=SHORT)
    join(chain, EVE)
    chain.run_to(4)
    chain.call(DAVE, "validators.chill")
    chain.run_to(10)
    chain.call(DAVE, "validators.unbond", value=STAKE)  # It has left with session 2, and may have all in session 8.
    chain.run_to(18)
    report(chain, evidence(chain, by=DAVE, voter=3, height=9, set_id=1))
    chain.run_to(25)
    before = chain.free(DAVE)
    chain.call(DAVE, "validators.withdraw_unbonded")
    assert chain.free(DAVE) == before + STAKE * 9 // 10


def test_evidence_is_forgotten_a_session_after_it_is_stale() -> None:
    chain = TestChain(sessions=SHORT)
    chain.run_to(2)
    found = evidence(chain)
    report(chain, found)
    for height in range(3, 16):
        chain.run_to(height)
        assert list(chain.modules.validators.offences.keys()) == [(0, CHARLIE.public)]
        # A pool judges on the state after the block before: also where that was a session's last.
        with pytest.raises(InvalidTransaction) as caught:
            chain.executive.validate_after(chain.tree, chain.header.hash, extrinsic(found))
        assert caught.value.reason is InvalidReason.STALE
    chain.run_to(16)
    assert list(chain.modules.validators.offences.keys()) == []


def test_evidence_has_no_sender_and_one_place_in_a_pool() -> None:
    chain = TestChain(sessions=SHORT)
    chain.run_to(3)

    def verdict(found: DoubleVote) -> object:
        valid = chain.executive.validate_after(chain.tree, chain.header.hash, extrinsic(found))
        assert (valid.nonce, valid.account_nonce, valid.requires, valid.fee, valid.tip) == (0, 0, (), 0, 0)
        assert (valid.priority, valid.weight, valid.propagate) == (U64_MAX, EVIDENCE, True)
        assert valid.longevity == 12 - 2  # The last block of session 3 is 12, and this is the state of block 2.
        return valid.sender, valid.provides

    assert verdict(evidence(chain)) == verdict(evidence(chain, height=2, view=3))
    assert verdict(evidence(chain)) != verdict(evidence(chain, by=ALICE, voter=0))
    with pytest.raises(InvalidTransaction, match="did not sign both of them"):
        verdict(replace(evidence(chain), voter=1))


def test_evidence_is_not_signed_for() -> None:
    chain = TestChain()
    found = evidence(chain)
    for origin in (FERDIE, Origin.root()):
        with chain.unchanged(BadOrigin):
            chain.call(origin, "validators.report_double_vote", evidence=found)
    applied = chain.submit(FERDIE, "validators.report_double_vote", evidence=found)
    assert isinstance(applied.error, BadOrigin)
    assert applied.fee > 0  # Or blocks could be filled for nothing.


def test_only_evidence_comes_unsigned() -> None:
    chain = TestChain()
    for call in RUNTIME.modules[4].calls.values():
        if call.name in ("report_double_vote", "note_seal"):
            continue
        path = f"validators.{call.name}"
        arguments = {name: 0 if name == "value" else bytes(96 if name == "proof" else 48) for name, _ in call.arguments}
        raw = encode_extrinsic(RUNTIME.encode_call(RUNTIME.call(path, **arguments)))
        with pytest.raises(InvalidTransaction, match=f"{path} came without a signature"):
            chain.apply(raw)


def test_a_block_that_is_full_takes_no_evidence() -> None:
    chain = TestChain()
    chain.builder.meter.add_mandatory(Weight(800 * 10**9))
    with pytest.raises(InvalidTransaction) as caught:
        chain.apply(extrinsic(evidence(chain)))
    assert caught.value.reason is InvalidReason.EXHAUSTS_RESOURCES


def test_whoever_is_found_out_pays_and_the_set_stays_while_nobody_else_stands() -> None:
    chain = TestChain(sessions=SHORT)
    chain.run_blocks(1)
    for voter, keypair in enumerate((ALICE, BOB, CHARLIE, DAVE)):
        report(chain, evidence(chain, by=keypair, voter=voter))
    assert chain.modules.validators.candidates.get() == ()
    chain.run_to(10)
    assert chain.deciding.n == 4


def test_whoever_is_found_out_serves_in_the_set_that_is_known_and_in_none_after_it() -> None:
    """As whoever was chilled for another reason: sets are known one session ahead, and it is one fault of f so long."""
    chain = TestChain(sessions={"sessionBlocks": 4})
    join(chain, EVE)
    chain.run_to(9)
    five = [keypair.public for keypair in (ALICE, BOB, CHARLIE, DAVE, EVE)]
    assert accounts(chain) == five
    report(chain, evidence(chain, set_id=1, height=9))
    assert chain.events_of(Validators.Chilled) == [Validators.Chilled(CHARLIE.public, ChillReason.OFFENCE)]
    chain.run_to(16)
    assert accounts(chain) == five
    # It is elected no more, and votes on: what it does there costs it as much again.
    report(chain, evidence(chain, set_id=1, height=16))
    chain.run_to(17)
    assert accounts(chain) == [keypair.public for keypair in (ALICE, BOB, DAVE, EVE)]
    assert chain.modules.validators.stakes[CHARLIE.public] == Stake(STAKE * 81 // 100, ())


def test_as_many_as_a_fork_takes_pay_a_tenth_each_as_one_alone_does() -> None:
    chain = TestChain(validators=DEVELOPMENT)
    chain.run_blocks(1)
    guilty = DEVELOPMENT[: chain.deciding.f + 1]
    for voter, keypair in enumerate(guilty):
        report(chain, evidence(chain, by=keypair, voter=voter))
    assert dict(chain.modules.validators.stakes.items()) == {
        keypair.public: Stake(STAKE * 9 // 10 if keypair in guilty else STAKE, ()) for keypair in DEVELOPMENT
    }
