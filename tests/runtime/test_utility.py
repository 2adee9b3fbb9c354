"""Utility and Sudo: calls inside of calls, each in a transaction of its own, weighed and paid for as one."""

from __future__ import annotations

import sys
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.primitives import ss58
from chain.primitives.merkle import MemoryTree
from chain.primitives.scale import ScaleError, compact_encode
from chain.primitives.types import decode_extrinsic, encode_extrinsic
from runtime.calls import CALL_DEPTH_MAX, READ_BYTE, Call
from runtime.faults import OK, DispatchFailed, FaultBadOrigin, FaultModule, ModuleError
from runtime.limits import EXTRINSIC_WEIGHT, WEIGHT_MAX
from runtime.modules.balances import TRANSFER, Balances
from runtime.modules.sudo import Sudo
from runtime.modules.system import System
from runtime.modules.transaction_payment import TransactionPayment
from runtime.modules.utility import ITEM, OVERHEAD, Utility, derivative_account
from runtime.potchain import RUNTIME
from runtime.testing import ALICE, BOB, CHARLIE, ENDOWMENT, EVE, POT, TestChain
from runtime.types import (
    BadOrigin,
    DispatchClass,
    DispatchInfo,
    InvalidReason,
    InvalidTransaction,
    NoOrigin,
    Origin,
    Pays,
    RootOrigin,
    SignedOrigin,
    SystemOrigin,
    Weight,
)

# What the calls in these tests fail with.
POOR = FaultModule(ModuleError(2, b"\0\0\0\0"))
NO_ROOT = FaultBadOrigin()
TOO_MUCH = 2 * ENDOWMENT


def transfer(value: int, dest: bytes = BOB.public) -> Call:
    return RUNTIME.call("balances.transfer_keep_alive", dest=dest, value=value)


def remark() -> Call:
    return RUNTIME.call("system.remark", remark=b"")


def batch(*calls: Call, kind: str = "batch") -> Call:
    return RUNTIME.call(f"utility.{kind}", calls=list(calls))


def nested(depth: int) -> bytes:
    """A remark inside of `depth` derivative calls."""
    return bytes((7, 1, 0, 0)) * depth + RUNTIME.encode_call(remark())


@pytest.fixture
def chain() -> TestChain:
    return TestChain(sudo={"key": ss58.encode(ALICE.public)})


# --- calls that carry calls ---


def test_a_call_that_carries_calls_reads_back_with_the_weight_of_all_of_them() -> None:
    made = batch(transfer(1), batch(remark(), kind="batch_all"), RUNTIME.call("sudo.sudo", call=remark()))
    read = RUNTIME.call_codec.decode(RUNTIME.encode_call(made))
    assert read == made
    assert read.dispatch_info == made.dispatch_info
    inner = OVERHEAD + ITEM + remark().dispatch_info.weight
    sudo = Weight(50_000_000) + remark().dispatch_info.weight
    assert made.dispatch_info.weight == OVERHEAD + ITEM.times(3) + TRANSFER + inner + sudo
    assert batch().dispatch_info == DispatchInfo(OVERHEAD, DispatchClass.OPERATIONAL, Pays.YES)


def test_calls_nest_thirty_two_deep_and_no_deeper() -> None:
    deepest = RUNTIME.call_codec.decode(nested(CALL_DEPTH_MAX - 1))
    assert RUNTIME.encode_call(deepest) == nested(CALL_DEPTH_MAX - 1)
    with pytest.raises(ScaleError, match=rf"expected calls nested at most {CALL_DEPTH_MAX} deep, got one more at byte"):
        RUNTIME.call_codec.decode(nested(CALL_DEPTH_MAX))


