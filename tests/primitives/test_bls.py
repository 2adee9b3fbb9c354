"""BLS: two backends that never differ, whatever they are given."""

import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from py_arkworks_bls12381 import G1Point, G2Point, Scalar

from chain.primitives import bls, bls_native, bls_reference

ALICE, BOB = bls.keygen(b"alice" * 8), bls.keygen(b"bob" * 16)
ACCOUNT = b"a" * 32
MESSAGE = b"block 1"

INFINITE_KEY = b"\xc0" + bytes(47)
INFINITE_SIGNATURE = b"\xc0" + bytes(95)
FIELD_MODULUS = 0x1A0111EA397FE69A4B1BA7B6434BACD764774B84F38512BF6730D2A0F6B0F6241EABFFFEB153FFFFB9FEFFFFFFFFAAAB


def on_the_curve_only(read: Callable[[bytes], G1Point | G2Point], size: int) -> bytes:
    """Return a point of the curve that is outside the subgroup of order r, as all but one in 2**125 or more are."""
    for x in range(1, 100):
        encoded = b"\x80" + bytes(size - 2) + bytes([x])
        try:
            point = read(encoded)
        except ValueError:
            continue
        if not point.is_in_subgroup():
            return encoded
    raise AssertionError("no point found")


STRAY_KEY = on_the_curve_only(G1Point.from_compressed_bytes_unchecked, 48)
STRAY_SIGNATURE = on_the_curve_only(G2Point.from_compressed_bytes_unchecked, 96)


def minus(point: bytes) -> bytes:
    return bytes([point[0] ^ 0x20]) + point[1:]


def flagged(point: bytes, at: int, bits: int) -> bytes:
    return point[:at] + bytes([point[at] | bits]) + point[at + 1 :]


KEY = bls_native.public_key(ALICE)
SIGNATURE = bls_native.sign(ALICE, MESSAGE)

BAD_KEYS = {
    "another's": bls_native.public_key(BOB),
    "negated": minus(KEY),
    "infinity": INFINITE_KEY,
    "infinity with a sign": b"\xe0" + bytes(47),
    "infinity with a tail": b"\xc0" + bytes(46) + b"\x01",
    "zero bytes": bytes(48),
    "one bits": b"\xff" * 48,
    "not compressed": bytes([KEY[0] & 0x7F]) + KEY[1:],
    "marked infinite": flagged(KEY, 0, 0x40),
    "x not reduced": (FIELD_MODULUS | 1 << 383).to_bytes(48, "big"),
    "not in the subgroup": STRAY_KEY,
    "empty": b"",
    "a byte short": KEY[:-1],
    "a byte long": KEY + b"\0",
}
BAD_SIGNATURES = {
    "negated": minus(SIGNATURE),
    "infinity": INFINITE_SIGNATURE,
    "infinity with a sign": b"\xe0" + bytes(95),
    "infinity with a tail": b"\xc0" + bytes(94) + b"\x01",
    "zero bytes": bytes(96),
    "one bits": b"\xff" * 96,
    "not compressed": bytes([SIGNATURE[0] & 0x7F]) + SIGNATURE[1:],
    "flags in the second half": flagged(SIGNATURE, 48, 0x80),
    "first half not reduced": (FIELD_MODULUS | 1 << 383).to_bytes(48, "big") + bytes(48),
    "second half not reduced": SIGNATURE[:48]
    + (int.from_bytes(SIGNATURE[48:], "big") + FIELD_MODULUS).to_bytes(48, "big"),
    "not in the subgroup": STRAY_SIGNATURE,
    "empty": b"",
    "a byte short": SIGNATURE[:-1],
    "a byte long": SIGNATURE + b"\0",
}


@pytest.fixture(params=[bls_native, bls_reference], ids=["native", "reference"])
def backend(request: pytest.FixtureRequest) -> bls.Backend:
    chosen: bls.Backend = request.param
    return chosen


def test_a_node_uses_the_native_backend_where_there_is_one() -> None:
    assert bls.backend is bls_native


