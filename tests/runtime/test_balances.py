"""Balances: money moves, is created and destroyed only as asked, and issuance is always the sum of all balances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from chain.primitives import ss58
from chain.primitives.types import Raw
from runtime.executive import Executive
from runtime.framework import EventLog
from runtime.modules.balances import ENDOWED_MAX, Balances
from runtime.modules.balances_schema import BalanceLock, Reasons, ReserveData
from runtime.modules.system import System
from runtime.potchain import RUNTIME
from runtime.state import DictState, Overlay
from runtime.testing import ALICE, BOB, ENDOWMENT, EVE, FERDIE, POT, STAKE, TestChain, genesis_config
from runtime.types import (
    AccountData,
    AccountInfo,
    ArithmeticOverflow,
    BadOrigin,
    CannotLookup,
    ConsumerRemaining,
    DispatchError,
    GenesisError,
    InvalidReason,
    InvalidTransaction,
    Origin,
)

ED = POT // 1000
CARL = b"c" * 32  # an account that does not exist


@pytest.fixture
def chain() -> TestChain:
    return TestChain(validators=(FERDIE,))  # Nobody else has a bond.


def test_a_transfer_moves_exactly_its_value(chain: TestChain) -> None:
    chain.clear_events()
    chain.call(ALICE, "balances.transfer_keep_alive", dest=BOB, value=7 * POT)
    assert (chain.free(ALICE), chain.free(BOB)) == (ENDOWMENT - 7 * POT, ENDOWMENT + 7 * POT)
    assert chain.events == [Balances.Transfer(ALICE.public, BOB.public, 7 * POT)]
    chain.run_blocks(1)


def test_the_first_money_creates_an_account(chain: TestChain) -> None:
    chain.clear_events()
    chain.call(ALICE, "balances.transfer_allow_death", dest=CARL, value=ED)
    assert chain.events == [
        System.NewAccount(CARL),
        Balances.Endowed(CARL, ED),
        Balances.Transfer(ALICE.public, CARL, ED),
    ]
    assert chain.modules.system.account[CARL] == AccountInfo(0, 0, 1, 0, AccountData(ED))


def test_less_than_the_existential_deposit_creates_none(chain: TestChain) -> None:
    with chain.unchanged(Balances.ExistentialDeposit):
        chain.call(ALICE, "balances.transfer_allow_death", dest=CARL, value=ED - 1)


def test_nobody_sends_more_than_they_have(chain: TestChain) -> None:
    with chain.unchanged(Balances.InsufficientBalance):
        chain.call(ALICE, "balances.transfer_allow_death", dest=BOB, value=ENDOWMENT + 1)
    with pytest.raises(
        Balances.InsufficientBalance, match=f"balance {ENDOWMENT} cannot pay {ENDOWMENT + 5}: need 5 more"
    ):
        chain.call(ALICE, "balances.transfer_allow_death", dest=BOB, value=ENDOWMENT + 5)


def test_keep_alive_refuses_to_empty_the_account_and_allow_death_burns_its_dust(chain: TestChain) -> None:
    with chain.unchanged(Balances.Expendability):
        chain.call(ALICE, "balances.transfer_keep_alive", dest=BOB, value=ENDOWMENT - ED + 1)
    issuance = chain.modules.balances.total_issuance.get()
    chain.clear_events()
    chain.call(ALICE, "balances.transfer_allow_death", dest=BOB, value=ENDOWMENT - ED + 1)
    assert chain.events == [
        System.KilledAccount(ALICE.public),
        Balances.DustLost(ALICE.public, ED - 1),
        Balances.Transfer(ALICE.public, BOB.public, ENDOWMENT - ED + 1),
    ]
    assert ALICE.public not in chain.modules.system.account
    assert chain.modules.balances.total_issuance.get() == issuance - (ED - 1)
    chain.run_blocks(1)


def test_an_account_with_reserved_money_cannot_die(chain: TestChain) -> None:
    chain.modules.balances.reserve(ALICE.public, POT)
    with chain.unchanged(Balances.Expendability):
        chain.call(ALICE, "balances.transfer_allow_death", dest=BOB, value=ENDOWMENT - POT)
    chain.call(ALICE, "balances.transfer_all", dest=BOB, keep_alive=False)
    assert (chain.free(ALICE), chain.modules.balances.reserved(ALICE.public)) == (ED, POT)
    chain.run_blocks(1)


def test_transfer_all_sends_all_or_all_but_the_existential_deposit(chain: TestChain) -> None:
    chain.call(ALICE, "balances.transfer_all", dest=CARL, keep_alive=True)
    assert chain.free(ALICE) == ED
    chain.call(ALICE, "balances.transfer_all", dest=CARL, keep_alive=False)
    assert ALICE.public not in chain.modules.system.account
    assert chain.modules.balances.free(CARL) == ENDOWMENT
    chain.run_blocks(1)


def test_a_transfer_to_oneself_changes_nothing(chain: TestChain) -> None:
    before = chain.state_root()
    chain.call(ALICE, "balances.transfer_keep_alive", dest=ALICE, value=POT)
    assert chain.state_root() == before
    with chain.unchanged(Balances.InsufficientBalance):
        chain.call(ALICE, "balances.transfer_keep_alive", dest=ALICE, value=ENDOWMENT + 1)


def test_only_root_forces_transfers(chain: TestChain) -> None:
    with chain.unchanged(BadOrigin):
        chain.call(ALICE, "balances.force_transfer", source=BOB, dest=ALICE, value=POT)
    chain.call(Origin.root(), "balances.force_transfer", source=BOB, dest=ALICE, value=POT)
    assert chain.free(ALICE) == ENDOWMENT + POT


def test_only_accounts_by_id_are_addresses(chain: TestChain) -> None:
    with chain.unchanged(CannotLookup):
        chain.call(ALICE, "balances.transfer_keep_alive", dest=Raw(BOB.public), value=POT)


def test_what_is_reserved_cannot_be_spent_until_it_is_unreserved(chain: TestChain) -> None:
    balances = chain.modules.balances
    balances.reserve(ALICE.public, ENDOWMENT - ED)
    assert (balances.free(ALICE.public), balances.total(ALICE.public)) == (ED, ENDOWMENT)
    assert chain.modules.system.account[ALICE.public].consumers == 1
    with chain.unchanged(Balances.Expendability):
        chain.call(ALICE, "balances.transfer_allow_death", dest=BOB, value=1)
    assert balances.unreserve(ALICE.public, ENDOWMENT) == ED
    assert chain.modules.system.account[ALICE.public] == AccountInfo(0, 0, 1, 0, AccountData(ENDOWMENT))
    chain.run_blocks(1)


def test_slashing_takes_what_is_reserved_and_no_more(chain: TestChain) -> None:
    balances = chain.modules.balances
    issuance = balances.total_issuance.get()
    balances.reserve(ALICE.public, 3 * POT)
    chain.clear_events()
    assert balances.slash_reserved(ALICE.public, 2 * POT) == 2 * POT
    assert balances.burn_reserved(ALICE.public, 2 * POT) == POT
    assert balances.slash_reserved(ALICE.public, 2 * POT) == 0
    assert chain.events == [Balances.Slashed(ALICE.public, 2 * POT), Balances.Burned(ALICE.public, POT)]
    assert balances.total(ALICE.public) == ENDOWMENT - 3 * POT
    assert balances.total_issuance.get() == issuance - 3 * POT
    chain.run_blocks(1)


# --- named reserves ---

BOND, DEPOSIT = b"bond____", b"deposit_"


def test_what_is_reserved_under_a_name_is_out_of_reach_for_other_names(chain: TestChain) -> None:
    balances = chain.modules.balances
    balances.reserve_named(ALICE.public, DEPOSIT, 3 * POT)
    balances.reserve_named(ALICE.public, BOND, POT)
    balances.reserve_named(ALICE.public, BOND, POT)
    assert balances.reserves[ALICE.public] == [ReserveData(BOND, 2 * POT), ReserveData(DEPOSIT, 3 * POT)]
    assert balances.unreserve_named(ALICE.public, BOND, 4 * POT) == 2 * POT
    assert balances.slash_reserved_named(ALICE.public, BOND, POT) == 0
    assert balances.slash_reserved_named(ALICE.public, DEPOSIT, POT) == POT
    assert balances.reserves[ALICE.public] == [ReserveData(DEPOSIT, 2 * POT)]
    assert balances.reserved(ALICE.public) == 2 * POT
    assert chain.events[-2:] == [Balances.Unreserved(ALICE.public, 2 * POT), Balances.Slashed(ALICE.public, POT)]
    assert balances.unreserve_named(ALICE.public, DEPOSIT, 2 * POT) == 0
    assert ALICE.public not in balances.reserves
    chain.run_blocks(1)


def test_names_of_reserves_are_few(chain: TestChain) -> None:
    balances = chain.modules.balances
    for number in range(50):
        balances.reserve_named(ALICE.public, number.to_bytes(8), POT)
    with chain.unchanged(Balances.TooManyReserves):
        balances.reserve_named(ALICE.public, BOND, POT)
    balances.reserve_named(ALICE.public, bytes(8), POT)
    assert balances.reserved_named(ALICE.public, bytes(8)) == 2 * POT
    with chain.unchanged(Balances.InsufficientBalance):
        balances.reserve_named(ALICE.public, bytes(8), ENDOWMENT)
    chain.run_blocks(1)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("reserve", "unreserve", "slash")),
            st.sampled_from((BOND, DEPOSIT)),
            st.integers(0, 120 * ED),
        ),
        max_size=20,
    )
)
def test_named_reserves_are_a_sum_of_what_each_name_has(steps: list[tuple[str, bytes, int]]) -> None:
    balances = RUNTIME.over(Overlay(DictState(GENESIS)), EventLog()).balances
    free, named = 100 * ED, {BOND: 0, DEPOSIT: 0}
    for action, name, amount in steps:
        if action == "reserve":
            if free - amount >= ED:
                balances.reserve_named(ALICE.public, name, amount)
                free, named[name] = free - amount, named[name] + amount
        else:
            taken = min(amount, named[name])
            named[name] -= taken
            if action == "unreserve":
                assert balances.unreserve_named(ALICE.public, name, amount) == amount - taken
                free += taken
            else:
                assert balances.slash_reserved_named(ALICE.public, name, amount) == taken
        assert {key: balances.reserved_named(ALICE.public, key) for key in named} == named
        assert (balances.free(ALICE.public), balances.reserved(ALICE.public)) == (free, sum(named.values()))
        balances.check()


# --- locks ---

LOCK, OTHER = b"lock____", b"other___"


def test_what_is_locked_is_neither_sent_nor_burned_nor_reserved(chain: TestChain) -> None:
    balances = chain.modules.balances
    chain.clear_events()
    balances.set_lock(ALICE.public, LOCK, ENDOWMENT - POT)
    assert chain.events == [Balances.Locked(ALICE.public, ENDOWMENT - POT)]
    assert balances.locks[ALICE.public] == [BalanceLock(LOCK, ENDOWMENT - POT, Reasons.ALL)]
    assert chain.modules.system.account[ALICE.public] == AccountInfo(
        0, 1, 1, 0, AccountData(ENDOWMENT, 0, ENDOWMENT - POT)
    )
    for path, arguments in (
        ("transfer_allow_death", {"dest": BOB, "value": POT + 1}),
        ("transfer_keep_alive", {"dest": BOB, "value": POT + 1}),
        ("burn", {"value": POT + 1, "keep_alive": False}),
    ):
        with chain.unchanged(Balances.LiquidityRestrictions):
            chain.call(ALICE, f"balances.{path}", **arguments)
    with chain.unchanged(Balances.LiquidityRestrictions):
        balances.reserve(ALICE.public, POT + 1)
    chain.call(ALICE, "balances.transfer_all", dest=BOB, keep_alive=False)
    assert chain.free(ALICE) == ENDOWMENT - POT
    chain.run_blocks(1)


def test_locks_overlap_and_end_one_by_one(chain: TestChain) -> None:
    balances = chain.modules.balances
    chain.clear_events()
    balances.set_lock(ALICE.public, LOCK, 5 * POT)
    balances.set_lock(ALICE.public, OTHER, 3 * POT)
    balances.extend_lock(ALICE.public, OTHER, 2 * POT)
    balances.extend_lock(ALICE.public, OTHER, 7 * POT)
    balances.set_lock(ALICE.public, LOCK, 0)
    balances.set_lock(ALICE.public, LOCK, POT)
    balances.remove_lock(ALICE.public, OTHER)
    balances.remove_lock(ALICE.public, OTHER)
    balances.remove_lock(ALICE.public, LOCK)
    assert chain.events == [
        Balances.Locked(ALICE.public, 5 * POT),
        Balances.Locked(ALICE.public, 2 * POT),
        Balances.Unlocked(ALICE.public, 6 * POT),
        Balances.Unlocked(ALICE.public, POT),
    ]
    assert ALICE.public not in balances.locks
    assert chain.modules.system.account[ALICE.public] == AccountInfo(0, 0, 1, 0, AccountData(ENDOWMENT))


def test_what_is_reserved_counts_towards_a_lock(chain: TestChain) -> None:
    balances = chain.modules.balances
    balances.reserve(ALICE.public, 4 * POT)
    balances.set_lock(ALICE.public, LOCK, 5 * POT)
    assert balances.transferable(ALICE.public) == ENDOWMENT - 5 * POT
    # As in Substrate, what is locked has to stay free when more is reserved, whatever is reserved already.
    with chain.unchanged(Balances.LiquidityRestrictions):
        balances.reserve(ALICE.public, ENDOWMENT - 9 * POT + 1)
    balances.reserve(ALICE.public, ENDOWMENT - 9 * POT)
    balances.unreserve(ALICE.public, ENDOWMENT)
    assert balances.transferable(ALICE.public) == ENDOWMENT - 5 * POT


def test_a_slash_takes_what_is_locked(chain: TestChain) -> None:
    balances = chain.modules.balances
    issuance = balances.total_issuance.get()
    balances.set_lock(ALICE.public, LOCK, ENDOWMENT)
    chain.clear_events()
    assert balances.slash(ALICE.public, 2 * ENDOWMENT) == ENDOWMENT - ED
    assert chain.events == [Balances.Slashed(ALICE.public, ENDOWMENT - ED)]
    assert chain.modules.system.account[ALICE.public].data == AccountData(ED, 0, ENDOWMENT)
    assert balances.slash(BOB.public, ENDOWMENT - 1) == ENDOWMENT - 1
    assert BOB.public not in chain.modules.system.account
    assert balances.slash(CARL, POT) == 0
    assert balances.total_issuance.get() == issuance - 2 * ENDOWMENT + ED
    chain.run_blocks(1)


def test_what_is_locked_pays_no_fee(chain: TestChain) -> None:
    chain.modules.balances.set_lock(EVE.public, LOCK, ENDOWMENT - 1000)
    raw = chain.sign(EVE, "system.remark", remark=b"")
    before = chain.state_root()
    for attempt in (chain.apply, lambda raw: chain.executive.validate_after(chain.tree, chain.header.hash, raw)):
        with pytest.raises(InvalidTransaction, match=rf"an account keeps at least {ENDOWMENT - 1000}") as refused:
            attempt(raw)
        assert refused.value.reason is InvalidReason.PAYMENT
        assert chain.state_root() == before
        chain.close()  # and what the open block had locked is then committed
        before = chain.state_root()


def test_locks_are_few_and_on_accounts_that_exist(chain: TestChain) -> None:
    balances = chain.modules.balances
    with chain.unchanged(Balances.DeadAccount):
        balances.set_lock(CARL, LOCK, 1)
    for number in range(50):
        balances.set_lock(ALICE.public, number.to_bytes(8), 1)
    with chain.unchanged(Balances.TooManyLocks):
        balances.set_lock(ALICE.public, LOCK, 1)
    balances.set_lock(ALICE.public, bytes(8), 2)
    chain.run_blocks(1)


# --- by force ---


def test_root_sets_a_balance_and_the_issuance_follows(chain: TestChain) -> None:
    issuance = chain.modules.balances.total_issuance.get()
    chain.clear_events()
    chain.call(Origin.root(), "balances.force_set_balance", who=CARL, new_free=5 * POT)
    chain.call(Origin.root(), "balances.force_set_balance", who=CARL, new_free=POT)
    chain.call(Origin.root(), "balances.force_set_balance", who=CARL, new_free=ED - 1)
    assert chain.events == [
        System.NewAccount(CARL),
        Balances.Endowed(CARL, 5 * POT),
        Balances.BalanceSet(CARL, 5 * POT),
        Balances.BalanceSet(CARL, POT),
        System.KilledAccount(CARL),
        Balances.BalanceSet(CARL, 0),
    ]
    assert chain.modules.balances.total_issuance.get() == issuance
    with chain.unchanged(ArithmeticOverflow):
        chain.call(Origin.root(), "balances.force_set_balance", who=CARL, new_free=ENDOWED_MAX - issuance + 1)
    chain.modules.balances.reserve(ALICE.public, POT)
    with chain.unchanged(ConsumerRemaining):
        chain.call(Origin.root(), "balances.force_set_balance", who=ALICE, new_free=0)
    chain.run_blocks(1)


def test_whatever_root_endows_rewards_find_room() -> None:
    chain = TestChain(sessions={"sessionBlocks": 3})
    issuance = chain.modules.balances.total_issuance.get()
    chain.call(Origin.root(), "balances.force_set_balance", who=CARL, new_free=ENDOWED_MAX - issuance)
    chain.run_to(5)  # the session's validators are paid in block 4
    assert chain.modules.balances.total_issuance.get() == ENDOWED_MAX + chain.modules.validators.minted.get()
    assert chain.modules.validators.minted.get() == 3 * POT
    with chain.unchanged(ArithmeticOverflow):
        chain.call(Origin.root(), "balances.force_set_balance", who=BOB, new_free=chain.free(BOB) + 1)
    chain.call(Origin.root(), "balances.force_set_balance", who=BOB, new_free=POT)
    chain.run_blocks(1)


def test_only_root_forces(chain: TestChain) -> None:
    with chain.unchanged(BadOrigin):
        chain.call(ALICE, "balances.force_set_balance", who=ALICE, new_free=2 * ENDOWMENT)


def test_what_is_burned_is_gone(chain: TestChain) -> None:
    issuance = chain.modules.balances.total_issuance.get()
    chain.clear_events()
    chain.call(ALICE, "balances.burn", value=POT, keep_alive=True)
    assert chain.events == [Balances.Burned(ALICE.public, POT)]
    with chain.unchanged(Balances.Expendability):
        chain.call(ALICE, "balances.burn", value=ENDOWMENT - POT, keep_alive=True)
    chain.call(ALICE, "balances.burn", value=ENDOWMENT - POT - 1, keep_alive=False)
    assert chain.events[1:] == [
        System.KilledAccount(ALICE.public),
        Balances.DustLost(ALICE.public, 1),
        Balances.Burned(ALICE.public, ENDOWMENT - POT - 1),
    ]
    assert chain.modules.balances.total_issuance.get() == issuance - ENDOWMENT
    chain.run_blocks(1)


# --- everything together, against the dumb version ---


@dataclass
class Account:
    """An account as the rules tell it in words."""

    free: int = 0
    reserved: int = 0
    locks: dict[bytes, int] = field(default_factory=dict)

    @property
    def frozen(self) -> int:
        return max(self.locks.values(), default=0)

    @property
    def bound(self) -> bool:
        return bool(self.reserved or self.frozen)

    def refuses(self, amount: int, *, keep_alive: bool) -> type[DispatchError] | None:
        """Why the owner may not take `amount` out."""
        left = self.free - amount
        if left < 0:
            return Balances.InsufficientBalance
        if left + self.reserved < self.frozen and left < self.frozen - self.reserved:
            return Balances.LiquidityRestrictions
        return Balances.Expendability if left < ED and (keep_alive or self.bound) else None

    def spendable(self, *, keep_alive: bool) -> int:
        """The most that the owner may take out, found by trying where it could be."""
        candidates = (0, self.free, self.free - ED, self.free - max(0, self.frozen - self.reserved))
        return max((x for x in candidates if x >= 0 and not self.refuses(x, keep_alive=keep_alive)), default=0)


WHO = st.sampled_from((ALICE.public, BOB.public, CARL))
LOCKS = st.sampled_from((LOCK, OTHER))
# An amount, or one next to where a rule begins to hold: its name and by how much it is missed.
AMOUNT = st.one_of(
    st.integers(0, 110 * ED),
    st.integers(0, 200).map(lambda parts: parts * ED),
    st.tuples(st.sampled_from(("zero", "free", "reserved", "spendable", "unlocked")), st.sampled_from((-1, 0, 1))),
)
Amount = int | tuple[str, int]
GENESIS = Executive(RUNTIME).genesis(
    genesis_config(validators=(FERDIE,), balances={ALICE.public: 100 * ED, BOB.public: 100 * ED})
)


class BalancesMachine(RuleBasedStateMachine):
    """Balances does what the dumb version does, and a refusal writes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.overlay, self.log = Overlay(DictState(GENESIS)), EventLog()
        self.modules = RUNTIME.over(self.overlay, self.log)
        self.accounts = {
            ALICE.public: Account(100 * ED),
            BOB.public: Account(100 * ED),
            FERDIE.public: Account(ED, STAKE),  # The validator, of whom nothing is asked.
        }

    def of(self, who: bytes) -> Account:
        return self.accounts.get(who, Account())

    def amount(self, who: bytes, amount: Amount) -> int:
        """The amount that is meant, given what the account has."""
        if isinstance(amount, int):
            return amount
        account, (edge, missed) = self.of(who), amount
        edges = {
            "zero": 0,
            "free": account.free,
            "reserved": account.reserved,
            "spendable": account.spendable(keep_alive=True),
            "unlocked": account.free - account.frozen,
        }
        return max(0, edges[edge] + missed)

    def set(self, who: bytes, account: Account) -> None:
        if account.free < ED:
            self.accounts.pop(who, None)
        else:
            self.accounts[who] = account

    def expect(self, error: type[DispatchError] | None, act: Callable[[], object]) -> bool:
        """Do something that succeeds, or fails with this error and changes nothing; return whether it succeeded."""
        before, events = self.overlay.changes(), len(self.log.records)
        raised = None
        try:
            act()
        except DispatchError as caught:
            raised = type(caught)
        assert raised is error
        assert error is None or (self.overlay.changes(), len(self.log.records)) == (before, events)
        return error is None

    def call(self, origin: Origin, name: str, **arguments: object) -> Callable[[], object]:
        return lambda: self.modules.dispatch(RUNTIME.call(f"balances.{name}", **arguments), origin)

    @rule(who=WHO, dest=WHO, value=AMOUNT, keep_alive=st.booleans(), everything=st.booleans(), force=st.booleans())
    def transfer(self, who: bytes, dest: bytes, value: Amount, keep_alive: bool, everything: bool, force: bool) -> None:
        value = self.amount(who, value)
        if everything:
            value = self.of(who).spendable(keep_alive=keep_alive)
            act = self.call(Origin.signed(who), "transfer_all", dest=dest, keep_alive=keep_alive)
        elif force:
            keep_alive = False
            act = self.call(Origin.root(), "force_transfer", source=who, dest=dest, value=value)
        else:
            name = "transfer_keep_alive" if keep_alive else "transfer_allow_death"
            act = self.call(Origin.signed(who), name, dest=dest, value=value)
        error = self.of(who).refuses(value, keep_alive=keep_alive)
        if error is None and who != dest and self.of(dest).free + value < ED:
            error = Balances.ExistentialDeposit
        if self.expect(error, act) and who != dest:
            self.set(who, replace(self.of(who), free=self.of(who).free - value))
            self.set(dest, replace(self.of(dest), free=self.of(dest).free + value))

    @rule(who=WHO, value=AMOUNT, keep_alive=st.booleans())
    def burn(self, who: bytes, value: Amount, keep_alive: bool) -> None:
        value = self.amount(who, value)
        error = self.of(who).refuses(value, keep_alive=keep_alive)
        if self.expect(error, self.call(Origin.signed(who), "burn", value=value, keep_alive=keep_alive)):
            self.set(who, replace(self.of(who), free=self.of(who).free - value))

    @rule(who=WHO, amount=AMOUNT)
    def mint(self, who: bytes, amount: Amount) -> None:
        amount = self.amount(who, amount)
        after = replace(self.of(who), free=self.of(who).free + amount)
        error = Balances.ExistentialDeposit if after.free < ED else None
        if self.expect(error, lambda: self.modules.balances.mint(who, amount)):
            self.set(who, after)

    @rule(who=WHO, new_free=AMOUNT)
    def set_balance(self, who: bytes, new_free: Amount) -> None:
        new_free = self.amount(who, new_free)
        error = ConsumerRemaining if new_free < ED and self.of(who).bound else None
        if self.expect(error, self.call(Origin.root(), "force_set_balance", who=who, new_free=new_free)):
            self.set(who, replace(self.of(who), free=new_free))

    @rule(who=WHO, amount=AMOUNT)
    def slash(self, who: bytes, amount: Amount) -> None:
        amount = self.amount(who, amount)
        account = self.of(who)
        slashed = min(amount, account.free - ED if account.bound else account.free)
        assert self.modules.balances.slash(who, amount) == slashed
        self.set(who, replace(account, free=account.free - slashed))

    @rule(who=WHO, amount=AMOUNT)
    def reserve(self, who: bytes, amount: Amount) -> None:
        amount = self.amount(who, amount)
        account = self.of(who)
        error = account.refuses(amount, keep_alive=True)
        if error is None and account.free - amount < account.frozen:
            error = Balances.LiquidityRestrictions
        if self.expect(error, lambda: self.modules.balances.reserve(who, amount)):
            self.set(who, replace(account, free=account.free - amount, reserved=account.reserved + amount))

    @rule(who=WHO, amount=AMOUNT)
    def unreserve(self, who: bytes, amount: Amount) -> None:
        amount = self.amount(who, amount)
        account = self.of(who)
        moved = min(amount, account.reserved)
        assert self.modules.balances.unreserve(who, amount) == amount - moved
        self.set(who, replace(account, free=account.free + moved, reserved=account.reserved - moved))

    @rule(who=WHO, amount=AMOUNT, penalty=st.booleans())
    def destroy_reserved(self, who: bytes, amount: Amount, penalty: bool) -> None:
        amount = self.amount(who, amount)
        account, balances = self.of(who), self.modules.balances
        destroyed = min(amount, account.reserved)
        assert (balances.slash_reserved if penalty else balances.burn_reserved)(who, amount) == destroyed
        self.set(who, replace(account, reserved=account.reserved - destroyed))

    @rule(who=WHO, lock=LOCKS, amount=AMOUNT, extend=st.booleans())
    def lock(self, who: bytes, lock: bytes, amount: Amount, extend: bool) -> None:
        amount = self.amount(who, amount)
        account, balances = self.of(who), self.modules.balances
        if extend:
            amount = max(amount, account.locks.get(lock, 0))
        act = balances.extend_lock if extend else balances.set_lock
        error = Balances.DeadAccount if amount and not account.free else None
        if self.expect(error, lambda: act(who, lock, amount)) and amount:
            self.set(who, replace(account, locks=account.locks | {lock: amount}))

    @rule(who=WHO, lock=LOCKS)
    def unlock(self, who: bytes, lock: bytes) -> None:
        account = self.of(who)
        self.modules.balances.remove_lock(who, lock)
        self.set(who, replace(account, locks={key: value for key, value in account.locks.items() if key != lock}))

    @rule(who=WHO, fee=AMOUNT, due=AMOUNT)
    def pay(self, who: bytes, fee: Amount, due: Amount) -> None:
        fee = self.amount(who, fee)
        due = self.amount(who, due)
        account, payment = self.of(who), self.modules.transaction_payment
        due = min(fee, due)
        before = self.overlay.changes()
        try:
            payment.ensure_payable(self.modules.system.account[who], fee)
        except InvalidTransaction:
            assert account.refuses(fee, keep_alive=True)
            assert self.overlay.changes() == before
            return
        assert account.refuses(fee, keep_alive=True) is None
        payment.charge(who, fee)
        assert payment.settle(who, fee, 0, due=due) == due
        self.modules.balances.rescind(payment.collected.get())
        payment.collected.kill()
        self.set(who, replace(account, free=account.free - due))

    @invariant()
    def the_accounts_are_the_dumb_versions(self) -> None:
        self.modules.balances.check()
        stored = {
            who: (info.data.free, info.data.reserved, info.data.frozen, info.providers)
            for who, info in self.modules.system.account.items()
        }
        assert stored == {
            who: (account.free, account.reserved, account.frozen, 1) for who, account in self.accounts.items()
        }
        for who in (ALICE.public, BOB.public, CARL):
            for keep_alive in (False, True):
                spendable = self.of(who).spendable(keep_alive=keep_alive)
                assert self.modules.balances.transferable(who, keep_alive=keep_alive) == spendable


