"""A histogram for Prometheus that costs next to nothing to observe: the library's takes two locks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

__all__ = ["Histogram"]


class Histogram(Collector):
    """Counts values by the upper bounds of their buckets, in ascending order; `+Inf` is added.

    Observed by one thread only, the loop's; it may be collected from another.
    """

    __slots__ = ("_bounds", "_counts", "_name", "_sum", "_text")

    def __init__(self, name: str, text: str, registry: CollectorRegistry, bounds: Sequence[float]) -> None:
        self._name = name
        self._text = text
        self._bounds = [*bounds, float("inf")]
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
        registry.register(self)

    def observe(self, value: float) -> None:
        """Count one value; a negative one, of two clocks, as 0."""
        value = max(value, 0.0)
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def observe_all(self, values: Sequence[float]) -> None:
        """Count some values; cheaper than one by one where they are much alike. None of them is no value."""
        bounds = self._bounds
        if values and (lowest := min(values)) >= 0.0:
            bucket = bisect_left(bounds, lowest)
            if max(values) <= bounds[bucket]:
                self._counts[bucket] += len(values)
                self._sum += sum(values)
                return
        for value in values:
            self.observe(value)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """What the registry asks for."""
        counts = list(self._counts)
        buckets = zip(map(floatToGoString, self._bounds), accumulate(counts), strict=True)
        yield HistogramMetricFamily(self._name, self._text, list(buckets), self._sum)
