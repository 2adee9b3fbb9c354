"""The auditor: recomputes drawn slots, challenges, aggregates, evaluates, attests.

Rule: everything it knows is on chain, in blobs, or in its cache folder; a kill -9 at any moment loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import trio

from chain.primitives.keys import Keypair

Report = Callable[[str], None]


async def run_auditor(
    urls: Sequence[str], keypair: Keypair, cache_dir: Path, *, report: Report, platform: str = "cpu"
) -> None:
    """Serve every task of the chain behind `urls` until cancelled; `report` gets one line at a time."""
    report("starting")
    await trio.sleep_forever()
