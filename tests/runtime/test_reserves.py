"""One account's money, reserved for every reason that there is: no module's penalty or refund reaches another's part.

Reserves have no names here, as Substrate's deposits of Multisig and Proxy have none: each module takes what it wrote
down itself. That what all of them wrote down is what is reserved, to the planck, is what these stories hold after every
block; a module that took more than its own would have to take it from another's, and the sums would part.
"""

from __future__ import annotations

from runtime.modules import training_invariants, validators_invariants
from runtime.modules.training_types import SlashReason
from runtime.modules.training_workers import slash as slash_worker
from runtime.testing import ALICE, BOB, EVE, POT, STAKE
from tests.runtime.test_multisig import DEPOSIT, approval, pay
from tests.runtime.test_offences import evidence, report
from tests.runtime.training_kit import PRICE, VALIDATORS, Story

BOND, CHALLENGE = 100 * POT, 5 * POT


class Bound(Story):
    """A story in which multisig deposits are reserved, too."""

    def next(self, count: int = 1) -> None:
        self.chain.run_blocks(count)
        expected = dict(training_invariants.bound(self.training))
        for who, amount in validators_invariants.bound(self.chain.modules.validators).items():
            expected[who] = expected.get(who, 0) + amount
        for operation in self.chain.modules.multisig.multisigs.values():
            expected[operation.depositor] = expected.get(operation.depositor, 0) + operation.deposit
        reserved = {who: info.data.reserved for who, info in self.chain.modules.system.account.items()}
        assert {who: amount for who, amount in reserved.items() if amount} == {
            who: amount for who, amount in expected.items() if amount
        }

    @property
    def reserved(self) -> int:
        """Everything of ALICE's."""
        return self.chain.modules.balances.reserved(ALICE.public)


def everything() -> Bound:
    """ALICE votes, owns a task, trains for it, sums, challenges and has opened an operation of a multisig."""
    story = Bound(workers=(ALICE, EVE), rounds=1)
    seats = story.worker(ALICE).capacity
    story.chain.call(ALICE, "training.register_aggregator")
    story.chain.call(ALICE, "multisig.as_multi", **approval(ALICE, pay(POT)))
    story.next()
    escrow = PRICE * len(story.state().slots)
    assert story.reserved == STAKE + escrow + story.storage() + BOND * seats + BOND + DEPOSIT
    return story


def test_what_is_taken_for_one_reason_is_taken_of_nothing_else() -> None:
    story = everything()
    story.to_audit()
    mine, others = story.slots_of(ALICE), story.slots_of(EVE)
    before = story.reserved
    story.challenge(ALICE, others[0])
    story.challenge(BOB, mine[0])
    story.aggregate(ALICE, without=[mine[0]], word="false")
    story.next()
    assert story.reserved == before + CHALLENGE
    story.attest(without=[mine[0]])
    story.next()  # A slot rejected, a sum found false, a challenge refuted: and the task is over.
    assert ALICE.public not in story.training.aggregators
    worker = story.worker(ALICE)
    assert worker.bond == 2 * BOND - 60 * POT
    assert story.reserved == STAKE + worker.bond + DEPOSIT
    report(story.chain, evidence(story.chain, by=ALICE, voter=VALIDATORS.index(ALICE)))
    story.next()
    assert story.reserved == STAKE * 9 // 10 + worker.bond + DEPOSIT


def test_a_bond_that_is_used_up_leaves_the_rest_of_an_account_alone() -> None:
    story = everything()
    before, bond = story.reserved, story.worker(ALICE).bond
    for _ in range(bond // (60 * POT) + 2):
        slash_worker(story.training, ALICE.public, 0, 0, SlashReason.REJECTED)
        story.chain.modules.balances.check()
    assert story.worker(ALICE).bond == 0
    assert story.reserved == before - bond


def test_each_deposit_comes_back_to_the_planck_whatever_else_is_reserved() -> None:
    story = everything()
    before = story.reserved
    call = pay(POT)
    ((when, hashed),) = [(operation.when, key[1]) for key, operation in story.chain.modules.multisig.multisigs.items()]
    with story.chain.unchanged(story.chain.modules.multisig.NotOwner):
        story.chain.call(
            BOB,
            "multisig.cancel_as_multi",
            threshold=2,
            other_signatories=approval(BOB, call)["other_signatories"],
            timepoint=when,
            call_hash=hashed,
        )
    story.chain.call(
        ALICE,
        "multisig.cancel_as_multi",
        threshold=2,
        other_signatories=approval(ALICE, call)["other_signatories"],
        timepoint=when,
        call_hash=hashed,
    )
    story.next()
    assert story.reserved == before - DEPOSIT
    story.chain.call(ALICE, "training.deregister_aggregator")
    story.next()
    assert story.reserved == before - DEPOSIT - BOND
