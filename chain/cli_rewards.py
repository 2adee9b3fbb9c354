"""`potchain reward`: why a round of training paid what it paid, recomputed from what the chain holds."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import trio
import typer

from chain.cli_common import DEFAULT_RPC, EXIT_FAILED, NodeOption, UserError
from chain.display import Token, token_of
from chain.primitives import ss58
from chain.rpc.client import Client
from chain.rpc.errors import Code, RpcError
from runtime.modules.rewards import PPM, Rewards, RoundPay, split
from runtime.modules.training_types import RoundRecord, SlotRecord, Task

app = typer.Typer(help="Explain what training paid.", no_args_is_help=True)


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

    def payments(self) -> Counter[tuple[str, bytes]]:
        """What each account was due, by what it did."""
        pay, due = self.pay(), Counter[tuple[str, bytes]]()
        for (_, worker), amount in zip(self.workers, pay.workers, strict=True):
            due["worker", worker] += amount
        for validator in self.record.attesters:
            due["auditor", validator] += pay.auditor
        if self.record.aggregator is not None:
            due["aggregator", self.record.aggregator] += pay.aggregator
        return due


@app.command()
def explain(
    task: Annotated[int, typer.Argument(metavar="TASK", help="The task's number, as `potchain task list` shows it.")],
    round: Annotated[int, typer.Argument(metavar="ROUND", help="A final round of it.")],
    rpc: NodeOption = DEFAULT_RPC,
) -> None:
    """Recompute what a final round paid, to whom and why, and compare it with what the chain did."""
    trio.run(_explain, rpc, task, round)


async def _explain(rpc: str, task_id: int, number: int) -> None:
    async with Client.connect(rpc) as client:
        token, prefix = await token_of(client)
        await client.request("training_round", task_id, number)  # says what is wrong where there is no such round
        found = await client.read(partial(_final_round, task_id, number))
        if found is None:
            raise UserError(f"round {number} of task {task_id} is not final yet: potchain task watch {task_id}")
        block_hash = await client.request("chain_getBlockHash", found.record.finalised_at)
        paid = await _paid_in(client, found, block_hash)
    for line in _lines(found, block_hash, token, prefix):
        print(line)
    if found.pay().total != found.record.minted or paid not in (None, found.payments()):
        print("error: the chain paid something else: is its runtime that of this program?", file=sys.stderr)
        raise typer.Exit(EXIT_FAILED)
    source = "the chain's record says" if paid is None else "the chain's record and the block's events say"
    print(f"paid       {token.format(found.record.minted)}, as {source}")
    if paid is None:
        print("           (the state with the events is pruned here: a node with --state-pruning archive has it)")


async def _paid_in(client: Client, found: FinalRound, block_hash: str) -> Counter[tuple[str, bytes]] | None:
    """What the events of the round's last block say, None where the node keeps that state no more."""
    try:
        return await client.read(partial(_paid, found.task_id, found.number), at=block_hash)
    except RpcError as error:
        if error.code == Code.STATE_CLIENT:
            return None
        raise


def _final_round(task_id: int, number: int, chain: Any) -> FinalRound | None:
    record = chain.training.history.get((task_id, number))
    if record is None:
        return None
    rewards: Rewards = chain.rewards
    rules = Rules(rewards.slot_emission, rewards.auditors_share_ppm, rewards.aggregator_share_ppm)
    return FinalRound(task_id, number, chain.training.tasks[task_id], record, rules)


def _paid(task_id: int, number: int, chain: Any) -> Counter[tuple[str, bytes]]:
    """What the events of a block say was paid for the round."""
    paid = Counter[tuple[str, bytes]]()
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


def _outcome(slot: SlotRecord) -> str:
    if slot.planted:
        return "planted: wrong on purpose, and paid"
    return "accepted" if slot.accepted else "rejected" if slot.update_root is not None else "not revealed"


def _lines(found: FinalRound, block_hash: str, token: Token, prefix: int) -> Iterator[str]:
    record, rules, pay = found.record, found.rules, found.pay()
    count, checked, price = len(found.workers), len(record.attesters), found.task.price_per_slot
    name = found.task.name.decode(errors="replace")
    yield f"task {found.task_id} ({name}), round {found.number}, final in block {record.finalised_at} ({block_hash})"
    for index, slot in enumerate(record.slots):
        outcome = _outcome(slot)
        yield f"  slot {index:<3} {ss58.encode(slot.worker, prefix)}  {outcome}"
    cap = min(rules.slot_emission, price)
    why = "" if record.emission == cap else f", all that the emission budget held, of at most {token.format(cap)}"
    owner = ss58.encode(found.task.owner, prefix)
    yield f"price      {count} x {token.format(price)}, burned from the escrow of {owner}"
    yield f"emission   {count} x {token.format(record.emission)}{why}"
    yield f"worth      {token.format(pay.total)}"
    yield (
        f"auditors   {rules.auditors_ppm / PPM:.0%}, shared by {checked} who agreed: {token.format(pay.auditor)} each"
    )
    if record.aggregator is None:
        yield "aggregator nothing: nobody had said this model"
    else:
        share = f"{rules.aggregator_ppm / PPM:.0%} for the first to say this model"
        yield f"aggregator {share}: {token.format(pay.aggregator)}"
    yield f"workers    the rest: {token.format(pay.workers[-1])} a slot"
    for (role, account), amount in found.payments().items():
        yield f"  {role:<10} {ss58.encode(account, prefix)}  {token.format(amount)}"
