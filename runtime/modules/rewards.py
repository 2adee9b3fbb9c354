"""What training pays: every amount is minted here, once a round, from evidence that is on chain.

An accepted slot is worth the task's price, which the task's escrow has just burned, plus an emission that is new money.
Most of it is the worker's; those who checked and those who summed have shares. `split` is the whole arithmetic.
Rule: emission is bounded twice, because a task's owner may also own workers.

- A slot's emission is never more than the price that its task paid. Slots are drawn among all workers, so that an
  owner who trains for itself pays other workers their share of the draws: with a share k of all workers it gains at
  most k times the price in emission and loses (1 - k) times the price to others, a loss until it owns half of them.
- All emission comes from one budget that fills by what the schedule says of each block, up to BudgetMax. Whatever
  tasks do, issuance grows no faster than that; those who farm the budget dilute each other and nobody else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from chain.primitives.scale import AccountId, Balance, scale_path, u16, u32
from runtime.framework import Constant, Module, event
from runtime.modules.balances import POT, Balances
from runtime.modules.system import System
from runtime.storage import Hasher, StorageMap, StorageValue

PPM: Final = 1_000_000


@scale_path("potchain_rewards::Budget")
@dataclass(frozen=True, slots=True)
class Budget:
    """What may still be emitted, as it was at a height."""

    amount: Balance
    height: u32


@dataclass(frozen=True, slots=True)
class RoundPay:
    """What a final round pays, in planck; `workers` in the order of the accepted slots."""

    emission: int  # for each slot
    workers: tuple[int, ...]
    auditor: int  # for each
    aggregator: int
    total: int


def split(
    price: int, emission: int, slots: int, auditors: int, *, aggregated: bool, auditors_ppm: int, aggregator_ppm: int
) -> RoundPay:
    """Divide what `slots` accepted slots are worth, to the last planck.

    The aggregator's share, if one was first to say what was agreed on, and the auditors', in equal parts, are rounded
    down. The rest is the workers', in equal parts; what that division leaves goes to the first slots, a planck each.
    """
    total = slots * (price + emission)
    aggregator = total * aggregator_ppm // PPM if aggregated else 0
    auditor = total * auditors_ppm // PPM // auditors
    each, left = divmod(total - aggregator - auditor * auditors, slots)
    workers = tuple(each + (index < left) for index in range(slots))
    return RoundPay(emission, workers, auditor, aggregator, total)


class Rewards(Module):
    """Mint what accepted slots are worth, to those who made, checked and summed them."""

    system: System
    balances: Balances

    slot_emission = Constant[Balance](POT, doc="The most that a slot is worth beyond its task's price.")
    # Four paid slots a block: above what one task on a small network earns, and 1.3e8 POT in the first year of
    # one-second blocks.
    block_emission = Constant[Balance](4 * POT, doc="What the emission budget grows by in each of the first blocks.")
    # Four years of one-second blocks. All that is ever emitted is then below 2 * 4 POT * 126,144,000: 1.01e9 POT.
    halving_blocks = Constant[u32](126_144_000, doc="After how many blocks BlockEmission halves, again and again.")
    # Four of the largest rounds: rounds come in bursts, and an idle chain must not save up a fortune.
    budget_max = Constant[Balance](256 * POT, doc="The most that the emission budget holds.")
    # An audit of every slot by one or two validators costs them as much computing as the slots; a tenth keeps it worth
    # their while and leaves training the better business.
    auditors_share_ppm = Constant[u32](100_000, doc="The share of all validators whose agreement made a round final.")
    # To sum and publish takes seconds of one core, however large the round.
    aggregator_share_ppm = Constant[u32](50_000, doc="The share of the aggregator that first said what was agreed on.")

    budget = StorageValue[Budget](
        default=Budget(amount=256 * POT, height=0), doc="The emission budget when it was last drawn on."
    )
    minted = StorageValue[Balance](default=0, doc="Everything that training ever paid.")
    emitted = StorageValue[Balance](default=0, doc="The part of Minted that no escrow had paid for.")
    earned_by_checking = StorageMap[AccountId, Balance](
        default=0, doc="What each validator and aggregator was ever paid for its share of rounds."
    )
    paid_rounds = StorageMap[u32, u32](hasher=Hasher.TWOX_64_CONCAT, doc="The latest round of a task that was paid.")

    @event(index=0)
    class SlotPaid:
        """A worker was paid for an accepted slot."""

        task: u32
        round: u32
        slot: u16
        worker: AccountId
        amount: Balance

    @event(index=1)
    class AuditPaid:
        """A validator was paid for its word in an agreement."""

        task: u32
        round: u32
        validator: AccountId
        amount: Balance

    @event(index=2)
    class AggregatePaid:
        """An aggregator was paid for having said first what was agreed on."""

        task: u32
        round: u32
        aggregator: AccountId
        amount: Balance

    def pay_round(
        self,
        task: int,
        round_: int,
        price: int,
        *,
        slots: Mapping[int, bytes],
        auditors: Sequence[bytes],
        aggregator: bytes | None,
        is_emitting: bool,
    ) -> RoundPay:
        """Mint what a final round's accepted slots (with their workers) are worth; the caller has burned their price.

        Beyond the price there is something only where the round `is_emitting`: where its workers were drawn among all.

        Rounds are paid once and in order: anything else is a bug, never a block's fault.
        """
        before = self.paid_rounds.get(task)
        if before is not None and round_ <= before:
            raise AssertionError(f"round {round_} of task {task} is paid already: the latest is {before}")
        self.paid_rounds[task] = round_
        pay = split(
            price,
            self._draw_emission(min(self.slot_emission, price), len(slots)) if is_emitting else 0,
            len(slots),
            len(auditors),
            aggregated=aggregator is not None,
            auditors_ppm=self.auditors_share_ppm,
            aggregator_ppm=self.aggregator_share_ppm,
        )
        self.minted.put(self.minted.get() + pay.total)
        self.emitted.put(self.emitted.get() + pay.emission * len(slots))
        for (slot, worker), amount in zip(slots.items(), pay.workers, strict=True):
            self.balances.mint(worker, amount)
            self.emit(self.SlotPaid(task, round_, slot, worker, amount))
        for validator in auditors:
            self._pay_share(validator, pay.auditor)
            self.emit(self.AuditPaid(task, round_, validator, pay.auditor))
        if aggregator is not None:
            self._pay_share(aggregator, pay.aggregator)
            self.emit(self.AggregatePaid(task, round_, aggregator, pay.aggregator))
        return pay

    def available(self) -> int:
        """What the budget holds at this height."""
        budget = self.budget.get()
        return min(self.budget_max, budget.amount + self.scheduled(budget.height, self.system.height))

    def scheduled(self, start: int, end: int) -> int:
        """What the budget grows by from one height to another: BlockEmission, halved every HalvingBlocks."""
        grown = 0
        while start < end:
            halvings, until = start // self.halving_blocks, (start // self.halving_blocks + 1) * self.halving_blocks
            grown += (min(end, until) - start) * (self.block_emission >> halvings)
            start = until
        return grown

    def _draw_emission(self, wanted: int, slots: int) -> int:
        """Take the emission of so many slots from the budget, the same for each, and return that of one."""
        available = self.available()
        emission = min(wanted, available // slots)
        self.budget.put(Budget(available - emission * slots, self.system.height))
        return emission

    def _pay_share(self, account: bytes, amount: int) -> None:
        self.balances.mint(account, amount)
        self.earned_by_checking[account] = self.earned_by_checking[account] + amount

    def check(self) -> None:
        """Emission keeps its schedule, and is part of what was minted."""
        assert 0 <= self.available() <= self.budget_max
        assert self.emitted.get() <= self.minted.get()
        assert self.emitted.get() <= self.budget_max + self.scheduled(0, self.system.height)
        assert sum(self.earned_by_checking.values()) <= self.minted.get()
