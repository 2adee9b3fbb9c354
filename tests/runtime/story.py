"""Two stories that touch every module, printed as state roots: run in processes that must agree."""

from __future__ import annotations

from runtime.modules.training_types import Phase
from runtime.testing import ALICE, BOB, CHARLIE, EVE, FERDIE, POT, TestChain
from tests.runtime.training_kit import Story


def state_roots() -> list[str]:
    """The state roots after each block of both stories."""
    return [header.state_root.hex() for chain in (transactions(), training()) for header, _ in chain.blocks]


def transactions() -> TestChain:
    """Signed transactions that succeed and fail, and a validator that is absent at times."""
    chain = TestChain()
    for worker in (EVE, FERDIE):
        chain.submit(worker, "training.register_worker")
    for height in range(4):
        chain.submit(ALICE, "balances.transfer_keep_alive", dest=BOB, value=POT + height)
        chain.submit(BOB, "balances.transfer_allow_death", dest=bytes((height,)) * 32, value=POT)
        chain.submit(CHARLIE, "balances.transfer_keep_alive", dest=ALICE, value=10**30)
        chain.submit(EVE, "system.remark_with_event", remark=b"%d" % height)
        chain.absent = {CHARLIE} if height % 2 else set()
        chain.close()
    return chain


def training() -> TestChain:
    """A round in which one worker commits nothing, one reveals nothing, one is slashed and one is paid."""
    story = Story(workers=(BOB, CHARLIE, EVE, FERDIE))
    story.commit(without=(0,))
    while story.state().phase is not Phase.REVEAL:
        story.next()
    story.reveal(without=(1,))
    while story.state().phase is not Phase.AUDIT:
        story.next()
    story.challenge(ALICE, 2)
    story.attest(without=(2,))
    while story.task().round == 0:
        story.next()
    slots = story.training.history[0, 0].slots
    assert [slot.accepted for slot in slots] == [False, False, False, True]
    assert len(story.training.paused_workers[0]) == 2
    story.next()
    return story.chain


if __name__ == "__main__":
    print("\n".join(state_roots()))
