"""The follower over the sessions of a real chain, whose validators bond, are elected and leave."""

from __future__ import annotations

from chain.light.checkpoint import Checkpoint
from chain.light.follower import follow
from chain.primitives import bls
from chain.primitives.seal import Seal
from runtime.potchain import RUNTIME
from runtime.testing import ALICE, BOB, CHARLIE, DAVE, EVE, STAKE, TestChain, bls_secret, genesis_config
from tests.light.kit import Blocks, Made, copied, work_through

SHORT = {"sessionBlocks": 5, "unbondingSessions": 4}


class RecordedChain(TestChain):
    """A test chain that keeps every block with its seal and its state."""

    def __init__(self) -> None:
        self.recorded: Blocks | None = None
        super().__init__(sessions=SHORT)
        self.recorded = Blocks(self.genesis_tree)

    def _check(self) -> None:
        if self.recorded is None:
            self.genesis_tree = copied(self.tree)
        super()._check()

    def seal(self) -> Seal:
        seal = super().seal()
        assert self.recorded is not None
        self.recorded.blocks.append(Made(self.header, seal, copied(self.tree)))
        return seal


def test_validators_who_come_and_leave_are_followed_from_genesis_to_the_head() -> None:
    chain = RecordedChain()
    secret = bls_secret(EVE)
    chain.call(EVE, "validators.bond", value=2 * STAKE)
    chain.call(EVE, "validators.set_keys", bls_key=bls.public_key(secret), proof=bls.prove_possession(secret))
    chain.call(EVE, "validators.validate")
    chain.run_to(23)
    chain.call(DAVE, "validators.chill")
    chain.run_to(44)
    recorded = chain.recorded
    assert recorded is not None
    start = Checkpoint.genesis(RUNTIME, genesis_config(sessions=SHORT))
    assert start == recorded.checkpoint(0)

    found = work_through(follow(RUNTIME, start), recorded.answer)
    assert found == recorded.checkpoint()
    assert (found.height, found.validators.set_id) == (43, 2)
    members = {authority.account for authority in found.validators.authorities}
    assert members == {keypair.public for keypair in (ALICE, BOB, CHARLIE, EVE)}
    for height in range(1, 43):
        assert work_through(follow(RUNTIME, recorded.checkpoint(height)), recorded.answer) == found