def test_the_deepest_calls_run_within_a_third_of_the_stack(chain: TestChain) -> None:
    call = RUNTIME.call_codec.decode(nested(CALL_DEPTH_MAX - 1))
    limit = sys.getrecursionlimit()
    used = 0
    frame = sys._getframe()
    while frame.f_back is not None:
        used, frame = used + 1, frame.f_back
    sys.setrecursionlimit(used + limit // 3)
    try:
        decoded = RUNTIME.call_codec.decode(nested(CALL_DEPTH_MAX - 1))
        chain.modules.dispatch(decoded, Origin.signed(ALICE.public))
    finally:
        sys.setrecursionlimit(limit)
    assert decoded == call


@pytest.mark.parametrize("depth", [CALL_DEPTH_MAX, 1_000, 100_000])
@pytest.mark.parametrize(
    "level", [b"\7\1\0\0", b"\7\0\4", b"\7\2\4", b"\10\0"], ids=["derivative", "batch", "all", "sudo"]
)
def test_hostile_nesting_is_a_malformed_transaction(chain: TestChain, depth: int, level: bytes) -> None:
    signed = decode_extrinsic(chain.sign(ALICE, "system.remark", remark=b""), RUNTIME.call_codec).signature
    raw = encode_extrinsic(level * depth + RUNTIME.encode_call(remark()), signed)
    before = chain.state_root()
    with pytest.raises(InvalidTransaction, match="malformed transaction: expected calls nested at most 32 deep"):
        chain.apply(raw)
    assert chain.state_root() == before


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 40))
def test_bytes_behind_any_nesting_are_read_as_what_they_are_or_refused(tail: bytes, depth: int) -> None:
    raw = bytes((7, 1, 0, 0)) * depth + tail
    try:
        call = RUNTIME.call_codec.decode(raw)
    except ScaleError:
        return
    assert RUNTIME.encode_call(call) == raw


# --- batches ---


def test_a_batch_makes_its_calls_one_after_the_other(chain: TestChain) -> None:
    chain.clear_events()
    chain.call(ALICE, "utility.batch", calls=[transfer(POT), transfer(2 * POT, CHARLIE.public)])
    assert chain.events == [
        Balances.Transfer(ALICE.public, BOB.public, POT),
        Utility.ItemCompleted(),
        Balances.Transfer(ALICE.public, CHARLIE.public, 2 * POT),
        Utility.ItemCompleted(),
        Utility.BatchCompleted(),
    ]
    chain.run_blocks(1)


def test_a_batch_stops_at_the_first_failure_and_keeps_what_came_before(chain: TestChain) -> None:
    chain.clear_events()
    chain.call(ALICE, "utility.batch", calls=[transfer(POT), transfer(TOO_MUCH), transfer(POT)])
    assert chain.events == [
        Balances.Transfer(ALICE.public, BOB.public, POT),
        Utility.ItemCompleted(),
        Utility.BatchInterrupted(1, POOR),
    ]
    assert chain.free(ALICE) == ENDOWMENT - POT


def test_batch_all_undoes_all_and_fails_with_the_call_that_failed(chain: TestChain) -> None:
    with chain.unchanged(Balances.InsufficientBalance):
        chain.call(ALICE, "utility.batch_all", calls=[transfer(POT), transfer(TOO_MUCH), transfer(POT)])
    chain.clear_events()
    chain.call(ALICE, "utility.batch_all", calls=[transfer(POT), transfer(POT)])
    assert chain.events[-2:] == [Utility.ItemCompleted(), Utility.BatchCompleted()]
    assert chain.free(ALICE) == ENDOWMENT - 2 * POT


def test_force_batch_goes_on_behind_a_failure(chain: TestChain) -> None:
    chain.clear_events()
    chain.call(ALICE, "utility.force_batch", calls=[transfer(TOO_MUCH), transfer(POT)])
    assert chain.events == [
        Utility.ItemFailed(POOR),
        Balances.Transfer(ALICE.public, BOB.public, POT),
        Utility.ItemCompleted(),
        Utility.BatchCompletedWithErrors(),
    ]
    chain.clear_events()
    chain.call(ALICE, "utility.force_batch", calls=[transfer(POT)])
    assert chain.events[-1] == Utility.BatchCompleted()


