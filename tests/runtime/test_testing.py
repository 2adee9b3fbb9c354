"""TestChain: a chain of any runtime, whose helpers fail when what they say is not so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pytest

from chain.primitives.scale import AccountId, u32
from runtime.composition import Runtime, View
from runtime.framework import Module, call, event
from runtime.limits import MICROSECOND
from runtime.modules.balances import Balances
from runtime.modules.system import System
from runtime.modules.timestamp import Timestamp
from runtime.modules.transaction_payment import TransactionPayment
from runtime.modules.validators import Validators
from runtime.storage import StorageMap, StorageValue
from runtime.testing import ALICE, BOB, ENDOWMENT, TestChain
from runtime.types import BadOrigin, DispatchError, Origin, Weight


class TallyBoard(Module):
    """Count how often each account calls."""

    counts = StorageMap[AccountId, u32](default=0, doc="Calls by account.")
    total = StorageValue[u32](default=0, doc="Calls by everybody.")

    class Enough(DispatchError):
        """The signer has called three times."""

        index = 0

    @event(index=0)
    class Counted:
        """An account called."""

        who: AccountId
        count: u32

    @call(index=0, weight=Weight(100 * MICROSECOND))
    def count(self, origin: Origin) -> None:
        """Count the signer."""
        who = origin.ensure_signed()
        count = self.counts[who] + 1
        self.total.put(self.total.get() + 1)
        if count > 3:
            raise self.Enough  # after a write: only the executive's rollback undoes it
        self.counts[who] = count
        self.emit(self.Counted(who, count))

    @call(index=1, weight=Weight(100 * MICROSECOND))
    def forget(self, origin: Origin, who: AccountId) -> None:
        """A mistake: forget an account and leave the total as it is."""
        origin.ensure_signed()
        self.counts.remove(who)

    def genesis(self, config: Mapping[str, object]) -> None:
        """`{"total": N}`, which is a mistake too unless it is 0."""
        total = config.get("total", 0)
        assert isinstance(total, int)
        self.total.put(total)

    def check(self) -> None:
        """The total is the sum."""
        assert self.total.get() == sum(self.counts.values())


class Board(View):
    """The modules of the chain below."""

    system: System
    balances: Balances
    tally_board: TallyBoard


RUNTIME: Final = Runtime(
    view=Board,
    spec_name="board",
    spec_version=3,
    transaction_version=2,
    modules={0: System, 1: Timestamp, 2: Balances, 3: TransactionPayment, 4: Validators, 9: TallyBoard},
)


@pytest.fixture
def chain() -> TestChain[Board]:
    return TestChain(runtime=RUNTIME)


def test_a_chain_runs_a_runtime_without_training_and_its_modules_have_their_types(chain: TestChain[Board]) -> None:
    chain.call(ALICE, "tally_board.count")
    chain.run_blocks(2)
    assert chain.modules.tally_board.counts[ALICE.public] == 1
    assert (chain.height, chain.free(BOB)) == (3, ENDOWMENT)


def test_a_call_returns_what_it_emitted_and_nothing_else(chain: TestChain[Board]) -> None:
    chain.call(BOB, "tally_board.count")
    assert chain.call(BOB, "tally_board.count") == [TallyBoard.Counted(BOB.public, 2)]
    assert chain.events_of(TallyBoard.Counted) == [TallyBoard.Counted(BOB.public, n) for n in (1, 2)]


def test_a_signed_call_pays_and_is_signed_for_the_chains_own_versions(chain: TestChain[Board]) -> None:
    applied = chain.submit(ALICE, "tally_board.count")
    assert applied.error is None
    assert chain.free(ALICE) == ENDOWMENT - applied.fee
    chain.run_blocks(1)
    assert chain.modules.tally_board.counts[ALICE.public] == 1


def test_unchanged_wants_exactly_the_error_that_it_names(chain: TestChain[Board]) -> None:
    for _ in range(3):
        chain.call(ALICE, "tally_board.count")
    with chain.unchanged(TallyBoard.Enough):
        chain.call(ALICE, "tally_board.count")
    with pytest.raises(AssertionError, match=r"expected BadOrigin, got Enough"), chain.unchanged(BadOrigin):
        chain.call(ALICE, "tally_board.count")
    with pytest.raises(AssertionError, match=r"expected Enough, got None"), chain.unchanged(TallyBoard.Enough):
        chain.call(BOB, "tally_board.count")


def test_unchanged_sees_a_write_that_nobody_rolled_back(chain: TestChain[Board]) -> None:
    def write_and_refuse() -> None:
        chain.modules.tally_board.total.put(7)
        raise BadOrigin

    with pytest.raises(AssertionError, match="BadOrigin left the state changed"), chain.unchanged(BadOrigin):
        write_and_refuse()


def test_an_invariant_that_breaks_names_its_module_and_its_block(chain: TestChain[Board]) -> None:
    chain.call(ALICE, "tally_board.count")
    chain.run_blocks(1)
    chain.call(BOB, "tally_board.forget", who=ALICE)
    with pytest.raises(AssertionError) as caught:
        chain.run_blocks(1)
    assert caught.value.__notes__ == ["an invariant of TallyBoard, checked after block 2"]


def test_a_modules_genesis_config_goes_under_its_attribute_and_is_checked_with_the_rest() -> None:
    with pytest.raises(AssertionError) as caught:
        TestChain(runtime=RUNTIME, tally_board={"total": 1})
    assert caught.value.__notes__ == ["an invariant of TallyBoard, checked after block 0"]
