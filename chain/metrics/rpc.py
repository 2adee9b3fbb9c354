"""Metrics of the RPC: calls by method, and what clients hold open."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import Metric as Family

from chain.metrics.metric import Kind, Metric
from chain.rpc.server import RpcServer

STARTED: Final = Metric(
    "substrate_rpc_calls_started", Kind.UNTYPED, "Calls that were received, each of a batch.", ("protocol", "method")
)
FINISHED: Final = Metric(
    "substrate_rpc_calls_finished", Kind.UNTYPED, "Calls that were answered.", ("protocol", "method", "is_error")
)
TIME: Final = Metric(
    "substrate_rpc_calls_time",
    Kind.HISTOGRAM,
    "How long answering took, in microseconds, with what a call waited for its turn.",
    ("protocol", "method"),
)
CONNECTIONS: Final = Metric("potchain_rpc_connections", Kind.GAUGE, "Clients that are connected.", ("protocol",))
SUBSCRIPTIONS: Final = Metric("potchain_rpc_subscriptions", Kind.GAUGE, "Subscriptions that are open.")
REFUSED: Final = Metric(
    "potchain_rpc_connections_refused_total", Kind.COUNTER, "Clients that were turned away since all places were taken."
)
SLOW: Final = Metric(
    "potchain_rpc_clients_dropped_total", Kind.COUNTER, "Clients that did not take what they had asked for."
)
WAITING: Final = Metric("potchain_rpc_waiting_bytes", Kind.GAUGE, "What waits in memory for clients to read it.")


def collected(server: RpcServer) -> Iterator[Family]:
    """May be called in a thread: what is counted meanwhile is counted in the next scrape."""
    calls = server.calls
    yield STARTED.each(dict(calls.started))
    yield FINISHED.each(dict(calls.finished))
    yield TIME.spread(dict(calls.time_us))
    websockets = server.websockets
    yield CONNECTIONS.each({("ws",): websockets, ("http",): max(0, server.connections - websockets)})
    yield SUBSCRIPTIONS.of(server.subscriptions)
    yield REFUSED.of(server.refused)
    yield SLOW.of(server.slow_clients)
    yield WAITING.of(server.waiting_bytes)