TestBalancesMachine = BalancesMachine.TestCase
TestBalancesMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


ALICE_ADDRESS = ss58.encode(ALICE.public)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"balances": {"balances": 5}}, r"balances\.balances: expected a list, got 5"),
        ({"balances": {"balances": [5]}}, r"balances\.balances\[0\]: expected \[address, amount\], got 5"),
        ({"balances": {"balances": [["x", 5]]}}, r"balances\.balances\[0\]\[0\]: expected an SS58 address, got 'x'"),
        (
            {"balances": {"balances": [[ALICE_ADDRESS, "5"]]}},
            r"balances\.balances\[0\]\[1\]: expected a whole number, got '5'",
        ),
        (
            {"balances": {"balances": [[ALICE_ADDRESS, ED - 1]]}},
            rf"balances\.balances\[0\]\[1\]: expected a whole number of {ED} or more, below 2\^128, got {ED - 1}",
        ),
        ({"balances": {"balances": [[ALICE_ADDRESS, ED]] * 2}}, r"balances\.balances\[1\]\[0\]: \w+ appears twice"),
        (
            {"balances": {"balances": [[ALICE_ADDRESS, ENDOWED_MAX], [ss58.encode(CARL), ED]]}},
            r"balances\.balances\[1\]\[1\]: the balances sum to \d+, the most is \d+",
        ),
        ({"balances": {"balances": [], "ballances": []}}, r"balances\.ballances: unknown field; expected balances"),
        ({"balances": 7}, r"balances: expected an object, got 7"),
        ({"ballances": {}}, r"ballances: unknown module; expected system, timestamp, balances, transactionPayment"),
        ({"system": {"number": 5}}, r"system\.number: unknown field"),
    ],
)
def test_genesis_names_the_field_that_is_wrong(config: dict[str, dict[str, object]], message: str) -> None:
    with pytest.raises(GenesisError, match=message):
        Executive(RUNTIME).genesis(config)
