"""Seals: a quorum's signature over exactly one block, with exactly one encoding."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.primitives import bls
from chain.primitives.scale import ScaleError, codec_of
from chain.primitives.seal import (
    Authority,
    Phase,
    Seal,
    ValidatorSet,
    beacon_message,
    bitmap,
    read_bitmap,
    verify_seal,
    vote_message,
)

SECRETS = [bls.keygen(bytes([index]) * 32) for index in range(4)]
AUTHORITIES = tuple(Authority(bytes([index]) * 32, bls.public_key(secret)) for index, secret in enumerate(SECRETS))
VALIDATORS = ValidatorSet(7, AUTHORITIES)
GENESIS = b"\x11" * 32
BLOCK_HASH = b"\x22" * 32


def seal_by(*voters: int, genesis: bytes = GENESIS, phase: Phase = Phase.COMMIT, **fields: int) -> Seal:
    """Return the seal that these voters make for height 5, view 1, unless the fields say otherwise."""
    place = {"set_id": 7, "height": 5, "view": 1} | fields
    message = vote_message(genesis, place["set_id"], place["height"], place["view"], phase, BLOCK_HASH)
    signature = bls.aggregate([bls.sign(SECRETS[voter], message) for voter in voters])
    return Seal(place["height"], place["view"], place["set_id"], BLOCK_HASH, bitmap(voters, 4), signature)


@pytest.mark.parametrize("voters", [(0, 1, 2), (1, 2, 3), (0, 1, 2, 3)])
def test_a_quorum_seals_a_block(voters: tuple[int, ...]) -> None:
    assert verify_seal(VALIDATORS, GENESIS, seal_by(*voters))


def test_fewer_than_a_quorum_seal_nothing() -> None:
    assert not verify_seal(VALIDATORS, GENESIS, seal_by(0, 1))


@pytest.mark.parametrize(
    "seal",
    [
        seal_by(0, 1, 2, genesis=b"\x12" * 32),
        seal_by(0, 1, 2, phase=Phase.PREPARE),
        seal_by(0, 1, 2, set_id=8),
        replace(seal_by(0, 1, 2), set_id=8),
        replace(seal_by(0, 1, 2), height=6),
        replace(seal_by(0, 1, 2), view=2),
        replace(seal_by(0, 1, 2), block_hash=b"\x23" * 32),
        replace(seal_by(0, 1, 2), voters=bitmap((0, 1, 3), 4)),
        replace(seal_by(0, 1, 2), voters=bitmap((0, 1, 2, 3), 4)),
        replace(seal_by(0, 1, 2), signature=bytes(96)),
    ],
    ids=["chain", "phase", "set", "set renamed", "height", "view", "block", "voter swapped", "voter added", "garbage"],
)
def test_a_seal_is_good_for_nothing_but_what_was_voted_for(seal: Seal) -> None:
    assert not verify_seal(VALIDATORS, GENESIS, seal)


@pytest.mark.parametrize("voters", [b"", b"\x07\x00", b"\x17", b"\xff"])
def test_a_bitmap_that_is_not_canonical_is_no_seal(voters: bytes) -> None:
    seal = replace(seal_by(0, 1, 2), voters=voters)
    assert not verify_seal(VALIDATORS, GENESIS, seal)
    with pytest.raises(ValueError, match="bitmap"):
        seal.voter_indices(4)


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)))))
def test_a_bitmap_names_its_members(case: tuple[int, set[int]]) -> None:
    n, members = case
    assert read_bitmap(bitmap(members, n), n) == sorted(members)


def test_a_member_outside_the_group_is_refused() -> None:
    for index in (-1, 4):
        with pytest.raises(ValueError, match=f"below 4, got {index}"):
            bitmap([index], 4)


@pytest.mark.parametrize("n", range(1, 101))
def test_two_quorums_always_share_an_honest_validator(n: int) -> None:
    authorities = tuple(Authority(bytes([i]) * 32, bytes([i]) * 48) for i in range(n))
    validators = ValidatorSet(0, authorities)
    assert 3 * validators.f < n
    assert 2 * validators.quorum - n > validators.f
    assert validators.quorum <= n - validators.f, "the honest alone have to be enough"


def test_each_view_has_the_next_primary() -> None:
    assert [VALIDATORS.primary_index(5, view) for view in range(5)] == [1, 2, 3, 0, 1]
    assert VALIDATORS.primary(5, 0) == AUTHORITIES[1]


def test_a_validator_set_names_nobody_twice() -> None:
    with pytest.raises(ValueError, match="at least one validator"):
        ValidatorSet(0, ())
    with pytest.raises(ValueError, match="account"):
        ValidatorSet(0, (AUTHORITIES[0], replace(AUTHORITIES[1], account=AUTHORITIES[0].account)))
    with pytest.raises(ValueError, match="BLS key"):
        ValidatorSet(0, (AUTHORITIES[0], replace(AUTHORITIES[1], bls_key=AUTHORITIES[0].bls_key)))


def test_no_two_things_are_signed_with_the_same_bytes() -> None:
    messages = [
        vote_message(GENESIS, 7, 5, 1, Phase.COMMIT, BLOCK_HASH),
        vote_message(BLOCK_HASH, 7, 5, 1, Phase.COMMIT, GENESIS),
        vote_message(GENESIS, 5, 7, 1, Phase.COMMIT, BLOCK_HASH),
        vote_message(GENESIS, 7, 1, 5, Phase.COMMIT, BLOCK_HASH),
        vote_message(GENESIS, 7, 5, 1, Phase.PREPARE, BLOCK_HASH),
        beacon_message(GENESIS, 5),
        beacon_message(GENESIS, 6),
        beacon_message(BLOCK_HASH, 5),
    ]
    assert len(set(messages)) == len(messages)


def test_a_seal_has_one_encoding() -> None:
    seal = seal_by(0, 1, 2)
    codec = codec_of(Seal)
    encoded = codec.encode(seal)
    assert codec.decode(encoded) == seal
    for altered in (encoded + b"\0", encoded[:-1]):
        with pytest.raises(ScaleError):
            codec.decode(altered)
