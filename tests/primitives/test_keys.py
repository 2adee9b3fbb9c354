"""Keys come out as in every Substrate tool, and verification answers instead of raising."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.primitives import ss58
from chain.primitives.keys import DEV_PHRASE, Keypair, KeyUriError, Scheme, new_phrase, verify

ED25519, SR25519 = Scheme.ED25519, Scheme.SR25519
ALICE = Keypair.from_uri("//Alice")

# The order of the curve's main subgroup: adding it to a signature's scalar makes a second spelling of the signature.
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493


@pytest.mark.parametrize(
    ("uri", "scheme", "public"),
    [
        ("//Alice", ED25519, "88dc3417d5058ec4b4503e0c12ea1a0a89be200fe98922423d4334014fa6b0ee"),
        ("//Bob", ED25519, "d17c2d7823ebf260fd138f2d7e27d114c0145d968b5ff5006125f2414fadae69"),
        ("//Charlie", ED25519, "439660b36c6c03afafca027b910b4fecf99801834c62a5e6006f27d978de234f"),
        ("//Alice", SR25519, "d43593c715fdd31c61141abd04a99fd6822c8558854ccde39a5684e7a56da27d"),
        ("//Bob", SR25519, "8eaf04151687736326c9fea17e25fc5287613693c912909cb226aa4794f26a48"),
        ("//Alice//stash", SR25519, "be5ddb1579b72e84524fc29e78609e3caf42e85aa118ebfe0b0ad404b5bdd25f"),
        ("0xfac7959dbfe72f052e5a0c3c8d6530f202b02fd8f9f5ca3580ec8deb7797479e", SR25519,
         "46ebddef8cd9bb167dc30878d7113b7e168e6f0646beffd77d69d39bad76b47a"),
    ],
)  # fmt: skip
def test_development_keys_are_substrates(uri: str, scheme: Scheme, public: str) -> None:
    assert Keypair.from_uri(uri, scheme).public.hex() == public


def test_a_phrase_a_password_and_numbers_are_part_of_the_uri() -> None:
    assert Keypair.from_uri(f"{DEV_PHRASE}//Alice") == ALICE
    assert Keypair.from_uri(f"{DEV_PHRASE}//Alice///secret") != ALICE
    # A number is a u64, not text: //1 is what subkey derives from the bytes 01 00 ….
    assert Keypair.from_uri("//1").public != Keypair.from_uri("//one").public
    assert Keypair.from_uri("//" + "x" * 40).public != Keypair.from_uri("//" + "x" * 41).public
    assert Keypair.from_uri("//007").public == Keypair.from_uri("//7").public
    phrase = new_phrase(24)
    assert len(phrase.split()) == 24
    assert Keypair.from_uri(phrase, SR25519) == Keypair.from_uri(phrase, SR25519)


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("alice", "no BIP-39 phrase"),
        ("0x12", r"32 bytes \(0x and 64 digits\), got 1 bytes"),
        ("0xzz", "not hexadecimal"),
        ("//Alice/soft", "hard junctions"),
        ("//99999999999999999999", "one key in polkadot-js and another in subkey"),
        ("//" + "9" * 5000, "one key in polkadot-js and another in subkey"),
        ("//+5", "one key in polkadot-js and another in subkey"),
        ("//0xff", "one key in polkadot-js and another in subkey"),
        ("0x" + "00" * 64, "has no ed25519 account"),
        ("bottom bottom bottom bottom bottom bottom bottom bottom bottom bottom bottom bottom", "checksum"),
    ],
)
def test_a_uri_that_names_no_key_is_refused_without_repeating_the_secret(uri: str, why: str) -> None:
    with pytest.raises(KeyUriError, match=why) as caught:
        Keypair.from_uri(uri)
    assert "bottom" not in str(caught.value)


@pytest.mark.parametrize("uri", ["//\udcff", "\udcff", "///\udcff"])
def test_a_uri_that_is_no_text_is_refused_as_any_other(uri: str) -> None:
    with pytest.raises(KeyUriError, match="is UTF-8 text; character"):
        Keypair.from_uri(uri)


@pytest.mark.parametrize("scheme", Scheme)
@given(message=st.binary(max_size=300), position=st.integers(0, 511))
@settings(max_examples=20, deadline=None)
def test_a_signature_holds_for_its_message_and_key_only(scheme: Scheme, message: bytes, position: int) -> None:
    alice, bob = Keypair.from_uri("//Alice", scheme), Keypair.from_uri("//Bob", scheme)
    signature = alice.sign(message)
    assert verify(scheme, alice.public, message, signature)
    assert not verify(scheme, bob.public, message, signature)
    assert not verify(scheme, alice.public, message + b"!", signature)
    flipped = bytearray(signature)
    flipped[position // 8] ^= 1 << position % 8
    assert not verify(scheme, alice.public, message, bytes(flipped))


@pytest.mark.parametrize("scheme", Scheme)
@given(public=st.binary(max_size=40), message=st.binary(max_size=40), signature=st.binary(max_size=80))
@settings(max_examples=60, deadline=None)
def test_verification_of_garbage_is_false_and_never_raises(
    scheme: Scheme, public: bytes, message: bytes, signature: bytes
) -> None:
    assert not verify(scheme, public, message, signature)
    assert not verify(scheme, public.ljust(32, b"\0")[:32], message, signature.ljust(64, b"\x80")[:64])


@pytest.mark.parametrize(
    "public",
    [
        "0000000000000000000000000000000000000000000000000000000000000000",  # order 4
        "0100000000000000000000000000000000000000000000000000000000000000",  # the neutral element
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  # order 2
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",  # order 8
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  # not reduced
    ],
)
def test_keys_of_small_order_verify_nothing(public: str) -> None:
    neutral = bytes([1] + [0] * 31)
    assert not verify(ED25519, bytes.fromhex(public), b"message", neutral + bytes(32))


def test_a_second_spelling_of_a_signature_is_refused() -> None:
    signature = ALICE.sign(b"message")
    scalar = int.from_bytes(signature[32:], "little") + ED25519_ORDER
    assert not verify(ED25519, ALICE.public, b"message", signature[:32] + scalar.to_bytes(32, "little"))


def test_secrets_stay_out_of_reprs() -> None:
    assert ALICE.secret_seed.hex() not in repr(ALICE)
    assert repr(ALICE.secret_seed) not in repr(ALICE)
    with pytest.raises(ValueError, match="sr25519"):
        _ = Keypair.from_uri("//Alice", SR25519).secret_seed


def test_addresses_are_substrates() -> None:
    alice = Keypair.from_uri("//Alice", SR25519).public
    assert ss58.encode(alice) == "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
    assert ss58.encode(alice, 0) == "15oF4uVJwmo4TdGW7VfQxNLavjCXviqxT9S1MgbjMNHr6Sp5"
    assert ss58.decode("5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY") == alice
    assert ss58.encode(ALICE.public) == "5FA9nQDVg267DEd8m1ZypXLBnvN7SFxYwV7ndqSYGiN9TTpu"


@given(st.binary(min_size=32, max_size=32), st.integers(0, 16383).filter(lambda prefix: prefix not in (46, 47)))
@settings(max_examples=100, deadline=None)
def test_addresses_survive_on_every_network(account: bytes, prefix: int) -> None:
    address = ss58.encode(account, prefix)
    assert ss58.decode(address, prefix) == ss58.decode(address, None) == account


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("", "got '': 0 bytes where 35 are needed"),
        ("5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQZ", "mistyped"),
        ("5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQ0", "character 48, '0'"),
        ("5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQ", "3. bytes where 3. are needed"),
        ("15oF4uVJwmo4TdGW7VfQxNLavjCXviqxT9S1MgbjMNHr6Sp5", "network 0, expected 42"),
        ("5" * 51, "at most 50 characters"),
        ("Älice", "character 1, 'Ä'"),
    ],
)
def test_a_wrong_address_is_refused_with_what_is_wrong(address: str, why: str) -> None:
    with pytest.raises(ss58.Ss58Error, match=why):
        ss58.decode(address)


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_no_text_makes_the_decoder_raise_anything_else(text: str) -> None:
    try:
        account = ss58.decode(text, None)
    except ss58.Ss58Error:
        return
    assert len(account) == 32
