"""Metrics of consensus: where it stands, how long it takes for what, and who does not vote."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import trio
from prometheus_client.core import Metric as Family

from chain.metrics.metric import Kind, Metric
from chain.seen import Seen
from consensus.gadget import Gadget

VIEW: Final = Metric(
    "potchain_consensus_view", Kind.GAUGE, "The view of the height that is being decided; above 0, a proposer failed."
)
VIEWS_CHANGED: Final = Metric(
    "potchain_consensus_views_changed_total", Kind.COUNTER, "Views that followed a height's first one."
)
PHASE: Final = Metric(
    "potchain_consensus_phase_seconds",
    Kind.HISTOGRAM,
    "How long consensus waited for a proposal, prepares, commits, a view change, or for the block itself.",
    ("phase",),
)
VOTES: Final = Metric("potchain_consensus_is_voting", Kind.GAUGE, "1 while this validator votes.")
EQUIVOCATIONS: Final = Metric(
    "potchain_consensus_equivocations_total", Kind.COUNTER, "Double votes of validators that this node has seen."
)
FAULTS: Final = Metric(
    "potchain_consensus_faults_total", Kind.COUNTER, "Messages of consensus that no correct validator sends."
)
DROPPED: Final = Metric(
    "potchain_consensus_messages_dropped_total", Kind.COUNTER, "Messages of consensus for which there was no room."
)
VALIDATORS: Final = Metric("potchain_validators", Kind.GAUGE, "How many validators seal the newest block.")
SEAL_VOTERS: Final = Metric(
    "potchain_seal_voters", Kind.GAUGE, "How many validators' votes the last seal that a block carries has."
)
SEAL_BYTES: Final = Metric("potchain_seal_bytes", Kind.GAUGE, "How long that seal is.")
MISSED: Final = Metric(
    "potchain_validator_votes_missed_total",
    Kind.COUNTER,
    "Blocks whose seal lacks a validator's vote, by account, and by name where the genesis file has one.",
    ("validator", "name"),
)
BLOCKS: Final = Metric("potchain_blocks_imported_total", Kind.COUNTER, "Blocks that became final on this node.")
BLOCK_AGE: Final = Metric(
    "potchain_last_block_age_seconds", Kind.GAUGE, "How long ago the newest block became final on this node."
)
STALLED: Final = Metric("potchain_finality_stalled", Kind.GAUGE, "1 while no block comes for eight block times.")
STALLS: Final = Metric("potchain_finality_stalls_total", Kind.COUNTER, "How often no block came for eight block times.")
WAITED_FOR: Final = Metric(
    "potchain_finality_waits_for",
    Kind.GAUGE,
    "1 for each validator that a stalled height waits for, as far as this validator has heard.",
    ("validator", "name", "phase"),
)
SKEW: Final = Metric(
    "potchain_block_clock_skew_seconds",
    Kind.GAUGE,
    "How far the newest block's time is ahead of this clock when it comes; a right clock sees a little below 0.",
)


def collected(gadget: Gadget | None, seen: Seen, named: Callable[[bytes], tuple[str, str]]) -> Iterator[Family]:
    """`named` gives an account's address and name. To be called on the loop."""
    yield BLOCKS.of(seen.blocks)
    yield BLOCK_AGE.of(trio.current_time() - seen.head_at)
    yield STALLED.of(seen.stalled)
    yield STALLS.of(seen.stalls)
    yield VALIDATORS.of(seen.validators)
    yield SEAL_VOTERS.of(seen.seal_voters)
    yield SEAL_BYTES.of(seen.seal_bytes)
    yield MISSED.each({named(account): count for account, count in seen.missed.items()})
    yield SKEW.of(seen.skew)
    if gadget is None:
        return
    state = gadget.state
    yield VIEW.of(state.view)
    yield VOTES.of(gadget.votes)
    waits = {(*named(account), state.phase): 1.0 for account in state.missing} if seen.stalled else {}
    yield WAITED_FOR.each(waits)
    counts = gadget.counts
    yield VIEWS_CHANGED.of(counts.views_changed)
    yield PHASE.spread({(phase,): spread for phase, spread in counts.phases.items()})
    yield EQUIVOCATIONS.of(counts.equivocations)
    yield FAULTS.of(counts.faults)
    yield DROPPED.of(gadget.dropped)
