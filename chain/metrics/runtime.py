"""Metrics of building, executing and keeping blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import Metric as Family

from chain.author import Author
from chain.importer import Importer
from chain.metrics.metric import Kind, Metric
from chain.seen import Seen
from runtime.limits import BLOCK_WEIGHT_MAX

BUILT: Final = Metric(
    "substrate_proposer_block_constructed", Kind.HISTOGRAM, "How long this validator took to build a block, in seconds."
)
BUILT_TRANSACTIONS: Final = Metric(
    "substrate_proposer_number_of_transactions", Kind.GAUGE, "How many transactions the last block that it built has."
)
IMPORTED: Final = Metric(
    "substrate_block_verification_and_import_time",
    Kind.HISTOGRAM,
    "How long a sealed block took from its turn until the disk had it, in seconds.",
)
EXECUTED: Final = Metric("potchain_block_execution_seconds", Kind.HISTOGRAM, "How long executing a block took.")
COMMITTED: Final = Metric(
    "potchain_database_commit_seconds", Kind.HISTOGRAM, "How long the disk took for a block and its state."
)
WEIGHT: Final = Metric("potchain_block_weight_used", Kind.GAUGE, "What the newest block weighs, in picoseconds.")
WEIGHT_LIMIT: Final = Metric("potchain_block_weight_max", Kind.GAUGE, "What a block may weigh, in picoseconds.")
TRANSACTIONS: Final = Metric("potchain_transactions_included_total", Kind.COUNTER, "Transactions of final blocks.")


def collected(importer: Importer, author: Author | None, seen: Seen) -> Iterator[Family]:
    """Numbers of the importer, and of the author where the node proposes."""
    yield IMPORTED.spread({(): importer.times.imported})
    yield EXECUTED.spread({(): importer.times.executed})
    yield COMMITTED.spread({(): importer.times.committed})
    yield WEIGHT.of(seen.weight)
    yield WEIGHT_LIMIT.of(BLOCK_WEIGHT_MAX)
    yield TRANSACTIONS.of(seen.transactions)
    if author is not None:
        yield BUILT.spread({(): author.built})
        yield BUILT_TRANSACTIONS.of(author.built_transactions)
