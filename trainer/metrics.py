"""What a worker, auditor or aggregator counts and measures of itself, for Prometheus and for its own lines.

Rule: metrics say what happened and decide nothing. Names end in their unit, as Prometheus has it; each process has a
registry of its own.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import trio
from prometheus_client import CollectorRegistry, Gauge, Histogram, Info, generate_latest
from prometheus_client import Counter as CounterMetric

from trainer.node import Standing

# From a commitment's half second to local steps of an hour.
SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_600.0)
# What is done for a slot, or for a round; further names are those of the calls that are sent.
FETCH, COMPUTE, EVALUATE, ENCODE, UPLOAD, SUM = "fetch", "compute", "evaluate", "encode", "upload", "sum"


class Meter:
    """The metrics of one process; the numbers that its own lines are made of are kept beside them."""

    def __init__(self, role: str = "worker", account: str = "") -> None:
        self.role = role
        self.registry = CollectorRegistry()
        of, prefix = self.registry, f"potchain_{role}_"

        def gauge(name: str, about: str, labels: Sequence[str] = ()) -> Gauge:
            return Gauge(prefix + name, about, labels, registry=of)

        def count(name: str, about: str, labels: Sequence[str] = ()) -> CounterMetric:
            return CounterMetric(prefix + name, about, labels, registry=of)

        Info(prefix + "process", "Whose metrics these are.", registry=of).info({"account": account})
        timed = "How long each part of the work took, with what it waited for."
        self._stages = Histogram(prefix + "stage_seconds", timed, ["stage"], buckets=SECONDS, registry=of)
        self._running = gauge("stages_running", "How often each part of the work is under way.", ["stage"])
        self._failed = count("stage_failures", "Parts of the work that ended in an error.", ["stage"])
        self._samples = count("samples", "Rows that gradients were computed of.")
        self._at_work = gauge("devices_at_work", "Devices that compute just now.")
        self._waiting = gauge("requests_waiting", "Requests that wait for a device.")
        self._starts = gauge("engine_starts", "Engine children that were started since this process was.")
        self._bond = gauge("bonded_planck", "What the account has bonded, as the chain says.")
        self._earned = gauge("earned_planck", "All that the account ever earned, as the chain says.")
        self._judged = gauge("slots_judged", "Slots of final rounds by outcome, as the chain says.", ["outcome"])
        self._slashed = count("slashed_planck", "What the bond shrank by while this process ran.")
        self._height = gauge("height", "The newest final height that this process looked at.")
        self.running: Counter[str] = Counter()
        self.samples = 0
        self.standing: Standing | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a part of the work."""
        started = time.monotonic()
        self.running[name] += 1
        self._running.labels(name).inc()
        try:
            yield
        except Exception:
            self._failed.labels(name).inc()
            raise
        finally:
            self.running[name] -= 1
            self._running.labels(name).dec()
            self._stages.labels(name).observe(time.monotonic() - started)

    def computed(self, rows: int) -> None:
        """Gradients of so many rows are there."""
        self.samples += rows
        self._samples.inc(rows)

    def computes_with(self, queues: Callable[[], tuple[int, int]], starts: Callable[[], int]) -> None:
        """What to ask when a scrape comes: devices at work and requests that wait, and children that were started."""
        self._at_work.set_function(lambda: queues()[0])
        self._waiting.set_function(lambda: queues()[1])
        self._starts.set_function(starts)

    def stands(self, standing: Standing, height: int) -> None:
        """What the chain says of the account."""
        if self.standing is not None and standing.bond < self.standing.bond:
            self._slashed.inc(self.standing.bond - standing.bond)
        self.standing = standing
        self._bond.set(standing.bond)
        self._earned.set(standing.earned)
        self._judged.labels("accepted").set(standing.accepted)
        self._judged.labels("rejected").set(standing.rejected)
        self._height.set(height)

    async def scrape(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return await trio.to_thread.run_sync(generate_latest, self.registry)
