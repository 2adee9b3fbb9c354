"""Balances: money moves, is created and destroyed only as asked, and issuance is always the sum of all balances."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.primitives import ss58
from chain.primitives.types import Raw
from runtime.executive import Executive
from runtime.framework import EventLog
from runtime.modules.balances import Balances
from runtime.modules.system import System
from runtime.potchain import RUNTIME, Potchain
from runtime.state import DictState, Overlay
from runtime.testing import ALICE, BOB, ENDOWMENT, POT, TestChain, genesis_config
from runtime.types import AccountData, AccountInfo, BadOrigin, CannotLookup, DispatchError, GenesisError, Origin

ED = POT // 1000
CARL = b"c" * 32  # an account that does not exist


@pytest.fixture(scope="module")
def genesis() -> dict[bytes, bytes]:
    return Executive(RUNTIME).genesis(genesis_config(balances={ALICE.public: 100 * ED, BOB.public: 100 * ED}))


@pytest.fixture
def chain() -> TestChain:
    return TestChain()


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


def operations(modules: Potchain) -> list[Callable[[bytes, bytes, int], object]]:
    balances = modules.balances

    def transfer(path: str) -> Callable[[bytes, bytes, int], object]:
        call = RUNTIME.call_info(f"balances.{path}").function
        return lambda who, to, amount: call(
            balances, Origin.signed(who), *RUNTIME.call(f"balances.{path}", dest=to, value=amount).args
        )

    return [
        transfer("transfer_allow_death"),
        transfer("transfer_keep_alive"),
        lambda who, to, amount: balances.transfer_all(
            Origin.signed(who), RUNTIME.call("balances.transfer_all", dest=to, keep_alive=True).args[0], amount % 2 == 0
        ),
        lambda who, _, amount: balances.mint(who, amount),
        lambda who, _, amount: balances.reserve(who, amount),
        lambda who, _, amount: balances.unreserve(who, amount),
        lambda who, _, amount: balances.slash_reserved(who, amount),
        lambda who, _, amount: balances.burn_reserved(who, amount),
    ]


WHO = st.sampled_from((ALICE.public, BOB.public, CARL))
AMOUNT = st.one_of(st.integers(0, 3), st.integers(0, 200).map(lambda parts: parts * ED), st.integers(0, 110 * ED))


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 7), WHO, WHO, AMOUNT), max_size=25))
def test_whatever_is_asked_invariants_hold_and_a_refusal_writes_nothing(
    genesis: dict[bytes, bytes], steps: list[tuple[int, bytes, bytes, int]]
) -> None:
    overlay, log = Overlay(DictState(genesis)), EventLog()
    modules = RUNTIME.over(overlay, log)
    table = operations(modules)
    for operation, who, to, amount in steps:
        before, events = overlay.changes(), len(log.records)
        try:
            table[operation](who, to, amount)
        except DispatchError:
            assert (overlay.changes(), len(log.records)) == (before, events)
        modules.balances.check()
        assert all(info.providers == 1 for info in modules.system.account.values())


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
            rf"balances\.balances\[0\]\[1\]: expected {ED} to \d+, got {ED - 1}",
        ),
        ({"balances": {"balances": [[ALICE_ADDRESS, ED]] * 2}}, r"balances\.balances\[1\]\[0\]: \w+ appears twice"),
        (
            {"balances": {"balances": [[ALICE_ADDRESS, 2**128 - 1], [ss58.encode(CARL), ED]]}},
            r"balances\.balances\[1\]\[1\]: the balances sum to",
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
