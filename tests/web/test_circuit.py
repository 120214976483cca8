"""Who does not answer is left alone for a while."""

from __future__ import annotations

from pushserver.web.circuit import FAILURES, PAUSE_S, Circuit


class Time:
    now = 100.0


def circuit() -> tuple[Circuit, Time]:
    time = Time()
    return Circuit(lambda: time.now), time


def test_failures_that_are_not_in_a_row_break_nothing() -> None:
    one, _ = circuit()
    for _ in range(3):
        for _ in range(FAILURES - 1):
            one.failed()
        assert one.may_try()
        assert one.may_try()
        one.worked()


def test_after_some_in_a_row_only_one_in_a_while_may_try() -> None:
    one, time = circuit()
    for _ in range(FAILURES):
        one.failed()
    assert one.broken
    assert not one.may_try()
    for _ in range(3):
        time.now += PAUSE_S
        assert [one.may_try() for _ in range(3)] == [True, False, False]
        one.failed()


def test_one_answer_is_enough_for_all_to_try_again() -> None:
    one, time = circuit()
    for _ in range(FAILURES + 1):
        one.failed()
    time.now += PAUSE_S
    assert one.may_try()
    one.worked()
    assert [one.may_try() for _ in range(3)] == [True] * 3
    assert not one.broken
