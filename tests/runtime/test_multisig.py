"""Multisig: an account that several speak for, and calls nested in every way against the dumb version."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from chain.primitives import ss58
from chain.primitives.hashing import blake2_256
from chain.primitives.keys import Keypair, Scheme
from runtime.calls import Call
from runtime.faults import OK, DispatchFailed, FaultModule, ModuleError
from runtime.modules.balances import TRANSFER, Balances
from runtime.modules.multisig import Multisig, Operation, Timepoint, multi_account, own_weight
from runtime.modules.system import System
from runtime.modules.utility import derivative_account
from runtime.potchain import RUNTIME
from runtime.testing import ALICE, BOB, CHARLIE, DAVE, ENDOWMENT, EVE, FERDIE, POT, TestChain
from runtime.types import DispatchError, Origin, Weight

ED = POT // 1000
TEAM: Final = tuple(sorted((ALICE, BOB, CHARLIE), key=lambda keypair: keypair.public))
MULTI: Final = multi_account([keypair.public for keypair in TEAM], 2)
DEPOSIT: Final = POT // 10 + 2 * (POT // 100)
ENOUGH: Final = Weight(10**9)


def others(who: Keypair) -> list[bytes]:
    return [keypair.public for keypair in TEAM if keypair is not who]


def pay(value: int, dest: bytes = EVE.public) -> Call:
    return RUNTIME.call("balances.transfer_keep_alive", dest=dest, value=value)


def approval(who: Keypair, call: Call, when: Timepoint | None = None, max_weight: Weight = ENOUGH) -> dict[str, Any]:
    """The arguments of an `as_multi` by one of the team."""
    return {
        "threshold": 2,
        "other_signatories": others(who),
        "maybe_timepoint": when,
        "call": call,
        "max_weight": max_weight,
    }


def by_hash(who: Keypair, call: Call, when: Timepoint | None = None) -> dict[str, Any]:
    """The arguments of an `approve_as_multi` by one of the team."""
    arguments = approval(who, call, when, Weight(0))
    del arguments["call"]
    return {**arguments, "call_hash": blake2_256(call.encode())}


@pytest.fixture
def chain() -> TestChain:
    made = TestChain(validators=(FERDIE,))  # Nobody else has a bond.
    made.call(ALICE, "balances.transfer_keep_alive", dest=MULTI, value=100 * POT)
    made.run_blocks(1)
    return made


def test_the_account_is_the_one_that_wallets_derive() -> None:
    # From @polkadot/util-crypto's own tests: Alice, Bob and Charlie of sr25519, two of whom decide.
    keys = [Keypair.from_uri(f"//{name}", Scheme.SR25519).public for name in ("Alice", "Bob", "Charlie")]
    assert ss58.encode(multi_account(sorted(keys), 2)) == "5DjYJStmdZ2rcqXbXGX7TW85JsrW6uG4y9MUcLq2BoPMpRA7"


def test_two_of_three_move_what_none_of_them_could(chain: TestChain) -> None:
    call, call_hash = pay(7 * POT), blake2_256(pay(7 * POT).encode())
    chain.submit(BOB, "multisig.as_multi", **approval(BOB, call))
    when = Timepoint(chain.height, 2)
    assert dict(chain.modules.multisig.multisigs.items()) == {
        (MULTI, call_hash): Operation(when, DEPOSIT, BOB.public, (BOB.public,))
    }
    assert chain.modules.balances.reserved(BOB.public) == DEPOSIT
    chain.run_blocks(2)
    chain.clear_events()
    chain.call(ALICE, "multisig.as_multi", **approval(ALICE, call, when))
    assert chain.events == [
        Balances.Unreserved(BOB.public, DEPOSIT),
        Balances.Transfer(MULTI, EVE.public, 7 * POT),
        Multisig.MultisigExecuted(ALICE.public, when, MULTI, call_hash, OK),
    ]
    assert not list(chain.modules.multisig.multisigs.keys())
    chain.run_blocks(1)


def test_a_call_that_fails_is_told_and_its_operation_is_over(chain: TestChain) -> None:
    call = pay(1000 * POT)
    chain.submit(BOB, "multisig.as_multi", **approval(BOB, call))
    applied = chain.submit(ALICE, "multisig.as_multi", **approval(ALICE, call, Timepoint(chain.height, 2)))
    assert applied.error is None
    (executed,) = chain.events_of(Multisig.MultisigExecuted)
    assert executed.result == DispatchFailed(FaultModule(ModuleError(2, b"\0\0\0\0")))
    assert chain.modules.balances.reserved(BOB.public) == 0
    chain.run_blocks(1)


def test_approvals_by_hash_gather_until_somebody_brings_the_call(chain: TestChain) -> None:
    trio = [keypair.public for keypair in TEAM]
    account = multi_account(trio, 3)
    chain.call(ALICE, "balances.transfer_keep_alive", dest=account, value=10 * POT)
    call, when = pay(POT), Timepoint(chain.height, 1)
    chain.call(TEAM[0], "multisig.approve_as_multi", **{**by_hash(TEAM[0], call), "threshold": 3})
    chain.call(TEAM[1], "multisig.as_multi", **{**approval(TEAM[1], call, when), "threshold": 3})
    with chain.unchanged(Multisig.AlreadyApproved):
        chain.call(TEAM[1], "multisig.as_multi", **{**approval(TEAM[1], call, when), "threshold": 3})
    chain.call(TEAM[2], "multisig.approve_as_multi", **{**by_hash(TEAM[2], call, when), "threshold": 3})
    (operation,) = chain.modules.multisig.multisigs.values()
    assert operation.approvals == tuple(trio)
    assert [item.approving for item in chain.events_of(Multisig.MultisigApproval)] == trio[1:]
    with chain.unchanged(Multisig.AlreadyApproved):
        chain.call(TEAM[0], "multisig.approve_as_multi", **{**by_hash(TEAM[0], call, when), "threshold": 3})
    chain.call(TEAM[0], "multisig.as_multi", **{**approval(TEAM[0], call, when), "threshold": 3})
    assert chain.free(EVE) == ENDOWMENT + POT
    chain.run_blocks(1)


def test_an_operation_needs_no_more_approvals_than_its_threshold(chain: TestChain) -> None:
    call, when = pay(POT), Timepoint(chain.height, 1)
    chain.call(TEAM[0], "multisig.approve_as_multi", **by_hash(TEAM[0], call))
    chain.call(TEAM[1], "multisig.approve_as_multi", **by_hash(TEAM[1], call, when))
    with chain.unchanged(Multisig.NoApprovalsNeeded):
        chain.call(TEAM[2], "multisig.approve_as_multi", **by_hash(TEAM[2], call, when))
    chain.call(TEAM[2], "multisig.as_multi", **approval(TEAM[2], call, when))
    assert chain.free(EVE) == ENDOWMENT + POT


def test_only_who_opened_an_operation_cancels_it(chain: TestChain) -> None:
    call, call_hash, when = pay(POT), blake2_256(pay(POT).encode()), Timepoint(chain.height, 1)
    chain.call(BOB, "multisig.approve_as_multi", **by_hash(BOB, call))

    def cancel(who: Keypair, timepoint: Timepoint = when, call_hash: bytes = call_hash, threshold: int = 2) -> None:
        chain.call(
            who,
            "multisig.cancel_as_multi",
            threshold=threshold,
            other_signatories=others(who),
            timepoint=timepoint,
            call_hash=call_hash,
        )

    wrong: list[tuple[type[DispatchError], Keypair, dict[str, Any]]] = [
        (Multisig.NotOwner, ALICE, {}),
        (Multisig.WrongTimepoint, BOB, {"timepoint": Timepoint(when.height, 7)}),
        (Multisig.NotFound, BOB, {"call_hash": bytes(32)}),
        (Multisig.NotFound, BOB, {"threshold": 3}),
        (Multisig.MinimumThreshold, BOB, {"threshold": 1}),
    ]
    for error, who, changed in wrong:
        with chain.unchanged(error):
            cancel(who, **changed)
    chain.clear_events()
    cancel(BOB)
    assert chain.events == [
        Balances.Unreserved(BOB.public, DEPOSIT),
        Multisig.MultisigCancelled(BOB.public, when, MULTI, call_hash),
    ]
    chain.run_blocks(1)


def test_what_is_wrong_with_an_approval_is_named(chain: TestChain) -> None:
    call, when = pay(POT), Timepoint(chain.height, 1)
    wrong: list[tuple[type[DispatchError], dict[str, Any]]] = [
        (Multisig.MinimumThreshold, {"threshold": 1}),
        (Multisig.TooFewSignatories, {"other_signatories": []}),
        (Multisig.TooManySignatories, {"other_signatories": [number.to_bytes(32) for number in range(100)]}),
        (Multisig.SignatoriesOutOfOrder, {"other_signatories": others(BOB)[::-1]}),
        (Multisig.SignatoriesOutOfOrder, {"other_signatories": [ALICE.public, ALICE.public]}),
        (Multisig.SenderInSignatories, {"other_signatories": [BOB.public]}),
        (Multisig.UnexpectedTimepoint, {"maybe_timepoint": when}),
    ]
    for error, changed in wrong:
        with chain.unchanged(error):
            chain.call(BOB, "multisig.as_multi", **{**approval(BOB, call), **changed})
        with chain.unchanged(error):
            chain.call(BOB, "multisig.approve_as_multi", **{**by_hash(BOB, call), **changed})
    chain.call(BOB, "multisig.as_multi", **approval(BOB, call))
    for error, who, arguments in (
        (Multisig.AlreadyApproved, BOB, approval(BOB, call, when)),
        (Multisig.NoTimepoint, ALICE, approval(ALICE, call)),
        (Multisig.WrongTimepoint, ALICE, approval(ALICE, call, Timepoint(when.height, 9))),
        (Multisig.MaxWeightTooLow, ALICE, approval(ALICE, call, when, Weight(TRANSFER.ref_time - 1))),
    ):
        with chain.unchanged(error):
            chain.call(who, "multisig.as_multi", **arguments)
    chain.call(ALICE, "multisig.as_multi", **approval(ALICE, call, when, TRANSFER))


def test_one_of_several_speaks_for_them_at_once(chain: TestChain) -> None:
    account = multi_account([keypair.public for keypair in TEAM], 1)
    chain.call(ALICE, "balances.transfer_keep_alive", dest=account, value=10 * POT)
    chain.call(CHARLIE, "multisig.as_multi_threshold_1", other_signatories=others(CHARLIE), call=pay(POT))
    assert chain.modules.balances.free(account) == 9 * POT
    with chain.unchanged(Balances.InsufficientBalance):
        chain.call(CHARLIE, "multisig.as_multi_threshold_1", other_signatories=others(CHARLIE), call=pay(10 * POT))
    with chain.unchanged(Multisig.TooFewSignatories):
        chain.call(CHARLIE, "multisig.as_multi_threshold_1", other_signatories=[], call=pay(POT))


def test_an_approval_is_charged_for_the_call_only_when_it_makes_it(chain: TestChain) -> None:
    call = pay(POT)
    for who, when in ((BOB, None), (ALICE, Timepoint(chain.height, 2))):
        raw = chain.sign(who, "multisig.as_multi", **approval(who, call, when))
        told = chain.executive.query_info(chain.tree, raw)
        assert told.weight == own_weight(others(who), call.size) + ENOUGH
        applied = chain.apply(raw)
        used = own_weight(others(who), call.size) + (TRANSFER if when else Weight(0))
        last = chain.events[-1]
        assert isinstance(last, System.ExtrinsicSuccess)
        assert last.dispatch_info.weight == used
        assert applied.fee == told.partial_fee - (told.weight.ref_time - used.ref_time)
    chain.run_blocks(1)


def test_a_call_inside_weighs_its_bytes_whatever_it_is_said_to_weigh() -> None:
    call = RUNTIME.call("utility.batch", calls=[pay(POT)] * 1000)
    opened = RUNTIME.call("multisig.as_multi", **approval(BOB, call, max_weight=Weight(0)))
    assert opened.dispatch_info.weight == own_weight(others(BOB), len(call.encode()))
    assert RUNTIME.call_codec.decode(opened.encode()).dispatch_info == opened.dispatch_info


# --- every nesting, against the dumb version ---


@dataclass
class World:
    """What the calls below change, as a dictionary that is copied for every transaction."""

    money: dict[bytes, int]
    open: dict[tuple[bytes, bytes], tuple[Timepoint, bytes, frozenset[bytes]]] = field(default_factory=dict)

    def free(self, who: bytes) -> int:
        return self.money.get(who, 0) - self.deposits(who)

    def deposits(self, who: bytes) -> int:
        return sum(DEPOSIT for _, depositor, _ in self.open.values() if depositor == who)


class Failed(Exception):
    """A call of the dumb version failed."""


Dumb = Callable[[World, bytes], None]


def atomic(dumb: Dumb, world: World, who: bytes) -> bool:
    """Run a call on a copy, and keep the copy if it succeeded."""
    copied = deepcopy(world)
    try:
        dumb(copied, who)
    except Failed:
        return False
    world.money, world.open = copied.money, copied.open
    return True


def must(succeeded: bool) -> None:
    if not succeeded:
        raise Failed


PEOPLE: Final = tuple(keypair.public for keypair in (*TEAM, DAVE, EVE))
DESTS: Final = (*PEOPLE, MULTI, derivative_account(TEAM[0].public, 0))
Tree = tuple[Call, Dumb]


def transfer(dest: bytes, value: int) -> Tree:
    def dumb(world: World, who: bytes) -> None:
        must(world.free(who) - value >= ED and (who == dest or world.money.get(dest, 0) + value >= ED))
        world.money[who] -= value
        world.money[dest] = world.money.get(dest, 0) + value

    return pay(value, dest), dumb


def batch(kind: str, trees: list[Tree]) -> Tree:
    def dumb(world: World, who: bytes) -> None:
        for _, inner in trees:
            succeeded = atomic(inner, world, who)
            if kind == "batch_all":
                must(succeeded)
            elif kind == "batch" and not succeeded:
                return

    return RUNTIME.call(f"utility.{kind}", calls=[call for call, _ in trees]), dumb


def derivative(index: int, tree: Tree) -> Tree:
    def dumb(world: World, who: bytes) -> None:
        must(atomic(tree[1], world, derivative_account(who, index)))

    return RUNTIME.call("utility.as_derivative", index=index, call=tree[0]), dumb


def multi(pair: tuple[bytes, ...], when: Timepoint | None, now: Timepoint, tree: Tree) -> Tree:
    """An `as_multi` for two of the team; whoever is not of the team, or names the other wrongly, fails."""
    call, inner = tree
    call_hash = blake2_256(call.encode())

    def dumb(world: World, who: bytes) -> None:
        must(who not in pair)
        key = (multi_account(sorted((who, *pair)), 2), call_hash)
        found = world.open.get(key)
        if found is None:
            must(when is None and world.free(who) - DEPOSIT >= ED)
            world.open[key] = (now, who, frozenset((who,)))
            return
        must(when == found[0] and who not in found[2])
        del world.open[key]
        atomic(inner, world, key[0])

    arguments = {"other_signatories": sorted(pair), "maybe_timepoint": when, "max_weight": call.dispatch_info.weight}
    return RUNTIME.call("multisig.as_multi", threshold=2, call=call, **arguments), dumb


def trees(now: Timepoint) -> st.SearchStrategy[Tree]:
    """Calls in calls in calls."""
    leaves = st.builds(transfer, st.sampled_from(DESTS), st.sampled_from((0, 1, ED, POT, 40 * POT, 200 * POT)))
    pairs = st.sampled_from(list(combinations([keypair.public for keypair in TEAM], 2)))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(batch, st.sampled_from(("batch", "batch_all", "force_batch")), st.lists(inner, max_size=4)),
            st.builds(derivative, st.just(0), inner),
            st.builds(multi, pairs, st.sampled_from((None, now)), st.just(now), inner),
        ),
        max_leaves=12,
    )


class NestingMachine(RuleBasedStateMachine):
    """Calls nested in every way do what the dumb version does, and what fails writes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.chain = TestChain(validators=(FERDIE,), balances=dict.fromkeys((*PEOPLE, MULTI), 100 * POT))
        self.world = World(dict.fromkeys((*PEOPLE, MULTI), 100 * POT))
        self.seen: list[Tree] = []

    def run(self, who: bytes, tree: Tree) -> None:
        before, events = self.chain.builder.overlay.changes(), len(self.chain.builder.log.records)
        succeeded = atomic(tree[1], self.world, who)
        try:
            self.chain.modules.dispatch(RUNTIME.call_codec.decode(tree[0].encode()), Origin.signed(who))
        except DispatchError:
            assert not succeeded
            after = self.chain.builder.overlay.changes(), len(self.chain.builder.log.records)
            assert after == (before, events)
        else:
            assert succeeded

    @property
    def now(self) -> Timepoint:
        return Timepoint(self.chain.height, self.chain.modules.system.extrinsic_index or 0)

    @rule(who=st.sampled_from(PEOPLE), data=st.data())
    def call(self, who: bytes, data: st.DataObject) -> None:
        tree = data.draw(trees(self.now))
        self.seen.append(tree)
        self.run(who, tree)

    @rule(pair=st.sampled_from(list(combinations(TEAM, 2))), data=st.data())
    def agree(self, pair: tuple[Keypair, Keypair], data: st.DataObject) -> None:
        """Two of the team approve a call, one after the other: mostly it is made."""
        tree = data.draw(trees(self.now))
        first, second = pair
        now = self.now
        self.run(first.public, multi(tuple(others(first)), None, now, tree))
        self.run(second.public, multi(tuple(others(second)), now, now, tree))

    @rule()
    def close(self) -> None:
        self.chain.close()

    @invariant()
    def the_world_is_the_dumb_version(self) -> None:
        modules = self.chain.modules
        modules.multisig.check()
        modules.balances.check()
        assert {who: modules.balances.total(who) for who in self.world.money} == self.world.money
        for who in self.world.money:
            assert modules.balances.reserved(who) == self.world.deposits(who)
        operations = {
            key: (operation.when, operation.depositor, frozenset(operation.approvals))
            for key, operation in modules.multisig.multisigs.items()
        }
        assert operations == self.world.open


TestNestingMachine = NestingMachine.TestCase
TestNestingMachine.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)
