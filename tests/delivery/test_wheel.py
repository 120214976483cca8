"""One wheel for all connections: visits when they are due, in slices, whatever one visit does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from pushserver.delivery.connection import Connection
from pushserver.delivery.wheel import AGAIN_S, SLICE, TICK_S, Wheel
from tests.delivery.turned_loop import Loop
from tests.delivery.wire import connection
from tests.pod import eventually


class Visits:
    """Records visits; `again` says when the next one of a connection is due."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.at: dict[str, list[float]] = {}
        self.again: Callable[[float], float | None] = lambda now: None

    def __call__(self, visited: Connection, now: float) -> float | None:
        assert now == self._loop.now
        self.at.setdefault(visited.id, []).append(now)
        return self.again(now)

    @property
    def count(self) -> int:
        return sum(map(len, self.at.values()))


def one(name: str = "c-1") -> Connection:
    return connection(connection_id=name)


def test_a_visit_is_never_early_and_at_most_a_tick_late(loop: Loop) -> None:
    visits = Visits(loop)
    wheel = Wheel(visits)
    wheel.start()
    due = {f"c-{number}": 1000 + number * 0.07 for number in range(100)}
    for name, when in due.items():
        wheel.put(one(name), when)
    assert len(wheel) == 100
    loop.until(1010)
    assert all(0 <= visits.at[name][0] - when <= TICK_S + 0.051 for name, when in due.items())
    assert len(wheel) == 0


def test_the_answer_of_a_visit_is_when_the_next_one_is_due(loop: Loop) -> None:
    visits = Visits(loop)
    visits.again = lambda now: now + 2
    wheel = Wheel(visits)
    wheel.start()
    wheel.put(one(), 1001)
    loop.until(1010)
    times = visits.at["c-1"]
    assert len(times) == 4
    assert all(2 <= later - earlier <= 2 + TICK_S + 0.051 for earlier, later in pairwise(times))
    assert len(wheel) == 1


def test_without_an_answer_there_is_no_next_visit(loop: Loop) -> None:
    visits = Visits(loop)
    wheel = Wheel(visits)
    wheel.start()
    wheel.put(one(), 1001)
    loop.until(1100)
    assert visits.count == 1


def test_what_is_due_in_the_past_is_visited_at_the_next_tick(loop: Loop) -> None:
    visits = Visits(loop)
    wheel = Wheel(visits)
    wheel.start()
    wheel.put(one(), 10)
    loop.until(1000 + 2 * TICK_S)
    assert visits.count == 1


def test_a_visit_that_always_wants_to_be_repeated_at_once_is_made_once_a_tick(loop: Loop) -> None:
    visits = Visits(loop)
    visits.again = lambda now: now
    wheel = Wheel(visits)
    wheel.start()
    wheel.put(one(), 1000)
    loop.until(1010)
    assert 38 <= visits.count <= 41


def test_a_later_put_replaces_an_earlier_one(loop: Loop) -> None:
    visits = Visits(loop)
    wheel, moved = Wheel(visits), one()
    wheel.start()
    wheel.put(moved, 1001)
    wheel.put(moved, 1005)
    wheel.put(moved, 1003)
    assert len(wheel) == 1
    loop.until(1010)
    assert [round(time) for time in visits.at["c-1"]] == [1003]


def test_what_was_removed_is_not_visited_and_leaves_nothing_behind(loop: Loop) -> None:
    visits = Visits(loop)
    wheel, gone = Wheel(visits), one()
    wheel.start()
    wheel.put(gone, 1001)
    wheel.remove(gone)
    wheel.remove(gone)
    wheel.remove(one("never put"))
    assert len(wheel) == 0
    loop.until(1010)
    assert visits.count == 0


def test_a_visit_may_remove_another_that_is_due_at_the_same_time(loop: Loop) -> None:
    two = [one("c-1"), one("c-2")]
    visited = []

    def visit(connected: Connection, now: float) -> None:
        visited.append(connected)
        for other in two:
            wheel.remove(other)

    wheel = Wheel(visit)
    wheel.start()
    for connected in two:
        wheel.put(connected, 1001)
    loop.until(1010)
    assert len(visited) == 1


def test_one_callback_makes_at_most_500_visits(loop: Loop) -> None:
    visits = Visits(loop)
    wheel = Wheel(visits)
    wheel.start()
    for number in range(2 * SLICE + 1):
        wheel.put(one(f"c-{number}"), 1001)
    loop.now = 1001.5
    made = []
    while loop.turn():
        made.append(visits.count)
    assert made == [SLICE, 2 * SLICE, 2 * SLICE + 1]


def test_a_slice_is_counted_over_all_ticks_that_a_late_loop_has_missed(loop: Loop) -> None:
    visits = Visits(loop)
    wheel = Wheel(visits)
    wheel.start()
    for number in range(SLICE + 100):
        wheel.put(one(f"c-{number}"), 1001 + number % 8)
    loop.now = 1020
    made = []
    while loop.turn():
        made.append(visits.count)
    assert made == [SLICE, SLICE + 100]


def test_a_visit_that_fails_stops_no_other_and_is_repeated_later(loop: Loop) -> None:
    seen: list[str] = []

    def visit(connected: Connection, now: float) -> float | None:
        seen.append(connected.id)
        if connected.id == "breaks" and seen.count("breaks") == 1:
            raise LookupError("what went wrong")
        return None

    wheel = Wheel(visit)
    wheel.start()
    for name in ("a", "breaks", "b"):
        wheel.put(one(name), 1001)
    with capture_logs() as lines:
        loop.until(1002)
    assert seen == ["a", "breaks", "b"]
    assert [(line["event"], line["connection"]) for line in lines] == [("wheel.visit_failed", "breaks")]
    loop.until(1002 + AGAIN_S)
    assert seen == ["a", "breaks", "b", "breaks"]
    assert len(wheel) == 0


def test_a_stopped_wheel_visits_nobody(loop: Loop) -> None:
    visits = Visits(loop)
    wheel = Wheel(visits)
    wheel.stop()
    wheel.start()
    wheel.put(one(), 1001)
    wheel.stop()
    wheel.stop()
    assert loop.cancelled == 1
    loop.until(1010)
    assert visits.count == 0


@pytest.mark.gen_test
async def test_the_wheel_turns_on_the_running_loop() -> None:
    visited: list[float] = []
    wheel = Wheel(lambda connected, now: visited.append(now))
    wheel.start()
    started = asyncio.get_running_loop().time()
    wheel.put(one(), started + 0.1)
    await eventually(lambda: visited)
    wheel.stop()
    assert visited[0] >= started + 0.1
