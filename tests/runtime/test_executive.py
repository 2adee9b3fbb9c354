"""Blocks: inherents at their head, fees and nonces, what fails and what is invalid, and execution equal to building."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any
from weakref import ref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.primitives.merkle import MemoryTree
from chain.primitives.scale import u32
from chain.primitives.types import Header, encode_extrinsic
from runtime.block import Applied
from runtime.calls import Call
from runtime.composition import Runtime
from runtime.faults import FaultModule, ModuleError
from runtime.framework import Module, call
from runtime.limits import BLOCK_WEIGHT_MAX, BYTES_MAX, EXTRINSIC_WEIGHT, WEIGHT_MAX
from runtime.modules.balances import Balances
from runtime.modules.system import System
from runtime.modules.training_policy import Descent, Policy, Sgd
from runtime.modules.training_sizes import Claim
from runtime.modules.transaction_payment import TransactionPayment
from runtime.potchain import RUNTIME, Potchain
from runtime.state import Overlay
from runtime.storage import StorageValue
from runtime.testing import ALICE, BOB, CHARLIE, DAVE, ENDOWMENT, EVE, FERDIE, POT, TestChain
from runtime.types import (
    BadOrigin,
    DispatchClass,
    DispatchInfo,
    InherentData,
    InvalidBlock,
    InvalidReason,
    InvalidTransaction,
    Origin,
    Pays,
    UnknownReason,
    UnknownTransaction,
    Unsigned,
    Weight,
)


@pytest.fixture
def chain() -> TestChain:
    return TestChain()


def expect_invalid(chain: TestChain[Any], raw: bytes, reason: InvalidReason | UnknownReason, message: str) -> None:
    before = chain.state_root()
    with pytest.raises(InvalidTransaction, match=message) as refused:
        chain.apply(raw)
    assert refused.value.reason is reason
    assert chain.state_root() == before


def fee_of(chain: TestChain, raw: bytes) -> int:
    return chain.executive.query_info(chain.tree, raw).partial_fee


# --- fees and nonces ---


def test_a_transaction_pays_base_length_and_weight_and_its_tip_to_the_author(chain: TestChain) -> None:
    raw = chain.sign(ALICE, "balances.transfer_keep_alive", dest=EVE, value=POT, tip=77)
    author, issuance = chain.modules.validators.author(), chain.modules.balances.total_issuance.get()
    chain.clear_events()
    applied = chain.apply(raw)
    weight = RUNTIME.call_info("balances.transfer_keep_alive").weight
    fee = 100_000_000 + 1_000_000 * len(raw) + weight.ref_time
    assert (applied.fee, applied.error) == (fee + 77, None)
    assert chain.events == [
        Balances.Withdraw(ALICE.public, fee + 77),
        Balances.Transfer(ALICE.public, EVE.public, POT),
        TransactionPayment.TransactionFeePaid(ALICE.public, fee + 77, 77),
        System.ExtrinsicSuccess(DispatchInfo(weight, DispatchClass.NORMAL, Pays.YES)),
    ]
    assert chain.free(ALICE) == ENDOWMENT - POT - fee - 77
    assert chain.modules.system.account[ALICE.public].nonce == 1
    chain.close()
    assert chain.modules.balances.free(author) == ENDOWMENT + fee + 77
    assert chain.modules.balances.total_issuance.get() == issuance


def test_a_failed_call_keeps_fee_and_nonce_and_undoes_everything_else(chain: TestChain) -> None:
    chain.clear_events()
    applied = chain.submit(ALICE, "balances.transfer_keep_alive", dest=BOB, value=2 * ENDOWMENT)
    assert isinstance(applied.error, Balances.InsufficientBalance)
    assert chain.free(ALICE) == ENDOWMENT - applied.fee
    assert chain.modules.system.account[ALICE.public].nonce == 1
    weight = RUNTIME.call_info("balances.transfer_keep_alive").weight
    assert chain.events == [
        Balances.Withdraw(ALICE.public, applied.fee),
        TransactionPayment.TransactionFeePaid(ALICE.public, applied.fee, 0),
        System.ExtrinsicFailed(
            FaultModule(ModuleError(2, b"\0\0\0\0")), DispatchInfo(weight, DispatchClass.NORMAL, Pays.YES)
        ),
    ]
    chain.run_blocks(1)


def test_a_call_that_pays_no_has_its_fee_returned_but_not_its_tip(chain: TestChain) -> None:
    chain.call(EVE, "training.register_worker", capacity=1)
    chain.call(
        ALICE,
        "training.create_task",
        name=b"task",
        program_root=b"p" * 32,
        dataset_root=b"d" * 32,
        params_root=b"m" * 32,
        optimizer=Descent(Sgd(10**10, 0)),
        policy=Policy(1, 5, 10, 10, 1, 1_000_000, 510_000, 20, 1),
        rounds=1,
        price_per_slot=POT,
        storage=Claim(7_000, 120_000, 20_000),
    )
    chain.close()
    before = chain.free(EVE)
    (task,) = chain.modules.training.tasks.keys()
    chain.clear_events()
    raw = chain.sign(EVE, "training.commit", task=task, round=0, attempt=0, slot=0, commitment=b"c" * 32, tip=9)
    assert chain.apply(raw) == Applied(9, None)
    info = DispatchInfo(RUNTIME.call_info("training.commit").weight, DispatchClass.NORMAL, Pays.NO)
    assert chain.events[-2:] == [
        TransactionPayment.TransactionFeePaid(EVE.public, 9, 9),
        System.ExtrinsicSuccess(info),
    ]
    assert chain.free(EVE) == before - 9
    again = chain.submit(EVE, "training.commit", task=task, round=0, attempt=0, slot=0, commitment=b"c" * 32)
    assert isinstance(again.error, chain.modules.training.AlreadyCommitted)
    assert chain.free(EVE) == before - 9 - again.fee
    chain.run_blocks(1)


def test_an_author_that_cannot_live_on_its_fees_has_them_burned() -> None:
    chain = TestChain()
    issuance = chain.modules.balances.total_issuance.get()
    chain.modules.validators.proposer.put(b"n" * 32)  # Nobody: whoever has a bond is alive.
    applied = chain.submit(EVE, "balances.transfer_keep_alive", dest=FERDIE, value=POT)
    chain.close()
    assert Balances.Rescinded(applied.fee) in chain.events
    assert chain.modules.balances.total_issuance.get() == issuance - applied.fee


# --- what cannot be included ---


def test_stale_and_future_nonces_name_both_values(chain: TestChain) -> None:
    chain.submit(ALICE, "system.remark", remark=b"")
    stale = chain.sign(ALICE, "system.remark", remark=b"", nonce=0)
    expect_invalid(chain, stale, InvalidReason.STALE, "nonce 0 was already used: the account's next nonce is 1")
    future = chain.sign(ALICE, "system.remark", remark=b"", nonce=3)
    expect_invalid(chain, future, InvalidReason.FUTURE, "nonce 3 is too high: the account's next nonce is 1")


class Loose(Module):
    """Vouches for calls that fail."""

    seen = StorageValue[u32](default=0)

    @call(index=0, weight=Weight(1))
    def fail(self, origin: Origin) -> None:
        """Count, and fail."""
        self.seen.put(self.seen.get() + 1)
        raise BadOrigin("nobody may")

    def validate_unsigned(self, call: Call) -> Unsigned:
        """Whatever it is."""
        del call
        return Unsigned(b"loose", 0, 1)


class WithLoose(Potchain):
    loose: Loose


def test_what_comes_unsigned_and_fails_is_the_senders_fault_and_never_the_nodes() -> None:
    modules: dict[int, type[Module]] = {info.index: info.cls for info in RUNTIME.modules}
    runtime = Runtime(
        view=WithLoose, spec_name="loose", spec_version=1, transaction_version=1, modules={**modules, 40: Loose}
    )
    chain = TestChain(runtime=runtime)
    raw = encode_extrinsic(runtime.encode_call(runtime.call("loose.fail")))
    assert chain.executive.validate_after(chain.tree, chain.header.hash, raw).provides == (b"loose",)
    root, events = chain.state_root(), chain.events
    expect_invalid(chain, raw, InvalidReason.CALL, "loose.fail came without a signature, was found valid, and fails")
    assert (chain.state_root(), chain.events) == (root, events)
    parent = MemoryTree({key: value for key in chain.tree.keys(b"") if (value := chain.tree.get(key)) is not None})
    built = chain.close()
    with pytest.raises(InvalidBlock, match=r"extrinsic 1: CALL: loose\.fail came without a signature"):
        chain.executive.execute(parent, chain.header, [*built.extrinsics, raw])


def test_the_last_nonce_is_never_used(chain: TestChain) -> None:
    accounts = chain.modules.system.account
    accounts[ALICE.public] = replace(accounts[ALICE.public], nonce=2**32 - 2)
    chain.submit(ALICE, "system.remark", remark=b"")
    last = chain.sign(ALICE, "system.remark", remark=b"")
    expect_invalid(chain, last, InvalidReason.STALE, "nonce 4294967295 is the last that there is, and is never used")
    chain.run_blocks(1)


def test_who_cannot_pay_is_told_how_much_is_missing(chain: TestChain) -> None:
    ed = chain.modules.balances.existential_deposit
    raw = chain.sign(ALICE, "system.remark", remark=b"", tip=ENDOWMENT)
    need = fee_of(chain, raw) + ed
    expect_invalid(
        chain,
        raw,
        InvalidReason.PAYMENT,
        rf"balance {ENDOWMENT} cannot pay fee \d+: need {need} more \(an account keeps",
    )
    nobody = chain.sign(ALICE.from_uri("//Nobody"), "system.remark", remark=b"")
    expect_invalid(chain, nobody, InvalidReason.PAYMENT, "balance 0 cannot pay fee")


def test_a_signature_counts_for_one_chain_and_version_and_call(chain: TestChain) -> None:
    good = chain.sign(ALICE, "system.remark", remark=b"12345")
    other_chain = chain.sign(ALICE, "system.remark", remark=b"12345", genesis_hash=b"g" * 32)
    other_version = chain.sign(ALICE, "system.remark", remark=b"12345", spec_version=2)
    for raw in (other_chain, other_version, good.replace(b"12345", b"12346")):
        expect_invalid(
            chain, raw, InvalidReason.BAD_PROOF, f"sign for genesis 0x{chain.genesis_hash.hex()}, spec version 1"
        )
    assert chain.apply(good).error is None


def test_only_inherents_come_unsigned_and_only_at_the_head(chain: TestChain) -> None:
    for path, arguments in (("system.remark", {"remark": b""}), ("timestamp.set", {"now": 2 * 10**12})):
        raw = encode_extrinsic(RUNTIME.encode_call(RUNTIME.call(path, **arguments)))
        expect_invalid(chain, raw, UnknownReason.NO_UNSIGNED_VALIDATOR, f"{path} came without a signature")
        with pytest.raises(UnknownTransaction):
            chain.executive.validate_after(chain.tree, chain.header.hash, raw)


def test_what_a_block_must_carry_is_not_signed(chain: TestChain) -> None:
    raw = chain.sign(ALICE, "timestamp.set", now=2 * 10**12)
    expect_invalid(chain, raw, InvalidReason.MANDATORY_VALIDATION, r"timestamp\.set came with a signature")
    with pytest.raises(InvalidTransaction) as refused:
        chain.executive.validate_after(chain.tree, chain.header.hash, raw)
    assert refused.value.reason is InvalidReason.MANDATORY_VALIDATION


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_mangled_transaction_is_refused_and_changes_nothing(data: st.DataObject) -> None:
    chain = MANGLED
    good = MANGLED_GOOD
    kind = data.draw(st.sampled_from(("flip", "cut", "extend", "noise")))
    at = data.draw(st.integers(0, len(good) - 1))
    match kind:
        case "flip":
            raw = good[:at] + bytes((good[at] ^ data.draw(st.integers(1, 255)),)) + good[at + 1 :]
        case "cut":
            raw = good[:at]
        case "extend":
            raw = good + data.draw(st.binary(min_size=1, max_size=4))
        case _:
            raw = data.draw(st.binary(max_size=200))
    before = dict(chain.builder.overlay.changes())
    with pytest.raises(InvalidTransaction) as refused:
        chain.apply(raw)
    assert refused.value.message
    assert chain.builder.overlay.changes() == before


MANGLED = TestChain()
MANGLED_GOOD = MANGLED.sign(ALICE, "balances.transfer_keep_alive", dest=BOB, value=POT)


# --- inherents ---


def test_a_block_begins_with_exactly_its_inherents_in_their_order(chain: TestChain) -> None:
    chain.close()
    seal = chain.seal()
    data = chain.inherent_data(seal)
    good = chain.begin().inherents(data)
    remark = chain.sign(ALICE, "system.remark", remark=b"")
    for extrinsics, message in (
        ([], r"expected extrinsic 0 to be timestamp\.set, got a block of 0 extrinsics"),
        (good[:1], r"expected extrinsic 1 to be validators\.note_seal, got a block of 1 extrinsics"),
        (good[::-1], r"expected extrinsic 0 to be the inherent timestamp\.set, got unsigned validators\.note_seal"),
        ([remark, *good], r"expected extrinsic 0 to be the inherent timestamp\.set, got signed system\.remark"),
        (
            [good[0], good[0]],
            r"expected extrinsic 1 to be the inherent validators\.note_seal, got unsigned timestamp\.set",
        ),
        ([b"\0", *good], r"expected extrinsic 0 to be timestamp\.set, got a malformed transaction"),
        ([*good, good[0]], r"extrinsic 2: NO_UNSIGNED_VALIDATOR: timestamp\.set came without a signature"),
        ([*good, remark, remark], r"extrinsic 3: STALE: nonce 0 was already used"),
    ):
        builder = chain.begin()
        header = _header(chain, builder.height)
        with pytest.raises(InvalidBlock, match=message):
            chain.executive.execute(chain.tree, header, extrinsics)


def _header(chain: TestChain, height: int) -> Header:
    return replace(chain.header, parent_hash=chain.header.hash, height=height, digest=chain.digest)


def test_executing_a_block_gives_what_building_it_gave(chain: TestChain) -> None:
    chain.run_blocks(2)
    parent = MemoryTree({key: value for key in chain.tree.keys(b"") if (value := chain.tree.get(key)) is not None})
    assert parent.root_hash == chain.tree.root_hash
    chain.submit(ALICE, "balances.transfer_keep_alive", dest=BOB, value=POT)
    chain.submit(BOB, "balances.transfer_keep_alive", dest=ALICE, value=2 * ENDOWMENT)
    chain.submit(CHARLIE, "system.remark_with_event", remark=b"x")
    built = chain.close()
    assert chain.executive.execute(parent, chain.header, built.extrinsics) == built


# --- limits ---


def test_a_block_takes_transactions_until_its_weight_is_used(chain: TestChain) -> None:
    weight = EXTRINSIC_WEIGHT + RUNTIME.call_info("system.remark").weight.ref_time
    fits = WEIGHT_MAX[DispatchClass.NORMAL] // weight
    meter = chain.builder.meter
    meter.weight[DispatchClass.NORMAL] = (fits - 1) * weight
    chain.submit(ALICE, "system.remark", remark=b"")
    expect_invalid(
        chain,
        chain.sign(ALICE, "system.remark", remark=b""),
        InvalidReason.EXHAUSTS_RESOURCES,
        f"system.remark weighs {weight}: the block has used {fits * weight} of {WEIGHT_MAX[DispatchClass.NORMAL]}",
    )
    meter.weight[DispatchClass.NORMAL] = WEIGHT_MAX[DispatchClass.NORMAL]
    assert chain.builder.full
    executed = chain.close()
    assert executed.weight <= BLOCK_WEIGHT_MAX
    assert RUNTIME.at(chain.tree).system.block_weight.get().normal == Weight(WEIGHT_MAX[DispatchClass.NORMAL])


def test_a_transaction_longer_than_any_block_is_never_valid(chain: TestChain) -> None:
    raw = chain.sign(ALICE, "system.remark", remark=bytes(BYTES_MAX[DispatchClass.NORMAL]))
    expect_invalid(chain, raw, InvalidReason.EXHAUSTS_RESOURCES, f"the transaction has {len(raw)} bytes")


def test_an_error_that_is_no_dispatch_error_is_never_caught(chain: TestChain) -> None:
    with pytest.raises(TypeError):
        chain.call(ALICE, "balances.transfer_keep_alive", dest=BOB, value="not a number")


def test_root_is_not_signed_by_anybody(chain: TestChain) -> None:
    applied = chain.submit(ALICE, "balances.force_transfer", source=BOB, dest=ALICE, value=POT)
    assert str(applied.error) == "this call needs the root origin, its origin is signed"
    chain.call(Origin.root(), "balances.force_transfer", source=BOB, dest=ALICE, value=POT)


def test_a_blocks_state_goes_with_its_last_user(chain: TestChain) -> None:
    poor = RUNTIME.call("balances.transfer_keep_alive", dest=BOB.public, value=2 * ENDOWMENT)
    gc.collect()
    gc.disable()
    try:
        builder = chain.begin()
        for raw in builder.inherents(InherentData(10**13)):
            builder.apply(raw)
        for nonce, kind in enumerate(("batch", "batch_all", "force_batch")):
            builder.apply(chain.sign(ALICE, f"utility.{kind}", calls=[poor], nonce=nonce))
        builder.finish()
        state = ref(builder.modules)
        del builder
        assert state() is None
    finally:
        gc.enable()


def test_the_builder_writes_nothing_to_the_state_it_starts_from(chain: TestChain) -> None:
    before = chain.tree.root_hash
    builder = chain.begin()
    for raw in builder.inherents(InherentData(10**13)):
        builder.apply(raw)
    assert builder.finish().changes
    assert chain.tree.root_hash == before
    assert Overlay(chain.tree).changes() == {}
    assert DAVE.public in chain.modules.system.account