def test_what_a_nested_batch_undoes_is_its_own(chain: TestChain) -> None:
    chain.clear_events()
    chain.call(
        ALICE,
        "utility.batch",
        calls=[
            transfer(POT),
            batch(transfer(POT), batch(transfer(POT), transfer(TOO_MUCH), kind="batch_all"), transfer(POT)),
            transfer(POT),
        ],
    )
    moved = Balances.Transfer(ALICE.public, BOB.public, POT)
    assert chain.events == [
        *(moved, Utility.ItemCompleted()),
        *(moved, Utility.ItemCompleted(), Utility.BatchInterrupted(1, POOR), Utility.ItemCompleted()),
        *(moved, Utility.ItemCompleted()),
        Utility.BatchCompleted(),
    ]
    assert chain.free(ALICE) == ENDOWMENT - 3 * POT
    chain.run_blocks(1)


def test_a_batch_has_a_limit_and_an_origin(chain: TestChain) -> None:
    for kind in ("batch", "batch_all", "force_batch"):
        with chain.unchanged(Utility.TooManyCalls):
            chain.call(ALICE, f"utility.{kind}", calls=[remark()] * 20_001)
        with chain.unchanged(BadOrigin):
            chain.call(Origin.none(), f"utility.{kind}", calls=[])
        chain.call(Origin.root(), f"utility.{kind}", calls=[])


def test_no_block_has_room_for_a_batch_beyond_the_limit() -> None:
    weight = batch(*[remark()] * 20_000).dispatch_info.weight.ref_time
    assert weight > WEIGHT_MAX[DispatchClass.NORMAL]
    assert OVERHEAD.ref_time + 20_000 * ITEM.ref_time >= WEIGHT_MAX[DispatchClass.NORMAL]


# --- in another's name ---


def test_a_derivative_account_is_substrates() -> None:
    # From @polkadot/util-crypto's own tests.
    for owner, index, derived in (
        (
            "5GvUh7fGKsdBEh5XpypkfkGuf7j3vXLxH9BdxjxnJNVXRYi1",
            0,
            ss58.decode("5E5XxqPxm7QbEs6twYfp3tyjXidn4kqRrNPH4o6JK9JSLUeD"),
        ),
        (
            "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY",
            1,
            bytes.fromhex("f81356d1fe5954303680a6ef99d48f22bf3cd232274d7a471d3cf7c65f65f653"),
        ),
    ):
        assert derivative_account(ss58.decode(owner), index) == derived


def test_a_call_is_made_through_a_pseudonym_of_the_sender(chain: TestChain) -> None:
    who = derivative_account(ALICE.public, 7)
    chain.call(ALICE, "balances.transfer_keep_alive", dest=who, value=5 * POT)
    chain.call(ALICE, "utility.as_derivative", index=7, call=transfer(POT))
    assert chain.modules.balances.free(who) == 4 * POT
    with chain.unchanged(Balances.InsufficientBalance):
        chain.call(ALICE, "utility.as_derivative", index=8, call=transfer(POT))


def test_only_root_makes_calls_as_anybody(chain: TestChain) -> None:
    as_bob = SystemOrigin(SignedOrigin(BOB.public))
    with chain.unchanged(BadOrigin):
        chain.call(ALICE, "utility.dispatch_as", as_origin=as_bob, call=transfer(POT, EVE.public))
    chain.clear_events()
    chain.call(Origin.root(), "utility.dispatch_as", as_origin=as_bob, call=transfer(POT, EVE.public))
    assert chain.events == [Balances.Transfer(BOB.public, EVE.public, POT), Utility.DispatchedAs(OK)]
    chain.clear_events()
    for origin in (RootOrigin(), NoOrigin()):
        chain.call(Origin.root(), "utility.dispatch_as", as_origin=SystemOrigin(origin), call=transfer(POT))
    assert chain.events == [Utility.DispatchedAs(DispatchFailed(NO_ROOT))] * 2


# --- what it costs ---


