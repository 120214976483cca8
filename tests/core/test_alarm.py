from __future__ import annotations

from pushserver.core.alarm import Alarm


def test_a_line_is_due_at_once_and_then_once_a_minute() -> None:
    now = 1000.0
    alarm = Alarm(60, clock=lambda: now)
    due = []
    for now in (1000.0, 1000.1, 1059.9, 1060.0, 1100.0, 1500.0):  # noqa: B007  # the clock reads it
        due.append(alarm.due())
    assert due == [True, False, False, True, False, True]
