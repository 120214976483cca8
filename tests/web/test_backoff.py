"""Delays between tries."""

from __future__ import annotations

from random import Random

import pytest

from pushserver.web.backoff import Backoff


class Extreme(Random):
    """Draws the end of every range."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_the_range_doubles_with_each_try_up_to_its_bound() -> None:
    backoff = Backoff(0.5, 5, Extreme())
    assert [backoff.next_s() for _ in range(6)] == [1, 2, 4, 5, 5, 5]


def test_every_delay_is_drawn_from_the_whole_range() -> None:
    drawn = []
    for seed in range(400):
        backoff = Backoff(1, 16, Random(seed))
        drawn.append([backoff.next_s() for _ in range(5)])
    for position, ceiling in enumerate([2, 4, 8, 16, 16]):
        delays = [delays[position] for delays in drawn]
        assert 1 <= min(delays) < 1 + (ceiling - 1) * 0.05
        assert ceiling - (ceiling - 1) * 0.05 < max(delays) <= ceiling


def test_the_same_seed_draws_the_same_delays() -> None:
    one, two = Backoff(1, 60, Random(7)), Backoff(1, 60, Random(7))
    assert [one.next_s() for _ in range(9)] == [two.next_s() for _ in range(9)]


def test_a_success_begins_anew() -> None:
    backoff = Backoff(1, 60, Extreme())
    assert [backoff.next_s(), backoff.next_s()] == [2, 4]
    backoff.reset()
    assert backoff.next_s() == 2


def test_other_bounds_hold_from_then_on() -> None:
    backoff = Backoff(1, 60, Extreme())
    backoff.next_s()
    backoff.set_bounds(0.25, 0.75)
    assert [backoff.next_s(), backoff.next_s(), backoff.next_s()] == [0.5, 0.75, 0.75]


def test_a_long_outage_overflows_nothing() -> None:
    backoff = Backoff(1, 20, Extreme())
    assert max(backoff.next_s() for _ in range(5000)) == 20


@pytest.mark.parametrize("bounds", [(0, 1), (-1, 1), (2, 1), (float("nan"), 1)])
def test_bounds_that_are_none_are_refused(bounds: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="0 < min_s <= max_s"):
        Backoff(*bounds, Random())
