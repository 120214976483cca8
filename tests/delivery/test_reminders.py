"""Reminders of planned pings: in time, one for each connection, whatever became of the plan."""

from __future__ import annotations

from collections.abc import Callable

from structlog.testing import capture_logs

from pushserver.delivery.connection import Connection
from pushserver.delivery.reminders import AHEAD_S, Reminders
from pushserver.delivery.slices import SLICE
from pushserver.delivery.wheel import TICK_S
from tests.delivery.turned_loop import Loop
from tests.delivery.wire import connection


class Told:
    """Records whom it was reminded of, and when; `then` is called with each."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.at: dict[str, list[float]] = {}
        self.then: Callable[[Connection], None] = lambda one: None

    def __call__(self, one: Connection, now: float) -> None:
        assert now == self._loop.now
        self.at.setdefault(one.id, []).append(now)
        self.then(one)


def one(name: str = "c-1") -> Connection:
    return connection(connection_id=name)


def started(told: Told) -> Reminders:
    reminders = Reminders(told)
    reminders.start()
    return reminders


def test_a_reminder_is_never_early_and_at_most_a_tick_late(loop: Loop) -> None:
    told = Told(loop)
    reminders = started(told)
    due = {f"c-{number}": 1000 + number * 0.07 for number in range(100)}
    for name, when in due.items():
        reminders.put(one(name), when)
    assert len(reminders) == 100
    loop.until(1010)
    assert all(0 <= told.at[name][0] - when <= TICK_S + 0.051 for name, when in due.items())
    assert len(reminders) == 0


def test_a_connection_has_one_reminder_however_often_it_is_planned(loop: Loop) -> None:
    told, moved = Told(loop), one()
    reminders = started(told)
    for when in (1003, 1004, 1003, 1005):
        reminders.put(moved, when)
    assert len(reminders) == 1
    loop.until(1010)
    assert [round(time) for time in told.at["c-1"]] == [1003]
    assert moved.reminded_at == 0.0


def test_an_earlier_one_comes_in_place_of_a_later_one(loop: Loop) -> None:
    told, moved = Told(loop), one()
    reminders = started(told)
    reminders.put(moved, 1005)
    reminders.put(moved, 1002)
    loop.until(1010)
    assert [round(time) for time in told.at["c-1"]] == [1002]
    assert len(reminders) == 0


def test_who_is_reminded_may_ask_for_another(loop: Loop) -> None:
    told = Told(loop)
    reminders = started(told)
    told.then = lambda one: reminders.put(one, loop.now + 2)
    reminders.put(one(), 1001)
    loop.until(1010)
    assert len(told.at["c-1"]) == 4
    assert len(reminders) == 1


def test_a_crowd_is_reminded_of_in_slices_with_turns_for_others(loop: Loop) -> None:
    told = Told(loop)
    reminders = started(told)
    for number in range(3 * SLICE):
        reminders.put(one(f"c-{number}"), 1001)
    loop.now = 1002
    sizes: list[int] = []
    while loop.turn():
        sizes.append(len(told.at) - sum(sizes))
    assert sizes == [SLICE, SLICE, SLICE]


def test_one_that_fails_keeps_no_other_back(loop: Loop) -> None:
    told = Told(loop)
    reminders = started(told)

    def fail(one: Connection) -> None:
        if one.id == "c-1":
            raise LookupError("what went wrong")

    told.then = fail
    for name in ("c-1", "c-2"):
        reminders.put(one(name), 1001)
    with capture_logs() as lines:
        loop.until(1005)
    assert list(told.at) == ["c-1", "c-2"]
    assert [(line["event"], line["connection"]) for line in lines] == [("reminders.failed", "c-1")]
    assert len(reminders) == 1, "it comes again"


def test_none_lies_far_ahead_for_it_keeps_who_has_left(loop: Loop) -> None:
    told = Told(loop)
    reminders = started(told)
    reminders.put(one(), 2000)
    loop.until(1000 + AHEAD_S + 1)
    assert [round(time) for time in told.at["c-1"]] == [1000 + AHEAD_S]
    assert len(reminders) == 0


def test_stopped_it_reminds_of_nothing(loop: Loop) -> None:
    told = Told(loop)
    reminders = started(told)
    reminders.put(one(), 1001)
    reminders.stop()
    reminders.stop()
    loop.until(1010)
    assert told.at == {}
