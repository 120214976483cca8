"""The histogram says what the library's would."""

from __future__ import annotations

import random

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as LibraryHistogram

from pushserver.core.histogram import Histogram

BOUNDS = (0.001, 0.5, 1, 2.5, 10)


def lines(registry: CollectorRegistry) -> list[str]:
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


def test_it_is_scraped_as_the_librarys_is() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    one = Histogram("wait_seconds", "How long", ours, BOUNDS)
    other = LibraryHistogram("wait_seconds", "How long", registry=theirs, buckets=BOUNDS)
    chance = random.Random(7)
    for value in (0.0, *BOUNDS, *(chance.expovariate(1) for _ in range(500)), 1e9):
        one.observe(value)
        other.observe(value)
    assert lines(ours) == lines(theirs)
    assert ours.get_sample_value("wait_seconds_count") == 507


def test_what_two_clocks_make_negative_counts_as_nothing() -> None:
    registry = CollectorRegistry()
    one = Histogram("wait_seconds", "How long", registry, BOUNDS)
    one.observe(-5.0)
    assert registry.get_sample_value("wait_seconds_bucket", {"le": "0.001"}) == 1
    assert registry.get_sample_value("wait_seconds_sum") == 0.0


@pytest.mark.parametrize(
    "values",
    [[], [0.2], [0.2, 0.3, 0.5], [0.4, 0.6], [0.0, 1e9], [-1.0, 0.2], [20.0, 30.0], [0.5, 0.5000001]],
)
def test_some_at_once_count_as_one_by_one(values: list[float]) -> None:
    together, single = CollectorRegistry(), CollectorRegistry()
    Histogram("wait_seconds", "How long", together, BOUNDS).observe_all(values)
    one = Histogram("wait_seconds", "How long", single, BOUNDS)
    for value in values:
        one.observe(value)
    assert lines(together) == lines(single)
