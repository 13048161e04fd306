"""Metric families of `tracking.exporter`: how one is made, and two kinds that the client lacks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar

from runtimes.request_counts import Bucketed

PREFIX = "servetune_"


def of_trial(number: int) -> dict[str, str]:
    """Labels of an exemplar: the trial that a count comes from."""
    return {"trial": str(number)}


class Registry(CollectorRegistry):
    """A registry without `_created` series: nobody reads them and they double the counters."""

    def collect(self) -> Iterator[Metric]:
        for metric in super().collect():
            metric.samples = [item for item in metric.samples if not item.name.endswith("_created")]
            yield metric


class Families:
    """Makes metric families in one registry, each with its known series at zero."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(PREFIX + name, meaning, labels, registry=self._registry)

    def known_gauge(self, name: str, meaning: str) -> KnownGauge:
        return KnownGauge(PREFIX + name, meaning, self._registry)

    def counter(self, name: str, meaning: str, label: str, values: Iterable[str]) -> Counter:
        counter = Counter(PREFIX + name, meaning, [label], registry=self._registry)
        for value in values:
            counter.labels(value)
        return counter

    def plain_counter(self, name: str, meaning: str) -> Counter:
        """A counter without labels."""
        return Counter(PREFIX + name, meaning, registry=self._registry)

    def histogram(
        self, name: str, meaning: str, label: str, bounds: Iterable[float], values: Iterable[str]
    ) -> Histogram:
        histogram = Histogram(
            PREFIX + name, meaning, [label], buckets=sorted(bounds), registry=self._registry
        )
        for value in values:
            histogram.labels(value)
        return histogram

    def plain_histogram(self, name: str, meaning: str, bounds: Iterable[float]) -> Histogram:
        """A histogram without labels."""
        return Histogram(PREFIX + name, meaning, buckets=sorted(bounds), registry=self._registry)

    def counted_histogram(
        self, name: str, meaning: str, label: str, bounds: Sequence[float], values: Iterable[str]
    ) -> CountedHistogram:
        return CountedHistogram(PREFIX + name, meaning, label, bounds, values, self._registry)

    def info(self, name: str, meaning: str, labels: Mapping[str, str]) -> None:
        self.gauge(f"{name}_info", meaning, *labels).labels(*labels.values()).set(1)


class KnownGauge:
    """A gauge without labels that has no series until it is set."""

    def __init__(self, name: str, meaning: str, registry: CollectorRegistry) -> None:
        self._name = name
        self._meaning = meaning
        self._value: float | None = None
        registry.register(self)

    def set(self, value: float | None) -> None:
        """None takes the series away."""
        self._value = value

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(self._name, self._meaning, self._value)


@dataclass(slots=True)
class _Series:
    counts: list[int]
    total: float = 0.0
    exemplars: list[Exemplar | None] = field(default_factory=list)


class CountedHistogram:
    """A histogram by one label that takes counts made elsewhere, with an exemplar a bucket.

    Safe to use from several threads.
    """

    def __init__(
        self,
        name: str,
        meaning: str,
        label: str,
        bounds: Sequence[float],
        values: Iterable[str],
        registry: CollectorRegistry,
    ) -> None:
        self._name = name
        self._meaning = meaning
        self._label = label
        self._bounds = tuple(bounds)
        self._words = [*map(str, map(float, bounds)), "+Inf"]
        self._series = {value: self._empty() for value in values}
        self._lock = threading.Lock()
        registry.register(self)

    def add(self, value: str, counted: Bucketed, exemplar: Mapping[str, str]) -> None:
        """Add to the series of the label's `value`; the exemplars are each bucket's largest.

        Raises:
            ValueError: the counts are of other buckets.
        """
        if counted.bounds != self._bounds:
            raise ValueError(f"{self._name}: counts of buckets {counted.bounds}")
        now_unix_s = time.time()
        with self._lock:
            series = self._series.setdefault(value, self._empty())
            series.total += counted.total
            for bucket, (count, largest) in enumerate(
                zip(counted.counts, counted.largest, strict=True)
            ):
                series.counts[bucket] += count
                if largest is not None:
                    series.exemplars[bucket] = Exemplar(dict(exemplar), largest, now_unix_s)

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._meaning, labels=[self._label])
        with self._lock:
            for value, series in self._series.items():
                family.add_metric([value], self._buckets(series), series.total)
        yield family

    def _buckets(self, series: _Series) -> list[tuple[str, float, Exemplar]]:
        below = 0
        buckets = []
        for word, count, exemplar in zip(self._words, series.counts, series.exemplars, strict=True):
            below += count
            # An exemplar may be none, whatever the client's annotation says.
            buckets.append((word, float(below), exemplar))
        return buckets  # type: ignore[return-value]  # as said above

    def _empty(self) -> _Series:
        buckets = len(self._words)
        return _Series([0] * buckets, exemplars=[None] * buckets)
