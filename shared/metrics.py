"""What the metrics of every service have in common: how one is named and explained, and how a scrape is written.

What Redis knows is looked up there when Prometheus asks (`exposition`), so all processes of a service tell the same and a
restart loses nothing. What only a process itself knows, as how a venue answered it, is counted there (`Tally`). Knows no
store and no HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

# The one format that every scraper reads. The library would also choose by the Accept header, and fails at odd ones.
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

Family = TypeVar("Family", Counter, Gauge, Histogram)


class Sample(NamedTuple):
    """One value of a metric, with a value for each of its labels."""

    metric: Metric
    labels: tuple[str, ...]
    value: float


@dataclass(frozen=True)
class Metric:
    """A name by Prometheus' rules (the prefix `kronos_`, base units, `_total` for what only grows), its meaning, its labels.

    What ends in `_ratio` is a share, 1 for all. What has `buckets`, the upper bounds of its counts, is a histogram.
    """

    name: str
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def kind(self) -> str:
        if self.buckets:
            return "histogram"
        return "counter" if self.name.endswith("_total") else "gauge"

    def of(self, value: float, *labels: object) -> Sample:
        return Sample(self, tuple(str(label) for label in labels), float(value))

    def one_of(self, states: Sequence[str], state: str, *labels: object) -> list[Sample]:
        """A sample for each state, 1 for the one that holds, by a last label that names it."""
        return [self.of(state == one, *labels, one) for one in states]


class LookedUp(Collector):
    """Looks when it is collected; a metric comes with all its samples side by side, as the format wants it."""

    def __init__(self, look: Callable[[], Iterable[Sample]]) -> None:
        self._look = look

    def collect(self) -> Iterable[GaugeMetricFamily | CounterMetricFamily]:
        families: dict[Metric, GaugeMetricFamily | CounterMetricFamily] = {}
        for metric, labels, value in self._look():
            if metric not in families:
                family = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
                families[metric] = family(metric.name, metric.meaning, labels=metric.labels)
            families[metric].add_metric(labels, value)
        return families.values()


def exposition(look: Callable[[], Iterable[Sample]]) -> bytes:
    """A scrape, of type CONTENT_TYPE; label values are escaped by the library."""
    return generate_latest(LookedUp(look))


class Tally:
    """What a process counts of its own doings; all threads may. It begins at nothing with each process, which Prometheus
    expects of counters. What the system says of the process, such as its memory, is told beside it.
    """

    def __init__(self, metrics: Sequence[Metric]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # else each has a second sample
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._counters = {one: Counter(**_described(one, self._registry)) for one in metrics if one.kind == "counter"}
        self._gauges = {one: Gauge(**_described(one, self._registry)) for one in metrics if one.kind == "gauge"}
        self._histograms = {
            one: Histogram(**_described(one, self._registry), buckets=one.buckets)
            for one in metrics
            if one.kind == "histogram"
        }

    def count(self, metric: Metric, *labels: object, by: int = 1) -> None:
        """So many more of a counter."""
        _labelled(self._counters[metric], labels).inc(by)

    def set(self, metric: Metric, value: float, *labels: object) -> None:
        """A gauge is this now."""
        _labelled(self._gauges[metric], labels).set(value)

    def observe(self, metric: Metric, value: float, *labels: object) -> None:
        """One more in a histogram."""
        _labelled(self._histograms[metric], labels).observe(value)

    def exposition(self) -> bytes:
        """A scrape, of type CONTENT_TYPE."""
        return generate_latest(self._registry)


def _described(metric: Metric, registry: CollectorRegistry) -> dict[str, Any]:
    return {"name": metric.name, "documentation": metric.meaning, "labelnames": metric.labels, "registry": registry}


def _labelled(family: Family, labels: tuple[object, ...]) -> Family:
    """The library wants a metric without labels to be left as it is."""
    return family.labels(*labels) if labels else family
