from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from pushserver.core.errors import SinkRefusedError, SinkUnavailableError
from pushserver.exposure.event import Event
from pushserver.exposure.pubsub_sink import MESSAGE_OVERHEAD, PubSubSink
from pushserver.exposure.pubsub_topic import PubSubTopic
from tests.engines.pubsub_emulator import PubSubEmulator
from tests.exposure.examples import an_event, some_events
from tests.exposure.publishers import counting_requests
from tests.exposure.subscription import Subscription, new_topic

SIZE = len(an_event("m-0").data) + MESSAGE_OVERHEAD


class GatedTopic(PubSubTopic):
    """A topic whose requests wait until the test answers them, oldest first."""

    def __init__(self) -> None:
        super().__init__("projects/p/topics/t", emulator_host="")
        self.requests: list[list[str]] = []
        self.gates: list[asyncio.Future[None]] = []
        self.arrived = asyncio.Event()
        self.calls: list[str] = []

    async def open(self) -> None:
        self.calls.append("open")

    async def publish(self, events: Sequence[Event]) -> None:
        self.requests.append([event.message_id for event in events])
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.gates.append(gate)
        self.arrived.set()
        await gate

    async def close(self) -> None:
        self.calls.append("close")

    def answer(self, error: Exception | None = None) -> None:
        gate = self.gates.pop(0)
        if error is None:
            gate.set_result(None)
        else:
            gate.set_exception(error)

    async def next_request(self) -> list[str]:
        self.arrived.clear()
        await self.arrived.wait()
        return self.requests[-1]


@pytest.fixture
def topic() -> GatedTopic:
    return GatedTopic()


def publish(sink: PubSubSink, events: Sequence[Event]) -> asyncio.Task[None]:
    return asyncio.create_task(sink.publish(events))


