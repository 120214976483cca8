from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from pushserver.core.errors import EventRefusedError, SinkUnavailableError
from pushserver.core.metrics import Metrics
from pushserver.exposure.event import Event, build_events
from pushserver.exposure.mover import MAX_MOVED_BYTES, Mover
from pushserver.stores.exposure_stream import ExposureStream
from tests.exposure.examples import an_exposure, some_events
from tests.exposure.fakes import FakeSink


def moved(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("pushserver_exposures_total", {"where": "moved"})


@pytest.mark.gen_test
async def test_events_are_moved_in_order_and_removed(stream: ExposureStream, metrics: Metrics) -> None:
    sink = FakeSink()
    mover = Mover(stream, sink, "pod-1", metrics)
    events = some_events(4) + build_events([an_exposure("a"), an_exposure("b")], "pod-9")
    await stream.add(events)
    assert [await mover.move(3), await mover.move(3), await mover.move(3)] == [3, 2, 0]
    assert sink.accepted == events
    assert (await stream.length(), moved(metrics)) == (0, 6)


@pytest.mark.gen_test
async def test_an_empty_spool_asks_the_sink_for_nothing(stream: ExposureStream, metrics: Metrics) -> None:
    sink = FakeSink()
    assert await Mover(stream, sink, "pod-1", metrics).move() == 0
    assert sink.asked == 0


@pytest.mark.gen_test
async def test_what_the_sink_did_not_take_is_first_the_next_time(
    stream: ExposureStream, metrics: Metrics
) -> None:
    sink = FakeSink()
    mover = Mover(stream, sink, "pod-1", metrics)
    await stream.add(some_events(4))
    sink.error = SinkUnavailableError("unavailable", "away")
    with pytest.raises(SinkUnavailableError):
        await mover.move(2)
    assert (await stream.length(), moved(metrics)) == (4, 0)
    sink.error = None
    while await mover.move(2):
        pass
    assert sink.ids == ["m-0", "m-1", "m-2", "m-3"]


@pytest.mark.gen_test
async def test_two_pods_share_the_work(stream: ExposureStream, metrics: Metrics) -> None:
    """While one is at it, the other does not publish the same entries."""
    one, other = FakeSink(), FakeSink()
    one.error = SinkUnavailableError("unavailable", "away")
    await stream.add(some_events(4))
    with pytest.raises(SinkUnavailableError):
        await Mover(stream, one, "pod-1", metrics).move(2)
    healthy = Mover(stream, other, "pod-2", metrics)
    while await healthy.move(2):
        pass
    assert other.ids == ["m-2", "m-3"]


@pytest.mark.gen_test
async def test_what_a_dead_pod_was_moving_is_moved_by_another(
    stream: ExposureStream, metrics: Metrics
) -> None:
    await stream.add(some_events(3))
    await stream.read_new("dead", 2)
    sink = FakeSink()
    mover = Mover(stream, sink, "pod-1", metrics, claim_after_ms=0)
    while await mover.move():
        pass
    assert sorted(sink.ids) == ["m-0", "m-1", "m-2"]
    assert await stream.length() == 0


@pytest.mark.gen_test
async def test_what_no_pod_could_have_written_does_not_block_the_rest(
    stream: ExposureStream, metrics: Metrics
) -> None:
    """Pub/Sub refuses a whole request for one message that is empty or too large."""
    foreign = Event("", "", 0, b'{"schema":2}')
    await stream.add([Event("", "", 0, b""), foreign, Event("", "", 0, b"x" * (MAX_MOVED_BYTES + 1))])
    await stream.add(some_events(1))
    sink = FakeSink()
    mover = Mover(stream, sink, "pod-1", metrics)
    with capture_logs() as lines:
        while await mover.move():
            pass
    assert [event.data for event in sink.accepted] == [foreign.data, *(e.data for e in some_events(1))]
    assert [(line["event"], line["entries"]) for line in lines] == [("exposure.entries_unfit", 2)]
    assert await stream.length() == 0


@pytest.mark.gen_test
async def test_only_unfit_entries_are_removed_without_asking_the_sink(
    stream: ExposureStream, metrics: Metrics
) -> None:
    await stream.add([Event("", "", 0, b"")])
    sink = FakeSink()
    with capture_logs():
        assert await Mover(stream, sink, "pod-1", metrics).move() == 1
    assert (sink.asked, await stream.length()) == (0, 0)


async def aside(stream: ExposureStream) -> list[bytes]:
    entries = await stream._commands.call("XRANGE", "ps:exposures-aside", "-", "+")
    return [fields[1] for _, fields in entries]


@pytest.mark.gen_test
@pytest.mark.parametrize("count", [1, 100])
async def test_events_that_the_sink_refuses_for_good_are_set_aside_and_block_nothing(
    stream: ExposureStream, metrics: Metrics, count: int
) -> None:
    """Also while the sink is away and tried with one event, which is poison."""
    sink = FakeSink()
    sink.poison = {"m-0", "m-3"}
    events = some_events(6)
    await stream.add(events)
    mover = Mover(stream, sink, "pod-1", metrics)
    with capture_logs() as lines:
        while await mover.move(count):
            pass
    assert sink.ids == ["m-1", "m-2", "m-4", "m-5"]
    assert await aside(stream) == [events[0].data, events[3].data]
    assert metrics.registry.get_sample_value("pushserver_exposure_aside_total") == 2
    assert {line["event"] for line in lines} == {"exposure.set_aside"}
    assert (await stream.length(), moved(metrics)) == (0, 4)


@pytest.mark.gen_test
async def test_a_sink_that_refuses_everything_loses_nothing(stream: ExposureStream, metrics: Metrics) -> None:
    """A topic with a wrong name is answered just as a wrong event is."""
    sink = FakeSink()
    sink.poison = {f"m-{number}" for number in range(6)}
    await stream.add(some_events(6))
    mover = Mover(stream, sink, "pod-1", metrics)
    for _ in range(3):
        with pytest.raises(EventRefusedError):
            await mover.move(1)
    assert (await stream.length(), await aside(stream)) == (6, [])
    sink.poison = set()
    while await mover.move():
        pass
    assert sorted(sink.ids) == [f"m-{number}" for number in range(6)]


@pytest.mark.gen_test
async def test_what_is_set_aside_is_bounded(stream: ExposureStream) -> None:
    await stream.set_aside(some_events(150))
    kept = await aside(stream)
    assert kept == [event.data for event in some_events(150)[50:]]
