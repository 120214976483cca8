"""The histogram says what the library's would."""

from __future__ import annotations

import random

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as LibraryHistogram

from pushserver.core.histogram import Histogram

NOW_MS = 1_700_000_000_000
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


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("count", [0, 1, 2, 3, 128])
def test_times_at_once_count_as_one_by_one(seed: int, count: int) -> None:
    """In milliseconds, so that many are exactly a bound; some are later than now."""
    together, single = CollectorRegistry(), CollectorRegistry()
    chance, bounds = random.Random(seed), (0.001, 0.005, 0.3, 0.5, 1, 2.3, 10)
    at_a_bound = [int(bound * 1000 + 0.5) for bound in bounds]
    ages = [chance.choice([*at_a_bound, 0, chance.randrange(-3, 12_000)]) for _ in range(count)]
    Histogram("wait_seconds", "How long", together, bounds).observe_since(
        sorted(NOW_MS - age for age in ages), NOW_MS
    )
    one = Histogram("wait_seconds", "How long", single, bounds)
    for age in ages:
        one.observe(age / 1000)
    assert lines(together)[:-1] == lines(single)[:-1]
    assert together.get_sample_value("wait_seconds_sum") == pytest.approx(
        sum(max(0, age) for age in ages) / 1000
    )
