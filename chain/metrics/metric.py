"""What a metric is: declared once, with its meaning, and given its values when Prometheus asks.

Rule: the parts of a node keep plain numbers and know nothing of Prometheus; a declaration knows nothing of a node.
Label values are names of ours, numbers and addresses of a bounded set, never a stranger's text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from chain.primitives.spread import Spread

Labels = tuple[str, ...]
_NONE: Labels = ()
L = TypeVar("L", bound=Labels)


class Kind(StrEnum):
    """Prometheus's types. Substrate has counters whose names lack `_total`; the format has them untyped."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"
    UNTYPED = "untyped"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: its full name, as a query has it, and what its labels are called."""

    name: str
    kind: Kind
    about: str
    labels: Labels = ()

    def _family(self) -> Family:
        # The library adds `_total` to counters' names by itself, and to those of their samples not.
        return Family(self.name.removesuffix("_total"), self.about, self.kind)

    def of(self, value: float) -> Family:
        """The metric with one value."""
        return self.each({_NONE: value})

    def each(self, values: Mapping[L, float]) -> Family:
        """The metric with a value for each tuple of labels."""
        family = self._family()
        for labels, value in values.items():
            family.add_sample(self.name, dict(zip(self.labels, labels, strict=True)), value)
        return family

    def spread(self, values: Mapping[L, Spread]) -> Family:
        """A histogram with a spread for each tuple of labels."""
        family = self._family()
        for labels, spread in values.items():
            named = dict(zip(self.labels, labels, strict=True))
            buckets = spread.cumulative()
            for bound, count in buckets:
                family.add_sample(f"{self.name}_bucket", {**named, "le": "+Inf" if bound == inf else str(bound)}, count)
            family.add_sample(f"{self.name}_sum", named, spread.total)
            family.add_sample(f"{self.name}_count", named, buckets[-1][1])
        return family


class _Collected(Collector):
    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Family]:
        yield from self._families


def exposition(families: Iterable[Family], *collectors: Collector) -> bytes:
    """The text that Prometheus reads; some milliseconds of work, so call it in a thread."""
    registry = CollectorRegistry()
    for collector in (_Collected(families), *collectors):
        registry.register(collector)
    return generate_latest(registry)
