"""Why a round of training paid what it paid, recomputed from what the chain holds.

Rule: the arithmetic is the runtime's own `split`; what is compared with it is the record and the events.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from runtime.modules.rewards import Rewards, RoundPay, split
from runtime.modules.training_types import RoundRecord, SlotRecord, Task

# What each account was due, by what it did: worker, auditor, aggregator.
Payments = Counter[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Rules:
    """The constants that divide what a round is worth."""

    slot_emission: int
    auditors_ppm: int
    aggregator_ppm: int


@dataclass(frozen=True, slots=True)
class FinalRound:
    """All that says what a round paid, as the chain holds it."""

    task_id: int
    number: int
    task: Task
    record: RoundRecord
    rules: Rules

    @property
    def workers(self) -> list[tuple[int, bytes]]:
        """The slots that are paid, with their workers: accepted ones, and those that were planted."""
        paid = ((index, slot) for index, slot in enumerate(self.record.slots) if slot.accepted or slot.planted)
        return [(index, slot.worker) for index, slot in paid]

    @property
    def emission_max(self) -> int:
        """What a slot is worth at most beyond its price."""
        return min(self.rules.slot_emission, self.task.price_per_slot)

    def pay(self) -> RoundPay:
        """What it paid, computed anew."""
        return split(
            self.task.price_per_slot,
            self.record.emission,
            len(self.workers),
            len(self.record.attesters),
            aggregated=self.record.aggregator is not None,
            auditors_ppm=self.rules.auditors_ppm,
            aggregator_ppm=self.rules.aggregator_ppm,
        )

    def payments(self) -> Payments:
        """What each account was due, by what it did."""
        pay, due = self.pay(), Payments()
        for (_, worker), amount in zip(self.workers, pay.workers, strict=True):
            due["worker", worker] += amount
        for validator in self.record.attesters:
            due["auditor", validator] += pay.auditor
        if self.record.aggregator is not None:
            due["aggregator", self.record.aggregator] += pay.aggregator
        return due


def final_round(task_id: int, number: int, chain: Any) -> FinalRound | None:
    """A final round, read through the runtime's modules; None for one that is not final, or not at all."""
    record = chain.training.history.get((task_id, number))
    if record is None:
        return None
    rewards: Rewards = chain.rewards
    rules = Rules(rewards.slot_emission, rewards.auditors_share_ppm, rewards.aggregator_share_ppm)
    return FinalRound(task_id, number, chain.training.tasks[task_id], record, rules)


def paid_in_events(task_id: int, number: int, chain: Any) -> Payments:
    """What the events of a block say was paid for the round."""
    paid = Payments()
    for record in chain.system.events.get():
        match record.event:
            case Rewards.SlotPaid(task, round_, _, account, amount):
                role = "worker"
            case Rewards.AuditPaid(task, round_, account, amount):
                role = "auditor"
            case Rewards.AggregatePaid(task, round_, account, amount):
                role = "aggregator"
            case _:
                continue
        if (task, round_) == (task_id, number):
            paid[role, account] += amount
    return paid


def outcome(slot: SlotRecord) -> str:
    """What became of a slot, in words."""
    if slot.planted:
        return "planted: wrong on purpose, and paid"
    return "accepted" if slot.accepted else "rejected" if slot.update_root is not None else "not revealed"
