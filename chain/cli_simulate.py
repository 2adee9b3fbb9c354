"""`potchain simulate`: try to break consensus in simulated chains, and say what they held, or how to see it break."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from enum import StrEnum
from typing import Annotated

import typer

from chain.cli_common import EXIT_FAILED, UserError

# Longer runs say how far they are.
NEWS_SECONDS = 2.0
VALIDATORS_MAX = 100  # as in the chain


class Crypto(StrEnum):
    """How validators sign."""

    STUB = "stub"
    REAL = "real"


class Ledger(StrEnum):
    """What validators decide on."""

    MEMORY = "memory"
    REAL = "real"


def simulate(
    seed: Annotated[int, typer.Option(metavar="S", help="What everything is drawn from.", min=0)] = 0,
    seeds: Annotated[int, typer.Option(metavar="COUNT", help="How many simulations, from that seed on.", min=1)] = 1,
    validators: Annotated[int, typer.Option(metavar="N", help="How many validators.", min=1, max=VALIDATORS_MAX)] = 4,
    heights: Annotated[int, typer.Option(metavar="H", help="How many blocks each chain has at least.", min=1)] = 30,
    faults: Annotated[str, typer.Option(metavar="all|none|NAME,…", help="Which faults may happen.")] = "all",
    crypto: Annotated[
        Crypto, typer.Option(help="Signatures: a fast stub that binds as they do, or BLS.")
    ] = Crypto.STUB,
    ledger: Annotated[
        Ledger, typer.Option(help="One in memory that executes nothing, or whole nodes: database, pool, transfers.")
    ] = Ledger.MEMORY,
    jobs: Annotated[
        int | None,
        typer.Option(metavar="J", help="How many at once. [default: one a core]", min=1, show_default=False),
    ] = None,
) -> None:
    """Run chains of whole validators in this process, on virtual time, and try to break them.

    Exit code 0 when every check held; else 1, with the command that replays each failure.
    """
    from chain.simulation.faults import FAULTS
    from chain.simulation.plan import Plan
    from chain.simulation.sweep import Summary, sweep

    listed = tuple(name.strip() for name in faults.split(","))
    names = FAULTS if faults == "all" else () if faults == "none" else listed
    unknown = [name for name in names if name not in FAULTS]
    if unknown:
        raise UserError(f"--faults: {unknown[0]!r} is no fault; expected all, none, or some of {', '.join(FAULTS)}")
    first = Plan(seed, validators, heights, frozenset(names), crypto is Crypto.REAL, ledger is Ledger.REAL)
    summary = Summary()
    told_at = time.monotonic()
    for done in sweep([replace(first, seed=seed + i) for i in range(seeds)], jobs or os.cpu_count() or 1):
        summary.add(done)
        if done.failure is not None:
            print(done.failure)
        if time.monotonic() > told_at + NEWS_SECONDS:
            told_at = time.monotonic()
            print(f"{summary.simulations} of {seeds}", flush=True)
    for line in summary.lines():
        print(line)
    if summary.failures:
        raise typer.Exit(EXIT_FAILED)
