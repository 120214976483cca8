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

    __slots__ = ("_bounds", "_bounds_ms", "_counts", "_name", "_sum", "_text")

    def __init__(self, name: str, text: str, registry: CollectorRegistry, bounds: Sequence[float]) -> None:
        self._name = name
        self._text = text
        self._bounds = [*bounds, float("inf")]
        # Rounded, for 2.3 times 1000 is a little less than 2300.
        self._bounds_ms = [round(bound * 1000, 6) for bound in self._bounds]
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
        registry.register(self)

    def observe(self, value: float) -> None:
        """Count one value; a negative one, of two clocks, as 0."""
        value = max(value, 0.0)
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def observe_since(self, times_ms: Sequence[int], now_ms: int) -> None:
        """Count the seconds since each of these times, which ascend; costs by buckets, not by times."""
        left = len(times_ms)
        if left and times_ms[-1] > now_ms:
            for began in times_ms:
                self.observe((now_ms - began) / 1000)
            return
        self._sum += (now_ms * left - sum(times_ms)) / 1000
        bucket = bisect_left(self._bounds_ms, now_ms - times_ms[-1]) if left else 0
        while left:
            longer = bisect_left(times_ms, now_ms - self._bounds_ms[bucket], 0, left)
            self._counts[bucket] += left - longer
            left, bucket = longer, bucket + 1

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """What the registry asks for."""
        counts = list(self._counts)
        buckets = zip(map(floatToGoString, self._bounds), accumulate(counts), strict=True)
        yield HistogramMetricFamily(self._name, self._text, list(buckets), self._sum)
