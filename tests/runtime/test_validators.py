"""Validators, Timestamp and System: who may propose, the beacon, participation, time, and what is kept."""

from __future__ import annotations

import pytest

from chain.primitives import bls
from chain.primitives.hashing import blake2_256
from chain.primitives.seal import Phase, Seal, beacon_message, bitmap, vote_message
from chain.primitives.types import ConsensusDigest, Header, PreRuntime, encode_extrinsic
from runtime.executive import Executive
from runtime.framework import EventLog
from runtime.modules.system import System
from runtime.potchain import RUNTIME
from runtime.state import DictState, Overlay
from runtime.testing import (
    ALICE,
    BLOCK_TIME_MS,
    BOB,
    CHARLIE,
    DAVE,
    EVE,
    GENESIS_TIME_MS,
    TestChain,
    authority_config,
    bls_secret,
    genesis_config,
)
from runtime.types import GenesisError, InherentData, InvalidBlock

ORDER = (ALICE, BOB, CHARLIE, DAVE)


def begin(chain: TestChain, digest: list[PreRuntime]) -> None:
    header = chain.header
    chain.executive.begin(chain.tree, height=header.height + 1, parent_hash=header.hash, digest=digest)


def test_each_blocks_beacon_is_the_hash_of_the_last_and_its_primarys_signature() -> None:
    chain = TestChain()
    before = RUNTIME.at(chain.tree).validators.randomness()
    signature = bls.sign(bls_secret(BOB), beacon_message(chain.genesis_hash, 1))
    assert chain.modules.validators.randomness() == blake2_256(before + signature)
    assert [chain.modules.validators.author(), chain.close(), chain.modules.validators.author()][::2] == [
        BOB.public,
        CHARLIE.public,
    ]


def test_only_the_views_primary_proposes() -> None:
    chain = TestChain()
    begin(chain, [ConsensusDigest(2, bls.sign(bls_secret(DAVE), beacon_message(chain.genesis_hash, 1))).item()])
    for view, signer, height, genesis in (
        (0, ALICE, 1, chain.genesis_hash),
        (1, BOB, 1, chain.genesis_hash),
        (0, BOB, 2, chain.genesis_hash),
        (0, BOB, 1, bytes(32)),
    ):
        signature = bls.sign(bls_secret(signer), beacon_message(genesis, height))
        with pytest.raises(
            InvalidBlock, match=f"expected the beacon signature of 0x[0-9a-f]+, the primary of view {view}"
        ):
            begin(chain, [ConsensusDigest(view, signature).item()])


def test_a_digest_says_its_view_and_beacon_exactly_once() -> None:
    chain = TestChain()
    item = ConsensusDigest(0, bls.sign(bls_secret(BOB), beacon_message(chain.genesis_hash, 1))).item()
    begin(chain, [item, PreRuntime(b"ELSE", b"")])
    for digest in ([], [item, item], [PreRuntime(item.engine, item.data + b"\0")]):
        with pytest.raises(InvalidBlock, match="block 1: digest: expected"):
            begin(chain, digest)


def test_a_block_begins_on_the_state_of_the_height_below() -> None:
    chain = TestChain()
    with pytest.raises(InvalidBlock, match="expected block 1 on a state at height 0, got block 2"):
        chain.executive.begin(chain.tree, height=2, parent_hash=bytes(32), digest=[])


def test_whoever_sealed_the_parent_took_part() -> None:
    chain = TestChain()
    chain.run_blocks(2)
    chain.absent = {CHARLIE}
    chain.run_blocks(3)
    assert chain.modules.validators.participation.get() == (5, 5, 2, 5)


def seal_by(chain: TestChain, voters: list[int], *, phase: Phase = Phase.COMMIT, block: bytes | None = None) -> Seal:
    header = chain.header
    block = header.hash if block is None else block
    message = vote_message(chain.genesis_hash, 0, header.height, 0, phase, block)
    signature = bls.aggregate([bls.sign(bls_secret(ORDER[index]), message) for index in voters])
    return Seal(header.height, 0, 0, block, bitmap(voters, 4), signature)