async def turns(count: int = 5) -> None:
    """Let everything run that can run without time passing."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.gen_test(timeout=30)
async def test_many_callers_share_few_requests(pubsub_emulator: PubSubEmulator) -> None:
    """Counted on the wire, against the real server."""
    sizes: list[int] = []
    name = new_topic()
    sink = PubSubSink(
        PubSubTopic(name, emulator_host=pubsub_emulator.host, connect=counting_requests(sizes)), batch_ms=200
    )
    await sink.start()
    events = some_events(2500)
    async with Subscription(pubsub_emulator, name) as subscription:
        await asyncio.gather(*(sink.publish([event]) for event in events))
        arrived = await subscription.receive(len(events))
    assert sizes == [1000, 1000, 500]
    assert {message.data for message in arrived} == {event.data for event in events}
    assert sink.buffered == 0
    await sink.close()


@pytest.mark.gen_test
async def test_a_request_leaves_when_it_has_its_events(topic: GatedTopic) -> None:
    sink = PubSubSink(topic, batch_events=3, batch_ms=60_000)
    task = publish(sink, some_events(7))
    await turns()
    assert [len(request) for request in topic.requests] == [3, 3]
    await sink.close()
    with pytest.raises(SinkUnavailableError):
        await task


@pytest.mark.gen_test
async def test_a_request_leaves_before_it_would_exceed_its_bytes(topic: GatedTopic) -> None:
    sink = PubSubSink(topic, batch_bytes=3 * SIZE, batch_ms=60_000)
    task = publish(sink, some_events(7))
    await turns()
    assert topic.requests == [["m-0", "m-1", "m-2"], ["m-3", "m-4", "m-5"]]
    await sink.close()
    with pytest.raises(SinkUnavailableError):
        await task


@pytest.mark.gen_test
async def test_an_event_larger_than_the_bytes_of_a_request_goes_alone(topic: GatedTopic) -> None:
    sink = PubSubSink(topic, batch_bytes=10, batch_ms=0)
    task = publish(sink, some_events(2))
    await turns()
    assert topic.requests == [["m-0"], ["m-1"]]
    topic.answer()
    topic.answer()
    await task
    await sink.close()


@pytest.mark.gen_test
async def test_a_request_leaves_after_its_time(topic: GatedTopic) -> None:
    """From its first event on: later ones do not put it off."""
    sink = PubSubSink(topic, batch_ms=30)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    first = publish(sink, [an_event("m-1")])
    await turns()
    assert topic.requests == []
    second = publish(sink, [an_event("m-2")])
    assert await topic.next_request() == ["m-1", "m-2"]
    assert loop.time() - begun >= 0.03
    topic.answer()
    await asyncio.gather(first, second)
    await sink.close()


@pytest.mark.gen_test
async def test_while_enough_requests_are_unanswered_the_next_one_fills(topic: GatedTopic) -> None:
    sink = PubSubSink(topic, batch_ms=0, max_in_flight=2)
    tasks = []
    for number in range(6):
        tasks.append(publish(sink, [an_event(f"m-{number}")]))
        await asyncio.sleep(0.005)
    assert topic.requests == [["m-0"], ["m-1"]]
    topic.answer()
    await turns()
    assert topic.requests[2:] == [["m-2", "m-3", "m-4", "m-5"]]
    topic.answer()
    topic.answer()
    await asyncio.gather(*tasks)
    await sink.close()


@pytest.mark.gen_test
async def test_publish_returns_when_all_its_requests_are_answered(topic: GatedTopic) -> None:
    sink = PubSubSink(topic, batch_events=1, batch_ms=0)
    task = publish(sink, some_events(2))
    await turns()
    topic.answer()
    await turns()
    assert not task.done()
    topic.answer()
    await task
    assert sink.buffered == 0
    await sink.close()


@pytest.mark.gen_test
async def test_one_failed_request_fails_the_publish(topic: GatedTopic) -> None:
    sink = PubSubSink(topic, batch_events=1, batch_ms=0)
    task = publish(sink, some_events(2))
    await turns()
    topic.answer(SinkRefusedError("not_found", "no topic"))
    topic.answer()
    with pytest.raises(SinkRefusedError) as failure:
        await task
    assert (failure.value.kind, failure.value.reason) == ("not_found", "no topic")
    await sink.close()


@pytest.mark.gen_test
async def test_a_cancelled_caller_does_not_cancel_the_request_it_shares(topic: GatedTopic) -> None:
    sink = PubSubSink(topic, batch_ms=0)
    leaving, staying = publish(sink, [an_event("m-1")]), publish(sink, [an_event("m-2")])
    await topic.next_request()
    leaving.cancel()
    await asyncio.wait([leaving])
    assert leaving.cancelled()
    topic.answer()
    await staying
    assert topic.requests == [["m-1", "m-2"]]
    await sink.close()


@pytest.mark.gen_test
@pytest.mark.parametrize("bounds", [{"max_events": 4}, {"max_bytes": 4 * SIZE}])
async def test_a_full_buffer_refuses_at_once_and_room_comes_back(
    topic: GatedTopic, bounds: dict[str, int]
) -> None:
    sink = PubSubSink(topic, batch_ms=0, **bounds)
    task = publish(sink, some_events(3))
    await topic.next_request()
    with pytest.raises(SinkUnavailableError) as failure:
        await sink.publish(some_events(2))
    assert (failure.value.kind, sink.buffered) == ("full", 3)
    topic.answer()
    await task
    again = [publish(sink, some_events(3)), publish(sink, some_events(1))]
    assert len(await topic.next_request()) == 4
    topic.answer()
    await asyncio.gather(*again)
    await sink.close()


@pytest.mark.gen_test
async def test_an_empty_buffer_takes_what_is_larger_than_its_bound(topic: GatedTopic) -> None:
    """Or the mover would be refused the same events for ever."""
    sink = PubSubSink(topic, batch_ms=0, max_events=2)
    task = publish(sink, some_events(3))
    await topic.next_request()
    topic.answer()
    await task
    await sink.close()


@pytest.mark.gen_test
async def test_requests_behind_a_failed_one_fail_with_it(topic: GatedTopic) -> None:
    """Each would only wait for its own time-outs."""
    sink = PubSubSink(topic, batch_events=1, batch_ms=0, max_in_flight=1)
    first, second = publish(sink, [an_event("m-1")]), publish(sink, [an_event("m-2")])
    await turns()
    topic.answer(SinkUnavailableError("unavailable", "away"))
    for task in (first, second):
        with pytest.raises(SinkUnavailableError):
            await task
    assert (topic.requests, sink.buffered) == ([["m-1"]], 0)
    after = publish(sink, [an_event("m-3")])
    await turns()
    topic.answer()
    await after
    await sink.close()


@pytest.mark.gen_test
async def test_closing_fails_what_is_unanswered_and_what_comes_later(topic: GatedTopic) -> None:
    sink = PubSubSink(topic, batch_events=1, batch_ms=60_000, max_in_flight=1)
    await sink.start()
    tasks = [publish(sink, [an_event("m-1")]), publish(sink, [an_event("m-2")])]
    await turns()
    await sink.close()
    await sink.close()
    for task in tasks:
        with pytest.raises(SinkUnavailableError) as failure:
            await task
        assert failure.value.kind == "closed"
    with pytest.raises(SinkUnavailableError):
        await sink.publish([an_event()])
    assert topic.calls[:2] == ["open", "close"]


@pytest.mark.gen_test
async def test_closing_before_a_request_has_begun_leaves_nobody_waiting(topic: GatedTopic) -> None:
    """A task cancelled before its first step runs none of its own code."""
    sink = PubSubSink(topic, batch_events=1)
    task = publish(sink, [an_event()])
    await asyncio.sleep(0)
    await sink.close()
    with pytest.raises(SinkUnavailableError):
        await task
    assert topic.requests == []


@pytest.mark.gen_test
async def test_a_mistake_in_the_library_reaches_the_callers_as_unavailable(topic: GatedTopic) -> None:
    sink = PubSubSink(topic, batch_ms=0)
    task = publish(sink, [an_event()])
    await topic.next_request()
    with capture_logs() as lines:
        topic.answer(ZeroDivisionError("surprise"))
        with pytest.raises(SinkUnavailableError) as failure:
            await task
    assert (failure.value.kind, failure.value.reason) == ("unexpected", "ZeroDivisionError")
    assert [line["event"] for line in lines] == ["exposure.request_broken"]
    await sink.close()


@pytest.mark.gen_test
async def test_no_events_need_no_request(topic: GatedTopic) -> None:
    sink = PubSubSink(topic, batch_ms=0)
    await sink.publish([])
    await turns()
    assert topic.requests == []
    await sink.close()


@pytest.mark.gen_test(timeout=30)
@pytest.mark.parametrize("again", [1, 2, 3])
async def test_a_client_lives_and_ends_within_its_loop(pubsub_emulator: PubSubEmulator, again: int) -> None:
    """One loop a test: what gRPC keeps for a loop must neither leak into the next one nor warn."""
    sink = PubSubSink(PubSubTopic(new_topic(), emulator_host=pubsub_emulator.host), batch_ms=0)
    await sink.start()
    await sink.publish(some_events(3))
    await sink.close()
