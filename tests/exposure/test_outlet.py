from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs
from tornado.ioloop import IOLoop

from pushserver.core.alarm import Alarm
from pushserver.core.errors import SinkError, SinkRefusedError, SinkUnavailableError, StoreUnavailableError
from pushserver.core.metrics import Metrics
from pushserver.exposure.outlet import Outlet
from tests.exposure.examples import an_event, some_events
from tests.exposure.fakes import FakeSink, FakeSpool, Pause

AWAY = SinkUnavailableError("unavailable", "away")
REFUSED = SinkRefusedError("not_found", "no topic")


class World:
    """An outlet among stand-ins, and the logs it writes; drained when the test is over."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self.sink = FakeSink()
        self.spool = FakeSpool()
        self.pause = Pause()
        self.now = 0.0
        self.lines: list[Any] = []
        self.outlet = self.made(self.spool)

    def made(self, spool: FakeSpool | None, look_s: float = 3600) -> Outlet:
        alarm = Alarm(60, clock=lambda: self.now)
        self.outlet = Outlet(
            self.sink, spool, "pod-1", self.metrics, look_s=look_s, alarm=alarm, pause=self.pause
        )
        return self.outlet

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"pushserver_{name}", labels) or 0.0

    def said(self) -> list[str]:
        return [line["event"] for line in self.lines]


@pytest.fixture
def world(io_loop: IOLoop, metrics: Metrics) -> Iterator[World]:
    with capture_logs() as lines:
        world = World(metrics)
        world.lines = lines
        yield world
        io_loop.run_sync(lambda: world.outlet.drain(0.0))


async def until(condition: Callable[[], object]) -> None:
    """Let everything run that can run without time passing, until the condition holds."""
    for _ in range(100):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it does not come to that")


def in_s(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


@pytest.mark.gen_test
async def test_a_sink_that_works_gets_the_events_and_the_spool_none(world: World) -> None:
    await world.outlet.start()
    await world.outlet.accept(some_events(3))
    assert (world.sink.ids, world.spool.ids) == (["m-0", "m-1", "m-2"], [])
    assert world.value("exposures_total", where="published") == 3
    assert world.said() == []


@pytest.mark.gen_test
async def test_what_the_sink_does_not_take_is_accepted_by_the_spool(world: World) -> None:
    world.sink.error = AWAY
    await world.outlet.accept(some_events(2))
    assert (world.sink.ids, world.spool.ids) == ([], ["m-0", "m-1"])
    assert world.value("exposures_total", where="spooled") == 2
    assert world.value("exposures_total", where="published") == 0
    assert world.value("exposure_failures_total", kind="unavailable") == 1


@pytest.mark.gen_test
async def test_while_the_sink_is_away_accept_does_not_ask_it(world: World) -> None:
    """Each would wait for its time-outs, and settling with it."""
    world.sink.error = AWAY
    for number in range(5):
        await world.outlet.accept([an_event(f"m-{number}")])
    assert (world.sink.asked, len(world.spool.ids)) == (1, 5)


@pytest.mark.gen_test
async def test_the_sink_is_tried_with_one_event_and_a_growing_back_off(world: World) -> None:
    await world.outlet.start()
    await until(lambda: world.spool.looks)
    world.sink.error = AWAY
    await world.outlet.accept(some_events(3))
    for _ in range(7):
        await world.pause.begun()
        world.spool.counts.clear()
        world.pause.end()
    await world.pause.begun()
    waits = [0.5, 1, 2, 4, 8, 10, 10]
    assert all(low <= wait <= low * 1.25 for low, wait in zip(waits, world.pause.seconds, strict=False))
    assert world.spool.counts == [1]
    assert world.sink.asked == 8


@pytest.mark.gen_test
async def test_when_the_sink_is_back_the_spool_is_moved_on_and_events_go_to_it_again(world: World) -> None:
    await world.outlet.start()
    world.sink.error = AWAY
    await world.outlet.accept(some_events(250))
    await world.pause.begun()
    world.sink.error = None
    world.pause.end()
    await until(lambda: not world.spool.ids)
    await world.outlet.accept([an_event("later")])
    assert world.sink.ids == [*(f"m-{number}" for number in range(250)), "later"]
    assert world.value("exposures_total", where="moved") == 250
    assert world.said() == ["exposure.sink_away", "exposure.sink_back"]


@pytest.mark.gen_test
async def test_the_first_event_taken_brings_the_sink_back_however_much_is_spooled(world: World) -> None:
    await world.outlet.start()
    world.sink.error = AWAY
    await world.outlet.accept(some_events(250))
    await world.pause.begun()
    world.sink.error = None
    asked = world.sink.asked
    world.pause.end()
    await until(lambda: world.sink.asked == asked + 2)
    await world.outlet.accept([an_event("later")])
    assert world.spool.ids
    assert "later" in world.sink.ids


@pytest.mark.gen_test
async def test_after_it_came_back_the_back_off_begins_anew(world: World) -> None:
    await world.outlet.start()
    for _ in range(2):
        world.sink.error = AWAY
        await world.outlet.accept([an_event()])
        await world.pause.begun()
        world.pause.end()
        await world.pause.begun()
        world.sink.error = None
        world.pause.end()
        await until(lambda: not world.spool.ids)
    assert [round(wait // 0.5) / 2 for wait in world.pause.seconds] == [0.5, 1.0, 0.5, 1.0]


@pytest.mark.gen_test
@pytest.mark.parametrize("error", [AWAY, REFUSED])
async def test_an_outage_is_one_line_a_minute(world: World, error: SinkError) -> None:
    world.sink.error = error
    await world.outlet.start()
    for world.now in (0.0, 10.0, 59.0, 60.0, 70.0):
        await world.outlet.accept([an_event()])
        await world.pause.begun()
        world.pause.end()
    await world.pause.begun()
    assert world.said() == ["exposure.sink_away"] * 2
    assert world.lines[0]["kind"] == error.kind
    assert world.lines[0]["log_level"] == "error"


@pytest.mark.gen_test
async def test_if_the_spool_fails_too_nothing_was_accepted(world: World) -> None:
    world.sink.error = AWAY
    world.spool.error = StoreUnavailableError("timeout", "slow")
    with pytest.raises(SinkUnavailableError) as failure:
        await world.outlet.accept(some_events(2))
    assert failure.value.kind == "redis_timeout"
    assert world.value("exposure_failures_total", kind="redis_timeout") == 1
    world.spool.error = None
    await world.outlet.accept(some_events(2))
    assert world.spool.ids == ["m-0", "m-1"]


@pytest.mark.gen_test
@pytest.mark.parametrize("error", [AWAY, REFUSED])
async def test_without_a_spool_the_sinks_answer_is_the_answer(world: World, error: SinkError) -> None:
    outlet = world.made(None)
    await outlet.start()
    world.sink.error = error
    for _ in range(2):
        with pytest.raises(type(error)):
            await outlet.accept([an_event()])
    world.sink.error = None
    await outlet.accept([an_event()])
    assert world.sink.ids == ["m-1"]


@pytest.mark.gen_test
async def test_without_a_spool_a_sink_that_cannot_start_stops_the_start(world: World) -> None:
    outlet = world.made(None)
    world.sink.error = REFUSED
    with pytest.raises(SinkRefusedError):
        await outlet.start()


@pytest.mark.gen_test
async def test_a_sink_that_is_not_there_at_the_start_is_away(world: World) -> None:
    world.sink.error = AWAY
    await world.outlet.start()
    await world.outlet.accept([an_event()])
    assert (world.sink.asked, world.spool.ids) == (0, ["m-1"])


@pytest.mark.gen_test
async def test_with_nothing_spooled_the_next_event_tries_the_sink(world: World) -> None:
    world.sink.error = AWAY
    await world.outlet.start()
    world.sink.error = None
    await until(lambda: world.spool.looks)
    await world.outlet.accept([an_event()])
    assert world.sink.ids == ["m-1"]
    assert world.said() == ["exposure.sink_away", "exposure.sink_back"]


@pytest.mark.gen_test
async def test_leftovers_of_other_pods_are_moved_on_at_the_start(world: World) -> None:
    await world.spool.add(some_events(2))
    await world.outlet.start()
    await until(lambda: not world.spool.ids)
    assert world.sink.ids == ["m-0", "m-1"]


@pytest.mark.gen_test
async def test_leftovers_are_looked_for_now_and_then(world: World) -> None:
    outlet = world.made(world.spool, look_s=0.01)
    await outlet.start()
    await world.spool.next_look()
    await world.spool.add(some_events(2))
    await world.spool.next_look()
    await until(lambda: not world.spool.ids)
    assert world.sink.ids == ["m-0", "m-1"]
    assert world.pause.seconds == []


@pytest.mark.gen_test
@pytest.mark.parametrize("error", [StoreUnavailableError("timeout", "slow"), ZeroDivisionError("surprise")])
async def test_nothing_ends_the_watch(world: World, error: Exception) -> None:
    outlet = world.made(world.spool, look_s=0.01)
    world.spool.error = error
    await outlet.start()
    await world.spool.next_look()
    world.spool.error = None
    await world.spool.add(some_events(1))
    await world.spool.next_look()
    await until(lambda: not world.spool.ids)
    assert world.sink.ids == ["m-0"]
    unexpected = isinstance(error, ZeroDivisionError)
    assert set(world.said()) == ({"exposure.watch_broken"} if unexpected else set())
    assert bool(world.value("task_failures_total")) is unexpected


@pytest.mark.gen_test
async def test_a_cancelled_accept_counts_as_over(world: World) -> None:
    world.sink.held.clear()
    task = asyncio.create_task(world.outlet.accept([an_event()]))
    await until(lambda: world.sink.asked)
    assert world.value("exposure_pending") == 1
    task.cancel()
    await asyncio.wait([task])
    assert world.value("exposure_pending") == 0
    await asyncio.wait_for(world.outlet.drain(in_s(60)), 10)


@pytest.mark.gen_test
async def test_a_drain_waits_for_what_the_sink_is_taking(world: World) -> None:
    await world.outlet.start()
    world.sink.held.clear()
    accept = asyncio.create_task(world.outlet.accept(some_events(2)))
    await until(lambda: world.sink.asked)
    drain = asyncio.create_task(world.outlet.drain(in_s(60)))
    await asyncio.sleep(0)
    assert not world.sink.closed
    world.sink.held.set()
    await asyncio.gather(accept, drain)
    assert (world.sink.ids, world.spool.ids, world.sink.closed) == (["m-0", "m-1"], [], 1)


@pytest.mark.gen_test
async def test_a_drain_spools_what_the_sink_does_not_take_in_time(world: World) -> None:
    await world.outlet.start()
    world.sink.held.clear()
    accept = asyncio.create_task(world.outlet.accept(some_events(2)))
    await until(lambda: world.sink.asked)
    deadline = in_s(1.5)
    await world.outlet.drain(deadline)
    assert in_s(0) < deadline
    assert accept.done()
    await accept
    assert (world.sink.ids, world.spool.ids) == ([], ["m-0", "m-1"])


@pytest.mark.gen_test
async def test_a_drain_whose_time_is_over_does_not_wait(world: World) -> None:
    await world.outlet.start()
    world.sink.held.clear()
    accept = asyncio.create_task(world.outlet.accept(some_events(1)))
    await until(lambda: world.sink.asked)
    await asyncio.wait_for(world.outlet.drain(in_s(-1)), 10)
    await accept
    assert world.spool.ids == ["m-0"]


@pytest.mark.gen_test
async def test_after_a_drain_events_still_go_to_the_spool(world: World) -> None:
    await world.outlet.start()
    await world.outlet.drain(in_s(1))
    await world.outlet.drain(in_s(1))
    await world.outlet.accept([an_event()])
    assert world.spool.ids == ["m-1"]


@pytest.mark.gen_test
async def test_a_drain_ends_a_watch_that_waits_for_its_next_try(world: World) -> None:
    world.sink.error = AWAY
    await world.outlet.start()
    await world.outlet.accept([an_event()])
    await world.pause.begun()
    await asyncio.wait_for(world.outlet.drain(in_s(60)), 10)
    assert world.spool.ids == ["m-1"]
