"""A scrape of a node: the numbers that its parts keep, in Prometheus's text.

Rule: the event loop only reads numbers; the disk, the chain's state and the text are a thread's work, one scrape at a
time, so that no scrape delays a vote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric as Family

from chain.author import Author
from chain.blobs import BlobStore
from chain.importer import Importer
from chain.intake import Intake
from chain.ledger import Ledger
from chain.metrics import chain, consensus, network, process, rpc, runtime, storage, training
from chain.metrics import pool as pool_metrics
from chain.metrics.metric import Metric, exposition
from chain.metrics.process import LoopLag
from chain.net.network import Network
from chain.pool import Pool
from chain.rpc.server import RpcServer
from chain.seen import Seen
from chain.sync.progress import SyncStatus
from consensus.gadget import Gadget

# Where metrics are declared, in the order of the documentation.
DECLARED = (chain, consensus, runtime, pool_metrics, network, rpc, training, storage, process)


def catalogue() -> list[Metric]:
    """Every metric that a node has, besides those of its process that the library knows."""
    return [each for part in DECLARED for each in vars(part).values() if isinstance(each, Metric)]


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a node that count something. The functions are called on the loop."""

    ledger: Ledger
    pool: Pool
    intake: Intake
    importer: Importer
    gadget: Gadget | None
    author: Author | None
    seen: Seen
    named: Callable[[bytes], tuple[str, str]]
    rpc: RpcServer
    blobs: BlobStore
    network: Network
    sync_status: Callable[[], SyncStatus]
    folder: Path
    has_keys: bool
    lag: LoopLag = field(default_factory=LoopLag)


class NodeMetrics:
    """`scrape` gives the text; `run` measures the loop meanwhile."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._process = ProcessCollector(registry=CollectorRegistry())
        self._thread = trio.CapacityLimiter(1)

    async def run(self) -> None:
        """Measure until cancelled."""
        await self._parts.lag.run()

    async def scrape(self) -> bytes:
        """All metrics, as Prometheus reads them."""
        read = list(self._on_loop())
        return await trio.to_thread.run_sync(partial(self._text, read), limiter=self._thread)

    def _on_loop(self) -> Iterator[Family]:
        parts = self._parts
        yield from chain.collected(parts.ledger.head.height, parts.sync_status(), has_keys=parts.has_keys)
        yield from consensus.collected(parts.gadget, parts.seen, parts.named)
        yield from runtime.collected(parts.importer, parts.author, parts.seen)
        yield from pool_metrics.collected(parts.pool, parts.intake)
        yield from network.collected(parts.network)
        yield from process.collected(parts.lag)

    def _text(self, read: list[Family]) -> bytes:
        parts = self._parts
        read.extend(rpc.collected(parts.rpc))
        read.extend(training.collected(parts.ledger, parts.seen))
        families = [*read, *storage.collected(parts.ledger, parts.blobs, parts.folder)]
        return exposition(families, self._process)
