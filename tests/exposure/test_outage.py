"""Pub/Sub away for a while, with the real emulator and a real spool: every accepted event arrives."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs
from tornado.ioloop import IOLoop

from pushserver.core.metrics import Metrics
from pushserver.exposure.event import Event
from pushserver.exposure.outlet import Outlet
from pushserver.exposure.pubsub_sink import PubSubSink
from pushserver.exposure.pubsub_topic import PubSubTopic
from pushserver.stores.exposure_stream import ExposureStream
from tests.engines.pubsub_emulator import PubSubEmulator
from tests.exposure.examples import an_event, some_events
from tests.exposure.fakes import HeldPause
from tests.exposure.subscription import Subscription, new_topic


@pytest.fixture(autouse=True)
def lines() -> Iterator[list[object]]:
    """What is logged, kept out of the test run's output."""
    with capture_logs() as lines:
        yield lines  # type: ignore[misc]


@pytest.fixture
def topic(pubsub_emulator: PubSubEmulator) -> PubSubTopic:
    return PubSubTopic(new_topic(), emulator_host=pubsub_emulator.host, attempts=2, timeout_s=0.5)


@pytest.fixture
def pause() -> HeldPause:
    return HeldPause()


@pytest.fixture
def outlet(
    io_loop: IOLoop, topic: PubSubTopic, stream: ExposureStream, metrics: Metrics, pause: HeldPause
) -> Iterator[Outlet]:
    outlet = Outlet(PubSubSink(topic), stream, "pod-1", metrics, pause=pause)
    io_loop.run_sync(outlet.start)
    yield outlet
    io_loop.run_sync(lambda: outlet.drain(0.0))


async def accept_each(outlet: Outlet, events: list[Event]) -> None:
    await asyncio.gather(*(outlet.accept([event]) for event in events))


async def arrive(subscription: Subscription, events: list[Event]) -> None:
    """Wait for all of them and nothing else; repeats are allowed."""
    arrived = await subscription.receive(len(events))
    assert {message.data: message.attributes for message in arrived} == {
        event.data: event.attributes for event in events
    }


async def emptied(stream: ExposureStream) -> None:
    """Entries are removed after they have arrived."""
    while await stream.length():
        pass


@pytest.mark.gen_test(timeout=60)
async def test_what_is_accepted_while_pubsub_is_down_arrives_when_it_is_up(
    pubsub_emulator: PubSubEmulator,
    topic: PubSubTopic,
    outlet: Outlet,
    stream: ExposureStream,
    pause: HeldPause,
) -> None:
    before, meanwhile, after = (some_events(200, prefix) for prefix in ("before", "meanwhile", "after"))
    async with Subscription(pubsub_emulator, topic.name) as subscription:
        await accept_each(outlet, before)
        await arrive(subscription, before)
    pause.hold()
    await asyncio.to_thread(pubsub_emulator.stop)
    await accept_each(outlet, meanwhile)
    assert await stream.length() == 200
    await pause.begun()
    await asyncio.to_thread(pubsub_emulator.start)
    async with Subscription(pubsub_emulator, topic.name) as subscription:
        pause.release()
        await arrive(subscription, meanwhile)
        await accept_each(outlet, after)
        await arrive(subscription, after)
    await emptied(stream)


@pytest.mark.gen_test(timeout=60)
async def test_nothing_is_lost_when_pubsub_hangs_under_load(
    pubsub_emulator: PubSubEmulator,
    topic: PubSubTopic,
    outlet: Outlet,
    stream: ExposureStream,
    pause: HeldPause,
) -> None:
    """What it had received when it hung, it may publish later: then it arrives twice, alike."""
    sent: list[Event] = []
    over = asyncio.Event()

    async def load() -> None:
        while not over.is_set():
            events = [an_event(f"m-{len(sent) + number}") for number in range(5)]
            sent.extend(events)
            await outlet.accept(events)

    async with Subscription(pubsub_emulator, topic.name) as subscription:
        callers = [asyncio.create_task(load()) for _ in range(3)]
        arrived = await subscription.receive(50)
        pause.hold()
        pubsub_emulator.freeze()
        await pause.begun()
        while await stream.length() < 200:
            pass
        over.set()
        await asyncio.gather(*callers)
        pubsub_emulator.thaw()
        pause.release()
        left = {event.data for event in sent} - {message.data for message in arrived}
        while left:
            left -= {message.data for message in await subscription.receive(1)}
    await emptied(stream)


@pytest.mark.gen_test(timeout=60)
async def test_a_drain_while_pubsub_hangs_spools_and_leaves_in_time(
    pubsub_emulator: PubSubEmulator, stream: ExposureStream, metrics: Metrics
) -> None:
    topic = PubSubTopic(new_topic(), emulator_host=pubsub_emulator.host, timeout_s=60)
    outlet = Outlet(PubSubSink(topic, batch_ms=0), stream, "pod-1", metrics)
    await outlet.start()
    pubsub_emulator.freeze()
    accepts = [asyncio.create_task(outlet.accept([event])) for event in some_events(20)]
    await asyncio.sleep(0.05)
    deadline = asyncio.get_running_loop().time() + 0.5
    await outlet.drain(deadline)
    # The topic would wait for a minute.
    assert asyncio.get_running_loop().time() < deadline + 5
    await asyncio.gather(*accepts)
    assert await stream.length() == 20


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # names of a kernel directory


@pytest.mark.gen_test(timeout=60)
async def test_descriptors_return_to_their_baseline(pubsub_emulator: PubSubEmulator) -> None:
    """gRPC closes its sockets in a thread of its own, a moment after the channel."""
    baseline = 0
    for _ in range(20):
        sink = PubSubSink(PubSubTopic(new_topic(), emulator_host=pubsub_emulator.host), batch_ms=0)
        await sink.start()
        await sink.publish(some_events(10))
        await sink.close()
        baseline = baseline or descriptors()
    async with asyncio.timeout(20):
        while descriptors() > baseline:  # noqa: ASYNC110  # nobody tells when
            await asyncio.sleep(0.01)
