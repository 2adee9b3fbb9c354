"""`training_*` about what was earned: the arithmetic of a round's rewards, and what workers did lately."""

from __future__ import annotations

from collections import Counter
from typing import Any

from chain.ledger import StatePruned
from chain.primitives import ss58
from chain.reward import FinalRound, Payments, final_round, outcome, paid_in_events
from chain.rpc.context import Context
from chain.rpc.errors import Code, RpcError
from chain.rpc.methods_training import task_of
from chain.rpc.params import Index32
from chain.rpc.registry import Registry
from runtime.modules.training import Training
from runtime.modules.training_types import RoundRecord

registry = Registry()

# What workers did lately: in the last hour of one-second blocks, and in no more rounds than can be read in 20 ms.
RECENT_BLOCKS = 3600
RECENT_ROUNDS_MAX = 256


@registry.thread("training_reward")
def training_reward(context: Context, task: Index32, round: Index32) -> dict[str, Any]:
    """What a final round paid, recomputed, with each step; `paid` is what its block's events say, null once pruned.

    `agrees` says whether the chain's record, and the events where they are kept, are what was recomputed.
    """
    with context.state(None) as state:
        chain = context.runtime.at(state)
        task_of(chain.module(Training), task)
        found = final_round(task, round, chain)
    if found is None:
        reason = f"round {round} of task {task} is not final, or there is none"
        raise RpcError(Code.TRAINING_NOT_FOUND, "Unknown round", reason)
    paid = _paid(context, found)
    pay, record, due = found.pay(), found.record, found.payments()
    workers = dict(zip((index for index, _ in found.workers), pay.workers, strict=True))
    return {
        "task": task,
        "round": round,
        "owner": ss58.encode(found.task.owner),
        "finalisedAt": record.finalised_at,
        "pricePerSlot": found.task.price_per_slot,
        "emission": record.emission,
        "emissionMax": found.emission_max,
        "paidSlots": len(found.workers),
        "worth": pay.total,
        "auditorsPpm": found.rules.auditors_ppm,
        "auditors": len(record.attesters),
        "auditor": pay.auditor,
        "aggregatorPpm": found.rules.aggregator_ppm,
        "aggregator": pay.aggregator,
        "slots": [
            {
                "slot": index,
                "worker": ss58.encode(slot.worker),
                "outcome": outcome(slot),
                "reward": workers.get(index, 0),
            }
            for index, slot in enumerate(record.slots)
        ],
        "payments": _payments(due),
        "minted": record.minted,
        "paid": None if paid is None else _payments(paid),
        "agrees": pay.total == record.minted and paid in (None, due),
    }


def _paid(context: Context, found: FinalRound) -> Payments | None:
    """What the events of a round's last block say, None where that state is kept no more."""
    block_hash = context.backend.ledger.hash_at(found.record.finalised_at)
    try:
        with context.backend.ledger.state(block_hash) as state:
            return paid_in_events(found.task_id, found.number, context.runtime.at(state))
    except StatePruned:
        return None


def _payments(payments: Payments) -> list[dict[str, Any]]:
    return [
        {"role": role, "account": ss58.encode(account), "amount": amount}
        for (role, account), amount in payments.items()
    ]


@registry.thread("training_recentWork")
def training_recent_work(context: Context) -> dict[str, Any]:
    """What each worker did in the last final rounds of the active tasks: how fast it is, and how often it fails.

    `accepted` counts its slots that counted, `planted` those that were wrong on purpose, `failed` all others.
    """
    with context.state(None) as state:
        training = context.runtime.at(state).module(Training)
        height = state.header.height
        tasks = [(task_id, training.tasks[task_id]) for task_id in training.active_tasks.get()]
        first, rounds = height, 0
        work: dict[bytes, Counter[str]] = {}
        for task_id, task in tasks:
            each = RECENT_ROUNDS_MAX // len(tasks)
            for number in range(max(0, task.round - each), task.round):
                record: RoundRecord = training.history[task_id, number]
                if record.finalised_at <= height - RECENT_BLOCKS:
                    continue
                first, rounds = min(first, record.finalised_at), rounds + 1
                for slot in record.slots:
                    kind = "planted" if slot.planted else "accepted" if slot.accepted else "failed"
                    work.setdefault(slot.worker, Counter())[kind] += 1
    return {
        "from": first,
        "to": height,
        "rounds": rounds,
        "workers": [
            {"account": ss58.encode(account), **{kind: done[kind] for kind in ("accepted", "planted", "failed")}}
            for account, done in sorted(work.items())
        ],
    }
