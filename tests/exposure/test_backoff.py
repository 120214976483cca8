from __future__ import annotations

from pushserver.exposure.backoff import Backoff


def test_waits_double_up_to_the_most() -> None:
    backoff = Backoff(0.5, 10, chance=lambda: 0.0)
    assert [backoff.next_s() for _ in range(7)] == [0.5, 1, 2, 4, 8, 10, 10]


def test_chance_lengthens_by_up_to_a_quarter() -> None:
    backoff = Backoff(0.5, 10, chance=lambda: 1.0)
    assert [backoff.next_s() for _ in range(6)] == [0.625, 1.25, 2.5, 5, 10, 12.5]


def test_after_a_success_it_begins_anew() -> None:
    backoff = Backoff(0.5, 10, chance=lambda: 0.0)
    backoff.next_s()
    backoff.next_s()
    backoff.reset()
    assert backoff.next_s() == 0.5


def test_two_pods_wait_differently() -> None:
    first, second = Backoff(1, 10), Backoff(1, 10)
    assert [first.next_s() for _ in range(4)] != [second.next_s() for _ in range(4)]
