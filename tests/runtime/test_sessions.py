"""Sessions: who is elected, when the set changes, what the seals on chain are worth, and that training goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from chain.primitives import bls
from chain.primitives.keys import Keypair
from chain.primitives.seal import Authority, Phase, Seal, bitmap, verify_seal, vote_message
from runtime.modules.training import Training
from runtime.modules.validators import Validators
from runtime.modules.validators_sessions import elect, seat, session_of
from runtime.modules.validators_types import ChillReason
from runtime.testing import (
    ALICE,
    BOB,
    CHARLIE,
    DAVE,
    DEVELOPMENT,
    EVE,
    FERDIE,
    POT,
    STAKE,
    TestChain,
    bls_secret,
)
from runtime.types import DispatchError, InvalidBlock
from tests.runtime.test_staking import SHORT, accounts, join, keys_of
from tests.runtime.training_kit import POLICY, Story

PATIENT = replace(POLICY, audit_blocks=30)
FOUR = [ALICE.public, BOB.public, CHARLIE.public, DAVE.public]


# --- election ---------------------------------------------------------------------------------------------------------


def who(*numbers: int) -> list[bytes]:
    return [bytes((number,)) * 32 for number in numbers]


def stakes(**by_number: int) -> dict[bytes, int]:
    return {who(int(name[1:]))[0]: amount for name, amount in by_number.items()}


def test_incumbents_keep_their_order_and_newcomers_follow_by_stake() -> None:
    found = elect(who(3, 1, 2, 7, 8, 9, 6), stakes(_1=5, _2=9, _3=1, _6=1, _7=1, _8=1, _9=1, _4=2, _5=3))
    assert found == who(3, 1, 2, 7, 8, 9, 6, 5, 4)


def test_when_seats_are_few_the_greatest_stakes_have_them() -> None:
    assert elect(who(1, 2, 3, 4), stakes(_1=1, _2=5, _3=5, _4=2, _5=3), seats=4) == who(2, 3, 4, 5)
    # Of equal stakes, whoever sits stays.
    assert elect(who(1, 2, 3, 4), stakes(_0=3, _1=3, _2=5, _3=5, _4=3, _5=3), seats=4) == who(1, 2, 3, 4)


def test_p25_no_more_newcomers_at_once_than_faults_are_tolerated() -> None:
    newcomers = dict.fromkeys(who(*range(20, 40)), 100)
    for size, admitted in ((1, 1), (2, 1), (3, 1), (4, 1), (5, 2), (6, 2), (7, 3), (10, 4)):
        incumbents = who(*range(1, 1 + size))
        found = elect(incumbents, {**dict.fromkeys(incumbents, 1), **newcomers})
        assert len(found) == size + admitted
        assert found[:size] == incumbents


def test_a_set_of_four_stays_one_of_four_though_its_members_leave() -> None:
    assert elect(who(1, 2, 3, 4), stakes(_2=1)) == who(1, 2, 3, 4)
    assert elect(who(1, 2, 3, 4), {}) == who(1, 2, 3, 4)
    assert elect(who(1, 2, 3, 4), stakes(_5=1, _6=1)) == who(1, 2, 3, 5)
    assert elect(who(1, 2, 3, 4, 5, 6), stakes(_5=1)) == who(1, 2, 3, 5)


def test_one_that_wants_to_leave_alone_is_not_followed_by_a_node_that_nobody_knows() -> None:
    assert elect(who(1), stakes(_2=1)) == who(1)
    assert elect(who(1), stakes(_1=1, _2=1, _3=1)) == who(1, 2)


@given(
    incumbents=st.lists(st.integers(1, 12), min_size=1, max_size=12, unique=True),
    amounts=st.dictionaries(st.integers(1, 24), st.integers(1, 5), max_size=24),
    seats=st.integers(4, 12),
)
@settings(max_examples=300)
def test_whoever_stands_the_set_survives_its_newcomers(
    incumbents: list[int], amounts: dict[int, int], seats: int
) -> None:
    before, candidates = who(*incumbents), {who(number)[0]: amount for number, amount in amounts.items()}
    found = elect(before, candidates, seats)
    assert 1 <= len(found) <= max(seats, min(4, len(before)))
    assert len(set(found)) == len(found)
    assert len(found) >= min(4, len(before))
    newcomers = [account for account in found if account not in before]
    if len(before) > 2:
        assert len(newcomers) <= (len(found) - 1) // 3
    else:
        assert len(newcomers) <= 1
    assert any(account in before for account in found)
    left_out = [account for account in before if account in candidates and account not in found]
    if left_out:  # Only for those that have more.
        assert len(found) == seats
        worst = min(candidates[account] for account in found if account in candidates)
        assert max(candidates[account] for account in left_out) <= worst
    assert elect(found, candidates, seats) == found or set(elect(found, candidates, seats)) != set(found)


def authorities_of(accounts: Sequence[bytes], keys: Sequence[int]) -> list[Authority]:
    return [Authority(account, bytes((key,)) * 48) for account, key in zip(accounts, keys, strict=True)]


def test_p25_no_more_new_keys_and_newcomers_at_once_than_faults_are_tolerated() -> None:
    for size, changed in ((1, 1), (3, 1), (4, 1), (7, 2), (10, 3)):
        accounts = who(*range(1, 1 + size))
        before = authorities_of(accounts, range(1, 1 + size))
        keys = {account: bytes((100 + index,)) * 48 for index, account in enumerate(accounts)}
        found = seat(before, accounts, keys)
        assert found == [
            Authority(account, keys[account] if index < changed else before[index].bls_key)
            for index, account in enumerate(accounts)
        ]
        # Session by session everybody has the new key.
        for _ in range(-(-size // changed) - 1):
            found = seat(found, accounts, keys)
        assert found == [Authority(account, keys[account]) for account in accounts]


def test_p25_a_newcomer_leaves_less_room_for_new_keys() -> None:
    accounts = who(1, 2, 3, 4, 5, 6, 7)
    before = authorities_of(accounts[:6], range(1, 7))
    keys = {account: bytes((100 + index,)) * 48 for index, account in enumerate(accounts)}
    found = seat(before, accounts, keys)
    assert [authority.bls_key[0] for authority in found] == [100, 2, 3, 4, 5, 6, 106]


def test_no_two_validators_vote_with_one_key_whoever_takes_an_old_one() -> None:
    accounts = who(1, 2, 3, 4)
    before = authorities_of(accounts, (1, 2, 3, 4))
    new = (101, 102, 2, 3)  # 3 and 4 have taken the keys that 2 and 3 had
    keys = {account: bytes((key,)) * 48 for account, key in zip(accounts, new, strict=True)}
    assert [authority.bls_key[0] for authority in seat(before, accounts, keys)] == [101, 102, 2, 4]


# --- rotation ---------------------------------------------------------------------------------------------------------


def test_heights_belong_to_sessions_from_one_on() -> None:
    assert [session_of(height, 3) for height in range(1, 8)] == [0, 0, 0, 1, 1, 1, 2]


def test_who_is_elected_is_known_one_session_before_it_votes() -> None:
    chain = TestChain(sessions=SHORT)
    join(chain, EVE)
    validators = chain.modules.validators
    chain.clear_events()
    seen = []
    for _ in range(8):
        validators = chain.modules.validators
        queued = [authority.account for authority in validators.queued.get()]
        seen.append((chain.height, validators.set_id.get(), len(accounts(chain)), len(queued)))
        chain.run_blocks(1)
    # Elected when session 0 ends, queued in session 1, voting from session 2 on.
    assert seen == [
        (1, 0, 4, 4),
        (2, 0, 4, 4),
        (3, 0, 4, 4),
        (4, 0, 4, 5),
        (5, 0, 4, 5),
        (6, 0, 4, 5),
        (7, 1, 5, 5),
        (8, 1, 5, 5),
    ]
    assert chain.events_of(Validators.NewSession) == [Validators.NewSession(1, 0), Validators.NewSession(2, 1)]
    assert chain.events_of(Validators.SetChanged) == [Validators.SetChanged(1, 7, (*FOUR, EVE.public))]


def test_p23_the_sets_number_changes_exactly_when_the_set_does() -> None:
    chain = TestChain(sessions={"sessionBlocks": 2, "unbondingSessions": 2})
    before = chain.deciding
    changes = 0
    for step in range(24):
        if step == 1:
            join(chain, EVE)
        if step == 9:
            chain.call(DAVE, "validators.chill")
        if step == 15:
            chain.call(EVE, "validators.set_keys", **keys_of(FERDIE, EVE))  # Another key is another set.
        chain.run_blocks(1)
        now = chain.deciding
        assert (now.set_id != before.set_id) == (now.authorities != before.authorities)
        assert now.set_id - before.set_id in (0, 1)
        changes += now.set_id - before.set_id
        before = now
    assert changes == 3


def test_p24_a_seal_of_another_set_is_none() -> None:
    chain = TestChain(sessions=SHORT)
    join(chain, EVE)
    chain.run_to(7)  # the first block that the fifth decides; it carries the seal of the four
    old, new = chain.modules.validators.recorded_set(0), chain.modules.validators.recorded_set(1)
    assert (old.n, new.n, chain.deciding) == (4, 5, new)
    chain.run_blocks(1)
    header = chain.header
    assert header.height == 7

    def seal(set_id: int, signed_id: int) -> Seal:
        message = vote_message(chain.genesis_hash, signed_id, header.height, 0, Phase.COMMIT, header.hash)
        signature = bls.aggregate([bls.sign(bls_secret(keypair), message) for keypair in DEVELOPMENT[:4]])
        return Seal(header.height, 0, set_id, header.hash, bitmap(range(4), 5), signature)

    assert verify_seal(new, chain.genesis_hash, seal(1, 1))
    for wrong in (seal(0, 0), seal(1, 0), seal(0, 1)):
        builder = chain.begin()
        time, note = builder.inherents(chain.inherent_data(wrong))
        builder.apply(time)
        with pytest.raises(InvalidBlock, match="InvalidSeal"):
            builder.apply(note)


def test_sets_are_kept_for_as_long_as_their_votes_count() -> None:
    chain = TestChain(sessions={"sessionBlocks": 2, "unbondingSessions": 3})
    join(chain, EVE)
    kept = []
    while chain.height < 13:
        kept.append((chain.modules.validators.session(), sorted(chain.modules.validators.sets.keys())))
        chain.run_blocks(1)
    # Set 0 decided sessions 0 and 1: what it signed in session 1 counts until session 4 begins.
    assert kept[::2] == [(0, [0]), (1, [0]), (2, [0, 1]), (3, [0, 1]), (4, [1]), (5, [1])]


# --- rewards ----------------------------------------------------------------------------------------------------------


def test_a_session_pays_each_validator_for_the_blocks_that_it_sealed() -> None:
    chain = TestChain(sessions={"sessionBlocks": 4})
    before = {keypair: chain.free(keypair) for keypair in (ALICE, BOB, CHARLIE, DAVE)}
    chain.run_blocks(2)
    chain.absent = {CHARLIE}
    chain.run_blocks(2)  # The seal of block 4 came in block 5, and settled the session.
    assert chain.events_of(Validators.Rewarded) == [
        Validators.Rewarded(0, who, blocks, blocks * POT // 4) for who, blocks in zip(FOUR, (4, 4, 2, 4), strict=True)
    ]
    gained = [chain.free(keypair) - amount for keypair, amount in before.items()]
    assert gained == [POT, POT, POT // 2, POT]
    assert chain.modules.validators.minted.get() == sum(gained)


def test_who_missed_more_than_half_of_a_session_earns_nothing_and_stands_no_more() -> None:
    chain = TestChain(sessions={"sessionBlocks": 5})
    before = chain.free(CHARLIE)
    chain.run_blocks(2)
    chain.absent = {CHARLIE}
    chain.run_blocks(3)
    assert chain.events_of(Validators.Chilled) == [Validators.Chilled(CHARLIE.public, ChillReason.OFFLINE)]
    assert [event.validator for event in chain.events_of(Validators.Rewarded)] == [
        keypair.public for keypair in (ALICE, BOB, DAVE)
    ]
    assert chain.free(CHARLIE) == before
    assert CHARLIE.public not in chain.modules.validators.candidates.get()
    # A set of four does not shrink: it stays, and is the first to go when somebody comes.
    join(chain, EVE)
    chain.run_to(16)
    assert accounts(chain) == [keypair.public for keypair in (ALICE, BOB, DAVE, EVE)]


def test_a_newcomer_that_never_votes_is_gone_after_its_first_sessions() -> None:
    chain = TestChain(sessions={"sessionBlocks": 2})
    join(chain, EVE, value=100 * STAKE)
    chain.absent = {EVE}
    chain.run_to(5)
    assert accounts(chain) == [*FOUR, EVE.public]
    chain.run_to(11)
    assert accounts(chain) == FOUR


def test_issuance_grows_by_at_most_a_reward_a_block() -> None:
    chain = TestChain(sessions={"sessionBlocks": 1})
    issuance = chain.modules.balances.total_issuance.get()
    chain.run_blocks(6)
    assert chain.modules.balances.total_issuance.get() == issuance + 6 * POT


# --- training across a change of the set ---


def story_of_a_change() -> Story:
    """A round in its audit at height 5, with EVE about to become the fifth validator at height 9."""
    story = Story(workers=[FERDIE], sessions={"sessionBlocks": 4, "unbondingSessions": 2}, policy=PATIENT, rounds=2)
    join(story.chain, EVE)
    story.to_audit()
    assert (story.chain.height, len(accounts(story.chain))) == (5, 4)
    return story


def test_a_round_is_settled_by_a_quorum_of_the_set_that_is() -> None:
    story = story_of_a_change()
    story.attest(ALICE, BOB)
    story.chain.run_to(9)
    assert len(accounts(story.chain)) == 5
    story.attest(CHARLIE)
    story.next()
    assert story.task().round == 0  # Three were a quorum of four, and are none of five.
    story.attest(EVE)
    story.chain.run_to(story.state().deadline + 1)
    assert story.task().round == 1
    attesters = story.training.history[0, 0].attesters
    assert attesters == tuple(sorted(keypair.public for keypair in (ALICE, BOB, CHARLIE, EVE)))


def test_who_has_left_the_set_has_no_word_in_the_round_any_more() -> None:
    story = story_of_a_change()
    chain = story.chain
    chain.run_to(6)
    chain.call(DAVE, "validators.chill")
    chain.run_to(12)
    story.attest(DAVE, ALICE)
    chain.run_to(13)
    assert accounts(chain) == [keypair.public for keypair in (ALICE, BOB, CHARLIE, EVE)]
    with chain.unchanged(Training.NotAuthority):
        story.attest(DAVE)
    story.attest(BOB)
    # Whoever is gone makes room: a round never holds more attestations than there are validators.
    heard = [attestation.validator for attestation in story.state().attestations]
    assert heard == [ALICE.public, BOB.public]
    story.next()
    assert story.task().round == 0  # Of the new set only two have spoken.
    story.attest(EVE)
    story.chain.run_to(story.state().deadline + 1)
    assert story.task().round == 1
    assert DAVE.public not in story.training.history[0, 0].attesters
    # Drawn before, silent since, and not held against it: nobody waits for who has left.
    assert story.training.absent_auditors[DAVE.public] == 0


# --- everything at once -----------------------------------------------------------------------------------------------


class StakingMachine(RuleBasedStateMachine):
    """Whatever accounts do, the invariants hold after each block, and the books are those of a dumb version."""

    def __init__(self) -> None:
        super().__init__()
        self.chain = TestChain(sessions={"sessionBlocks": 2, "unbondingSessions": 2})
        self.set = self.chain.deciding
        self.bonded = dict.fromkeys(DEVELOPMENT, 0) | dict.fromkeys(DEVELOPMENT[:4], STAKE)

    def attempt(self, keypair: Keypair, path: str, **arguments: object) -> bool:
        before = self.chain.state_root()
        try:
            self.chain.call(keypair, f"validators.{path}", **arguments)
        except DispatchError:
            assert self.chain.state_root() == before
            return False
        return True

    @rule(keypair=st.sampled_from(DEVELOPMENT), value=st.sampled_from((0, STAKE - 1, STAKE, 5 * STAKE, 10**30)))
    def bond(self, keypair: Keypair, value: int) -> None:
        path = "bond_extra" if self.bonded[keypair] else "bond"
        if self.attempt(keypair, path, value=value):
            self.bonded[keypair] += value

    @rule(keypair=st.sampled_from(DEVELOPMENT), value=st.sampled_from((1, STAKE, 5 * STAKE)))
    def unbond(self, keypair: Keypair, value: int) -> None:
        self.attempt(keypair, "unbond", value=value)

    @rule(keypair=st.sampled_from(DEVELOPMENT))
    def withdraw(self, keypair: Keypair) -> None:
        free = self.chain.free(keypair)
        if self.attempt(keypair, "withdraw_unbonded"):
            self.bonded[keypair] -= self.chain.free(keypair) - free

    @rule(keypair=st.sampled_from(DEVELOPMENT))
    def set_keys(self, keypair: Keypair) -> None:
        self.attempt(keypair, "set_keys", **keys_of(keypair))

    @rule(keypair=st.sampled_from(DEVELOPMENT), path=st.sampled_from(("purge_keys", "validate", "chill", "validate")))
    def stand_or_leave(self, keypair: Keypair, path: str) -> None:
        self.attempt(keypair, path)

    @rule(keypair=st.sampled_from(DEVELOPMENT[4:]))
    def come(self, keypair: Keypair) -> None:
        self.bond(keypair, 5 * STAKE)
        self.set_keys(keypair)
        self.attempt(keypair, "validate")

    @rule(absent=st.sets(st.sampled_from(DEVELOPMENT), max_size=1), count=st.integers(1, 3))
    def go_on(self, absent: set[Keypair], count: int) -> None:
        for _ in range(count):
            members = {authority.account for authority in self.chain.deciding.authorities}
            tolerated = self.chain.deciding.f
            missing = [keypair for keypair in absent if keypair.public in members]
            self.chain.absent = set(absent) if len(missing) <= tolerated else set()
            self.chain.run_blocks(1)
            now = self.chain.deciding
            assert now.set_id - self.set.set_id == (now.authorities != self.set.authorities)
            self.set = now

    @invariant()
    def money_is_where_it_was_bonded(self) -> None:
        validators = self.chain.modules.validators
        for keypair, amount in self.bonded.items():
            assert validators.stakes[keypair.public].total == amount
            assert self.chain.modules.balances.reserved(keypair.public) == amount


TestStakingMachine = StakingMachine.TestCase
TestStakingMachine.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
