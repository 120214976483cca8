from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from pushserver.core.alarm import Alarm
from pushserver.core.errors import (
    SinkError,
    SinkRefusedError,
    SinkUnavailableError,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
)
from pushserver.core.metrics import Metrics
from pushserver.exposure.event import build_events
from pushserver.exposure.stream_sink import StreamSink
from pushserver.stores.exposure_stream import ExposureStream
from tests.exposure.examples import an_exposure, some_events
from tests.exposure.fakes import FakeSpool


def dropped(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("pushserver_exposure_dropped_total")


@pytest.mark.gen_test
async def test_events_lie_in_the_stream_as_they_are(stream: ExposureStream, metrics: Metrics) -> None:
    sink = StreamSink(stream, metrics, Alarm())
    await sink.start()
    events = some_events(3)
    await sink.publish(events)
    await sink.publish([])
    await sink.close()
    assert [data for _, data in await stream.read_new("consumer", 10)] == [event.data for event in events]
    assert dropped(metrics) == 0


@pytest.mark.gen_test
async def test_the_newest_are_dropped_counted_and_alarmed_when_it_is_full(metrics: Metrics) -> None:
    now = 0.0
    spool = FakeSpool(room=2)
    sink = StreamSink(spool, metrics, Alarm(60, clock=lambda: now))
    two_in_one = build_events(
        [an_exposure("a", message_id="m-9"), an_exposure("b", message_id="m-9")], "pod-1"
    )
    with capture_logs() as lines:
        await sink.publish(some_events(2) + two_in_one)
        await sink.publish(some_events(1))
        assert [(line["event"], line["exposures"]) for line in lines] == [("exposure.dropped", 2)]
        now = 61.0
        await sink.publish(some_events(1))
    assert spool.ids == ["m-0", "m-1"]
    assert dropped(metrics) == 4
    assert [line["log_level"] for line in lines] == ["error", "error"]


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "fault, meaning",
    [
        (StoreUnavailableError("timeout", "slow"), SinkUnavailableError("redis_timeout", "slow")),
        (StoreRefusedError("oom", "full"), SinkRefusedError("redis_oom", "full")),
    ],
)
async def test_what_redis_says_is_said_in_a_sinks_words(
    metrics: Metrics, fault: StoreError, meaning: SinkError
) -> None:
    spool = FakeSpool()
    spool.error = fault
    with pytest.raises(type(meaning)) as failure:
        await StreamSink(spool, metrics, Alarm()).publish(some_events(1))
    assert str(failure.value) == str(meaning)
