"""What workers are paid: every amount is minted here, once a slot, from evidence that is on chain.

An accepted slot earns the task's price, which the task's escrow has just burned, plus an emission that is new money.
Rule: emission is bounded twice, because a task's owner may also own workers.

- A slot's emission is never more than the price that its task paid. Slots are drawn among all workers, so that an
  owner who trains for itself pays other workers their share of the draws: with a share k of all workers it gains at
  most k times the price in emission and loses (1 - k) times the price to others, a loss until it owns half of them.
- All emission comes from one budget that fills by BlockEmission a block, up to BudgetMax. Whatever tasks do, issuance
  grows no faster than that; those who farm the budget dilute each other and nobody else.
"""

from __future__ import annotations

from dataclasses import dataclass

from chain.primitives.scale import AccountId, Balance, scale_path, u16, u32
from runtime.framework import Constant, Module, event
from runtime.modules.balances import POT, Balances
from runtime.modules.system import System
from runtime.storage import Hasher, StorageMap, StorageValue


@scale_path("potchain_rewards::Budget")
@dataclass(frozen=True, slots=True)
class Budget:
    """What may still be emitted, as it was at a height."""

    amount: Balance
    height: u32


@scale_path("potchain_rewards::PaidSlots")
@dataclass(frozen=True, slots=True)
class PaidSlots:
    """The slots that were paid of a task's latest paid round, ascending."""

    round: u32
    slots: tuple[u16, ...]


class Rewards(Module):
    """Mint what accepted slots earn."""

    system: System
    balances: Balances

    slot_emission = Constant[Balance](POT, doc="The most that a slot earns beyond its task's price.")
    # Four paid slots a block: above what one task on a small network earns, and 1.3e8 POT a year at one-second blocks.
    block_emission = Constant[Balance](4 * POT, doc="What the emission budget grows by in each block.")
    # Four of the largest rounds: rounds come in bursts, and an idle chain must not save up a fortune.
    budget_max = Constant[Balance](256 * POT, doc="The most that the emission budget holds.")

    budget = StorageValue[Budget](
        default=Budget(amount=256 * POT, height=0), doc="The emission budget when it was last drawn on."
    )
    minted = StorageValue[Balance](default=0, doc="Everything that workers were ever paid.")
    emitted = StorageValue[Balance](default=0, doc="The part of Minted that no escrow had paid for.")
    paid = StorageMap[u32, PaidSlots](
        hasher=Hasher.TWOX_64_CONCAT, doc="Which slots of a task's latest round are paid."
    )

    @event(index=0)
    class SlotPaid:
        """A worker was paid for an accepted slot."""

        task: u32
        round: u32
        slot: u16
        worker: AccountId
        amount: Balance

    def pay_slot(self, task: int, round_: int, slot: int, worker: bytes, price: int) -> int:
        """Mint a slot's price, which the caller has burned from escrow, and its emission; return their sum.

        A slot is paid once and rounds are paid in order: anything else is a bug, never a block's fault.
        """
        before = self.paid.get(task)
        slots: tuple[int, ...] = ()
        if before is not None:
            if round_ < before.round or (round_ == before.round and slot in before.slots):
                raise AssertionError(f"slot {slot} of round {round_} of task {task} is paid already: {before}")
            slots = before.slots if round_ == before.round else ()
        self.paid[task] = PaidSlots(round_, tuple(sorted((*slots, slot))))
        emission = self._draw_emission(min(self.slot_emission, price))
        amount = price + emission
        self.minted.put(self.minted.get() + amount)
        self.emitted.put(self.emitted.get() + emission)
        self.balances.mint(worker, amount)
        self.emit(self.SlotPaid(task, round_, slot, worker, amount))
        return amount

    def available(self) -> int:
        """What the budget holds at this height."""
        budget = self.budget.get()
        return min(self.budget_max, budget.amount + (self.system.height - budget.height) * self.block_emission)

    def _draw_emission(self, wanted: int) -> int:
        available = self.available()
        emission = min(wanted, available)
        self.budget.put(Budget(available - emission, self.system.height))
        return emission

    def check(self) -> None:
        """Emission keeps its budget, and is part of what was minted."""
        assert 0 <= self.available() <= self.budget_max
        assert self.emitted.get() <= self.minted.get()
        assert self.emitted.get() <= self.budget_max + self.system.height * self.block_emission
        for task, paid in self.paid.items():
            assert list(paid.slots) == sorted(set(paid.slots)), f"task {task} paid a slot twice: {paid}"
