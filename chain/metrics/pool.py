"""Metrics of the transaction pool."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import Metric as Family

from chain.intake import Intake
from chain.metrics.metric import Kind, Metric
from chain.pool import Pool

READY: Final = Metric(
    "substrate_ready_transactions_number", Kind.GAUGE, "Transactions that the next block can have, as far as it goes."
)
FUTURE: Final = Metric(
    "potchain_pool_future_transactions", Kind.GAUGE, "Transactions that wait for one with a lower nonce."
)
BYTES: Final = Metric("potchain_pool_bytes", Kind.GAUGE, "What the transactions in the pool take.")
REFUSED: Final = Metric(
    "potchain_pool_refused_total",
    Kind.COUNTER,
    "Transactions that did not enter the pool, of clients and of peers, by why.",
    ("reason",),
)
COUNT_MAX: Final = Metric("potchain_pool_transactions_max", Kind.GAUGE, "How many transactions the pool holds at most.")
BYTES_MAX: Final = Metric("potchain_pool_bytes_max", Kind.GAUGE, "What the transactions in the pool may take at most.")


def collected(pool: Pool, intake: Intake) -> Iterator[Family]:
    """Some numbers that the pool keeps."""
    ready, future = pool.counts()
    yield READY.of(ready)
    yield FUTURE.of(future)
    yield BYTES.of(pool.bytes_used)
    yield REFUSED.each({(reason,): count for reason, count in intake.refused.items()})
    yield COUNT_MAX.of(pool.limits.count_max)
    yield BYTES_MAX.of(pool.limits.bytes_max)
