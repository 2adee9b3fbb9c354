"""Headers, blocks and extrinsics have Substrate's bytes, and only those."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.primitives.hashing import blake2_256
from chain.primitives.keys import Keypair, Scheme, verify
from chain.primitives.scale import U8, ScaleError, Tuple, codec_of, compact_encode
from chain.primitives.types import (
    ERA,
    EXTRINSICS_MAX,
    HEADER,
    Address32,
    Block,
    Consensus,
    ConsensusDigest,
    DigestSeal,
    EcdsaSignature,
    ExtrinsicSignature,
    Header,
    Id,
    Index,
    Mortal,
    MultiAddress,
    Other,
    PreRuntime,
    Raw,
    decode_extrinsic,
    encode_extrinsic,
    multi_signature,
    scheme_of,
    sender_and_nonce,
    sign_extrinsic,
    signing_payload,
)
from runtime.limits import BLOCK_WEIGHT_MAX, EXTRINSIC_WEIGHT

ALICE = Keypair.from_uri("//Alice")
BOB = Keypair.from_uri("//Bob", Scheme.SR25519)
CALL = Tuple(U8, U8, U8)
CALL_BYTES = b"\1\2\3"
GENESIS = blake2_256(b"genesis")
HEADER_7 = Header(bytes([1]) * 32, 7, bytes([2]) * 32, bytes([3]) * 32, [ConsensusDigest(4, bytes([5]) * 96).item()])


def signed(keypair: Keypair = ALICE, **changes: Any) -> bytes:
    fields: dict[str, Any] = {"nonce": 9, "spec_version": 2, "transaction_version": 1, "genesis_hash": GENESIS}
    return sign_extrinsic(keypair, CALL_BYTES, **fields | changes)


def test_a_header_is_parent_compact_height_roots_and_digest() -> None:
    item = "06" + "50424654" + "9101" + "04000000" + "05" * 96
    expected = "01" * 32 + "1c" + "02" * 32 + "03" * 32 + "04" + item
    assert HEADER.encode(HEADER_7).hex() == expected
    assert HEADER.decode(bytes.fromhex(expected)) == HEADER_7
    assert HEADER_7.hash == blake2_256(bytes.fromhex(expected))
    assert HEADER_7.consensus == ConsensusDigest(4, bytes([5]) * 96)


@pytest.mark.parametrize(
    "digest",
    [
        [],
        [PreRuntime(b"aura", b""), Consensus(b"PBFT", b""), DigestSeal(b"PBFT", b""), Other(b"")],
        [*HEADER_7.digest, *HEADER_7.digest],
        [PreRuntime(b"PBFT", b"short")],
    ],
)
def test_a_header_without_exactly_one_consensus_item_has_no_consensus_digest(digest: list[Any]) -> None:
    header = replace(HEADER_7, digest=digest)
    assert HEADER.decode(HEADER.encode(header)) == header
    with pytest.raises(ScaleError):
        _ = header.consensus


def test_items_and_extrinsics_are_counted_before_they_are_read() -> None:
    roots = bytes(32) + b"\0" + bytes(64)
    many = compact_encode(4_000_000)
    for data in (roots + many + b"\0\0" * 4_000_000, roots + b"\0" + many + b"\4\4" * 4_000_000):
        with pytest.raises(ScaleError, match="expected at most"):
            Block.decode(data)
    with pytest.raises(ScaleError, match="expected at most 16384 items, got 16385"):
        Block(HEADER_7, [b"\0"] * (EXTRINSICS_MAX + 1)).encode()


def test_the_count_of_extrinsics_bounds_no_block_that_has_room_for_them() -> None:
    assert BLOCK_WEIGHT_MAX // EXTRINSIC_WEIGHT < EXTRINSICS_MAX


def test_a_block_is_its_header_and_its_extrinsics_as_they_came() -> None:
    block = Block(HEADER_7, [signed(), encode_extrinsic(b"\0")])
    encoded = block.encode()
    assert encoded == HEADER.encode(HEADER_7) + b"\x08" + signed() + b"\x08\x04\x00"
    assert Block.decode(encoded) == block
    assert block.hash == HEADER_7.hash
    for wrong in (encoded + b"\0", encoded[:-1]):
        with pytest.raises(ScaleError):
            Block.decode(wrong)
    with pytest.raises(ScaleError, match="length prefix says 2 bytes, got 3"):
        Block(HEADER_7, [b"\x08\x04\x00\x00"]).encode()


@pytest.mark.parametrize("keypair", [ALICE, BOB])
@pytest.mark.parametrize("call_size", [3, 300])
def test_a_signed_extrinsic_carries_what_was_signed(keypair: Keypair, call_size: int) -> None:
    call, era, era_hash = bytes(call_size), Mortal.at(64, 1000), blake2_256(b"birth")
    raw = sign_extrinsic(
        *(keypair, call),
        nonce=9,
        spec_version=2,
        transaction_version=1,
        genesis_hash=GENESIS,
        era=era,
        era_hash=era_hash,
        tip=5,
    )
    decoded = decode_extrinsic(raw, Tuple(*[U8] * call_size))
    assert decoded.call_bytes == call
    signature = decoded.signature
    assert signature is not None
    assert (signature.address, signature.era, signature.nonce, signature.tip) == (Id(keypair.public), era, 9, 5)
    assert encode_extrinsic(decoded.call_bytes, signature) == raw
    assert sender_and_nonce(raw) == (keypair.public, 9)
    payload = signing_payload(call, era, 9, 5, 2, 1, GENESIS, era_hash)
    plain = call + ERA.encode(era) + b"\x24\x14" + b"\2\0\0\0\1\0\0\0" + GENESIS + era_hash
    assert payload == (plain if len(plain) <= 256 else blake2_256(plain))
    assert scheme_of(signature.signature) is keypair.scheme
    assert verify(keypair.scheme, keypair.public, payload, signature.signature.signature)


def test_an_immortal_extrinsic_signs_the_genesis_hash_as_its_birth() -> None:
    decoded = decode_extrinsic(signed(), CALL)
    assert decoded.signature is not None
    payload = signing_payload(CALL_BYTES, None, 9, 0, 2, 1, GENESIS, GENESIS)
    assert verify(Scheme.ED25519, ALICE.public, payload, decoded.signature.signature.signature)
    with pytest.raises(ValueError, match="the hash of the block at its birth"):
        signed(era=Mortal(64, 0))


def test_a_bare_extrinsic_is_its_version_and_call() -> None:
    raw = encode_extrinsic(CALL_BYTES)
    assert raw.hex() == "1004010203"
    assert decode_extrinsic(raw, CALL).signature is None
    assert sender_and_nonce(raw) is None


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "expected an extrinsic, got no bytes"),
        (b"\0", "got its length prefix alone"),
        (b"\x10\x04\1\2", "length prefix says 4 bytes, got 3"),
        (b"\x10\x05\1\2\3", "version 4, got 5"),
        (b"\x10\x85\1\2\3", "version 4, got 5"),
        (b"\x10\x44\1\2\3", "version 4, got 68"),
        (b"\x14\x04\1\2\3\4", "1 bytes more"),
        (b"\x0c\x04\1\2", "expected 1 bytes"),
        (b"\x08\x84\x09", "no variant 9"),
    ],
)
def test_a_malformed_extrinsic_is_refused(raw: bytes, why: str) -> None:
    with pytest.raises(ScaleError, match=why):
        decode_extrinsic(raw, CALL)
    assert sender_and_nonce(raw) is None


@given(st.integers(0, 200), st.integers(1, 255))
@settings(max_examples=120, deadline=None)
def test_a_changed_byte_is_refused_or_changes_what_is_decoded(position: int, change: int) -> None:
    raw = signed(BOB, era=Mortal(64, 3), era_hash=GENESIS)
    changed = bytearray(raw)
    changed[position % len(raw)] ^= change
    try:
        decoded = decode_extrinsic(bytes(changed), CALL)
    except ScaleError:
        return
    assert encode_extrinsic(decoded.call_bytes, decoded.signature) == changed
    assert decoded != decode_extrinsic(raw, CALL)


@pytest.mark.parametrize(
    ("address", "encoded"),
    [
        (Id(b"a" * 32), "00" + "61" * 32),
        (Index(64), "010101"),
        (Raw(b"ab"), "02086162"),
        (Address32(b"b" * 32), "03" + "62" * 32),
    ],
)
def test_every_kind_of_address_is_understood_but_only_accounts_send(address: Any, encoded: str) -> None:
    codec = codec_of(MultiAddress)
    assert codec.encode(address).hex() == encoded
    assert codec.decode(bytes.fromhex(encoded)) == address
    raw = encode_extrinsic(b"", ExtrinsicSignature(address, EcdsaSignature(bytes(65)), None, 1, 0))
    assert sender_and_nonce(raw) == ((address.account, 1) if isinstance(address, Id) else None)


def test_an_ecdsa_signature_has_no_scheme_here() -> None:
    assert scheme_of(EcdsaSignature(bytes(65))) is None
    assert scheme_of(multi_signature(Scheme.SR25519, bytes(64))) is Scheme.SR25519


@pytest.mark.parametrize(
    ("era", "encoded"),
    [  # sp_runtime's own tests of Era
        (None, "00"),
        (Mortal(64, 42), "a502"),
        (Mortal(32768, 20000), "4e9c"),
        (Mortal(4, 2), "2100"),
    ],
)
def test_eras_are_substrates(era: Mortal | None, encoded: str) -> None:
    assert ERA.encode(era).hex() == encoded
    assert ERA.decode(bytes.fromhex(encoded)) == era


@pytest.mark.parametrize("encoded", ["", "10", "1000", "5100", "f1ff"])
def test_an_era_that_nothing_encodes_to_is_refused(encoded: str) -> None:
    with pytest.raises(ScaleError):
        ERA.decode(bytes.fromhex(encoded))


@given(st.integers(0, 70_000), st.integers(0, 1 << 32))
@settings(max_examples=200, deadline=None)
def test_an_era_contains_the_height_it_was_made_at(period: int, height: int) -> None:
    era = Mortal.at(period, height)
    assert ERA.decode(ERA.encode(era)) == era
    assert era.period >= min(period, 65536)
    assert era.birth(height) <= height < era.death(height)
    assert era.birth(era.birth(height)) == era.birth(height)
    assert era.birth(era.death(height) - 1) == era.birth(height)


def test_birth_and_death_are_substrates() -> None:
    era = Mortal(4, 1)
    assert [(era.birth(height), era.death(height)) for height in range(1, 7)] == [
        *[(1, 5)] * 4,
        *[(5, 9)] * 2,
    ]
    assert Mortal(4, 1).birth(0) == 1  # before its first birth an era counts as not yet begun


@pytest.mark.parametrize(("period", "phase"), [(2, 0), (5, 0), (131072, 0), (64, 64), (64, -1), (65536, 8)])
def test_an_era_of_wrong_shape_cannot_be_made(period: int, phase: int) -> None:
    with pytest.raises(ScaleError, match="era's"):
        Mortal(period, phase)
