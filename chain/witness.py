"""Reports validators that voted twice: evidence that consensus finds becomes an extrinsic of this node's own pool.

Consensus is never kept waiting for it. Every honest node reports what it sees; the pools keep one report of each.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from chain.log import Log
from chain.pool import PoolError
from chain.primitives.hashing import Hash
from chain.primitives.types import encode_extrinsic
from consensus.tally import Equivocation
from runtime.composition import Runtime
from runtime.types import InvalidTransaction

# One report each of a whole set's validators; whoever votes twice goes on doing so, and is found again.
WAITING_MAX = 128

log = Log("consensus")


class Witness:
    """`note` what consensus finds, from the event loop; `run` once, to submit it."""

    def __init__(self, runtime: Runtime[Any], submit: Callable[[bytes], Awaitable[Hash]]) -> None:
        """`submit` pools and gossips an extrinsic; InvalidTransaction or PoolError if it is not wanted."""
        self._runtime = runtime
        self._submit = submit
        self._send, self._receive = trio.open_memory_channel[Equivocation](WAITING_MAX)

    def note(self, found: Equivocation) -> None:
        """Report it soon. Never blocks."""
        vote = found.first
        log.warning(
            f"validator {vote.voter} of set {found.set_id} voted twice at height {vote.height}, view {vote.view}, "
            f"in {vote.phase.name}",
            validator=vote.voter,
            set=found.set_id,
            height=vote.height,
            view=vote.view,
            phase=vote.phase.name.lower(),
        )
        try:
            self._send.send_nowait(found)
        except trio.WouldBlock:
            log.warning(f"{WAITING_MAX} reports wait to be made; this one is dropped")

    async def run(self) -> None:
        """Submit reports until cancelled."""
        async for found in self._receive:
            voter = found.first.voter
            call = self._runtime.call("validators.report_double_vote", evidence=found.evidence())
            try:
                submitted = await self._submit(encode_extrinsic(self._runtime.encode_call(call)))
            except (InvalidTransaction, PoolError) as error:
                # The usual case: another node was faster, or the validator was found out in this session before.
                log.info(f"the report of validator {voter} was not needed: {error}", validator=voter)
            else:
                log.warning(
                    f"validator {voter} is reported in 0x{submitted.hex()}", validator=voter, transaction=submitted
                )
