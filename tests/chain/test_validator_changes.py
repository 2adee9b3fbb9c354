"""Validators come and go on a running network, and one that votes twice pays for it: whole nodes, real votes."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chain.keystore import KeyFile, read_secret, write_private
from chain.node import FOLLOWS, VOTES
from chain.primitives import bls
from chain.primitives.keys import Secret
from chain.primitives.seal import verify_seal
from chain.validator_keys import ValidatorKeys
from consensus.lookback import Past
from runtime.modules.balances import POT
from runtime.modules.validators_types import Offence, Stake
from runtime.potchain import Potchain
from tests.chain.cluster import Member, cluster, set_of
from tests.chain.test_cli import potchain

pytestmark = pytest.mark.slow

STAKE = 1000 * POT


async def test_a_fifth_validator_joins_votes_and_another_leaves_with_its_bond(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "potchain.vote")
    async with cluster(tmp_path, block_time_ms=200, sessionBlocks=4, unbondingSessions=2) as network:
        alice, bob, charlie, dave = [await network.start(name) for name in ("Alice", "Bob", "Charlie", "Dave")]
        four = [member.keys.account.public for member in (alice, bob, charlie, dave)]
        await alice.reach(2)
        eve = await network.start("Eve")
        newcomer = eve.keys.account.public
        await eve.reach(2)  # It follows, through sync and votes, before it has any part in it.
        assert eve.read(set_of) == (0, four)
        assert caplog.messages.count(FOLLOWS) == 1
        assert "bonded     1,500 POT" in await eve.command("bond", "1500")
        assert "bonded     2,000 POT" in await eve.command("bond", "500")
        key = bls.public_key(eve.keys.bls_secret).hex()
        assert f"key        0x{key}" in await eve.command("set-keys")
        assert "candidate  yes" in await eve.command("validate")
        for member in (alice, eve):
            await member.until(lambda chain: set_of(chain) == (1, [*four, newcomer]))

        def all_five_vote(chain: Potchain) -> bool:
            # What the next block's seal says of this session; at its end it is over and the counts are anew.
            return chain.validators.set_id.get() == 1 and min(chain.validators.participation.get()) > 0

        await bob.until(all_five_vote)
        assert caplog.messages.count(VOTES) == 1
        five = bob.read(lambda chain: chain.validators.recorded_set(1))
        sealed = bob.read(lambda chain: chain.system.height)
        assert verify_seal(five, bob.ledger.genesis_hash, bob.seal(sealed))
        assert bob.seal(sealed).set_id == 1

        before = dave.read(lambda chain: chain.balances.free(four[3]))
        (refusal,) = await dave.command("unbond", "1000", code=1)
        assert refusal.startswith("error: unbond failed in block ")
        assert "validators.StillValidating: " in refusal
        assert "candidate  no" in await dave.command("chill")
        await dave.until(lambda chain: set_of(chain)[1] == [*four[:3], newcomer])
        assert "this set   no seat" in await dave.command("unbond", "1000")
        session = dave.read(lambda chain: chain.validators.stakes[four[3]].unbonding[0].session)
        await dave.until(lambda chain: chain.validators.session() >= session)
        assert "bonded     0 POT" in await dave.command("withdraw")
        await dave.until(lambda chain: four[3] not in chain.validators.stakes)
        assert dave.read(lambda chain: chain.balances.reserved(four[3])) == 0
        assert dave.read(lambda chain: chain.balances.free(four[3])) > before + STAKE - POT

        # With the one that left switched off, everybody of the set is there: blocks go on, and all have the same.
        dave.scope.cancel()
        height = alice.read(lambda chain: chain.system.height) + 4
        for member in (alice, bob, charlie, eve):
            await member.reach(height)
        assert len({member.ledger.hash_at(height) for member in (alice, bob, charlie, eve)}) == 1
        assert alice.seal(height).set_id == 2


async def test_a_validator_changes_its_session_key_and_misses_no_block(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "potchain.vote")
    async with cluster(tmp_path, block_time_ms=200, sessionBlocks=4) as network:
        # Three of four are a quorum: without Dave's votes, with either key, the chain would stand still.
        members = [await network.start(name) for name in ("Alice", "Bob")]
        dave = await network.start("Dave")
        await dave.reach(2)
        before = bls.public_key(dave.keys.bls_secret)
        file = tmp_path / "dave.key"
        secret = Secret("//Dave")
        write_private(file, KeyFile.of(secret, None, created=datetime.now(UTC)).encode())
        await dave.stop()
        rotated = potchain("key", "rotate", "--session", file)
        after = bls.public_key(ValidatorKeys.of(read_secret(file)).bls_secret)
        assert f"0x{after.hex()} (session key 1)" in rotated.stdout
        assert f"potchain validator set-keys --key {file}" in rotated.stdout
        dave = await network.start("Dave", session=1)  # With both keys, on the vote log of the first.
        await dave.reach(members[0].read(lambda chain: chain.system.height) + 1)
        assert before in keys_of(dave)
        assert f"key        0x{after.hex()}" in await dave.command("set-keys", key=str(file))
        await dave.until(lambda chain: chain.validators.set_id.get() == 1)
        assert after in keys_of(dave)
        assert before not in keys_of(dave)
        await dave.reach(dave.read(lambda chain: chain.system.height) + 3)
        assert FOLLOWS not in caplog.messages


def keys_of(member: Member) -> list[bytes]:
    """The keys of the set that decides the next block."""
    return member.read(lambda chain: [each.bls_key for each in chain.validators.validator_set().authorities])


async def test_a_twin_that_votes_twice_loses_a_tenth_of_its_bond_once(tmp_path: Path) -> None:
    async with cluster(tmp_path, block_time_ms=600, sessionBlocks=1000) as network:
        members = [await network.start(name) for name in ("Alice", "Bob", "Charlie")]
        # An honest node would stop when it hears of the other.
        members.append(await network.start("Dave", past=Past.IGNORED))
        dave = members[3].keys.account.public
        await members[0].reach(1)
        await network.start("Dave", twin=True, past=Past.IGNORED)
        honest = members[:3]
        for member in honest:
            await member.until(lambda chain: chain.validators.offences.get((0, dave)))
        offence = honest[0].read(lambda chain: chain.validators.offences[0, dave])
        assert offence == Offence(offence.height, STAKE // 10)
        # It goes on proposing two blocks whenever it is its turn; that costs it nothing more in this session.
        height = honest[0].read(lambda chain: chain.system.height) + 8
        for member in honest:
            await member.reach(height)
            assert member.read(lambda chain: chain.validators.stakes[dave]) == Stake(STAKE * 9 // 10, ())
            assert dave not in member.read(lambda chain: chain.validators.candidates.get())
            stakes = member.read(lambda chain: dict(chain.validators.stakes.items()))
            assert [stakes[other.keys.account.public].total for other in honest] == [STAKE] * 3
        assert len({member.ledger.hash_at(height) for member in honest}) == 1


async def test_p27_a_twin_that_is_started_by_mistake_says_so_and_costs_nobody_a_stake(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with cluster(tmp_path, block_time_ms=600, sessionBlocks=1000) as network:
        members = [await network.start(name) for name in ("Alice", "Bob", "Charlie", "Dave")]
        dave = members[3].keys.account.public
        await members[0].until(lambda chain: min(chain.validators.participation.get()) > 0)
        await network.start("Dave", twin=True)
        height = members[0].read(lambda chain: chain.system.height) + 6
        await members[0].reach(height)
        assert members[0].read(lambda chain: chain.validators.offences.get((0, dave))) is None
        assert members[0].read(lambda chain: chain.validators.stakes[dave]) == Stake(STAKE, ())
        # The first goes on, as it has not heard of it.
        voted = members[0].read(lambda chain: chain.validators.participation.get()[3])
        await members[0].reach(height + 4)
        assert members[0].read(lambda chain: chain.validators.participation.get()[3]) > voted
    (notice,) = [
        record.message for record in caplog.records if "another node with this validator's key" in record.message
    ]
    assert notice.startswith("another node with this validator's key answers at height ")