def charged(chain: TestChain, call: Call, tip: int = 0) -> tuple[int, int, DispatchInfo]:
    """Include a call by Alice: what a wallet was told, what she paid, and what the chain says that it used."""
    name = call.path
    raw = chain.sign(ALICE, name, tip=tip, **call.arguments)
    before = chain.free(ALICE)
    told = chain.executive.query_info(chain.tree, raw).partial_fee
    moved = sum(event.amount for event in chain.events_of(Balances.Transfer))
    applied = chain.apply(raw)
    moved = sum(event.amount for event in chain.events_of(Balances.Transfer)) - moved
    last = chain.events[-1]
    assert isinstance(last, System.ExtrinsicSuccess | System.ExtrinsicFailed)
    assert before - chain.free(ALICE) - moved == applied.fee
    assert chain.events_of(TransactionPayment.TransactionFeePaid)[-1].actual_fee == applied.fee
    assert (Balances.Withdraw(ALICE.public, told + tip) in chain.events) == (told + tip > 0)
    return told, applied.fee, last.dispatch_info


@pytest.mark.parametrize("tip", [0, 77])
def test_a_batch_pays_what_a_wallet_was_told(chain: TestChain, tip: int) -> None:
    call = batch(transfer(POT), transfer(POT))
    told, paid, used = charged(chain, call, tip)
    assert paid == told + tip
    assert used == call.dispatch_info


def test_what_pays_nothing_is_quoted_taken_and_given_back(chain: TestChain) -> None:
    told, paid, used = charged(chain, RUNTIME.call("sudo.sudo", call=remark()), tip=5)
    assert (paid, used.pays_fee) == (5, Pays.NO)
    assert Balances.Deposit(ALICE.public, told) in chain.events
    # The batch pays although every call in it would have paid nothing alone.
    call = batch(RUNTIME.call("sudo.sudo", call=remark()))
    told, paid, used = charged(chain, call)
    assert (paid, used) == (told, call.dispatch_info)


def test_a_batch_that_stops_pays_for_what_it_did(chain: TestChain) -> None:
    for kind in ("batch", "batch_all"):
        call = batch(transfer(TOO_MUCH), *[transfer(POT)] * 9, kind=kind)
        told, paid, used = charged(chain, call, tip=5)
        read = READ_BYTE.times(9 * transfer(POT).size)
        assert used == DispatchInfo(OVERHEAD + ITEM + TRANSFER + read, DispatchClass.NORMAL, Pays.YES)
        saved = (call.dispatch_info.weight.ref_time - used.weight.ref_time) // 10**6 * 10**6
        assert paid == told + 5 - saved
    before = chain.builder.meter.weight[DispatchClass.NORMAL]
    _, _, used = charged(chain, batch(transfer(TOO_MUCH), transfer(POT)))
    assert chain.builder.meter.weight[DispatchClass.NORMAL] == before + EXTRINSIC_WEIGHT + used.weight.ref_time
    chain.run_blocks(1)


@pytest.mark.parametrize("kind", ["batch", "batch_all"])
def test_calls_that_are_only_read_fill_a_block_by_their_bytes(chain: TestChain, kind: str) -> None:
    remarks = [remark()] * 5_000
    inside = batch(*remarks)
    for rest in (remarks, [inside], [RUNTIME.call("utility.as_derivative", index=0, call=inside)]):
        call = batch(transfer(TOO_MUCH), *rest, kind=kind)
        told, paid, used = charged(chain, call)
        read = READ_BYTE.times(sum(item.size for item in rest))
        assert used.weight == OVERHEAD + ITEM + TRANSFER + read
        assert EXTRINSIC_WEIGHT < 15_000 * READ_BYTE.ref_time <= read.ref_time
        assert told - paid == (call.dispatch_info.weight.ref_time - used.weight.ref_time) // 10**6 * 10**6
    # What costs less to make than to read is never more than it would have been.
    long = RUNTIME.call("system.remark", remark=bytes(100_000))
    _, _, used = charged(chain, batch(transfer(TOO_MUCH), long, kind=kind))
    assert used.weight == batch(transfer(TOO_MUCH), long).dispatch_info.weight
    chain.run_blocks(1)


