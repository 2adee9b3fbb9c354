"""What the pool and clients ask on a committed state: validity, fees, nonces, and Substrate's runtime APIs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from chain.primitives.hashing import Hash
from chain.primitives.keys import Keypair, Scheme
from chain.primitives.merkle import MemoryTree
from chain.primitives.scale import BYTES, U32, ScaleError, codec_of, decode, encode, u32
from chain.primitives.types import EcdsaSignature, Header, Mortal, decode_extrinsic, encode_extrinsic
from runtime.api import UnknownApi
from runtime.executive import nonce_tag
from runtime.potchain import RUNTIME
from runtime.testing import ALICE, BOB, ENDOWMENT, POT, TestChain
from runtime.types import (
    DispatchClass,
    FeeDetails,
    InclusionFee,
    InvalidReason,
    InvalidTransaction,
    RuntimeDispatchInfo,
    RuntimeVersion,
    UnknownReason,
    UnknownTransaction,
    Validity,
    ValidTransaction,
    Weight,
)


@dataclass(frozen=True)
class Committed:
    """The tree of a chain with the header of the block whose state it is."""

    tree: MemoryTree
    header: Header

    def get(self, key: bytes) -> bytes | None:
        return self.tree.get(key)

    def keys(self, prefix: bytes, after: bytes | None = None) -> Iterator[bytes]:
        return self.tree.keys(prefix, after)


@pytest.fixture(scope="module")
def chain() -> TestChain:
    """Five closed blocks; these tests only read."""
    made = TestChain()
    made.submit(ALICE, "system.remark", remark=b"")
    made.run_blocks(5)
    return made


def validate(chain: TestChain, raw: bytes) -> ValidTransaction:
    return chain.executive.validate_after(chain.tree, chain.header.hash, raw)


def refused(chain: TestChain, raw: bytes) -> InvalidTransaction:
    with pytest.raises(InvalidTransaction) as error:
        validate(chain, raw)
    return error.value


def test_a_valid_transaction_says_what_the_pool_orders_by(chain: TestChain) -> None:
    raw = chain.sign(ALICE, "balances.transfer_keep_alive", dest=BOB, value=POT, nonce=1, tip=5)
    weight = RUNTIME.call_info("balances.transfer_keep_alive").weight
    valid = validate(chain, raw)
    assert valid == ValidTransaction(
        sender=ALICE.public,
        nonce=1,
        account_nonce=1,
        priority=6 * (600_000_000_000 // (weight.ref_time + 200_000_000)),
        requires=(),
        provides=(nonce_tag(ALICE.public, 1),),
        longevity=2**64 - 1,
        fee=100_000_000 + 1_000_000 * len(raw) + weight.ref_time,
        tip=5,
        weight=weight,
    )


def test_an_operational_transaction_counts_as_tipped_with_five_times_its_fee(chain: TestChain) -> None:
    raw = chain.sign(ALICE, "system.kill_storage", keys=[b"key"], nonce=1, tip=5)
    valid = validate(chain, raw)
    weight = RUNTIME.call("system.kill_storage", keys=[b"key"]).dispatch_info.weight.ref_time
    assert valid.priority == (6 + 5 * (valid.fee + 5)) * (800_000_000_000 // (weight + 200_000_000))


def test_the_state_of_a_block_knows_which_block_it_is(chain: TestChain) -> None:
    raw = chain.sign(ALICE, "system.remark", remark=b"", nonce=1, era=Mortal.at(64, 5), era_hash=chain.header.hash)
    state = Committed(chain.tree, chain.header)
    assert chain.executive.validate_transaction(state, raw).longevity == 63


def test_a_future_nonce_waits_for_the_one_before_and_a_stale_one_is_refused(chain: TestChain) -> None:
    future = validate(chain, chain.sign(ALICE, "system.remark", remark=b"", nonce=4))
    assert (future.requires, future.provides) == ((nonce_tag(ALICE.public, 3),), (nonce_tag(ALICE.public, 4),))
    assert refused(chain, chain.sign(ALICE, "system.remark", remark=b"", nonce=0)).reason is InvalidReason.STALE


def test_both_schemes_sign_and_ecdsa_does_not(chain: TestChain) -> None:
    made = TestChain(balances={Keypair.from_uri("//Alice", Scheme.SR25519).public: ENDOWMENT})
    sr25519 = Keypair.from_uri("//Alice", Scheme.SR25519)
    assert validate(made, made.sign(sr25519, "system.remark", remark=b"")).sender == sr25519.public
    raw = chain.sign(ALICE, "system.remark", remark=b"", nonce=1)
    extrinsic = decode_extrinsic(raw, RUNTIME.call_codec)
    assert extrinsic.signature is not None
    ecdsa = replace(extrinsic.signature, signature=EcdsaSignature(bytes(65)))
    error = refused(chain, encode_extrinsic(extrinsic.call_bytes, ecdsa))
    assert (error.reason, str(error)) == (
        InvalidReason.BAD_PROOF,
        "expected an ed25519 or sr25519 signature, got ECDSA",
    )


@pytest.mark.parametrize(
    ("born", "hash_of", "longevity"),
    [(5, 5, 63), (3, 3, 61), (0, 0, 58), (6, 5, None), (4, 5, None)],
    ids=["the head", "before it", "genesis", "the block to come", "another's hash"],
)
def test_a_mortal_transaction_is_bound_to_the_block_of_its_birth(
    chain: TestChain, born: int, hash_of: int, longevity: int | None
) -> None:
    era_hash: Hash = chain.blocks[hash_of][0].hash
    raw = chain.sign(ALICE, "system.remark", remark=b"", nonce=1, era=Mortal.at(64, born), era_hash=era_hash)
    if longevity is not None:
        assert validate(chain, raw).longevity == longevity
    else:
        error = refused(chain, raw)
        expected = InvalidReason.ANCIENT_BIRTH_BLOCK if born == 6 else InvalidReason.BAD_PROOF
        assert error.reason is expected


def test_before_the_first_block_genesis_is_the_parent() -> None:
    chain = TestChain()
    era = Mortal.at(64, 0)
    for raw in (
        chain.sign(ALICE, "system.remark", remark=b""),
        chain.sign(ALICE, "system.remark", remark=b"", era=era, era_hash=chain.genesis_hash),
    ):
        assert chain.executive.validate_after(MemoryTree(_genesis(chain)), chain.genesis_hash, raw).nonce == 0


def _genesis(chain: TestChain) -> dict[bytes, bytes | None]:
    return {key: chain.tree.get(key) for key in chain.tree.keys(b"")}


# --- runtime APIs ---


def api(chain: TestChain, name: str, arguments: bytes = b"") -> bytes:
    return chain.executive.call_api(chain.tree, name, arguments)


def test_core_and_metadata_apis(chain: TestChain) -> None:
    assert decode(RuntimeVersion, api(chain, "Core_version")) == RUNTIME.version
    assert BYTES.decode(api(chain, "Metadata_metadata")) == RUNTIME.metadata(14)
    assert api(chain, "Metadata_metadata_at_version", U32.encode(15)) == b"\1" + BYTES.encode(RUNTIME.metadata(15))
    assert api(chain, "Metadata_metadata_at_version", U32.encode(16)) == b"\0"
    assert decode(list[u32], api(chain, "Metadata_metadata_versions")) == [14, 15]


def test_account_nonces(chain: TestChain) -> None:
    assert api(chain, "AccountNonceApi_account_nonce", ALICE.public) == U32.encode(1)
    assert api(chain, "AccountNonceApi_account_nonce", BOB.public) == U32.encode(0)


def test_fees_are_quoted_as_they_are_charged(chain: TestChain) -> None:
    raw = chain.sign(ALICE, "balances.transfer_keep_alive", dest=BOB, value=POT, nonce=1)
    weight = RUNTIME.call_info("balances.transfer_keep_alive").weight
    arguments = raw + U32.encode(len(raw))
    info = decode(RuntimeDispatchInfo, api(chain, "TransactionPaymentApi_query_info", arguments))
    assert info == RuntimeDispatchInfo(weight, DispatchClass.NORMAL, validate(chain, raw).fee)
    details = decode(FeeDetails, api(chain, "TransactionPaymentApi_query_fee_details", arguments))
    assert details == FeeDetails(InclusionFee(100_000_000, 1_000_000 * len(raw), weight.ref_time))
    by_weight = api(chain, "TransactionPaymentApi_query_weight_to_fee", encode(Weight, weight))
    by_length = api(chain, "TransactionPaymentApi_query_length_to_fee", U32.encode(len(raw)))
    assert [int.from_bytes(part, "little") for part in (by_weight, by_length)] == [
        weight.ref_time,
        1_000_000 * len(raw),
    ]


def test_calls_are_quoted_before_they_are_signed(chain: TestChain) -> None:
    raw = chain.sign(ALICE, "balances.transfer_keep_alive", dest=BOB, value=POT, nonce=1)
    call = decode_extrinsic(raw, RUNTIME.call_codec).call_bytes
    for by_call, by_extrinsic in (
        ("TransactionPaymentCallApi_query_call_info", "TransactionPaymentApi_query_info"),
        ("TransactionPaymentCallApi_query_call_fee_details", "TransactionPaymentApi_query_fee_details"),
    ):
        for length in (len(raw), 77):
            arguments = U32.encode(length)
            assert api(chain, by_call, call + arguments) == api(chain, by_extrinsic, raw + arguments)
    for name, arguments in (
        ("query_weight_to_fee", encode(Weight, Weight(5))),
        ("query_length_to_fee", U32.encode(9)),
    ):
        expected = api(chain, f"TransactionPaymentApi_{name}", arguments)
        assert api(chain, f"TransactionPaymentCallApi_{name}", arguments) == expected


def test_an_unsigned_extrinsic_costs_nothing(chain: TestChain) -> None:
    raw = encode_extrinsic(RUNTIME.encode_call(RUNTIME.call("timestamp.set", now=5)))
    weight = RUNTIME.call_info("timestamp.set").weight
    assert chain.executive.query_info(chain.tree, raw) == RuntimeDispatchInfo(weight, DispatchClass.MANDATORY, 0)
    assert chain.executive.query_fee_details(chain.tree, raw) == FeeDetails(None)


def test_clients_validate_at_the_block_they_name(chain: TestChain) -> None:
    def ask(raw: bytes) -> bytes:
        return api(chain, "TaggedTransactionQueue_validate_transaction", b"\2" + raw + chain.header.hash)

    raw = chain.sign(ALICE, "system.remark", remark=b"", nonce=1)
    valid = validate(chain, raw)
    answer = ask(raw)
    assert answer[:1] == b"\0"
    assert codec_of(Validity).decode(answer[1:]) == Validity(valid.priority, (), valid.provides, 2**64 - 1, True)
    assert ask(chain.sign(ALICE, "system.remark", remark=b"", nonce=0)) == bytes((1, 0, InvalidReason.STALE))
    unsigned = encode_extrinsic(RUNTIME.encode_call(RUNTIME.call("system.remark", remark=b"")))
    assert ask(unsigned) == bytes((1, 1, UnknownReason.NO_UNSIGNED_VALIDATOR))
    with pytest.raises(UnknownTransaction):
        validate(chain, unsigned)


def test_an_unknown_api_and_arguments_that_do_not_fit_are_named(chain: TestChain) -> None:
    with pytest.raises(UnknownApi, match="no API function Core_execute_block; it has Core_version"):
        api(chain, "Core_execute_block")
    for name, arguments in (
        ("Core_version", b"\0"),
        ("AccountNonceApi_account_nonce", b"short"),
        ("TaggedTransactionQueue_validate_transaction", b"\3"),
        ("TransactionPaymentApi_query_info", b"\xff" * 9),
        ("TransactionPaymentApi_query_info", b"\x04\0" + bytes(5)),
        ("TransactionPaymentCallApi_query_call_info", b"\0\0\0"),
        ("TransactionPaymentCallApi_query_call_info", b"\0\0\0" + bytes(5)),
        ("TransactionPaymentCallApi_query_call_fee_details", b"\xff\xff" + bytes(4)),
    ):
        with pytest.raises(ScaleError):
            api(chain, name, arguments)
