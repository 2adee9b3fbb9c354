"""Names: held for a term against a deposit, and free again on time; at the end, what its calls take."""

from __future__ import annotations

import pytest
from names_chain.chain import RUNTIME, NamesChain
from names_chain.names import Holding, Names

from chain.primitives import ss58
from runtime.modules.balances import Balances
from runtime.testing import ALICE, BOB, CHARLIE, ENDOWMENT, POT, Prepared, TestChain, benchmark
from runtime.types import BadOrigin, GenesisError, Origin

TERM = 4
DEPOSIT = 2 * POT


@pytest.fixture
def chain() -> TestChain[NamesChain]:
    return TestChain(runtime=RUNTIME, names={"term": TERM})


def test_a_claimed_name_is_held_against_a_deposit(chain: TestChain[NamesChain]) -> None:
    assert chain.call(BOB, "names.claim", name=b"bob") == [
        Balances.Reserved(BOB.public, DEPOSIT),
        Names.Claimed(b"bob", BOB.public, 1 + TERM),
    ]
    names = chain.modules.names
    assert names.owner_of(b"bob") == BOB.public
    assert names.holdings[b"bob"] == Holding(BOB.public, 1 + TERM, BOB.public, DEPOSIT)
    assert chain.free(BOB) == ENDOWMENT - DEPOSIT
    chain.run_blocks(1)


@pytest.mark.parametrize("name", [b"", b"bo", b"b" * 33, b"Bob", b"bob!", "bøb".encode()])
def test_what_is_no_name_is_refused(chain: TestChain[NamesChain], name: bytes) -> None:
    with chain.unchanged(Names.BadName):
        chain.call(BOB, "names.claim", name=name)


def test_a_name_that_is_held_cannot_be_claimed_not_even_by_its_owner(chain: TestChain[NamesChain]) -> None:
    chain.call(BOB, "names.claim", name=b"bob")
    for who in (ALICE, BOB):
        with chain.unchanged(Names.Taken):
            chain.call(who, "names.claim", name=b"bob")


def test_who_cannot_pay_the_deposit_holds_nothing() -> None:
    chain = TestChain(runtime=RUNTIME, balances={BOB.public: DEPOSIT})
    with chain.unchanged(Balances.Expendability):
        chain.call(BOB, "names.claim", name=b"bob")


def test_an_unrenewed_name_is_free_when_its_term_ends_and_the_deposit_is_back(chain: TestChain[NamesChain]) -> None:
    chain.call(BOB, "names.claim", name=b"bob")
    chain.run_to(TERM)
    assert chain.modules.names.owner_of(b"bob") == BOB.public
    chain.run_to(1 + TERM)
    assert chain.modules.names.owner_of(b"bob") is None
    assert chain.events_of(Names.Freed) == [Names.Freed(b"bob")]
    assert chain.free(BOB) == ENDOWMENT
    chain.call(ALICE, "names.claim", name=b"bob")
    chain.run_blocks(TERM + 1)


def test_a_renewed_name_lives_for_a_whole_term_from_then_on(chain: TestChain[NamesChain]) -> None:
    chain.call(BOB, "names.claim", name=b"bob")
    chain.run_to(3)
    assert chain.call(BOB, "names.renew", name=b"bob") == [Names.Renewed(b"bob", 3 + TERM)]
    chain.run_to(2 + TERM)
    assert chain.modules.names.owner_of(b"bob") == BOB.public
    chain.run_to(3 + TERM)
    assert chain.modules.names.owner_of(b"bob") is None


def test_a_given_name_obeys_its_new_owner_and_its_deposit_returns_to_the_old(chain: TestChain[NamesChain]) -> None:
    chain.call(BOB, "names.claim", name=b"bob")
    assert chain.call(BOB, "names.give", name=b"bob", to=CHARLIE) == [Names.Given(b"bob", CHARLIE.public)]
    with chain.unchanged(Names.NotOwner):
        chain.call(BOB, "names.release", name=b"bob")
    chain.run_blocks(1)
    assert chain.call(CHARLIE, "names.release", name=b"bob") == [
        Balances.Unreserved(BOB.public, DEPOSIT),
        Names.Freed(b"bob"),
    ]
    assert (chain.free(BOB), chain.free(CHARLIE)) == (ENDOWMENT, ENDOWMENT)
    chain.run_blocks(1)


@pytest.mark.parametrize("path", ["names.renew", "names.release"])
def test_only_its_owner_acts_on_a_name_and_nobody_on_a_free_one(chain: TestChain[NamesChain], path: str) -> None:
    chain.call(BOB, "names.claim", name=b"bob")
    for name in (b"bob", b"alice"):
        with chain.unchanged(Names.NotOwner):
            chain.call(ALICE, path, name=name)
    with chain.unchanged(BadOrigin):
        chain.call(Origin.root(), path, name=b"bob")


def test_all_names_of_a_block_end_together(chain: TestChain[NamesChain]) -> None:
    names = [b"name-%d" % number for number in range(20)]
    for name in names:
        chain.call(BOB, "names.claim", name=name)
    chain.run_to(1 + TERM)
    assert sorted(event.name for event in chain.events_of(Names.Freed)) == sorted(names)
    assert list(chain.modules.names.holdings.keys()) == []


def test_names_of_genesis_are_held_for_a_term_without_a_deposit() -> None:
    bob = ss58.encode(BOB.public)
    chain = TestChain(runtime=RUNTIME, names={"term": TERM, "names": [["bob", bob]]})
    assert chain.modules.names.holdings[b"bob"] == Holding(BOB.public, TERM, BOB.public, 0)
    chain.run_to(TERM)
    assert chain.modules.names.owner_of(b"bob") is None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"term": 0}, "names.term: expected 1 to 16777216, got 0"),
        ({"terms": 5}, "names.terms: unknown field; expected names, term"),
        ({"names": [["Bob", ""]]}, "names.names[0][0]: expected 3 to 32 of a-z, 0-9 and -, got 'Bob'"),
        ({"names": [["bob"]]}, "names.names[0]: expected [name, address], got ['bob']"),
        ({"names": [["bob", "5F"]]}, "names.names[0][1]: expected an SS58 address"),
        ({"names": [["bob", ss58.encode(BOB.public)]] * 2}, "names.names[1][0]: bob appears twice; name each once"),
    ],
)
def test_a_bad_genesis_config_is_named(config: dict[str, object], message: str) -> None:
    with pytest.raises(GenesisError) as caught:
        TestChain(runtime=RUNTIME, names=config)
    assert message in str(caught.value)


LONGEST = b"a" * 32


def with_name() -> TestChain[NamesChain]:
    chain = TestChain(runtime=RUNTIME, names={"term": TERM})
    chain.call(BOB, "names.claim", name=LONGEST)
    chain.run_blocks(1)  # a renewal in the next block moves the name to another height
    return chain


@benchmark
def longest_name_claimed() -> Prepared:
    return TestChain(runtime=RUNTIME).prepare(BOB, "names.claim", name=LONGEST)


@benchmark
def longest_name_renewed() -> Prepared:
    return with_name().prepare(BOB, "names.renew", name=LONGEST)


@benchmark
def longest_name_given() -> Prepared:
    return with_name().prepare(BOB, "names.give", name=LONGEST, to=CHARLIE)


@benchmark
def longest_name_released() -> Prepared:
    return with_name().prepare(BOB, "names.release", name=LONGEST)
