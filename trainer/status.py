"""The line that a worker, auditor or aggregator has for each round that paid or cost it something.

Rule: what was earned, bonded and judged is the chain's word; how fast it went is this process's own.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from chain.display import Progress, Token
from trainer.devices import named
from trainer.follow import Heights, Report
from trainer.metrics import COMPUTE, ENCODE, EVALUATE, FETCH, SUM, UPLOAD, Meter
from trainer.node import Node, NodeError, Standing

# A round takes four blocks at least; a look takes the node five requests.
LOOK_EVERY_BLOCKS = 3

# In the order of the work, so that what is furthest is said first.
WAITS = {
    "attest": "its attestation to be final",
    "aggregate": "its aggregate to be final",
    "challenge": "its challenge to be final",
    "reveal": "its reveals to be final",
    UPLOAD: "the node to take its blobs",
    "commit": "its commitments to be final",
    ENCODE: "its own encoding",
    SUM: "its own sum",
    EVALUATE: "its own evaluation",
    COMPUTE: "its own computing",
    FETCH: "blobs",
}
IDLE = {"worker": "slots to be drawn for", "auditor": "a round to audit", "aggregator": "updates to sum"}


async def tell(node: Node, heights: Heights, meter: Meter, devices: Sequence[str], report: Report) -> None:
    """Keep the meter's books, and say so when they have changed; until cancelled."""
    token: Token | None = None
    samples, since = meter.samples, trio.current_time()
    height = heights.newest - 1
    while True:
        height = await heights.above(height + LOOK_EVERY_BLOCKS - 1 if meter.standing else height)
        try:
            token = token or await node.token()
            before, now = meter.standing, await node.standing()
        except NodeError:
            continue  # Whoever follows the chain says what is wrong with the node.
        meter.stands(now, height)
        if before is None or now == before:
            continue
        seconds = trio.current_time() - since
        rate = (meter.samples - samples) / seconds if seconds > 0 else 0.0
        report(line(before, now, token, rate, devices, waits_for(meter)))
        samples, since = meter.samples, trio.current_time()


async def show(meter: Meter, progress: Progress) -> None:
    """Where somebody watches, what is waited for and since when, each second; until cancelled."""
    what, since = "", 0.0
    while True:
        await trio.sleep(1)
        if what != waits_for(meter):
            what, since = waits_for(meter), trio.current_time()
        progress.show(f"waits for {what}, {trio.current_time() - since:.0f} s; {meter.samples:,} samples computed")


def line(before: Standing, now: Standing, token: Token, rate: float, devices: Sequence[str], waits: str) -> str:
    """`earned 12 POT (+1 POT), bonded 400 POT; 8 slots accepted, 0 rejected; 512 samples/s on 2 × cpu; waits for …`"""
    parts = [f"earned {token.format(now.earned)}{_change(now.earned - before.earned, token)}"]
    if now.bond or before.bond:  # A validator's stake is no bond of training's.
        parts[0] += f", bonded {token.format(now.bond)}{_change(now.bond - before.bond, token)}"
    if now.accepted or now.rejected:
        plural = "" if now.accepted == 1 else "s"
        parts.append(f"{now.accepted:,} slot{plural} accepted, {now.rejected:,} rejected")
    if devices:
        parts.append(f"{rate:,.0f} samples/s on {named(devices)}")
    return "; ".join([*parts, f"waits for {waits}"])


def waits_for(meter: Meter) -> str:
    """What is under way, or what would have to happen."""
    return next((what for stage, what in WAITS.items() if meter.running[stage] > 0), IDLE[meter.role])


def _change(planck: int, token: Token) -> str:
    if planck == 0:
        return ""
    return f" ({'+' if planck > 0 else '-'}{token.format(abs(planck))})"