def test_a_failure_deep_inside_pays_for_what_was_done_on_the_way(chain: TestChain) -> None:
    inner = batch(transfer(TOO_MUCH), *[transfer(POT)] * 9, kind="batch_all")
    outer = batch(RUNTIME.call("utility.as_derivative", index=0, call=inner), *[transfer(POT)] * 9, kind="batch_all")
    _, _, used = charged(chain, outer)
    assert used.weight == (OVERHEAD + ITEM).times(3) + TRANSFER + READ_BYTE.times(18 * transfer(POT).size)
    assert isinstance(chain.events[-1], System.ExtrinsicFailed)


def test_who_is_killed_by_its_own_batch_gets_nothing_back(chain: TestChain) -> None:
    everything = RUNTIME.call("balances.transfer_all", dest=BOB.public, keep_alive=False)
    raw = chain.sign(EVE, "utility.batch", calls=[everything, transfer(1), *[transfer(POT)] * 2000])
    applied = chain.apply(raw)
    assert applied.fee == chain.executive.query_info(chain.tree, raw).partial_fee
    assert chain.events_of(TransactionPayment.TransactionFeePaid)[-1].actual_fee == applied.fee
    assert EVE.public not in chain.modules.system.account
    chain.run_blocks(1)


def test_a_batch_heavier_than_a_block_is_never_valid(chain: TestChain) -> None:
    raw = chain.sign(ALICE, "utility.batch", calls=[transfer(POT)] * 4000)
    for attempt in (chain.apply, lambda raw: chain.executive.validate_after(chain.tree, chain.header.hash, raw)):
        with pytest.raises(InvalidTransaction, match=r"utility\.batch weighs") as refused:
            attempt(raw)
        assert refused.value.reason is InvalidReason.EXHAUSTS_RESOURCES


@pytest.mark.parametrize(
    "inner",
    [
        b"\7\0\0" * 300_000,
        (b"\7\0" + compact_encode(15_000) + b"\7\0\0" * 15_000) * 20,
        (b"\7\0\4" * 30 + b"\7\0\0") * 10_000,
    ],
    ids=["empty batches", "batches of them", "deep ones"],
)
def test_calls_that_no_block_has_room_for_are_not_even_decoded(chain: TestChain, inner: bytes) -> None:
    signed = decode_extrinsic(chain.sign(ALICE, "system.remark", remark=b""), RUNTIME.call_codec).signature
    raw = encode_extrinsic(b"\7\0" + compact_encode(300_000) + inner, signed)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidTransaction, match=r"calls at byte \d+ weigh") as refused:
            chain.apply(raw)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused.value.reason is InvalidReason.EXHAUSTS_RESOURCES
    assert peak < 20_000_000


def test_executing_nested_calls_gives_what_building_gave(chain: TestChain) -> None:
    parent = MemoryTree({key: value for key in chain.tree.keys(b"") if (value := chain.tree.get(key)) is not None})
    chain.submit(ALICE, "utility.batch", calls=[transfer(POT), transfer(TOO_MUCH)])
    chain.submit(BOB, "utility.force_batch", calls=[transfer(TOO_MUCH), transfer(POT, EVE.public)])
    chain.submit(ALICE, "sudo.sudo", call=batch(transfer(POT), kind="batch_all"))
    built = chain.close()
    assert chain.executive.execute(parent, chain.header, built.extrinsics) == built


# --- sudo ---


def force(value: int) -> Call:
    return RUNTIME.call("balances.force_transfer", source=BOB.public, dest=EVE.public, value=value)


def test_the_sudo_key_makes_calls_as_root_and_pays_nothing(chain: TestChain) -> None:
    chain.clear_events()
    applied = chain.submit(ALICE, "sudo.sudo", call=force(POT))
    assert applied.fee == 0
    assert Sudo.Sudid(OK) in chain.events
    assert chain.free(EVE) == ENDOWMENT + POT
    assert chain.free(ALICE) == ENDOWMENT
    applied = chain.submit(ALICE, "sudo.sudo", call=force(TOO_MUCH))
    assert (applied.fee, applied.error) == (0, None)
    assert chain.events_of(Sudo.Sudid) == [Sudo.Sudid(OK), Sudo.Sudid(DispatchFailed(POOR))]
    chain.run_blocks(1)


