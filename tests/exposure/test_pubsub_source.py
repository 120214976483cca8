"""The source `pubsub` on Google's emulator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from pushserver.core.errors import SourceError
from pushserver.core.metrics import Metrics
from pushserver.exposure.event import Event
from pushserver.exposure.pubsub_source import PULLS, PubSubSource
from pushserver.exposure.pubsub_subscription import FIRST_DEADLINE_S, PubSubSubscription
from pushserver.exposure.pubsub_topic import PubSubTopic
from pushserver.exposure.source import Delivery
from tests.engines.pubsub_emulator import PubSubEmulator
from tests.exposure.examples import some_events
from tests.exposure.subscription import new_topic
from tests.pod import eventually


class Stage:
    """A topic with a subscription, and who publishes."""

    def __init__(self, emulator: PubSubEmulator) -> None:
        self.host = emulator.host
        self.topic = new_topic()
        self.name = self.topic.replace("/topics/", "/subscriptions/")
        self.publisher = PubSubTopic(self.topic, emulator_host=self.host)

    @asynccontextmanager
    async def source(self, metrics: Metrics, **options: Any) -> AsyncIterator[PubSubSource]:
        given = {"batch_events": 100, "batch_bytes": 1_000_000, **options}
        subscription = PubSubSubscription(self.name, self.topic, emulator_host=self.host)
        source = PubSubSource(subscription, metrics, **given)
        await source.open()
        try:
            yield source
        finally:
            await source.close()


@asynccontextmanager
async def on_stage(emulator: PubSubEmulator) -> AsyncIterator[Stage]:
    stage = Stage(emulator)
    yield stage
    await stage.publisher.close()


AFTER_PULLS_S = 10.0 + PULLS * FIRST_DEADLINE_S
"""The emulator may hand messages to a pull that was cancelled when its source closed, and to the next of them
again: they come when their time is up."""


async def receive(source: PubSubSource, count: int) -> list[Delivery]:
    found: list[Delivery] = []
    async with asyncio.timeout(AFTER_PULLS_S):
        while len(found) < count:
            found += await source.receive()
    return found


async def told(source: PubSubSource) -> None:
    """Receive until it says what is wrong."""
    with suppress(SourceError):
        while True:
            await source.receive()


def datas(deliveries: Sequence[Delivery] | Sequence[Event]) -> set[bytes]:
    return {one.data for one in deliveries}


@pytest.mark.gen_test(timeout=60)
async def test_what_is_published_is_received_once_it_is_finished(
    pubsub_emulator: PubSubEmulator, metrics: Metrics
) -> None:
    async with on_stage(pubsub_emulator) as stage:
        events = some_events(250)
        async with stage.source(metrics) as source:
            await stage.publisher.publish(events)
            found: list[Delivery] = []
            while len(found) < 250:
                batch = await source.receive()
                assert len(batch) <= 100
                found += batch
                await source.finish(batch)
            assert datas(found) == datas(events)
        async with stage.source(metrics) as source:
            await stage.publisher.publish(some_events(1, "last"))
            assert datas(await receive(source, 1)) == datas(some_events(1, "last"))


@pytest.mark.gen_test(timeout=60)
async def test_what_is_not_finished_is_given_back_at_once(
    pubsub_emulator: PubSubEmulator, metrics: Metrics
) -> None:
    async with on_stage(pubsub_emulator) as stage:
        events = some_events(30)
        async with stage.source(metrics) as source:
            await stage.publisher.publish(events)
            assert datas(await receive(source, 30)) == datas(events)
        async with stage.source(metrics) as source:
            assert datas(await receive(source, 30)) == datas(events)


@pytest.mark.gen_test(timeout=60)
async def test_what_is_held_is_bounded(pubsub_emulator: PubSubEmulator, metrics: Metrics) -> None:
    """A database that is away must not fill the memory; what is beyond waits in Pub/Sub."""
    async with on_stage(pubsub_emulator) as stage, stage.source(metrics, batch_events=10) as source:
        for part in range(10):
            await stage.publisher.publish(some_events(100, f"part-{part}"))
        first = await receive(source, 10)
        await eventually(lambda: len(source._held) >= 40)
        await asyncio.sleep(0.3)
        assert len(source._held) == 40
        rest = [*first]
        await source.finish(first)
        while len(rest) < 1000:
            batch = await source.receive()
            rest += batch
            assert len(source._held) <= 40
            await source.finish(batch)
        assert len(datas(rest)) == 1000
        await eventually(lambda: not source._held)


@pytest.mark.gen_test(timeout=60)
async def test_consumers_side_by_side_share_the_messages(
    pubsub_emulator: PubSubEmulator, metrics: Metrics
) -> None:
    async def work(source: PubSubSource, found: list[Delivery]) -> None:
        while True:
            batch = await source.receive()
            found += batch
            await source.finish(batch)

    async with on_stage(pubsub_emulator) as stage:
        one: list[Delivery] = []
        two: list[Delivery] = []
        async with stage.source(metrics, batch_events=10) as a, stage.source(metrics, batch_events=10) as b:
            workers = [asyncio.create_task(work(a, one)), asyncio.create_task(work(b, two))]
            events: list[Event] = []
            async with asyncio.timeout(20):
                # Whose pull is served first may be given all there is until the other's is.
                while len(events) < 200 or not one or not two:
                    some = some_events(10, f"part-{len(events)}")
                    events += some
                    await stage.publisher.publish(some)
            await eventually(lambda: datas(one) | datas(two) == datas(events), 20)
            for worker in workers:
                worker.cancel()
            await asyncio.wait(workers)


@pytest.mark.gen_test(timeout=90)
async def test_an_emulator_that_was_restarted_is_read_again(
    pubsub_emulator: PubSubEmulator, metrics: Metrics
) -> None:
    async with on_stage(pubsub_emulator) as stage, stage.source(metrics) as source:
        await stage.publisher.publish(some_events(1, "before"))
        await source.finish(await receive(source, 1))
        await asyncio.to_thread(pubsub_emulator.stop)
        async with asyncio.timeout(30):
            await told(source)
        await asyncio.to_thread(pubsub_emulator.start)
        found: list[Delivery] = []
        async with asyncio.timeout(40):
            while not found:
                # Lost with the emulator until the subscription is there again.
                await stage.publisher.publish(some_events(1, "after"))
                try:
                    found += await source.receive()
                except SourceError:
                    continue


@pytest.mark.gen_test(timeout=60)
async def test_what_is_held_for_long_is_not_given_out_again(
    pubsub_emulator: PubSubEmulator, metrics: Metrics
) -> None:
    """The subscription gives 10 s, the least that Pub/Sub knows."""
    async with on_stage(pubsub_emulator) as stage, stage.source(metrics) as source:
        await stage.publisher.publish(some_events(3))
        held = await receive(source, 3)
        began = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() < began + 12:
            assert await source.receive() == []
        await source.finish(held)


@pytest.mark.gen_test
async def test_nobody_listening_is_told(metrics: Metrics) -> None:
    subscription = PubSubSubscription(
        "projects/p/subscriptions/s", "projects/p/topics/t", emulator_host="127.0.0.1:1", timeout_s=1
    )
    source = PubSubSource(subscription, metrics, batch_events=1, batch_bytes=1)
    with pytest.raises(SourceError) as failure:
        await source.open()
    assert failure.value.kind in {"unavailable", "deadline_exceeded"}
    await source.close()


@pytest.mark.gen_test(timeout=30)
async def test_a_missing_subscription_is_told_with_the_name_of_its_setting(
    pubsub_emulator: PubSubEmulator, metrics: Metrics
) -> None:
    """Nobody makes one that nobody said the topic of."""
    subscription = PubSubSubscription(
        "projects/dev/subscriptions/no-such-one", "", emulator_host=pubsub_emulator.host
    )
    source = PubSubSource(subscription, metrics, batch_events=1, batch_bytes=1)
    await source.open()
    with pytest.raises(SourceError) as failure:
        await source.receive()
    assert failure.value.kind == "not_found"
    assert "consume.subscription" in failure.value.reason
    await source.close()