def test_a_seal_that_is_not_a_quorums_for_the_parent_makes_the_block_invalid() -> None:
    chain = TestChain()
    chain.run_blocks(1)
    good = seal_by(chain, [0, 2, 3])
    for seal, message in (
        (good, None),
        (seal_by(chain, [0, 2]), "expected the votes of 3 of 4 validators"),
        (seal_by(chain, [0, 2, 3], phase=Phase.PREPARE), "does not verify"),
        (Seal(1, 0, 0, good.block_hash, bitmap([0, 1, 2, 3], 4), good.signature), "does not verify"),
        (Seal(1, 0, 0, good.block_hash, bitmap([0, 2, 3], 4) + b"\0", good.signature), "does not verify"),
        (Seal(1, 0, 1, good.block_hash, good.voters, good.signature), "does not verify"),
        (seal_by(chain, [0, 2, 3], block=bytes(32)), "expected a seal of block 1 0x"),
    ):
        builder = chain.begin()
        time, note = builder.inherents(chain.inherent_data(seal))
        builder.apply(time)
        if message is None:
            builder.apply(note)
        else:
            with pytest.raises(InvalidBlock, match=f"extrinsic 1: validators.note_seal: InvalidSeal: .*{message}"):
                builder.apply(note)


def test_time_advances_by_at_least_the_minimum_period() -> None:
    chain = TestChain()
    assert chain.modules.timestamp.now.get() == GENESIS_TIME_MS + BLOCK_TIME_MS
    chain.close()
    builder = chain.begin()
    early = GENESIS_TIME_MS + BLOCK_TIME_MS + 499
    raw = encode_extrinsic(RUNTIME.encode_call(RUNTIME.call("timestamp.set", now=early)))
    with pytest.raises(InvalidBlock, match=f"TooEarly: expected a time of at least {early + 1} ms, got {early} ms"):
        builder.apply(raw)
    behind = chain.begin().inherents(InherentData(5, seal_by(chain, [0, 1, 2])))
    assert behind[0] == encode_extrinsic(RUNTIME.encode_call(RUNTIME.call("timestamp.set", now=early + 1)))


def test_hashes_of_the_last_256_blocks_and_of_genesis_are_kept() -> None:
    # Only System's part of a block: 260 whole ones would spend most of their time on signatures.

    system = RUNTIME.over(Overlay(DictState()), EventLog()).system
    for height in range(1, 261):
        system.begin_block(height, height.to_bytes(32), [])
        system.check()
    assert sorted(system.block_hash.keys()) == [0, *range(4, 260)]
    assert system.block_hash[259] == (260).to_bytes(32)


def test_events_are_those_of_the_last_block_only() -> None:
    chain = TestChain()
    chain.submit(ALICE, "system.remark_with_event", remark=b"hello")
    executed = chain.close()
    stored = RUNTIME.at(chain.tree).system
    assert stored.events.get() == executed.events
    assert System.Remarked(ALICE.public, blake2_256(b"hello")) in [record.event for record in executed.events]
    chain.close()
    assert [type(record.event) for record in stored.events.get()] == [System.ExtrinsicSuccess] * 2


def test_the_header_is_in_state_while_its_block_runs() -> None:
    chain = TestChain()
    parent: Header = chain.header
    system = chain.modules.system
    assert (system.height, system.parent_hash.get(), system.block_hash[0]) == (1, parent.hash, parent.hash)


@pytest.mark.parametrize(
    ("authorities", "message"),
    [
        ([], r"validators\.authorities: expected 1 to 100 validators, got 0"),
        ([5], r"validators\.authorities\[0\]: expected an object, got 5"),
        ([{"account": 5}], r"validators\.authorities\[0\]\.account: expected an SS58 address, got 5"),
        (
            [{**authority_config(ALICE), "proof": "0x12"}],
            r"\[0\]\.proof: expected 0x and 192 lower-case hex digits, got '0x12'",
        ),
        (
            [{**authority_config(ALICE), "proof": authority_config(EVE)["proof"]}],
            r"\[0\]\.proof: expected a proof of possession",
        ),
        ([{**authority_config(ALICE), "stake": 5}], r"\[0\]\.stake: unknown field; expected account, bls, proof"),
        ([authority_config(ALICE), authority_config(ALICE)], r"\[1\]: '\w+': account or key appears twice"),
    ],
)
def test_genesis_names_what_is_wrong_with_a_validator(authorities: list[object], message: str) -> None:
    config = {**genesis_config(), "validators": {"authorities": authorities}}
    with pytest.raises(GenesisError, match=message):
        Executive(RUNTIME).genesis(config)