def test_the_reference_leaves_the_recursion_limit_alone() -> None:
    code = """
import json, sys
before = sys.getrecursionlimit()
import chain.primitives.bls_reference
assert sys.getrecursionlimit() == before
try:
    json.loads("[" * 1_000_000)
except RecursionError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"


def test_a_node_without_the_native_library_uses_the_reference() -> None:
    script = (
        "import sys; sys.modules['py_arkworks_bls12381'] = None\n"
        "from chain.primitives import bls; print(bls.backend.__name__, bls.public_key(bls.keygen(bytes(32))).hex())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    expected = bls.public_key(bls.keygen(bytes(32))).hex()
    assert done.stdout.split() == ["chain.primitives.bls_reference", expected]


def test_keys_signatures_and_proofs_are_the_same_bytes_from_both_backends() -> None:
    for secret in (ALICE, b"\0" * 31 + b"\x01", (bls.SUBGROUP_ORDER - 1).to_bytes(32, "big")):
        assert bls_native.public_key(secret) == bls_reference.public_key(secret)
    for message in (b"", MESSAGE, bytes(300)):
        assert bls_native.sign(ALICE, message) == bls_reference.sign(ALICE, message)
    assert bls_native.prove_possession(ALICE, ACCOUNT) == bls_reference.prove_possession(ALICE, ACCOUNT)
    both = [SIGNATURE, bls_native.sign(BOB, MESSAGE)]
    assert bls_native.aggregate(both) == bls_reference.aggregate(both)


def test_each_backend_accepts_what_the_other_signed(backend: bls.Backend) -> None:
    keys = [KEY, bls_native.public_key(BOB)]
    together = bls_native.aggregate([SIGNATURE, bls_native.sign(BOB, MESSAGE)])
    assert backend.verify(KEY, MESSAGE, SIGNATURE)
    assert backend.fast_aggregate_verify(keys, MESSAGE, together)
    assert backend.verify_possession(KEY, ACCOUNT, bls_native.prove_possession(ALICE, ACCOUNT))


def test_a_signature_over_something_else_is_not_valid(backend: bls.Backend) -> None:
    assert not backend.verify(KEY, b"block 2", SIGNATURE)
    assert not backend.fast_aggregate_verify([KEY, KEY], MESSAGE, SIGNATURE)


def test_a_proof_of_possession_is_no_signature_and_a_signature_no_proof(backend: bls.Backend) -> None:
    assert not backend.verify(KEY, KEY + ACCOUNT, bls_native.prove_possession(ALICE, ACCOUNT))
    assert not backend.verify_possession(KEY, ACCOUNT, bls_native.sign(ALICE, KEY + ACCOUNT))


def test_a_proof_of_possession_is_for_one_account(backend: bls.Backend) -> None:
    assert not backend.verify_possession(KEY, b"b" * 32, bls_native.prove_possession(ALICE, ACCOUNT))
    hashed = G2Point.hash_to_curve(KEY, b"BLS_POP_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_")
    over_the_key_alone = (hashed * Scalar.from_be_bytes(ALICE)).to_compressed_bytes()
    assert not backend.verify_possession(KEY, ACCOUNT, bytes(over_the_key_alone))


@pytest.mark.parametrize("what", BAD_KEYS)
def test_a_bad_key_verifies_nothing(backend: bls.Backend, what: str) -> None:
    key = BAD_KEYS[what]
    assert not backend.verify(key, MESSAGE, SIGNATURE)
    if what not in ("another's", "negated"):  # Points like any other: nothing to learn from more pairings.
        assert not backend.verify(key, MESSAGE, INFINITE_SIGNATURE)
        assert not backend.fast_aggregate_verify([KEY, key], MESSAGE, SIGNATURE)
        assert not backend.verify_possession(key, ACCOUNT, SIGNATURE)


@pytest.mark.parametrize("what", BAD_SIGNATURES)
def test_a_bad_signature_is_not_valid(backend: bls.Backend, what: str) -> None:
    assert not backend.verify(KEY, MESSAGE, BAD_SIGNATURES[what])


@pytest.mark.parametrize("what", sorted(set(BAD_SIGNATURES) - {"negated", "infinity"}))
def test_what_is_no_signature_is_not_aggregated(backend: bls.Backend, what: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        backend.aggregate([SIGNATURE, BAD_SIGNATURES[what]])


def test_signatures_that_cancel_out_aggregate_to_infinity(backend: bls.Backend) -> None:
    assert backend.aggregate([SIGNATURE, minus(SIGNATURE)]) == INFINITE_SIGNATURE
    assert backend.aggregate([INFINITE_SIGNATURE]) == INFINITE_SIGNATURE


def test_keys_that_cancel_out_do_not_make_infinity_a_signature(backend: bls.Backend) -> None:
    assert not backend.fast_aggregate_verify([KEY, minus(KEY)], MESSAGE, INFINITE_SIGNATURE)


def test_nobody_signs_nothing(backend: bls.Backend) -> None:
    assert not backend.fast_aggregate_verify([], MESSAGE, SIGNATURE)
    assert not backend.fast_aggregate_verify([], MESSAGE, INFINITE_SIGNATURE)
    with pytest.raises(ValueError, match="at least one signature"):
        backend.aggregate([])


@pytest.mark.parametrize(
    ("secret", "complaint"),
    [
        (bytes(32), "above zero"),
        (bls.SUBGROUP_ORDER.to_bytes(32, "big"), "below the group order"),
        (b"\xff" * 32, "below the group order"),
        (b"", "32 bytes, got 0"),
        (b"\x01" * 31, "32 bytes, got 31"),
        (b"\x01" * 33, "32 bytes, got 33"),
    ],
)
def test_a_secret_outside_the_range_is_refused(backend: bls.Backend, secret: bytes, complaint: str) -> None:
    for use in (backend.public_key, lambda s: backend.prove_possession(s, ACCOUNT), lambda s: backend.sign(s, MESSAGE)):
        with pytest.raises(ValueError, match=complaint):
            use(secret)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 95), st.integers(1, 255))
@example(0, 0x20)
@example(0, 0x40)
@example(48, 0x80)
def test_both_backends_read_a_changed_signature_alike(position: int, change: int) -> None:
    changed = bytearray(SIGNATURE)
    changed[position] ^= change

    def read(backend: bls.Backend) -> bytes | None:
        try:
            return backend.aggregate([bytes(changed)])
        except ValueError:
            return None

    assert read(bls_native) == read(bls_reference)


@given(st.binary(min_size=32, max_size=64))
@settings(max_examples=20)
def test_keys_are_derived_as_the_reference_derives_them(material: bytes) -> None:
    assert int.from_bytes(bls.keygen(material), "big") == bls_reference._suite.KeyGen(material)


def test_too_little_key_material_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32 bytes of key material, got 31"):
        bls.keygen(bytes(31))


def some_claims(count: int) -> list[bls.Claim]:
    """What Alice and Bob say, alone and together."""
    found: list[bls.Claim] = []
    for number in range(count):
        message = b"block %d" % number
        signers = [(ALICE,), (BOB,), (ALICE, BOB)][number % 3]
        signature = bls_native.aggregate([bls_native.sign(signer, message) for signer in signers])
        found.append((tuple(bls_native.public_key(signer) for signer in signers), message, signature))
    return found


def test_true_claims_are_true_together(backend: bls.Backend) -> None:
    assert backend.verify_all([])
    assert backend.verify_all(some_claims(4))


def test_one_false_claim_among_many_is_found_whatever_is_false(backend: bls.Backend) -> None:
    claims = some_claims(4)
    keys, message, signature = claims[2]
    for false in ((keys[:1], message, signature), (keys, b"other", signature), (keys, message, claims[1][2])):
        assert not backend.verify_all([*claims[:2], false, claims[3]])


@pytest.mark.parametrize("what", BAD_SIGNATURES)
def test_a_bad_signature_is_not_valid_among_others(what: str) -> None:
    assert not bls_native.verify_all([*some_claims(3), ((KEY,), MESSAGE, BAD_SIGNATURES[what])])


def test_a_bad_key_is_not_valid_among_others() -> None:
    for keys in ((), (KEY, minus(KEY)), *((KEY, BAD_KEYS[what]) for what in BAD_KEYS)):
        assert not bls_native.verify_all([*some_claims(3), (keys, MESSAGE, INFINITE_SIGNATURE)])


def test_false_claims_whose_errors_cancel_out_are_false_together() -> None:
    (keys, one, first), (others, two, second) = some_claims(2)
    error = bls_native.sign(ALICE, b"error")
    forged = [
        (keys, one, bls_native.aggregate([first, error])),
        (others, two, bls_native.aggregate([second, minus(error)])),
    ]
    assert bls_native.aggregate([claim[2] for claim in forged]) == bls_native.aggregate([first, second])
    assert not bls_native.verify_all(forged)
    assert not bls_native.verify_all([(keys, one, second), (keys, two, first)])


def test_what_was_true_together_is_remembered_and_nothing_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    claims = some_claims(3)
    assert bls.verify_all(claims)
    assert not bls.verify_all([((KEY,), b"block 7", SIGNATURE)])

    class Nobody:
        """A backend that finds nothing true."""

        @staticmethod
        def verify(*_: object) -> bool:
            return False

        fast_aggregate_verify = verify

    monkeypatch.setattr(bls, "backend", Nobody)
    assert all(bls.fast_aggregate_verify(*claim) for claim in claims)
    assert bls.verify(claims[0][0][0], *claims[0][1:])
    assert not bls.verify(KEY, b"block 7", SIGNATURE)
    assert not bls.fast_aggregate_verify([], *claims[0][1:])


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bls, "REMEMBERED_MAX", 2)
    claims = some_claims(4)
    assert bls.verify_all(claims)
    assert list(bls._genuine) == claims[2:]
