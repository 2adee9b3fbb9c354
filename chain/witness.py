"""Reports validators that voted twice: evidence that consensus finds becomes an extrinsic of this node's own pool.

Consensus is never kept waiting for it. Every honest node reports what it sees; the pools keep one report of each.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from chain.pool import PoolError
from chain.primitives.hashing import Hash
from chain.primitives.types import encode_extrinsic
from consensus.tally import Equivocation
from runtime.composition import Runtime
from runtime.types import InvalidTransaction

# One report each of a whole set's validators; whoever votes twice goes on doing so, and is found again.
WAITING_MAX = 128

log = logging.getLogger("potchain")


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
            "consensus: validator %d of set %d voted twice at height %d, view %d, in %s",
            vote.voter,
            found.set_id,
            vote.height,
            vote.view,
            vote.phase.name,
        )
        try:
            self._send.send_nowait(found)
        except trio.WouldBlock:
            log.warning("consensus: %d reports wait to be made; this one is dropped", WAITING_MAX)

    async def run(self) -> None:
        """Submit reports until cancelled."""
        async for found in self._receive:
            call = self._runtime.call("validators.report_double_vote", evidence=found.evidence())
            try:
                submitted = await self._submit(encode_extrinsic(self._runtime.encode_call(call)))
            except (InvalidTransaction, PoolError) as error:
                # The usual case: another node was faster, or the validator was found out in this session before.
                log.info("consensus: the report of validator %d was not needed: %s", found.first.voter, error)
            else:
                log.warning("consensus: validator %d is reported in 0x%s", found.first.voter, submitted.hex())
