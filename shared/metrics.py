"""What the metrics of every service have in common: how one is named and explained, and how a scrape is written.

Values are looked up when Prometheus asks, from where they are kept anyway: nothing is counted on the side, so all processes
of a service tell the same. Needs the library prometheus-client; knows no store and no HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

# The one format that every scraper reads. The library would also choose by the Accept header, and fails at odd ones.
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class Sample(NamedTuple):
    """One value of a metric, with a value for each of its labels."""

    metric: Metric
    labels: tuple[str, ...]
    value: float


@dataclass(frozen=True)
class Metric:
    """A name by Prometheus' rules (the prefix `kronos_`, base units, `_total` for what only grows), its meaning, its labels.

    What ends in `_ratio` is a share, 1 for all.
    """

    name: str
    meaning: str
    labels: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
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