def test_nobody_else_is_root(chain: TestChain) -> None:
    calls: list[tuple[str, dict[str, object]]] = [
        ("sudo.sudo", {"call": force(POT)}),
        ("sudo.sudo_unchecked_weight", {"call": force(POT), "weight": Weight(0)}),
        ("sudo.sudo_as", {"who": BOB, "call": transfer(POT)}),
        ("sudo.set_key", {"new": BOB}),
        ("sudo.remove_key", {}),
    ]
    nobodys = TestChain()
    for path, arguments in calls:
        with chain.unchanged(Sudo.RequireSudo):
            chain.call(BOB, path, **arguments)
        with chain.unchanged(BadOrigin):
            chain.call(Origin.root(), path, **arguments)
        with nobodys.unchanged(Sudo.RequireSudo):
            nobodys.call(ALICE, path, **arguments)
    applied = chain.submit(BOB, "sudo.sudo", call=force(POT))
    assert applied.fee > 0
    assert isinstance(applied.error, Sudo.RequireSudo)


def test_the_sudo_key_speaks_for_anybody(chain: TestChain) -> None:
    chain.clear_events()
    chain.call(ALICE, "sudo.sudo_as", who=BOB, call=transfer(POT, EVE.public))
    assert chain.events == [Balances.Transfer(BOB.public, EVE.public, POT), Sudo.SudoAsDone(OK)]


def test_the_sudo_key_says_itself_what_a_call_weighs(chain: TestChain) -> None:
    call = RUNTIME.call("sudo.sudo_unchecked_weight", call=force(POT), weight=Weight(7))
    read = Weight(1_000_000 * len(force(POT).encode()))
    assert call.dispatch_info == DispatchInfo(Weight(7) + read, DispatchClass.NORMAL, Pays.YES)
    assert RUNTIME.call_codec.decode(call.encode()).dispatch_info == call.dispatch_info
    chain.call(ALICE, "sudo.sudo_unchecked_weight", call=force(POT), weight=Weight(7))
    assert chain.free(EVE) == ENDOWMENT + POT


def test_the_sudo_key_is_handed_on_or_given_up(chain: TestChain) -> None:
    chain.clear_events()
    chain.call(ALICE, "sudo.set_key", new=BOB)
    with chain.unchanged(Sudo.RequireSudo):
        chain.call(ALICE, "sudo.remove_key")
    chain.call(BOB, "sudo.remove_key")
    assert chain.events == [Sudo.KeyChanged(ALICE.public, BOB.public), Sudo.KeyRemoved()]
    with chain.unchanged(Sudo.RequireSudo):
        chain.call(BOB, "sudo.set_key", new=BOB)


def test_root_does_not_add_inherents(chain: TestChain) -> None:
    raw = chain.sign(ALICE, "sudo.sudo", call=RUNTIME.call("timestamp.set", now=2 * 10**12))
    with pytest.raises(InvalidTransaction) as refused:
        chain.apply(raw)
    assert refused.value.reason is InvalidReason.MANDATORY_VALIDATION
    chain.clear_events()
    chain.call(ALICE, "utility.force_batch", calls=[RUNTIME.call("timestamp.set", now=2 * 10**12)])
    assert chain.events == [Utility.ItemFailed(NO_ROOT), Utility.BatchCompletedWithErrors()]


def test_root_does_not_have_a_seal_count_twice_either(chain: TestChain) -> None:
    chain.run_blocks(1)
    assert chain.modules.validators.participation.get() == (1, 1, 1, 1)
    again = RUNTIME.call("validators.note_seal", seal=chain.seal())
    inherent = RUNTIME.call("utility.dispatch_as", as_origin=SystemOrigin(NoOrigin()), call=again)
    with chain.unchanged(BadOrigin):
        chain.call(Origin.root(), "utility.dispatch_as", as_origin=SystemOrigin(NoOrigin()), call=again)
    chain.submit(ALICE, "sudo.sudo", call=batch(inherent))  # which hides its class
    assert chain.modules.validators.participation.get() == (1, 1, 1, 1)
