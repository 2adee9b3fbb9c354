"""`potchain reward`: why a round of training paid what it paid, recomputed from what the chain holds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any

import trio
import typer

from chain.cli_common import DEFAULT_RPC, EXIT_FAILED, NodeOption, TaskId, UserError
from chain.cli_connect import connected
from chain.cli_wallet import JsonOption, print_json
from chain.display import Token, put, token_of
from chain.primitives import ss58
from chain.reward import FinalRound, Payments, final_round, outcome, paid_in_events
from chain.rpc.client import Client
from chain.rpc.errors import Code, RpcError
from runtime.modules.rewards import PPM

app = typer.Typer(help="Explain what training paid.", no_args_is_help=True)


@app.command()
def explain(
    task: TaskId,
    round: Annotated[int, typer.Argument(metavar="ROUND", help="A final round of it.", min=0, max=2**32 - 1)],
    json: JsonOption = False,
    rpc: NodeOption = DEFAULT_RPC,
) -> None:
    """Recompute what a final round paid, to whom and why, and compare it with what the chain did."""
    trio.run(partial(_explain, rpc, task, round, as_json=json))


async def _explain(rpc: str, task_id: int, number: int, *, as_json: bool) -> None:
    async with connected(rpc) as client:
        token, prefix = await token_of(client)
        await client.request("training_round", task_id, number)  # says what is wrong where there is no such round
        found = await client.read(partial(final_round, task_id, number))
        if found is None:
            raise UserError(f"round {number} of task {task_id} is not final yet: potchain task watch {task_id}")
        block_hash = await client.request("chain_getBlockHash", found.record.finalised_at)
        paid = await _paid_in(client, found, block_hash)
    is_right = found.pay().total == found.record.minted and paid in (None, found.payments())
    if as_json:
        by = "record" if paid is None else "events"
        print_json({**_told(found, block_hash, prefix), "comparedWith": by, "ok": is_right})
    else:
        for line in _lines(found, block_hash, token, prefix):
            put(line, len("aggregator "))
    if not is_right:
        print("error: the chain paid something else: is its runtime that of this program?", file=sys.stderr)
        raise typer.Exit(EXIT_FAILED)
    if as_json:
        return
    source = "the chain's record says" if paid is None else "the chain's record and the block's events say"
    print(f"paid       {token.format(found.record.minted)}, as {source}")
    if paid is None:
        print("           (the state with the events is pruned here: a node with --state-pruning archive has it)")


async def _paid_in(client: Client, found: FinalRound, block_hash: str) -> Payments | None:
    """What the events of the round's last block say, None where the node keeps that state no more."""
    try:
        return await client.read(partial(paid_in_events, found.task_id, found.number), at=block_hash)
    except RpcError as error:
        if error.code == Code.STATE_CLIENT:
            return None
        raise


def _told(found: FinalRound, block_hash: str, prefix: int) -> dict[str, Any]:
    """The same as `_lines`, for programs; amounts are planck."""
    record, pay = found.record, found.pay()
    address = partial(ss58.encode, prefix=prefix)
    return {
        "task": found.task_id,
        "name": found.task.name.decode(errors="replace"),
        "round": found.number,
        "block": {"height": record.finalised_at, "hash": block_hash},
        "slots": [{"worker": address(slot.worker), "outcome": outcome(slot)} for slot in record.slots],
        "owner": address(found.task.owner),
        "pricePerSlot": str(found.task.price_per_slot),
        "emissionPerSlot": str(record.emission),
        "worth": str(pay.total),
        "minted": str(record.minted),
        "payments": [
            {"role": role, "account": address(account), "amount": str(amount)}
            for (role, account), amount in found.payments().items()
        ],
    }


def _lines(found: FinalRound, block_hash: str, token: Token, prefix: int) -> Iterator[str]:
    record, rules, pay = found.record, found.rules, found.pay()
    count, checked, price = len(found.workers), len(record.attesters), found.task.price_per_slot
    name = found.task.name.decode(errors="replace")
    yield f"task {found.task_id} ({name}), round {found.number}, final in block {record.finalised_at} ({block_hash})"
    for index, slot in enumerate(record.slots):
        yield f"  slot {index:<3} {ss58.encode(slot.worker, prefix)}  {outcome(slot)}"
    cap = found.emission_max
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
