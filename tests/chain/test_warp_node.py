"""A whole validator that begins with a recent state among others that go on: it follows, votes, serves the next."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from chain.sync.mode import SyncMode
from runtime.potchain import Potchain
from tests.chain.cluster import cluster

pytestmark = pytest.mark.slow


async def test_a_validator_whose_folder_was_lost_begins_with_a_recent_state_and_votes_again(tmp_path: Path) -> None:
    async with cluster(tmp_path, block_time_ms=200) as network:
        alice, bob, charlie, dave = [await network.start(name) for name in ("Alice", "Bob", "Charlie", "Dave")]
        await dave.reach(3)
        dave.scope.cancel()
        lost_at = alice.ledger.head.height
        await alice.reach(lost_at + 5)
        shutil.rmtree(tmp_path / "dave")
        before = alice.read(lambda chain: chain.validators.participation.get()[3])

        again = await network.start("Dave", sync=SyncMode.WARP)
        began = again.ledger.lowest_block
        assert began >= lost_at + 5

        def votes(chain: Potchain) -> bool:
            return chain.validators.participation.get()[3] > before + 2

        for member in (alice, again):
            await member.until(votes)
        height = again.ledger.head.height
        for member in (alice, bob, charlie, again):
            await member.reach(height)
        assert len({member.ledger.hash_at(height) for member in (alice, bob, charlie, again)}) == 1
        assert again.ledger.sealed_blocks(1, 10, 10**6) == []

        # Another begins with the state that it has, and the other way round it asks for no block that it lacks.
        eve = await network.start("Eve", sync=SyncMode.WARP)
        assert eve.ledger.lowest_block >= began
        ferdie = await network.start("Ferdie")
        await ferdie.reach(height)
        assert ferdie.ledger.hash_at(1) == alice.ledger.hash_at(1)
        lowest = {peer.id: peer.lowest_height for peer in ferdie.node.peers()}
        assert {lowest[each] for each in lowest if each == again.node.local_identity} <= {began}
        assert {lowest[each] for each in lowest if each == alice.node.local_identity} <= {0}
