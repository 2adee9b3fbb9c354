"""Stories that touch every module, printed as state roots: run in processes that must agree."""

from __future__ import annotations

from chain.primitives import ss58
from runtime.modules.multisig import Timepoint, multi_account
from runtime.modules.training_types import Phase
from runtime.testing import ALICE, BOB, CHARLIE, EVE, FERDIE, POT, TestChain
from tests.runtime.training_kit import Story


def state_roots() -> list[str]:
    """The state roots after each block of every story."""
    stories = (transactions(), training(), nesting())
    return [header.state_root.hex() for chain in stories for header, _ in chain.blocks]


def transactions() -> TestChain:
    """Signed transactions that succeed and fail, and a validator that is absent at times."""
    chain = TestChain()
    for worker in (EVE, FERDIE):
        chain.submit(worker, "training.register_worker", capacity=1)
    for height in range(4):
        chain.submit(ALICE, "balances.transfer_keep_alive", dest=BOB, value=POT + height)
        chain.submit(BOB, "balances.transfer_allow_death", dest=bytes((height,)) * 32, value=POT)
        chain.submit(CHARLIE, "balances.transfer_keep_alive", dest=ALICE, value=10**30)
        chain.submit(EVE, "system.remark_with_event", remark=b"%d" % height)
        chain.absent = {CHARLIE} if height % 2 else set()
        chain.close()
    return chain


def nesting() -> TestChain:
    """Calls in calls: batches, the sudo key, an account of several others, and locks under it all."""
    chain = TestChain(sudo={"key": ss58.encode(ALICE.public)})
    team = sorted(keypair.public for keypair in (ALICE, BOB, CHARLIE))
    account = multi_account(team, 2)
    pay = chain.runtime.call("balances.transfer_keep_alive", dest=EVE.public, value=POT)
    too_much = chain.runtime.call("balances.transfer_keep_alive", dest=EVE.public, value=10**30)
    chain.submit(ALICE, "balances.transfer_keep_alive", dest=account, value=10 * POT)
    for when, keypair in ((None, BOB), (Timepoint(1, 2), CHARLIE)):
        chain.submit(
            keypair,
            "multisig.as_multi",
            threshold=2,
            other_signatories=[other for other in team if other != keypair.public],
            maybe_timepoint=when,
            call=pay,
            max_weight=pay.dispatch_info.weight,
        )
    chain.close()
    for kind in ("batch", "batch_all", "force_batch"):
        chain.submit(BOB, f"utility.{kind}", calls=[pay, too_much, pay])
    chain.submit(ALICE, "sudo.sudo", call=chain.runtime.call("system.set_storage", items=[(b"key", b"value")]))
    chain.modules.balances.set_lock(BOB.public, b"lock____", POT)
    chain.modules.balances.set_lock(BOB.public, b"other___", 2 * POT)
    chain.close()
    assert chain.modules.balances.free(account) == 9 * POT
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
    assert len(story.paused()) == 2
    story.next()
    return story.chain


if __name__ == "__main__":
    print("\n".join(state_roots()))
