"""The follower over the sessions of a real chain, whose validators bond, are elected and leave; and a pruned node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from chain.blobs import BlobStore
from chain.ledger import Ledger
from chain.light.checkpoint import Checkpoint
from chain.light.client import ask_nodes
from chain.light.follower import Steps, follow
from chain.primitives import bls
from chain.primitives.seal import Seal
from chain.primitives.types import Block
from chain.rpc.client import Client
from chain.rpc.server import RpcServer
from runtime.executive import Executive
from runtime.potchain import RUNTIME
from runtime.testing import ALICE, BOB, CHARLIE, DAVE, EVE, STAKE, TestChain, bls_secret, genesis_config
from tests.light.kit import Blocks, Made, copied, work_through
from tests.rpc.kit import MiniNode, Served

SHORT = {"sessionBlocks": 5, "unbondingSessions": 4}
CONFIG = genesis_config(sessions=SHORT)


class RecordedChain(TestChain):
    """A test chain that keeps every block with its seal and its state."""

    def __init__(self) -> None:
        super().__init__(sessions=SHORT)
        self.recorded = Blocks(copied(self.tree))

    def seal(self) -> Seal:
        seal = super().seal()
        self.recorded.blocks.append(Made(self.header, seal, copied(self.tree)))
        return seal


@pytest.fixture(scope="module")
def chain() -> RecordedChain:
    """Eve comes, and later Dave leaves: sets 0 to 2 in 43 blocks, which hold all that makes them."""
    chain, secret = RecordedChain(), bls_secret(EVE)
    chain.submit(EVE, "validators.bond", value=2 * STAKE)
    proof = bls.prove_possession(secret, EVE.public)
    chain.submit(EVE, "validators.set_keys", bls_key=bls.public_key(secret), proof=proof)
    chain.submit(EVE, "validators.validate")
    chain.run_to(23)
    chain.submit(DAVE, "validators.chill")
    chain.run_to(44)
    return chain


def open_ledger(path: Path) -> Ledger:
    """The chain's ledger in a folder; it keeps two states."""
    executive = Executive(RUNTIME)
    state = executive.genesis(CONFIG)
    return Ledger.open(path, executive=executive, genesis_state=state, genesis_name="test", history=2)


@asynccontextmanager
async def pruned_node(chain: RecordedChain, path: Path) -> AsyncIterator[Served]:
    """A real node that has executed the chain and was started again since."""
    ledger = open_ledger(path / "db")
    for made, (header, extrinsics) in zip(chain.recorded.blocks[1:], chain.blocks[1:], strict=True):
        assert made.seal is not None
        ledger.commit(ledger.execute(Block(header, extrinsics)), made.seal)
    ledger.close()
    ledger = open_ledger(path / "db")
    try:
        node = MiniNode(ledger, Executive(RUNTIME), BlobStore(path / "blobs", 1024 * 1024))
        async with trio.open_nursery() as nursery:
            it = Served(node, RpcServer(node, 0))
            await nursery.start(it.serve)
            yield it
            nursery.cancel_scope.cancel()
    finally:
        ledger.close()


def test_validators_who_come_and_leave_are_followed_from_genesis_to_the_head(chain: RecordedChain) -> None:
    recorded = chain.recorded
    start = Checkpoint.genesis(RUNTIME, CONFIG)
    assert start == recorded.checkpoint(0)
    found = work_through(follow(RUNTIME, start), recorded.answer)
    assert found == recorded.checkpoint()
    assert (found.height, found.validators.set_id) == (43, 2)
    members = {authority.account for authority in found.validators.authorities}
    assert members == {keypair.public for keypair in (ALICE, BOB, CHARLIE, EVE)}
    for height in range(1, 43):
        assert work_through(follow(RUNTIME, recorded.checkpoint(height)), recorded.answer) == found


async def test_a_node_proves_every_handover_long_after_it_pruned_the_states(
    chain: RecordedChain, tmp_path: Path
) -> None:
    async with pruned_node(chain, tmp_path) as it, Client.connect(it.url) as client:
        answers = [await client.request("consensus_getHandover", set_id) for set_id in range(4)]
        assert answers == [chain.recorded.handover(0), chain.recorded.handover(1), None, None]
        assert None not in answers[:2]

        def plan() -> Steps[tuple[Checkpoint, None]]:
            return (yield from follow(RUNTIME, Checkpoint.genesis(RUNTIME, CONFIG))), None

        with trio.fail_after(60):
            findings = await ask_nodes([it.url], plan)
        assert findings.best().head == chain.recorded.checkpoint()
